/** Sections of logs, however they come in pieces. */
import { expect, test } from 'vitest';
import { LogSection } from '../../../src/cli/log-section.ts';

const sbuild = `sbuild (Debian sbuild) 0.85.0

+------------------------------------------------------------------------------+
| Build environment                                                            |
+------------------------------------------------------------------------------+

Kernel: Linux
+------------------------------------------------------------------------------+
| Build                                                                        |
+------------------------------------------------------------------------------+

dpkg-buildpackage
caf\xe9
| Build   |
+------------------------------------------------------------------------------+
| Summary                                                                      |
+------------------------------------------------------------------------------+

Status: successful`;
const autopkgtest = `autopkgtest [10:00:00]: @@@@@@@@@@@@@@@@@@@@ test bed setup
Get:1 x
autopkgtest [10:00:01]: test smoke: preparing testbed
deps
autopkgtest [10:00:02]: test smoke: [-----------------------
ok
autopkgtest [10:00:03]: test other: preparing testbed
autopkgtest [10:00:04]: @@@@@@@@@@@@@@@@@@@@ summary
smoke PASS
`;
const update = '\ngoldbed: update\nHit:1 x\n\ngoldbed: dist-upgrade, autoremove\n0 upgraded\n\ngoldbed: commit\n';

function shown(log: string, title: string, piece = log.length): LogSection & { text: string } {
  const section = new LogSection(title);
  let text = '';
  for (let at = 0; at < log.length; at += piece) text += section.feed(log.slice(at, at + piece));
  return Object.assign(section, { text: text + section.end() });
}

test.each([1, 7, 10_000])('in pieces of %i', (piece) => {
  expect(shown(sbuild, 'summary', piece).text).toMatch(/^\| Summary +\|\n\nStatus: successful\n$/);
  expect(shown(autopkgtest, 'test smoke', piece).text).toMatch(/^autopkgtest .*testbed\ndeps\n.*\[-+\nok\n$/);
  expect(shown(update, 'dist-upgrade', piece).text).toBe('goldbed: dist-upgrade, autoremove\n0 upgraded\n\n');
});

test('a title is meant as a whole, in any case', () => {
  expect(shown(sbuild, 'Build').text).toContain('dpkg-buildpackage\ncaf\xe9\n');
  expect(shown(sbuild, 'Build').text).not.toContain('Kernel');
  expect(shown(sbuild, 'build environment').text).toContain('Kernel: Linux\n');
});

test('what is not there is known by what is', () => {
  const { found, titles, text } = shown(sbuild, 'Lintian');
  expect([found, text, titles]).toEqual([false, '', ['Build environment', 'Build', 'Summary']]);
});
