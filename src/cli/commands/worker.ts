/**
 * `goldbed worker`: runs jobs until SIGTERM, which drains; a second signal gives the running jobs back. SIGHUP puts another
 * process in charge, with the program and the configuration as they are on disk then; the running jobs go on.
 */
import { Command } from 'commander';
import { maxSlots } from '../../config/load.ts';
import { identityOf } from '../../exec/process-identity.ts';
import { UsageError } from '../../protocol/errors.ts';
import type { Resources } from '../../protocol/size.ts';
import type { Log } from '../../worker/handle.ts';
import { journalFolder } from '../../worker/journal.ts';
import { leaveRestartNote } from '../../worker/restart-note.ts';
import { workerCapacity } from '../capacity.ts';
import { makeContext, type Context, type GlobalFlags } from '../context.ts';
import { progress } from '../print.ts';
import type { RunningWorker } from '../run-worker.ts';
import { succeedsVariable, Successors, type Said } from '../successors.ts';
import { workerRestartCommand } from './worker-restart.ts';

type Flags = GlobalFlags & { readonly slots?: string };

export function workerCommand(exit: (code: number) => void): Command {
  return new Command('worker')
    .description('claim jobs from Redis and run them on this host')
    .option('--slots <N>', 'jobs of size m at a time; wins over worker.capacity')
    .addHelpText('after', signalsHelp)
    .addCommand(workerRestartCommand())
    .action(async (_: unknown, command: Command) => {
      const flags = command.optsWithGlobals<Flags>();
      const context = makeContext(flags);
      const slots = flags.slots === undefined ? undefined : slotCount(flags.slots);
      const signals = new Signals();
      const capacity = await workerCapacity(context, slots);
      const log = await logger(context.settings.worker);
      const { [succeedsVariable]: succeeds } = process.env;
      if (succeeds === undefined) exit(await runMain(context, { capacity, log }, signals));
      else exit(await runSuccessor(context, { capacity, log, succeeds }, signals));
    });
}

const signalsHelp = `
Signals:
  SIGTERM, SIGINT  end when the running jobs have; a second one gives them back to the queue
  SIGHUP           restart: a new process takes over, and the running jobs go on (goldbed worker restart)`;

interface Options {
  readonly capacity: Resources;
  readonly log: Log;
}

async function runMain(context: Context, { capacity, log }: Options, signals: Signals): Promise<number> {
  const { startWorker } = await import('../run-worker.ts');
  const worker = await startWorker(context, { capacity, log, resident: true, main: identityOf() });
  const folder = journalFolder(context.state, worker.incarnation);
  const successors = new Successors({
    incarnation: worker.incarnation,
    log,
    note: (note) => leaveRestartNote(folder, note),
  });
  signals.obeyWith({
    stop: (how, signal) => {
      worker.stop(how);
      successors.pass(signal);
    },
    restart: () => successors.begin(),
    refuse: () => leaveRestartNote(folder, { pid: process.pid, failed: 'it is to end' }),
  });
  return (await worker.finished) === 'ended' ? 0 : successors.ended();
}

/** The main process is its parent: without it, nobody could end this one. */
async function runSuccessor(
  context: Context,
  { capacity, log, succeeds }: Options & { succeeds: string },
  signals: Signals,
): Promise<number> {
  const { startWorker } = await import('../run-worker.ts');
  const say = (said: Said): void => void (process.connected && process.send?.(said));
  const worker = await startWorker(context, { capacity, log, resident: true, succeeds, onPassed: () => say('passed') });
  say('in charge');
  signals.obeyWith({
    stop: (how) => worker.stop(how),
    restart: () => void (process.connected && process.kill(process.ppid, 'SIGHUP')),
    refuse: () => {},
  });
  const orphaned = (): void => worker.stop('now');
  process.once('disconnect', orphaned);
  if (!process.connected) orphaned();
  await worker.finished;
  process.off('disconnect', orphaned);
  if (process.connected) process.disconnect(); // it would keep this process alive
  return 0;
}

interface Obedience {
  readonly stop: (how: Parameters<RunningWorker['stop']>[0], signal: NodeJS.Signals) => void;
  readonly restart: () => void;
  /** To restart: it has been told to end. */
  readonly refuse: () => void;
}

/** Heard from the beginning: one that is told to end while it starts ends cleanly, too. */
class Signals {
  readonly #heard: NodeJS.Signals[] = [];
  #stops = 0;
  #obedience: Obedience | undefined;

  constructor() {
    for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(name, () => this.#hear(name));
  }

  obeyWith(obedience: Obedience): void {
    this.#obedience = obedience;
    for (const signal of this.#heard.splice(0)) this.#obey(signal, obedience);
  }

  #hear(signal: NodeJS.Signals): void {
    if (this.#obedience === undefined) this.#heard.push(signal);
    else this.#obey(signal, this.#obedience);
  }

  #obey(signal: NodeJS.Signals, { stop, restart, refuse }: Obedience): void {
    if (signal === 'SIGHUP') {
      if (this.#stops === 0) return restart();
      progress('SIGHUP: not restarted: the worker is to end');
      return refuse();
    }
    this.#stops += 1;
    const first = this.#stops === 1;
    progress(first ? `${signal}: draining; once more gives the running jobs back` : `${signal}: stopping`);
    stop(first ? 'drain' : 'now', signal);
  }
}

/** Lines for people, or pino's JSON, to standard error. */
async function logger({ log, name }: Context['settings']['worker']): Promise<Log> {
  if (log === 'text') return (line) => progress(line);
  const { default: pino } = await import('pino'); // the bundle has no other export of it
  const json = pino({ base: { host: name, pid: process.pid } }, pino.destination({ dest: 2, sync: true }));
  return (line, details) => json.info(details ?? {}, line);
}

function slotCount(text: string): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) < 1 || Number(text) > maxSlots)
    throw new UsageError('--slots', `--slots: expected 1 to ${maxSlots}, found "${text}"`);
  return Number(text);
}
