/**
 * Flattening after publishing, so that nobody waits for it: by a process of its own, at the lowest priority, which outlives
 * the command that asked. Killed, it leaves what the next one removes; whoever publishes next, or the next worker to
 * start, asks again.
 */
import { spawn } from 'node:child_process';
import { packageFile } from '../exec/package-file.ts';
import { isDeep } from '../golden/index.ts';
import type { Context } from './context.ts';

/** A session of its own is a group to the scheduler, where that groups sessions: nice(1) alone would say nothing then. */
const lowest = 'echo 19 2>/dev/null >/proc/self/autogroup; exec nice -n 19 ionice --class idle "$@"';

/** Returns at once. @param log gets what the process says, for as long as we live */
export async function flattenLater(
  { state }: Pick<Context, 'state'>,
  images: readonly string[],
  log?: (line: string) => void,
): Promise<void> {
  const deep: string[] = [];
  for (const image of images) if (await isDeep(state, image)) deep.push(image);
  if (deep.length === 0) return;
  const goldbed = [packageFile('bin/goldbed'), '--state', state.root, 'image', 'flatten', ...deep];
  const child = spawn('/bin/sh', ['-c', lowest, 'sh', ...goldbed], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', 'ignore', log === undefined ? 'ignore' : 'pipe'],
  });
  child.on('error', () => {}); // the next one asks again
  child.unref();
  if (child.stderr === null) return;
  child.stderr.on('data', (text: Buffer) => log?.(text.toString().trimEnd()));
  (child.stderr as Partial<{ unref(): void }>).unref?.();
}
