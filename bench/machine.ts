/** The machine, in the lines that a reader needs to compare it with theirs. */
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { run } from '../src/exec/run.ts';

export async function describeMachine(signal: AbortSignal): Promise<string[]> {
  const model = /^model name\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown processor';
  const system = /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown system';
  const packages = ['autopkgtest', 'sbuild', 'schroot', 'mmdebstrap', 'util-linux', 'perl'];
  const versions = await run(['dpkg-query', '--show', '--showformat=${Package} ${Version}\n', ...packages], { signal });
  return [
    `${cpus().length} x ${model}, ${Math.round(totalmem() / 1e9)} GB`,
    `${system}, Linux ${release()}, Node ${process.versions.node}`,
    versions.stdout.trim().split('\n').join(', '),
    'ext4 in a sparse file on a loop device, made for the run',
  ];
}
