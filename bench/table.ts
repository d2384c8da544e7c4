/** How the report is written. */

export function table(rows: readonly (readonly string[])[]): string[] {
  const [head = [], ...body] = rows;
  return [head, head.map(() => '---'), ...body].map((cells) => `| ${cells.join(' | ')} |`);
}

export function verdict(met: boolean): string {
  return met ? 'met' : '**missed**';
}
