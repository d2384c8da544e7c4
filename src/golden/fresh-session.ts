/** The last check before publishing: a new, disposable session opens on the candidate, and what must work there works. */
import type { Backend, Content } from '../backends/backend.ts';
import { GoldenRefusal, type Argv } from '../protocol/testbed.ts';
import { runInside, verifyInside } from './verify.ts';

/** A further look at a candidate, with sessions of its own. @returns names of what passed */
export type CheckContent = (candidate: Content, signal: AbortSignal) => Promise<string[]>;

export interface FreshSessionOptions {
  readonly sessionId: string;
  /** Commands that must end with 0 there, in their order; what they change is not published. */
  readonly verify?: readonly Argv[];
  /** Whether what is always checked inside (verify.ts) has not been, on the way to this candidate. */
  readonly audit?: boolean;
  /** After all else. */
  readonly check?: CheckContent;
}

/** @returns the names of the checks @throws {GoldenRefusal} `commit-failed` naming the first that failed; {TestbedError} */
export async function freshSession(
  backend: Backend,
  content: Content,
  { sessionId, verify = [], audit = false, check }: FreshSessionOptions,
  signal: AbortSignal,
): Promise<string[]> {
  const passed = await inSession(backend, content, { sessionId, verify, audit }, signal);
  return check === undefined ? passed : [...passed, ...(await check(content, signal))];
}

async function inSession(
  backend: Backend,
  content: Content,
  { sessionId, verify, audit }: Required<Omit<FreshSessionOptions, 'check'>>,
  signal: AbortSignal,
): Promise<string[]> {
  await using testbed = await backend.open(content, { sessionId }, signal);
  const passed = audit ? await verifyInside(testbed.auxverb, signal) : [];
  for (const [name, argv] of [
    ['fresh session', ['/bin/true']] as const,
    ...verify.map((one) => [one.join(' '), one] as const),
  ]) {
    const { code, stdout, stderr } = await runInside(testbed.auxverb, argv, signal);
    const said = (stderr.trim() || stdout.trim()).split('\n').at(-1) ?? '';
    if (code !== 0)
      throw new GoldenRefusal('commit-failed', `${name} fails on the new generation: exit ${code} ${said}`.trim());
    passed.push(name);
  }
  return passed;
}
