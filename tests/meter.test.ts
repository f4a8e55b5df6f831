// The meter: what metered kernels say they spent against a module that counts every instruction, for every metered export of both builds and
// for random programs; results that metering does not touch; code of the plan's exact ops that stays as it was compiled.

import test from 'ava';
import { readFileSync } from 'node:fs';
import { Op } from '../drivers/engine/ops.ts';
import { ENCODE_WORK_BYTES } from '../drivers/engine/tokenizer.ts';
import { isRefusal, LIMITS, SAMPLER_MODE, SamplerRecord, StepBlock } from '../kernel/abi/index.ts';
import { decodeBlocks, encodeCertificates } from '../kernel/wcet/certificate.ts';
import type { CertificateFile } from '../kernel/wcet/certificate.ts';
import { I64, rewriteModule, string, unsigned } from '../kernel/wcet/encode.ts';
import { counterName, instrument } from '../kernel/wcet/instrument.ts';
import { meteredKernels } from '../kernel/wcet/kernels.ts';
import { METER, meterModule, skeletonsDiffer } from '../kernel/wcet/meter.ts';
import type { MeterBlock } from '../kernel/wcet/meter.ts';
import { CLASSES, I32, OP, WasmError, classIndex, decodeModule } from '../kernel/wcet/wasm.ts';
import type { FunctionBody, Module } from '../kernel/wcet/wasm.ts';
import { accepted, type Build, BUILDS, canRun, haveShared, MODEL_AT, Rig, shared, soak } from './harness.ts';
import { assemble } from './reference/wasm-assembler.ts';

let seed = 11;
/** 32 random bits (xorshift). */
function bits(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
const below = (n: number): number => bits() % n;
const oneOf = <T>(list: readonly T[]): T => list[below(list.length)]!;

type Exports = Record<string, (...args: number[]) => number>;
type Prices = readonly number[]; // by class, cycles

const plainBytes = (build: Build): Uint8Array => readFileSync(`build/kernels.${build}.plain.wasm`);
const metered = (build: Build): ReturnType<typeof meterModule> => {
  const bytes = plainBytes(build);
  const module = decodeModule(bytes);
  return meterModule(bytes, module, meteredKernels(module));
};
const METERED = meteredKernels(decodeModule(plainBytes('relaxed'))).map(r => r.name);
const builds = BUILDS.filter(canRun);

/** A price for one class alone, or for each. */
function randomPrices(): number[] {
  const only = below(2) === 0 ? below(CLASSES.length) : -1;
  return CLASSES.map((_, cls) => (only < 0 ? below(9) : cls === only ? 1 + below(9) : 0));
}

/** The table of the meter, in thousandths. */
const tableOf = (blocks: readonly MeterBlock[], prices: Prices): Uint32Array =>
  Uint32Array.from(blocks, b => 1000 * b.counts.reduce((sum, n, cls) => sum + n * prices[cls]!, 0));

function instantiate(bytes: Uint8Array, memory: WebAssembly.Memory): WebAssembly.Exports {
  return new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(bytes)), { env: { memory } }).exports;
}

