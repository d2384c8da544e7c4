/** `goldbed lease ls | break`: who may write which image. */
import { Command } from 'commander';
import { breakLease, listLeases } from '../../golden/lease.ts';
import { UsageError } from '../../protocol/errors.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { waitingText } from '../lease-text.ts';
import { age, json, out, table } from '../print.ts';

type Flags = GlobalFlags & { readonly json?: boolean };

export function leaseCommand(): Command {
  const ls = new Command('ls')
    .description('list the leases of jobs that write images, on whatever host')
    .option('--json', 'print JSON');
  ls.action(async () => {
    const flags = ls.optsWithGlobals<Flags>();
    const context = makeContext(flags);
    await using redis = await openRedis(context, new AbortController().signal);
    const leases = await listLeases(redis);
    if (flags.json === true) return json({ leases });
    const rows = leases.map(({ image, owner, fence, since, waiting }) => {
      return [image, owner, String(fence), age(since, Date.now()), waitingText(waiting) || '-'];
    });
    out(table([['IMAGE', 'OWNER', 'FENCE', 'AGE', 'WAITING'], ...rows]));
  });
  const broken = new Command('break')
    .argument('IMAGE')
    .description('let the next writer begin at once; safe: what the present one wrote can then never be published');
  broken.action(async (image: string) => {
    await using redis = await openRedis(makeContext(broken.optsWithGlobals<Flags>()), new AbortController().signal);
    const lease = await breakLease(redis, image);
    if (lease === undefined) throw new UsageError(image, `nobody holds a lease on ${image}`);
    out(`${image}: the lease of ${lease.owner} (fence ${lease.fence}) is broken; it stops, and cannot publish`);
  });
  return new Command('lease').description('the right to write an image').addCommand(ls).addCommand(broken);
}
