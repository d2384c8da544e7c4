/** The native backends of this host. Nothing else lists them. */
import type { BackendSettings, Backend } from './backend.ts';
import { dockerBackend } from './docker/index.ts';
import { overlayBackend } from './overlay/index.ts';
import { qemuBackend } from './qemu/index.ts';
import { schrootBackend } from './schroot/index.ts';
import type { SessionState } from './session-folder.ts';

/** In the order in which `any` tries them. */
export function nativeBackends(state: SessionState, settings: BackendSettings): readonly Backend[] {
  return [
    overlayBackend(state),
    dockerBackend(state, settings.docker),
    schrootBackend(state),
    qemuBackend(state, settings.qemu),
  ];
}
