/**
 * Which process wrote something, so that a later one can tell whether it still lives: a pid alone may be reused, a pid
 * with its start time and the boot it belongs to is not.
 */
import { readFileSync } from 'node:fs';
import * as z from 'zod';

export const processIdentitySchema = z.strictObject({
  pid: z.number().int().positive(),
  /** Clock ticks since boot, field 22 of /proc/PID/stat (proc(5)). */
  started: z.string(),
  bootId: z.string(),
});
export type ProcessIdentity = z.infer<typeof processIdentitySchema>;

export function identityOf(pid: number = process.pid): ProcessIdentity | undefined {
  const started = startTime(pid);
  return started === undefined ? undefined : { pid, started, bootId: bootId() };
}

/** Our own. */
export function ownIdentity(): ProcessIdentity {
  const self = identityOf();
  if (self === undefined) throw new Error('cannot read /proc/self/stat');
  return self;
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identity.bootId === bootId() && startTime(identity.pid) === identity.started;
}

function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // the command name, in parentheses, may hold anything: count fields from its last parenthesis
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
