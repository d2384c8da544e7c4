/** A worker that claims one job, says which, and waits to be killed. Arguments: state folder, socket, routing key. */
import { stateAt } from '../../src/config/state.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { Claims } from '../../src/worker/claims.ts';
import { openJournal } from '../../src/worker/journal.ts';

const [root = '', socketPath = '', key = ''] = process.argv.slice(2);
const redis = await connectRedis({ kind: 'embedded', socketPath }, 'test');
const claims = new Claims(redis, await openJournal(stateAt(root)));
const claimed = await claims.claim(key);
process.stdout.write(`${claimed?.runId}\n`);
setInterval(() => {}, 1 << 30);
