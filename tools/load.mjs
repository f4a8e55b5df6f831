// Modules of the machine for the tools that build it: TypeScript, bundled on the fly.
import { build } from 'esbuild';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';

const root = new URL('..', import.meta.url).pathname;
let loaded = 0;

/** What the files export, together. Paths from the root of the repository, without `.ts`. */
export async function load(...files) {
  const outfile = path.join(root, `build/load.${process.pid}.${loaded++}.mjs`); // a file, so that errors can say where
  mkdirSync(path.dirname(outfile), { recursive: true });
  await build({
    stdin: { contents: files.map(f => `export * from './${f}.ts';`).join('\n'), resolveDir: root },
    bundle: true,
    format: 'esm',
    platform: 'node',
    outfile,
    logLevel: 'warning',
  });
  try {
    return await import(`file://${outfile}`);
  } finally {
    rmSync(outfile);
  }
}
