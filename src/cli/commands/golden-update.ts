/**
 * `goldbed golden-update IMAGE -- COMMAND...`: an update by somebody else's program, such as sbuild-update, with an honest
 * end. The session is ours; the program reaches it through a configuration made for it. What it leaves is published only
 * if its commands went well and it ended with 0.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { Command } from 'commander';
import { nativeBackends } from '../../backends/index.ts';
import { keepFor, verifyFor } from '../../config/policy.ts';
import { packageFile } from '../../exec/package-file.ts';
import { signalNumber } from '../../exec/run.ts';
import { userName } from '../../exec/user-name.ts';
import { bridge, collectOld, imageSource, readHead, type Bridge, type Verdict } from '../../golden/index.ts';
import { listen } from '../../protocol/adt-virt/attach.ts';
import { startInProcess } from '../../protocol/adt-virt/pair.ts';
import { exitCodes, UnavailableError, UsageError } from '../../protocol/errors.ts';
import type { GenerationRef } from '../../protocol/image.ts';
import type { TestbedSource } from '../../protocol/testbed.ts';
import { makeContext, type Context, type GlobalFlags } from '../context.ts';
import { flattenLater } from '../flattening.ts';
import { commandLeases } from '../leases.ts';
import { json, out, progress } from '../print.ts';
import { stopSignal } from './image-words.ts';
import { configWith, serverLines } from '../sbuild-config.ts';
import { canaryNotRun, noteBridged } from '../write-notes.ts';

type Flags = GlobalFlags & { readonly backend: string; readonly json?: boolean; readonly lockWait: string };

/** What came of the program and of its session. */
interface End {
  readonly code: number;
  readonly verdict: Verdict;
  readonly published: GenerationRef | undefined;
}

export function goldenUpdateCommand(exit: (code: number) => void): Command {
  return new Command('golden-update')
    .description('run an update program, such as sbuild-update, on an image; publish what went well')
    .argument('IMAGE')
    .argument('COMMAND...', 'the program and its arguments, after --')
    .option('--backend <NAME>', 'backend of the testbed', 'overlay')
    .option('--lock-wait <SECONDS>', 'how long to wait for another writer', '30')
    .option('--json', 'print one JSON document')
    .action(async (image: string, words: string[], _: unknown, command: Command) => {
      const flags = command.optsWithGlobals<Flags>();
      const end = await update(makeContext(flags), image, words, flags);
      const { verdict, published } = end;
      if (flags.json === true) json({ image, exitCode: end.code, ...verdict, ...(published ? { published } : {}) });
      else if (verdict.status !== 'discarded')
        out(`${image}: ${verdict.status}${published ? ` as generation ${published.generation}` : ''}`);
      if (end.code !== 0) exit(end.code);
      else exit(verdict.status === 'discarded' ? 1 : 0);
    });
}

async function update(context: Context, image: string, words: readonly string[], flags: Flags): Promise<End> {
  const { settings, state } = context;
  await readHead(state, image); // an unknown image is told before anything is made
  const stop = new AbortController();
  let published: GenerationRef | undefined;
  const source = await writable(context, image, flags, (ref) => (published = ref));
  const folder = await mkdtemp(path.join(tmpdir(), 'goldbed-update-'));
  const who = { store: state, image, by: userName() };
  await using session = bridge(source, 'stage', progress, (ended) => noteBridged(who, ended));
  const channel = startInProcess(session.source, { copyTimeout: 300, log: progress, signal: stop.signal });
  const socket = path.join(folder, 'session');
  const listener = await listen(socket, channel, { onCommand: () => {}, onReply: () => {} });
  try {
    const config = path.join(folder, 'sbuildrc');
    const person = process.env['SBUILD_CONFIG'] ?? path.join(process.env['HOME'] ?? '/', '.sbuildrc');
    const lines = serverLines(packageFile('bin/goldbed-virt'), ['attach', socket]);
    await writeFile(config, await configWith(person, lines), { mode: 0o600 });
    const code = await runProgram(words, { ...process.env, SBUILD_CONFIG: config }, flags.json === true);
    stopSignal(stop); // from here on signals are for us
    channel.terminate();
    await channel.exited;
    const verdict = code === 0 ? await session.publish(stop.signal) : await refused(session, code, stop.signal);
    if (published !== undefined) {
      const keep = keepFor(settings.images, image);
      await collectOld(state, image, { keep, signal: stop.signal }, (line) => progress(`goldbed: ${line}`));
      await flattenLater(context, [image]);
    }
    return { code, verdict, published };
  } finally {
    await listener[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  }
}

async function writable(
  { settings, state }: Context,
  image: string,
  flags: Flags,
  onPublished: (ref: GenerationRef) => void,
): Promise<TestbedSource> {
  const backend = nativeBackends(state, settings).find(({ name }) => name === flags.backend);
  if (backend === undefined) throw new UsageError('--backend', `--backend: there is no backend ${flags.backend}`);
  const missing = (await backend.unavailable()) ?? (await backend.cannotKeep?.());
  if (missing !== undefined) throw new UnavailableError(missing);
  const leases = commandLeases(state, userName(), flags.lockWait);
  const sessionId = randomUUID().replaceAll('-', '');
  const who = { by: userName(), what: 'golden-update' };
  const verify = verifyFor(settings.images.policy, image);
  const notRun = () => canaryNotRun(settings.images.policy[image]?.canary, 'golden-update');
  return imageSource({ store: state, image, backend, leases, sessionId, who, onPublished, notRun, ...verify });
}

/** On our terminal. Signals are its own to end by: sbuild-update closes its session then. @returns as a shell would tell */
async function runProgram(
  [program = '', ...args]: readonly string[],
  env: NodeJS.ProcessEnv,
  asJson: boolean,
): Promise<number> {
  // standard output is for the one document
  const child = spawn(program, args, { stdio: ['inherit', asJson ? 2 : 'inherit', 'inherit'], env });
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  let interrupted = 0;
  const listeners = signals.map((signal) => {
    const listener = (): void => {
      interrupted ||= 128 + signalNumber(signal);
      pass(signal);
    };
    process.on(signal, listener);
    return () => process.off(signal, listener);
  });
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', (error: NodeJS.ErrnoException) =>
        reject(error.code === 'ENOENT' ? new UsageError(program, `${program}: not found`) : error),
      );
      child.once('exit', (status, signal) => resolve(status ?? 128 + signalNumber(signal)));
    });
    return interrupted === 0 ? code : exitCodes.interrupted;
  } finally {
    for (const remove of listeners) remove();
  }
}

async function refused(session: Bridge, code: number, signal: AbortSignal): Promise<Verdict> {
  const reason = `the program ended with ${code}`;
  if (code !== exitCodes.interrupted) return session.refuse(reason, signal);
  progress(`goldbed: nothing was published: ${reason}`); // somebody wanted that: no failure of the image's
  return { status: 'discarded', reason };
}
