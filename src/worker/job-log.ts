/** The log of one job: each line carries the ids of the job and of its session, once it has one. */
import type { Claimed } from './claimed.ts';
import type { Log } from './handle.ts';
import type { Host } from './host.ts';

export interface JobLog {
  readonly log: Log;
  /** The host as the job gets to see it: the sessions that are opened there are told. */
  readonly telling: (host: Host) => Host;
}

export function jobLog(log: Log, { runId, key, attempt }: Pick<Claimed, 'runId' | 'key' | 'attempt'>): JobLog {
  let session: string | undefined;
  const tell: Log = (line, details) =>
    log(line, { job: runId, queue: key, attempt, ...(session === undefined ? {} : { session }), ...details });
  const onSession = (opened: string): void => {
    session = opened;
    tell(`${runId}: session ${opened}`);
  };
  return {
    log: tell,
    telling: (host) => ({
      ...host,
      openImage: (image, backend, job) => host.openImage(image, backend, { ...job, onSession }),
      async makingTools(...asked) {
        const tools = await host.makingTools(...asked);
        onSession(tools.sessionId);
        return tools;
      },
    }),
  };
}
