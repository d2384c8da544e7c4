/** Entry point of bin/goldbed-virt. */
import { virtMain } from './virt/main.ts';

process.umask(0o022); // as for goldbed

const code = await virtMain(process.argv.slice(2), process.env);
// not exitCode: a client that waits for us may still hold our standard input open
process.exit(code);
