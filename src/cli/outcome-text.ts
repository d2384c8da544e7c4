/** A finished job in a few lines for people. */
import { generationId } from '../protocol/image.ts';
import type { Outcome } from '../protocol/outcome.ts';
import { pausedText } from '../protocol/paused.ts';
import type { RunDetails } from '../producer/runs.ts';
import { duration } from './print.ts';

export function describeOutcome(runId: string, outcome: Outcome, output: string | undefined): string[] {
  const total = outcome.steps.reduce((sum, { seconds }) => sum + seconds, 0);
  const steps = outcome.steps.map(({ name, seconds }) => `${name} ${duration(seconds)}`).join(' · ');
  return [
    `  ${steps}`,
    `  ${generationText(outcome)}on ${outcome.host} (${outcome.backend})`,
    `${runId} ${verdict(outcome)} in ${duration(total)}${filesText(outcome, output)}`,
  ];
}

function generationText({ generation }: Outcome): string {
  return generation === undefined ? '' : `${generationId(generation)} ${generation.digest.slice(0, 19)} `;
}

function verdict({ result }: Outcome): string {
  if (result.kind !== 'update-golden') return `${result.status} (exit ${result.exitCode})`;
  if (result.status === 'failed') return `failed, generation ${result.before} stays: ${result.reason ?? 'see the log'}`;
  if (result.status === 'unchanged') return `unchanged, generation ${result.before} is up to date`;
  const { added, removed, changed } = result.packages;
  const digest = result.digest === undefined ? '' : ` ${result.digest.slice(0, 19)}`;
  return `published ${result.before} -> ${result.after}${digest} (+${added} -${removed} ~${changed})`;
}

function filesText({ artifacts, more }: Outcome, output: string | undefined): string {
  if (artifacts.length === 0) return '';
  const changes = artifacts.find((name) => name.endsWith('.changes'));
  const count = artifacts.length + more;
  const what = `${changes === undefined ? '' : `${changes}  `}${count} ${count === 1 ? 'file' : 'files'}`;
  return `   ${what}${output === undefined ? '' : ` -> ${output}`}`;
}

/** What a job that is held back waits for; undefined when it is not. */
export function describeWait({ waits, parked }: Pick<RunDetails, 'waits' | 'parked'>, now: number): string | undefined {
  if (parked !== undefined) return `${pausedText(parked)} is paused`;
  if (waits === undefined) return undefined;
  return `waits for update-golden ${waits.run} of ${waits.image}, ${duration((now - waits.since) / 1000)}`;
}
