// `npm run bench -- --calibrate`: the prices of the target `host`, from measured steps of models of several shapes and storage types. Writes
// build/calibration.json, an input for `arena8 --target host --calibration FILE`, and says how well it predicts: the steps it was fitted to,
// every third one that was held out, and all steps of a model when the fit has seen only the others.
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { assess } from './fit.mjs';
import { SYNTHETIC, SYNTHETIC_F32, syntheticModels } from './models.mjs';
import { measureSteps, parts } from './steps.mjs';
import { table } from './workload.mjs';

const root = new URL('..', import.meta.url).pathname;
const FILE = 'build/calibration.json';
const MILLI = 1000;

const fable = type => ({ name: `fable-${type}`, file: `${root}images/models/fable-${type}.gguf`, ctx: 512, kv: 'F16' });

/** Models and caches that differ in what their steps are made of. */
function subjects() {
  const [q4, q8, f32] = syntheticModels([...SYNTHETIC, SYNTHETIC_F32]);
  return [
    fable('f16'),
    fable('q8_0'),
    fable('q4_0'),
    { ...fable('q8_0'), name: 'fable-q8_0, KV F32', kv: 'F32' },
    { ...q4, ctx: 512, kv: 'F16' },
    { ...q8, name: `${q8.name}, KV F32`, ctx: 320, kv: 'F32' },
    { ...f32, ctx: 512, kv: 'F16' },
  ];
}

/** A target for each price on which that price is a cycle and all others are nothing: its clock counts. */
function counters({ HOST_PRICES, hostTarget }, cpu, hz) {
  return HOST_PRICES.map(name => {
    const prices = Object.fromEntries(HOST_PRICES.map(other => [other, other === name ? MILLI : 0]));
    return hostTarget({ digest: '', cpu, hz, prices, errorMilli: 0 });
  });
}

/** Measures, fits, writes the calibration; what `print` prints. */
export async function calibrate({ quick }) {
  process.chdir(root); // the parts of the machine read the build from there
  const k = await parts();
  const cpu = cpus()[0]?.model.trim().slice(0, 64) || 'unknown processor';
  const hz = (cpus()[0]?.speed ?? 0) * 1e6 || k.findTarget('host').hz; // where the system does not say, a unit like any other
  const { build, steps, share } = measureSteps(subjects(), k, counters(k, cpu, hz), quick ? 12_000 : 60_000);
  const rows = steps.map(step => ({ ...step, time: step.seconds * hz }));
  const prior = k.HOST_PRICES.map(name => k.HOST_PRIOR[name] / MILLI);
  const { prices, worst, ...report } = assess(rows, prior);
  const calibration = {
    cpu,
    hz,
    build,
    node: process.versions.node,
    steps: rows.length,
    prices: Object.fromEntries(k.HOST_PRICES.map((name, j) => [name, Math.round(prices[j] * MILLI)])),
    errorMilli: Math.ceil(worst * MILLI),
  };
  const text = `${JSON.stringify(calibration, null, 1)}\n`;
  k.accepted(k.parseCalibration(text, ''));
  writeFileSync(path.join(root, FILE), text);
  return { calibration, rows, share, ...report };
}

const percent = x => (x * 100).toFixed(1);
const three = e => `${percent(e.median)} / ${percent(e.ninety)} / ${percent(e.worst)}`;
const micro = s => (s * 1e6).toFixed(0);

function reportLine(model, rows, { steps, fitted, heldOut, unseen }) {
  const seconds = rows.map(r => r.seconds).sort((a, b) => a - b);
  return [model, `${steps}`, `${micro(seconds[0])}–${micro(seconds.at(-1))}`, ...[fitted, heldOut, unseen].map(three)];
}

export function print(run, { json }) {
  const { calibration, rows, share, all, models } = run;
  const { cpu, hz, build, prices, errorMilli, steps, node } = calibration;
  const list = Object.entries(prices).map(([name, p]) => `${name} ${p}`);
  console.log(`${cpu}, Node ${node}, ${build} build, ${steps} steps, the shortest time of each`);
  console.log(`prices, thousandths of a cycle at ${hz / 1e6} MHz: ${list.join(', ')}`);
  console.log('\nerrors of predicted times, %: median / nine of ten / worst\n');
  const lines = models.map(m =>
    reportLine(
      m.model,
      rows.filter(r => r.model === m.model),
      m,
    ),
  );
  console.log(
    table(['model', 'steps', 'µs', 'fitted', 'held out', 'model not seen'], [...lines, reportLine('all', rows, all)]),
  );
  if (share < 0.95)
    console.log(
      `\nthe machine was busy with other things: this process got ${(share * 100).toFixed(0)} % of a core; worst errors may be theirs`,
    );
  console.log(`\n${FILE} written: arena8 --target host --calibration ${FILE} (±${errorMilli / 10} %)`);
  if (json) writeFileSync(json, `${JSON.stringify(run, null, 1)}\n`);
}
