// `npm run bench -- --audit`: what the audit log costs. Machines with and without it run the same requests in turn; of each turn the ratio of
// times is taken, time that this process has had of a processor, and the median of the ratios told: what else the host does falls on all alike. The log lies in memory, or in a
// directory of the host. What is written is the same in every machine, and checked.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { allowRelaxedSimd } from './ceilings.mjs';
import { percent, spread, table } from './workload.mjs';

/** What is run, and how many requests and tokens that is. */
const WORKLOADS = [
  { name: 'fable-f16, 256 tokens', load: 'llmctl load fable-f16', requests: 1, tokens: 256, temp: 0 },
  { name: 'fable-f16, 16 × 8 tokens', load: 'llmctl load fable-f16', requests: 16, tokens: 8, temp: 0 },
  { name: 'stub, 64 × 8 tokens', load: 'llmctl backend stub', requests: 64, tokens: 8, temp: 0 },
];

/** A machine in which a command must succeed. */
function powerOn(library, options, load) {
  const machine = library.boot(options);
  const run = line => {
    const { status, stdout, stderr } = machine.exec(line);
    if (status !== 0) throw new Error(`${line.slice(0, 60)}: status ${status}: ${stderr.trim()}`);
    return stdout;
  };
  run(`${load} > /dev/null; llmctl quota '*' --tokens 0 > /dev/null`);
  return run;
}

/** Seconds of a processor that the workload takes once, and what was written. */
function once(run, { requests, tokens, temp }, turn) {
  const start = process.cpuUsage();
  let written = '';
  for (let i = 0; i < requests; i++)
    written += run(`llminfer --temp ${temp} --max-tokens ${tokens} --timeout 3600000 'Once upon a time ${turn} ${i}'`);
  const { user, system } = process.cpuUsage(start);
  return { seconds: (user + system) / 1e6, written };
}

/** Records and their bytes in a log, heads aside. */
function sizes(run) {
  const [records, bytes] = run('wc -lc < /audit/log').trim().split(/\s+/).map(Number);
  return { records, bytes: bytes - records }; // each line ends in a newline
}

function measure(library, directory, workload, { repetitions, warmUpMs }) {
  const forms = [
    { name: 'off', options: { audit: false } },
    { name: 'memory', options: {} },
    { name: 'host directory', options: { mounts: { '/var/audit': mkdtempSync(path.join(directory, 'log-')) } } },
  ].map(form => ({ ...form, run: powerOn(library, form.options, workload.load), seconds: [] }));
  for (const end = performance.now() + warmUpMs; performance.now() < end;)
    for (const { run } of forms) once(run, workload, 'warm');
  const before = sizes(forms[1].run);
  for (let turn = 0; turn < repetitions; turn++) {
    const order = forms.map((_, i) => forms[(i + turn) % forms.length]);
    const texts = order.map(form => {
      const { seconds, written } = once(form.run, workload, turn);
      form.seconds.push(seconds);
      return written;
    });
    if (new Set(texts).size !== 1) throw new Error(`${workload.name}: another text with the log than without`);
  }
  const after = sizes(forms[1].run);
  const [off, ...on] = forms;
  const records = after.records - before.records;
  return {
    ...workload,
    recordsPerTurn: records / repetitions,
    bytesPerRecord: (after.bytes - before.bytes) / records,
    off: spread(off.seconds),
    on: on.map(form => {
      const ratios = spread(form.seconds.map((s, i) => s / off.seconds[i]));
      const extra = spread(form.seconds.map((s, i) => s - off.seconds[i])).median;
      return { name: form.name, ratios, secondsPerRecord: extra / (records / repetitions) };
    }),
  };
}

export async function audit(chosen) {
  allowRelaxedSimd();
  const library = await import('../build/index.js');
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-bench-'));
  try {
    return WORKLOADS.map(workload => measure(library, directory, workload, chosen));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export function print(rows, { json, repetitions }) {
  console.log(`with the audit log against without: medians of ${repetitions} turns (min–max)\n`);
  const signed = ratio => `${ratio >= 1 ? '+' : '−'}${Math.abs((ratio - 1) * 100).toFixed(1)} %`;
  const cells = rows.flatMap(row =>
    row.on.map(({ name, ratios, secondsPerRecord }) => [
      row.name,
      name,
      Math.round((row.requests * row.tokens) / row.off.median).toLocaleString('en-US'),
      `${signed(ratios.median)} (${signed(ratios.min)} to ${signed(ratios.max)})`,
      row.recordsPerTurn.toFixed(0),
      row.bytesPerRecord.toFixed(0),
      `${(secondsPerRecord * 1e6).toFixed(0)} us`,
    ]),
  );
  console.log(table(['workload', 'log in', 'tokens/s off', 'time', 'records', 'bytes a record', 'a record'], cells));
  const worst = Math.max(...rows[0].on.map(({ ratios }) => ratios.median - 1));
  console.log(`\ntokens/s of one long request: ${percent(worst)} less at most`);
  if (json) writeFileSync(json, `${JSON.stringify(rows, null, 1)}\n`);
}
