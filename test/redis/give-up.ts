/**
 * A connection that breaks in a moment in which ioredis gives up what is under way (src/redis/persist.ts says when), at
 * one command of the test's choice: such moments last for microseconds, and no proxy hits them.
 */
import type { Command, Redis } from 'ioredis';

/** `unsent`: the server never saw it. `unanswered`: it was carried out, and the answer lost. */
export type GivenUp = 'unsent' | 'unanswered';

/**
 * @param nth of the commands from now on, from 1 @param meanwhile what happens between its answer and its being given up
 * (only `unanswered`) @returns whether there was such a one
 */
export function giveUpAt(
  client: Redis,
  nth: number,
  how: GivenUp,
  meanwhile?: () => Promise<void>,
): { readonly reached: boolean } & Disposable {
  const send = client.sendCommand.bind(client);
  let sent = 0;
  client.sendCommand = (command: Command, pipeline?: Parameters<typeof send>[1]): unknown => {
    sent += 1;
    if (sent !== nth) return send(command, pipeline);
    // a pipeline waits for all of its commands: one of them cannot be held back
    const broken = Object.assign(new Error('Command aborted due to connection close'), { name: 'AbortError' });
    if (meanwhile !== undefined) command.resolve = () => void meanwhile().then(() => command.reject(broken));
    if (how === 'unanswered' || pipeline !== undefined) send(command, pipeline);
    if (meanwhile === undefined) command.reject(broken);
    return command.promise;
  };
  return {
    get reached() {
      return sent >= nth;
    },
    [Symbol.dispose]: () => void (client.sendCommand = send),
  };
}
