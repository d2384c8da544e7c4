/**
 * The steps of an update: sbuild-update's letters, in a fixed order whatever the order they are given in; sbuild-update's
 * own, but with `clean` last, with its own options (sbuild 0.85 to 0.89, sbuild-update and Sbuild/ResolverBase.pm),
 * except that here a failure counts, and that apt's two cache files stay as long as they are valid. Building them takes
 * apt most of a second each time. Its temporary apt.conf is the list of `-o` here.
 *
 * Each apt-get that opens its cache takes a fifth of a second before it does anything, so what one can do of another's
 * work it does: clean removes all that autoclean would, and dist-upgrade removes in the same go what autoremove would.
 */
import { UsageError } from '../protocol/errors.ts';
import type { Argv } from '../protocol/testbed.ts';

export interface UpdateStep {
  /** More than one where it does the work of several. */
  readonly letters: string;
  /** As sbuild-update's long options, and as a job's result calls it. */
  readonly name: string;
  readonly argv: Argv;
}

const settings = [
  'APT::Install-Recommends=false',
  'APT::AutoRemove::SuggestsImportant=false',
  'APT::AutoRemove::RecommendsImportant=false',
  'Acquire::Languages=none',
  'APT::Keep-Downloaded-Packages=false',
].flatMap((setting) => ['-o', setting]);

/** `apt-get update` ends with 0 when a mirror is away, unless told otherwise: half of the lists would be old ones. */
const strict = ['-o', 'APT::Update::Error-Mode=any'];
/** Not to throw valid cache files away: where the lists have changed, the next step notices and builds them. */
const keepCache = ['-o', 'pkgCacheFile::Generate=false'];
/** What `clean` is not told of it does not remove: the packages go, the cache files stay. */
const hideCache = ['-o', 'Dir::Cache::pkgcache=', '-o', 'Dir::Cache::srcpkgcache='];
/** dpkg asks nothing about configuration files: the installed ones stay. */
const keepOld = ['-o', 'Dpkg::Options::=--force-confold'];
/**
 * All are unpacked, then all configured. apt would configure each essential package at once, in a dpkg of its own, "to limit
 * the effect of a failing dpkg call" (apt.conf(5)): here that has none, the candidate is thrown away.
 */
const inOneGo = ['-o', 'APT::Immediate-Configure=false'];
const upgrading = ['-uy', ...keepOld, ...inOneGo];

const steps: readonly UpdateStep[] = [
  step('u', 'update', [...strict, ...keepCache, 'update']),
  step('g', 'upgrade', [...upgrading, 'upgrade']),
  step('d', 'dist-upgrade', [...upgrading, 'dist-upgrade']),
  step('a', 'autoclean', ['-y', 'autoclean']),
  step('r', 'autoremove', ['-y', 'autoremove']),
  step('c', 'clean', ['-y', ...hideCache, 'clean']),
];

export const defaultLetters = 'udcar';

/** @throws {UsageError} when a letter is none of sbuild-update's */
export function updateSteps(letters: string = defaultLetters): UpdateStep[] {
  const unknown = letters.split('').find((letter) => !steps.some((known) => known.letters === letter));
  if (unknown !== undefined || letters === '') {
    throw new UsageError(letters, `unknown update step '${unknown ?? ''}': the letters are u g d c a r`);
  }
  return steps.filter((known) => letters.includes(known.letters));
}

/** In one go, where the result is the same; in the place of the first of them. */
const together: readonly UpdateStep[] = [
  step('dr', 'dist-upgrade, autoremove', [...upgrading, '--auto-remove', 'dist-upgrade']),
  step('ca', 'clean, autoclean', ['-y', ...hideCache, 'clean']),
];

/**
 * The same steps in fewer commands.
 * @param manifest of the image as it is: with a kernel in it, autoremove stays apart, because apt counts the installed
 *   ones before it decides which of them it may remove
 */
export function joinSteps(wanted: readonly UpdateStep[], manifest: string): UpdateStep[] {
  const hasKernel = /^linux-image-/m.test(manifest);
  const letters = wanted.map((one) => one.letters).join('');
  const joined = together.filter(
    (one) => one.letters.split('').every((letter) => letters.includes(letter)) && !(hasKernel && one.letters === 'dr'),
  );
  return wanted.flatMap((one) => {
    const whole = joined.find((each) => each.letters.includes(one.letters));
    if (whole === undefined) return [one];
    return whole.letters.startsWith(one.letters) ? [whole] : [];
  });
}

function step(letters: string, name: string, args: readonly string[]): UpdateStep {
  const env = ['/usr/bin/env', 'DEBIAN_FRONTEND=noninteractive', '/usr/bin/apt-get'] as const;
  return { letters, name, argv: [...env, ...settings, ...args] };
}
