/** Which daemons' containers have an upper layer that can become part of an image; the answers are docker's and podman's. */
import { expect, test } from 'vitest';
import { noUpperLayer, takesLayers, type DaemonInfo } from '../../../src/backends/docker/storage.ts';

const native = ['Native Overlay Diff', 'true'];

test.each<[string, DaemonInfo, RegExp | undefined]>([
  ['docker', { Driver: 'overlay2', DriverStatus: [['Backing Filesystem', 'extfs'], native] }, undefined],
  ['podman', { Driver: 'overlay', DriverStatus: [native, ['Using metacopy', 'false']] }, undefined],
  ['podman with metacopy', { Driver: 'overlay', DriverStatus: [['Using metacopy', 'true']] }, /metacopy/],
  ['an overlay that does not say', { Driver: 'overlay', DriverStatus: null }, /metacopy/],
  [
    'ids of its own',
    { Driver: 'overlay2', DriverStatus: [native], SecurityOptions: ['name=userns'] },
    /remaps user ids/,
  ],
  ['copies of everything', { Driver: 'vfs' }, /overlay2 \(podman: overlay\), not vfs/],
])('%s', (_, info, why) => {
  const found = noUpperLayer(info);
  if (why === undefined) expect(found).toBeUndefined();
  else expect(found).toMatch(why);
});

test.each<[string, DaemonInfo, boolean]>([
  ['docker', { Driver: 'overlay2', DriverStatus: [native], SecurityOptions: ['name=seccomp,profile=default'] }, true],
  ['a kernel that redirects', { Driver: 'overlay2', DriverStatus: [['Native Overlay Diff', 'false']] }, false],
  ['rootless', { Driver: 'overlay2', DriverStatus: [native], SecurityOptions: ['name=rootless'] }, false],
  ['other ids', { Driver: 'overlay2', DriverStatus: [native], SecurityOptions: ['name=userns'] }, false],
  ['podman', { Driver: 'overlay', DriverStatus: [native] }, false],
  [
    "containerd's snapshots",
    { Driver: 'overlayfs', DriverStatus: [['driver-type', 'io.containerd.snapshotter.v1']] },
    false,
  ],
])('an image layer made of an upper layer: %s', (_, info, does) => {
  expect(takesLayers(info)).toBe(does);
});
