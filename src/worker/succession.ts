/**
 * How a process takes a running worker over: its journal, and with it its incarnation, so that the tokens of its claims
 * stay good; and its jobs, from the process in charge and from those that were in charge before and still have sessions.
 */
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { State } from '../config/state.ts';
import { UnavailableError } from '../protocol/errors.ts';
import { journalFolder, nextOwner, ownerOf, type Journal, type JournalEntry } from './journal.ts';
import { isKeeperSocket, keeperSocket } from './keeper.ts';
import { KeeperLink, type AdoptedJob } from './keeper-link.ts';

export interface Inheritance {
  readonly journal: Journal;
  readonly links: readonly KeeperLink[];
  readonly jobs: readonly AdoptedJob[];
  /** Claims that no process answers for: as of a dead worker. */
  readonly left: readonly (JournalEntry & { readonly name: string })[];
}

/**
 * Returns when the process in charge has let go, and this one is. The one in charge first: it then heeds the others no
 * more, but holds its links to them until they are taken from it; were we killed on the way, all of them would notice. Once
 * it has let go, a failure here ends its jobs: what can fail comes before.
 * @throws {UnavailableError} there is nobody to take over from
 */
export async function takeOver(state: Pick<State, 'workers'>, incarnation: string): Promise<Inheritance> {
  const folder = journalFolder(state, incarnation);
  const owner = await ownerOf(folder);
  const first = keeperSocket(folder, owner?.pid ?? 0);
  const links: KeeperLink[] = [];
  try {
    await using next = await nextOwner(state, incarnation);
    links.push(await KeeperLink.take(first));
    for (const name of await readdir(folder)) {
      const file = path.join(folder, name);
      if (!isKeeperSocket(name) || file === first || file === keeperSocket(folder, process.pid)) continue;
      try {
        links.push(await KeeperLink.take(file));
      } catch {
        await rm(file, { force: true }); // it has ended: its last job has, or it was killed
      }
    }
    const journal = await next.continueJournal();
    const jobs = links.flatMap((link) => link.jobs);
    const answered = new Set(jobs.map(({ handed }) => handed.entry));
    const left = (await journal.read()).filter(({ name }) => !answered.has(name));
    return { journal, links, jobs, left };
  } catch (error) {
    for (const link of links) link[Symbol.dispose]();
    throw new UnavailableError(`cannot take over worker ${incarnation}: ${String(error)}`, { cause: error });
  }
}
