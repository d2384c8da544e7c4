import { mkdir, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { namedFiles, neededOptions } from '../../../src/golden/apt-options.ts';
import { candidatesFor, ownKeyring, parseTargets, signedBy, sourcesList } from '../../../src/golden/apt-sources.ts';
import { temporaryState } from './fixtures/images.ts';

const debian = 'http://mirror.example/debian/';
const security = 'http://mirror.example/debian-security/';
const row = (...words: string[]): string => `${words.join('\t')}\n`;

/** A Debian 12 host with two additional archives, one of them a backport of its own. */
const host = [
  row(debian, 'bookworm', 'main', 'Debian', 'bookworm', 'oldstable'),
  row(debian, 'bookworm', 'contrib', 'Debian', 'bookworm', 'oldstable'),
  row(debian, 'bookworm-updates', 'main', 'Debian', 'bookworm-updates', 'oldstable-updates'),
  row(debian, 'bookworm-backports', 'main', 'Debian Backports', 'bookworm-backports', 'oldstable-backports'),
  row(debian, 'bookworm-proposed-updates', 'main', 'Debian', 'bookworm-proposed-updates', 'x'),
  row(security, 'bookworm-security', 'main', 'Debian', 'bookworm-security', 'oldstable-security'),
  row('https://vendor.example/apt/', 'nodistro', 'main', '. vendor', 'nodistro', 'nodistro'),
].join('');
const osRelease = 'NAME="Debian GNU/Linux"\nVERSION_CODENAME=bookworm\nID=debian\n';

test("the host's own suite has the host's entries, by either of its names", () => {
  const expected = [
    { uri: debian, release: 'bookworm', components: ['main', 'contrib'], needed: true },
    { uri: debian, release: 'bookworm-updates', components: ['main'], needed: true },
    { uri: security, release: 'bookworm-security', components: ['main'], needed: true },
  ];
  expect(candidatesFor('bookworm', parseTargets(host), osRelease)).toEqual(expected);
  expect(candidatesFor('oldstable', parseTargets(host), osRelease)).toEqual(expected);
});

test('another suite has the same mirrors, with its pockets where they exist', () => {
  const components = ['main', 'contrib'];
  expect(candidatesFor('trixie', parseTargets(host), osRelease)).toEqual([
    { uri: debian, release: 'trixie', components, needed: true },
    { uri: debian, release: 'trixie-updates', components, needed: false },
    { uri: security, release: 'trixie-security', components, needed: false },
  ]);
});

test('components can be given', () => {
  const asked = candidatesFor('sid', parseTargets(host), osRelease, ['main', 'non-free-firmware']);
  expect(asked.map((source) => source.components)).toEqual(
    Array.from({ length: 3 }, () => ['main', 'non-free-firmware']),
  );
});

test('other distributions work the same way', () => {
  const archive = 'http://mirror.example/ubuntu/';
  const ubuntu = [
    row(archive, 'noble', 'main', 'Ubuntu', 'noble', 'noble'),
    row(archive, 'noble', 'universe', 'Ubuntu', 'noble', 'noble'),
    row(archive, 'noble-security', 'main', 'Ubuntu', 'noble', 'noble-security'),
  ].join('');
  const asked = candidatesFor('noble', parseTargets(ubuntu), 'ID=ubuntu\nVERSION_CODENAME=noble\n');
  expect(asked.map((source) => source.release)).toEqual(['noble', 'noble-security']);
});

test('a rolling host whose codename is in no Release file is recognised by its id', () => {
  const sid = row(debian, 'sid', 'main', 'Debian', 'sid', 'unstable');
  const unstable = candidatesFor('unstable', parseTargets(sid), 'ID=debian\nVERSION_CODENAME=forky\n');
  expect(unstable).toEqual([{ uri: debian, release: 'sid', components: ['main'], needed: true }]);
  const stable = candidatesFor('trixie', parseTargets(sid), 'ID=debian\n');
  expect(stable.map((source) => source.release)).toEqual(['trixie']); // no mirror is known to have its security
});

test('without lists there is one thing to do', () => {
  for (const output of ['', row('https://vendor.example/', 'nodistro', 'main', 'vendor', 'nodistro', 'nodistro')]) {
    expect(() => candidatesFor('sid', parseTargets(output), osRelease)).toThrow('run `apt-get update` first');
  }
});

test('sources.list has one line for each type', () => {
  const sources = [{ uri: debian, release: 'sid', components: ['main', 'contrib'] }];
  expect(sourcesList(sources, ['deb', 'deb-src'])).toBe(
    `deb ${debian} sid main contrib\ndeb-src ${debian} sid main contrib\n`,
  );
  expect(sourcesList(sources, ['deb'], '[signed-by=/k.gpg]')).toBe(
    `deb [signed-by=/k.gpg] ${debian} sid main contrib\n`,
  );
});

test('a key is named only where apt would not find it by itself', async () => {
  await using state = await temporaryState();
  expect(signedBy(state.root, 'Debian')).toBe('');
  await mkdir(`${state.root}/usr/share/keyrings`, { recursive: true });
  await writeFile(`${state.root}/usr/share/keyrings/debian-archive-keyring.gpg`, '');
  expect(signedBy(state.root, 'Debian')).toBe('[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]');
  await mkdir(`${state.root}/etc/apt/trusted.gpg.d`, { recursive: true });
  await writeFile(`${state.root}/etc/apt/trusted.gpg.d/debian-archive-stable.asc`, '');
  expect(signedBy(state.root, 'Debian')).toBe('');
  // in an image it is named all the same: one keyring is faster than all of those
  expect(ownKeyring(state.root, 'Debian')).toBe('[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]');
  expect(ownKeyring(state.root, 'Ubuntu')).toBe('');
});

test("of the host's options those go along that reach the mirror", () => {
  const dump = `APT::Architecture "amd64";
Acquire "";
Acquire::http::Proxy "http://proxy.example:3142";
Acquire::http::Proxy::mirror.example "DIRECT";
Acquire::https::Proxy "";
Acquire::https::CAInfo "/etc/ssl/own.pem";
Acquire::http::Proxy-Auto-Detect "/usr/bin/auto-apt-proxy";
Acquire::AllowInsecureRepositories "0";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
DPkg::Post-Invoke:: "rm -rf \\"x\\"";
`;
  const options = neededOptions(dump);
  expect(options).toEqual([
    'Acquire::http::Proxy "http://proxy.example:3142"',
    'Acquire::http::Proxy::mirror.example "DIRECT"',
    'Acquire::https::CAInfo "/etc/ssl/own.pem"',
    'Acquire::Check-Valid-Until "false"',
    'Acquire::Check-Date "false"',
  ]);
  expect(namedFiles(options)).toEqual(['/etc/ssl/own.pem']);
});
