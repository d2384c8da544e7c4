/** enqueue.ts REDIS IMAGE SOURCE ARTIFACTS: hands a build in, and waits until a worker has run it. */
import { buildRequestSchema, connectRedis, enqueue, resolveSource, waitFor } from 'goldbed';

const [url = '', image = '', word = '', artifacts = ''] = process.argv.slice(2);
await using redis = await connectRedis({ kind: 'url', url, allowUnsafe: false }, 'goldbed');
const source = await resolveSource(word, artifacts); // a .dsc, a folder, or name[=version] from the image's archive
const request = buildRequestSchema.parse({ v: 1, kind: 'build', image, source });
const { runId, state } = await enqueue(redis, request, 'amd64');
console.error(runId, state); // the same request again is the same job, until it has ended
const { outcome, failure } = await waitFor(redis, runId, AbortSignal.timeout(3_600_000));
console.log(outcome?.result.status ?? failure?.message);
