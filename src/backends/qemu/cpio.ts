/** Archives as the kernel unpacks them into its initial RAM disk: cpio's "newc" (Documentation/driver-api/early-userspace). */

export type CpioEntry =
  | { readonly type: 'folder'; readonly path: string }
  | { readonly type: 'file'; readonly path: string; readonly content: Uint8Array; readonly mode?: number }
  | { readonly type: 'device'; readonly path: string; readonly major: number; readonly minor: number };

/** @param entries a folder before what is in it; paths without a leading slash */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const last = record('TRAILER!!!', { mode: 0 }, new Uint8Array());
  return Buffer.concat([...entries.map((entry, i) => recordOf(entry, i + 1)), last]);
}

interface Header {
  readonly mode: number;
  readonly inode?: number;
  readonly major?: number;
  readonly minor?: number;
}

function recordOf(entry: CpioEntry, inode: number): Buffer {
  const nothing = new Uint8Array();
  if (entry.type === 'folder') return record(entry.path, { mode: 0o040755, inode }, nothing);
  if (entry.type === 'device') return record(entry.path, { mode: 0o020600, inode, ...entry }, nothing);
  return record(entry.path, { mode: 0o100000 | (entry.mode ?? 0o644), inode }, entry.content);
}

function record(name: string, { mode, inode = 0, major = 0, minor = 0 }: Header, content: Uint8Array): Buffer {
  const path = Buffer.from(`${name}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, major, minor, path.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([padded(Buffer.concat([header, path])), padded(content)]);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
