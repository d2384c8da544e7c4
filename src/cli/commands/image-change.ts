/** `goldbed image replace | import | export | rollback | pin | unpin | gc | rm`: changing what images there are, and which is current. */
import { randomUUID } from 'node:crypto';
import { statSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { daemonUnavailable } from '../../backends/docker/client.ts';
import { exportDockerImage } from '../../backends/docker/export.ts';
import { isDiskImage, unpackDiskImage } from '../../backends/qemu/disk-image.ts';
import { rootOfChroot } from '../../backends/schroot/chroot-root.ts';
import { createSessionFolder } from '../../backends/session-folder.ts';
import { keepFor } from '../../config/policy.ts';
import { emptyTrash } from '../../exec/trash.ts';
import { userName } from '../../exec/user-name.ts';
import {
  collect,
  collectOld,
  exportImage,
  imageNames,
  importImage,
  keepGeneration,
  letGo,
  previousGeneration,
  removeImage,
  replaceImage,
  rollBack,
  type CreateTools,
  type GenerationRecord,
  type ImportRequest,
} from '../../golden/index.ts';
import { HostError, messageOf, UnavailableError } from '../../protocol/errors.ts';
import { generationId } from '../../protocol/image.ts';
import { reapAll } from '../../worker/reap.ts';
import { makeContext, type Context, type GlobalFlags } from '../context.ts';
import { backendsOf } from '../make-host.ts';
import { json, out, progress, size } from '../print.ts';
import { generationNumber, lockWaitOption, makingTools, stopSignal, variantOption } from './image-words.ts';

type Flags = GlobalFlags & { readonly json?: boolean };

export function changeCommands(): Command[] {
  return [replace(), importCommand(), exportCommand(), rollback(), pin(), unpin(), gc(), rm()];
}

function command(name: string, description: string): Command {
  return new Command(name).description(description).option('--json', 'print one JSON document');
}

function replace(): Command {
  const self = command('replace', 'bootstrap an image anew by its own recipe, as its next generation').argument('NAME');
  self.option(...variantOption).option(...lockWaitOption);
  return self.action(async (name: string) => {
    const flags = self.optsWithGlobals<Flags & { lockWait: string; variant?: string }>();
    const context = makeContext(flags);
    const tools = await makingTools(context, name, flags.lockWait);
    const signal = stopSignal();
    told(await replaceImage(name, tools, signal, flags.variant), flags);
    const keep = keepFor(context.settings.images, name);
    await collectOld(context.state, name, { keep, signal }, (line) => progress(`goldbed: ${line}`));
  });
}

function importCommand(): Command {
  const self = command(
    'import',
    'make an image of a tar file, a disk image or a directory that holds the root of a Debian system',
  );
  self
    .argument('NAME')
    .argument('FROM', '.tar, .tar.gz, .tar.xz, .tar.zst, .qcow2, .img, a directory, docker:IMAGE or schroot:CHROOT');
  self.option('--suite <SUITE>', 'default: what its os-release says').option(...lockWaitOption);
  return self.action(async (name: string, from: string) => {
    const flags = self.optsWithGlobals<Flags & { suite?: string; lockWait: string }>();
    const context = makeContext(flags);
    const suite = flags.suite === undefined ? {} : { suite: flags.suite };
    const [tools, signal] = [await makingTools(context, name, flags.lockWait), stopSignal()];
    const [, reference] = /^docker:(.+)$/.exec(from) ?? [];
    const request = { name, ...suite };
    if (reference !== undefined) {
      return told(await importFromDocker(context, reference, request, tools, signal), flags);
    }
    const [, chroot] = /^schroot:(.+)$/.exec(from) ?? [];
    if (chroot !== undefined) {
      return told(await importImage({ ...request, from: await rootOfChroot(chroot, signal) }, tools, signal), flags);
    }
    const isDisk = isDiskImage(from) && statSync(from, { throwIfNoEntry: false })?.isFile() === true;
    const imported = isDisk ? importFromDisk(context, from, request, tools, signal) : undefined;
    told(await (imported ?? importImage({ ...request, from }, tools, signal)), flags);
  });
}

async function importFromDocker(
  { settings, state }: Context,
  reference: string,
  request: Omit<ImportRequest, 'from'>,
  tools: CreateTools,
  signal: AbortSignal,
): Promise<GenerationRecord> {
  const missing = await daemonUnavailable(settings.docker);
  if (missing !== undefined) throw new UnavailableError(missing);
  const folder = createSessionFolder(state, 'docker', tools.sessionId, 0o700); // found and removed if we are killed
  try {
    const file = path.join(folder.path, 'root.tar');
    await exportDockerImage(settings.docker, reference, file, signal);
    return await importImage({ ...request, from: file }, tools, signal);
  } finally {
    await folder.remove();
  }
}

async function importFromDisk(
  { state }: Context,
  from: string,
  request: Omit<ImportRequest, 'from'>,
  tools: CreateTools,
  signal: AbortSignal,
): Promise<GenerationRecord> {
  const folder = createSessionFolder(state, 'qemu', tools.sessionId, 0o700); // found and removed if we are killed
  try {
    const file = await unpackDiskImage(from, folder.path, signal);
    return await importImage({ ...request, from: file }, tools, signal);
  } finally {
    await folder.remove();
  }
}

function exportCommand(): Command {
  const self = command('export', 'write a generation as one tar file, as sbuild’s unshare mode takes it');
  self.argument('NAME').argument('[GEN]', 'default: the current one');
  self.requiredOption('-o, --output <FILE>', 'FILE.tar, .tar.gz, .tar.xz or .tar.zst');
  return self.action(async (name: string, generation: string | undefined) => {
    const flags = self.optsWithGlobals<Flags & { output: string }>();
    const { state } = makeContext(flags);
    const id = `export-${randomUUID()}`;
    const record = await exportImage(state, name, generationNumber(generation), flags.output, id, stopSignal());
    if (flags.json === true) json({ record, file: flags.output });
    else out(`${generationId(record)} -> ${flags.output}`);
  });
}

function rollback(): Command {
  const self = command('rollback', 'make an earlier generation current; running jobs keep theirs').argument('NAME');
  self.argument('[GEN]', 'default: the newest that is older than the current one');
  return self.action(async (name: string, word: string | undefined) => {
    const flags = self.optsWithGlobals<Flags>();
    const { state } = makeContext(flags);
    const generation = generationNumber(word) ?? (await previousGeneration(state, name));
    told(await rollBack(state, name, generation), flags);
  });
}

function pin(): Command {
  const self = command('pin', 'keep a generation: no collection removes it').argument('NAME').argument('GEN');
  self.option('--reason <TEXT>', 'for those who wonder later', 'pinned by hand');
  return self.action(async (name: string, word: string) => {
    const flags = self.optsWithGlobals<Flags & { reason: string }>();
    const generation = generationNumber(word) ?? 0;
    const { reason } = flags;
    await keepGeneration(makeContext(flags).state, name, { generation, by: userName(), reason });
    if (flags.json === true) json({ image: name, generation, reason });
    else out(`${name}@${generation} is kept`);
  });
}

function unpin(): Command {
  const self = command('unpin', 'let a kept generation go').argument('NAME').argument('GEN');
  return self.action(async (name: string, word: string) => {
    const flags = self.optsWithGlobals<Flags>();
    const generation = generationNumber(word) ?? 0;
    await letGo(makeContext(flags).state, name, generation);
    if (flags.json === true) json({ image: name, generation });
    else out(`${name}@${generation} is not kept any more`);
  });
}

function gc(): Command {
  const self = command('gc', 'remove generations that are neither current, nor among the newest, nor in use');
  self.argument('[NAME]', 'default: all images').option('--keep <N>', 'how many of the newest stay');
  return self.action(async (name: string | undefined) => {
    const flags = self.optsWithGlobals<Flags & { keep?: string }>();
    const context = makeContext(flags);
    const { settings, state } = context;
    const asked = generationNumber(flags.keep);
    const signal = stopSignal();
    const removed: Record<string, readonly number[]> = {};
    const failed: string[] = [];
    for (const image of name === undefined ? await imageNames(state) : [name]) {
      const keep = asked ?? keepFor(settings.images, image);
      try {
        removed[image] = await collect(state, image, { keep, signal });
      } catch (error) {
        if (!(error instanceof HostError)) throw error;
        failed.push(messageOf(error)); // that one's trouble keeps no other from being collected
      }
    }
    // what backends have made of them is as large as they are
    if (Object.values(removed).some(({ length }) => length > 0)) await reapAll(backendsOf(context), progress);
    await emptyTrash(state.trash, { wait: true });
    if (flags.json === true) json({ removed });
    else
      for (const [image, numbers] of Object.entries(removed)) out(`${image}: removed ${numbers.join(', ') || 'none'}`);
    if (failed.length > 0) throw new HostError(failed.join('; '));
  });
}

function rm(): Command {
  const self = command('rm', 'remove an image with all of its generations; refused while it is in use').argument(
    'NAME',
  );
  return self.action(async (name: string) => {
    const flags = self.optsWithGlobals<Flags>();
    await removeImage(makeContext(flags).state, name, userName());
    if (flags.json === true) json({ removed: name });
    else out(`${name}: removed`);
  });
}

function told(record: GenerationRecord, flags: Flags): void {
  if (flags.json === true) json({ record });
  else out(`${generationId(record)}  ${record.packages} packages  ${size(record.bytes)}  ${record.digest}`);
}
