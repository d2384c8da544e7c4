/** Runs the table against a server program, and the few things that need more than one write. */
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decodeArgv } from '../../../src/protocol/adt-virt/words.ts';
import { describeDetails } from './describe-details.ts';
import { serverVectors, type Expected, type Vector } from './server-vectors.ts';
import { exec, startServer, Wire, type ServerUnderTest } from './wire.ts';

export { Wire, type ServerUnderTest } from './wire.ts';

/** @param stock whether it is one of autopkgtest's own: `true` is 5.28 */
export function describeVirtServer(
  name: string,
  server: () => ServerUnderTest,
  revert: boolean,
  stock: boolean | '5.49' = false,
  reboot = false,
): void {
  describe(`${name}: the table`, () => {
    for (const vector of serverVectors) {
      if (vector.needs === 'revert' && !revert) continue;
      if (vector.needs === 'no-revert' && revert) continue;
      if (vector.needs === 'reboot' && !reboot) continue;
      if (vector.needs === 'no-reboot' && reboot) continue;
      if (vector.needs === 'no-golden' && stock === false && revert) continue; // ours on an image
      if (vector.common === true && stock !== false && revert) continue; // as on stock null
      const asOurs = stock === false || (stock === '5.49' && vector.stock549 === 'as ours');
      const expected: Expected | string = asOurs ? vector : (vector.stock ?? vector);
      if (typeof expected === 'string') continue; // it would hang
      test(vector.name, async () => {
        const { said, ...seen } = await converse(server(), vector);
        expect(seen).toEqual({ banner: 'ok', exit: expected.exit, ...matching(expected) });
        if (expected.exit === 12) expect(said).toMatch(/ failure: \S/); // one line that says why
      });
    }
  });
  describe(`${name}: conversations`, () => {
    conversations(server, revert, stock !== false);
    describeDetails(server, stock);
  });
}

/** Replies are compared by pattern: what matches is replaced by the pattern's own text. */
let lastReplies: string[] = [];
function matching({ replies }: Expected): { replies: string[] } {
  return {
    replies: replies.map((pattern, i) =>
      pattern.test(lastReplies[i] ?? '\0') ? (lastReplies[i] ?? '') : String(pattern),
    ),
  };
}

async function converse(
  server: ServerUnderTest,
  vector: Vector,
): Promise<{ banner: string; replies: string[]; exit: number; said: string }> {
  const child = startServer(server);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stdin?.on('error', () => {}); // it may end before it has read all
  child.stdin?.write(vector.send);
  if (vector.eof === true) child.stdin?.end();
  const [code] = (await once(child, 'close')) as [number | null];
  const [banner = '', ...replies] = output.split('\n').slice(0, -1);
  lastReplies = replies;
  return { banner, replies, exit: code ?? -1, said };
}

function conversations(server: () => ServerUnderTest, revert: boolean, stock: boolean): void {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed vector-'));
    await chmod(folder, 0o777); // the server may be another user's
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  const at = (name: string): string => path.join(folder, name);
  const as = (argv: readonly string[]): readonly string[] => server().as?.(argv) ?? argv;
  const word = (text: string): string => encodeURIComponent(text).replaceAll('%2F', '/');

  test('the same scratch path after close and open, and commands run there', async () => {
    const wire = new Wire(server());
    const first = await wire.ask('open');
    const argv = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const scratch = first.slice(3);
    const env = stock ? { PATH: '/usr/bin:/bin', ...server().env } : {};
    expect(await exec(as([...argv, 'sh', '-c', `cd ${scratch} && echo in; exit 77`]), env)).toEqual({
      code: 77,
      stdout: 'in\n',
    });
    expect(await wire.ask('close')).toBe('ok');
    if (server().opensOnce === true) return expect(await wire.ask('open')).toBe('(end of output)');
    expect(await wire.ask('open')).toBe(first);
    expect(await wire.quit()).toBe(0);
  });

  test('copies: names are decoded, links kept, directories merged', async () => {
    const wire = new Wire(server());
    const scratch = (await wire.ask('open')).slice(3);
    await mkdir(at('tree'));
    await writeFile(at('tree/a b%,é+'), 'content');
    await symlink('nowhere', at('tree/dangling'));
    await mkdir(at('back'));
    await chmod(at('back'), 0o777);
    await writeFile(at('back/only'), 'here');
    expect(await wire.ask(`copydown ${word(`${folder}/tree/`)} ${scratch}//t/`)).toBe('ok');
    expect(await wire.ask(`copyup ${scratch}/t/ ${word(`${folder}/back/`)}`)).toBe('ok');
    expect(await readFile(at('back/a b%,é+'), 'utf8')).toBe('content');
    expect(await readlink(at('back/dangling'))).toBe('nowhere');
    expect(await readFile(at('back/only'), 'utf8')).toBe('here');
    expect(await wire.quit()).toBe(0);
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s: cleans up and dies by it', async (signal) => {
    const wire = new Wire(server());
    await wire.ask('open');
    if (!stock) {
      await wire.ask('close'); // 5.28 forgets its handlers here
      await wire.ask('open');
    }
    const ended = once(wire.child, 'exit');
    wire.child.kill(signal);
    expect((await ended)[1]).toBe(signal);
  });

  if (!revert) return;
  test('revert keeps the scratch path and throws the changes away', async () => {
    const wire = new Wire(server());
    const opened = await wire.ask('open');
    const argv = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const env = stock ? { PATH: '/usr/bin:/bin', ...server().env } : {};
    await exec(as([...argv, 'sh', '-c', `touch /mark ${opened.slice(3)}/mark`]), env);
    expect(await wire.ask('revert')).toBe(opened);
    const after = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    expect((await exec(as([...after, 'sh', '-c', `ls /mark ${opened.slice(3)}/mark`]), env)).code).toBe(2);
    expect(await wire.quit()).toBe(0);
  });
}
