/**
 * Prints `N passed, N failed, N skipped` over the results of several vitest runs (its JSON reporter).
 *
 *   test-summary.mjs FOLDER RUN... [-- FAILED-CHECK...]
 *
 * A run without a result file, a test file that could not be loaded, an error outside of any test and a failed check
 * count as one failed test each, so that the line never says "0 failed" when something failed.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

const [folder = '.', ...words] = process.argv.slice(2);
const end = words.includes('--') ? words.indexOf('--') : words.length;
const sum = { passed: 0, failed: words.slice(end + 1).length, skipped: 0 };

for (const name of words.slice(0, end)) {
  const run = countRun(path.join(folder, `${name}.json`));
  sum.passed += run.passed;
  sum.failed += run.failed;
  sum.skipped += run.skipped;
}
console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);

function countRun(file) {
  if (!existsSync(file)) return { passed: 0, failed: 1, skipped: 0 };
  const result = JSON.parse(readFileSync(file, 'utf8'));
  const tests = result.testResults.flatMap((testFile) => testFile.assertionResults);
  const count = (...statuses) => tests.filter(({ status }) => statuses.includes(status)).length;
  const unloaded = result.testResults.filter(isUnloaded).length;
  const failed = count('failed') + unloaded;
  return {
    passed: count('passed'),
    failed: failed === 0 && !result.success ? 1 : failed,
    skipped: count('skipped', 'pending', 'todo', 'disabled'),
  };
}

function isUnloaded({ status, assertionResults }) {
  return status === 'failed' && !assertionResults.some((test) => test.status === 'failed');
}
