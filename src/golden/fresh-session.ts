/** The last check before publishing: a new, disposable session opens on the candidate and runs a command. */
import type { Backend, Content } from '../backends/backend.ts';
import { run } from '../exec/run.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';

/** @returns the name of the check @throws {GoldenRefusal} `commit-failed` when the command fails; {TestbedError} from open */
export async function freshSession(
  backend: Backend,
  content: Content,
  sessionId: string,
  signal: AbortSignal,
): Promise<string> {
  await using testbed = await backend.open(content, { sessionId }, signal);
  const { code, stderr } = await run([...testbed.auxverb, '/bin/true'], { signal });
  if (code === 0) return 'fresh session';
  throw new GoldenRefusal('commit-failed', `a session on the new generation fails: exit ${code} ${stderr.trim()}`);
}
