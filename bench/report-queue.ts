/** The queue's part of bench/README.md. */
import type { Results } from './results.ts';
import { figure, median, percentile, ratio, spread } from './statistics.ts';
import { table, verdict } from './table.ts';

const bars = { enqueue: 10, bytes: 2048, latency: 250, cpu: 5, deadHost: 60 } as const;

type Queue = NonNullable<Results['queue']>;
type Of = (program: string, quantity: string) => readonly number[];

export function queueLines({ size, programs, fleet }: Queue): string[] {
  const of: Of = (program, quantity) => programs[program]?.[quantity] ?? [];
  const count = (name: string): string => (size[name] ?? 0).toLocaleString('en');
  const versus = (quantity: string): string => ratio(of('goldbed', quantity), of('bullmq', quantity));
  return [
    '## The queue',
    '',
    ...table([
      ['', `hand in ${count('enqueue')} jobs, s`, 'Redis bytes a waiting job', 'to start p50, ms', 'p99'],
      handIn('goldbed', 'goldbed', of),
      handIn('raw BullMQ', 'bullmq', of),
      ['vs raw BullMQ', versus('enqueue'), versus('bytes'), '', ''],
    ]),
    '',
    'To start: from handing in one job to its start, a slot being free. Raw BullMQ is one queue and one worker, with the same data',
    'and the same server (append-only, fsync always), without what goldbed adds: coalescing by content, run records, fair turns.',
    '',
    ...throughputLines(of, count),
    ...barLines(of, count, fleet),
  ];
}

function handIn(name: string, program: string, of: Of): string[] {
  return [
    name,
    spread(of(program, 'enqueue')),
    figure(median(of(program, 'bytes'))),
    figure(percentile(of(program, 'latency'), 50)),
    figure(percentile(of(program, 'latency'), 99)),
  ];
}

function throughputLines(of: Of, count: (name: string) => string): string[] {
  const own = of('goldbed', 'perJob');
  if (of('twin', 'perJob').length === 0) return [];
  const trips = figure(median(of('goldbed', 'trips')));
  const row = (name: string, program: string, times: string): string[] => {
    const each = of(program, 'perJob');
    const overhead = program === 'goldbed' ? '' : figure(median(own) - median(each));
    return [name, times, spread(each.map((milliseconds) => 1000 / milliseconds)), spread(each), overhead];
  };
  return [
    ...table([
      ['', 'round trips a job', 'jobs a second', 'ms a job', 'goldbed’s overhead, ms a job'],
      row('goldbed, the whole worker', 'goldbed', trips),
      row('BullMQ with as many round trips', 'twin', trips),
      row('raw BullMQ', 'bullmq', '1'),
    ]),
    '',
    `${count('throughput')} jobs that wait and do nothing, ${count('slots')} at a time, until all of a job is done. Goldbed’s go through all that a worker does but a`,
    'session: slots before claims, offers, what is paused or held back, a renewed lock, the look at a cancel, the attempt’s folder,',
    'log and result, and a journal of claims and outcomes on disk, synced twice a job.',
    '',
  ];
}

function barLines(of: Of, count: (name: string) => string, fleet: Queue['fleet']): string[] {
  const bar = (name: string, limit: number, unit: string, found: number, more = ''): string[] => [
    name,
    `${grouped(limit)} ${unit}`,
    `${figure(found)} ${unit}${more}`,
    verdict(found <= limit),
  ];
  const hosts = `idle: ${count('hosts')} hosts, ${count('images')} images, ${grouped(fleet['queues'] ?? 0)} queues`;
  const each = `, a host ${figure(fleet['connectionsPerHost'] ?? 0)} connections, ${figure(fleet['commandsPerHost'] ?? 0)} commands a second`;
  const dead = of('goldbed', 'deadHost');
  return [
    ...table([
      ['bar', 'at most', 'found', ''],
      bar(`hand in ${count('enqueue')} jobs`, bars.enqueue, 's', median(of('goldbed', 'enqueue'))),
      bar('Redis memory of a waiting job', bars.bytes, 'bytes', median(of('goldbed', 'bytes'))),
      bar('claim latency p99', bars.latency, 'ms', percentile(of('goldbed', 'latency'), 99)),
      bar(hosts, bars.cpu, '% of a Redis core', fleet['cpuPercent'] ?? Number.NaN, each),
      ...(dead.length === 0 ? [] : [bar('a dead host’s job runs again elsewhere', bars.deadHost, 's', median(dead))]),
    ]),
    '',
    ...(dead.length === 0
      ? []
      : ['A dead host: its worker is killed with SIGKILL while it runs a job; the fleet has its default times.', '']),
  ];
}

function grouped(value: number): string {
  return value.toLocaleString('en');
}
