/** `goldbed host ls | show | drain | resume`: the hosts of the fleet. */
import { Command } from 'commander';
import { drainHost, findHost, lastHeard, listHosts, resumeHost, type HostDetails } from '../../producer/hosts.ts';
import { UsageError } from '../../protocol/errors.ts';
import { takesSize, type Presence } from '../../protocol/presence.ts';
import { describeResources, sizeNames } from '../../protocol/size.ts';
import type { RedisHandle } from '../../redis/connect.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { age, json, out, size, table } from '../print.ts';

type Flags = GlobalFlags & { readonly json?: boolean; readonly reason?: string };

export function hostCommand(): Command {
  const ls = new Command('ls').description(
    'list the hosts whose workers run or fell silent within a day, or that are drained',
  );
  ls.option('--json', 'print one JSON document').action(async () => {
    await using redis = await redisFor(ls);
    const hosts = await listHosts(redis);
    if (ls.optsWithGlobals<Flags>().json === true) return json({ hosts });
    const head = ['HOST', 'SLOTS', 'BUSY', 'IMAGES', 'BACKENDS', 'FREE', 'HEARD', 'SINCE', 'STATE'];
    out(table([head, ...hosts.map((host) => row(host, Date.now()))]));
  });
  const show = new Command('show').argument('HOST').description('what a host offers, and what it holds back');
  show.option('--json', 'print one JSON document').action(async (name: string) => {
    await using redis = await redisFor(show);
    const host = await findHost(redis, name);
    if (show.optsWithGlobals<Flags>().json === true) return json({ ...host });
    for (const line of described(host, Date.now())) out(line);
  });
  const drain = new Command('drain').argument('HOST').description('let it take no more jobs; what runs on it goes on');
  drain.option('--reason <TEXT>', 'shown to whoever asks', 'drained by goldbed host drain');
  drain.action(async (name: string) => {
    await using redis = await redisFor(drain);
    const { host } = await findHost(redis, name);
    await drainHost(redis, host, drain.optsWithGlobals<Flags>().reason ?? '');
    out(`${host} takes no more jobs. Again: goldbed host resume ${host}`);
  });
  const resume = new Command('resume').argument('HOST').description('let it take jobs again');
  resume.action(async (name: string) => {
    await using redis = await redisFor(resume);
    if (!(await resumeHost(redis, name))) throw new UsageError(name, `${name} is not drained`);
    out(`${name} takes jobs again`);
  });
  const host = new Command('host').description('the hosts of the fleet');
  return host.addCommand(ls).addCommand(show).addCommand(drain).addCommand(resume);
}

function redisFor(command: Command): Promise<RedisHandle> {
  return openRedis(makeContext(command.optsWithGlobals<Flags>()), new AbortController().signal);
}

function row(details: HostDetails, now: number): string[] {
  const { host } = details;
  const workers = [...details.workers, ...details.silent];
  const [first] = workers;
  const heard = lastHeard(details);
  if (first === undefined || heard === undefined)
    return [host, '-', '-', '-', '-', '-', '-', '-', stateOf(details, now)];
  const images = new Set(workers.flatMap((worker) => worker.images));
  return [
    host,
    String(sum(workers.map(({ slots }) => slots))),
    String(sum(workers.map(({ busy }) => busy))),
    String(images.size),
    working(first.backends).join(',') || '-',
    first.freeDisk === undefined ? '-' : size(first.freeDisk * 1024 * 1024),
    age(heard, now),
    age(Math.min(...workers.map(({ since }) => since)), now),
    stateOf(details, now),
  ];
}

function stateOf(details: HostDetails, now: number): string {
  const { workers, silent, drained } = details;
  const heard = lastHeard(details);
  if (silent.length > 0 && heard !== undefined) return `silent for ${age(heard, now)}`;
  if (drained !== undefined) return `drained: ${drained.reason}`;
  return workers.flatMap(({ troubles }) => troubles)[0] ?? 'takes jobs';
}

function described(details: HostDetails, now: number): string[] {
  const { host, workers, silent, drained } = details;
  const lines = [`${host}  ${stateOf(details, now)}`];
  if (drained !== undefined) lines.push(`  drained for ${age(drained.since, now)}: ${drained.reason}`);
  for (const worker of [...workers, ...silent]) {
    lines.push(`  worker ${worker.incarnation}, process ${worker.pid}, for ${age(worker.since, now)}`);
    lines.push(`    slots: ${worker.busy} of ${worker.slots} busy`, ...room(worker));
    lines.push(`    last heartbeat ${age(worker.heard, now)} ago`);
    if (worker.freeDisk !== undefined) lines.push(`    free disk: ${size(worker.freeDisk * 1024 * 1024)}`);
    for (const [name, version] of Object.entries(worker.versions)) lines.push(`    ${name} ${version}`);
    for (const [name, missing] of Object.entries(worker.backends)) lines.push(`    ${name}: ${missing ?? 'works'}`);
    for (const image of worker.images) lines.push(`    ${image}@${worker.generations[image] ?? '?'}`);
    for (const trouble of worker.troubles) lines.push(`    holds back: ${trouble}`);
  }
  return lines;
}

/** Nothing for a worker of an earlier version. */
function room({ capacity, reserved, keepsRoomFor, ...worker }: Presence): string[] {
  if (capacity === undefined) return [];
  const lines = [`    room: ${describeResources(capacity)}`];
  if (reserved !== undefined) lines.push(`    reserved: ${describeResources(reserved)}`);
  const taken = sizeNames.filter((name) => takesSize({ capacity, ...worker }, name));
  lines.push(`    takes jobs of size ${taken.join(', ') || '-'}`);
  if (keepsRoomFor !== undefined) lines.push(`    keeps its room for a job of size ${keepsRoomFor}`);
  return lines;
}

function working(backends: Readonly<Record<string, string | null>>): string[] {
  return Object.entries(backends).flatMap(([name, missing]) => (missing === null ? [name] : []));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
