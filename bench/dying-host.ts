/** dying-host.ts STATE SOCKET: a worker that begins a job, says so, and never ends it: it is there to be killed. */
import { dyingImage } from './dead-host.ts';
import { startNoOpWorker } from './no-op.ts';

const [, , root = '', socketPath = ''] = process.argv;
const job = (): Promise<void> => {
  process.stdout.write('running\n');
  return new Promise(() => {});
};
await startNoOpWorker({ root, socketPath, name: 'dying', slots: 1, images: [dyingImage], job });
