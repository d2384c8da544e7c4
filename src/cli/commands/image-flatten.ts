/** `goldbed image flatten`: what goldbed does by itself after publishing, by hand. */
import { Command } from 'commander';
import { flattenCurrent, imageNames, type Flattened } from '../../golden/index.ts';
import { messageOf } from '../../protocol/errors.ts';
import { makeContext, type GlobalFlags } from '../context.ts';
import { json, progress } from '../print.ts';
import { stopSignal } from './image-words.ts';

export function flattenCommand(exit: (code: number) => void): Command {
  return new Command('flatten')
    .description('copy the layers of current generations into one, aside; updates ask for it when there are many')
    .argument('[NAME...]', 'default: all images')
    .option('--json', 'print one JSON document')
    .action(async (names: readonly string[], _: unknown, command: Command) => {
      const flags = command.optsWithGlobals<GlobalFlags & { json?: boolean }>();
      const { state } = makeContext(flags);
      const signal = stopSignal();
      const flattened: Record<string, Flattened> = {};
      for (const image of names.length === 0 ? await imageNames(state) : names) {
        try {
          const done = await flattenCurrent(state, image, {}, signal);
          if (done === undefined) continue;
          flattened[image] = done;
          progress(`goldbed: ${image}@${done.generation}: ${done.layers} layers flattened`);
        } catch (error) {
          if (names.length === 1) throw error;
          signal.throwIfAborted();
          progress(`goldbed: ${image} cannot be flattened: ${messageOf(error)}`); // the others can
          exit(1);
        }
      }
      if (flags.json === true) json({ flattened });
    });
}
