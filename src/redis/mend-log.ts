/**
 * Before a server that was killed is started again: its append-only file may end within a transaction, as a power cut
 * leaves it. Redis 7.0 then cuts it off after the last whole command instead of before the transaction, goes on writing
 * behind the half of it, and carries that half out at the next start: a job in two places, or in none. The server's own
 * tool cuts where it should; it would do so at any damage, so it is asked to only where the file is merely too short.
 */
import { readdirSync } from 'node:fs';
import { open, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../exec/run.ts';
import { isCutShort } from './resp.ts';

/** Written after a clean end, and only then. */
const marker = (folder: string): string => path.join(folder, 'clean');

export function noteCleanEnd(folder: string): Promise<void> {
  return writeFile(marker(folder), '');
}

/** @param program the server's binary: it is the tool as well, when it is called so */
export async function mendLog(folder: string, program: string): Promise<void> {
  const logs = path.join(folder, 'appendonlydir');
  const manifest = findManifest(logs);
  const wasClean = await takeMarker(folder);
  if (manifest === undefined || wasClean) return;
  const tool = (...args: string[]) => run([program, ...args], { input: 'y\n', argv0: 'redis-check-aof' });
  const { stdout } = await tool(manifest);
  const [, name, good] = /filename=(\S+), size=\d+, ok_up_to=(\d+),.* diff=[1-9]/.exec(stdout) ?? [];
  if (name === undefined || !isCutShort(await tailOf(path.join(logs, name), Number(good)))) return;
  await tool('--fix', manifest);
}

async function tailOf(file: string, from: number): Promise<Buffer> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - from), 0, size - from, from);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

async function takeMarker(folder: string): Promise<boolean> {
  try {
    await rm(marker(folder));
    return true;
  } catch {
    return false;
  }
}

/** That of Redis 7 and Valkey; older servers have none. */
function findManifest(logs: string): string | undefined {
  try {
    const name = readdirSync(logs).find((each) => each.endsWith('.manifest'));
    return name === undefined ? undefined : path.join(logs, name);
  } catch {
    return undefined;
  }
}
