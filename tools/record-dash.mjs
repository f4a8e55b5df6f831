// Records what Debian's dash does with the scripts of tests/fixtures/sh/*.jsonl, in place: one script a line, with its standard output, its
// status and the kind of its first message. To add a script append {"script": "…"} to a file and run this again. `--generate SEED COUNT`
// writes generated.jsonl anew. Each script runs in a fresh directory holding what prepare.txt makes, without input.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { load } from './load.mjs';

const fixtures = fileURLToPath(new URL('../tests/fixtures/sh/', import.meta.url));
const prepare = readFileSync(path.join(fixtures, 'prepare.txt'), 'utf8');
const { errorKind, generateScripts } = await load('tests/reference/sh-scripts');

const template = mkdtempSync(path.join(os.tmpdir(), 'sh-'));
spawnSync('bash', ['-c', prepare], { cwd: template });

function record(script) {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sh-'));
  cpSync(template, directory, { recursive: true });
  const options = {
    cwd: directory,
    env: { PATH: '/usr/bin:/bin', HOME: directory, LC_ALL: 'C.UTF-8' },
    encoding: 'utf8',
    input: '',
    timeout: 20_000,
  };
  const { stdout, stderr, status, signal } = spawnSync('dash', ['-c', script], { ...options, argv0: 'sh' });
  rmSync(directory, { recursive: true, force: true });
  const error = errorKind(stderr);
  return { script, stdout, status: status ?? 128 + os.constants.signals[signal], ...(error === null ? {} : { error }) };
}

const [flag, seed, count] = process.argv.slice(2);
if (flag === '--generate') {
  const scripts = generateScripts(Number(seed), Number(count));
  writeFileSync(
    path.join(fixtures, 'generated.jsonl'),
    scripts.map(script => `${JSON.stringify({ script })}\n`).join(''),
  );
}
for (const name of readdirSync(fixtures).filter(n => n.endsWith('.jsonl'))) {
  const file = path.join(fixtures, name);
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  const recorded = lines.map(line => record(JSON.parse(line).script));
  writeFileSync(file, recorded.map(r => `${JSON.stringify(r)}\n`).join(''));
  console.log(`${name}: ${recorded.length} scripts`);
}
rmSync(template, { recursive: true });
