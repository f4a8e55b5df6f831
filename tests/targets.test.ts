// Prices of the targets against LLVM's machine models: every machine instruction's latency, and the hot loops lowered by hand (tests/asm)
// in llvm-mca's simulation between our lower and upper price of the same WebAssembly. The structured bound against integer programming.
import test from 'ava';
import highsLoader from 'highs';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { isRefusal } from '../kernel/abi/index.ts';
import { structuredBound } from '../kernel/wcet/structured.ts';
import {
  MILLI,
  SOURCES,
  TARGETS,
  TARGET_DEFAULT,
  findTarget,
  HOST_PRIOR,
  hostTarget,
  lowerMilli,
  parseCalibration,
  termsOf,
  linesOf,
  trafficMilli,
  trafficMilliMin,
  transferCycles,
  upperMilli,
  type Target,
} from '../kernel/wcet/targets.ts';
import { CLASSES, OP, classIndex, decodeModule, type FunctionBody } from '../kernel/wcet/wasm.ts';
import { makeRandom } from './support/arena.ts';
import { programmeOf, randomFlow } from './support/ipet.ts';
import { pricesOf } from './support/prices.ts';

const models = TARGETS.filter(target => target.kind === 'model');
const MCA = '/usr/bin/llvm-mca'; // of Debian's package llvm
const withMca = existsSync(MCA) || process.env['CI'] === 'true' ? test : test.skip;

/** Runs llvm-mca on assembly; returns its JSON report of the one region. */
function analyse(llvm: NonNullable<Target['llvm']>, assembly: string, iterations: number): any {
  const attributes = llvm.triple.startsWith('riscv') ? ['-mattr=+m,+a,+f,+d,+c'] : [];
  const args = [`-mtriple=${llvm.triple}`, `-mcpu=${llvm.cpu}`, ...attributes, `-iterations=${iterations}`, '--json'];
  const r = spawnSync(MCA, args, { input: assembly, encoding: 'utf8', maxBuffer: 64 << 20 });
  if (r.status !== 0) throw new Error(`llvm-mca: ${r.stderr || r.error?.message}`);
  return JSON.parse(r.stdout).CodeRegions[0];
}

// ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('every target prices every class, with lower prices below upper ones and a source for each figure', t => {
  t.deepEqual(
    TARGETS.map(target => target.name),
    ['cortex-a72', 'sifive-u74', 'cortex-m7', 'host'],
  );
  t.is(findTarget(TARGET_DEFAULT)?.hz, 1_500_000_000);
  t.is(findTarget('pdp-11'), undefined);
  for (const target of TARGETS) {
    for (const [c, cls] of CLASSES.entries()) {
      const where = `${target.name} ${cls}`;
      const upper = target.upper[c]!;
      t.true(Number.isSafeInteger(upper) && upper >= 0, where);
      if (target.kind === 'model') t.true(upper > 0, where);
      for (const { resource, prices } of target.lower) {
        t.true(Number.isSafeInteger(prices[c]!) && prices[c]! >= 0 && prices[c]! <= upper, `${where} ${resource}`);
        t.true((target.resources[resource] ?? '') in SOURCES, where);
      }
    }
    for (const level of target.levels) {
      t.true(
        level.lineLower <= level.lineUpper && level.why !== '' && level.source in SOURCES,
        `${target.name} ${level.name}`,
      );
    }
    for (const level of Object.values(target.home)) t.true(level < target.levels.length);
    t.true(
      target.block.byteLower <= target.block.byteUpper &&
        target.block.setupCyclesLower <= target.block.setupCyclesUpper,
    );
    for (const { source, why } of [target.block, target.overhead]) t.true(source in SOURCES && why !== '', target.name);
    t.true(target.assumptions.length > 0);
  }
  for (const target of models) {
    const named = new Set(CLASSES.flatMap(cls => termsOf(target.lowerings[cls].upper).map(term => term.name)));
    t.deepEqual(
      Object.keys(target.instructions).filter(name => !named.has(name)),
      [],
      `${target.name}: instructions that no sequence uses`,
    );
    const resources = CLASSES.flatMap(cls => Object.keys(target.lowerings[cls].lower ?? {}));
    for (const resource of resources) t.true(resource in target.resources, `${target.name} ${resource}`);
  }
});

test('docs/WCET.md prints these tables', t => {
  const text = readFileSync('docs/WCET.md', 'utf8');
  for (const target of models)
    t.true(text.includes(pricesOf(target)), `docs/WCET.md should have:\n${pricesOf(target)}`);
  for (const [name, source] of Object.entries(SOURCES)) t.true(text.includes(`| ${name} | ${source} |`), name);
});

