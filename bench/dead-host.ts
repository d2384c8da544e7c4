/** How long the job of a host that dies takes to run elsewhere, with the times that a fleet has by default. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { debianArchitecture } from '../src/exec/debian-architecture.ts';
import { enqueue } from '../src/producer/enqueue.ts';
import { noOpRequest, startNoOpWorker } from './no-op.ts';
import type { Place } from './place.ts';
import type { Server } from './queue-server.ts';

export const dyingImage = 'dying';

/** @returns seconds from the SIGKILL of a worker that ran a job to its start on another */
export async function measureDeadHost(server: Server, place: Place): Promise<number> {
  const script = fileURLToPath(new URL('./dying-host.ts', import.meta.url));
  const argv = [...process.execArgv, script, place.folder('dying-host'), server.socketPath];
  const dying = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const said = once(dying.stdout, 'data'); // that its job runs
    await enqueue(server.redis, noOpRequest('orphan', dyingImage), await debianArchitecture());
    await said;
    let runs = (): void => {};
    const running = new Promise<void>((resolve) => (runs = resolve));
    const other = { ...server, name: 'other', slots: 1, images: [dyingImage], job: () => runs() };
    await using survivor = await startNoOpWorker(other);
    void survivor;
    const gone = once(dying, 'exit');
    dying.kill('SIGKILL');
    await gone;
    const began = performance.now();
    await running;
    return (performance.now() - began) / 1000;
  } finally {
    dying.kill('SIGKILL');
  }
}
