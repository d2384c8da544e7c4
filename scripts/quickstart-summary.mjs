/**
 * The table at the end of scripts/quickstart, and its exit code: 0 when all three jobs ended well, else 1.
 *
 *   quickstart-summary.mjs FOLDER IMAGE
 *
 * FOLDER holds build.json, test.json and update.json as `goldbed ... --wait --json` printed them; one that is not there
 * was not run.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

const [folder = '.', image = ''] = process.argv.slice(2);
const good = { build: ['successful'], test: ['pass', 'neutral'], update: ['published', 'unchanged'] };

const rows = Object.keys(good).map((name) => row(name, read(name)));
const table = [['JOB', 'WHAT', 'VERDICT', 'EXIT', 'TIME', 'IMAGE', 'ID'], ...rows.map(({ cells }) => cells)];
const widths = table[0].map((_, column) => Math.max(...table.map((cells) => cells[column].length)));
const lines = table.map((cells) => cells.map((cell, column) => cell.padEnd(widths[column])).join('  '));

console.log(`\n${lines.map((line) => `  ${line.trimEnd()}`).join('\n')}\n`);
for (const { name, steps } of rows) if (steps !== '') console.log(`  ${name.padEnd(6)}  ${steps}`);
console.log(`\n  output: ${folder}\n`);
const build = rows.find(({ name, id }) => name === 'build' && id !== '');
const further = [
  [`bin/goldbed image show ${image}`, 'its generations'],
  ...(build === undefined ? [] : [[`bin/goldbed show ${build.id}`, 'a job']]),
  ...(build === undefined ? [] : [[`bin/goldbed logs ${build.id}`, "its log, byte for byte sbuild's"]]),
  ['bin/goldbed ps', 'what runs and what waits'],
];
const width = Math.max(...further.map(([command]) => command.length));
for (const [command, what] of further) console.log(`  ${command.padEnd(width)}  ${what}`);

process.exitCode = rows.every(({ ok }) => ok) ? 0 : 1;

function read(name) {
  const file = path.join(folder, `${name}.json`);
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
}

function row(name, job) {
  const kind = name === 'update' ? 'update-golden' : name;
  if (job === undefined) return { name, id: '', ok: false, steps: '', cells: [kind, '', 'not run', '', '', '', ''] };
  const { result, generation, steps } = job.outcome;
  const what = name === 'update' ? generation.image : 'hello';
  const seconds = steps.reduce((sum, step) => sum + step.seconds, 0);
  const cells = [kind, what, result.status, String(result.exitCode), clock(seconds), generations(job.outcome), job.id];
  return { name, id: job.id, ok: good[name].includes(result.status), steps: steps.map(timed).join(' · '), cells };
}

/** `bookworm-amd64@3`, or `bookworm-amd64@3 -> 4` where a job made a new one. */
function generations({ result, generation }) {
  if (result.kind !== 'update-golden') return `${generation.image}@${generation.generation}`;
  const { before, after } = result;
  return `${generation.image}@${before}${after === before ? '' : ` -> ${after}`}`;
}

function timed({ name, seconds }) {
  return `${name} ${clock(seconds)}`;
}

function clock(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}
