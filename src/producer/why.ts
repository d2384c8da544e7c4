/** Why a job does not run yet, in words, from what the fleet says of itself at this moment. */
import type { Paused } from '../protocol/paused.ts';
import { parseAvoided } from '../protocol/avoided.ts';
import { parseRoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { pausedNow } from '../redis/paused.ts';
import { withQueue } from '../redis/with-queue.ts';
import { listHosts, type HostDetails } from './hosts.ts';
import { showRun, type RunDetails } from './runs.ts';

/** One line a reason, the most telling first. Empty for a job that does not wait. */
export async function whyWaiting(redis: RedisHandle, runId: string, now = Date.now()): Promise<string[]> {
  const run = await showRun(redis, runId);
  const { state, waits } = run;
  if (state !== 'waiting' && state !== 'delayed') return [];
  const pauses = pauseReasons(run, await pausedNow(redis));
  if (pauses.length > 0) return pauses;
  if (waits !== undefined) return refreshReasons(redis, waits.run, waits.image, now);
  const { queue: key = '', avoid } = await redis.client.hgetall(redis.keys.run(runId));
  const place = await placeInQueue(redis, key, runId);
  if (state === 'delayed') return [`backs off after a failure of the testbed: again in ${seconds(place.due - now)}`];
  const parts = parseRoutingKey(key);
  const hosts = await listHosts(redis);
  const reasons = parts === undefined ? [] : hostReasons(hosts, parts);
  if (place.paused) reasons.unshift(`its queue ${key} is paused`);
  if (place.before > 0) reasons.push(`${place.before} jobs of its queue are before it`);
  const failedOn = parseAvoided(avoid);
  if (failedOn.length > 0) reasons.push(`it failed on ${failedOn.join(', ')} before`);
  return reasons;
}

/** Of a job that waits: what an operator has said of its image and its labels. */
export function pauseReasons({ image, labels = [] }: Pick<RunDetails, 'image' | 'labels'>, paused: Paused): string[] {
  const names = [...(image === undefined ? [] : [`image:${image}`]), ...labels.map((label) => `label:${label}`)];
  return names.flatMap((name) => {
    const said = paused.get(name);
    return said === undefined ? [] : [`${name.replace(':', ' ')} is paused: ${said.reason}`];
  });
}

/** What the refresh itself waits for is why the job does. */
async function refreshReasons(redis: RedisHandle, run: string, image: string, now: number): Promise<string[]> {
  const below = await whyWaiting(redis, run, now);
  return [`its image is refreshed first: update-golden ${run} of ${image}`, ...below.map((line) => `${run}: ${line}`)];
}

function hostReasons(
  hosts: readonly HostDetails[],
  { image, backend, arch }: { readonly image: string; readonly backend: string; readonly arch: string },
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
  return able.map(({ host, drained, workers }) => {
    if (drained !== undefined) return `${host} is drained: ${drained.reason}`;
    const trouble = workers.flatMap(({ troubles }) => troubles).find((each) => isAbout(each, image));
    if (trouble !== undefined) return `${host} holds back: ${trouble}`;
    const [busy, slots] = [sum(workers.map((each) => each.busy)), sum(workers.map((each) => each.slots))];
    return busy >= slots ? `${host} has no free slot (${busy} of ${slots} busy)` : `${host} will take it at once`;
  });
}

function lacking(hosts: readonly HostDetails[], backend: string): string[] {
  return hosts.map(({ host, workers }) => {
    const [why] = workers.flatMap(({ backends }) => backends[backend] ?? []);
    return `${host} cannot run ${backend}: ${why ?? 'it does not know it'}`;
  });
}

/** Troubles begin with what they are about (breaker.ts). */
function isAbout(trouble: string, image: string): boolean {
  return trouble.startsWith(`${image}@`) || trouble.startsWith(`${image} on `) || trouble.startsWith('this host:');
}

async function placeInQueue(
  redis: RedisHandle,
  key: string,
  runId: string,
): Promise<{ readonly before: number; readonly due: number; readonly paused: boolean }> {
  const { keys } = redis;
  const rank = await redis.client.zrank(`${keys.queues}:${key}:prioritized`, runId);
  const score = await redis.client.zscore(`${keys.queues}:${key}:delayed`, runId);
  const paused = await withQueue(redis, key, (queue) => queue.isPaused());
  return { before: rank ?? 0, due: Math.floor(Number(score ?? 0) / 4096), paused };
}

function seconds(milliseconds: number): string {
  return `${Math.max(0, Math.ceil(milliseconds / 1000))} s`;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
