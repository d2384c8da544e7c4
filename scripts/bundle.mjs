// The programs as a few files each: Node then starts twice as fast as from the hundreds that they import.
// The library (dist/index.js) is not bundled: who imports it brings its own copies of the dependencies.
import { build } from 'esbuild';

// files of an earlier build stay: a program that is running may still load a part of them

await build({
  entryPoints: {
    goldbed: 'src/cli/goldbed.ts',
    'goldbed-virt': 'src/cli/goldbed-virt.ts',
    'renewal-thread': 'src/worker/renewal-thread.ts', // src/worker/renewals.ts looks for it beside itself
  },
  outdir: 'dist/programs',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  minifySyntax: true,
  minifyWhitespace: true, // names stay: stack traces are read by people
  sourcemap: true,
  sourcesContent: false, // Node reads the maps at every start, for the names and lines in a stack trace
  // what dockerode needs for daemons over ssh and for BuildKit: half of it, native code, and nothing that we use
  alias: Object.fromEntries(
    ['ssh2', 'protobufjs', '@grpc/grpc-js', '@grpc/proto-loader'].map((name) => [name, './scripts/left-out.cjs']),
  ),
  // some dependencies are CommonJS, and require what Node has
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  logLevel: 'warning',
});
