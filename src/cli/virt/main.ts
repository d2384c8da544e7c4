/** `goldbed-virt BACKEND ARGUMENT...`: an adt-virt server on standard input and output, for stock clients. */
import { messageOf } from '../../protocol/errors.ts';
import { ReaderGone, serve } from '../../protocol/adt-virt/server.ts';
import { externalHelp, externalUsage, runExternal } from './external.ts';
import { virtBackends, type VirtBackend } from './sources.ts';
import { terminalShell } from './terminal-shell.ts';

/** @returns the exit status. Dies by the signal, after cleaning up, when one came. */
export async function virtMain(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  try {
    return await chosen(args, env);
  } catch (error) {
    return fail(messageOf(error)); // a configuration that cannot be read, for one
  }
}

async function chosen(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const golden = args.filter((word) => word.startsWith('--golden'));
  const [name = '', ...rest] = args.filter((word) => !word.startsWith('--golden'));
  const [socketPath] = rest;
  process.stderr.on('error', () => {}); // a log that nobody reads must not keep us from cleaning up
  const backends = virtBackends(env);
  if (name === '--help' || name === '-h') {
    process.stdout.write(await help(backends, env));
    return 0;
  }
  if (name === 'external' && socketPath !== undefined && args.length === 2) return external(socketPath, env);
  const backend = Object.hasOwn(backends, name) ? backends[name] : undefined;
  const unknown = rest.find((word) => word.startsWith('-'));
  if (unknown !== undefined) log(`goldbed-virt: unknown option ${unknown}`);
  if (backend === undefined || golden.length > 1 || unknown !== undefined) return usage(backends);
  if (golden[0] === undefined) return run(backend, rest, backends, env);
  if (golden[0] !== '--golden=commit') {
    log(`goldbed-virt: ${golden[0]}: expected --golden=commit (staging: goldbed golden-update)`);
    return usage(backends);
  }
  return run({ ...backend, source: (words) => backend.bridge(words, log) }, rest, backends, env);
}

/** Ends as the server did. */
async function external(server: string, env: NodeJS.ProcessEnv): Promise<number> {
  const { code, signal } = await runExternal(server, env);
  return signal === null ? (code ?? 1) : dieBy(signal);
}

async function run(
  backend: VirtBackend,
  args: readonly string[],
  backends: Readonly<Record<string, VirtBackend>>,
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const copyTimeout = seconds(env['AUTOPKGTEST_VIRT_COPY_TIMEOUT'] || '300');
  const goldenTimeout = seconds(env['AUTOPKGTEST_VIRT_GOLDEN_TIMEOUT'] || '0');
  if (copyTimeout === undefined) return fail('AUTOPKGTEST_VIRT_COPY_TIMEOUT: expected whole seconds');
  if (goldenTimeout === undefined) return fail('AUTOPKGTEST_VIRT_GOLDEN_TIMEOUT: expected whole seconds');
  const stop = new AbortController();
  let died: NodeJS.Signals | undefined;
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const) {
    process.on(signal, () => {
      died ??= signal;
      stop.abort(new Error(signal));
    });
  }
  try {
    const source = await backend.source(args);
    if (source === undefined) return usage(backends);
    const missing = await backend.unavailable();
    if (missing !== undefined) return fail(missing);
    await using _ = source.prepare?.();
    const io = { input: process.stdin, output: process.stdout, log };
    const shell = terminalShell(log, stop.signal);
    const status = await serve(io, source, { copyTimeout, goldenTimeout, signal: stop.signal, shell });
    // what killed sessions left; last, so that nobody waits for it
    await backend.reap().catch((error: unknown) => log(`goldbed-virt: cannot clean up: ${messageOf(error)}`));
    return status;
  } catch (error) {
    if (died !== undefined) await dieBy(died);
    if (error instanceof ReaderGone) await dieBy('SIGPIPE');
    return fail(messageOf(error));
  }
}

function seconds(text: string): number | undefined {
  const value = Number(text);
  return Number.isInteger(value) && value >= 0 ? value : undefined;
}

/** The signal arrives a moment later: nothing else may end the process meanwhile. */
async function dieBy(signal: NodeJS.Signals): Promise<never> {
  process.on(signal, () => {}); // Node ignores SIGPIPE; a handler that is set and removed leaves the system's default
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  return new Promise<never>(() => void setInterval(() => {}, 1000));
}

function log(line: string): void {
  process.stderr.write(`${line}\n`);
}

function fail(message: string): number {
  log(`goldbed-virt: ${message}`);
  return 1;
}

function usage(backends: Readonly<Record<string, VirtBackend>>): number {
  const own = Object.values(backends).map((backend) => backend.usage);
  const forms = [...own, externalUsage, 'attach SOCKET', '--help'];
  log(forms.map((form, i) => `${i === 0 ? 'usage:' : '      '} goldbed-virt ${form}`).join('\n'));
  return 2;
}

async function help(backends: Readonly<Record<string, VirtBackend>>, env: NodeJS.ProcessEnv): Promise<string> {
  const lines = ['goldbed-virt: an adt-virt server for autopkgtest and sbuild', ''];
  for (const backend of Object.values(backends)) {
    const missing = await backend.unavailable();
    lines.push(`  goldbed-virt ${backend.usage}`, `      ${backend.what} (${missing ?? 'available'})`);
  }
  lines.push(...externalHelp(env));
  lines.push(
    '  goldbed-virt --golden=commit BACKEND IMAGE',
    '      for sbuild-update: publishes at close what went well',
  );
  lines.push('  goldbed-virt attach SOCKET', '      a session that a goldbed worker serves', '');
  return lines.join('\n');
}