/** A module that counts: Σ counts × prices of a call. */
class Counter {
  readonly u8: Uint8Array;
  readonly exports: Exports;
  readonly #counters: readonly WebAssembly.Global[];
  constructor(bytes: Uint8Array, pages: number) {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.u8 = new Uint8Array(memory.buffer);
    const exports = instantiate(instrument(bytes, decodeModule(bytes)), memory);
    this.exports = exports as unknown as Exports;
    this.#counters = CLASSES.map(c => exports[counterName(c)] as WebAssembly.Global);
  }
  call(name: string, args: readonly number[], prices: Prices): { result: number; spent: number } {
    for (const c of this.#counters) c.value = 0n;
    const result = this.exports[name]!(...args);
    return { result, spent: this.#counters.reduce((sum, c, i) => sum + Number(c.value) * prices[i]!, 0) };
  }
}

// ── The kernels ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const IDS_AT = LIMITS.arenaBytes - 16384;
const TABLE_AT = LIMITS.arenaBytes - 8192;
const [LOGITS_AT, HISTORY_AT, SAMPLER_AT, PLAN_AT, OPERAND_AT, RESULT_AT] = [
  1 << 20,
  1 << 19,
  512,
  2048,
  2 << 20,
  4 << 20,
];

/** What happens to each call of a metered kernel. */
type Observer = (rig: Rig, name: string, args: number[], call: () => number) => number;

/** A bench on which every call of a metered kernel goes through `observe`. */
function observed(build: Build, observe: Observer): Rig & { readonly kernels: Exports } {
  const rig = new Rig(build);
  const kernels = { ...(rig.compute as unknown as Exports) };
  for (const name of METERED) {
    const kernel = kernels[name]!;
    kernels[name] = (...args) => observe(rig, name, args, () => kernel(...args));
  }
  rig.compute.set_prices(TABLE_AT);
  return Object.assign(rig, { kernels, compute: kernels as unknown as Rig['compute'] });
}

function randomLogits(rig: Rig, n: number): void {
  const spread = oneOf([0.01, 1, 5, 40]);
  const steps = oneOf([2, 100, 2 ** 20]); // few steps, many ties
  for (let i = 0; i < n; i++) rig.arena.f32[(LOGITS_AT >> 2) + i] = (below(steps) / steps - 0.5) * spread;
}

function prepareDraw(rig: Rig): void {
  const n = oneOf([1, 2, 3, 7, 64, 500, 1 + below(3000)]);
  randomLogits(rig, n);
  const historyLength = below(40);
  for (let i = 0; i < historyLength; i++) rig.arena.u32[(HISTORY_AT >> 2) + i] = below(n + 1);
  const temp = oneOf([0, 0.1, 0.8, 2]);
  const topK = oneOf([0, 1, 2, 40, n]);
  const topP = oneOf([1, 0.95, 0.5, 0]);
  const minP = oneOf([0, 0, 0.1, 1]);
  const repeatPenalty = oneOf([1, 1, 1.3]);
  const modes =
    (repeatPenalty === 1 ? 0 : SAMPLER_MODE.penalty) |
    (temp <= 0 || topK === 1 ? SAMPLER_MODE.greedy : 0) |
    (topP < 1 ? SAMPLER_MODE.topP : 0) |
    (minP > 0 ? SAMPLER_MODE.minP : 0);
  SamplerRecord.write(rig.arena.u8, SAMPLER_AT, { temp, topK, topP, minP, repeatPenalty, modes });
  StepBlock.write(rig.arena.u8, rig.stepAt, {
    n: 1,
    samplerAt: SAMPLER_AT,
    logitsAt: LOGITS_AT,
    vocabulary: n,
    draw: bits(),
    historyAt: HISTORY_AT,
    historyLength,
  });
}

function arithmetic(rig: Rig & { readonly kernels: Exports }): void {
  const { kernels } = rig;
  for (let i = 0; i < (soak ? 2000 : 60); i++) {
    prepareDraw(rig);
    kernels['sample']!(rig.stepAt);
    const n = below(500);
    randomLogits(rig, n);
    kernels['top_k']!(LOGITS_AT, n, below(9), RESULT_AT);
  }
  for (let i = 0; i < (soak ? 400 : 30); i++) {
    for (let w = 0; w < 4096; w++) rig.arena.u32[(OPERAND_AT >> 2) + w] = bits();
    const type = oneOf([0, 1, 2, 3, 8, 30, 77]);
    kernels['dequantize']!(type, OPERAND_AT, 32 * below(20), RESULT_AT);
    kernels['encode']!(oneOf([0, 1, 2, 3, 6, 7, 8, 30, 77]), OPERAND_AT, 32 * below(20), RESULT_AT);
    kernels['repack']!(type, OPERAND_AT, below(12), 32 * below(5), RESULT_AT);
    rig.arena.f64[OPERAND_AT >> 3] = 10000;
    kernels['add']!(RESULT_AT, OPERAND_AT, below(300));
    kernels['all_finite']!(RESULT_AT, below(300));
    kernels['scale']!(RESULT_AT, below(300), OPERAND_AT);
    kernels['rope_frequencies']!(OPERAND_AT, oneOf([0, OPERAND_AT + 8]), below(40), RESULT_AT);
    rig.arena.f64.set([10000, oneOf([0.25, 1, 3]), 1, below(2), 64], OPERAND_AT >> 3);
    kernels['rope_scaling']!(OPERAND_AT, below(40), RESULT_AT);
  }
}

const TEXTS = [
  '',
  'The quick brown fox — jumps over 12345 lazy dogs! It’s  naïve,\n\n\tisn’t it? 日本語 🦊',
  '<s>special</s><|endoftext|>'.repeat(3),
  'Once upon a time there was a fox. '.repeat(200), // more than the buffer holds
  'x'.repeat(6000), // more than the symbols of one word
];
const VOCABULARIES = [
  'images/models/fable-q8_0.gguf',
  ...(haveShared ? ['llama-spm', 'gpt-2'].map(v => shared(`vectors/tokenizer/ggml-vocab-${v}.gguf`)) : []),
];

function texts(rig: Rig, file: string): void {
  const { u8 } = rig.arena;
  const tokenizers = rig.tokenizer();
  const image = accepted(rig.image(file));
  const { bytes } = accepted(tokenizers.budget(image));
  const vocabulary = accepted(tokenizers.load(image, MODEL_AT, bytes));
  for (const text of TEXTS.map(t => Buffer.from(t)))
    for (const flags of [0, 3]) {
      vocabulary.begin(flags, IDS_AT - ENCODE_WORK_BYTES, ENCODE_WORK_BYTES);
      for (let at = 0, final = false, ids = 0; !final && ids >= 0;) {
        const n = Math.min(vocabulary.inputBytes(), text.length - at, 1 + below(4096));
        u8.set(text.subarray(at, at + n), vocabulary.inputAt());
        at += n;
        final = at === text.length;
        vocabulary.input(n, final);
        while ((ids = vocabulary.encode(IDS_AT, 1 + below(512))) > 0);
      }
    }
}

for (const build of builds)
  test(`${build}: every metered kernel spends what its instructions cost, and computes what it did`, t => {
    const { blocks } = metered(build);
    const bytes = plainBytes(build);
    const memory = new WebAssembly.Memory({ initial: 128, maximum: 128 });
    const plain = { u8: new Uint8Array(memory.buffer), exports: instantiate(bytes, memory) as unknown as Exports };
    const counter = new Counter(bytes, 128);
    const calls = new Map<string, number>();
    const wrong: string[] = [];
    const observe: Observer = (rig, name, args, call) => {
      const prices = randomPrices();
      rig.arena.u32.set(tableOf(blocks, prices), TABLE_AT >> 2);
      for (const { u8 } of [plain, counter]) u8.set(rig.arena.u8);
      rig.compute.take_spent();
      const result = call();
      const spent = rig.compute.take_spent() >>> 0;
      const counted = counter.call(name, args, prices);
      if (spent !== counted.spent) wrong.push(`${name}(${args.join()}) spent ${spent}, counted ${counted.spent}`);
      if (plain.exports[name]!(...args) !== result) wrong.push(`${name}(${args.join()}) returned ${result}`);
      if (Buffer.compare(plain.u8, rig.arena.u8) !== 0) wrong.push(`${name}(${args.join()}) left other bytes`);
      calls.set(name, (calls.get(name) ?? 0) + 1);
      return result;
    };
    const rig = observed(build, observe);
    arithmetic(rig);
    for (const file of VOCABULARIES) texts(rig, file);
    t.deepEqual(wrong.slice(0, 5), []);
    const uncalled = METERED.filter(name => !calls.has(name));
    t.deepEqual(haveShared ? uncalled : [], []);
    for (const name of ['sample', 'top_k', 'dequantize', 'repack', 'rope_frequencies', 'rope_scaling'])
      t.true(METERED.includes(name), name);
    t.log([...calls].map(([name, n]) => `${name} ${n}`).join(', '));
    t.log(`${blocks.length} blocks`);
  });

test('both builds spend the same', t => {
  if (builds.length < 2) return void t.pass();
  const { blocks } = metered('relaxed');
  const spentBy = builds.map(build => {
    seed = 12;
    const spent: string[] = [];
    const prices = CLASSES.map(() => 1 + below(50));
    const rig = observed(build, (_, name, __, call) => {
      const result = call();
      spent.push(`${name} ${rig.compute.take_spent() >>> 0}`);
      return result;
    });
    rig.arena.u32.set(tableOf(blocks, prices), TABLE_AT >> 2);
    arithmetic(rig);
    texts(rig, VOCABULARIES[0]!);
    return spent;
  });
  t.deepEqual(spentBy[0], spentBy[1]);
});

test('the sampler of a plan is metered, and what was spent is taken once, in whole cycles rounded up', t => {
  for (const build of builds) {
    const { blocks } = metered(build);
    const rig = new Rig(build);
    const { u32, u8 } = rig.arena;
    const { sample } = rig.compute as unknown as Exports;
    rig.compute.set_prices(TABLE_AT);
    // Thousandths that do not make whole cycles.
    u32.set(
      tableOf(
        blocks,
        CLASSES.map(() => 1),
      ).map(p => p / 1000),
      TABLE_AT >> 2,
    );
    u32[PLAN_AT >> 2] = Op.SAMPLE;
    u32[(PLAN_AT + 64) >> 2] = Op.END;
    for (let i = 0; i < 20; i++) {
      prepareDraw(rig);
      const logits = rig.arena.f32.slice(LOGITS_AT >> 2, (LOGITS_AT >> 2) + 4096);
      const step = u8.slice(rig.stepAt, rig.stepAt + StepBlock.bytes);
      sample!(rig.stepAt);
      const direct = rig.compute.take_spent();
      t.true(direct > 0);
      t.is(rig.compute.take_spent(), 0);
      rig.arena.f32.set(logits, LOGITS_AT >> 2);
      u8.set(step, rig.stepAt);
      rig.run(PLAN_AT); // the record's own price is 0
      t.is(Number(rig.step().cycles) + rig.compute.take_spent(), direct);
    }
    // More than 32 bits hold: the rest comes with the next call.
    u32.fill(0xffffffff, TABLE_AT >> 2, (TABLE_AT >> 2) + blocks.length);
    randomLogits(rig, 50000);
    rig.compute.top_k(LOGITS_AT, 50000, 1, RESULT_AT);
    t.is(rig.compute.take_spent() >>> 0, 0xffffffff);
    t.true(rig.compute.take_spent() >>> 0 > 0);
  }
});

// ── What metering leaves alone ───────────────────────────────────────────────────────────────────────────────────────────────────

const bodyOf = (m: Module, index: number): FunctionBody => m.bodies[index - m.functionsImported]!;
const exported = (m: Module, name: string): number => m.exports.find(e => e.kind === 0 && e.name === name)!.index;

test('what the plan’s exact ops execute is the compiled code, to the byte', t => {
  for (const build of BUILDS) {
    const [before, after] = [plainBytes(build), readFileSync(`build/kernels.${build}.wasm`)];
    const [plain, shipped] = [decodeModule(before), decodeModule(after)];
    const isMetered = new Set(METERED.map(name => exported(shipped, name)));
    const seen = new Set<number>();
    const visit = (index: number): void => {
      if (seen.has(index) || isMetered.has(index)) return;
      seen.add(index);
      const [a, b] = [bodyOf(plain, index), bodyOf(shipped, index)];
      t.is(Buffer.compare(before.subarray(a.localsAt, a.end), after.subarray(b.localsAt, b.end)), 0, `${index}`);
      for (const i of b.code) if (i.opcode.code === OP.call) visit(i.value);
    };
    for (const { kind, name, index } of shipped.exports) if (kind === 0 && !METERED.includes(name)) visit(index);
    t.true(seen.has(exported(shipped, 'run')));
    const calls = (name: string): number[] => bodyOf(shipped, exported(shipped, name)).code.map(i => i.value);
    const execute = bodyOf(shipped, exported(shipped, 'run_op')).code.find(i => i.opcode.code === OP.call)!.value;
    t.true(
      bodyOf(shipped, execute).code.some(i => i.opcode.code === OP.call && i.value === exported(shipped, 'sample')),
    );
    t.true(calls('score').length > 0);
    t.deepEqual(
      shipped.exports.filter(e => e.kind === 3),
      [],
      'the meter’s registers are hidden',
    );
  }
});

test('the certificates’ file carries the blocks of the relaxed build', t => {
  const { blocks } = metered('relaxed');
  const file = JSON.parse(readFileSync('build/certificates.json', 'utf8')) as CertificateFile;
  t.is(file.build, 'relaxed');
  t.deepEqual(decodeBlocks(file), blocks);
  t.true(isRefusal(decodeBlocks({ ...file, version: 0 })));
  t.deepEqual(decodeBlocks(encodeCertificates('x', [], blocks.slice(0, 9))), blocks.slice(0, 9));
  const random = blocks.filter(b => b.access === 'random').length;
  t.true(random > 0 && random < blocks.length);
  t.log(`${blocks.length} blocks, ${random} of kernels that look things up`);
});

// ── Random programs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

// Locals: 0 the state of a generator, 1 fuel, 2 … 5 counters of loops, by depth.
const coin = (mask: number): string =>
  `local.get:0 i32.const:1103515245 i32.mul i32.const:12345 i32.add local.tee:0 i32.const:16 i32.shr_u i32.const:${mask} i32.and`;
const MARKS = [
  'i32.const:5 local.get:0 i32.mul drop',
  'i32.const:8 i32.load:64 drop',
  'i32.const:16 i32.const:1 i32.store8:0',
  'i64.const i64.const i64.add drop',
  'f32.const f32.sqrt drop',
  `i32.const:256 i32.const:7 ${coin(31)} memory.fill`,
  `i32.const:512 i32.const:256 ${coin(31)} memory.copy`,
];

/** Control flow of every form the format has. Decisions are random at run time; loops end by a counter, or by fuel. */
class Programmer {
  readonly #calls: number; // functions that may be called
  #depth = 0;
  #labels: boolean[] = []; // may be branched to, outermost first; the first is the function's
  constructor(calls: number) {
    this.#calls = calls;
  }

  body(): string {
    this.#labels = [false];
    return `${this.#block()} local.get:0`;
  }

  #inside(target: boolean, write: () => string): string {
    this.#labels.push(target);
    const text = write();
    this.#labels.pop();
    return text;
  }

  #block(): string {
    return Array.from({ length: 1 + below(3) }, () => this.#statement()).join(' ');
  }

  /** A label that takes no value, or null. */
  #label(): number | null {
    const open = this.#labels.flatMap((may, i) => (may ? [this.#labels.length - 1 - i] : []));
    return open.length === 0 ? null : oneOf(open);
  }

