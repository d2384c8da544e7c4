/** What a root must pass, in a testbed on it, before it may become a generation; and what it says about itself. */
import { run, TooMuchOutput, type Finished, type RunOptions } from '../exec/run.ts';
import { TestbedError } from '../protocol/errors.ts';
import { GoldenRefusal, type Argv } from '../protocol/testbed.ts';
import { manifestArguments, manifestOf } from './manifest.ts';
import { together } from './together.ts';

export const noAptCheck = 'apt-get check: not run (no apt in it)';

/** @returns the names of the checks @throws {GoldenRefusal} `commit-failed` naming the first that failed, and why */
export async function verifyInside(auxverb: Argv, signal: AbortSignal): Promise<string[]> {
  // together: neither changes what the other reads
  const [audit, check] = await together([
    runInside(auxverb, ['/usr/bin/dpkg', '--audit'], signal),
    runInside(auxverb, ['/usr/bin/apt-get', 'check'], signal),
  ]);
  if (audit.code !== 0 || audit.stdout.trim() !== '') throw failed('dpkg --audit', audit);
  if (check.code !== 0) {
    if (await isWithoutApt(auxverb, signal)) return ['dpkg --audit', noAptCheck];
    throw failed('apt-get check', check);
  }
  return ['dpkg --audit', 'apt-get check'];
}

async function isWithoutApt(auxverb: Argv, signal: AbortSignal): Promise<boolean> {
  const { code } = await runInside(auxverb, ['/usr/bin/test', '!', '-e', '/usr/bin/apt-get'], signal);
  return code === 0;
}

/** Its installed packages (manifest.ts). */
export async function manifestInside(auxverb: Argv, signal: AbortSignal): Promise<string> {
  return manifestOf(await outputOf(auxverb, ['/usr/bin/dpkg-query', ...manifestArguments], signal));
}

/** The package indexes that its apt uses, by line `URI RELEASE COMPONENT`, without user names and passwords; none without apt. */
export async function sourcesInside(auxverb: Argv, signal: AbortSignal): Promise<string[]> {
  const format = '$(REPO_URI) $(RELEASE) $(COMPONENT)';
  const argv: Argv = ['/usr/bin/apt-get', 'indextargets', '--format', format, 'Created-By: Packages'];
  const listed = await runInside(auxverb, argv, signal);
  if (listed.code !== 0) {
    if (await isWithoutApt(auxverb, signal)) return [];
    throw failed('apt-get indextargets', listed);
  }
  const lines = listed.stdout.split('\n').filter((line) => line !== '');
  return [...new Set(lines.map((line) => line.replace(/\/\/[^/@ ]*@/, '//')))];
}

/** What programs of an image, whatever a package has put in their place, may say and how long a daemon may hold their output. */
const bounds = { atMost: 64 * 1024 * 1024, lingers: 5_000 } as const;

/**
 * Runs a command through an execute command. @throws {TestbedError} when the testbed is lost: 254 and 255 are never a
 * command's own (README.virtualisation-server); {GoldenRefusal} it says far too much
 */
export async function runInside(
  auxverb: Argv,
  argv: Argv,
  signal: AbortSignal,
  options: Pick<RunOptions, 'keep' | 'atMost' | 'onOutput'> = {},
): Promise<Finished> {
  const finished = await run([...auxverb, ...argv], { ...bounds, ...options, signal }).catch((error: unknown) => {
    if (!(error instanceof TooMuchOutput)) throw error;
    throw new GoldenRefusal('commit-failed', `${argv.slice(0, 2).join(' ')} says too much`, { cause: error });
  });
  if (finished.code === 254 || finished.code === 255) {
    const why = finished.stderr.trim().split('\n').at(-1) ?? '';
    throw new TestbedError('run', 'adt-virt', `the testbed was lost during ${argv.slice(0, 2).join(' ')}: ${why}`);
  }
  return finished;
}

/** @param atMost bytes */
export async function outputOf(
  auxverb: Argv,
  argv: Argv,
  signal: AbortSignal,
  atMost: number = bounds.atMost,
): Promise<string> {
  const finished = await runInside(auxverb, argv, signal, { atMost });
  if (finished.code !== 0) throw failed(argv.slice(0, 2).join(' '), finished);
  return finished.stdout;
}

function failed(check: string, { code, stdout, stderr }: Finished): GoldenRefusal {
  const said = (stderr.trim() || stdout.trim()).split('\n').at(0) ?? '';
  return new GoldenRefusal('commit-failed', `${check} failed (exit ${code}): ${said}`);
}
