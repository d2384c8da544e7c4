/** Where the root of a chroot is that this host's administrator has defined: what an image can be made of. */
import { cleanEnvironment, run } from '../../exec/run.ts';
import { UsageError } from '../../protocol/errors.ts';
import { listChroots } from './session.ts';

/** Types of schroot.conf(5) whose root is there without a session, and the key that names it. */
const keys: Readonly<Record<string, string>> = { directory: 'directory', file: 'file' };

/** @returns a directory, or a tar file @throws {UsageError} there is no such chroot, or its root needs a session */
export async function rootOfChroot(name: string, signal: AbortSignal): Promise<string> {
  const known = await listChroots();
  if (!known.includes(`chroot:${name}`)) {
    const names = known.map((one) => one.replace(/^chroot:/, '')).join(', ');
    throw new UsageError(name, `schroot knows no chroot ${name} (it knows ${names || 'none'})`);
  }
  const argv = ['/usr/bin/schroot', '--config', `--chroot=chroot:${name}`];
  const { stdout } = await run(argv, { env: { ...cleanEnvironment, LC_ALL: 'C' }, signal });
  const value = (key: string): string | undefined => new RegExp(`^${key}=(.*)$`, 'm').exec(stdout)?.[1];
  const type = value('type') ?? 'plain';
  const root = value(keys[type] ?? '');
  if (root !== undefined && root !== '') return root;
  throw new UsageError(
    name,
    `the chroot ${name} is of schroot’s type ${type}, whose root is there in a session only: import that session’s directory`,
  );
}