  #loop(): string {
    const counter = 2 + this.#depth;
    if (this.#depth > 2) return oneOf(MARKS);
    this.#depth++;
    const again = `local.get:${counter} i32.const:1 i32.sub local.tee:${counter}`;
    const first = `${coin(3)} i32.const:1 i32.add local.set:${counter}`;
    let text: string;
    switch (below(4)) {
      case 0: // tested at the end
        text = `${first} loop ${this.#inside(false, () => this.#block())} ${again} br_if:0 end`;
        break;
      case 1: // tested at the beginning
        text = `${first} loop ${again} if ${this.#inside(false, () => this.#inside(true, () => this.#block()))} br:1 end end`;
        break;
      case 2: // until fuel is out
        text = `loop local.get:1 i32.const:1 i32.sub local.tee:1 i32.const:0 i32.le_s if local.get:0 return end ${this.#inside(true, () => this.#block())} ${oneOf(['', 'br:0'])} end`;
        break;
      default: // left from within
        text = `block loop ${this.#inside(true, () => this.#inside(false, () => `local.get:1 i32.const:1 i32.sub local.tee:1 i32.const:0 i32.le_s br_if:1 ${this.#block()}`))} br:0 end ${oneOf(MARKS)} end`;
    }
    this.#depth--;
    return text;
  }

  #statement(): string {
    const outermost = this.#labels.length - 1;
    const label = this.#label();
    if (this.#labels.length > 6) return oneOf(MARKS);
    switch (below(12)) {
      case 0:
      case 1:
        return this.#loop();
      case 2:
        return `block ${this.#inside(true, () => this.#block())} end`;
      case 3:
        return `${coin(1)} if ${this.#inside(true, () => this.#block())} end`;
      case 4:
        return `${coin(1)} if ${this.#inside(true, () => this.#block())} else ${this.#inside(true, () => this.#block())} end`;
      case 5:
        return label === null ? oneOf(MARKS) : `${coin(1)} br_if:${label}`;
      case 6: // what follows is dead
        return label === null || below(3) > 0 ? oneOf(MARKS) : `br:${label} ${oneOf(MARKS)}`;
      case 7:
        return label === null
          ? oneOf(MARKS)
          : `block block ${coin(3)} br_table:0,${label + 2},1 end ${this.#inside(true, () => this.#block())} end`;
      case 8: {
        const all = oneOf([`return`, `br:${outermost + 1}`]);
        return `${coin(7)} i32.eqz if ${oneOf(MARKS)} local.get:0 ${all} end`;
      }
      case 9:
        return below(2) === 0
          ? `local.get:0 ${coin(7)} i32.eqz br_if:${outermost} drop`
          : `local.get:0 ${coin(7)} br_table:${outermost},${outermost}`;
      case 10:
        return this.#calls === 0
          ? oneOf(MARKS)
          : `${coin(255)} i32.const:${1 + below(9)} call:${below(this.#calls)} drop`;
      default:
        return oneOf(MARKS);
    }
  }
}

/** The module with the meter's globals, exported once more under names that metering does not hide. */
function withRegisters(bytes: Uint8Array): Uint8Array {
  const names = [METER.spent, METER.prices, 'sum', 'table'];
  return rewriteModule(bytes, decodeModule(bytes), (id, old) => {
    const globals = [I64, 1, OP.i64_const, 0, OP.end, I32, 1, OP.i32_const, 0, OP.end];
    if (id === 6) return { count: 2, bytes: globals };
    if (id !== 7) return null;
    const exports = names.flatMap((name, i) => [...string(name), 3, ...unsigned(i % 2)]);
    return { count: old.count + names.length, bytes: [...old.bytes, ...exports] };
  });
}

test('random programs: what is spent is what was executed', t => {
  let runs = 0;
  let blockCount = 0;
  let stretchCount = 0;
  for (let i = 0; i < (soak ? 20_000 : 1500); i++) {
    const bytes = withRegisters(
      assemble(
        [0, 1, 2].map(f => ({ name: `f${f}`, params: 2, result: true, locals: 4, body: new Programmer(f).body() })),
      ),
    );
    // One root, others reached from it and kept besides; or all of them.
    const roots = (i % 2 === 0 ? ['f2'] : ['f0', 'f1', 'f2']).map(
      name => ({ name, access: 'stream', inPlan: false }) as const,
    );
    const { bytes: rewritten, blocks } = meterModule(bytes, decodeModule(bytes), roots);
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
    const exports = instantiate(rewritten, memory);
    const spent = exports['sum'] as WebAssembly.Global;
    const u8 = new Uint8Array(memory.buffer);
    const counter = new Counter(bytes, 1);
    const tableAt = 4096;
    (exports['table'] as WebAssembly.Global).value = tableAt;
    for (let run = 0; run < 4; run++) {
      const prices = randomPrices();
      for (const memory of [u8, counter.u8]) new Uint32Array(memory.buffer).set(tableOf(blocks, prices), tableAt >> 2);
      const args = [bits() | 0, 1 + below(60)];
      spent.value = 0n;
      const result = (exports as unknown as Exports)['f2']!(...args);
      const counted = counter.call('f2', args, prices);
      if (Number(spent.value) !== 1000 * counted.spent || result !== counted.result)
        return void t.fail(`program ${i}: spent ${spent.value}, counted ${counted.spent} thousand`);
      if (Buffer.compare(u8, counter.u8) !== 0) return void t.fail(`program ${i} left other bytes`);
      runs++;
    }
    const before = spent.value;
    if (i % 2 === 0) (exports as unknown as Exports)['f0']!(1, 9);
    t.is(spent.value, before, 'a function that was kept spends nothing');
    blockCount += blocks.length;
    const ends = new Set(['loop', 'if', 'else', 'end', 'br_if']);
    for (const b of decodeModule(bytes).bodies) stretchCount += b.code.filter(c => ends.has(c.opcode.name)).length;
  }
  t.log(`${runs} runs; ${blockCount} blocks of ${stretchCount} stretches`);
});

test('what cannot be metered is said', t => {
  const bytes = withRegisters(
    assemble([
      { name: 'f', params: 1, body: 'local.get:0 if i32.const:1 drop end' },
      { name: 'g', params: 1, body: 'local.get:0 if i32.const:1 drop i32.const:1 drop end' },
      { name: 'h', params: 1, body: 'block local.get:0 br_if:0 i32.const:1 drop end' },
    ]),
  );
  const root = (name: string, inPlan = false) => [{ name, access: 'stream', inPlan } as const];
  const module = decodeModule(bytes);
  const say = (roots: ReturnType<typeof root>): string =>
    t.throws(() => meterModule(bytes, module, roots), { instanceOf: WasmError }).message;
  t.is(say(root('nothing')), 'the module exports no function nothing');
  t.is(say(root('f', true)), 'f: no plan calls it, it was inlined');
  const of = (name: string) => meterModule(bytes, module, root(name));
  const named = (name: string) => of(name).skeletons.map(s => ({ ...s, name: 'f' }));
  t.is(skeletonsDiffer(named('f'), named('g')), null, 'other instructions, the same blocks');
  t.is(of('g').blocks[3]!.counts[classIndex('const')], 2);
  t.is(
    skeletonsDiffer(named('f'), named('h')),
    'f: step 1 of its control flow is "if 0, block 3" against "block 0, block -"',
  );
  t.is(skeletonsDiffer(of('f').skeletons, of('g').skeletons), 'f stands against g');
});
