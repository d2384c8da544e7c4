/**
 * Points in time that come again: a cron pattern in a time zone. Checked here, as crontab(5) has it, because every program
 * reads the configuration, and a cron library would cost each of them its start; BullMQ brings the one that computes.
 */

export interface Schedule {
  /** Minute, hour, day of month, month, day of week. */
  readonly cron: string;
  /** A name of the tz database: `Europe/Berlin`, `UTC`. */
  readonly timeZone: string;
}

interface Field {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  /** Stand for numbers from `from` on. */
  readonly words?: readonly string[];
}

const fields: readonly Field[] = [
  { name: 'minute', from: 0, to: 59 },
  { name: 'hour', from: 0, to: 23 },
  { name: 'day of month', from: 1, to: 31 },
  { name: 'month', from: 1, to: 12, words: 'jan feb mar apr may jun jul aug sep oct nov dec'.split(' ') },
  { name: 'day of week', from: 0, to: 7, words: 'sun mon tue wed thu fri sat'.split(' ') },
];

/** What is wrong with it; undefined when nothing is. */
export function cronProblem(cron: string): string | undefined {
  const parts = cron.split(' ').filter((part) => part !== '');
  const wrong = `"${cron}" is not a cron pattern`;
  if (parts.length !== fields.length) return `${wrong}: expected five fields as in crontab(5), like "0 3 * * *"`;
  for (const [index, field] of fields.entries()) {
    const part = parts[index] ?? '';
    const values = part.split(',').map((item) => valuesOf(item, field));
    const expected = `expected ${field.from}-${field.to}, *, ranges, lists or steps`;
    if (values.includes(undefined)) return `${wrong}: "${part}" is no ${field.name}: ${expected}`;
    const all = values.flat();
    if (new Set(all).size < all.length) return `${wrong}: "${part}" has a ${field.name} twice`; // BullMQ's parser says no
  }
  return undefined;
}

/** Of `*`, `5`, `1-5`, each perhaps with a step; undefined for anything else. */
function valuesOf(item: string, field: Field): number[] | undefined {
  const [, range = '', step] = /^([^/]+)(?:\/(\d{1,2}))?$/.exec(item) ?? [];
  if (step !== undefined && Number(step) === 0) return undefined;
  const [first, last, ...more] =
    range === '*' ? [field.from, field.to] : range.split('-').map((word) => numberOf(word, field));
  if (first === undefined || more.length > 0 || (range.includes('-') && last === undefined)) return undefined;
  const end = last ?? (step === undefined ? first : field.to);
  if (end < first) return undefined;
  const count = Math.floor((end - first) / Number(step ?? 1)) + 1;
  const values = Array.from({ length: count }, (_, index) => first + index * Number(step ?? 1));
  return [...new Set(values.map((value) => (field.to === 7 ? value % 7 : value)))]; // Sunday is 0 and 7
}

function numberOf(word: string, { from, to, words = [] }: Field): number | undefined {
  const named = words.indexOf(word.toLowerCase());
  if (named !== -1) return from + named;
  if (!/^\d{1,2}$/.test(word)) return undefined;
  const number = Number(word);
  return number >= from && number <= to ? number : undefined;
}

/** What is wrong with it; undefined when nothing is. */
export function timeZoneProblem(timeZone: string): string | undefined {
  try {
    new Intl.DateTimeFormat('en', { timeZone }).format();
    if (/^[A-Za-z]/.test(timeZone)) return undefined; // an offset knows no daylight saving time
  } catch {
    // told below
  }
  return `unknown time zone "${timeZone}": expected a name like Europe/Berlin or UTC`;
}

/** The zone of this host. */
export function hostTimeZone(): string {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone;
}
