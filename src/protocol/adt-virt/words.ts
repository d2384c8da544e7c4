/** The words of a line: splitting, percent-encoding as Python's urllib.parse.quote does it (README, "Protocol"). */

/** A command line as the stock servers read it: blanks at both ends ignored, runs of them separate, each word decoded. */
export function parseLine(line: string): string[] {
  return line
    .split(/[ \t\r\n\f\v]+/)
    .filter(Boolean)
    .map(decodeWord);
}

/** `+` stays a plus; a `%` that is no escape stays itself; bytes that are no UTF-8 become U+FFFD. */
export function decodeWord(word: string): string {
  if (!word.includes('%')) return word;
  const bytes: Buffer[] = [];
  for (const piece of word.split(/(%[0-9A-Fa-f]{2})/)) {
    const hex = /^%([0-9A-Fa-f]{2})$/.exec(piece)?.[1];
    bytes.push(hex === undefined ? Buffer.from(piece) : Buffer.from(hex, 'hex'));
  }
  return Buffer.concat(bytes).toString();
}

/** Unreserved characters and `/` stay, everything else becomes %XX. */
export function encodeWord(word: string): string {
  let encoded = '';
  for (const byte of Buffer.from(word)) {
    const character = String.fromCharCode(byte);
    encoded += /[A-Za-z0-9_.~/-]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}

/** The result of print-execute-command: each argument encoded, joined by commas. */
export function encodeArgv(argv: readonly string[]): string {
  return argv.map(encodeWord).join(',');
}

export function decodeArgv(result: string): string[] {
  return result.split(',').map(decodeWord);
}
