/** Waiting for a nudge in a test. */
import type { Nudge } from '../../src/protocol/nudge.ts';
import type { RedisHandle } from '../../src/redis/connect.ts';
import { subscribeNudges } from '../../src/redis/nudges.ts';

/** Listens when it returns; `heard` is when somebody says so on the channel. */
export async function listenFor(
  redis: RedisHandle,
  wanted: (nudge: Nudge) => boolean,
): Promise<{ readonly heard: Promise<void> }> {
  const nudges = await subscribeNudges(redis);
  const heard = new Promise<void>((resolve) => {
    nudges.listen((nudge) => {
      if (wanted(nudge)) void nudges[Symbol.asyncDispose]().then(resolve);
    });
  });
  return { heard };
}
