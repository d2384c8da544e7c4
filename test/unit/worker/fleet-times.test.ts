/** What is promised of a worker that dies (docs/fleet.md) follows from how often workers look after each other. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadSettings } from '../../../src/config/load.ts';
import { fleetTimes, type FleetTimes } from '../../../src/worker/fleet-times.ts';

let nothing: string;
beforeEach(async () => {
  nothing = await mkdtemp(path.join(tmpdir(), 'goldbed-times-'));
});
afterEach(() => rm(nothing, { recursive: true, force: true }));

/**
 * The longest time from a worker's death until its jobs can be claimed. Its last heartbeat came in that very moment,
 * and counts for `alive`; a look finds it missing, one after `deadAfter` still. If it was the coordinator, its key must
 * run out as well, another takes it at the next attempt, and then looks for `regroup` before it judges. The jobs go
 * back at the look after that. test/redis/coordinator.test.ts has the code itself do it.
 */
function longest({ alive, every, deadAfter, ttl, regroup }: FleetTimes): number {
  const judged = alive + every + deadAfter;
  const judgedByAnother = ttl + every + regroup;
  return Math.max(judged, judgedByAnother) + every;
}

test('the jobs of a worker that was killed can be claimed by others within a minute, and as soon as docs say', () => {
  const times = fleetTimes(loadSettings({ XDG_CONFIG_HOME: nothing }, 0).fleet.heartbeat);
  expect(times).toEqual(fleetTimes()); // what is taken where nobody says anything
  expect(longest(times)).toBeLessThanOrEqual(60_000);
  expect(longest(times)).toBe(50_000);
});
