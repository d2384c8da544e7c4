/**
 * Another worker, which is quick to take others for dead: says `looking`, and then which jobs it gave back. Arguments:
 * state folder, socket.
 */
import { stateAt } from '../../src/config/state.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { Claims } from '../../src/worker/claims.ts';
import { coordinate } from '../../src/worker/coordinator.ts';
import { openJournal } from '../../src/worker/journal.ts';

const [root = '', socketPath = ''] = process.argv.slice(2);
const redis = await connectRedis({ kind: 'embedded', socketPath }, 'test');
const journal = await openJournal(stateAt(root));
const claims = new Claims(redis, journal);
const times = { every: 100, ttl: 2000, deadAfter: 200, regroup: 200, unlockedAfter: 200, forgetEvery: 1e9 };
const log = (line: string): void => void process.stdout.write(`${line}\n`);
coordinate({ redis, incarnation: journal.incarnation, claims, log, times });
log('looking');
