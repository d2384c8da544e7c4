/**
 * The user that tests run as which need no root: libexec/normal-user makes it in each disposable testbed. Without one that
 * is suggested, autopkgtest of Debian 12 makes its own, which cannot write to a scratch directory of root's.
 */
import type { Trait } from '../protocol/testbed.ts';

export const normalUser = 'goldbed';

/** Of a testbed whose changes become part of an image, where there is no such user. */
export const keptTraits: readonly Trait[] = ['revert-full-system', 'root-on-testbed'];

export const disposableTraits: readonly Trait[] = [...keptTraits, `suggested-normal-user=${normalUser}`];
