/** Holds a lease until it is lost: prints the fence, then why. Arguments: socket, image, time to live (ms). */
import { once } from 'node:events';
import { redisLeases } from '../../src/golden/lease.ts';
import { connectRedis } from '../../src/redis/connect.ts';

const [socketPath = '', image = '', ttl = ''] = process.argv.slice(2);
await using redis = await connectRedis({ kind: 'embedded', socketPath }, 'test');
const leases = redisLeases(redis, { owner: 'child', ttl: Number(ttl) });
await using lease = await leases.acquire(image, 0, new AbortController().signal);
process.stdout.write(`${lease.fence}\n`);
if (!lease.signal.aborted) await once(lease.signal, 'abort');
process.stdout.write(`${(lease.signal.reason as Error).name}\n`);
