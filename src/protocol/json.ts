/** @returns what a text says in JSON, to be looked at by a schema; undefined: it is none */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
