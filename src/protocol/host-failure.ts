/** Errors that nobody made for a job, but that tell of the host all the same: of its disk, its memory, its Redis. */
import { CommandFailed } from '../exec/run.ts';

/** As strerror(3) words them, at the end of what a program says. */
const words = [
  'No space left on device',
  'Disk quota exceeded',
  'Input/output error',
  'Read-only file system',
  'Cannot allocate memory',
  'Too many open files',
  'Resource temporarily unavailable',
];

/** GNU tar's: a disk that became full in the middle of a write says nothing more. */
const halfWritten = /: Wrote only \d+ of \d+ bytes$/m;

/** Failed system calls (ENOSPC, EIO, EMFILE, ...), programs that failed for such a reason, and refusals of Redis. */
export function isHostFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof CommandFailed)
    return words.some((word) => error.stderr.includes(word)) || halfWritten.test(error.stderr);
  if (error.name === 'ReplyError') return true;
  return 'errno' in error && typeof error.errno === 'number' && 'syscall' in error;
}
