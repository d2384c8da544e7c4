/** virt-server.ts FOLDER: each testbed is a copy of the folder, an unpacked root; commands run there by chroot(8). */
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { serve, type TestbedSource } from 'goldbed/adt-virt';

const [folder = '/nonexistent'] = process.argv.slice(2);
const traits = ['root-on-testbed', 'revert-full-system'] as const;

const source: TestbedSource = {
  name: 'copy',
  traits,
  revert: true,
  reboot: false,
  async open() {
    const copy = mkdtempSync('/var/tmp/testbed-');
    const discard = async () => void execFileSync('rm', ['-rf', copy]);
    const begin = async () => {
      try {
        execFileSync('cp', ['-a', `${folder}/.`, copy]);
      } catch (error) {
        await discard();
        throw error;
      }
    };
    await begin();
    const revert = () => discard().then(begin);
    return { auxverb: ['/usr/sbin/chroot', copy], traits, revert, [Symbol.asyncDispose]: discard };
  },
};

const stop = new AbortController();
for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const) process.on(name, () => stop.abort(name));
const io = { input: process.stdin, output: process.stdout, log: console.error };
process.exit(await serve(io, source, { copyTimeout: 300, signal: stop.signal }).catch(() => 1));
