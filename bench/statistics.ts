/** Medians with their range: means hide a machine that was busy for a moment. */

/** @throws {RangeError} of nothing */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, high] = [sorted[Math.ceil(sorted.length / 2) - 1], sorted[Math.floor(sorted.length / 2)]];
  if (low === undefined || high === undefined) throw new RangeError('no values');
  return (low + high) / 2;
}

/** The value that so many percent do not exceed. @throws {RangeError} of nothing */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const found = sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * percent) / 100) - 1)];
  if (found === undefined) throw new RangeError('no values');
  return found;
}

/** Three figures: `2.41`, `24.1`, `241`, `2,413`. */
export function figure(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en');
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** `132 (128-140)` */
export function spread(values: readonly number[]): string {
  if (values.length < 2) return figure(median(values));
  return `${figure(median(values))} (${figure(Math.min(...values))}-${figure(Math.max(...values))})`;
}

/** How many times the first is the second: `0.11`. */
export function ratio(ours: readonly number[], theirs: readonly number[]): string {
  const value = median(ours) / median(theirs);
  return value >= 10 ? value.toFixed(0) : value.toFixed(2);
}
