// `npm run bench -- --startup`: how long a new process of `arena8` takes to its first token of the default image, and in which phases: seen from
// outside, by when lines of the kernel's log and the first byte of output arrive. The least of many runs is what the program takes;
// medians tell what the machine was busy with besides.
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import process from 'node:process';
import { spread, table } from './workload.mjs';

const program = new URL('../build/arena8.js', import.meta.url).pathname;
const ARGUMENTS = ['-c', 'llminfer --max-tokens 1 Once'];

/** Lines of the log that end a phase; the last one ends with the first byte of output. */
const PHASES = [
  ['engine starts, program is read', / arena8 \d/],
  ['arena, kernels, drivers', / image: \d+ bytes/],
  ['boot image: digest, unpacking', / image: \d+ files/],
  ['mounts', / arena sealed/],
  ['model: check, digest, plan, prices', / model: /],
];
const LAST = 'shell, first token';

/** Milliseconds from the start of a process to the end of each phase. */
function once(node, args) {
  return new Promise((resolve, reject) => {
    const ends = [];
    let log = '';
    const start = performance.now();
    const child = spawn(node, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stderr.on('data', data => {
      log += data;
      while (ends.length < PHASES.length && PHASES[ends.length][1].test(log)) ends.push(performance.now() - start);
    });
    child.stdout.once('data', () => {
      const end = performance.now() - start;
      // The log may be read a moment after what was written behind it.
      child.once('close', () => resolve([...ends.map(x => Math.min(x, end)), end]));
    });
    child.once('error', reject);
  });
}

/** An empty program of that engine: what no program can be faster than. */
function nothing(node) {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(node, ['-e', 'process.stdout.write(".")'], { stdio: ['ignore', 'pipe', 'ignore'] });
    child.stdout.once('data', () => resolve(performance.now() - start));
    child.once('error', reject);
  });
}

export async function startup({ quick }) {
  const node = process.execPath;
  const runs = [];
  const empty = [];
  for (let i = quick ? 10 : 40; i > 0; i--) {
    runs.push(await once(node, [program, ...ARGUMENTS]));
    empty.push(await nothing(node));
  }
  const names = [...PHASES.map(([name]) => name), LAST];
  const phases = names.map((name, i) => ({ name, ms: spread(runs.map(r => r[i] - (r[i - 1] ?? 0))) }));
  return {
    host: `${cpus()[0]?.model.trim() ?? 'unknown processor'}, Node ${process.versions.node}`,
    phases,
    total: spread(runs.map(r => r.at(-1))),
    empty: spread(empty),
    runs: runs.length,
  };
}

export function print(run, { json }) {
  const row = (name, { median, min, max }) => [name, ...[min, median, max].map(x => x.toFixed(0))];
  console.log(`${run.host}; ${run.runs} times: arena8 ${ARGUMENTS[0]} '${ARGUMENTS[1]}'; milliseconds\n`);
  const rows = [
    ...run.phases.map(p => row(p.name, p.ms)),
    row('process start to first token', run.total),
    row(`(node -e '' to its first byte)`, run.empty),
  ];
  console.log(table(['phase', 'least', 'median', 'most'], rows));
  if (json) writeFileSync(json, `${JSON.stringify(run, null, 1)}\n`);
}
