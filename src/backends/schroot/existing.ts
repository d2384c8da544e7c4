/**
 * A chroot that this host's administrator has defined: opened as it is, through schroot alone, and never written. Its root
 * file system is thrown away with each session; what its profile shares with the host (/tmp and /home in schroot's default
 * one) is not, so it reverts, but not fully.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { cleanEnvironment, run } from '../../exec/run.ts';
import { TestbedError, UsageError } from '../../protocol/errors.ts';
import type { TestbedSource } from '../../protocol/testbed.ts';
import { createSessionFolder, type SessionState } from '../session-folder.ts';
import { begin, schrootName, type SchrootSession } from './session.ts';
import { openOn, schrootUnavailable } from './testbed.ts';

const traits = ['root-on-testbed'] as const;

/** Undefined when schroot knows none of that name. @throws {UsageError} when its sessions would write to it */
export async function existingChroot(
  state: SessionState,
  name: string,
  sessionId: string,
): Promise<TestbedSource | undefined> {
  if (schrootUnavailable() !== undefined) return undefined;
  const definition = await definitionOf(name);
  if (definition === undefined) return undefined;
  if (!isEphemeral(definition)) throw new UsageError(name, wouldStay(name, definition));
  const start = async (signal: AbortSignal): Promise<SchrootSession> => {
    const session = await begin(`chroot:${name}`, schrootName(sessionId), signal);
    if (existsSync(path.join(session.root, 'proc/self'))) return session;
    throw new TestbedError('open', 'schroot', `${name} has no /proc: its profile must mount it`);
  };
  return {
    name: 'schroot',
    traits,
    revert: true,
    reboot: false,
    open: (signal) =>
      openOn({ folder: createSessionFolder(state, 'schroot', sessionId), sessionId, traits, start }, signal),
  };
}

type Definition = ReadonlyMap<string, string>;

/** As `schroot --config` prints it; an alias is followed. */
async function definitionOf(name: string): Promise<Definition | undefined> {
  const argv = ['/usr/bin/schroot', '--config', `--chroot=chroot:${name}`];
  const { code, stdout } = await run(argv, { env: { ...cleanEnvironment, LC_ALL: 'C' } });
  if (code !== 0) return undefined;
  const pairs = [...stdout.matchAll(/^([\w.-]+)=(.*)$/gm)];
  return new Map(pairs.map(([, key = '', value = '']) => [key, value]));
}

/** Types whose session is a copy or a snapshot of its own; the others need a union on top (schroot.conf(5)). */
const copied = new Set(['file', 'btrfs-snapshot', 'lvm-snapshot', 'zfs-snapshot']);

function isEphemeral(definition: Definition): boolean {
  const type = definition.get('type') ?? 'plain'; // what schroot takes where nothing is said
  const union = definition.get('union-type') ?? 'none';
  if (type === 'custom') return definition.get('custom-session-purging') === 'true';
  return copied.has(type) || (type !== 'plain' && union !== '' && union !== 'none');
}

function wouldStay(name: string, definition: Definition): string {
  const directory = definition.get('directory');
  const image = directory === undefined ? '' : `, or make it an image: goldbed image import NAME ${directory}`;
  return `${name}: changes to this chroot would stay in it: give it a union-type${image}`;
}
