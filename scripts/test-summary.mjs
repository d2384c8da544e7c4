/**
 * Prints what failed, the slowest files and `N passed, N failed, N skipped` over the results of several vitest runs (its JSON
 * reporter). It comes last, because the end of a log is what is kept of it.
 *
 *   test-summary.mjs FOLDER RUN... [-- FAILED-CHECK...]
 *
 * A run without a result file, a test file that could not be loaded, an error outside of any test and a failed check
 * count as one failed test each, so that the line never says "0 failed" when something failed.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const slowest = 12;
const [folder = '.', ...words] = process.argv.slice(2);
const end = words.includes('--') ? words.indexOf('--') : words.length;
const failures = words.slice(end + 1).map((name) => `check ${name}`);
const files = [];
const sum = { passed: 0, skipped: 0 };

for (const name of words.slice(0, end)) readRun(name);
files.sort((a, b) => b.seconds - a.seconds);
console.log(
  `slowest: ${files
    .slice(0, slowest)
    .map(({ name, seconds }) => `${name} ${seconds} s`)
    .join(', ')}`,
);
for (const failure of failures) console.log(`FAILED ${failure}`);
console.log(`${sum.passed} passed, ${failures.length} failed, ${sum.skipped} skipped`);

function readRun(name) {
  const file = path.join(folder, `${name}.json`);
  if (!existsSync(file)) return void failures.push(`run ${name}: it has left no result`);
  const result = JSON.parse(readFileSync(file, 'utf8'));
  const before = failures.length;
  for (const testFile of result.testResults) readFile(testFile);
  if (failures.length === before && !result.success) failures.push(`run ${name}: an error outside of any test`);
}

function readFile({ name: file, status, message, startTime, endTime, assertionResults }) {
  const name = path.relative('test', file);
  files.push({ name: path.basename(name, '.test.ts'), seconds: Math.round((endTime - startTime) / 1000) });
  const failed = assertionResults.filter((test) => test.status === 'failed');
  for (const test of failed) failures.push(`${name} > ${test.fullName}: ${brief(test.failureMessages[0])}`);
  if (status === 'failed' && failed.length === 0) failures.push(`${name}: ${brief(message)}`);
  sum.passed += assertionResults.filter((test) => test.status === 'passed').length;
  sum.skipped += assertionResults.filter((test) =>
    ['skipped', 'pending', 'todo', 'disabled'].includes(test.status),
  ).length;
}

/** The message's first line: the whole is above. */
function brief(message = '') {
  return stripVTControlCharacters(message).trim().split('\n', 1)[0].slice(0, 300);
}
