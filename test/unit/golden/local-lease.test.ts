import { expect, test } from 'vitest';
import { beginWrite } from '../../../src/golden/candidate.ts';
import { localLeases } from '../../../src/golden/local-lease.ts';
import { never, publishFiles, temporaryState } from './fixtures/images.ts';

test('fences grow, also over what the store and the caller know', async () => {
  await using state = await temporaryState();
  const leases = localLeases(state, 0);
  await publishFiles(state, 'sid', {}, { fence: 6 });
  {
    await using lease = await leases.acquire('sid', 0, never);
    expect([lease.fence, lease.signal.aborted]).toEqual([7, false]);
  }
  await using lease = await leases.acquire('sid', 20, never);
  expect(lease.fence).toBe(21);
});

test('whoever may not wait, or has waited long enough, is told who writes', async () => {
  await using state = await temporaryState();
  await using lease = await localLeases(state, 0).acquire('sid', 0, never);
  await using _candidate = await beginWrite(state, 'sid', { fence: lease.fence, by: 'nightly' });
  for (const seconds of [0, 0.05]) {
    await expect(localLeases(state, seconds).acquire('sid', 0, never)).rejects.toMatchObject({
      name: 'GoldenRefusal',
      word: 'golden-locked',
      message: `nightly is writing sid; waited ${seconds} s`,
    });
  }
  await using other = await localLeases(state, 0).acquire('bookworm', 0, never);
  expect(other.fence).toBe(1);
});

test('a waiting writer gets its turn, and an aborted one goes', async () => {
  await using state = await temporaryState();
  const first = await localLeases(state, 0).acquire('sid', 0, never);
  const controller = new AbortController();
  const aborted = localLeases(state, 60).acquire('sid', 0, controller.signal);
  controller.abort(new Error('cancelled'));
  await expect(aborted).rejects.toThrow('cancelled');
  const second = localLeases(state, 60).acquire('sid', 0, never);
  await first[Symbol.asyncDispose]();
  await (await second)[Symbol.asyncDispose]();
});
