/**
 * What the user typed as SOURCE or CHANGES, turned into what a request carries: a .dsc, an unpacked source directory, a
 * .changes, or `name[=version]`. Files are verified against their control file and put into the artifact store.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { putFile, type StoredFile } from '../artifacts/store.ts';
import { isExecutable } from '../exec/executable.ts';
import { run } from '../exec/run.ts';
import { messageOf, UnavailableError, UsageError } from '../protocol/errors.ts';
import { subjectSchema, type Source, type Subject } from '../protocol/job-request.ts';
import { parseControlFile, requiredField, type ListedFile } from './control-file.ts';

/** For `goldbed build`. @throws {UsageError} */
export async function resolveSource(word: string, artifacts: string): Promise<Source> {
  const subject = await resolveSubject(word, artifacts);
  if (subject.type === 'changes') throw new UsageError(word, `${word}: expected a source package, not a .changes`);
  return subject;
}

/** For `goldbed test`. @throws {UsageError} */
export async function resolveSubject(word: string, artifacts: string): Promise<Subject> {
  if (/\.(dsc|changes)$/.test(word)) return fromControlFile(path.resolve(word), artifacts);
  if (word.includes('/') || (await isDirectory(word))) return fromDirectory(path.resolve(word), artifacts);
  return fromArchive(word);
}

function fromArchive(word: string): Subject {
  const [name, ...version] = word.split('=');
  const parsed = subjectSchema.safeParse({
    type: 'archive',
    package: name,
    ...(version.length === 0 ? {} : { version: version.join('=') }),
  });
  if (parsed.success) return parsed.data;
  const expected = 'expected a .dsc, a .changes, an unpacked source directory, or name[=version]';
  throw new UsageError(word, `${word}: no such file, and not a package name: ${expected}`);
}

async function fromControlFile(file: string, artifacts: string): Promise<Subject> {
  const control = parseControlFile(await readText(file), file);
  const type = file.endsWith('.dsc') ? 'dsc' : 'changes';
  const sibling = type === 'changes' ? await siblingSource(file, control.files) : undefined;
  const files = [{ name: path.basename(file), ...(await store(artifacts, file)) }];
  for (const { name, size, sha256 } of [...control.files, ...(sibling?.files ?? [])]) {
    const stored = await putListed(path.join(path.dirname(file), name), file, artifacts);
    if (stored.sha256 !== sha256 || stored.size !== size) {
      throw new UsageError(name, `${name}: checksum mismatch: ${file} says ${sha256}, the file has ${stored.sha256}`);
    }
    files.push({ name, ...stored });
  }
  const parsed = subjectSchema.safeParse({
    type,
    package: requiredField(control, 'Source', file).split(' ')[0],
    version: requiredField(control, 'Version', file),
    main: path.basename(file),
    ...(sibling === undefined ? {} : { source: sibling.name }),
    files,
  });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new UsageError(file, `${file}: ${issue?.path.join('.')}: ${issue?.message}`);
}

/** A binary-only .changes has no tests in it: where its .dsc lies beside it, that source is tested with its packages. */
async function siblingSource(
  changes: string,
  listed: readonly ListedFile[],
): Promise<{ readonly name: string; readonly files: readonly ListedFile[] } | undefined> {
  if (listed.some(({ name }) => name.endsWith('.dsc'))) return undefined;
  const sibling = changes.replace(/_[^_]+\.changes$/, '.dsc');
  const text = await readFile(sibling, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const name = path.basename(sibling);
  const own = { name, size: Buffer.byteLength(text), sha256: createHash('sha256').update(text).digest('hex') };
  return { name, files: [own, ...parseControlFile(text, sibling).files] };
}

async function putListed(file: string, namedBy: string, artifacts: string): Promise<{ size: number; sha256: string }> {
  try {
    return await store(artifacts, file);
  } catch (error) {
    if (error instanceof UnavailableError) throw error;
    throw new UsageError(file, `${file}: named by ${path.basename(namedBy)}, but cannot be read: ${messageOf(error)}`);
  }
}

/** @throws {UnavailableError} when it is the store that fails, not the file: a full disk, for instance */
async function store(artifacts: string, file: string): Promise<StoredFile> {
  try {
    return await putFile(artifacts, file);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (!storeFailures.has(String(code))) throw error;
    throw new UnavailableError(`${file} cannot be stored in ${artifacts}: ${messageOf(error)}`, { cause: error });
  }
}

const storeFailures = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EFBIG']);

const dpkgSource = '/usr/bin/dpkg-source';

/** dpkg-source makes the source package, in a folder of our own; the orig tarballs beside the directory are used. */
async function fromDirectory(directory: string, artifacts: string): Promise<Subject> {
  const changelog = path.join(directory, 'debian/changelog');
  if (!(await isFile(changelog))) {
    throw new UsageError(directory, `${directory}: not an unpacked source package (no debian/changelog)`);
  }
  if (!isExecutable(dpkgSource)) throw new UnavailableError(`${dpkgSource} is missing: apt-get install dpkg-dev`);
  const work = await mkdtemp(path.join(tmpdir(), 'goldbed-source-'));
  try {
    const parent = path.dirname(directory);
    for (const name of await readdir(parent)) {
      if (/\.orig(-[A-Za-z0-9-]+)?\.tar\.[a-z0-9]+(\.asc)?$/.test(name)) {
        await symlink(path.join(parent, name), path.join(work, name));
      }
    }
    const made = await run([dpkgSource, '--build', directory], { cwd: work });
    if (made.code !== 0) {
      const reason = made.stderr.trim().split('\n').at(-1) ?? '';
      throw new UsageError(directory, `${directory}: dpkg-source --build: ${reason}`);
    }
    const dsc = (await readdir(work)).find((name) => name.endsWith('.dsc'));
    if (dsc === undefined) throw new UsageError(directory, `${directory}: dpkg-source made no .dsc`);
    return await fromControlFile(path.join(work, dsc), artifacts);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new UsageError(file, `${file}: cannot be read: ${messageOf(error)}`);
  }
}

async function isDirectory(file: string): Promise<boolean> {
  return stat(file)
    .then((found) => found.isDirectory())
    .catch(() => false);
}

async function isFile(file: string): Promise<boolean> {
  return stat(file)
    .then((found) => found.isFile())
    .catch(() => false);
}
