/** Every run on an image that is still remembered, ended or not: an archive rebuild has tens of thousands. */
import type { RedisHandle } from '../redis/connect.ts';
import { showRun, type RunDetails } from './runs.ts';

/** Runs that are asked for together: Redis does nothing else meanwhile. */
const atOnce = 500;

/** Newest first. */
export async function* allRunsOfImage(redis: RedisHandle, image: string): AsyncGenerator<RunDetails> {
  const { client, keys } = redis;
  const ids = await client.zrevrange(keys.runs, 0, -1);
  for (let i = 0; i < ids.length; i += atOnce) {
    const some = ids.slice(i, i + atOnce);
    const asked = client.pipeline();
    for (const id of some) asked.hget(keys.run(id), 'image');
    const images = ((await asked.exec()) ?? []).map(([, answer]) => answer);
    const runs = await Promise.all(some.filter((_, index) => images[index] === image).map((id) => showRun(redis, id)));
    for (const run of runs) if (run.state !== 'absent') yield run;
  }
}
