/** One session: its disks, and the machine that runs on them, which may be started more than once. */
import path from 'node:path';
import { packageFile } from '../../exec/package-file.ts';
import { unlessAborted, within } from '../../exec/patience.ts';
import { messageOf, TestbedError, UsageError, type TestbedStep } from '../../protocol/errors.ts';
import type { BackendSettings, BackendTestbed, Content, OpenOptions } from '../backend.ts';
import { createSessionFolder, type SessionState } from '../session-folder.ts';
import { listenForAgent, type AgentLink } from './agent-link.ts';
import { makeChangesDisk, takeChanges } from './changes-disk.ts';
import { accelerator } from './emulator.ts';
import { writeInitrd } from './initrd.ts';
import { machineFiles } from './machine-files.ts';
import { startMachine, type Machine, type MachinePlan } from './machine.ts';

export const traits = ['isolation-machine', 'revert-full-system', 'root-on-testbed'] as const;

/** Milliseconds for a machine to come up or to go down: an emulated one on a busy host takes minutes. */
const patience = 600_000;

interface Running {
  readonly machine: Machine;
  readonly link: AgentLink;
}

interface Session {
  readonly plan: MachinePlan;
  /** Which libexec/qemu-enter connects to; the same for every machine of the session. */
  readonly runSocket: string;
}

/** In the folder of a session. */
const sockets = { agent: 'agent.sock', console: 'console.sock', run: 'run.sock' };

/** As long as the path of one gets. */
export function longestSocket(state: SessionState): string {
  return path.join(state.sessions, `qemu-${'0'.repeat(32)}`, sockets.console);
}

export async function openTestbed(
  state: SessionState,
  settings: BackendSettings['qemu'],
  content: Content,
  { sessionId, keepChangesIn }: OpenOptions,
  signal: AbortSignal,
): Promise<BackendTestbed> {
  const folder = createSessionFolder(state, 'qemu', sessionId, 0o700);
  const at = (name: string): string => path.join(folder.path, name);
  try {
    const { disk, kernel, modules } = await machineFiles(state, content, folder.path, signal);
    const [initrd, changesDisk] = [at('initrd'), at('changes.img')];
    await writeInitrd(initrd, modules, signal);
    await makeChangesDisk(changesDisk, signal);
    const ports = { agentSocket: at(sockets.agent), consoleSocket: at(sockets.console) };
    const files = { kernel, initrd, baseDisk: disk, changesDisk };
    const plan = { sessionId, ...files, ...ports, ...settings, accelerator: await accelerator() };
    const session = { plan, runSocket: at(sockets.run) };
    const first = await begin('open', session, signal);
    return testbed(session, first, keepChangesIn, () => folder.remove());
  } catch (error) {
    await folder.remove();
    if (signal.aborted || error instanceof TestbedError || error instanceof UsageError) throw error;
    throw new TestbedError('open', 'qemu', messageOf(error), { cause: error });
  }
}

function testbed(
  session: Session,
  first: Running,
  kept: string | undefined,
  remove: () => Promise<void>,
): BackendTestbed {
  let current = first;
  const { changesDisk } = session.plan;
  const end = async (): Promise<void> => {
    current.link.end();
    await current.machine.kill();
  };
  return {
    traits,
    auxverb: ['/usr/bin/perl', '-f', packageFile('libexec/qemu-enter'), session.runSocket, '--'],
    async revert(signal) {
      await end();
      await makeChangesDisk(changesDisk, signal);
      current = await begin('revert', session, signal);
    },
    async reboot(who, signal) {
      if (who === 'server') current.link.tell('reboot');
      await down('reboot', current, signal);
      current = await begin('reboot', session, signal);
    },
    ...(kept === undefined
      ? {}
      : {
          async capture(signal: AbortSignal) {
            current.link.tell('power off');
            const reason = await down('commit', current, signal);
            if (reason !== 'guest-shutdown') throw new TestbedError('commit', 'qemu', `the machine ended: ${reason}`);
            await takeChanges(changesDisk, kept, signal);
          },
        }),
    async [Symbol.asyncDispose]() {
      try {
        await end();
      } finally {
        await remove();
      }
    },
  };
}

/** A machine with a system that is up. @throws {TestbedError} with what the console said last */
async function begin(step: TestbedStep, { plan, runSocket }: Session, signal: AbortSignal): Promise<Running> {
  const link = await listenForAgent({ agent: plan.agentSocket, run: runSocket });
  let machine: Machine | undefined;
  try {
    const started = (machine = await startMachine(plan));
    void started.ended.then(() => link.end());
    const why = (reason: string): TestbedError =>
      new TestbedError(step, 'qemu', `the machine did not come up: ${reason}: ${started.lastWords()}`);
    const failed = started.ended.then((reason) => Promise.reject(why(reason)));
    await unlessAborted(
      within(Promise.race([link.up, failed]), patience, () => why('too slow')),
      signal,
    );
    return { machine: started, link };
  } catch (error) {
    link.end();
    await machine?.kill();
    throw error;
  }
}

/** Waits for the system in the machine to end by itself. @returns why it ended */
async function down(step: TestbedStep, { machine, link }: Running, signal: AbortSignal): Promise<string> {
  const late = (): TestbedError =>
    new TestbedError(step, 'qemu', `the machine does not go down: ${machine.lastWords()}`);
  const reason = await unlessAborted(within(machine.ended, patience, late), signal);
  link.end();
  return reason;
}
