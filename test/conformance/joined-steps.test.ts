/** One apt-get that does the work of two leaves what the two leave: with real apt, on packages made for it. */
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { joinSteps, updateSteps, type UpdateStep } from '../../src/golden/update-steps.ts';
import { runInside } from '../../src/golden/verify.ts';
import { baseRoot, goldbedWithImage, smallImage } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';

const never = new AbortController().signal;
const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();

/** For a shell: `make NAME VERSION FIELDS [PREINST POSTINST]`, `index` of what was made, and an archive of nothing else. */
const toys = `
set -e
mkdir -p /srv/toys && cd /srv/toys
make() {
  mkdir -p tree/DEBIAN
  printf 'Package: %s\\nVersion: %s\\nArchitecture: all\\nMaintainer: A <a@example.org>\\nDescription: a toy\\n%s' \\
    "$1" "$2" "\${3:+$3
}" >tree/DEBIAN/control
  for script in "preinst $4" "postinst $5"; do
    printf '#!/bin/sh\\n%s\\n' "\${script#* }" >"tree/DEBIAN/\${script%% *}"
    chmod 755 "tree/DEBIAN/\${script%% *}"
  done
  dpkg-deb --build tree "$1_$2.deb" >/dev/null
  rm -r tree
}
index() {
  for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
  done >Packages
}
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
echo 'deb [trusted=yes] file:/srv/toys ./' >/etc/apt/sources.list
`;

/**
 * toy-a 1 needs toy-b, which needs toy-c; toy-a 2 needs none of them. toy-d stays needed. toy-old came automatically and
 * nothing needs it. No other archive counts.
 */
const prepare = `${toys}
make toy-a 1 'Depends: toy-b, toy-d'; make toy-b 1 'Depends: toy-c'; make toy-c 1; make toy-d 1; make toy-old 1
index
apt-get -q update && apt-get -qy install toy-a toy-old && apt-mark auto toy-old
`;
const upgrade = `${toys} make toy-a 2 'Depends: toy-d'; index`;

/** Essential ones, `upper` with one that must be configured before it is unpacked: its script looks whether it is. */
const essentials = `${toys}
all() {
  make ground $1 'Essential: yes' '' "echo $1 >/var/lib/ground"
  make upper $1 "Essential: yes
Pre-Depends: ground (>= $1)" "test $1 = \\$(cat /var/lib/ground)"
  make beside $1 'Essential: yes'
  index
}
all 1
apt-get -q update && apt-get -qy install ground upper beside
all 2
rm -f /var/log/dpkg.log
`;
const look =
  'dpkg-query --show --showformat="\\${Package} \\${Version} \\${db:Status-Status}\\n"; apt-mark showauto; ls /var/cache/apt/archives';
/** How many times dpkg was started. */
const startups = 'grep -c " startup " /var/log/dpkg.log || true';

describeWith('overlay', unavailable, 'steps that are joined', () => {
  /** @returns what there is afterwards, and how many times dpkg was started */
  async function after(
    steps: readonly Pick<UpdateStep, 'argv'>[],
    preparation: readonly string[],
  ): Promise<{ left: string; dpkgs: number }> {
    const goldbed = await goldbedWithImage(smallImage);
    const content = { layers: [await baseRoot()] };
    const sessionId = randomUUID().replaceAll('-', '');
    await using testbed = await overlayBackend(stateAt(goldbed.state)).open(content, { sessionId }, never);
    const inside = async (argv: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await runInside(testbed.auxverb, argv as readonly [string], never);
      expect(code, `${stdout}${stderr}`).toBe(0);
      return stdout;
    };
    for (const script of preparation) await inside(['/bin/sh', '-c', script]);
    for (const { argv } of steps) await inside(argv);
    return {
      left: await inside(['/bin/sh', '-c', look]),
      dpkgs: Number(await inside(['/bin/sh', '-c', startups])),
    };
  }

  const wanted = updateSteps();
  for (const [name, preparation, gone] of [
    ['an upgrade that needs less', [prepare, upgrade], ['toy-b', 'toy-c', 'toy-old']],
    ['nothing to upgrade', [prepare], ['toy-old']],
  ] as const) {
    test(`${name}: the same packages, marks and files as apart`, async () => {
      const { left: joined } = await after(joinSteps(wanted, ''), preparation);
      expect(joined).toBe((await after(wanted, preparation)).left);
      expect(joined).toContain('toy-d 1 installed\n');
      for (const each of gone) expect(joined).not.toContain(`${each} 1 installed`);
    });
  }

  test('essential packages in one dpkg: as in one each, and what must be configured first is', async () => {
    const immediate = (word: string): string => word.replace('Configure=false', 'Configure=true');
    const steps = joinSteps(wanted, '');
    const apart = await after(
      steps.map(({ argv }) => ({ argv: argv.map(immediate) as unknown as UpdateStep['argv'] })),
      [essentials],
    );
    const together = await after(steps, [essentials]);
    expect(together.left).toBe(apart.left);
    expect(together.left).toContain('upper 2 installed\n');
    expect(together.dpkgs).toBeLessThan(apart.dpkgs);
  });
});
