// `npm run bench -- --train`: tokens a second of training, each method on small models: `llmfinetune start` from outside, the processor time of a
// long run less that of a short one, so that start-up, tokenising and what is written at the end cancel out. Beside it PyTorch on one thread
// (tests/outside/lora_reference.py, where python3-torch is installed) on sequences as long, in the same rounds: what counts is the ratio of a
// round. Cycles are the simulated processor's, by the machine's own account.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { allowRelaxedSimd } from './ceilings.mjs';
import { promptOf, spread, table } from './workload.mjs';

const root = new URL('..', import.meta.url).pathname;
const PYTHON = '/usr/bin/python3';
const TORCH = '/usr/lib/python3/dist-packages/torch';
const REFERENCE = `${root}tests/outside/lora_reference.py`;
const SHARED = `${root}../shared/models`;

const TOKENS = 128; // of a sequence, which is a batch
const SHORT = 2; // steps
const LONG = 26;

const MODELS = [
  { name: 'fable-q4_0', file: `${root}images/models/fable-q4_0.gguf` },
  { name: 'fable-f16', file: `${root}images/models/fable-f16.gguf` },
  { name: 'stories260K-f32', file: `${SHARED}/stories260K-f32.gguf` },
];

const PAIRS = '--targets q,v --rank 4 --alpha 16';
/** What is trained how; `torch`: what PyTorch is asked for on the same sequences. */
const METHODS = [
  { name: 'lora, all kept', options: `--method lora ${PAIRS} --checkpoint all`, torch: 'lora' },
  { name: 'lora, each layer again', options: `--method lora ${PAIRS} --checkpoint 1`, torch: 'lora' },
  { name: 'fmea, a direction', options: `--method fmea ${PAIRS} --directions 1`, torch: 'lora' },
  { name: 'nes, a pair', options: `--method nes ${PAIRS} --directions 1`, torch: 'lora' },
  { name: 'full', options: '--method full', torch: 'full' },
];

/** Processor time of this process, in seconds: other programs take none of it. */
function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** A booted machine with the model loaded, and a text of so many tokens in /data/text. */
function powerOn(library, model, directory) {
  const machine = library.boot({
    mounts: { '/mnt/models': { path: path.dirname(model.file), readOnly: true }, '/data': { path: directory } },
  });
  const attempt = line => machine.exec(line);
  const run = line => {
    const { status, stdout, stderr } = attempt(line);
    if (status !== 0) throw new Error(`${line.slice(0, 80)}: status ${status}: ${stderr.trim()}`);
    return stdout;
  };
  run(`llmctl load /mnt/models/${model.name}.gguf --ctx ${TOKENS} --sessions 1 --pages ${TOKENS / 32}`);
  const count = text => JSON.parse(run(`llmctl tokenize --json '${text}'`)).tokens.length;
  const text = promptOf(TOKENS - 2, 0, count); // a token before it and one behind
  writeFileSync(path.join(directory, 'text'), text);
  const ids = JSON.parse(run(`llmctl tokenize --json --bos '${text}'`)).tokens;
  return { attempt, run, ids };
}

/** What some steps take: seconds of this process, and cycles of the machine. */
function train(machine, method, steps) {
  const start = cpuSeconds();
  const line = `llmfinetune start /data/text bench ${method.options} --epochs ${steps} --batch 1 --ctx ${TOKENS} --val 0 --json --store /tmp/bench`;
  const { status, stdout, stderr } = machine.attempt(line);
  if (status !== 0) return { why: stderr.trim().split('\n')[0] };
  const last = JSON.parse(stdout.trim().split('\n').at(-1));
  return { seconds: cpuSeconds() - start, tokens: last.tokens, cycles: last.cycles };
}

/** Tokens a second of PyTorch on one thread: the quicker half of some steps. */
function torch(model, method, ids, directory) {
  const file = path.join(directory, 'request.json');
  const step = { rate: 1e-4, sequences: [[0, ids]] };
  const request = { model: model.file, method, targets: ['q', 'v'], rank: 4, alpha: 16, seed: 42 };
  writeFileSync(file, JSON.stringify({ ...request, steps: Array.from({ length: LONG }, () => step) }));
  const { status, stdout, stderr } = spawnSync(PYTHON, [REFERENCE, file], { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(stderr);
  const { seconds } = JSON.parse(stdout);
  return ids.length / spread(seconds.slice(SHORT)).median;
}

/** One model, its methods in turns with PyTorch. */
function measure(library, model, { repetitions }) {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-bench-'));
  try {
    const machine = powerOn(library, model, directory);
    const rows = METHODS.map(method => ({ model: model.name, ...method, rates: [], ratios: [], cycles: 0, why: '' }));
    for (const row of rows) row.why = train(machine, row, LONG).why ?? ''; // the engine compiles what runs often
    for (let round = 0; round < repetitions; round++) {
      const peers = existsSync(TORCH)
        ? { lora: torch(model, 'lora', machine.ids, directory), full: torch(model, 'full', machine.ids, directory) }
        : {};
      for (const row of rows.filter(r => r.why === '')) {
        const [short, long] = [SHORT, LONG].map(steps => train(machine, row, steps));
        row.why = short.why ?? long.why ?? '';
        if (row.why !== '') continue;
        const rate = (long.tokens - short.tokens) / (long.seconds - short.seconds);
        row.cycles = (long.cycles - short.cycles) / (long.tokens - short.tokens);
        row.rates.push(rate);
        if (peers[row.torch] !== undefined) row.ratios.push(rate / peers[row.torch]);
      }
    }
    return rows;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export async function trainings(chosen) {
  allowRelaxedSimd();
  const library = await import('../build/index.js');
  const notes = existsSync(TORCH) ? [] : ['python3-torch is not installed: no line of PyTorch'];
  for (const { file } of MODELS) if (!existsSync(file)) notes.push(`${path.basename(file)} is not here: left out`);
  const here = MODELS.filter(m => existsSync(m.file) && (chosen.only ?? m.name) === m.name);
  return { rows: here.flatMap(model => measure(library, model, chosen)), notes };
}

export function print({ rows, notes }, { json }) {
  console.log(
    `training, a sequence of ${TOKENS} tokens a step; medians (min–max), PyTorch on one thread in the same rounds\n`,
  );
  const grouped = x => Math.round(x).toLocaleString('en-US');
  const cells = rows.map(({ model, name, rates, ratios, cycles, why }) => {
    if (why !== '') return [model, name, '-', '-', why.slice(0, 60)];
    const rate = spread(rates);
    const ratio = ratios.length === 0 ? null : spread(ratios);
    return [
      model,
      name,
      `${grouped(rate.median)} (${grouped(rate.min)}–${grouped(rate.max)})`,
      ratio === null ? '-' : `${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)})`,
      grouped(cycles),
    ];
  });
  console.log(table(['model', 'method', 'tokens/s', 'of PyTorch', 'cycles a token'], cells));
  for (const note of notes) console.log(note);
  if (json) writeFileSync(json, `${JSON.stringify(rows, null, 1)}\n`);
}
