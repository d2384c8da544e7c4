/** One apt-get that does the work of two leaves what the two leave: with real apt, on packages made for it. */
import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { joinSteps, updateSteps, type UpdateStep } from '../../src/golden/update-steps.ts';
import { runInside } from '../../src/golden/verify.ts';
import { goldbedWithImage, smallImage, wholeLayer } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';

const never = new AbortController().signal;
const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();

/**
 * toy-a 1 needs toy-b, which needs toy-c; toy-a 2 needs none of them. toy-d stays needed. toy-old came automatically and
 * nothing needs it. No other archive counts.
 */
const prepare = `
set -e
mkdir /srv/toys && cd /srv/toys
make() {
  mkdir -p tree/DEBIAN
  printf 'Package: %s\\nVersion: %s\\nArchitecture: all\\nMaintainer: A <a@example.org>\\nDescription: a toy\\n%s' \\
    "$1" "$2" "\${3:+Depends: $3
}" >tree/DEBIAN/control
  dpkg-deb --build tree "$1_$2.deb" >/dev/null
  rm -r tree
}
index() {
  for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
  done >Packages
}
make toy-a 1 'toy-b, toy-d'; make toy-b 1 toy-c; make toy-c 1; make toy-d 1; make toy-old 1
index
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
echo 'deb [trusted=yes] file:/srv/toys ./' >/etc/apt/sources.list
apt-get -q update && apt-get -qy install toy-a toy-old && apt-mark auto toy-old
`;
const upgrade = 'set -e; make toy-a 2 toy-d; index';
const functions = prepare.slice(prepare.indexOf('make()'), prepare.indexOf('make toy-a 1'));
const look =
  'dpkg-query --show --showformat="\\${Package} \\${Version} \\${db:Status-Status}\\n"; apt-mark showauto; ls /var/cache/apt/archives';

describeWith('overlay', unavailable, 'steps that are joined', () => {
  async function after(steps: readonly UpdateStep[], preparation: readonly string[]): Promise<string> {
    const goldbed = await goldbedWithImage(smallImage);
    const content = { layers: [await wholeLayer(goldbed.state, smallImage.name)] };
    const sessionId = randomUUID().replaceAll('-', '');
    await using testbed = await overlayBackend(stateAt(goldbed.state)).open(content, { sessionId }, never);
    const inside = async (argv: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await runInside(testbed.auxverb, argv as readonly [string], never);
      expect(code, `${stdout}${stderr}`).toBe(0);
      return stdout;
    };
    for (const script of preparation) await inside(['/bin/sh', '-c', script]);
    for (const { argv } of steps) await inside(argv);
    return await inside(['/bin/sh', '-c', look]); // before it is closed
  }

  const wanted = updateSteps();
  for (const [name, preparation, gone] of [
    ['an upgrade that needs less', [prepare, `cd /srv/toys; ${functions}${upgrade}`], ['toy-b', 'toy-c', 'toy-old']],
    ['nothing to upgrade', [prepare], ['toy-old']],
  ] as const) {
    test(`${name}: the same packages, marks and files as apart`, async () => {
      const [joined, apart] = [await after(joinSteps(wanted, ''), preparation), await after(wanted, preparation)];
      expect(joined).toBe(apart);
      expect(joined).toContain('toy-d 1 installed\n');
      for (const each of gone) expect(joined).not.toContain(`${each} 1 installed`);
    });
  }
});
