/** Labels: what a job belongs to, in the words of whoever hands it in (a campaign, a transition, a person). */
import * as z from 'zod';
import { UsageError } from './errors.ts';

/** Becomes a part of a key in Redis. */
export const labelSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:+@-]{0,63}$/, 'expected up to 64 letters, digits and . _ : + @ -');

/** Of one job. */
export const mostLabels = 16;

/** Sorted, each once. @throws {UsageError} */
export function checkedLabels(words: readonly string[]): string[] {
  const labels = [...new Set(words)].toSorted();
  if (labels.length > mostLabels) throw new UsageError('--label', `--label: at most ${mostLabels} labels a job`);
  for (const label of labels) {
    const [issue] = labelSchema.safeParse(label).error?.issues ?? [];
    if (issue !== undefined) throw new UsageError('--label', `--label: ${issue.message}; found "${label}"`);
  }
  return labels;
}

/** As a run's hash keeps them; a label has no blank. */
export function labelsOf(text: string | null | undefined): string[] {
  return (text ?? '').split(' ').filter(Boolean);
}
