/**
 * overlay: a disposable root over the immutable layers of a generation. One `unshare` and one Perl process per testbed;
 * nothing is unpacked, nothing copied, and the host keeps one folder per open session.
 */
import type { ChildProcess } from 'node:child_process';
import { isRoot } from '../../exec/as-root.ts';
import { packageFile } from '../../exec/package-file.ts';
import { check } from '../../exec/run.ts';
import { emptyTrash } from '../../exec/trash.ts';
import { messageOf, TestbedError } from '../../protocol/errors.ts';
import type { Argv } from '../../protocol/testbed.ts';
import type { Backend, BackendTestbed, Content, OpenOptions } from '../backend.ts';
import { changesFolder, emptyFolder } from '../layers/changes-folder.ts';
import { disposableTraits, keptTraits, normalUser } from '../normal-user.ts';
import { reapSessionFolders, type SessionState } from '../session-folder.ts';
import { createLayeredFolder, type LayeredFolder } from '../layers/layered-folder.ts';
import { bootNamespaces, endWaiting, isWaiting, startNamespaces, type Namespaces } from './namespace.ts';
import { ensureSkeleton } from '../layers/skeleton.ts';
import { syscallNumbers, type SyscallNumbers } from '../../exec/syscalls.ts';
import { overlayUnavailable } from './unavailable.ts';

export function overlayBackend(state: SessionState): Backend {
  let prepared: ChildProcess | undefined;
  const boot = (): ChildProcess => {
    const ready = prepared;
    prepared = undefined;
    return ready !== undefined && isWaiting(ready) ? ready : bootNamespaces(state.sessions);
  };
  return {
    name: 'overlay',
    traits: disposableTraits,
    revert: true,
    reboot: false,
    unavailable: overlayUnavailable,
    prepare() {
      const waiting = (prepared ??= bootNamespaces(state.sessions));
      return {
        async [Symbol.asyncDispose]() {
          if (prepared !== waiting) return;
          prepared = undefined;
          await endWaiting(waiting);
        },
      };
    },
    open: (content, options, signal) => openTestbed(state, boot, content, options, signal),
    async reap() {
      const reaped = await reapSessionFolders(state, 'overlay');
      await emptyTrash(state.trash);
      return reaped;
    },
  };
}

async function openTestbed(
  state: SessionState,
  boot: () => ChildProcess,
  content: Content,
  options: OpenOptions,
  signal: AbortSignal,
): Promise<BackendTestbed> {
  const numbers = syscallNumbers();
  if (numbers === undefined) throw new TestbedError('open', 'overlay', `unknown architecture ${process.arch}`);
  const skeleton = await ensureSkeleton(state.sessions);
  const folder = createLayeredFolder(state, 'overlay', options.sessionId);
  const lower = [skeleton, ...content.layers.toReversed()];
  const begin = async (stop: AbortSignal): Promise<Namespaces> => {
    const layer = await changesFolder(folder, options.keepChangesIn);
    const user = options.keepChangesIn === undefined ? normalUser : ''; // none of ours becomes part of an image
    const mounts = { root: folder.root, lower, resolvConf: folder.resolvConf, user, ...layer };
    stop.throwIfAborted();
    return startNamespaces(boot(), mounts, numbers, stop);
  };
  try {
    return testbed(folder, numbers, options, await begin(signal), begin);
  } catch (error) {
    await folder.remove();
    if (signal.aborted || error instanceof TestbedError) throw error;
    throw new TestbedError('open', 'overlay', messageOf(error), { cause: error });
  }
}

function testbed(
  folder: LayeredFolder,
  numbers: SyscallNumbers,
  options: OpenOptions,
  first: Namespaces,
  begin: (signal: AbortSignal) => Promise<Namespaces>,
): BackendTestbed {
  let current = first;
  const kept = options.keepChangesIn;
  return {
    traits: kept === undefined ? disposableTraits : keptTraits,
    get auxverb() {
      return enterArgv(current, numbers);
    },
    makeDirectory: (directory, mode, owner) => current.makeDirectory(directory, mode, owner),
    openRoot: async () => current.openRoot(),
    async revert(signal) {
      await current.stop();
      if (kept !== undefined) await emptyFolder(kept);
      current = await begin(signal);
    },
    ...(kept === undefined
      ? {}
      : {
          async capture(signal: AbortSignal) {
            await current.stop();
            // the mount was volatile: one syncfs brings the finished layer to disk (sync(1), -f)
            await check(['/bin/sync', '--file-system', kept], { signal });
          },
        }),
    async [Symbol.asyncDispose]() {
      await current.stop();
      await folder.remove();
    },
  };
}

/** The program behind print-execute-command: absolute, and in need of no environment. */
function enterArgv(namespaces: Namespaces, numbers: SyscallNumbers): Argv {
  const userns = isRoot() ? '0' : '1';
  const enter = packageFile('libexec/overlay-enter');
  return ['/usr/bin/perl', '-f', enter, String(numbers.setns), userns, ...namespaces.words, '--'];
}
