/**
 * A reporter of vitest: what test-summary.mjs needs of one run, as JSON in the file that GOLDBED_TEST_RESULT names:
 * `{failures: string[], files: {name, seconds}[], passed, skipped}`. Vitest's own JSON reporter leaves out what a
 * beforeAll or afterAll failed of.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';

export default class SummaryReporter {
  onTestRunEnd(modules, unhandled, reason) {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const count = (state) => tests.filter((test) => test.result().state === state).length;
    const result = {
      failures: [
        ...modules.flatMap(failuresOf),
        ...unhandled.map((error) => `outside of any test: ${brief(error.message)}`),
      ],
      files: modules.map((module) => ({
        name: path.basename(module.moduleId, '.test.ts'),
        seconds: Math.round(module.diagnostic().duration / 1000),
      })),
      passed: count('passed'),
      skipped: count('skipped') + count('pending'),
    };
    if (reason !== 'passed' && result.failures.length === 0) result.failures.push(`the run was ${reason}`);
    writeFileSync(process.env['GOLDBED_TEST_RESULT'], JSON.stringify(result));
  }
}

/** Of the file itself, of its suites (their hooks), of its tests: a line each. */
function failuresOf(module) {
  const name = path.relative('test', module.moduleId);
  const of = (where, errors) => errors.map(({ message }) => `${where}: ${brief(message)}`);
  return [
    ...of(name, module.errors()),
    ...[...module.children.allSuites()].flatMap((suite) => of(`${name} > ${suite.fullName}`, suite.errors())),
    ...[...module.children.allTests('failed')].map((test) => {
      const [first] = test.result().errors;
      return `${name} > ${test.fullName}: ${brief(first?.message)}`;
    }),
  ];
}

/** The message's first line: the whole is above. */
function brief(message = '') {
  return stripVTControlCharacters(message).trim().split('\n', 1)[0].slice(0, 300);
}
