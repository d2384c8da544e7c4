/** Entry point of bin/goldbed. */
import { main } from './main.ts';

// a reader that leaves (`goldbed logs ID | head`) is no error; what was started ends as it always does
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

process.exitCode = await main(process.argv.slice(2));
// what never ends, such as the answer of a daemon that was given up long ago, keeps nobody who is done
setTimeout(() => process.exit(), 2000).unref();
