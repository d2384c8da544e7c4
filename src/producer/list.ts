/** Jobs for a list: those that wait or run, with the host that has each, and a word on why it waits. */
import { isRunId, parseRoutingKey, type RoutingKey } from '../protocol/routing.ts';
import { openRuns } from '../redis/cancel.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { queueDepths } from '../redis/depths.ts';
import { showLeases } from '../redis/lease-view.ts';
import { pausedNow } from '../redis/paused.ts';
import { knownKeys } from '../redis/ready.ts';
import { delayReasons } from './delays.ts';
import { listHosts } from './hosts.ts';
import { imagesWritten, leaseReason } from './lease-waits.ts';
import { showRun, type RunDetails } from './runs.ts';
import { hostReasons, pauseReasons } from './why.ts';

export interface ListedRun extends RunDetails {
  /** That runs it, or ran it. */
  readonly host?: string;
  /** What it waits for. */
  readonly why?: string;
}

export interface Listed {
  /** Newest first. */
  readonly runs: readonly ListedRun[];
  /** Those that did not find room in the list: of the jobs that wait. */
  readonly more: number;
}

interface Open {
  readonly id: string;
  readonly key: RoutingKey;
}

/** Runs that go to Redis together: it does nothing else meanwhile. */
const atOnce = 500;

/** Those that wait or run; first of all those that run. @param limit of the list @param among only these, newest first */
export async function listOpen(redis: RedisHandle, limit: number, among?: readonly string[]): Promise<Listed> {
  const { open, more } = await (among === undefined ? inQueues(redis, limit) : ofThese(redis, limit, among));
  const runs = await Promise.all(open.map(({ id }) => showRun(redis, id)));
  const unfinished = runs.filter(({ state }) => ['waiting', 'active', 'delayed'].includes(state));
  const keys = new Map(open.map(({ id, key }) => [id, key]));
  const listed = await withReasons(redis, unfinished, keys);
  return { runs: listed.toSorted((a, b) => b.submitted - a.submitted), more };
}

/** Of whatever state. @param ids newest first */
export async function listAll(redis: RedisHandle, ids: readonly string[], limit: number): Promise<Listed> {
  const runs = await Promise.all(ids.slice(0, limit).map((id) => showRun(redis, id)));
  const found = runs.filter(({ state }) => state !== 'absent');
  const asked = redis.client.pipeline();
  for (const { id } of found) asked.hget(redis.keys.run(id), 'queue');
  const queues = ((await asked.exec()) ?? []).map(([, queue]) => String(queue));
  const keys = new Map(found.map(({ id }, index) => [id, queues[index] ?? '']));
  return { runs: await withReasons(redis, found, keys), more: Math.max(0, ids.length - limit) };
}

async function inQueues(redis: RedisHandle, limit: number): Promise<{ open: Open[]; more: number }> {
  const depths = await queueDepths(redis, await knownKeys(redis));
  const busy = depths.filter(({ waiting, delayed, active }) => waiting + delayed + active > 0);
  const asked = redis.client.pipeline();
  for (const { key } of busy) {
    const queue = `${redis.keys.queues}:${key}`;
    asked.lrange(`${queue}:active`, 0, -1).zrange(`${queue}:delayed`, '0', String(limit - 1));
    asked.lrange(`${queue}:wait`, -limit, -1).zrange(`${queue}:prioritized`, '0', String(limit - 1));
  }
  const answers = ((await asked.exec()) ?? []).map(([, ids]) => ids as string[]);
  const all = busy.flatMap(({ key }, index) =>
    answers
      .slice(index * 4, index * 4 + 4)
      .flatMap((ids, rank) => ids.filter(isRunId).map((id) => ({ id, key, rank }))),
  );
  const open = all.toSorted((a, b) => a.rank - b.rank).slice(0, limit);
  const total = busy.reduce((sum, { waiting, delayed, active }) => sum + waiting + delayed + active, 0);
  return { open, more: all.length <= limit ? 0 : total - open.length };
}

