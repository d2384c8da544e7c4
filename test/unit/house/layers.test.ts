/** What the linter cannot see of the house rules: that its list of folders is complete, and what it has no rule for. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';

const root = path.resolve(import.meta.dirname, '../../..');
const src = path.join(root, 'src');

it('has an import rule in .oxlintrc.json for every folder of src but the root, cli', () => {
  const rules = readFileSync(path.join(root, '.oxlintrc.json'), 'utf8');
  const forgotten = folders().filter((name) => name !== 'cli' && !rules.includes(`"src/${name}/**"`));
  expect(forgotten).toEqual([]);
});

it('has no folder whose name says nothing about its content', () => {
  const vague = ['common', 'helpers', 'interfaces', 'lib', 'misc', 'shared', 'types', 'util', 'utils'];
  expect(folders().filter((name) => vague.includes(name))).toEqual([]);
});

it('lets only src/cli import the process: the linter bans its properties, not its other names', () => {
  const importing = sources().filter((file) =>
    /from '(?:node:)?process'|globalThis\.process/.test(readFileSync(path.join(src, file), 'utf8')),
  );
  expect(importing.filter((file) => !file.startsWith('cli/'))).toEqual([]);
});

function folders(): string[] {
  const entries = readdirSync(src, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

/** Relative to src. */
function sources(): string[] {
  return readdirSync(src, { encoding: 'utf8', recursive: true }).filter((file) => file.endsWith('.ts'));
}
