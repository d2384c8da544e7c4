/** What the qemu backend says to a kernel and to its agent, byte by byte; machines are in test/conformance and test/nightly. */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cpio } from '../../../src/backends/qemu/cpio.ts';
import { encodeFrame, FrameReader, type Frame } from '../../../src/backends/qemu/frames.ts';
import { inOrder, parseDependencies } from '../../../src/backends/qemu/kernel.ts';

describe('frames', () => {
  const frame = fc.record({
    channel: fc.integer({ min: 0, max: 0xffff_ffff }),
    letter: fc.constantFrom('R', 'I', 'O', 'S', 'Y'),
    data: fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
  });

  it('come out as they went in, however the stream is cut', () => {
    const property = fc.property(fc.array(frame), fc.array(fc.nat(200)), (frames, cuts) => {
      const stream = Buffer.concat(frames.map(encodeFrame));
      const reader = new FrameReader();
      const out: Frame[] = [];
      let at = 0;
      for (const cut of [...cuts, stream.length]) {
        out.push(...reader.push(stream.subarray(at, at + cut)));
        at += cut;
      }
      expect(out.map(encodeFrame)).toEqual(frames.map(encodeFrame));
    });
    fc.assert(property);
  });

  it('are refused when they are longer than any can be', () => {
    const header = encodeFrame({ channel: 1, letter: 'O', data: Buffer.alloc(0) });
    header.writeUInt32BE(0x7fff_ffff, 0);
    expect(() => new FrameReader().push(header)).toThrow(RangeError);
  });
});

describe('modules', () => {
  const known = parseDependencies(
    [
      'kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz',
      'kernel/lib/crc16.ko.xz:',
      'kernel/fs/mbcache.ko.xz:',
      'kernel/a-b.ko: kernel/c.ko',
      'kernel/c.ko: kernel/a-b.ko',
      '../../etc/passwd:',
      'kernel/"x".ko:',
    ].join('\n'),
  );

  it('come after what they need, once; those that are not known are built in; a circle ends', () => {
    expect(inOrder(known, ['virtio_blk', 'ext4', 'crc16', 'a_b'])).toEqual([
      'kernel/lib/crc16.ko.xz',
      'kernel/fs/mbcache.ko.xz',
      'kernel/fs/ext4/ext4.ko.xz',
      'kernel/c.ko',
      'kernel/a-b.ko',
    ]);
  });

  it('that lie outside, or whose names are no names, are left out', () => {
    expect([...known.keys()]).toEqual(['ext4', 'crc16', 'mbcache', 'a_b', 'c']);
  });
});

it('an archive for the kernel holds what was put in, aligned', () => {
  const archive = cpio([
    { type: 'folder', path: 'dev' },
    { type: 'device', path: 'dev/console', major: 5, minor: 1 },
    { type: 'file', path: 'init', content: Buffer.from('#!/bin/x'), mode: 0o755 },
  ]);
  expect(archive.length % 4).toBe(0);
  // perl reads it as the kernel does: a second pair of eyes
  const read = `
    undef $/; my $all = <STDIN>; my $at = 0;
    while (1) {
      my ($magic, @field) = unpack 'A6 (A8)13', substr $all, $at, 110;
      my ($mode, $size, $major, $minor, $length) = map { hex } @field[1, 6, 9, 10, 11];
      my $name = substr $all, $at + 110, $length - 1;
      my $start = $at + 110 + $length; $start += -$start & 3;
      last if $name eq 'TRAILER!!!';
      printf "%s %o %d:%d %s|", $name, $mode, $major, $minor, substr $all, $start, $size;
      $at = $start + $size; $at += -$at & 3;
    }`;
  const seen = execFileSync('/usr/bin/perl', ['-e', read], { input: archive, encoding: 'utf8' });
  expect(seen).toBe('dev 40755 0:0 |dev/console 20600 5:1 |init 100755 0:0 #!/bin/x|');
});