test('bounds of counts, memory traffic and transfers', t => {
  const target = findTarget('cortex-a72')!;
  const counts = CLASSES.map(() => 0);
  counts[classIndex('float_mul')] = 3; // 5 cycles each at most; at least one of two pipes and of three decoders each
  t.is(upperMilli(target, counts), 15 * MILLI);
  t.is(lowerMilli(target, counts), 1500);

  const lines = (bytes: number, runBytes: number): number => linesOf(target, bytes, runBytes, 4);
  t.deepEqual(
    [lines(6400, 6400), lines(6400, 64), lines(0, 1)],
    [101, 200, 0],
    '100 lines, or 101 when the first is cut',
  );
  t.is(linesOf(findTarget('cortex-m7')!, 64, 64, 8), 16, 'without caches, each word');
  t.is(linesOf(findTarget('cortex-m7')!, 64, 64, 2), 32);
  const traffic = { region: 'weights', hullBytes: 6400, hullLines: 101, lines: 101 } as const;
  t.is(trafficMilli(target, traffic), 101 * 300 * MILLI);
  t.is(trafficMilli(target, { ...traffic, lines: 1010 }), 101 * 300 * MILLI, 'again from L1: free');
  const large = { ...traffic, hullBytes: 64000, hullLines: 1001, lines: 2002 };
  t.is(trafficMilli(target, large), 1001 * (300 + 30) * MILLI, 'again from L2');
  t.is(trafficMilli(target, { ...large, lines: 50 }), 50 * 300 * MILLI, 'here and there');
  t.is(trafficMilli(target, { ...traffic, hullBytes: 0, hullLines: 0, lines: 0 }), 0);
  t.is(trafficMilliMin(target, 'weights', 1_000_000), 0, 'may all be in the caches');
  t.is(trafficMilliMin(target, 'weights', target.cacheBytes + 6400), 100 * 7500);

  t.deepEqual(transferCycles(target, 1000), { upper: 1_550_000, lower: 105_000 });
  t.is(transferCycles(target, 0).upper, target.block.setupCyclesUpper);
});

test('the host is a fit: its clock is the prediction, its lower prices are less by the error, and it carries the digest', t => {
  const prices = { ...HOST_PRIOR, scalar: 400, byte: 30 };
  const target = hostTarget({ digest: 'ab', cpu: 'test', hz: 1e9, prices, errorMilli: 100 });
  const [local, load, div] = (['local', 'load', 'int_div'] as const).map(classIndex);
  t.is(target.kind, 'fit');
  t.is(target.calibration, 'ab');
  t.is(target.title, 'This host, test: a fit, ±10 %, not a bound');
  t.deepEqual([target.upper[load!], target.upper[div!], target.upper[local!]], [400, 3200, 0]);
  t.is(target.lower[0]!.prices[load!], 360);
  t.is(
    trafficMilli(target, { region: 'kv', hullBytes: 40_000, hullLines: 40_000, lines: 50_000 }),
    50_000 * 30,
    'more than stays near',
  );
  t.is(
    trafficMilli(target, { region: 'kv', hullBytes: 4000, hullLines: 4000, lines: 50_000 }),
    4000 * 30,
    'later repetitions are near',
  );
  t.is(trafficMilli(target, { region: 'weights', hullBytes: 40_000, hullLines: 40_000, lines: 50_000 }), 0);
  t.is(findTarget('host')!.calibration, '', 'nobody has calibrated yet');

  const good = { cpu: 'test', hz: 1e9, prices, errorMilli: 100 };
  t.deepEqual(parseCalibration(JSON.stringify({ ...good, node: '20' }), 'ab'), { digest: 'ab', ...good });
  const refused: [unknown, RegExp][] = [
    [null, /cpu/],
    [{ ...good, cpu: 3 }, /cpu/],
    [{ ...good, cpu: 'two\nlines' }, /cpu/],
    [{ ...good, hz: 0.5 }, /hz 0.5/],
    [{ ...good, hz: '1e9' }, /hz 1e9/],
    [{ ...good, errorMilli: 'x' }, /errorMilli x/],
    [{ ...good, prices: { ...prices, access: 1e10 } }, /access: 10000000000/],
    [{ ...good, prices: { ...prices, float: -1 } }, /float: -1/],
    [{ ...good, prices: [] }, /scalar: undefined/],
    [[good], /cpu/],
  ];
  for (const [value, message] of refused) {
    const refusal = parseCalibration(JSON.stringify(value), '');
    t.regex(isRefusal(refusal) ? refusal.message : '', message);
  }
  t.true(isRefusal(parseCalibration('{', '')));
});

// ── LLVM ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

