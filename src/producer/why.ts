/** Why a job does not run yet, in words, from what the fleet says of itself at this moment. */
import { parseAvoided } from '../protocol/avoided.ts';
import { pausedText, type Paused } from '../protocol/paused.ts';
import { hasRoomFor, takesSize, type Presence } from '../protocol/presence.ts';
import { parseRoutingKey, type RoutingParts } from '../protocol/routing.ts';
import { describeResources, minus, usualSize, type Size } from '../protocol/size.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { showLeases } from '../redis/lease-view.ts';
import { pausedNow } from '../redis/paused.ts';
import { withQueue } from '../redis/with-queue.ts';
import { delayReasons } from './delays.ts';
import { listHosts, type HostDetails } from './hosts.ts';
import { imagesWritten, leaseReason } from './lease-waits.ts';
import { showRun, type RunDetails } from './runs.ts';

/** One line a reason, the most telling first. Empty for a job that does not wait. */
export async function whyWaiting(redis: RedisHandle, runId: string, now = Date.now()): Promise<string[]> {
  const run = await showRun(redis, runId);
  const { state, waits } = run;
  if (state === 'active') return leaseReason(run, await showLeases(redis, imagesWritten([run])), now) ?? [];
  if (state !== 'waiting' && state !== 'delayed') return [];
  const pauses = pauseReasons(run, await pausedNow(redis));
  if (pauses.length > 0) return pauses;
  if (waits !== undefined) return refreshReasons(redis, waits.run, waits.image, now);
  const { queue: key = '', avoid } = await redis.client.hgetall(redis.keys.run(runId));
  if (state === 'delayed') return [(await delayReasons(redis, [{ id: runId, key }], now)).get(runId) ?? 'backs off'];
  const place = await placeInQueue(redis, key, runId);
  const parts = parseRoutingKey(key);
  const hosts = await listHosts(redis);
  const reasons = parts === undefined ? [] : hostReasons(hosts, parts);
  if (place.paused) reasons.unshift(`its queue ${key} is paused`);
  if (place.before > 0) reasons.push(`${place.before} jobs of its queue are before it`);
  const failedOn = parseAvoided(avoid);
  if (failedOn.length > 0) reasons.push(`it failed on ${failedOn.join(', ')} before`);
  return reasons;
}

/** Of a job that waits: what an operator has said of itself, its image and its labels. */
export function pauseReasons(run: Pick<RunDetails, 'id' | 'image' | 'labels'>, paused: Paused): string[] {
  const { id, image, labels = [] } = run;
  const names = [
    `job:${id}`,
    ...(image === undefined ? [] : [`image:${image}`]),
    ...labels.map((label) => `label:${label}`),
  ];
  return names.flatMap((name) => {
    const said = paused.get(name);
    return said === undefined ? [] : [`${pausedText(name)} is paused: ${said.reason}`];
  });
}

/** What the refresh itself waits for is why the job does. */
async function refreshReasons(redis: RedisHandle, run: string, image: string, now: number): Promise<string[]> {
  const below = await whyWaiting(redis, run, now);
  return [`its image is refreshed first: update-golden ${run} of ${image}`, ...below.map((line) => `${run}: ${line}`)];
}

/** One line a host, or one for all. */
export function hostReasons(
  hosts: readonly HostDetails[],
  { image, backend, arch, size }: Omit<RoutingParts, 'kind'>,
): string[] {
  if (hosts.every(({ workers }) => workers.length === 0)) return ['no worker is running'];
  const having = hosts.filter(({ workers }) => workers.some(({ images }) => images.includes(image)));
  if (having.length === 0) return [`no host that runs has the image ${image}`];
  const ofArch = having.filter(({ workers }) => workers.some((worker) => (worker.arch ?? arch) === arch));
  if (ofArch.length === 0) return [`no host that has the image ${image} is ${arch}`];
  const able = ofArch.filter(
    ({ workers }) => backend === 'any' || workers.some(({ backends }) => backends[backend] === null),
  );
  if (able.length === 0) return lacking(ofArch, backend);
  const large = able.filter(({ workers }) => workers.some((worker) => takesSize(worker, size)));
  if (large.length === 0) return [tooSmall(able, size)];
  return large.map(({ host, drained, workers }) => {
    if (drained !== undefined) return `${host} is drained: ${drained.reason}`;
    const trouble = workers
      .flatMap(({ troubles }) => troubles)
      .find((each) => isAbout(each, image, placeOf(backend, workers)));
    if (trouble !== undefined) return `${host} holds back: ${trouble}`;
    return `${host} ${roomReason(
      workers.filter((worker) => takesSize(worker, size)),
      size,
    )}`;
  });
}

function tooSmall(hosts: readonly HostDetails[], size: Size): string {
  const rooms = hosts.flatMap(({ host, workers }) =>
    workers.flatMap(({ capacity }) => (capacity === undefined ? [] : [`${host} has ${describeResources(capacity)}`])),
  );
  return [`no host is large enough for size ${size}`, ...rooms].join('; ');
}

/** @param workers of one host, all of which take jobs of this size */
function roomReason(workers: readonly Presence[], size: Size): string {
  const keeping = workers.flatMap(({ keepsRoomFor }) => keepsRoomFor ?? [])[0];
  if (workers.some((worker) => hasRoomFor(worker, size))) {
    if (keeping === undefined || keeping === size) return 'will take it at once';
    return `keeps its room for a job of size ${keeping} that has found none for too long`;
  }
  if (size !== usualSize)
    return `has no room for size ${size} now (${workers.map((each) => freeText(each, size)).join('; ')})`;
  const [busy, slots] = [sum(workers.map((each) => each.busy)), sum(workers.map((each) => each.slots))];
  return `has no free slot (${busy} of ${slots} busy)`;
}

function freeText({ capacity, reserved, sizes }: Presence, size: Size): string {
  if (capacity === undefined || reserved === undefined || sizes === undefined) return 'it does not tell';
  return `free: ${describeResources(minus(capacity, reserved))}; it takes ${describeResources(sizes[size])}`;
}

function lacking(hosts: readonly HostDetails[], backend: string): string[] {
  return hosts.map(({ host, workers }) => {
    const [why] = workers.flatMap(({ backends }) => backends[backend] ?? []);
    return `${host} cannot run ${backend}: ${why ?? 'it does not know it'}`;
  });
}

/** A job that leaves the choice runs on the first backend that works there. */
function placeOf(backend: string, workers: HostDetails['workers']): readonly string[] {
  if (backend !== 'any') return [backend];
  const working = Object.entries(workers[0]?.backends ?? {}).filter(([, missing]) => missing === null);
  return ['any', ...working.slice(0, 1).map(([name]) => name)];
}

/** Troubles begin with what they are about (breaker.ts): the host, or `img on overlay`, `img@3 on overlay`. */
function isAbout(trouble: string, image: string, backends: readonly string[]): boolean {
  if (trouble.startsWith('this host:')) return true;
  const [about = ''] = trouble.split(': ');
  return backends.some((backend) => about.replace(/@\d+ on /, ' on ') === `${image} on ${backend}`);
}

async function placeInQueue(
  redis: RedisHandle,
  key: string,
  runId: string,
): Promise<{ readonly before: number; readonly paused: boolean }> {
  const { keys } = redis;
  const rank = await redis.client.zrank(`${keys.queues}:${key}:prioritized`, runId);
  const paused = await withQueue(redis, key, (queue) => queue.isPaused());
  return { before: rank ?? 0, paused };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
