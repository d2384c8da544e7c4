/** An empty queue, a journal and claims on it: new for each test. */
import type { Claimed } from '../../src/worker/claimed.ts';
import { Claims } from '../../src/worker/claims.ts';
import { openJournal, type Journal } from '../../src/worker/journal.ts';
import { buildKey, startTestRedis, type TestRedis } from './fixtures.ts';

export let server: TestRedis;
export let journal: Journal;
export let claims: Claims;

export async function begin(): Promise<void> {
  server = await startTestRedis();
  journal = await openJournal(server.state);
  claims = new Claims(server.redis, journal);
}

export async function cleanUp(): Promise<void> {
  for (const part of [claims, journal, server]) await part[Symbol.asyncDispose]();
}

/** @throws when nothing waits there */
export async function claim(from = claims, key = buildKey): Promise<Claimed> {
  const claimed = await from.claim(key);
  if (claimed === undefined) throw new Error('nothing to claim');
  return claimed;
}
