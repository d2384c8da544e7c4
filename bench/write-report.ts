/** Writes bench/README.md. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { readChaos } from './chaos.ts';
import { report } from './report.ts';
import type { Results } from './results.ts';

export function writeReport(results: Results): void {
  writeFileSync(fileURLToPath(new URL('./README.md', import.meta.url)), report(results, readChaos()));
}
