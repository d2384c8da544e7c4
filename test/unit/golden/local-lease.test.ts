/** The right to write on one host: who has it, who waits, and how one that is stopped loses it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { bothLeases } from '../../../src/golden/both-leases.ts';
import { beginWrite } from '../../../src/golden/candidate.ts';
import type { FenceSource } from '../../../src/golden/fence-source.ts';
import { layoutOf } from '../../../src/golden/layout.ts';
import { breakLocalLease, localLeases, type LocalLeaseOptions } from '../../../src/golden/local-lease.ts';
import { localWriters } from '../../../src/golden/local-writers.ts';
import { pinGeneration } from '../../../src/golden/pins.ts';
import { removeImage } from '../../../src/golden/remove.ts';
import { imageNames } from '../../../src/golden/store.ts';
import { details, never, publishFiles, temporaryState, type TemporaryState } from './fixtures/images.ts';
import { linesOf } from '../../lines.ts';

const program = path.join(import.meta.dirname, 'fixtures/hold-lease.ts');
const leasesOn = (state: TemporaryState, options: Partial<LocalLeaseOptions> = {}): FenceSource =>
  localLeases(state, { by: 'me', wait: 0, ...options });

/** Another process that holds the lease, with a candidate, and tells when it has lost it. */
async function otherWriter(state: TemporaryState, ttl: number) {
  const args = ['--import', 'tsx', program, state.root, 'sid', String(ttl)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const said = linesOf(child.stdout);
  expect(await said()).toBe('writes');
  return { child, said };
}

test('fences grow, also over what the store and the caller know', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', {}, { fence: 6 });
  {
    await using lease = await leasesOn(state).acquire('sid', 0, never);
    expect([lease.fence, lease.signal.aborted]).toEqual([7, false]);
  }
  await using lease = await leasesOn(state).acquire('sid', 20, never);
  expect(lease.fence).toBe(21);
});

test('whoever may not wait, or has waited long enough, is told who writes', async () => {
  await using state = await temporaryState();
  await using _lease = await leasesOn(state, { by: 'nightly' }).acquire('sid', 0, never);
  const told: string[] = [];
  for (const wait of [0, 50]) {
    const leases = leasesOn(state, { by: 'late', wait, onWait: (line) => told.push(line) });
    await expect(leases.acquire('sid', 0, never)).rejects.toMatchObject({
      name: 'GoldenRefusal',
      word: 'golden-locked',
      message: `nightly (process ${process.pid}) is writing sid; waited ${wait / 1000} s`,
    });
  }
  expect(told).toEqual([`waits for nightly (process ${process.pid}), who writes sid`]);
  await using other = await leasesOn(state).acquire('bookworm', 0, never);
  expect(other.fence).toBe(1);
});

test('a waiting writer gets its turn, and an aborted one goes; who holds and who waits can be seen', async () => {
  await using state = await temporaryState();
  const first = await leasesOn(state, { by: 'first' }).acquire('sid', 0, never);
  const controller = new AbortController();
  const aborted = leasesOn(state, { by: 'aborted', wait: 60_000 }).acquire('sid', 0, controller.signal);
  const second = leasesOn(state, { by: 'second', wait: 60_000 }).acquire('sid', 0, never);
  while ((await localWriters(state, 'sid'))?.waiting.length !== 2);
  expect(await localWriters(state, 'sid')).toMatchObject({ holder: { owner: 'first', pid: process.pid } });
  controller.abort(new Error('cancelled'));
  await expect(aborted).rejects.toThrow('cancelled');
  expect((await localWriters(state, 'sid'))?.waiting).toMatchObject([{ owner: 'second' }]);
  await first[Symbol.asyncDispose]();
  const held = await second;
  expect(await localWriters(state, 'sid')).toMatchObject({ holder: { owner: 'second' }, waiting: [] });
  await held[Symbol.asyncDispose]();
  expect(await localWriters(state, 'sid')).toBeUndefined();
});

test('a writer that works is waited for, however short its lease lives', async () => {
  await using state = await temporaryState();
  await using lease = await leasesOn(state, { ttl: 1000 }).acquire('sid', 0, never);
  await expect(leasesOn(state, { wait: 2500, ttl: 1000 }).acquire('sid', 0, never)).rejects.toThrow(/is writing sid/);
  expect(lease.signal.aborted).toBe(false);
});

test(
  'a writer stopped for longer than its lease lives loses it, and keeps its folder until it goes on',
  { timeout: 120_000 },
  async () => {
    await using state = await temporaryState();
    await publishFiles(state, 'sid', { one: '1' });
    const { child, said } = await otherWriter(state, 1000);
    await expect(leasesOn(state, { by: 'hasty' }).acquire('sid', 0, never)).rejects.toThrow(/other \(process \d+\)/);
    child.kill('SIGSTOP');
    await using lease = await leasesOn(state, { by: 'next', wait: 60_000, ttl: 1000 }).acquire('sid', 0, never);
    {
      await using mine = await beginWrite(state, 'sid', { fence: lease.fence, by: 'next' });
      expect(readdirSync(layoutOf(state, 'sid').work)).toHaveLength(2);
      await mine.publish(details, never);
    }
    const lost = said();
    child.kill('SIGCONT');
    expect(await lost).toBe('ImageLeaseLost golden-changed');
    await once(child, 'exit');
    expect(lease.signal.aborted).toBe(false);
    expect(await localWriters(state, 'sid')).toMatchObject({ holder: { owner: 'next' } });
    expect(readdirSync(layoutOf(state, 'sid').work)).toEqual([]);
  },
);

