// Records what Debian's coreutils, diffutils, findutils and grep print for the commands of tests/fixtures/programs/commands.txt and for
// commands from a seeded generator, as recorded.jsonl beside it: the tests then need none of them. Bytes are stored as characters 0 to 255.
// `--fresh SEED FILE` records only generated commands, from another seed, into FILE: what the long form of the test compares with.
// Each command runs under sh in a fresh directory that holds the files of its case, with `in` as standard input, in the C locale.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { generate } from '../tests/fixtures/programs/generate.mjs';

const folder = new URL('../tests/fixtures/programs/', import.meta.url);
const text = name => readFileSync(new URL(name, folder), 'utf8');

/** Common files: `== NAME` heads each; \xHH is a byte. */
function commonFiles() {
  const files = {};
  for (const part of text('files.txt').split(/^== /m).slice(1)) {
    const newline = part.indexOf('\n');
    const bytes = Buffer.from(part.slice(newline + 1)).toString('latin1');
    files[part.slice(0, newline)] = bytes
      .replace(/\\x([0-9a-f]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)))
      .replace(/\\\n$/, '');
  }
  return files;
}

function record({ command, files, locale = 'C' }) {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'programs-'));
  for (const [name, bytes] of Object.entries(files))
    writeFileSync(path.join(directory, name), Buffer.from(bytes, 'latin1'));
  const { stdout, stderr, status } = spawnSync('dash', ['-c', command], {
    cwd: directory,
    env: { PATH: '/usr/bin:/bin', LC_ALL: locale === 'C' ? 'C' : 'C.UTF-8', TZ: 'UTC' },
    input: Buffer.from(files.in ?? '', 'latin1'),
  });
  rmSync(directory, { recursive: true });
  return { stdout: stdout.toString('latin1'), stderr: stderr.toString('latin1').split('\n', 1)[0], status };
}

const common = commonFiles();
const [mode, seed, out] = process.argv.slice(2);
const cases = [];
for (const line of mode === '--fresh' ? [] : text('commands.txt').split('\n')) {
  if (line === '' || line.startsWith('#')) continue;
  const command = line.replace(/^u /, '');
  cases.push({ command, ...(command === line ? {} : { locale: 'UTF-8' }) });
}
const lines = [{ files: common }];
for (const c of cases) lines.push({ ...c, ...record({ ...c, files: common }) });
for (const c of generate(Number(seed ?? 20251)))
  lines.push({ ...c, ...record({ ...c, files: { ...common, ...c.files } }) });
writeFileSync(out ?? new URL('recorded.jsonl', folder), lines.map(l => `${JSON.stringify(l)}\n`).join(''));
console.log(`${cases.length} commands by hand, ${lines.length - 1 - cases.length} generated`);
