/** Which daemons' containers have an upper layer that can become part of an image; the answers are docker's and podman's. */
import { expect, test } from 'vitest';
import { noUpperLayer, type DaemonInfo } from '../../../src/backends/docker/storage.ts';

const native = ['Native Overlay Diff', 'true'];

test.each<[string, DaemonInfo, RegExp | undefined]>([
  ['docker', { Driver: 'overlay2', DriverStatus: [['Backing Filesystem', 'extfs'], native] }, undefined],
  ['podman', { Driver: 'overlay', DriverStatus: [native, ['Using metacopy', 'false']] }, undefined],
  ['podman with metacopy', { Driver: 'overlay', DriverStatus: [['Using metacopy', 'true']] }, /metacopy/],
  ['an overlay that does not say', { Driver: 'overlay', DriverStatus: null }, /metacopy/],
  ['copies of everything', { Driver: 'vfs' }, /overlay2 \(podman: overlay\), not vfs/],
])('%s', (_, info, why) => {
  const found = noUpperLayer(info);
  if (why === undefined) expect(found).toBeUndefined();
  else expect(found).toMatch(why);
});
