// Modules of the machine for the tools that build it: TypeScript, bundled on the fly.
import { build } from 'esbuild';

const root = new URL('..', import.meta.url).pathname;

/** What the files export, together. Paths from the root of the repository, without `.ts`. */
export async function load(...files) {
  const { outputFiles } = await build({
    stdin: { contents: files.map(f => `export * from './${f}.ts';`).join('\n'), resolveDir: root },
    bundle: true,
    format: 'esm',
    write: false,
    logLevel: 'warning',
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);
}
