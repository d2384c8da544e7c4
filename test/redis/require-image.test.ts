/** The architecture for which a job is handed in: that of who has its image. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Context } from '../../src/cli/context.ts';
import { offersOf } from '../../src/cli/offers.ts';
import { requireImage } from '../../src/cli/require-image.ts';
import { loadSettings } from '../../src/config/load.ts';
import { debianArchitecture } from '../../src/exec/debian-architecture.ts';
import { routingKey } from '../../src/protocol/routing.ts';
import { announce } from '../../src/worker/presence.ts';
import { publishFiles } from '../unit/golden/fixtures/images.ts';
import { presenceOf } from './fixtures.ts';
import { begin, cleanUp, server } from './world.ts';

beforeEach(begin);
afterEach(cleanUp);

const own = await debianArchitecture();
const other = own === 'arm64' ? 'amd64' : 'arm64';

async function here(yaml = ''): Promise<Context> {
  const home = path.join(server.state.root, 'config');
  await mkdir(path.join(home, 'goldbed'), { recursive: true });
  await writeFile(path.join(home, 'goldbed/a.yaml'), yaml);
  return { settings: loadSettings({ XDG_CONFIG_HOME: home }, 0), state: server.state };
}

const worker = (host: string, images: string[], arch: string) =>
  announce(server.redis.client, server.redis.keys, () => ({ ...presenceOf(host, host, images), arch }), {
    ...{ beat: 1e6, alive: 30_000 },
  });

test('an image that only others have: theirs, and this host’s kind where it is among them', async () => {
  const context = await here();
  await using first = await worker('bay1', ['foreign', 'both'], other);
  await using second = await worker('bay2', ['both'], own);
  void [first, second];
  expect(await requireImage(context, server.redis, 'foreign')).toBe(other);
  expect(await requireImage(context, server.redis, 'both')).toBe(own);
  await publishFiles(server.state, 'foreign', { a: '1' });
  expect(await requireImage(context, server.redis, 'foreign')).toBe(own);
  await expect(requireImage(context, server.redis, 'none')).rejects.toThrow(
    'unknown image "none" (known: both, foreign)',
  );
});

test('an external server’s testbeds may be of another kind: the queue is where producers look', async () => {
  const context = await here(`external: {guest: {server: [/bin/true], suite: sid, arch: ${other}}}\n`);
  await using presence = await worker('bay1', ['guest'], own);
  const keys = await offersOf(context, { backends: [], sizes: ['m'] }, presence)();
  expect(keys).toContain(routingKey('build', 'any', await requireImage(context, server.redis, 'guest'), 'guest', 'm'));
});
