/** The list of installed packages of a root file system: what manifest.tsv holds, and how two of them differ. */

/** Installed packages only: what is left of removed ones (their configuration) is no part of the list. */
export const manifestArguments: readonly string[] = ['--show', `--showformat=${showFormat()}`];

export interface PackageChanges {
  readonly added: number;
  readonly removed: number;
  readonly changed: number;
}

/** Makes the manifest of `dpkg-query`'s output: `package TAB version TAB architecture TAB kilobytes`, sorted by package. */
export function manifestOf(dpkgQueryOutput: string): string {
  const lines = dpkgQueryOutput
    .split('\n')
    .map((line) => line.split('\t'))
    .filter(([status]) => status !== undefined && status !== '' && !['config-files', 'not-installed'].includes(status))
    .map(([, name = '', version = '', arch = '', size = '']) => `${name}\t${version}\t${arch}\t${size}\n`);
  return lines.toSorted().join('');
}

export function packageCount(manifest: string): number {
  return manifest.split('\n').length - 1;
}

export function packageChanges(before: string, after: string): PackageChanges {
  const [old, now] = [versions(before), versions(after)];
  const names = [...now.keys()];
  return {
    added: names.filter((name) => !old.has(name)).length,
    removed: [...old.keys()].filter((name) => !now.has(name)).length,
    changed: names.filter((name) => old.has(name) && old.get(name) !== now.get(name)).length,
  };
}

/** Bytes that its packages take, as they say themselves; undefined when it tells of none. */
export function installedBytes(manifest: string): number | undefined {
  const sizes = manifest.split('\n').map((line) => line.split('\t')[3] ?? '');
  if (sizes.every((size) => size === '')) return undefined;
  return sizes.reduce((sum, size) => sum + Number(size) * 1024, 0);
}

/** The version of one package; undefined when it is not installed. */
export function versionIn(manifest: string, name: string): string | undefined {
  const all = versions(manifest);
  const key = [...all.keys()].find((known) => known.startsWith(`${name} `));
  return key === undefined ? undefined : all.get(key);
}

function showFormat(): string {
  const fields = ['db:Status-Status', 'Package', 'Version', 'Architecture', 'Installed-Size'];
  return `${fields.map((field) => `\${${field}}`).join('\\t')}\\n`;
}

function versions(manifest: string): Map<string, string> {
  const rows = manifest.split('\n').filter((line) => line !== '');
  return new Map(
    rows.map((row) => {
      const [name = '', version = '', arch = ''] = row.split('\t');
      return [`${name} ${arch}`, version];
    }),
  );
}
