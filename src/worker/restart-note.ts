/** What became of a restart, left in the worker's journal for whoever asked for it. */
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { writeWhole } from '../exec/durable.ts';

const restartNoteSchema = z.object({
  /** The process that is in charge now, or that was to be. */
  pid: z.number().int(),
  /** Why it is not. */
  failed: z.string().optional(),
});
export type RestartNote = z.infer<typeof restartNoteSchema>;

/** The folder may be gone, with the worker: nobody waits for the note then. */
export function leaveRestartNote(folder: string, note: RestartNote): void {
  try {
    writeWhole(fileIn(folder), JSON.stringify(note));
  } catch {
    // see above; whoever does wait sees that the worker has ended
  }
}

/** Undefined while there is none. */
export async function readRestartNote(folder: string): Promise<RestartNote | undefined> {
  const text = await readFile(fileIn(folder), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : restartNoteSchema.parse(JSON.parse(text));
}

export function removeRestartNote(folder: string): Promise<void> {
  return rm(fileIn(folder), { force: true });
}

function fileIn(folder: string): string {
  return path.join(folder, 'restart.json');
}
