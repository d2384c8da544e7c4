/** A testbed in a schroot session: how commands enter it, its revert and its end. */
import { rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { isRoot } from '../../exec/as-root.ts';
import { isExecutable } from '../../exec/executable.ts';
import { packageFile } from '../../exec/package-file.ts';
import { check } from '../../exec/run.ts';
import { syscallNumbers } from '../../exec/syscalls.ts';
import { messageOf, TestbedError } from '../../protocol/errors.ts';
import type { Argv, Trait } from '../../protocol/testbed.ts';
import type { BackendTestbed } from '../backend.ts';
import { emptyFolder } from '../layers/changes-folder.ts';
import { seeRoot, type OpenSeenRoot } from '../seen-root.ts';
import type { SessionFolder } from '../session-folder.ts';
import { endByName, schrootName, type SchrootSession } from './session.ts';

export function schrootUnavailable(): string | undefined {
  if (!isExecutable('/usr/bin/schroot')) return '/usr/bin/schroot is missing: apt-get install schroot';
  return isRoot() ? undefined : 'not root: schroot takes definitions of chroots from root only';
}

export interface SchrootPlan {
  readonly folder: SessionFolder;
  readonly sessionId: string;
  readonly traits: readonly Trait[];
  /** Takes the changes, and outlives the testbed. */
  readonly kept?: string;
  readonly start: (signal: AbortSignal) => Promise<SchrootSession>;
}

/** A session that cannot be begun leaves nothing. */
export async function openOn(plan: SchrootPlan, signal: AbortSignal): Promise<BackendTestbed> {
  try {
    return testbed(plan, await plan.start(signal));
  } catch (error) {
    await undo(plan, error);
    throw error;
  }
}

/** If the session cannot be ended its folder stays, and whoever reaps tries again. @throws {TestbedError} that tells of both */
async function undo({ sessionId, folder }: SchrootPlan, why: unknown): Promise<void> {
  try {
    await endByName(schrootName(sessionId));
  } catch (error) {
    throw new TestbedError('open', 'schroot', `${messageOf(why)}; ${messageOf(error)}`, { cause: why });
  }
  await folder.remove();
}

function testbed({ folder, sessionId, kept, traits, start }: SchrootPlan, first: SchrootSession): BackendTestbed {
  let current: SchrootSession | undefined;
  let openRoot: OpenSeenRoot | undefined;
  // commands find the root by this name, which goes first: a late one is refused, and cannot hold up the end
  const link = path.join(folder.path, 'mounted');
  const began = (session: SchrootSession): void => {
    symlinkSync(session.root, link);
    openRoot = seeRoot(session.root);
    current = session;
  };
  const end = async (): Promise<void> => {
    rmSync(link, { force: true });
    await current?.end();
    current = undefined; // only now: a second dispose must not take one for ended that is not
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
    openRoot: async () => openRoot?.(),
    async revert(signal) {
      await end();
      if (kept !== undefined) await emptyFolder(kept);
      try {
        began(await start(signal));
      } catch (error) {
        await endByName(schrootName(sessionId)); // else nobody would know of it: `current` is none
        throw error;
      }
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
