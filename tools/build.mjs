// The build: kernels to WebAssembly and their certificates, the boot image to cpio, the Node program and the library to one file each.
// Each step runs only when its sources are newer than its product, so `npm start` on a built tree is quick. `--digest` prints the digest of the
// build instead of bundling it (tools/digest.mjs).
import { build } from 'esbuild';
import { chmodSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { buildCertificates } from './certify.mjs';
import { buildDigest, writeDigest } from './digest.mjs';
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

/** Everything that is bundled, but the programs. */
export async function buildParts() {
  await buildWasm();
  await buildCertificates();
  await buildImage();
  writeDigest();
}

async function buildPrograms() {
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

if (import.meta.url === `file://${process.argv[1]}`) {
  await buildParts();
  if (process.argv.includes('--digest')) console.log(buildDigest());
  else await buildPrograms();
}
