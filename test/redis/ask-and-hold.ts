/** A worker that claims a job, asks for the refresh that it needs, says which, and is killed before the job waits. */
import { stateAt } from '../../src/config/state.ts';
import { freshnessOf } from '../../src/golden/index.ts';
import { askForRefresh, showRefresh } from '../../src/producer/refresh.ts';
import { jobRequestSchema, refreshRequest } from '../../src/protocol/job-request.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { subscribeNudges } from '../../src/redis/nudges.ts';
import { Claims } from '../../src/worker/claims.ts';
import { FreshnessGate } from '../../src/worker/freshness.ts';
import { openJournal } from '../../src/worker/journal.ts';

const [root = '', socketPath = '', key = ''] = process.argv.slice(2);
const state = stateAt(root);
const redis = await connectRedis({ kind: 'embedded', socketPath }, 'test');
const claims = new Claims(redis, await openJournal(state));
const gate = new FreshnessGate({
  redis,
  claims,
  nudges: await subscribeNudges(redis),
  host: 'here',
  maxAgeOf: () => undefined,
  imageOf: ({ image }) => freshnessOf(state, image),
  async ask(image, since) {
    const refresh = await askForRefresh(redis, refreshRequest(image, 'upgrade'), 'amd64', since);
    process.stdout.write(`${refresh.run}\n`);
    return new Promise(() => setInterval(() => {}, 1 << 30));
  },
  look: (run) => showRefresh(redis, run),
});
const claimed = await claims.claim(key);
if (claimed !== undefined) await gate.admit(claimed, jobRequestSchema.parse(claimed.data));
