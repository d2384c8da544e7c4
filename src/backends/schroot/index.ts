/**
 * schroot: sessions of Debian's schroot, on the same generations as every other backend. Its set-up scripts, and whatever
 * the administrator added to them, run as for any chroot; the layers, and the one that takes the changes, are goldbed's.
 */
import { copyFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { packageFile } from '../../exec/package-file.ts';
import { check } from '../../exec/run.ts';
import type { Backend, BackendTestbed, Content, OpenOptions } from '../backend.ts';
import { changesFolder } from '../layers/changes-folder.ts';
import { escapeLayer } from '../layers/merged.ts';
import { createLayeredFolder } from '../layers/layered-folder.ts';
import { ensureSkeleton } from '../layers/skeleton.ts';
import { disposableTraits, keptTraits, normalUser } from '../normal-user.ts';
import { reapSessionFolders, type SessionState } from '../session-folder.ts';
import { beginOnLayers, endByName, schrootName, type SchrootSession } from './session.ts';
import { openOn, schrootUnavailable } from './testbed.ts';

export function schrootBackend(state: SessionState): Backend {
  return {
    name: 'schroot',
    traits: disposableTraits,
    revert: true,
    reboot: false,
    unavailable: async () => schrootUnavailable(),
    open: (content, options, signal) => openTestbed(state, content, options, signal),
    reap: (tell) => reapSessionFolders(state, 'schroot', (sessionId) => endByName(schrootName(sessionId)), tell),
  };
}

async function openTestbed(
  state: SessionState,
  content: Content,
  { sessionId, keepChangesIn }: OpenOptions,
  signal: AbortSignal,
): Promise<BackendTestbed> {
  const skeleton = await ensureSkeleton(state.sessions);
  const folder = createLayeredFolder(state, 'schroot', sessionId);
  const lower = [skeleton, ...content.layers.toReversed()].map(escapeLayer).join(':');
  const directory = content.layers[0] ?? skeleton;
  const start = async (stop: AbortSignal): Promise<SchrootSession> => {
    const { upper, work } = await changesFolder(folder, keepChangesIn);
    const plan = { lower, upper, work, directory, folder: folder.path };
    // what becomes part of an image has no resolv.conf of ours, nor a user
    if (keepChangesIn !== undefined) return beginOnLayers(sessionId, { ...plan, resolvConf: folder.resolvConf }, stop);
    mkdirSync(path.join(upper, 'etc'), { mode: 0o755 });
    copyFileSync(folder.resolvConf, path.join(upper, 'etc/resolv.conf'));
    const session = await beginOnLayers(sessionId, plan, stop);
    await makeNormalUser(session.root);
    return session;
  };
  if (keepChangesIn === undefined) return openOn({ folder, sessionId, traits: disposableTraits, start }, signal);
  return openOn({ folder, sessionId, traits: keptTraits, start, kept: keepChangesIn }, signal);
}

async function makeNormalUser(root: string): Promise<void> {
  await check(['/usr/bin/perl', '-f', packageFile('libexec/normal-user'), '--in', root, normalUser]);
}
