/** `goldbed lease ls | break`: who may write which image. */
import { Command } from 'commander';
import { userName } from '../../exec/user-name.ts';
import { breakLocalLease, imageNames } from '../../golden/index.ts';
import { breakLease } from '../../golden/lease.ts';
import { leasedImages } from '../../redis/lease-view.ts';
import { messageOf, UsageError } from '../../protocol/errors.ts';
import type { RedisHandle } from '../../redis/connect.ts';
import { makeContext, openRedis, type Context, type GlobalFlags } from '../context.ts';
import { waitingText } from '../lease-text.ts';
import { hasRedis, leasesOf } from '../leases.ts';
import { age, json, out, progress, table } from '../print.ts';
import { generationNumber } from './image-words.ts';

type Flags = GlobalFlags & { readonly json?: boolean; readonly fence?: string };

export function leaseCommand(): Command {
  const ls = new Command('ls')
    .description('list who writes images, on whatever host, and who waits to')
    .option('--json', 'print JSON');
  ls.action(async () => {
    const flags = ls.optsWithGlobals<Flags>();
    const context = makeContext(flags);
    const own = await imageNames(context.state);
    const leases = await withRedis(context, async (redis) => {
      const names = new Set([...own, ...(redis === undefined ? [] : await leasedImages(redis))]);
      return leasesOf(context, [...names].toSorted(), redis);
    });
    if (flags.json === true) return json({ leases });
    const rows = leases.map(({ image, where, owner, fence, since, waiting }) => {
      return [image, where, owner, String(fence ?? '-'), age(since, Date.now()), waitingText(waiting) || '-'];
    });
    out(table([['IMAGE', 'WHERE', 'OWNER', 'FENCE', 'AGE', 'WAITING'], ...rows]));
  });
  const broken = new Command('break')
    .argument('IMAGE')
    .description('let the next writer begin at once; safe: what the present one wrote can then never be published')
    .option('--fence <N>', 'only the one that has this fence, as lease ls tells');
  broken.action(async (image: string) => breakAll(image, broken.optsWithGlobals<Flags>()));
  return new Command('lease').description('the right to write an image').addCommand(ls).addCommand(broken);
}

async function breakAll(image: string, flags: Flags): Promise<void> {
  const context = makeContext(flags);
  const fence = generationNumber(flags.fence);
  const known = (await imageNames(context.state)).includes(image);
  const here = known ? await breakLocalLease(context.state, image, `${userName()} (lease break)`, fence) : undefined;
  const fleet = await withRedis(context, async (redis) => redis && breakLease(redis, image, fence));
  const owners = new Set([here?.by, fleet?.owner].filter((owner) => owner !== undefined));
  if (owners.size === 0) {
    const one = fence === undefined ? 'a lease' : `a lease with fence ${fence}`;
    throw new UsageError(image, `nobody holds ${one} on ${image}`);
  }
  for (const owner of owners) {
    const told = owner === fleet?.owner ? ` (fence ${fleet.fence})` : '';
    out(`${image}: the lease of ${owner}${told} is broken; it stops, and cannot publish`);
  }
}

/** What this host knows can be told without a Redis. */
async function withRedis<T>(context: Context, action: (redis: RedisHandle | undefined) => Promise<T>): Promise<T> {
  if (!hasRedis(context)) return action(undefined);
  let redis: RedisHandle;
  try {
    redis = await openRedis(context, new AbortController().signal);
  } catch (error) {
    progress(`goldbed: leases of the fleet are not known: ${messageOf(error)}`);
    return action(undefined);
  }
  await using _ = redis;
  return await action(redis);
}
