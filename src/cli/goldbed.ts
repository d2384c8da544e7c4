/** Entry point of bin/goldbed. */
import { exitCodes } from '../protocol/errors.ts';
import { main } from './main.ts';

process.umask(0o022); // what testbeds, and users in them, must be able to enter is made with these rights

// a reader that leaves (`goldbed logs ID | head`) is no error; what was started ends as it always does. Nor must a log that
// cannot be written, on a full disk or a terminal that is gone, end a worker with its jobs
let unwritten = false;
process.stderr.on('error', () => {});
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return;
  unwritten = true;
  process.exitCode = exitCodes.infrastructure; // it may be told after the last line below
  process.stderr.write(`goldbed: standard output cannot be written: ${error.message}\n`);
});

const code = await main(process.argv.slice(2));
await Promise.all([process.stdout, process.stderr].map(written));
process.exitCode = unwritten ? exitCodes.infrastructure : code;
// what never ends, such as the answer of a daemon that was given up long ago, keeps nobody who is done
setTimeout(() => process.exit(), 2000).unref();

/** Until a slow reader has taken all, or has left: an empty write is done when those before it are, or have failed. */
async function written(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.destroyed || stream.writableLength === 0) return;
  await new Promise<void>((resolve) => stream.write('', () => resolve()));
}
