/**
 * Prints what failed, the slowest files and `N passed, N failed, N skipped` over the results of several vitest runs
 * (test-reporter.mjs). It comes last, because the end of a log is what is kept of it.
 *
 *   test-summary.mjs FOLDER RUN... [-- FAILED-CHECK...]
 *
 * A run without a result file, a test file that could not be loaded, a failed hook, an error outside of any test and a
 * failed check count as one failed test each, so that the line never says "0 failed" when something failed.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

const slowest = 12;
const [folder = '.', ...words] = process.argv.slice(2);
const end = words.includes('--') ? words.indexOf('--') : words.length;
const runs = words.slice(0, end).map(readRun);
const sum = (of) => runs.reduce((total, run) => total + run[of], 0);
const failures = [...words.slice(end + 1).map((name) => `check ${name}`), ...runs.flatMap((run) => run.failures)];
const files = runs.flatMap((run) => run.files).toSorted((a, b) => b.seconds - a.seconds);

const times = files.slice(0, slowest).map(({ name, seconds }) => `${name} ${seconds} s`);
console.log(`slowest: ${times.join(', ')}`);
for (const failure of failures) console.log(`FAILED ${failure}`);
console.log(`${sum('passed')} passed, ${failures.length} failed, ${sum('skipped')} skipped`);

function readRun(name) {
  const file = path.join(folder, `${name}.json`);
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8'));
  return { failures: [`run ${name}: it has left no result`], files: [], passed: 0, skipped: 0 };
}