async function ofThese(
  redis: RedisHandle,
  limit: number,
  ids: readonly string[],
): Promise<{ open: Open[]; more: number }> {
  const all = [];
  for (let i = 0; i < ids.length; i += atOnce) all.push(...(await openRuns(redis, ids.slice(i, i + atOnce))));
  const open = all.toSorted((a, b) => Number(b.active) - Number(a.active)).slice(0, limit);
  return { open: open.map(({ id, queue }) => ({ id, key: queue })), more: all.length - open.length };
}

/** What the fleet says is asked once, and of each queue at most once. */
async function withReasons(
  redis: RedisHandle,
  runs: readonly RunDetails[],
  keys: ReadonlyMap<string, RoutingKey>,
): Promise<ListedRun[]> {
  const now = Date.now();
  const keyOf = ({ id }: RunDetails): RoutingKey => keys.get(id) ?? '';
  const delayed = runs.filter(({ state, waits, parked }) => state === 'delayed' && !waits && !parked);
  const [paused, hosts, leases, running, delays] = await Promise.all([
    pausedNow(redis),
    listHosts(redis),
    showLeases(redis, imagesWritten(runs)),
    whereRunning(redis, runs, keyOf),
    delayReasons(
      redis,
      delayed.map((run) => ({ id: run.id, key: keyOf(run) })),
      now,
    ),
  ]);
  const ofQueue = cached((key: RoutingKey) => {
    const parts = parseRoutingKey(key);
    return parts === undefined ? undefined : inOne(hostReasons(hosts, parts));
  });
  const why = (run: RunDetails): string | undefined => {
    if (run.state === 'active') return leaseReason(run, leases, now)?.[0];
    if (run.state !== 'waiting' && run.state !== 'delayed') return undefined;
    const [pause] = pauseReasons(run, paused);
    if (pause !== undefined || run.waits !== undefined) return pause; // for a refresh: the run itself says so
    return run.state === 'delayed' ? delays.get(run.id) : ofQueue(keyOf(run));
  };
  return runs.map((run) => {
    const host = running.get(run.id) ?? run.outcome?.host;
    const reason = why(run);
    return { ...run, ...(host === undefined ? {} : { host }), ...(reason === undefined ? {} : { why: reason }) };
  });
}

/** The hosts by which they are claimed: a lock's token begins with its worker's incarnation. */
async function whereRunning(
  { client, keys }: RedisHandle,
  runs: readonly RunDetails[],
  keyOf: (run: RunDetails) => RoutingKey,
): Promise<ReadonlyMap<string, string>> {
  const active = runs.filter(({ state }) => state === 'active');
  if (active.length === 0) return new Map();
  const asked = client.pipeline().zrange(keys.workers, '0', '-1');
  asked.mget(active.map((run) => `${keys.queues}:${keyOf(run)}:${run.id}:lock`));
  const [members = [], locks = []] = ((await asked.exec()) ?? []).map(([, answer]) => answer as (string | null)[]);
  const hosts = new Map(
    members.map((member) => {
      const slash = String(member).lastIndexOf('/');
      return [String(member).slice(slash + 1), String(member).slice(0, slash)];
    }),
  );
  return new Map(
    active.flatMap(({ id }, index) => {
      const host = hosts.get(locks[index]?.split('.')[0] ?? '');
      return host === undefined ? [] : [[id, host]];
    }),
  );
}

/** The host that is about to take it says most; else one stands for all. */
function inOne(lines: readonly string[]): string | undefined {
  const line = lines.find((each) => each.endsWith('will take it at once')) ?? lines[0];
  return line === undefined || lines.length === 1 ? line : `${line} (${lines.length} hosts: goldbed why)`;
}

function cached<K, V>(find: (key: K) => V): (key: K) => V {
  const known = new Map<K, V>();
  return (key) => {
    if (!known.has(key)) known.set(key, find(key));
    return known.get(key) as V;
  };
}
