// Records what Debian's dash does with the scripts of tests/fixtures/sh/*.jsonl, in place: one script a line, with its standard output, its
// status and the kind of its first message. To add a script append {"script": "…"} to a file and run this again. `--generate SEED COUNT`
// writes generated.jsonl anew. Each script runs in a fresh directory holding what prepare.txt makes, without input.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { load } from './load.mjs';

const fixtures = fileURLToPath(new URL('../tests/fixtures/sh/', import.meta.url));
const { Dash, generateScripts } = await load('tests/reference/dash', 'tests/reference/sh-scripts');
const lines = records => records.map(r => `${JSON.stringify(r)}\n`).join('');

const [flag, seed, count] = process.argv.slice(2);
if (flag === '--generate') {
  const scripts = generateScripts(Number(seed), Number(count));
  writeFileSync(path.join(fixtures, 'generated.jsonl'), lines(scripts.map(script => ({ script }))));
}
const dash = new Dash(readFileSync(path.join(fixtures, 'prepare.txt'), 'utf8'));
for (const name of readdirSync(fixtures).filter(n => n.endsWith('.jsonl'))) {
  const file = path.join(fixtures, name);
  const scripts = readFileSync(file, 'utf8').trimEnd().split('\n');
  const recorded = scripts.map(line => dash.record(JSON.parse(line).script));
  writeFileSync(file, lines(recorded));
  console.log(`${name}: ${recorded.length} scripts`);
}
dash.close();
