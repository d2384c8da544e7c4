/**
 * schroot: sessions of Debian's schroot, on the same generations as every other backend. Its set-up scripts, and whatever
 * the administrator added to them, run as for any chroot; the layers, and the one that takes the changes, are goldbed's.
 */
import { rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { isRoot } from '../../exec/as-root.ts';
import { isExecutable } from '../../exec/executable.ts';
import { packageFile } from '../../exec/package-file.ts';
import { check } from '../../exec/run.ts';
import { syscallNumbers } from '../../exec/syscalls.ts';
import type { Argv, TestbedSource } from '../../protocol/testbed.ts';
import type { Backend, BackendTestbed, Content, OpenOptions } from '../backend.ts';
import { changesFolder, emptyFolder } from '../layers/changes-folder.ts';
import { escapeLayer } from '../layers/merged.ts';
import { createLayeredFolder } from '../layers/layered-folder.ts';
import { ensureSkeleton } from '../layers/skeleton.ts';
import { createSessionFolder, reapSessionFolders, type SessionFolder, type SessionState } from '../session-folder.ts';
import { begin, beginOnLayers, endByName, listChroots, schrootName, type SchrootSession } from './session.ts';

const traits = ['revert-full-system', 'root-on-testbed'] as const;

export function schrootBackend(state: SessionState): Backend {
  return {
    name: 'schroot',
    traits,
    revert: true,
    reboot: false,
    unavailable: async () => schrootUnavailable(),
    open: (content, options) => openTestbed(state, content, options),
    async reap() {
      return reapSessionFolders(state, 'schroot', (sessionId) => endByName(schrootName(sessionId)));
    },
  };
}

function schrootUnavailable(): string | undefined {
  if (!isExecutable('/usr/bin/schroot')) return '/usr/bin/schroot is missing: apt-get install schroot';
  return isRoot() ? undefined : 'not root: schroot takes definitions of chroots from root only';
}

async function openTestbed(
  state: SessionState,
  content: Content,
  { sessionId, keepChangesIn }: OpenOptions,
): Promise<BackendTestbed> {
  const skeleton = await ensureSkeleton(state.sessions);
  const folder = createLayeredFolder(state, 'schroot', sessionId);
  const lower = [skeleton, ...content.layers.toReversed()].map(escapeLayer).join(':');
  const directory = content.layers[0] ?? skeleton;
  const start = async (): Promise<SchrootSession> => {
    const { upper, work } = await changesFolder(folder, keepChangesIn);
    const { resolvConf } = folder;
    return beginOnLayers(sessionId, { lower, upper, work, directory, resolvConf, folder: folder.path });
  };
  return openOn(folder, sessionId, keepChangesIn, start);
}

/**
 * A chroot that this host's administrator has defined, as `schroot --list` names it: opened as it is, and never written.
 * Undefined when there is none of that name.
 */
export async function existingChroot(
  state: SessionState,
  name: string,
  sessionId: string,
): Promise<TestbedSource | undefined> {
  if (schrootUnavailable() !== undefined) return undefined;
  const known = await listChroots();
  if (!known.includes(`chroot:${name}`)) return undefined;
  return {
    name: 'schroot',
    traits: ['root-on-testbed'],
    revert: true,
    reboot: false,
    async open() {
      const folder = createSessionFolder(state, 'schroot', sessionId);
      return openOn(folder, sessionId, undefined, () => begin(`chroot:${name}`, schrootName(sessionId)));
    },
  };
}

async function openOn(
  folder: SessionFolder,
  sessionId: string,
  keepChangesIn: string | undefined,
  start: () => Promise<SchrootSession>,
): Promise<BackendTestbed> {
  try {
    return testbed(folder, keepChangesIn, await start(), start);
  } catch (error) {
    await endByName(schrootName(sessionId));
    await folder.remove();
    throw error;
  }
}

function testbed(
  folder: SessionFolder,
  kept: string | undefined,
  first: SchrootSession,
  start: () => Promise<SchrootSession>,
): BackendTestbed {
  let current: SchrootSession | undefined;
  // commands find the root by this name, which goes first: a late one is refused, and cannot hold up the end
  const link = path.join(folder.path, 'mounted');
  const began = (session: SchrootSession): void => {
    symlinkSync(session.root, link);
    current = session;
  };
  const end = async (): Promise<void> => {
    rmSync(link, { force: true });
    const ending = current;
    current = undefined;
    await ending?.end();
  };
  began(first);
  const numbers = syscallNumbers();
  return {
    traits,
    get auxverb(): Argv {
      // not `schroot --run-session`: that takes twice as long, and hands on the status 255
      const enter = packageFile('libexec/overlay-enter');
      return ['/usr/bin/perl', '-f', enter, String(numbers?.setns ?? 0), '0', `chroot:${link}`, '--'];
    },
    async revert() {
      await end();
      if (kept !== undefined) await emptyFolder(kept);
      began(await start());
    },
    ...(kept === undefined
      ? {}
      : {
          async capture(signal: AbortSignal) {
            await end();
            rmSync(path.join(kept, 'etc/debian_chroot'), { force: true }); // schroot's, for the shell's prompt
            await check(['/bin/sync', '--file-system', kept], { signal });
          },
        }),
    async [Symbol.asyncDispose]() {
      await end(); // if it cannot be ended its folder stays, and whoever reaps tries again
      await folder.remove();
    },
  };
}
