/** Asking a mirror whether it has a suite, with the host's own apt and its configuration, in a throw-away apt state. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { run } from '../exec/run.ts';
import { TestbedError, UsageError } from '../protocol/errors.ts';
import { together } from './together.ts';
import { sourcesList, type Source, type SourceCandidate } from './apt-sources.ts';

/**
 * Those of the candidates that exist, all asked at a time. One InRelease file each is fetched, no package list.
 * @throws {UsageError} when the mirror does not know the suite itself; {TestbedError} when it cannot be asked
 */
export async function existingSources(
  suite: string,
  candidates: readonly SourceCandidate[],
  options: string,
  signal: AbortSignal,
): Promise<Source[]> {
  const found: Source[] = [];
  const answers = await together(candidates.map((candidate) => probe(candidate, options, signal)));
  for (const [index, candidate] of candidates.entries()) {
    const answer = answers[index];
    if (answer === 'there') found.push(candidate);
    else if (answer === 'missing' && candidate.needed) {
      throw new UsageError(suite, `unknown suite ${suite}: ${candidate.uri} does not have ${candidate.release}`);
    } else if (answer !== 'missing') {
      throw new TestbedError('start', 'apt-get', `cannot ask ${candidate.uri} for ${candidate.release}: ${answer}`);
    }
  }
  return found;
}

/** `there`, `missing`, or what apt complains about. */
async function probe(source: Source, options: string, signal: AbortSignal): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'goldbed-apt-'));
  try {
    await writeFile(path.join(folder, 'sources.list'), sourcesList([source], ['deb'], options));
    for (const name of ['lists/partial', 'cache/archives/partial']) {
      await mkdir(path.join(folder, name), { recursive: true });
    }
    const settings = {
      'Dir::Etc::SourceList': path.join(folder, 'sources.list'),
      'Dir::Etc::SourceParts': '/dev/null',
      'Dir::State::Lists': path.join(folder, 'lists'),
      'Dir::Cache': path.join(folder, 'cache'),
      'APT::Sandbox::User': 'root', // _apt cannot enter our folder
      'APT::Update::Error-Mode': 'any',
      'Acquire::IndexTargets::deb::Packages::DefaultEnabled': 'false',
      'Acquire::Languages': 'none',
    };
    const flags = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
    const { code, stdout, stderr } = await run(['/usr/bin/apt-get', 'update', ...flags], { signal });
    if (code === 0) return 'there';
    if (/^\s+(404\s|File not found)/m.test(stdout)) return 'missing';
    return /^E: (.*)$/m.exec(stderr)?.[1] ?? `apt-get update ended with ${code}`;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
