/**
 * Composition of a worker: joins Redis, the images, the backends and the loop. Used by `goldbed worker`, and by a waiting
 * command that finds no worker.
 */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';
import { debianArchitecture } from '../exec/debian-architecture.ts';
import { identityOf } from '../exec/process-identity.ts';
import { Interruption } from '../protocol/errors.ts';
import { routingKey, type RoutingKey } from '../protocol/routing.ts';
import { Claims } from '../worker/claims.ts';
import { handle, type Log } from '../worker/handle.ts';
import { openJournal } from '../worker/journal.ts';
import { runLoop } from '../worker/loop.ts';
import { subscribeNudges } from '../worker/nudges.ts';
import { announce } from '../worker/presence.ts';
import { recover } from '../worker/recover.ts';
import { renewing } from '../worker/renewal.ts';
import { Slots } from '../worker/slots.ts';
import { openRedis, type Context } from './context.ts';
import { makeHost } from './make-host.ts';

export interface RunningWorker {
  /** `drain`: claims nothing more and ends when the running jobs have; `now`: gives them back. */
  stop(how: 'drain' | 'now'): void;
  readonly finished: Promise<void>;
}
