// `npm test`: builds everything, checks types and room boundaries (tsc -b), lint and format, then runs the AVA tests.
// `node tools/test.mjs NAME…` bundles and runs only tests/NAME.test.ts. `--soak` runs the long versions (ARENA8_SOAK=1).
import { spawnSync } from 'node:child_process';
import { build } from 'esbuild';
import { readdirSync, rmSync } from 'node:fs';
import { buildParts, common } from './build.mjs';
import { buildWeb } from './web.mjs';

const args = process.argv.slice(2);
const names = args.filter(a => !a.startsWith('--'));
const env = { ...process.env, ...(args.includes('--soak') ? { ARENA8_SOAK: '1' } : {}) };
const run = (command, ...rest) => spawnSync(command, rest, { stdio: 'inherit', env }).status ?? 1;

await buildParts();
const files = readdirSync('tests')
  .filter(f => f.endsWith('.test.ts'))
  .filter(f => names.length === 0 || names.some(n => f === `${n}.test.ts`));
if (names.length === 0) {
  rmSync('build/tests', { recursive: true, force: true });
  if (run(process.execPath, 'tools/build.mjs') !== 0) process.exit(1);
}
if (files.some(f => f.startsWith('page'))) await buildWeb();
await build({
  ...common,
  sourcemap: true,
  packages: 'external',
  outdir: 'build/tests',
  outbase: 'tests',
  entryPoints: files.map(f => `tests/${f}`),
});
process.exitCode = run(
  'node_modules/.bin/ava',
  ...(names.length === 0 ? [] : files.map(f => `build/tests/${f.replace(/\.ts$/, '.js')}`)),
);
