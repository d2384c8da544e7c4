/** Has claims held by the thread of renewals, and comes to its end without letting go of any. Argument: socket. */
import { connectRedis } from '../../src/redis/connect.ts';
import { RenewalThread } from '../../src/worker/renewals.ts';

const [socketPath = ''] = process.argv.slice(2);
await using redis = await connectRedis({ kind: 'embedded', socketPath }, 'test');
const renewals = new RenewalThread(redis, { log: (line) => process.stderr.write(`${line}\n`) });
const pace = { every: 10, lock: 1000 };
renewals.keepAlive({ member: 'bay1/i', beat: 100, alive: 1000 });
renewals.hold({ key: 'k', runId: 'held', attempt: 1, token: 'held' }, { ...pace, every: 1e6 }, () => {});
// until the thread works: nobody knows this job, so it is lost at once
await new Promise<void>((lost) => void renewals.hold({ key: 'k', runId: 'r', attempt: 1, token: 't' }, pace, lost));
