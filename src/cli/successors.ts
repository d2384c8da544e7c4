/**
 * The process that an operator started, once SIGHUP has come: it keeps its number, is the parent of whichever process is
 * in charge of the worker, passes signals on to it and ends as it does. The successor asks for the running jobs by itself
 * (worker/succession.ts); if it cannot start, nothing has changed.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { signalNumber } from '../exec/run.ts';
import type { RestartNote } from '../worker/restart-note.ts';

/** Of a successor's environment: the incarnation of the worker that it takes over. */
export const succeedsVariable = 'GOLDBED_WORKER_SUCCEEDS';

/** What a successor says to this process: it has announced itself; it has been succeeded. */
export type Said = 'in charge' | 'passed';

export interface SuccessorsOptions {
  readonly incarnation: string;
  readonly log: (line: string) => void;
  /** What became of a restart. */
  readonly note: (note: RestartNote) => void;
}

export class Successors {
  readonly #options: SuccessorsOptions;
  /** In charge, instead of this process. */
  #current: ChildProcess | undefined;
  /** Not in charge yet. */
  #next: ChildProcess | undefined;
  /** How the last one that was in charge has ended. */
  #code: number | undefined;
  #onEnd: (() => void)[] = [];

  constructor(options: SuccessorsOptions) {
    this.#options = options;
  }

  begin(): void {
    const { incarnation, log } = this.#options;
    if (this.#next !== undefined) return log(`a restart is under way: process ${this.#next.pid}`);
    const [, program = '', ...args] = process.argv;
    const child = fork(program, args, {
      env: { ...process.env, [succeedsVariable]: incarnation },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      detached: true, // ^C at our terminal is for us to pass on
    });
    this.#next = child;
    log(`restarting: process ${child.pid} is to take over`);
    child.on('message', (said: Said) => this.#hear(child, said));
    child.once('error', () => this.#end(child, 1)); // no memory for it, no such program
    child.once('exit', (code, signal) => this.#end(child, code ?? 128 + signalNumber(signal)));
  }

  /** To whoever is in charge, or about to be. */
  pass(signal: NodeJS.Signals): void {
    this.#current?.kill(signal);
    this.#next?.kill(signal);
  }

  /** When the last one has ended; this process is not in charge any more. @returns its exit code, as a shell would say */
  async ended(): Promise<number> {
    while (this.#current !== undefined || this.#next !== undefined) {
      await new Promise<void>((resolve) => this.#onEnd.push(resolve));
    }
    return this.#code ?? 1;
  }

  #hear(child: ChildProcess, said: Said): void {
    const { log, note } = this.#options;
    if (said === 'passed' && child === this.#current) this.#current = undefined; // it has jobs still, but no say
    if (said !== 'in charge' || child !== this.#next || child.pid === undefined) return;
    this.#current = child;
    this.#next = undefined;
    this.#code = undefined;
    log(`restarted: process ${child.pid} has taken over`);
    note({ pid: child.pid });
  }

  #end(child: ChildProcess, code: number): void {
    if (child === this.#current) {
      this.#current = undefined;
      this.#code = code;
    } else if (child === this.#next) {
      this.#next = undefined;
      this.#code ??= code; // it may have been in charge, and died before it could say so
      const failed = `process ${child.pid} ended with ${code} before it was in charge`;
      this.#options.log(`not restarted: ${failed}`);
      this.#options.note({ pid: child.pid ?? 0, failed });
    }
    for (const wake of this.#onEnd.splice(0)) wake();
  }
}
