/** The session's folder of a testbed over layers: mount point, resolv.conf, and the layer that takes the changes. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { discard } from '../../exec/trash.ts';
import type { BackendName } from '../../protocol/job-request.ts';
import { createSessionFolder, type SessionFolder, type SessionState } from '../session-folder.ts';

export interface LayeredFolder extends SessionFolder {
  /** Mount point of the root; a mount only inside the testbed's own namespace. */
  readonly root: string;
  readonly resolvConf: string;
  /** A fresh upper and work folder; the one before, if any, goes to the trash. */
  renewLayer(): Promise<{ readonly upper: string; readonly work: string }>;
}

export function createLayeredFolder(state: SessionState, backend: BackendName, sessionId: string): LayeredFolder {
  const folder = createSessionFolder(state, backend, sessionId);
  const root = path.join(folder.path, 'root');
  const layer = path.join(folder.path, 'layer');
  const resolvConf = path.join(folder.path, 'resolv.conf');
  try {
    mkdirSync(root);
    // a copy: the testbed's root may write to it, and must never reach the host's
    const known = existsSync('/etc/resolv.conf') ? readFileSync('/etc/resolv.conf') : '';
    writeFileSync(resolvConf, known, { mode: 0o644 });
  } catch (error) {
    rmSync(folder.path, { recursive: true, force: true }); // a full disk: the session may try again, with the same id
    throw error;
  }
  return {
    ...folder,
    root,
    resolvConf,
    async renewLayer() {
      if (existsSync(layer)) await discard(layer, state.trash);
      const made = { upper: path.join(layer, 'upper'), work: path.join(layer, 'work') };
      mkdirSync(layer, { mode: 0o700 }); // what is in the testbed is for nobody else on the host to touch
      mkdirSync(made.upper, { mode: 0o755 });
      mkdirSync(made.work);
      return made;
    },
  };
}
