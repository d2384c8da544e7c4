/** A broken rule of the protocol: no reply, the testbed closed, exit 12. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}