withMca('each latency that names LLVM is the one LLVM has', t => {
  for (const target of models) {
    const named = Object.entries(target.instructions).filter(
      ([name, instruction]) => instruction.source === 'llvm' && name !== 'flush', // mca does not print it
    );
    const region = analyse(target.llvm!, `${named.map(([, instruction]) => instruction.what).join('\n')}\n`, 1);
    t.deepEqual(
      region.InstructionInfoView.InstructionList.map((info: { Latency: number }, i: number) => [
        named[i]![0],
        info.Latency,
      ]),
      named.map(([name, instruction]) => [name, instruction.latency]),
      target.name,
    );
  }
});

withMca('what starts one a cycle can do so, as LLVM has it', t => {
  for (const target of models) {
    const terms = CLASSES.flatMap(cls => termsOf(target.lowerings[cls].upper)).filter(term => term.width > 1);
    const names = [...new Set(terms.map(term => term.name))];
    const region = analyse(target.llvm!, `${names.map(name => target.instructions[name]!.what).join('\n')}\n`, 1);
    const every = region.InstructionInfoView.InstructionList.map((info: { RThroughput: number }) => info.RThroughput);
    t.deepEqual(
      names.filter((_, i) => every[i] > 1),
      [],
      target.name,
    );
  }
});

// What targets execute is the relaxed build: they have fused multiply-adds.
const bytes = readFileSync('build/kernels.relaxed.plain.wasm');
const kernels = decodeModule(bytes);

interface Step {
  /** Names the files tests/asm/NAME.CPU.s. */
  readonly name: string;
  readonly exported: string;
  /** The loop is in the function that the exported one calls, the n-th from the end. */
  readonly callee?: number;
  /** Which loop of the function, in the order of the code … */
  readonly loop: number;
  /** … and how often loops inside it turn. */
  readonly turns?: readonly number[];
}
const STEPS: readonly Step[] = [
  { name: 'quantize_q8', exported: 'quantize', callee: 2, loop: 0, turns: [8, 2] },
  { name: 'mul_mat_q4_0', exported: 'mul_mat_q4_0', loop: 10 },
  { name: 'mul_mat_q8_0', exported: 'mul_mat_q8_0', loop: 2 },
  { name: 'dot32_f16', exported: 'mul_mat_f16', loop: 2 },
  { name: 'scores_f16', exported: 'attention_f16', loop: 3 },
  { name: 'dot32_f32', exported: 'mul_mat_f32', loop: 2 },
  { name: 'weighted_sum', exported: 'attention_f16', loop: 16 },
  { name: 'soft_max', exported: 'soft_max', loop: 1 },
  { name: 'rms_norm_sum', exported: 'rms_norm', loop: 0 },
  { name: 'rms_norm_scale', exported: 'rms_norm', loop: 1 },
  { name: 'logits_sum', exported: 'run_op', callee: 1, loop: 18 },
];

function bodyOf(step: Step): FunctionBody {
  const at = (index: number) => kernels.bodies[index - kernels.functionsImported]!;
  const body = at(kernels.exports.find(e => e.name === step.exported)!.index);
  return step.callee === undefined
    ? body
    : at(body.code.filter(i => i.opcode.code === OP.call).at(-step.callee)!.value);
}

/** Instructions of each class in one turn of a step's loop, as the module has them. */
function countsOf(step: Step): number[] {
  const { code, endOf } = bodyOf(step);
  const loops = code.flatMap((instruction, i) => (instruction.opcode.code === OP.loop ? [i] : []));
  const start = loops[step.loop]!;
  const end = endOf.get(start)!;
  const inner = loops.filter(i => i > start && i < end);
  if (inner.length !== (step.turns ?? []).length) throw new Error(`${step.name}: ${inner.length} inner loops`);
  const counts = CLASSES.map(() => 0);
  for (let i = start; i < end; i++) {
    const { opcode } = code[i]!;
    const around = inner.findIndex(at => i > at && i < endOf.get(at)!);
    const times = around < 0 ? 1 : step.turns![around]! + 1; // the test that ends the loop is charged as a whole turn
    if (opcode.cls < 0) continue;
    counts[opcode.cls]! += times;
    if (opcode.bytes > 0)
      counts[classIndex(opcode.name.includes('store') ? 'bytes_stored' : 'bytes_loaded')]! += opcode.bytes * times;
  }
  return counts;
}

// What separates the bounds from the simulation: above, that nothing overlaps and every branch is mispredicted; below, that everything
// overlaps and instructions fold. Larger factors than these mean that a table is off.
const FACTOR_MAX: Readonly<Record<string, readonly [above: number, below: number]>> = {
  'cortex-a72': [23, 7],
  'sifive-u74': [7, 20], // lanes shifted and masked have no lower price there
};

