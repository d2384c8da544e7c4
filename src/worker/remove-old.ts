/** Generations that are old go when a new one was published, and with them what backends have made of them. */
import { collectOld } from '../golden/index.ts';
import type { Host } from './host.ts';

/** Failing is no failure of the job: the next update of the image, or `image gc`, removes them. */
export async function removeOld(
  image: string,
  {
    host,
    log,
  }: { readonly host: Pick<Host, 'state' | 'keepGenerations' | 'reap'>; readonly log: (line: string) => void },
  signal: AbortSignal,
): Promise<void> {
  const options = { keep: host.keepGenerations(image), signal };
  const removed = await collectOld(host.state, image, options, (line) => log(`goldbed: ${line}`));
  if (removed.length === 0) return;
  log(`goldbed: removed generations ${removed.join(', ')}`);
  host.reap();
}
