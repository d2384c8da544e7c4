/** Nudges: what is heard, also after the connection broke, and what is not. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { nudge, subscribeNudges } from '../../src/redis/nudges.ts';
import { startTestRedis, type TestRedis } from './fixtures.ts';

let server: TestRedis;
beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server[Symbol.asyncDispose]());

test('what another program says on the channel is ignored', async () => {
  await using nudges = await subscribeNudges(server.redis);
  const heard: unknown[] = [];
  const last = new Promise<void>((resolve) => {
    nudges.listen((said) => {
      heard.push(said);
      resolve();
    });
  });
  for (const said of ['', 'hello', '{', '{"enqueued":7}', '{"enqueued":"x","more":1}', 'null', '[]']) {
    await server.redis.client.publish(server.redis.keys.nudges, said);
  }
  await nudge(server.redis, { enqueued: 'well.formed' });
  await last;
  expect(heard).toEqual([{ enqueued: 'well.formed' }]);
});

test('are heard again after the connection broke', async () => {
  await using nudges = await subscribeNudges(server.redis);
  const heard = new Promise<unknown>((resolve) => void nudges.listen(resolve));
  await server.redis.client.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
  let stop = false;
  void heard.then(() => (stop = true));
  while (!stop) await nudge(server.redis, { ended: 'x' });
  expect(await heard).toEqual({ ended: 'x' });
});
