/**
 * Where a suite comes from, as this host already knows it: an image is made from, and keeps, the mirrors of the host's own
 * apt configuration. Nothing here names a mirror.
 *
 * - The host's own suite: its entries, as they are (the suite proper, `-updates` and `-security`; no backports).
 * - Another suite: the same mirrors, with `SUITE`, and with `SUITE-updates` and `SUITE-security` where the mirror answers
 *   for them (it does not for sid). Which mirror has `-security` is known from the host's own entry for it.
 */
import { existsSync, readdirSync } from 'node:fs';
import { check } from '../exec/run.ts';
import { UsageError } from '../protocol/errors.ts';

/** One package index that the host's apt uses. */
export interface AptTarget {
  readonly uri: string;
  /** The suite as the sources spell it: `bookworm`, `stable-security`. */
  readonly release: string;
  readonly component: string;
  /** From the Release file: `Debian`. */
  readonly origin: string;
  readonly codename: string;
  readonly suite: string;
}

/** One line of sources.list, without its type. */
export interface Source {
  readonly uri: string;
  readonly release: string;
  readonly components: readonly string[];
}

export type Pocket = '' | '-updates' | '-security';

/** What a suite could be made from; those without `needed` only if the mirror has them. */
export interface SourceCandidate extends Source {
  readonly needed: boolean;
}

const fields = ['REPO_URI', 'RELEASE', 'COMPONENT', 'ORIGIN', 'CODENAME', 'SUITE'] as const;

/** Asks apt, which reads one-line and deb822 files alike (apt-get(8), indextargets). @throws {UsageError} without lists */
export async function hostTargets(signal: AbortSignal): Promise<AptTarget[]> {
  const format = fields.map((field) => `$(${field})`).join('\t');
  const argv = ['/usr/bin/apt-get', 'indextargets', '--format', format, 'Created-By: Packages'];
  return parseTargets((await check(argv, { signal })).stdout);
}

export function parseTargets(output: string): AptTarget[] {
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [uri = '', release = '', component = '', origin = '', codename = '', suite = ''] = line.split('\t');
      return { uri, release, component, origin, codename, suite };
    });
}

/**
 * Picks the sources for a suite out of what the host uses.
 * @param osRelease the text of the host's /etc/os-release: tells the distribution's own archive from additional ones
 * @param components default: those that the host uses
 * @throws {UsageError} when the host's apt knows no archive of a distribution
 */
export function candidatesFor(
  suite: string,
  targets: readonly AptTarget[],
  osRelease: string,
  components?: readonly string[],
): SourceCandidate[] {
  const archive = distributionArchive(targets, osRelease);
  if (archive.length === 0) {
    throw new UsageError('apt', "apt knows no package lists of this host's distribution: run `apt-get update` first");
  }
  const own = archive.filter((target) => [target.release, target.codename, target.suite].map(baseOf).includes(suite));
  if (own.some((target) => pocketOf(target.release) === '')) {
    return grouped(own, components).map((source) => ({ ...source, needed: true }));
  }
  const main = archive.filter((target) => pocketOf(target.release) === '');
  const asked = components ?? [...new Set(main.map((target) => target.component))];
  const mirrors = (pocket: Pocket): string[] => [
    ...new Set(archive.filter((target) => pocketOf(target.release) === pocket).map((target) => target.uri)),
  ];
  return (['', '-updates', '-security'] as const).flatMap((pocket) =>
    mirrors(pocket).map((uri) => ({ uri, release: `${suite}${pocket}`, components: asked, needed: pocket === '' })),
  );
}

/**
 * One-line format, which the apt of every suite reads; with sources, since images carry both.
 * @param options `[signed-by=...]`, or nothing
 */
export function sourcesList(sources: readonly Source[], types: readonly ('deb' | 'deb-src')[], options = ''): string {
  const lines = sources.flatMap(({ uri, release, components }) =>
    types.map((type) => [type, options, uri, release, ...components].filter((word) => word !== '').join(' ')),
  );
  return lines.map((line) => `${line}\n`).join('');
}

/**
 * The option that an apt in `root` needs to trust the distribution's archive: none where its keys are in trusted.gpg.d
 * (and then better none: the same archive named twice, once with a key and once without, is an error for apt).
 */
export function signedBy(root: string, origin: string): string {
  if (listing(`${root}/etc/apt/trusted.gpg.d`).some((name) => /\.(asc|gpg)$/.test(name))) return '';
  return ownKeyring(root, origin);
}

/**
 * The option by which an apt in `root` trusts the distribution's archive by the distribution's own keyring, where it has
 * that. Otherwise each `apt-get update` reads all keys of trusted.gpg.d one by one, which is half of the time it takes.
 */
export function ownKeyring(root: string, origin: string): string {
  const keyring = `/usr/share/keyrings/${origin.toLowerCase()}-archive-keyring.gpg`;
  return existsSync(`${root}${keyring}`) ? `[signed-by=${keyring}]` : '';
}

/** The entries of the distribution proper that the host runs. */
export function distributionArchive(targets: readonly AptTarget[], osRelease: string): AptTarget[] {
  const value = (key: string): string | undefined => new RegExp(`^${key}="?([^"\n]*)"?$`, 'm').exec(osRelease)?.[1];
  const [codename, id] = [value('VERSION_CODENAME'), value('ID')];
  const byCodename = targets.find((target) => codename !== undefined && baseOf(target.codename) === codename);
  const origin = byCodename?.origin ?? targets.find((target) => target.origin.toLowerCase() === id)?.origin;
  return targets.filter((target) => target.origin === origin && pocketOf(target.release) !== undefined);
}

const pockets = /(-updates|-security|\/updates|-backports(?:-sloppy)?|-proposed(?:-updates)?)$/;

/** `bookworm` of `bookworm-security`. */
function baseOf(release: string): string {
  return release.replace(pockets, '');
}

/** Which part of a suite a release is; undefined for those that images leave out. */
function pocketOf(release: string): Pocket | undefined {
  const [, pocket = ''] = pockets.exec(release) ?? [];
  if (pocket === '/updates') return '-security'; // as security was called before Debian 11
  return pocket === '' || pocket === '-updates' || pocket === '-security' ? pocket : undefined;
}

/** One source for each mirror and release, with all of its components. */
function grouped(targets: readonly AptTarget[], components?: readonly string[]): Source[] {
  const sources = new Map<string, Source>();
  for (const target of targets) {
    const [uri, release] = [target.uri, target.release];
    const known = sources.get(`${uri} ${release}`)?.components ?? [];
    sources.set(`${uri} ${release}`, { uri, release, components: [...new Set([...known, target.component])] });
  }
  return [...sources.values()].map((source) => ({ ...source, components: components ?? source.components }));
}

function listing(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