test('a killed writer holds nobody up, and what it left goes with the next one', { timeout: 120_000 }, async () => {
  await using state = await temporaryState();
  const { child } = await otherWriter(state, 60_000);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(readdirSync(layoutOf(state, 'sid').work)).toHaveLength(1);
  await publishFiles(state, 'sid', { one: '1' });
  expect(readdirSync(layoutOf(state, 'sid').work)).toEqual([]);
});

test('an operator breaks it: the holder learns, can publish nothing, and the next one begins at once', async () => {
  await using state = await temporaryState();
  await using lease = await leasesOn(state, { ttl: 400 }).acquire('sid', 0, never);
  await using candidate = await beginWrite(state, 'sid', { fence: lease.fence, by: 'me' });
  expect(await breakLocalLease(state, 'sid', 'operator', 99)).toBeUndefined();
  expect(await breakLocalLease(state, 'sid', 'operator', lease.fence)).toMatchObject({ by: 'me' });
  expect(await breakLocalLease(state, 'sid', 'operator')).toBeUndefined();
  await using next = await leasesOn(state, { by: 'next' }).acquire('sid', 0, never);
  expect(next.fence).toBeGreaterThan(lease.fence);
  await expect(candidate.publish(details, never)).rejects.toThrow(/operator has taken over writing it/);
  if (!lease.signal.aborted) await once(lease.signal, 'abort');
  await lease[Symbol.asyncDispose]();
  expect(await localWriters(state, 'sid')).toMatchObject({ holder: { owner: 'next' } });
});

test('an image that is removed while one waits to write it: the wait goes on in the new folder', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '1' });
  const first = await leasesOn(state).acquire('sid', 0, never);
  await expect(removeImage(state, 'sid', 'me')).rejects.toThrow(/sid is in use: me \(process \d+\) is writing sid/);
  const waiting = leasesOn(state, { by: 'second', wait: 60_000 }).acquire('sid', 0, never);
  while ((await localWriters(state, 'sid'))?.waiting.length !== 1);
  await first[Symbol.asyncDispose]();
  await using _second = await waiting;
  await expect(removeImage(state, 'sid', 'me')).rejects.toThrow(/second .* is writing sid/);
  await _second[Symbol.asyncDispose]();
  await removeImage(state, 'sid', 'me');
  expect([await imageNames(state), existsSync(layoutOf(state, 'sid').root)]).toEqual([[], false]);
  await using _third = await leasesOn(state).acquire('sid', 0, never);
});

test('an image in use is not removed, and can be opened as before', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '1' });
  await using reader = await pinGeneration(state, 'sid', { sessionId: 'a1', what: 'build hello' });
  await expect(removeImage(state, 'sid', 'me')).rejects.toThrow('sid is in use: build hello');
  expect(existsSync(layoutOf(state, 'sid').collecting)).toBe(false);
  await using other = await pinGeneration(state, 'sid', { sessionId: 'b2', what: 'test hello' });
  expect(other.record).toEqual(reader.record);
});

test('a job takes the host’s right first, then the fleet’s, with a fence above what the store knows', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', {}, { fence: 6 });
  const order: string[] = [];
  const noted = (name: string, inner: FenceSource): FenceSource => ({
    async acquire(...asked) {
      const lease = await inner.acquire(...asked);
      order.push(`${name} ${asked[1]} ${lease.fence}`);
      return {
        ...lease,
        async [Symbol.asyncDispose]() {
          order.push(`${name} ends`);
          await lease[Symbol.asyncDispose]();
        },
      };
    },
  });
  let counter = 0;
  const fleet: FenceSource = {
    async acquire(_image, floor) {
      counter = Math.max(counter, floor) + 1;
      return { fence: counter, signal: never, async [Symbol.asyncDispose]() {} };
    },
  };
  const job = bothLeases(noted('host', leasesOn(state)), noted('fleet', fleet));
  {
    await using lease = await job.acquire('sid', 0, never);
    expect(lease.fence).toBe(7);
    await expect(leasesOn(state, { by: 'by hand' }).acquire('sid', 0, never)).rejects.toThrow(/me .*is writing sid/);
  }
  expect(order).toEqual(['host 0 7', 'fleet 6 7', 'fleet ends', 'host ends']);
  const failing: FenceSource = { acquire: async () => Promise.reject(new Error('Redis is away')) };
  await expect(bothLeases(leasesOn(state), failing).acquire('sid', 0, never)).rejects.toThrow('Redis is away');
  await using _free = await leasesOn(state).acquire('sid', 0, never);
});
