import { expect, test } from 'vitest';
import {
  installedBytes,
  manifestArguments,
  manifestOf,
  packageChanges,
  packageCount,
  versionIn,
} from '../../../src/golden/manifest.ts';

test('the arguments are those of dpkg-query(1)', () => {
  expect(manifestArguments).toEqual([
    '--show',
    `--showformat=${['db:Status-Status', 'Package', 'Version', 'Architecture', 'Installed-Size'].map((f) => `\${${f}}`).join(String.raw`\t`)}\\n`,
  ]);
});

test('what is left of removed packages does not count', () => {
  const output =
    'installed\tzlib1g\t1:1.2\tamd64\t160\nconfig-files\tvim\t9\tamd64\t7\nunpacked\tapt\t2.6\tamd64\t40\n';
  const manifest = manifestOf(output);
  expect(manifest).toBe('apt\t2.6\tamd64\t40\nzlib1g\t1:1.2\tamd64\t160\n');
  expect([installedBytes(manifest), installedBytes('a\t1\tall\n')]).toEqual([200 * 1024, undefined]);
  expect([packageCount(manifest), packageCount('')]).toEqual([2, 0]);
  expect([versionIn(manifest, 'zlib1g'), versionIn(manifest, 'zlib')]).toEqual(['1:1.2', undefined]);
});

test('changes are counted by package and architecture', () => {
  const before = 'a\t1\tamd64\na\t1\ti386\nb\t1\tall\nc\t1\tall\n';
  const after = 'a\t2\tamd64\na\t1\ti386\nc\t1\tall\nd\t1\tall\ne\t1\tall\n';
  expect(packageChanges(before, after)).toEqual({ added: 2, removed: 1, changed: 1 });
});
