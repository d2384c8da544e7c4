// The programs as a few files each: Node then starts twice as fast as from the hundreds that they import.
// The library (dist/index.js) is not bundled: who imports it brings its own copies of the dependencies.
import { readFile } from 'node:fs/promises';
import { build } from 'esbuild';

// files of an earlier build stay: a program that is running may still load a part of them

/**
 * ioredis puts a thousand commands on a prototype, one by one, and V8 copies what it knows of the object at each of them: a
 * fifth of what a command of ours does before it begins. An object that has lost a property is a dictionary, where nothing
 * is copied; V8 makes a fast one of it again when it is used as a prototype.
 */
const ioredisStartsFast = {
  name: 'ioredis-starts-fast',
  setup({ onLoad }) {
    onLoad({ filter: /\/ioredis\/built\/utils\/Commander\.js$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      const before = 'commands.forEach(function (commandName) {';
      if (text.split(before).length !== 2)
        throw new Error(`${path} is another one now: look whether this is still needed`);
      const lose =
        'Object.assign(Commander.prototype, { a: 0, b: 0 }); for (const name of "ab") delete Commander.prototype[name];';
      return { contents: text.replace(before, `${lose}\n${before}`), loader: 'js' };
    });
  },
};

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
  sourcesContent: false, // Node reads the maps of a worker when it starts, for the names and lines in a stack trace
  // what dockerode needs for daemons over ssh and for BuildKit: half of it, native code, and nothing that we use
  alias: Object.fromEntries(
    ['ssh2', 'protobufjs', '@grpc/grpc-js', '@grpc/proto-loader'].map((name) => [name, './scripts/left-out.cjs']),
  ),
  // some dependencies are CommonJS, and require what Node has
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  plugins: [ioredisStartsFast],
  logLevel: 'warning',
});
