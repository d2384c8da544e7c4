/** A Redis of its own for one measurement, and what it says of itself. */
import { readFileSync } from 'node:fs';
import { stateAt } from '../src/config/state.ts';
import { connectRedis, type RedisHandle } from '../src/redis/connect.ts';
import { acquireEmbedded } from '../src/redis/embedded.ts';
import type { Place } from './place.ts';

export interface Server extends AsyncDisposable {
  readonly root: string;
  readonly socketPath: string;
  readonly redis: RedisHandle;
}

export async function startServer(place: Place, name: string): Promise<Server> {
  const root = place.folder(name);
  const embedded = await acquireEmbedded(stateAt(root), place.signal);
  const redis = await connectRedis({ kind: 'embedded', socketPath: embedded.socketPath }, 'bench');
  return {
    root,
    socketPath: embedded.socketPath,
    redis,
    async [Symbol.asyncDispose]() {
      await redis.client.flushall();
      await redis[Symbol.asyncDispose]();
      await embedded[Symbol.asyncDispose]();
    },
  };
}

/** A number that INFO tells: `used_memory`, `connected_clients`. */
export async function told({ client }: RedisHandle, name: string): Promise<number> {
  return Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(await client.info())?.[1]);
}

/** User and system time of a process so far: fields 14 and 15 of proc(5), in hundredths. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Counts how often something is sent and waited for: a pipeline, or a transaction, is one time. */
export function countTrips({ client }: RedisHandle): () => number {
  let trips = 0;
  const send = client.sendCommand.bind(client);
  client.sendCommand = (command, stream) => {
    const within = 'pipelineIndex' in command ? (command.pipelineIndex ?? 0) : 0;
    if (within === 0) trips += 1;
    return send(command, stream);
  };
  return () => trips;
}
