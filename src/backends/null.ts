/** null: the host itself, as autopkgtest-virt-null. No isolation, nothing to revert, and no golden image. */
import type { Argv, TestbedSource, Testbed } from '../protocol/testbed.ts';

/**
 * The status 255 becomes 253, as in the servers that run commands through ssh or docker; the shell stays for that. env(1)
 * keeps the shell from taking `echo` or `exit` for one of its own. Needs no environment.
 */
const script = '/usr/bin/env -- "$@"; code=$?; [ $code -ne 255 ] || code=253; exit $code';
const auxverb: Argv = ['/bin/sh', '-c', script, 'sh'];

export function nullSource(uid: number): TestbedSource {
  const traits = uid === 0 ? (['root-on-testbed'] as const) : [];
  const testbed: Testbed = { auxverb, traits, rootOnHost: '/', async [Symbol.asyncDispose]() {} };
  return { name: 'null', traits, revert: false, reboot: false, open: async () => testbed };
}
