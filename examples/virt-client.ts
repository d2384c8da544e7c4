/** virt-client.ts SERVER [ARGUMENT...] -- COMMAND [ARGUMENT...]: runs the command in a testbed of any virt server. */
import { spawnSync } from 'node:child_process';
import { Session, startChildServer } from 'goldbed/adt-virt';

const separator = process.argv.lastIndexOf('--');
const server = process.argv.slice(2, separator);
const command = process.argv.slice(separator + 1);

const channel = await startChildServer(server, { log: console.error });
await using session = await Session.start(channel, { backend: server.join(' ') });
console.error('capabilities:', ...(await session.capabilities()));
console.error('scratch directory:', await session.open());
const [program, ...args] = await session.executeCommand();
const { status } = spawnSync(program, [...args, ...command], { stdio: 'inherit' });
await session.close();
await session.quit();
process.exitCode = status ?? 1;
