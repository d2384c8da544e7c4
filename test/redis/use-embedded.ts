/** Uses the embedded server until its own input ends. Argument: state folder. Prints the server's process id. */
import { once } from 'node:events';
import { stateAt } from '../../src/config/state.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { acquireEmbedded } from '../../src/redis/embedded.ts';

const embedded = await acquireEmbedded(stateAt(process.argv[2] ?? ''), new AbortController().signal);
const redis = await connectRedis({ kind: 'embedded', socketPath: embedded.socketPath }, 'test');
process.stdout.write(`${/^process_id:(\d+)/m.exec(await redis.client.info('server'))?.[1]}\n`);
process.stdin.resume();
await once(process.stdin, 'end');
await redis[Symbol.asyncDispose]();
await embedded[Symbol.asyncDispose]();
