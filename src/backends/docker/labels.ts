/** By these a container is found when the process that made it is gone. */
import { ownIdentity } from '../../exec/process-identity.ts';

export const sessionLabel = 'goldbed.session';
export const ownerLabel = 'goldbed.owner';

export function ownLabels(sessionId: string): Record<string, string> {
  return { [sessionLabel]: sessionId, [ownerLabel]: JSON.stringify(ownIdentity()) };
}
