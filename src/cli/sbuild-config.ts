/** Lines for sbuild's configuration, which is Perl. */
import { readFile } from 'node:fs/promises';

/** @param options of the server program */
export function serverLines(program: string, options: readonly string[]): string {
  return [
    `$chroot_mode = 'autopkgtest';`,
    `$autopkgtest_virt_server = ${quote(program)};`,
    `$autopkgtest_virt_server_options = [${options.map(quote).join(', ')}];`,
    '',
  ].join('\n');
}

/** A whole file: what a person has configured, then our lines. It is joined as text: sbuild's variables are lexical. */
export async function configWith(person: string, lines: string): Promise<string> {
  const text = await readFile(person, 'utf8').catch(() => '');
  // their last statement is often `1;`, which does no harm in the middle
  return `${text}\n${lines}1;\n`;
}

/** A Perl string in which nothing is interpolated. */
function quote(text: string): string {
  return `'${text.replaceAll(/[\\']/g, String.raw`\$&`)}'`;
}
