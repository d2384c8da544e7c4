/** The queue's part of bench/README.md. */
import type { Results } from './results.ts';
import { figure, median, percentile, ratio, spread } from './statistics.ts';
import { table, verdict } from './table.ts';

const bars = { enqueue: 10, bytes: 2048, latency: 250, cpu: 5 } as const;

export function queueLines({ size, programs, fleet }: NonNullable<Results['queue']>): string[] {
  const of = (program: string, quantity: string): number[] => programs[program]?.[quantity] ?? [];
  const row = (name: string, program: string): string[] => [
    name,
    spread(of(program, 'enqueue')),
    figure(median(of(program, 'bytes'))),
    figure(percentile(of(program, 'latency'), 50)),
    figure(percentile(of(program, 'latency'), 99)),
    spread(of(program, 'perJob')),
  ];
  const versus = (quantity: string): string => ratio(of('goldbed', quantity), of('bullmq', quantity));
  const worst = percentile(of('goldbed', 'latency'), 99);
  const [seconds, bytes] = [median(of('goldbed', 'enqueue')), median(of('goldbed', 'bytes'))];
  const cpu = fleet['cpuPercent'] ?? Number.NaN;
  const count = (name: string): string => (size[name] ?? 0).toLocaleString('en');
  return [
    '## The queue',
    '',
    ...table([
      ['', `hand in ${count('enqueue')} jobs, s`, 'Redis bytes a waiting job', 'to start p50, ms', 'p99', 'ms a job'],
      row('goldbed', 'goldbed'),
      row('raw BullMQ', 'bullmq'),
      ['vs raw BullMQ', versus('enqueue'), versus('bytes'), '', '', versus('perJob')],
    ]),
    '',
    `To start: from handing in one job to its start, a slot being free. ms a job: ${count('throughput')} jobs that do nothing, ${count('slots')} at`,
    'a time, from the first claim to the last result. Raw BullMQ is one queue and one worker, with the same data and the same',
    'server (append-only, fsync always), without what goldbed adds: coalescing by content, run records, fair turns, slots before',
    'claims, and a journal of claims and outcomes on disk, synced twice a job.',
    '',
    ...table([
      ['bar', 'limit', 'found', ''],
      [
        `hand in ${count('enqueue')} jobs`,
        `${bars.enqueue} s`,
        `${figure(seconds)} s`,
        verdict(seconds <= bars.enqueue),
      ],
      [
        'Redis memory of a waiting job',
        `${grouped(bars.bytes)} bytes`,
        `${figure(bytes)} bytes`,
        verdict(bytes <= bars.bytes),
      ],
      ['claim latency p99', `${bars.latency} ms`, `${figure(worst)} ms`, verdict(worst <= bars.latency)],
      [
        `idle: ${count('hosts')} hosts, ${count('images')} images, ${grouped(fleet['queues'] ?? 0)} queues`,
        `${bars.cpu} % of a Redis core`,
        `${figure(cpu)} %, ${figure(fleet['connectionsPerHost'] ?? 0)} connections a host`,
        verdict(cpu <= bars.cpu),
      ],
    ]),
    '',
  ];
}

function grouped(value: number): string {
  return value.toLocaleString('en');
}
