/** .dsc and .changes files: one RFC 822-like paragraph, possibly inside an OpenPGP clear signature (deb822(5), dsc(5)). */
import { UsageError } from '../protocol/errors.ts';

export interface ListedFile {
  readonly name: string;
  readonly size: number;
  readonly sha256: string;
}

export interface ControlFile {
  /** Field by lower-case name; continuation lines joined with newlines. */
  readonly fields: ReadonlyMap<string, string>;
  /** From Checksums-Sha256. */
  readonly files: readonly ListedFile[];
}

/** @throws {UsageError} that names the file and what was expected */
export function parseControlFile(text: string, file: string): ControlFile {
  const fields = parseFields(withoutSignature(text), file);
  const checksums = fields.get('checksums-sha256');
  if (checksums === undefined) throw new UsageError(file, `${file}: no Checksums-Sha256 field: not a .dsc or .changes`);
  return {
    fields,
    files: checksums
      .split('\n')
      .filter(Boolean)
      .map((line) => parseListed(line, file)),
  };
}

/** @throws {UsageError} */
export function requiredField(control: ControlFile, name: string, file: string): string {
  const value = control.fields.get(name.toLowerCase());
  if (value === undefined || value === '') throw new UsageError(file, `${file}: no ${name} field`);
  return value;
}

function withoutSignature(text: string): string {
  const begin = '-----BEGIN PGP SIGNED MESSAGE-----';
  if (!text.startsWith(begin)) return text;
  const body = text.slice(text.indexOf('\n\n') + 2);
  const end = body.indexOf('-----BEGIN PGP SIGNATURE-----');
  return (end === -1 ? body : body.slice(0, end)).replaceAll(/^- /gm, '');
}

function parseFields(text: string, file: string): Map<string, string> {
  const fields = new Map<string, string>();
  let last: string | undefined;
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '') {
      if (fields.size > 0) break; // one paragraph
      continue;
    }
    if (/^[ \t]/.test(line) && last !== undefined) {
      fields.set(last, `${fields.get(last) ?? ''}\n${line.trim()}`);
      continue;
    }
    const field = /^([!-9;-~]+):[ \t]*(.*)$/.exec(line);
    if (field === null) throw new UsageError(file, `${file}:${index + 1}: expected "Field: value"`);
    last = (field[1] ?? '').toLowerCase();
    fields.set(last, (field[2] ?? '').trim());
  }
  return fields;
}

function parseListed(line: string, file: string): ListedFile {
  const [, sha256, size, name] = /^([0-9a-f]{64}) (\d+) (\S+)$/.exec(line.trim()) ?? [];
  if (sha256 === undefined || size === undefined || name === undefined) {
    throw new UsageError(file, `${file}: Checksums-Sha256: expected "SHA256 SIZE NAME", found "${line}"`);
  }
  if (name.includes('/') || name.startsWith('.')) {
    throw new UsageError(file, `${file}: Checksums-Sha256: "${name}" is not a plain file name`);
  }
  return { name, size: Number(size), sha256 };
}
