// The build: kernels to WebAssembly and their certificates, the boot image to cpio, the Node program and the library to one file each.
// Each step runs only when its sources are newer than its product, so `npm start` on a built tree is quick.
import { build } from 'esbuild';
import { chmodSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { buildCertificates } from './certify.mjs';
import { buildImage } from './image.mjs';
import { buildWasm } from './wasm.mjs';

/** JSON as text that the program parses: engines do that in less than half of the time that they take over an object literal of that size. */
const jsonAsText = {
  name: 'json as text',
  setup: ({ onLoad }) =>
    onLoad({ filter: /\.json$/ }, async ({ path }) => ({
      contents: `export default JSON.parse(${JSON.stringify(await readFile(path, 'utf8'))});`,
    })),
};

export const common = {
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'es2023',
  logLevel: 'warning',
  loader: { '.wasm': 'binary' },
  plugins: [jsonAsText],
  minifyWhitespace: true, // functions are compiled when they are first called: less text to look through
  // Two of the bundled libraries are CommonJS and ask for node built-ins by require().
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
};

if (import.meta.url === `file://${process.argv[1]}`) {
  await buildWasm();
  await buildCertificates();
  await buildImage();
  await build({
    ...common,
    entryPoints: ['boot/index.ts'],
    outfile: 'build/index.js',
  });
  await build({
    ...common,
    entryPoints: ['boot/node.ts'],
    outfile: 'build/arena8.js',
    banner: { js: `#!/usr/bin/env node\n${common.banner.js}` },
  });
  chmodSync('build/arena8.js', 0o755);
}
