/**
 * docker: testbeds are containers of a local daemon. The generation is the same one that every other backend opens; the
 * daemon gets it as an image of its own, once. Commands do not pass through `docker exec` (libexec/docker-agent tells why).
 */
import path from 'node:path';
import { isRoot } from '../../exec/as-root.ts';
import { check } from '../../exec/run.ts';
import { unlessAborted } from '../../exec/patience.ts';
import { syscallNumbers } from '../../exec/syscalls.ts';
import { messageOf, TestbedError } from '../../protocol/errors.ts';
import type { Trait } from '../../protocol/testbed.ts';
import type { Backend, BackendTestbed, Content, OpenOptions } from '../backend.ts';
import { disposableTraits, keptTraits } from '../normal-user.ts';
import { createSessionFolder, reapSessionFolders, type SessionState } from '../session-folder.ts';
import { connect, daemonUnavailable, type DockerSettings } from './client.ts';
import { startContainer, type ContainerPlan, type RunningContainer } from './container.ts';
import { ensureImage } from './image.ts';
import { reapDaemon } from './reap.ts';
import { noUpperLayer, type DaemonInfo } from './storage.ts';

export type { DockerSettings } from './client.ts';

/** Where an init runs, services can be started, as tests that ask for this trait want it. */
const bootedTraits: readonly Trait[] = ['isolation-container', ...disposableTraits];

export function dockerBackend(state: SessionState, settings: DockerSettings): Backend {
  return {
    name: 'docker',
    traits: disposableTraits,
    revert: true,
    reboot: false,
    unavailable: () => daemonUnavailable(settings),
    cannotKeep: () => cannotKeep(settings),
    open: (content, options, signal) => openTestbed(state, settings, content, options, signal),
    async reap() {
      if ((await daemonUnavailable(settings)) === undefined) await reapDaemon(settings, imagesFolder(state));
      return reapSessionFolders(state, 'docker');
    },
  };
}

function imagesFolder(state: SessionState): string {
  return path.join(state.backends, 'docker');
}

/** The changes of a container are a folder of the daemon's, and owned by many: root only. */
async function cannotKeep(settings: DockerSettings): Promise<string | undefined> {
  if (!isRoot()) return 'docker: writing an image takes root';
  try {
    return noUpperLayer((await (await connect(settings)).info()) as DaemonInfo);
  } catch (error) {
    return messageOf(error);
  }
}

async function openTestbed(
  state: SessionState,
  settings: DockerSettings,
  content: Content,
  { sessionId, keepChangesIn }: OpenOptions,
  signal: AbortSignal,
): Promise<BackendTestbed> {
  const numbers = syscallNumbers();
  if (numbers === undefined) throw new TestbedError('open', 'docker', `unknown architecture ${process.arch}`);
  const docker = await connect(settings);
  const image = await unlessAborted(imageOf(), signal);
  const folder = createSessionFolder(state, 'docker', sessionId, 0o700);
  const plan: ContainerPlan = {
    image: image.reference,
    sessionId,
    folder: folder.path,
    kept: keepChangesIn !== undefined,
    init: settings.init === true && keepChangesIn === undefined, // no service has to run while an image is written
    ...(settings.network === undefined ? {} : { network: settings.network }),
  };
  const close = async (): Promise<void> => {
    await folder.remove();
    await image[Symbol.asyncDispose]();
  };
  let current: RunningContainer;
  try {
    current = await startContainer(docker, plan, numbers, signal);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    get traits() {
      if (keepChangesIn !== undefined) return keptTraits;
      return current.booted ? bootedTraits : disposableTraits;
    },
    get auxverb() {
      return current.auxverb;
    },
    makeDirectory: (directory, mode, owner) => current.makeDirectory(directory, mode, owner),
    openRoot: () => current.openRoot(),
    async revert(stop) {
      await current.remove();
      current = await startContainer(docker, plan, numbers, stop);
    },
    ...(keepChangesIn === undefined ? {} : { capture: (stop) => capture(current, keepChangesIn, stop) }),
    async [Symbol.asyncDispose]() {
      try {
        if (keepChangesIn === undefined) await current.stop();
        else await current.remove();
      } finally {
        await close();
      }
    },
  };

  async function imageOf() {
    try {
      return await ensureImage(docker, content, imagesFolder(state), sessionId, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof TestbedError) throw error;
      throw new TestbedError('open', 'docker', messageOf(error), { cause: error });
    }
  }
}

async function capture(container: RunningContainer, into: string, signal: AbortSignal): Promise<void> {
  const upper = await container.upperDirectory();
  if (upper === undefined) throw new TestbedError('commit', 'docker', 'the container has no upper layer to take');
  await container.stop();
  await check(['/bin/cp', '--archive', '--', `${upper}/.`, `${into}/`], { signal });
  await check(['/bin/sync', '--file-system', into], { signal });
}
