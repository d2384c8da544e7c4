/** The golden verbs of a server, on an image that it may write (docs/golden-verb.md; the numbers are those of its vectors). */
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { check, run } from '../../../src/exec/run.ts';
import { decodeArgv } from '../../../src/protocol/adt-virt/words.ts';
import { Wire, type ServerUnderTest } from './describe-virt-server.ts';

export function describeGoldenServer(name: string, server: () => ServerUnderTest): void {
  const sh = async (wire: Wire, script: string, input = ''): Promise<{ code: number; stdout: string }> => {
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const { code, stdout } = await run([...auxverb, '/bin/sh', '-c', script], { input });
    return { code, stdout };
  };
  /** An archive of one file with an extended attribute, which neither host nor testbed has a program for. */
  const withAttribute = async (): Promise<string> => {
    const tar = [
      '/bin/tar',
      '-C',
      '/etc',
      '--format=pax',
      '--pax-option=SCHILY.xattr.user.goldbed:=kept',
      '-c',
      'issue',
    ];
    return (await check(tar)).stdout;
  };
  /** The id of the generation that a new session opens, and whether it holds what was to be discarded. */
  const current = async (): Promise<{ id: string; discarded: boolean }> => {
    const wire = new Wire(server());
    expect(await wire.ask('open-golden')).toMatch(/^ok /); // also: the lock is free
    const [, id = ''] = /golden-image-id=(\S+)/.exec(await wire.ask('capabilities')) ?? [];
    const discarded = (await sh(wire, 'test ! -e /root/discarded')).code !== 0;
    expect(await wire.quit()).toBe(0);
    return { id, discarded };
  };
  const inFreshSession = async (script: string): Promise<{ code: number; stdout: string }> => {
    const wire = new Wire(server());
    await wire.ask('open');
    const result = await sh(wire, script);
    expect(await wire.quit()).toBe(0);
    return result;
  };

  describe(`${name}: the golden verbs`, () => {
    test('G1, G2, G15: announced, with an id while open, another one after a commit', async () => {
      const wire = new Wire(server());
      expect(await wire.ask('capabilities')).toMatch(/ golden-image$/);
      expect(await wire.ask('open-golden')).toMatch(/^ok \/\S+$/);
      const first = await wire.ask('capabilities');
      expect(first).toMatch(/ golden-image golden-image-id=\S+%40\d+$/);
      await sh(wire, 'date +%N >/root/stamp');
      expect(await wire.ask('commit-golden')).toBe('ok');
      expect(await wire.ask('open-golden')).toMatch(/^ok /);
      expect(await wire.ask('capabilities')).not.toBe(first);
      expect(await wire.quit()).toBe(0);
    });

    test('G6, G14, G17, G21: a commit is what new sessions see, whole; a reader keeps what it opened', async () => {
      const stamp = `stamp-${process.pid}-${Date.now()}`;
      const reader = new Wire(server());
      await reader.ask('open');
      const writer = new Wire(server());
      const scratch = (await writer.ask('open-golden')).slice(3);
      const made = await sh(
        writer,
        `set -e; cd /root; rm -f mark link set; echo ${stamp} >mark; chown games:mail mark; ln mark link; cp /bin/true set; chmod 4755 set
        rm -f dangling; ln -s nowhere dangling; tar --xattrs --xattrs-include='*' -xf -
        rm -rf /opt/old; mkdir -p /opt/new/x; rm -rf /usr/share/doc/base-files`,
        await withAttribute(),
      );
      expect(made.code).toBe(0);
      expect(await writer.ask('commit-golden')).toBe('ok');
      expect((await sh(reader, `cat /root/mark`)).stdout).not.toContain(stamp);
      expect(await reader.quit()).toBe(0);
      const seen = await inFreshSession(
        `cat /root/mark; stat -c '%U:%G %h' /root/mark; stat -c %a /root/set; readlink /root/dangling
        tar -C /root --xattrs --xattrs-include='*' -c issue | grep -a -o 'user.goldbed=kept'; test -d /opt/new/x && test ! -e ${scratch} &&
        test ! -e /usr/share/doc/base-files`,
      );
      expect(seen).toEqual({ code: 0, stdout: `${stamp}\ngames:mail 2\n4755\nnowhere\nuser.goldbed=kept\n` });
      await expect(writer.ask('close')).resolves.toBe('(end of output)'); // it is closed already
    });

    const ends = [
      'close',
      'quit',
      'EOF',
      'SIGTERM',
      'SIGINT',
      'SIGHUP',
      'SIGKILL',
      'frobnicate',
      'open',
      'open-golden',
    ];
    test('G4, G7-G12: whatever ends a session but a commit discards, and frees the lock', async () => {
      const before = await current();
      expect(before.discarded).toBe(false);
      for (const end of ends) {
        const wire = new Wire(server());
        expect(await wire.ask('open-golden'), end).toMatch(/^ok /); // it comes after what was before
        expect(await sh(wire, 'test ! -e /root/discarded && touch /root/discarded'), end).toMatchObject({ code: 0 });
        expect([end, await endOf(wire, end)]).toEqual([end, exitAfter(end)]);
      }
      expect(await current()).toEqual(before);
    });

    test('G5: a commit of nothing, or of a plain session, is an error, and writes nothing', async () => {
      const before = await current();
      const closed = new Wire(server());
      expect(await endOf(closed, 'commit-golden')).toBe(12);
      const plain = new Wire(server());
      const opened = await plain.ask('open');
      expect(await plain.ask('capabilities')).toContain(` golden-image-id=${before.id}`); // of what is open
      await sh(plain, `touch /root/discarded ${opened.slice(3)}/x`);
      expect(await endOf(plain, 'commit-golden')).toBe(12);
      const again = new Wire(server());
      expect(await again.ask('open')).toMatch(/^ok /);
      expect(await endOf(again, 'open-golden')).toBe(12);
      expect(await current()).toEqual(before);
    });

    test('G16: a second writer is told so, and can still read', async () => {
      const first = new Wire(server());
      expect(await first.ask('open-golden')).toMatch(/^ok /);
      const second = new Wire(server());
      const reader = new Wire(server());
      expect(await reader.ask('open')).toMatch(/^ok /); // a reader never waits
      const refused = second.ask('open-golden');
      expect(await reader.quit()).toBe(0);
      expect(await refused).toBe('golden-locked');
      expect(await second.ask('open')).toMatch(/^ok /);
      expect(await second.quit()).toBe(0);
      expect(await first.quit()).toBe(0);
    });

    test('a normal user is suggested, who owns the scratch directory; what is written for the image has none', async () => {
      const look =
        'cat /etc/passwd /etc/group /etc/shadow | grep -c "^$"; getent passwd goldbed; su goldbed -s /bin/sh -c "id -un; cd; pwd; id -u"; stat -c "%a %U" ';
      const wire = new Wire(server());
      const isolated = / isolation-/.test(await wire.ask('capabilities'));
      const scratch = (await wire.ask('open')).slice(3);
      if (isolated) {
        expect((await sh(wire, `stat -c "%a %U" ${scratch}`)).stdout).toBe('777 root\n');
        return expect(await wire.quit()).toBe(0);
      }
      expect(await wire.ask('capabilities')).toContain(' suggested-normal-user=goldbed ');
      expect((await sh(wire, `${look} ${scratch}`)).stdout).toMatch(
        /^0\ngoldbed:x:(5\d{4}):\1:.*\ngoldbed\n\/home\/goldbed\n\1\n755 goldbed\n$/,
      );
      expect(await wire.ask('close')).toBe('ok');
      expect(await wire.ask('open-golden')).toBe(`ok ${scratch}`);
      expect(await wire.ask('capabilities')).not.toContain('suggested-normal-user');
      expect((await sh(wire, `getent passwd goldbed; stat -c "%a %U" ${scratch}`)).stdout).toBe('755 root\n');
      expect(await wire.quit()).toBe(0);
    });

    test('G13: a revert throws away what was not committed, keeps path and lock; a commit then publishes no change', async () => {
      const before = await current();
      const wire = new Wire(server());
      const opened = await wire.ask('open-golden');
      await sh(wire, 'touch /root/discarded; rm -r /usr/share/doc/apt');
      expect(await wire.ask('revert')).toBe(opened);
      expect((await sh(wire, 'test ! -e /root/discarded && test -d /usr/share/doc/apt')).code).toBe(0);
      expect(await wire.ask('commit-golden')).toBe('ok');
      expect(await wire.quit()).toBe(0);
      const after = await current();
      expect([after.discarded, after.id === before.id]).toEqual([false, false]);
      expect((await inFreshSession(`test -d /usr/share/doc/apt; ls -d ${opened.slice(3)}`)).code).toBe(2);
    });
  });
}

/** Sends it, or what it stands for. @returns how the server ended */
async function endOf(wire: Wire, end: string): Promise<number | string | null> {
  const ended = once(wire.child, 'exit') as Promise<[number | null, string | null]>;
  if (end.startsWith('SIG')) wire.child.kill(end as NodeJS.Signals);
  else if (end === 'EOF') wire.child.stdin?.end();
  else if (end === 'close') expect(await wire.ask('close')).toBe('ok');
  else wire.child.stdin?.write(`${end}\n`);
  if (end === 'close') wire.child.stdin?.write('quit\n');
  const [code, signal] = await ended;
  return signal ?? code;
}

function exitAfter(end: string): number | string {
  if (end.startsWith('SIG')) return end;
  return end === 'close' || end === 'quit' ? 0 : 12;
}
