/** The golden verbs of a server, on an image that it may write (docs/golden-verb.md; the numbers are those of its vectors). */
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { run } from '../../../src/exec/run.ts';
import { decodeArgv } from '../../../src/protocol/adt-virt/words.ts';
import { Wire, type ServerUnderTest } from './describe-virt-server.ts';

export function describeGoldenServer(name: string, server: () => ServerUnderTest): void {
  const sh = async (wire: Wire, script: string): Promise<{ code: number; stdout: string }> => {
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const { code, stdout } = await run([...auxverb, '/bin/sh', '-c', script]);
    return { code, stdout };
  };
  /** Of the generation that a new session opens. */
  const generation = async (): Promise<string> => {
    const wire = new Wire(server());
    await wire.ask('open-golden');
    const [, id = ''] = /golden-image-id=(\S+)/.exec(await wire.ask('capabilities')) ?? [];
    expect(await wire.quit()).toBe(0);
    return id;
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
        rm -rf /opt/old; mkdir -p /opt/new/x; rm -rf /usr/share/doc/base-files`,
      );
      expect(made.code).toBe(0);
      expect(await writer.ask('commit-golden')).toBe('ok');
      expect((await sh(reader, `cat /root/mark`)).stdout).not.toContain(stamp);
      expect(await reader.quit()).toBe(0);
      const seen = await inFreshSession(
        `cat /root/mark; stat -c '%U:%G %h' /root/mark; stat -c %a /root/set; test -d /opt/new/x && test ! -e ${scratch} &&
        test ! -e /usr/share/doc/base-files`,
      );
      expect(seen).toEqual({ code: 0, stdout: `${stamp}\ngames:mail 2\n4755\n` });
      await expect(writer.ask('close')).resolves.toBe('(end of output)'); // it is closed already
    });

    test.each(['close', 'quit', 'frobnicate', 'SIGTERM', 'SIGKILL'] as const)('G7-G12: %s discards', async (end) => {
      const before = await generation();
      const wire = new Wire(server());
      await wire.ask('open-golden');
      await sh(wire, 'touch /root/discarded');
      if (end === 'close') {
        expect(await wire.ask('close')).toBe('ok');
        expect(await wire.quit()).toBe(0);
      } else {
        const ended = once(wire.child, 'exit');
        if (end.startsWith('SIG')) wire.child.kill(end as NodeJS.Signals);
        else wire.child.stdin?.write(`${end}\n`);
        await ended;
      }
      expect(await generation()).toBe(before); // also: the lock is free
      expect((await inFreshSession('test ! -e /root/discarded')).code).toBe(0);
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

    test('G13: a revert throws away what was not committed, and keeps the path and the lock', async () => {
      const wire = new Wire(server());
      const opened = await wire.ask('open-golden');
      await sh(wire, 'touch /root/reverted');
      expect(await wire.ask('revert')).toBe(opened);
      expect((await sh(wire, 'test ! -e /root/reverted')).code).toBe(0);
      expect(await wire.quit()).toBe(0);
    });
  });
}
