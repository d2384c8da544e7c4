/**
 * A connection that breaks in a moment in which ioredis gives up what is under way (src/redis/persist.ts says when), at
 * one command of the test's choice: such moments last for microseconds, and no proxy hits them.
 */
import type { Command, Redis } from 'ioredis';

/** `unsent`: the server never saw it. `unanswered`: it was carried out, and the answer lost. */
export type GivenUp = 'unsent' | 'unanswered';

/** @param nth of the commands from now on, from 1 @returns whether there was such a one */
export function giveUpAt(client: Redis, nth: number, how: GivenUp): { readonly reached: boolean } & Disposable {
  const send = client.sendCommand.bind(client);
  let sent = 0;
  client.sendCommand = (command: Command, pipeline?: Parameters<typeof send>[1]): unknown => {
    sent += 1;
    if (sent !== nth) return send(command, pipeline);
    // a pipeline waits for all of its commands: one of them cannot be held back
    if (how === 'unanswered' || pipeline !== undefined) send(command, pipeline);
    command.reject(Object.assign(new Error('Command aborted due to connection close'), { name: 'AbortError' }));
    return command.promise;
  };
  return {
    get reached() {
      return sent >= nth;
    },
    [Symbol.dispose]: () => void (client.sendCommand = send),
  };
}
