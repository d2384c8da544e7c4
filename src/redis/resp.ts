/** Reading commands as Redis writes them into its append-only file: `*2\r\n$3\r\nGET\r\n$1\r\nx\r\n`. */

/** Whether bytes are commands of which the last one merely ends too early. False where a byte is wrong. */
export function isCutShort(bytes: Buffer): boolean {
  let at = 0;
  while (at < bytes.length) {
    const count = readNumber(bytes, at, '*');
    if (count === undefined) return false;
    if (count === 'short') return true;
    at = count.next;
    for (let argument = 0; argument < count.value; argument += 1) {
      const length = readNumber(bytes, at, '$');
      if (length === undefined) return false;
      if (length === 'short') return true;
      at = length.next + length.value;
      const end = bytes.subarray(at, at + 2).toString('latin1');
      if (!'\r\n'.startsWith(end)) return false;
      if (end !== '\r\n') return true;
      at += 2;
    }
  }
  return true; // whole commands of a transaction that has no end
}

/** `*2\r\n` at a place; undefined where something else stands there. */
function readNumber(
  bytes: Buffer,
  at: number,
  kind: '*' | '$',
): { readonly value: number; readonly next: number } | 'short' | undefined {
  const line = bytes.subarray(at, at + 16).toString('latin1');
  const [whole, digits] = /^.(\d{1,10})\r\n/.exec(line) ?? [];
  if (line !== '' && !line.startsWith(kind)) return undefined;
  if (whole !== undefined) return { value: Number(digits), next: at + whole.length };
  return at + line.length === bytes.length && /^.?\d{0,10}\r?$/.test(line) ? 'short' : undefined;
}