for (const [name, suffix] of [
  ['cortex-a72', 'a72'],
  ['sifive-u74', 'u74'],
] as const) {
  withMca(`hot loops lowered for ${name} take llvm-mca between the lower and the upper price`, t => {
    const target = findTarget(name)!;
    for (const step of STEPS) {
      const iterations = 200;
      const assembly = readFileSync(`tests/asm/${step.name}.${suffix}.s`, 'utf8');
      const cycles = analyse(target.llvm!, assembly, iterations).SummaryView.TotalCycles / iterations;
      const counts = countsOf(step);
      const upper = upperMilli(target, counts) / MILLI;
      const lower = lowerMilli(target, counts) / MILLI;
      const line = `${step.name}: ${lower.toFixed(1)} ≤ ${cycles.toFixed(1)} ≤ ${upper.toFixed(1)} cycles, ÷${(cycles / lower).toFixed(1)} ×${(upper / cycles).toFixed(1)}`;
      t.log(line);
      t.true(lower <= cycles && cycles <= upper, line);
      const [above, below] = FACTOR_MAX[name]!;
      t.true(upper <= cycles * above && cycles <= lower * below, line);
    }
  });
}

/** Byte indices of a shuffle of lanes `width` bytes wide. */
const expand = (width: number, pick: (lane: number) => number): string =>
  Array.from({ length: 16 }, (_, i) => pick(Math.floor(i / width)) * width + (i % width)).join(' ');

test('the sequence priced for a shuffle on the A72 can do every shuffle of the kernels', t => {
  // One register of bytes, or two by ext, zip, uzp or trn; only patterns over both registers need those.
  const known = new Set<string>();
  for (let n = 0; n < 16; n++) known.add(expand(1, i => i + n));
  for (const width of [1, 2, 4, 8]) {
    const lanes = 16 / width;
    for (const odd of [0, 1]) {
      known.add(expand(width, i => 2 * i + odd)); // uzp
      known.add(expand(width, i => (i % 2) * lanes + (i >> 1) + (odd * lanes) / 2)); // zip
      known.add(expand(width, i => (i % 2) * lanes + (i & ~1) + odd)); // trn
    }
  }
  const others = kernels.bodies
    .flatMap(body => body.code)
    .filter(instruction => instruction.opcode.name === 'i8x16.shuffle')
    .map(instruction => [...bytes.subarray(instruction.end - 16, instruction.end)])
    .filter(lanes => lanes.some(lane => lane > 15) && !known.has(lanes.join(' ')));
  t.deepEqual(others, []);
});

test('what the sequences take for granted of the kernels', t => {
  // The jump through a table is priced in the overhead of a record: only what the executor calls for each may have one.
  const run = kernels.exports.find(e => e.name === 'run_op')!.index;
  for (const { index } of kernels.bodies.filter(body => body.code.some(i => i.opcode.code === OP.br_table))) {
    const callers = kernels.bodies.filter(body => body.code.some(i => i.opcode.code === OP.call && i.value === index));
    t.deepEqual(
      callers.map(body => body.index),
      [run],
    );
  }
  // Members of a class that would need longer sequences than the class is priced at, or shorter ones than its lower price.
  const rare = [
    /popcnt|i64\.c[lt]z|rot[lr]|copysign|i64\.(div|rem)|call_indirect|relaxed_(?!madd$|dot_i8x16_i7x16_s$)/,
    /swizzle|(i16x8|i32x4|i64x2)\.bitmask|extmul|q15mulr|_sat_[su]$|avgr|(i8x16|i16x8|i64x2)\.(all_true|mul)|i\d+x\d+\.(min|max|abs)/,
    /f64x2\.(?!promote_low_f32x4$|extract_lane$)|f32x4\.(ceil|floor|trunc)|f32x4\.convert_\w+_u|load\d+_lane|load\d+_zero|load(8x8|32x2)|load(8|16|64)_splat/,
  ];
  const used = new Set(kernels.bodies.flatMap(body => body.code.map(i => i.opcode.name)));
  t.deepEqual(
    [...used].filter(name => rare.some(pattern => pattern.test(name))),
    [],
  );
  // Lanes are shifted by constants: an instruction with an immediate.
  const shifts = kernels.bodies.flatMap(({ index, code }) =>
    code.flatMap((i, n) =>
      /x\d+\.sh[lr]/.test(i.opcode.name) && code[n - 1]!.opcode.code !== OP.i32_const ? [index] : [],
    ),
  );
  t.deepEqual(shifts, []);
});

// ── Structured bound ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('the structured bound equals implicit path enumeration on 1,000 random flows', async t => {
  const highs = await highsLoader();
  const random = makeRandom(31);
  for (let i = 0; i < 1000; i++) {
    const flow = randomFlow(random, 4);
    for (const most of [true, false]) {
      const solution = highs.solve(programmeOf(flow, most));
      t.is(solution.Status, 'Optimal');
      if (Math.round(solution.ObjectiveValue) !== structuredBound(flow, most))
        t.is(solution.ObjectiveValue, structuredBound(flow, most), JSON.stringify(flow));
    }
  }
});
