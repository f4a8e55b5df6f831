// Writes the tables of docs/FILES.md: every kind of damaged model file is made and given to the loader's checks, and what they answer is
// the page. `node tools/files-doc.mjs` writes it; tests/damaged.test.ts compares.
import { build } from 'esbuild';
import { readFileSync, writeFileSync } from 'node:fs';
import { common } from './build.mjs';

const outfile = 'build/files-doc.mjs';
await build({ ...common, packages: 'external', entryPoints: ['tests/support/policy.ts'], outfile });
const { MARK, policy } = await import(`../${outfile}`);
const page = readFileSync('docs/FILES.md', 'utf8');
writeFileSync('docs/FILES.md', page.slice(0, page.indexOf(MARK)) + policy());
