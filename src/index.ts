/** `import { ... } from 'goldbed'`: hand in jobs from TypeScript, watch and steer them. examples/enqueue.ts shows how. */
export { enqueue, enqueueAll, type Enqueued, type EnqueueOptions } from './producer/enqueue.ts';
export { cancelRun, findRun, listRuns, showRun, waitFor, type RunDetails, type RunState } from './producer/runs.ts';
export { pause, resume } from './producer/pause.ts';
export { runsOfImage, runsOfLabel, runsOnHost } from './producer/select.ts';
export { cancelRuns } from './redis/cancel.ts';
export { resolveSource, resolveSubject } from './producer/source.ts';
export { UnavailableError, UsageError } from './protocol/errors.ts';
export type { Failure } from './protocol/failure.ts';
export {
  buildRequestSchema,
  jobRequestSchema,
  requestId,
  testRequestSchema,
  updateRequestSchema,
  type JobRequest,
  type Source,
  type Subject,
} from './protocol/job-request.ts';
export { sizeSchema, type Size } from './protocol/size.ts';
export { outcomeSchema, type Outcome } from './protocol/outcome.ts';
export { acquireEmbedded, type EmbeddedRedis } from './redis/embedded.ts';
export { connectRedis, type RedisHandle, type RedisTarget } from './redis/connect.ts';
