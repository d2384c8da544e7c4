/** Ages as people write them: `12h`, `30m`, `2d`, `45s`. */

const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

export const durationExpected = 'expected a number and its unit, as in 45s, 30m, 12h, 2d';

/** In seconds; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  const [, count, unit = ''] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  return count === undefined ? undefined : Number(count) * (units[unit] ?? 1);
}
