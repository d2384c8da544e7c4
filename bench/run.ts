/**
 * `npm run bench`: goldbed and the stock servers side by side. Works in a mount namespace and a temporary folder of its
 * own: nothing of the host is changed, and mounts, loop device and daemon go with our processes, whatever ended them. Only a
 * SIGKILL of the outer process leaves something, the folder.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseOptions, usage } from './options.ts';
import { readResults } from './results.ts';
import { writeReport } from './write-report.ts';

const insideVariable = 'GOLDBED_BENCH_FOLDER';

const folder = process.env[insideVariable];
if (folder === undefined) outside();
else await (await import('./inside.ts')).inside(folder, parseOptions(process.argv.slice(2)));

function outside(): void {
  const args = process.argv.slice(2);
  if (args.includes('--help')) {
    process.stdout.write(usage);
    return;
  }
  try {
    if (parseOptions(args).report) return writeReport(readResults());
  } catch (error) {
    fail(`${error instanceof Error ? error.message : String(error)}\n${usage}`, 64);
  }
  if (process.getuid?.() !== 0) fail('needs root: for mounts, schroot and a docker daemon\n', 69);
  startInside(mkdtempSync(path.join(tmpdir(), 'goldbed-bench-')), args);
}

function startInside(made: string, args: readonly string[]): void {
  const script = process.argv[1] ?? '';
  const self = [process.execPath, ...process.execArgv, script, ...args];
  const argv = ['--pdeathsig', 'TERM', '--', 'unshare', '--mount', '--propagation', 'private', '--', ...self];
  const child = spawn('setpriv', argv, { stdio: 'inherit', env: { ...process.env, [insideVariable]: made } });
  process.on('SIGINT', () => {}); // ^C reaches the child as well: it ends when it has cleaned up
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void child.kill(signal));
  child.once('error', (error) => {
    rmSync(made, { recursive: true, force: true });
    fail(`${error.message}\n`, 70);
  });
  child.once('exit', (code) => {
    rmSync(made, { recursive: true, force: true }); // its mounts were in the child's namespace only
    process.exitCode = code ?? 130;
  });
}

function fail(message: string, code: number): never {
  process.stderr.write(`bench: ${message}`);
  process.exit(code);
}
