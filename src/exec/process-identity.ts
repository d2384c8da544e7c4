/**
 * Which process wrote something, so that a later one can tell whether it still lives: a pid alone may be reused, a pid
 * with its start time, the boot and the PID namespace that it belongs to is not.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import * as z from 'zod';
import { mayLive, ownSign } from './sign-of-life.ts';

export const processIdentitySchema = z.strictObject({
  pid: z.number().int().positive(),
  /** Clock ticks since boot, field 22 of /proc/PID/stat (proc(5)). */
  started: z.string(),
  bootId: z.string(),
  /**
   * The namespace in which it has this pid: the inode number of /proc/PID/ns/pid. Absent for the machine's own, so that what
   * is written outside of containers can be read by every version; and in what an earlier version wrote.
   */
  pidNamespace: z.string().optional(),
  /** Of a process in another namespace than the machine's (sign-of-life.ts). */
  sign: z.string().optional(),
});
export type ProcessIdentity = z.infer<typeof processIdentitySchema>;

/** Of a process of our own PID namespace. */
export function identityOf(pid: number = process.pid): ProcessIdentity | undefined {
  const started = startTime(pid);
  const pidNamespace = ownNamespace();
  const known = pidNamespace === undefined ? {} : { pidNamespace };
  return started === undefined ? undefined : { pid, started, bootId: bootId(), ...known };
}

/** Our own. */
export function ownIdentity(): ProcessIdentity {
  const self = identityOf();
  if (self === undefined) throw new Error('cannot read /proc/self/stat');
  const sign = self.pidNamespace === undefined ? undefined : ownSign();
  return sign === undefined ? self : { ...self, sign };
}

/** Whether /proc tells of it: it is, or was, of this boot and of our own PID namespace. */
export function canSee({ bootId: boot, pidNamespace }: Pick<ProcessIdentity, 'bootId' | 'pidNamespace'>): boolean {
  return boot === bootId() && pidNamespace === ownNamespace();
}

/**
 * False only for one that is dead for certain. One that cannot be seen, and has no sign of life, counts as living until the
 * machine starts anew: taken for dead, its session would be torn down and its job run twice.
 */
export function isAlive(identity: ProcessIdentity): boolean {
  if (canSee(identity)) return startTime(identity.pid) === identity.started;
  if (identity.bootId !== bootId()) return false;
  return identity.sign === undefined || mayLive(identity.sign);
}

/** In clock ticks since boot; undefined for one that has ended. */
export function startTime(pid: number): string | undefined {
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

/** PROC_PID_INIT_INO of the kernel's proc_ns.h: the number of the machine's own namespace, on every Linux. */
const machineNamespace = '4026531836';

/** Undefined for the machine's own, and where the kernel has no others. */
function ownNamespace(): string | undefined {
  try {
    const [, number] = /^pid:\[(\d+)\]$/.exec(readlinkSync('/proc/self/ns/pid')) ?? [];
    return number === machineNamespace ? undefined : number;
  } catch {
    return undefined;
  }
}
