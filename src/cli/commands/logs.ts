/** `goldbed logs [-f] ID`: the client's own log, as it is on disk, or a section of it; with -f until the job has ended. */
import { createReadStream, watch, type FSWatcher } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { Command } from 'commander';
import { UsageError } from '../../protocol/errors.ts';
import type { RedisHandle } from '../../redis/connect.ts';
import { findRun, showRun, type RunDetails } from '../../producer/runs.ts';
import { LogSection } from '../log-section.ts';
import { makeContext, openRedis, type Context, type GlobalFlags } from '../context.ts';
import { resultFolder } from '../results.ts';

/** How often -f looks at the job's state, in milliseconds; the log itself is watched. */
const look = 1000;

export function logsCommand(): Command {
  return new Command('logs')
    .description('print the log of a job')
    .argument('ID', 'the job’s id, or the beginning of it')
    .option('-f, --follow', 'go on until the job has ended')
    .option('--section <TITLE>', 'only what is below this heading, such as Build')
    .action(async (prefix: string, flags: { follow?: boolean; section?: string }, command: Command) => {
      const context = makeContext(command.optsWithGlobals<GlobalFlags>());
      await using redis = await openRedis(context, new AbortController().signal);
      const run = await findRun(redis, prefix);
      const section = flags.section === undefined ? undefined : new LogSection(flags.section);
      if (run.outcome === undefined) await printOpen(context, redis, run, flags.follow === true, section);
      else await printResult(context, run, section);
      if (section === undefined) return;
      process.stdout.write(section.end(), 'latin1');
      if (section.found) return;
      const known = section.titles.join(', ') || 'none';
      throw new UsageError(run.id, `${run.id}: no section "${flags.section}" in its log (there is: ${known})`);
    });
}

async function printOpen(
  { state }: Context,
  redis: RedisHandle,
  run: RunDetails,
  follow: boolean,
  section: LogSection | undefined,
): Promise<void> {
  const ended = async (): Promise<boolean> => {
    if (!follow) return true;
    const found = await showRun(redis, run.id);
    return !['waiting', 'active', 'delayed'].includes(found.state);
  };
  await printLog(path.join(state.jobs, run.id), run.id, ended, section);
}

/** Of the attempt that counts. */
async function printResult(context: Context, run: RunDetails, section?: LogSection): Promise<void> {
  const folder = await resultFolder(context, run);
  if (folder === undefined) throw new UsageError(run.id, `${run.id}: its log is on ${run.outcome?.host}, not here`);
  await printFrom(path.join(folder, 'log'), 0, section);
}

async function printLog(
  folder: string,
  id: string,
  ended: () => Promise<boolean>,
  section?: LogSection,
): Promise<void> {
  let printed = 0;
  let file: string | undefined;
  for (;;) {
    const last = await ended();
    const latest = await latestLog(folder);
    if (latest !== file) printed = 0; // a new attempt
    file = latest;
    if (file !== undefined) printed = await printFrom(file, printed, section);
    if (last || process.stdout.destroyed) break; // nobody reads it any more
    await changed(file ?? undefined);
  }
  if (file === undefined) throw new UsageError(id, `${id}: no log on this host`);
}

async function latestLog(folder: string): Promise<string | undefined> {
  const attempts = (await readdir(folder).catch(() => [])).map(Number).filter(Number.isInteger);
  if (attempts.length === 0) return undefined;
  const file = path.join(folder, String(Math.max(...attempts)), 'log');
  return stat(file).then(
    () => file,
    () => undefined,
  );
}

async function printFrom(file: string, start: number, section?: LogSection): Promise<number> {
  let at = start;
  for await (const each of createReadStream(file, { start })) {
    const chunk = each as Buffer;
    at += chunk.length;
    if (process.stdout.destroyed) break;
    const shown = section === undefined ? chunk : Buffer.from(section.feed(chunk.toString('latin1')), 'latin1');
    if (!process.stdout.write(shown)) await unlessClosed(process.stdout);
  }
  return at;
}

/** Until a slow reader has taken what was written, or has left. */
async function unlessClosed(stream: NodeJS.WriteStream): Promise<void> {
  await new Promise<void>((resolve) => {
    stream.once('drain', resolve);
    stream.once('close', resolve);
  });
}

/** Undefined where the host has no more watches to give: then it is looked at now and then. */
function watching(file: string, changes: () => void): FSWatcher | undefined {
  try {
    return watch(file, changes).on('error', changes);
  } catch {
    return undefined;
  }
}

/** Until the file changes, at the most a moment. */
async function changed(file: string | undefined): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, look);
    const watcher = file === undefined ? undefined : watching(file, done);
    function done(): void {
      clearTimeout(timer);
      watcher?.close();
      resolve();
    }
  });
}
