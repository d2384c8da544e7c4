/**
 * What two processes of one worker say to each other when running jobs pass from one to the other: lines of JSON on a unix
 * socket in the journal's folder. The successor asks. The keeper, in which the sessions go on, answers with its jobs, and
 * tells how each has ended until somebody has acknowledged it: told twice it does no harm, the job's token is good once.
 */
import { createInterface } from 'node:readline';
import type { Socket } from 'node:net';
import * as z from 'zod';
import { Interruption, LeaseLost, messageOf } from '../protocol/errors.ts';
import { outcomeSchema } from '../protocol/outcome.ts';

/** How a job ended, for whoever settles its claim. `nothing`: it lost the right to go on, and nothing is to be touched. */
export const settlementSchema = z.discriminatedUnion('how', [
  z.object({ how: z.literal('complete'), outcome: outcomeSchema }),
  z.object({ how: z.literal('fail'), message: z.string(), stack: z.string().optional(), retry: z.boolean() }),
  z.object({ how: z.literal('give-back') }),
  z.object({ how: z.literal('nothing') }),
]);
export type Settlement = z.infer<typeof settlementSchema>;

export const handedJobSchema = z.object({
  key: z.string(),
  token: z.string(),
  runId: z.string(),
  attempt: z.number().int(),
  /** Milliseconds since the epoch, both. */
  submitted: z.number(),
  claimed: z.number(),
  /** Its file in the journal. */
  entry: z.string().regex(/^claim-[\w-]+\.json$/),
  /** It has ended, and nobody has acknowledged that. */
  settlement: settlementSchema.optional(),
});
export type HandedJob = z.infer<typeof handedJobSchema>;

const reasonSchema = z.object({ why: z.enum(['cancelled', 'deadline', 'shutdown', 'lost']), message: z.string() });
export type Reason = z.infer<typeof reasonSchema>;

export const fromSuccessorSchema = z.discriminatedUnion('say', [
  // what the journal and these words mean: one that is not understood is refused, and the old process goes on
  z.object({ say: z.literal('take'), version: z.literal(1) }),
  z.object({ say: z.literal('abort'), token: z.string(), reason: reasonSchema }),
  z.object({ say: z.literal('settled'), token: z.string(), lost: z.string().optional() }),
]);
export type FromSuccessor = z.infer<typeof fromSuccessorSchema>;

export const fromKeeperSchema = z.discriminatedUnion('say', [
  z.object({ say: z.literal('jobs'), jobs: z.array(handedJobSchema) }),
  z.object({ say: z.literal('ended'), token: z.string(), settlement: settlementSchema }),
]);
export type FromKeeper = z.infer<typeof fromKeeperSchema>;

/** Listens to the other side; what makes no sense ends the conversation. @returns how to speak */
export function converse<T>(
  socket: Socket,
  schema: z.ZodType<T>,
  hear: (message: T) => void,
): (message: FromKeeper | FromSuccessor) => void {
  socket.on('error', () => {}); // 'close' tells
  createInterface({ input: socket }).on('line', (line) => {
    const message = parse(schema, line);
    if (message === undefined) socket.destroy();
    else hear(message);
  });
  return (message) => void socket.write(`${JSON.stringify(message)}\n`);
}

function parse<T>(schema: z.ZodType<T>, line: string): T | undefined {
  try {
    return schema.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}

/** @param thrown why a job's signal fired */
export function reasonOf(thrown: unknown): Reason {
  return { why: thrown instanceof Interruption ? thrown.reason : 'lost', message: messageOf(thrown) };
}

export function errorOf({ why, message }: Reason): Error {
  return why === 'lost' ? new LeaseLost(message) : new Interruption(why, message);
}
