/** Section "wire": what one session costs on each server, asked by the same small client, the servers in turn. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import * as z from 'zod';
import { check, run } from '../src/exec/run.ts';
import { wireClient, type BaseImage } from './base-image.ts';
import type { Place } from './place.ts';
import { inTurn, type WireResults } from './results.ts';
import { startServers, type Server } from './servers.ts';
import { median } from './statistics.ts';

const trueRuns = 11;
const fileMegabytes = 200;
const treeFiles = 5000;

/** A virtual machine's memory is slow when it is touched for the first time: whoever copies first would pay for all. */
const touchMemory = ['/bin/sh', '-c', 'cp payload/file touched && rm touched'];

const floorSchema = z.object({ true: z.array(z.number()).min(1) });
const timesSchema = z.object({
  start: z.number(),
  open: z.number(),
  true: z.array(z.number()).min(1),
  revert: z.number(),
  close: z.number(),
  file: z.number(),
  tree: z.number(),
  fileUp: z.number(),
  treeUp: z.number(),
  closeUsed: z.number(),
  quit: z.number(),
});

export async function measureWire(place: Place, base: BaseImage, rounds: number): Promise<WireResults> {
  const file = writeFile(place);
  const tree = writeTree(place);
  await using servers = await startServers(place, base);
  const rows = new Map<string, Record<string, number[]>>(servers.running.map(({ name }) => [name, {}]));
  const missing = [...servers.missing];
  const floor: number[] = [];
  const { signal } = place;
  for (let round = 0; round <= rounds; round += 1) {
    const warmUp = round === 0; // what only the first session after a boot ever costs, and which servers work here
    place.say(warmUp ? 'wire: warming up' : `wire: round ${round} of ${rounds}`);
    const { stdout } = await check([...wireClient, 'floor', String(trueRuns)], { signal });
    if (!warmUp) floor.push(median(floorSchema.parse(JSON.parse(stdout)).true));
    for (const server of inTurn(servers.running, round)) {
      const row = rows.get(server.name);
      if (row === undefined) continue; // it failed before
      await place.settle();
      await check(touchMemory, { cwd: place.disk, signal });
      try {
        const times = await measureServer(place, server, file, tree);
        if (!warmUp) record(row, times);
      } catch (error) {
        signal.throwIfAborted();
        missing.push({ name: server.name, why: error instanceof Error ? error.message : String(error) });
        rows.delete(server.name);
      }
    }
  }
  return { floor, servers: Object.fromEntries(rows), missing };
}

async function measureServer(place: Place, server: Server, file: string, tree: string) {
  const argv = [...wireClient, 'measure', String(trueRuns), file, tree, ...server.argv];
  const { code, stdout, stderr } = await run(argv, { env: server.env, signal: place.signal, grace: 30_000 });
  if (code !== 0) throw new Error(stderr.trim().replaceAll(/\s+/g, ' ').slice(-600));
  const times = timesSchema.parse(JSON.parse(stdout));
  return { ...times, true: median(times.true) };
}

function record(row: Record<string, number[]>, times: Readonly<Record<string, number>>): void {
  for (const [what, time] of Object.entries(times)) (row[what] ??= []).push(time);
}

/** Bytes that no file system can make smaller. */
function writeFile(place: Place): string {
  const file = path.join(place.folder('payload'), 'file');
  const megabyte = randomBytes(1e6);
  writeFileSync(file, Buffer.concat(Array.from({ length: fileMegabytes }, () => megabyte)));
  return file;
}

/** 100 folders of 50 files of 1 to 4 KB. */
function writeTree(place: Place): string {
  const tree = place.folder('payload/tree');
  const bytes = randomBytes(4096);
  for (let index = 0; index < treeFiles; index += 1) {
    const folder = path.join(tree, String(index % 100));
    if (index < 100) mkdirSync(folder);
    writeFileSync(path.join(folder, String(index)), bytes.subarray(0, 1024 + ((index * 7) % 3072)));
  }
  return tree;
}
