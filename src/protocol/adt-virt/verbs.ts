/** The verbs of the protocol: how many arguments each takes, and the reply. Written with `_`, as the stock servers look them up. */
import { copyDown, copyUp, type CopyOptions } from './copy.ts';
import { messageOf } from '../errors.ts';
import { GoldenRefusal } from '../testbed.ts';
import { ProtocolError } from './protocol-error.ts';
import { rebootWithScratch } from './reboot.ts';
import type { ServedTestbed } from './served-testbed.ts';
import { encodeArgv, encodeWord } from './words.ts';

export interface Verb {
  /** Least and most. */
  readonly args: readonly [number, number];
  run(server: ServedTestbed, args: readonly string[]): Promise<string>;
}

export const verbs: ReadonlyMap<string, Verb> = new Map<string, Verb>([
  ['capabilities', { args: [0, 0], run: async (server) => ['ok', ...capabilities(server)].join(' ') }],
  ['open', { args: [0, 0], run: async (server) => `ok ${await server.open(false)}` }],
  ['open_golden', { args: [0, 0], run: async (server) => `ok ${await server.open(true)}` }],
  ['commit_golden', { args: [0, 0], run: async (server) => server.commit().then(() => 'ok') }],
  ['revert', { args: [0, 0], run: async (server) => `ok ${await server.revert()}` }],
  ['close', { args: [0, 0], run: close }],
  ['quit', { args: [0, 0], run: async () => 'ok' }], // the loop ends on it, without a reply
  ['reboot', { args: [0, 1], run: reboot }],
  ['print_execute_command', { args: [0, 0], run: async (server) => printExecuteCommand(server) }],
  ['copydown', { args: [2, 2], run: (server, args) => copy(server, 'copydown', args) }],
  ['copyup', { args: [2, 2], run: (server, args) => copy(server, 'copyup', args) }],
  ['shell', { args: [1, Infinity], run: shell }],
  ['auxverb_debug_fail', { args: [0, 0], run: async () => 'ok' }],
]);

/** Stable: the same list each time, no duplicates, whatever was asked before. */
function capabilities({ source, state }: ServedTestbed): string[] {
  const traits = state.name === 'closed' ? source.traits : state.testbed.traits;
  return [
    ...new Set(traits),
    ...(source.revert ? ['revert'] : []),
    ...(source.reboot ? ['reboot'] : []),
    ...(source.openGolden === undefined ? [] : ['golden-image']),
    ...(source.openGolden !== undefined && state.name !== 'closed' && state.testbed.generationId !== undefined
      ? [`golden-image-id=${encodeWord(state.testbed.generationId)}`]
      : []),
    ...(state.name !== 'closed' && state.testbed.rootOnHost !== undefined
      ? [`downtmp-host=${state.testbed.rootOnHost.replace(/\/$/, '')}${state.scratch}`]
      : []),
  ];
}

function printExecuteCommand(server: ServedTestbed): string {
  return `ok ${encodeArgv(server.opened('print-execute-command').testbed.auxverb)}`;
}

/** @throws {ProtocolError} also when the testbed cannot be closed: exit 12, as the stock servers */
async function close(server: ServedTestbed): Promise<string> {
  try {
    await server.close(true);
    return 'ok';
  } catch (error) {
    if (error instanceof ProtocolError || error instanceof GoldenRefusal) throw error;
    throw new ProtocolError(`close: ${messageOf(error)}`, { cause: error });
  }
}

async function reboot(server: ServedTestbed, [how]: readonly string[]): Promise<string> {
  const { testbed, scratch } = server.opened('reboot');
  if (!server.source.reboot || testbed.reboot === undefined) throw new ProtocolError('reboot capability not available');
  await rebootWithScratch(testbed, scratch, how === 'prepare-only' ? 'testbed' : 'server', server.options.signal);
  return 'ok'; // README says a scratch path follows; autopkgtest requires that none does
}

async function copy(server: ServedTestbed, verb: 'copydown' | 'copyup', args: readonly string[]): Promise<string> {
  const { testbed } = server.opened(verb);
  const [source = '', target = ''] = args.map((path) => path.replaceAll(/\/{2,}/g, '/'));
  if (source === '' || target === '') throw new ProtocolError(`${verb}: paths must be non-empty`);
  if (source.endsWith('/') !== target.endsWith('/')) {
    throw new ProtocolError(
      `${verb}: source and destination must agree about directoryness (\`${source}' and \`${target}')`,
    );
  }
  if (testbed.rootOnHost === '/' && source === target) return 'ok'; // the client wrote there by itself (downtmp-host)
  const { copyTimeout, signal } = server.options;
  const openRoot = testbed.openRoot?.bind(testbed);
  const options: CopyOptions = {
    ...{ auxverb: testbed.auxverb, timeout: copyTimeout, signal, log: server.log },
    ...(openRoot === undefined ? {} : { openRoot }),
  };
  return verb === 'copydown' ? copyDown(source, target, options) : copyUp(source, target, options);
}

async function shell(server: ServedTestbed, [directory = '/', ...environment]: readonly string[]): Promise<string> {
  const { testbed } = server.opened('shell');
  if (server.options.shell === undefined) server.log('goldbed-virt: no terminal to run a shell on');
  else await server.options.shell(testbed, directory, environment);
  return 'ok';
}
