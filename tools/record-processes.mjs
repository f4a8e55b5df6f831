// Records what Debian's date and dd print: `node tools/record-processes.mjs` writes tests/fixtures/processes.json, which
// tests/processes.test.ts compares with. Moments, sizes and formats come from a seed. Needs GNU coreutils.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

let state = 20260101;
/** 0 … n − 1, by a linear congruence. */
function draw(n) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
}
const pick = list => list[draw(list.length)];

const letters = 'aAbBCdegGhHIjklmMNpPqsSuUVwWyYzZ'.split('');
const flags = ['', '', '', '-', '_', '0', '^', '10', '-5', '_4', '05'];

function dateScripts() {
  const scripts = ['date -u -d @0', 'date -u -d @86399 -R', 'date -u -d @0 -I', "date -u -d '2024-02-29 12:34:56' +%j"];
  for (const part of ['date', 'hours', 'minutes', 'seconds', 'ns']) scripts.push(`date -u -d @1700000000.5 -I${part}`);
  for (const day of ['2021-01-01', '2020-12-31', '2000-02-29', '1999-12-31', '1970-01-04', '2100-02-28'])
    scripts.push(`date -u -d ${day} '+%F %a %j %U %V %W %G %g %u %w'`);
  for (const bad of ['2023-02-29', '2024-13-01', '2024-01-01 25:00', 'rubbish', '@x'])
    scripts.push(`date -u -d '${bad}'`);
  scripts.push('date -u rubbish', 'date -u +%s +%s', 'date -u -R +%s', 'date -u -r /nope/nope');
  for (let i = 0; i < 150; i++) {
    // Flags before a composed field are GNU's own matter.
    const field = () => (draw(5) === 0 ? `%${pick([...'cDFrRTxXnt'])}` : `%${pick(flags)}${pick(letters)}`);
    const format = Array.from({ length: 1 + draw(4) }, field).join('|');
    const fraction = draw(3) === 0 ? `.${String(draw(1e9)).padStart(9, '0')}` : '';
    scripts.push(`date -u -d @${draw(2 ** 32) * (draw(8) === 0 ? -1 : 1)}${fraction} '+${format}'`);
  }
  return scripts;
}

function ddScripts() {
  const scripts = [
    'dd if=/nope',
    'dd of=/nope/nope',
    'dd bs=0',
    'dd bs=x',
    'dd conv=rubbish',
    'dd rubbish',
    'dd status=rubbish',
    'dd conv=ucase,lcase',
    'dd if=in of=in2 conv=excl; echo again > in2; dd if=in of=in2 conv=excl status=none',
    'dd if=in of=none conv=nocreat',
    'cat in | dd bs=4 skip=2 count=3',
    'dd if=in bs=8 count=3 status=none | dd conv=swab status=none',
    'dd if=in bs=1 skip=1000',
    'dd if=in count=0 of=made bs=16 seek=2; wc -c < made',
    'dd if=in of=log oflag=append conv=notrunc status=none; dd if=in of=log oflag=append conv=notrunc status=none; wc -c < log',
  ];
  const sizes = ['1', '3', '7', '8', '16', '64', '512', '1K', '2x8'];
  for (let i = 0; i < 60; i++) {
    const words = ['if=in', 'of=out'];
    if (draw(2) === 0) words.push(`bs=${pick(sizes)}`);
    else words.push(`ibs=${pick(sizes)}`, `obs=${pick(sizes)}`);
    if (draw(2) === 0) words.push(`count=${draw(6)}`);
    if (draw(2) === 0) words.push(`skip=${draw(6)}`);
    if (draw(2) === 0) words.push(`seek=${draw(6)}`);
    const conv = ['notrunc', 'sync', 'ucase', 'lcase', 'swab'].filter(name => draw(4) === 0 && name !== 'lcase');
    if (conv.length > 0) words.push(`conv=${conv.join(',')}`);
    scripts.push(`cp in out; dd ${words.join(' ')}; od -c out`);
  }
  return scripts;
}

const prepare = `printf 'The quick brown fox jumps over the lazy dog.\\nPack my box with five dozen liquor jugs.\\n' > in`;
const folder = mkdtempSync(path.join(tmpdir(), 'arena8-record-'));
const record = script => {
  const clean = `rm -f *; ${prepare}; `;
  const env = { PATH: process.env.PATH, TZ: 'UTC', LC_ALL: 'C' };
  const r = spawnSync('dash', ['-c', clean + script], { cwd: folder, env, encoding: 'utf8' });
  // The time it took is not ours.
  const stderr = r.stderr.replace(/ copied, .*/g, ' copied');
  return { script, stdout: r.stdout, stderr, status: r.status };
};
const cases = [...dateScripts(), ...ddScripts()].map(record);
rmSync(folder, { recursive: true });
writeFileSync(
  'tests/fixtures/processes.json',
  `{ "prepare": ${JSON.stringify(prepare)},\n"cases": [\n${cases.map(c => JSON.stringify(c)).join(',\n')}\n] }\n`,
);
console.log(`${cases.length} cases`);
