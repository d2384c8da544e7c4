/** Metrics and health of a worker, where its configuration asks for them. */
import { messageOf } from '../protocol/errors.ts';
import type { Metrics } from '../worker/metrics.ts';
import { refreshTimes } from './freshness.ts';
import type { Parts } from './in-charge.ts';

export interface Served extends AsyncDisposable {
  readonly metrics?: Metrics;
}

const nothing: Served = { async [Symbol.asyncDispose]() {} };

/** @throws {UnavailableError} the port is taken; a process with adopted jobs goes on without rather than lose them */
export async function serveMetrics(parts: Parts, refreshWaits: () => number): Promise<Served> {
  const { context, redis, host, journal, ledger, breaker, guard, inheritance, log } = parts;
  const { metrics: port } = context.settings.worker;
  if (port === undefined || !parts.resident) return nothing; // the port is that of the host's own worker
  // loaded only where it is asked for: most workers are those of one waiting command
  const { Metrics: Made } = await import('../worker/metrics.ts');
  const { startHealthServer } = await import('../worker/health-server.ts');
  const metrics = new Made({
    ...{ redis, host: host.name, incarnation: journal.incarnation, ledger, breaker, refreshWaits },
    refreshed: () => refreshTimes(context.state),
  });
  try {
    const notReady = (): Promise<string | undefined> => guard.notReady();
    const server = await startHealthServer({ port, registry: metrics.registry, notReady });
    log(`metrics on http://127.0.0.1:${server.port}/metrics`);
    return { metrics, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
  } catch (error) {
    if (inheritance.jobs.length === 0) throw error;
    log(`no metrics: ${messageOf(error)}`);
    return nothing;
  }
}
