/** Paths of unix sockets: a state folder may have any length, they may not. */

/** sun_path has 108 bytes, the last one a NUL (unix(7)). Node cuts off what is longer, without a word. */
const limit = 107;

/** Why nobody can listen there, in one line that a person can act on; undefined when somebody can. */
export function tooLongForSocket(socketPath: string): string | undefined {
  if (Buffer.byteLength(socketPath) <= limit) return undefined;
  return `the state folder's path is too long for ${socketPath}: a unix socket's path has at most ${limit} bytes; set GOLDBED_STATE`;
}
