// Bounds: the decoder against another one, the certifier against modules built to fool it, certificates against an instrumented build that
// counts what it executes, and footprints against what kernels write. A certificate that is wrong by one instruction fails here.

import test from 'ava';
import { readFileSync } from 'node:fs';
import v8 from 'node:v8';
import { BinaryReader, OperatorCodeNames } from 'wasmparser';
import type { BinaryReaderState, IOperatorInformation } from 'wasmparser';
import * as ops from '../drivers/engine/ops.ts';
import { logitsBytes } from '../drivers/engine/sizes.ts';
import { Vocab } from '../drivers/engine/vocabulary.ts';
import { GGML_BLOCK, GGML_TYPE, ggmlTypeName, isRefusal } from '../kernel/abi/index.ts';
import type { GgmlTypeName } from '../kernel/abi/index.ts';
import {
  countsAt,
  decodeCertificates,
  encodeCertificates,
  opCertificate,
  spansAt,
} from '../kernel/wcet/certificate.ts';
import type { CertificateFile, Counts } from '../kernel/wcet/certificate.ts';
import { certify, isCertificate, isExact } from '../kernel/wcet/certify.ts';
import type { Certificate } from '../kernel/wcet/certify.ts';
import { certifyKernels } from '../kernel/wcet/kernels.ts';
import { print } from '../kernel/wcet/poly.ts';
import { CLASSES, OPCODES, classIndex, decodeModule } from '../kernel/wcet/wasm.ts';
import { accepted } from './harness.ts';
import { assemble } from './reference/wasm-assembler.ts';
import { Counter } from './support/counter.ts';

v8.setFlagsFromString('--experimental-wasm-relaxed-simd');

const SOAK = process.env['ARENA8_SOAK'] === '1';
const { TYPE_F32, TYPE_F16 } = ops;
/** Types of keys and values. */
const KV = [TYPE_F32, TYPE_F16, ops.TYPE_Q8_0, ops.TYPE_Q4_0];

let seed = 7;
/** 32 random bits (xorshift). */
function bits(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
const below = (n: number): number => bits() % n;
const oneOf = <T>(list: readonly T[]): T => list[below(list.length)]!;
const USED = 1 << 21; // operands lie in the first 2 MiB; the rest of the arena stays 0

/** Runs a certified function and says what is wrong with its certificate, if anything; undefined outside its domain. */
function disagreement(c: Certificate, device: Counter, args: readonly number[]): string | null | undefined {
  if (args.length !== c.params) return `${c.name} takes ${c.params} arguments, the test gives ${args.length}`;
  const predicted = countsAt(c, args, device.word);
  if (isRefusal(predicted)) return undefined;
  if (predicted.most[0]! > 4_000_000n) return undefined; // random programs may multiply; the largest kernel shape here takes 1.2 million
  const spans = spansAt(c, args, device.word);
  if (isRefusal(spans)) return spans.message;
  const counted = device.count(c.name, args);
  for (const store of [false, true]) {
    // What extents say is moved, with no access elsewhere, is no less than what is moved.
    if (c.strays.some(x => x.store === store)) continue;
    const moved = spans.filter(x => x.store === store).reduce((sum, x) => sum + x.moved, 0n);
    const i = classIndex(store ? 'bytes_stored' : 'bytes_loaded');
    if (moved < counted[i]!) return `${c.name}(${args.join(', ')}): moves ${counted[i]}, its extents ${moved}`;
  }
  for (const [i, cls] of CLASSES.entries()) {
    const [least, n, most] = [predicted.least[i]!, counted[i]!, predicted.most[i]!];
    if (n < least || n > most)
      return `${c.name}(${args.join(', ')}): ${cls} counted ${n}, certified ${least} … ${most}`;
  }
  return null;
}

// ── The decoder ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

// Its states are an ambient const enum.
const [ERROR, CODE_OPERATOR] = [-1 as BinaryReaderState, 30 as BinaryReaderState];

/** Every instruction as wasmparser reads it: opcode in our numbering, name, what matters of its immediates. */
function oracleDecode(bytes: Uint8Array): { code: number; name: string; value: number; labels: number[] }[] {
  const reader = new BinaryReader();
  reader.setData(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer, 0, bytes.length);
  const out = [];
  while (reader.read()) {
    if (reader.state === ERROR) throw reader.error ?? new Error('wasmparser');
    if (reader.state !== CODE_OPERATOR) continue;
    const o = reader.result as IOperatorInformation;
    // It writes the opcode's number behind the prefix: 0xfc in 8 bits, 0xfd in 12.
    const code =
      o.code > 0xffff
        ? (o.code >> 12) * 0x10000 + (o.code & 0xfff)
        : o.code > 0xff
          ? (o.code >> 8) * 0x10000 + (o.code & 0xff)
          : o.code;
    const value =
      o.localIndex ??
      o.globalIndex ??
      o.funcIndex ??
      o.brDepth ??
      o.memoryAddress?.offset ??
      (o.code === 0x41 ? (o.literal as number) : 0);
    out.push({ code, name: OperatorCodeNames[o.code]!, value, labels: [...(o.brTable ?? [])] });
  }
  return out;
}

test('the decoder reads what another one reads', t => {
  const everything = assemble([
    {
      name: 'f',
      params: 0,
      body: [...OPCODES.values()]
        .map(o => (o.name === 'br_table' ? 'br_table:0,1,2' : o.name))
        .filter(n => !/^(end|call_indirect)$/.test(n))
        .join(' '),
    },
  ]);
  for (const bytes of [...['simd128', 'relaxed'].map(b => readFileSync(`build/kernels.${b}.plain.wasm`)), everything]) {
    const oracle = oracleDecode(bytes);
    const ours = decodeModule(bytes).bodies.flatMap(b => b.code);
    t.is(ours.length, oracle.length);
    for (const [i, ins] of ours.entries()) {
      const theirs = oracle[i]!;
      const { code, name } = ins.opcode;
      if (code !== theirs.code || ins.value !== theirs.value || ins.labels.join() !== theirs.labels.join())
        return void t.fail(`${name} ${ins.value} at byte ${ins.at}: ${theirs.name} ${theirs.value}`);
      // Its names of vector loads are those of an earlier draft, and one is misspelt.
      if (name !== theirs.name && !/^v128\.load|popcnt$/.test(name)) t.fail(`${name} is called ${theirs.name}`);
    }
    t.log(`${ours.length} instructions`);
  }
});

// ── Kernels ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

// Operands lie far apart in the 2 MiB; every kernel's argument list for random shapes, edges among them.
const at = (slot: number): number => 0x10000 + slot * 0x38000;
const size = (max: number): number => oneOf([0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 33, max, below(max + 1), below(max + 1)]);
const blocks = (max: number): number => 32 * oneOf([0, 1, 2, 3, below(max / 32 + 1)]);
const flag = (): number => below(2);
const maybe = (where: number): number => (flag() ? where : 0);
const TYPE_NAMES = `F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0`.split(
  ' ',
);
const typeOf = (name: string): number => GGML_TYPE[name as GgmlTypeName];
const TYPES = TYPE_NAMES.map(typeOf);
const kFor = (type: number, max: number): number => {
  const name = ggmlTypeName(type);
  const values = name === undefined ? 1 : GGML_BLOCK[name][0];
  return values === 1 ? size(max) : values === 32 ? blocks(max) : 256 * below(Math.floor(max / 256) + 2);
};
const mulMat = (type: number) => (): number[] => {
  const rows = size(40);
  const k = kFor(type, 288);
  const n = oneOf([0, 1, 2, 3, 4, 5, 8, below(12)]);
  return [at(0), rows, k, at(3), n, at(5), rows + below(5), maybe(at(6)), flag()];
};
const SHAPES: Record<string, (view: DataView) => number[]> = {
  dequantize: () => {
    const type = oneOf([...TYPES, 77]);
    return [type, at(0), kFor(type, 2048), at(3)];
  },
  encode: () => {
    const type = oneOf([...TYPES.slice(0, 8), 77]);
    return [type, at(0), kFor(type === 77 ? 0 : type, 2048), at(3)];
  },
  get_row: () => {
    const type = oneOf(TYPES);
    const rows = 1 + size(40);
    const k = kFor(type, 288);
    return [type, at(0), rows, k, below(rows), at(3), flag()];
  },
  quantize: () => {
    const type = oneOf(TYPES);
    return [type, at(0), kFor(type, 2048), at(3)];
  },
  repack: () => {
    const type = oneOf([...TYPES, 77]);
    return [type, at(0), size(40), kFor(type, 288), at(3)];
  },
  ...Object.fromEntries(TYPE_NAMES.map(name => [`mul_mat_${name.toLowerCase()}`, mulMat(typeOf(name))])),
  add: () => [at(0), at(3), size(4096)],
  all_finite: () => [at(0), size(4096)],
  gelu: () => [at(0), size(4096), at(3)],
  gelu_f16: () => [at(0), size(4096), at(3)],
  kv_store: () => {
    const type = oneOf(KV);
    return [type, at(0), kFor(type, 1024), at(3)];
  },
  layer_norm: () => [at(0), size(1024), maybe(at(2)), maybe(at(3)), at(4), at(5)],
  rms_norm: () => [at(0), size(1024), maybe(at(2)), at(4), at(5)],
  rope: () => {
    const pairs = size(64);
    return [at(0), size(16), 2 * pairs + below(8), pairs, at(3)];
  },
  rope_halves: () => {
    const pairs = size(64);
    return [at(0), size(16), 2 * pairs + below(8), pairs, at(3)];
  },
  rope_scaling: () => [at(0), size(128), at(3)],
  rope_table_scaled: () => [below(5000), size(128), at(0), at(3)],
  scale: () => [at(0), size(4096), at(3)],
  gelu_mul_f16: () => [at(0), at(2), size(4096), at(4)],
  rope_frequencies: () => [at(0), maybe(at(1)), size(128), at(3)],
  rope_table: () => [below(5000), size(128), at(0), at(3)],
  silu_mul: () => [at(0), at(2), size(4096), at(4)],
  soft_max: () => [at(0), size(2048)],
  score: view => {
    view.setInt32(ops.STEP_LOGITS_AT, at(0), true);
    view.setInt32(ops.STEP_VOCABULARY, size(2048), true);
    view.setInt32(ops.STEP_TARGET, 0, true);
    return [0];
  },
  sample: view => {
    draws(view, 0, 1 + size(1500));
    return [0];
  },
  top_k: view => {
    const n = 1 + size(1500);
    logits(view, at(0), n);
    return [at(0), n, 1 + below(64), at(6)];
  },
  vocab_merge_groups: view => {
    view.setInt32(Vocab.prioritiesAt, at(0), true);
    view.setInt32(Vocab.count, size(1024), true);
    return [0];
  },
  attention: view => {
    const type = oneOf(KV);
    return [type, ...attention(type)(view)];
  },
  ...Object.fromEntries(KV.map(type => [`attention_${ggmlTypeName(type)!.toLowerCase()}`, attention(type)])),
};

/** Arguments of the attention kernel of a type of cache. */
function attention(type: number): (view: DataView) => number[] {
  return view => {
    const headsKv = 1 + below(3);
    blockTable(view, at(4), 32 * 4 * 3 * 96);
    return [
      at(0),
      at(1),
      at(2),
      at(4),
      headsKv * (1 + below(3)),
      headsKv,
      kFor(type, 70),
      1 + below(90),
      at(5),
      at(6),
      at(7),
    ];
  };
}

/** A block table: pages here and there in the first six of so many bytes, some named twice. */
function blockTable(view: DataView, where: number, pageBytes: number): void {
  for (let i = 0; i < 3; i++) view.setInt32(where + 4 * i, below(6) * pageBytes, true);
}

/** Finite logits of many kinds: spread, equal, rising, falling, all but one far below. */
function logits(view: DataView, where: number, n: number): void {
  const kind = below(6);
  const spread = oneOf([0.01, 1, 8, 30, 1e30]);
  for (let i = 0; i < n; i++) {
    const x = (bits() / 2 ** 31 - 1) * spread;
    const value = [x, x, Math.round(x), 0.5, (kind === 4 ? i : -i) * spread, i === n >> 1 ? 100 : x / spread][kind]!;
    view.setFloat32(where + 4 * i, value, true);
  }
}

/** A step that draws: settings in all their combinations, an id of the history now and then beyond the vocabulary. */
function draws(view: DataView, step: number, n: number): void {
  const [sampler, history] = [step + 256, at(6)];
  const length = oneOf([0, 1, 7, 300]);
  for (const [offset, value] of [
    [ops.STEP_LOGITS_AT, at(0)],
    [ops.STEP_VOCABULARY, n],
    [ops.STEP_HISTORY_AT, history],
    [ops.STEP_HISTORY_LENGTH, length],
    [ops.STEP_SAMPLER_AT, sampler],
    [ops.STEP_DRAW, bits() | 0],
  ] as const)
    view.setInt32(step + offset, value, true);
  view.setInt32(sampler + ops.SAMPLER_TOP_K, oneOf([0, 2, 3, 40, 40, 40, 128, 129, 300, n, 5000]), true);
  view.setInt32(sampler + ops.SAMPLER_MODES, below(16), true);
  view.setFloat32(sampler + ops.SAMPLER_TEMP, oneOf([0.01, 0.8, 1, 3]), true);
  view.setFloat32(sampler + ops.SAMPLER_TOP_P, oneOf([0.01, 0.5, 0.95, 0.999]), true);
  view.setFloat32(sampler + ops.SAMPLER_MIN_P, oneOf([0.001, 0.1, 7]), true);
  view.setFloat32(sampler + ops.SAMPLER_REPEAT_PENALTY, oneOf([0.8, 1.1, 2]), true);
  logits(view, at(0), n);
  for (let i = 0; i < length; i++) view.setInt32(history + 4 * i, below(n + 2), true);
}

/** Kernels that store where data say, and where they may at all: the certificate has these stores as strays. */
const STRAYS: Record<string, (args: readonly number[], word: (address: number) => number) => Spans> = {
  sample: ([step = 0], word) => {
    const from = word(step + ops.STEP_LOGITS_AT);
    return [
      [from, from + logitsBytes(word(step + ops.STEP_VOCABULARY))],
      [step + ops.STEP_NEXT, step + ops.STEP_NEXT + 4],
    ];
  },
  top_k: ([from = 0, n = 0, k = 0, to = 0]) => [
    [from, from + logitsBytes(n)],
    [to, to + 8 * k],
  ],
};
type Spans = (readonly [from: number, to: number])[];

/** Their addresses depend on data; texts and vocabularies for them are in tests/tokenizer.test.ts. */
const LOOKS_UP = /^(tokenize|vocab)_(?!merge_groups)/;

const OPS = Object.entries(ops.Op).filter((e): e is [string, ops.Op] => typeof e[1] === 'number');
const builds = ['simd128', 'relaxed'].filter(b => WebAssembly.validate(readFileSync(`build/kernels.${b}.plain.wasm`)));
const certificates = new Map(
  builds.map(b => {
    const module = decodeModule(readFileSync(`build/kernels.${b}.plain.wasm`));
    return [b, certifyKernels(module, OPS)] as const;
  }),
);

for (const build of builds)
  test(`${build}: every kernel executes what its certificate says and writes nowhere else`, t => {
    const device = new Counter(readFileSync(`build/kernels.${build}.plain.wasm`));
    const view = new DataView(device.u8.buffer);
    const before = new Uint8Array(device.u8.length);
    const each = SOAK ? 400 : 24;
    let pairs = 0;
    for (const c of certificates.get(build)!) {
      if (!isCertificate(c)) {
        t.fail(`${c.name}: ${c.reason}`);
        continue;
      }
      const shape = SHAPES[c.name];
      if (shape === undefined) {
        t.true(
          /^run(_op)?$/.test(c.name) || c.name.startsWith('op:') || LOOKS_UP.test(c.name),
          `${c.name} has a certificate and no test`,
        );
        continue;
      }
      t.is(c.strays.length > 0, c.name in STRAYS, `${c.name}: an address is not derived`);
      for (let i = 0; i < each; i++) {
        randomise(device.u8);
        const args = shape(view);
        before.set(device.u8.subarray(0, USED));
        const wrong = disagreement(c, device, args);
        if (wrong === undefined) return void t.fail(`${c.name}(${args.join(', ')}) is outside its domain`);
        const stray = strayWrite(c, args, before, device.u8);
        if (wrong !== null || stray !== null) return void t.fail(wrong ?? stray ?? '');
        pairs++;
      }
    }
    t.log(`${pairs} pairs of kernel and shape`);
    t.pass();
  });

/** Random words; now and then mostly zeros, or bytes that make halves and floats infinite or not a number. */
function randomise(u8: Uint8Array): void {
  const words = new Uint32Array(u8.buffer, 0, USED / 4);
  const kind = below(4);
  const mask = kind === 0 ? 0xbfffbfff : kind === 1 ? 0x3f803f80 : 0xffffffff;
  const fill = kind === 2 ? 0x7c007c00 : 0;
  // A run of random words copied over the rest: random enough, and quick.
  for (let i = 0; i < 1024; i++) words[i] = (bits() & mask) | fill;
  for (let filled = 1024; filled < words.length; filled *= 2) words.copyWithin(filled, 0, filled);
}

function strayWrite(c: Certificate, args: readonly number[], before: Uint8Array, after: Uint8Array): string | null {
  const word = (i: number): number => new DataView(before.buffer).getInt32(i, true);
  const all = spansAt(c, args, word);
  if (isRefusal(all)) return all.message;
  const spans = [
    ...all.filter(s => s.store).map(s => [Number(s.from), Number(s.to)] as const),
    ...(STRAYS[c.name]?.(args, word) ?? []),
  ].sort((a, b) => a[0] - b[0]);
  let from = 0;
  for (const [start, end] of [...spans, [after.length, after.length] as const]) {
    if (start > from && Buffer.compare(before.subarray(from, start), after.subarray(from, start)) !== 0)
      return `${c.name}(${args.join(', ')}) wrote between ${from} and ${start}`;
    from = Math.max(from, end);
  }
  return null;
}

// ── Plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

// A step block at 1024, a plan at 2048; operands where the kernels' are.
const [STEP, PLAN] = [1024, 2048];
const RECORDS: Record<string, (n: number) => Record<number, number>> = {
  GET_ROWS: () => {
    const type = oneOf(TYPES);
    return {
      [ops.GetRows.dstAt]: at(0),
      [ops.GetRows.k]: kFor(type, 128),
      [ops.GetRows.weightsAt]: at(3),
      [ops.GetRows.weightType]: type,
      [ops.GetRows.rows]: 5 + below(20),
    };
  },
  ADD_ROWS: () => {
    const type = oneOf(TYPES);
    return {
      [ops.GetRows.dstAt]: at(0),
      [ops.GetRows.k]: kFor(type, 128),
      [ops.GetRows.weightsAt]: at(3),
      [ops.GetRows.weightType]: type,
      [ops.GetRows.rows]: 50 + below(20),
    };
  },
  REPACK: () => {
    const type = oneOf(['Q4_0', 'Q4_1', 'Q8_0'].map(typeOf));
    return {
      [ops.Repack.dstAt]: at(0),
      [ops.Repack.rows]: size(40),
      [ops.Repack.k]: kFor(type, 288),
      [ops.Repack.weightsAt]: at(3),
      [ops.Repack.weightType]: type,
    };
  },
  GET_GATHERED: () => gathered(3 + below(20)),
  ADD_GATHERED: () => gathered(50 + below(20)),
  RMS_NORM: () => ({
    [ops.Norm.dstAt]: at(0),
    [ops.Norm.n]: size(300),
    [ops.Norm.srcAt]: at(1),
    [ops.Norm.weightsAt]: maybe(at(2)),
    [ops.Norm.biasAt]: 0,
  }),
  LAYER_NORM: () => ({
    [ops.Norm.dstAt]: at(0),
    [ops.Norm.n]: size(300),
    [ops.Norm.srcAt]: at(1),
    [ops.Norm.weightsAt]: maybe(at(2)),
    [ops.Norm.biasAt]: maybe(at(3)),
  }),
  QUANTIZE: () => {
    const type = oneOf(TYPES);
    return {
      [ops.Quantize.actAt]: at(0),
      [ops.Quantize.k]: kFor(type, 300),
      [ops.Quantize.srcAt]: at(2),
      [ops.Quantize.weightType]: type,
    };
  },
  MUL_MAT: () => {
    const type = oneOf(TYPES);
    const rows = size(24);
    return {
      [ops.MulMat.dstAt]: at(0),
      [ops.MulMat.rows]: rows,
      [ops.MulMat.k]: kFor(type, 128),
      [ops.MulMat.weightsAt]: at(2),
      [ops.MulMat.weightType]: type,
      [ops.MulMat.actAt]: at(4),
      [ops.MulMat.biasAt]: maybe(at(5)),
      [ops.MulMat.dstStride]: rows + below(4),
    };
  },
  ROPE_TABLE: () => ({
    [ops.RopeTable.tableAt]: at(0),
    [ops.RopeTable.pairs]: size(60),
    [ops.RopeTable.frequenciesAt]: at(2),
  }),
  ROPE: () => {
    const pairs = size(30);
    return {
      [ops.Rope.at]: at(0),
      [ops.Rope.heads]: size(8),
      [ops.Rope.headDim]: 2 * pairs,
      [ops.Rope.pairs]: pairs,
      [ops.Rope.tableAt]: at(3),
      [ops.Rope.stride]: 600,
      [ops.Rope.mode]: below(2),
    };
  },
  KV_STORE: () => {
    const type = oneOf(KV);
    return {
      [ops.KvStore.srcAt]: at(0),
      [ops.KvStore.n]: kFor(type, 200),
      [ops.KvStore.srcStride]: 220,
      [ops.KvStore.planeAt]: 4096,
      [ops.KvStore.kvType]: type,
    };
  },
  ATTENTION: () => {
    const headsKv = 1 + below(3);
    const type = oneOf(KV);
    return {
      [ops.Attention.dstAt]: at(0),
      [ops.Attention.qAt]: at(1),
      [ops.Attention.heads]: headsKv * (1 + below(3)),
      [ops.Attention.headsKv]: headsKv,
      [ops.Attention.headDim]: kFor(type, 40),
      [ops.Attention.kPlaneAt]: 0,
      [ops.Attention.vPlaneAt]: 0x20000,
      [ops.Attention.kvType]: type,
      [ops.Attention.scoresAt]: at(6),
      [ops.Attention.qStride]: 400,
    };
  },
  ADD: () => ({ [ops.Elementwise.dstAt]: at(0), [ops.Elementwise.n]: size(300), [ops.Elementwise.srcAt]: at(1) }),
  SILU_MUL: () => ({
    [ops.Elementwise.dstAt]: at(0),
    [ops.Elementwise.n]: size(300),
    [ops.Elementwise.srcAt]: at(1),
    [ops.Elementwise.upAt]: at(2),
  }),
  GELU: () => ({ [ops.Elementwise.dstAt]: at(0), [ops.Elementwise.n]: size(300), [ops.Elementwise.srcAt]: at(1) }),
  GELU_F16: () => ({ [ops.Elementwise.dstAt]: at(0), [ops.Elementwise.n]: size(300), [ops.Elementwise.srcAt]: at(1) }),
  GELU_MUL_F16: () => ({
    [ops.Elementwise.dstAt]: at(0),
    [ops.Elementwise.n]: size(300),
    [ops.Elementwise.srcAt]: at(1),
    [ops.Elementwise.upAt]: at(2),
  }),
  RMS_NORM_HEADS: () => {
    const headDim = size(40);
    return {
      [ops.NormHeads.at]: at(0),
      [ops.NormHeads.heads]: size(8),
      [ops.NormHeads.headDim]: headDim,
      [ops.NormHeads.stride]: 400,
      [ops.NormHeads.weightsAt]: maybe(at(2)),
    };
  },
  ROPE_TABLE_SCALED: () => ({
    [ops.RopeTable.tableAt]: at(0),
    [ops.RopeTable.pairs]: size(60),
    [ops.RopeTable.frequenciesAt]: at(2),
  }),
  SCALE: () => ({ [ops.Scale.at]: at(0), [ops.Scale.n]: size(200), [ops.Scale.stride]: 220 }),
  CHECK: () => ({ [ops.Check.at]: at(0), [ops.Check.n]: size(3000), [ops.Check.stride]: 3000 }),
  LORA: () => {
    const rows = size(60);
    return {
      [ops.Lora.dstAt]: at(0),
      [ops.Lora.rows]: rows,
      [ops.Lora.k]: size(100),
      [ops.Lora.aAt]: at(1),
      [ops.Lora.bAt]: at(2),
      [ops.Lora.rank]: 1 + below(20),
      [ops.Lora.srcAt]: at(3),
      [ops.Lora.dstStride]: rows + below(4),
      [ops.Lora.midAt]: at(6),
      [ops.Lora.scalesAt]: 48,
    };
  },
  LOGITS_SUM: () => ({}),
  FLOAT_MUL_MAT: () => floatMulMat({ biasAt: maybe(at(6)) }),
  FLOAT_MUL_MAT_BACK: () => floatMulMat({ biasAt: 0 }),
  OUTER: () => ({
    [ops.Outer.dstAt]: at(0),
    [ops.Outer.rows]: size(40),
    [ops.Outer.k]: size(60),
    [ops.Outer.srcAt]: at(1),
    [ops.Outer.xAt]: at(2),
    [ops.Outer.srcStride]: 50,
    [ops.Outer.xStride]: 70,
  }),
  COLUMN_SUM: () => ({
    [ops.ColumnSum.dstAt]: at(0),
    [ops.ColumnSum.n]: size(200),
    [ops.ColumnSum.srcAt]: at(1),
    [ops.ColumnSum.srcStride]: 220,
  }),
  RMS_NORM_BACK: () => ({ ...normBack(), [ops.NormBack.weightsGradAt]: maybe(at(4)) }),
  LAYER_NORM_BACK: () => ({
    ...normBack(),
    [ops.NormBack.weightsGradAt]: maybe(at(4)),
    [ops.NormBack.biasGradAt]: maybe(at(5)),
  }),
  RMS_NORM_HEADS_BACK: () => ({
    [ops.NormHeadsBack.at]: at(0),
    [ops.NormHeadsBack.heads]: size(8),
    [ops.NormHeadsBack.headDim]: size(40),
    [ops.NormHeadsBack.stride]: 400,
    [ops.NormHeadsBack.weightsAt]: maybe(at(2)),
    [ops.NormHeadsBack.xAt]: at(1),
    [ops.NormHeadsBack.weightsGradAt]: maybe(at(4)),
  }),
  ROPE_BACK: () => RECORDS['ROPE']!(1),
  CAUSAL_ATTENTION: () => {
    const headsKv = 1 + below(3);
    return {
      [ops.CausalAttention.dstAt]: at(0),
      [ops.CausalAttention.qAt]: at(1),
      [ops.CausalAttention.heads]: headsKv * (1 + below(3)),
      [ops.CausalAttention.headsKv]: headsKv,
      [ops.CausalAttention.headDim]: size(40),
      [ops.CausalAttention.stride]: 600 + below(8),
      [ops.CausalAttention.scoresAt]: at(6),
      [ops.CausalAttention.from]: maybe(below(6)),
      [ops.CausalAttention.until]: maybe(6 + below(20)),
    };
  },
  CAUSAL_ATTENTION_BACK: () => {
    const headsKv = 1 + below(3);
    return {
      [ops.CausalAttentionBack.dstAt]: at(0),
      [ops.CausalAttentionBack.srcAt]: at(2),
      [ops.CausalAttentionBack.qAt]: at(1),
      [ops.CausalAttentionBack.heads]: headsKv * (1 + below(3)),
      [ops.CausalAttentionBack.headsKv]: headsKv,
      [ops.CausalAttentionBack.headDim]: size(40),
      [ops.CausalAttentionBack.stride]: 600 + below(8),
      [ops.CausalAttentionBack.scoresAt]: at(6),
      [ops.CausalAttentionBack.from]: maybe(below(6)),
      [ops.CausalAttentionBack.until]: maybe(6 + below(20)),
    };
  },
  SILU_MUL_BACK: () => gatedBack(),
  GELU_BACK: () => gatedBack(),
  GELU_MUL: () => RECORDS['SILU_MUL']!(1),
  GELU_MUL_BACK: () => gatedBack(),
  CROSS_ENTROPY: () => crossEntropy(),
  CROSS_ENTROPY_BACK: () => crossEntropy(),
  ROWS_BACK: () => ({
    [ops.RowsBack.dstAt]: at(0),
    [ops.RowsBack.k]: size(200),
    [ops.RowsBack.srcAt]: at(1),
    [ops.RowsBack.rows]: 50 + below(20),
    [ops.RowsBack.byPosition]: below(2),
  }),
  COPY: () => ({ [ops.Copy.dstAt]: at(0), [ops.Copy.n]: size(300), [ops.Copy.srcAt]: at(1) }),
  FILL: () => ({ [ops.Fill.dstAt]: at(0), [ops.Fill.n]: size(300) }),
  RMS_NORM_JVP: () => normBack(),
  LAYER_NORM_JVP: () => normBack(),
  RMS_NORM_HEADS_JVP: () => ({ ...RECORDS['RMS_NORM_HEADS_BACK']!(1), [ops.NormHeadsBack.weightsGradAt]: 0 }),
  CAUSAL_ATTENTION_JVP: () => RECORDS['CAUSAL_ATTENTION_BACK']!(1),
  SILU_MUL_JVP: () => gatedBack(),
  GELU_JVP: () => gatedBack(),
  GELU_MUL_JVP: () => gatedBack(),
  CROSS_ENTROPY_JVP: () => crossEntropy(),
  SQUARES: () => ({
    [ops.Squares.srcAt]: at(0),
    [ops.Squares.n]: size(500),
    [ops.Squares.anchorAt]: maybe(at(1)),
    [ops.Squares.blockAt]: at(6),
    [ops.Squares.sumAt]: ops.TRAIN_SQUARES,
  }),
  ADAM: () => update({ firstAt: at(2) }),
  SGD: () => update({ firstAt: maybe(at(2)) }),
  PERTURB: () => perturb({ srcAt: maybe(at(1)) }),
  ACCUMULATE: () => perturb({ srcAt: 0 }),
  SAMPLE: () => ({}),
  SCORE: () => ({}),
};

function floatMulMat({ biasAt }: { readonly biasAt: number }): Record<number, number> {
  const type = oneOf(TYPES);
  return {
    [ops.FloatMulMat.dstAt]: at(0),
    [ops.FloatMulMat.rows]: size(40),
    [ops.FloatMulMat.k]: kFor(type, 288),
    [ops.FloatMulMat.weightsAt]: at(3),
    [ops.FloatMulMat.weightType]: type,
    [ops.FloatMulMat.srcAt]: at(1),
    [ops.FloatMulMat.biasAt]: biasAt,
    [ops.FloatMulMat.dstStride]: 600,
    [ops.FloatMulMat.srcStride]: 610,
    [ops.FloatMulMat.rowAt]: at(2),
  };
}

const normBack = (): Record<number, number> => ({
  [ops.NormBack.dstAt]: at(0),
  [ops.NormBack.n]: size(200),
  [ops.NormBack.srcAt]: at(1),
  [ops.NormBack.xAt]: at(2),
  [ops.NormBack.weightsAt]: maybe(at(3)),
});

const gatedBack = (): Record<number, number> => ({
  [ops.GatedBack.dstAt]: at(0),
  [ops.GatedBack.n]: size(300),
  [ops.GatedBack.srcAt]: at(1),
  [ops.GatedBack.upAt]: at(2),
  [ops.GatedBack.gradAt]: at(3),
  [ops.GatedBack.upGradAt]: at(4),
});

const crossEntropy = (): Record<number, number> => ({
  [ops.CrossEntropy.at]: at(0),
  [ops.CrossEntropy.n]: 1 + size(2000),
  [ops.CrossEntropy.stride]: 2100,
  [ops.CrossEntropy.targetsAt]: at(5),
  [ops.CrossEntropy.blockAt]: at(6),
  [ops.CrossEntropy.tangentAt]: at(1),
});

const update = ({ firstAt }: { readonly firstAt: number }): Record<number, number> => ({
  [ops.Update.dstAt]: at(0),
  [ops.Update.n]: size(500),
  [ops.Update.gradAt]: at(1),
  [ops.Update.firstAt]: firstAt,
  [ops.Update.secondAt]: at(3),
  [ops.Update.anchorAt]: maybe(at(4)),
  [ops.Update.blockAt]: at(6),
});

const perturb = ({ srcAt }: { readonly srcAt: number }): Record<number, number> => ({
  [ops.Perturb.dstAt]: at(0),
  [ops.Perturb.n]: size(500),
  [ops.Perturb.srcAt]: srcAt,
  [ops.Perturb.blockAt]: at(6),
  [ops.Perturb.from]: below(1 << 20),
});

/** Rows of a matrix of so many, from units of one or four. */
function gathered(rows: number): Record<number, number> {
  const type = oneOf(TYPES);
  const k = kFor(type, 128);
  const unitRows = oneOf([1, 4]);
  return {
    [ops.Gathered.dstAt]: at(0),
    [ops.Gathered.k]: k,
    [ops.Gathered.weightsAt]: at(3),
    [ops.Gathered.weightType]: type,
    [ops.Gathered.rows]: rows,
    [ops.Gathered.unitBytes]: unitRows * k * 4,
    [ops.Gathered.unitRows]: unitRows,
  };
}

/** Ops that a plan runs row by row. */
const ROW_BY_ROW = new Set([
  'ADD_ROWS',
  'ADD_GATHERED',
  'ROPE_TABLE',
  'ROPE_TABLE_SCALED',
  'KV_STORE',
  'ATTENTION',
  'LORA',
  'CAUSAL_ATTENTION_JVP',
  'CAUSAL_ATTENTION',
  'CAUSAL_ATTENTION_BACK',
]);

/** Ops that a head runs pick by pick. */
const PICK_BY_PICK = new Set([
  'RMS_NORM',
  'LAYER_NORM',
  'RMS_NORM_BACK',
  'LAYER_NORM_BACK',
  'CROSS_ENTROPY',
  'CROSS_ENTROPY_BACK',
  'RMS_NORM_JVP',
  'LAYER_NORM_JVP',
  'CROSS_ENTROPY_JVP',
]);

const NOTHING_MORE = { least: CLASSES.map(() => 0n), most: CLASSES.map(() => 0n) };

for (const build of builds)
  test(`${build}: no op of a plan depends on data, the draws of the sampler apart`, t => {
    const all = new Map(certificates.get(build)!.map(c => [c.name, c]));
    for (const op of Object.keys(ops.Op).filter(name => Number.isNaN(Number(name)))) {
      const c = all.get(opCertificate(op))!;
      t.true(isCertificate(c) && isExact(c), op);
    }
  });

for (const build of builds)
  test(`${build}: every op of a plan executes what its record says`, t => {
    const device = new Counter(readFileSync(`build/kernels.${build}.plain.wasm`));
    const view = new DataView(device.u8.buffer);
    const all = new Map(certificates.get(build)!.map(c => [c.name, c]));
    const loops = ['run', 'run_op'].map(name => all.get(name)!).filter(isCertificate);
    t.deepEqual(
      loops.map(c => isExact(c)),
      [true, true],
    );
    const sampler = all.get('sample')!;
    if (!isCertificate(sampler)) return void t.fail(sampler.reason);
    let pairs = 0;
    for (const [op, record] of Object.entries(RECORDS)) {
      const c = all.get(opCertificate(op))!;
      if (!isCertificate(c)) {
        t.fail(`${op}: ${c.reason}`);
        continue;
      }
      for (let i = 0; i < (SOAK ? 200 : 12); i++) {
        randomise(device.u8);
        const [n, picks] = [1 + below(8), 1 + below(8)];
        const head = !ROW_BY_ROW.has(op) && below(3) === 0;
        const byRows = ROW_BY_ROW.has(op) || (head && PICK_BY_PICK.has(op));
        const tokens = head ? picks : n;
        for (let b = STEP; b < PLAN + 2 * ops.OP_BYTES; b += 4) view.setInt32(b, 0, true);
        const step: [number, number][] = [
          [ops.STEP_N, n],
          [ops.STEP_PICKS, picks],
          [ops.STEP_PICKS_AT, at(7) + 256],
          [ops.STEP_ROWS_AT, at(7)],
          [ops.STEP_KV_AT, at(3)],
          [ops.STEP_CTX, 64],
        ];
        for (let i = 0; i < picks; i++) view.setInt32(at(7) + 256 + i * ops.PICK_BYTES + ops.PICK_ROW, below(8), true);
        // Rows at positions of their own, with block tables behind them.
        const places = Array.from({ length: 8 }, () => below(60));
        for (const [r, pos] of places.entries()) {
          const [record, table] = [at(7) + r * ops.ROW_BYTES, at(7) + 512 + 64 * r];
          view.setInt32(record + ops.ROW_TOKEN, below(6), true);
          view.setInt32(record + ops.ROW_POS, pos, true);
          view.setInt32(record + ops.ROW_TABLE_AT, table, true);
          blockTable(view, table, 0x20000 / 8);
        }
        for (const [offset, value] of [
          ...step,
          [ops.STEP_LOGITS_AT, at(0)] as const,
          [ops.STEP_VOCABULARY, size(2000)] as const,
          [ops.STEP_TARGET, 0] as const,
        ])
          view.setInt32(STEP + offset, value, true);
        if (op === 'SAMPLE') draws(view, STEP, 1 + size(1500));
        view.setInt32(PLAN, ops.Op[op as keyof typeof ops.Op], true);
        const flags = (head ? ops.FLAG_HEAD : 0) | (flag() ? ops.FLAG_ADD : 0) | (byRows ? ops.FLAG_ROWS : 0);
        view.setInt32(PLAN + 4, flags, true);
        for (const [word, value] of Object.entries(record(tokens))) view.setInt32(PLAN + 4 * Number(word), value, true);
        const rowOf = (r: number): number => (head ? view.getInt32(at(7) + 256 + r * ops.PICK_BYTES, true) : r);
        const turns = byRows ? Array.from({ length: tokens }, (_, r) => r) : [0];
        const inner = turns.map(r =>
          countsAt(c, [STEP, PLAN, byRows ? 1 : tokens, places[r]!, rowOf(r), r], device.word),
        );
        const refusal = inner.find(isRefusal);
        if (refusal !== undefined) return void t.fail(refusal.message);
        if (i === 0)
          t.true(isRefusal(countsAt(c, [STEP, PLAN + ops.OP_BYTES, n, 0, 0, 0], device.word)), 'END is another op');
        const drawn = op === 'SAMPLE' ? countsAt(sampler, [STEP], device.word) : NOTHING_MORE; // certified apart
        if (isRefusal(drawn)) return void t.fail(drawn.message);
        const counted = device.count('run', [STEP, PLAN]);
        // Even when the op fails, but a row that fails is the last.
        const ran = byRows ? view.getInt32(STEP + ops.STEP_FAILED, true) + 1 : 1;
        const parts = [
          ...inner.slice(0, ran),
          accepted(countsAt(loops[0]!, [STEP, PLAN], null, 1)),
          accepted(countsAt(loops[1]!, [STEP, PLAN], null, ran)),
          drawn,
        ];
        for (const [k, cls] of CLASSES.entries()) {
          const [least, most] = (['least', 'most'] as const).map(x =>
            parts.reduce((sum, part) => sum + (part as Counts)[x][k]!, 0n),
          ) as [bigint, bigint];
          if (counted[k]! < least || counted[k]! > most)
            return void t.fail(`${op}: ${cls} counted ${counted[k]}, certified ${least} … ${most}`);
        }
        pairs++;
      }
    }
    t.log(`${pairs} records`);
    t.pass();
  });

test('certificates survive their file', t => {
  for (const build of builds) {
    const all = certificates.get(build)!;
    const text = JSON.stringify(encodeCertificates(build, all));
    const again = decodeCertificates(JSON.parse(text) as CertificateFile);
    if (isRefusal(again)) return void t.fail(again.message);
    t.is(JSON.stringify(encodeCertificates(build, again)), text);
    for (const c of again) {
      const original = all.find(o => o.name === c.name)!;
      if (!isCertificate(c) || !isCertificate(original)) continue;
      const args = SHAPES[c.name]?.(new DataView(new ArrayBuffer(USED)));
      if (args === undefined) continue;
      t.deepEqual(
        countsAt(c, args, () => 5),
        countsAt(original, args, () => 5),
      );
      t.deepEqual(
        spansAt(c, args, () => 5),
        spansAt(original, args, () => 5),
      );
    }
  }
  const file = encodeCertificates('simd128', []);
  t.regex((decodeCertificates({ ...file, version: 99 }) as { message: string }).message, /version 99/);
});

// ── Modules built to fool it ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** `for (local i = first; i OP bound; i += step) body`, as compilers write it. */
const forLoop = (i: number, first: string, test: string, step: string, body: string): string =>
  `${first} local.set:${i} loop ${test} if ${body} ${step} local.set:${i} br:1 end end`;
const up = (i: number, bound: string, body: string, by = 1): string =>
  forLoop(i, 'i32.const:0', `local.get:${i} ${bound} i32.lt_s`, `local.get:${i} i32.const:${by} i32.add`, body);
const NOTHING = 'i32.const:0 drop';
/** What a table at 64 holds for the counter in local 2. */
const PLACED = 'local.get:2 i32.const:2 i32.shl i32.load:64';

/** Bodies of functions of two arguments and four locals more, and why each has no certificate. */
const REFUSED: Record<string, readonly [body: string, reason: RegExp]> = {
  'a loop until memory holds 0': [`loop local.get:0 i32.load:0 br_if:0 end`, /no test of an induction variable/],
  'a loop for ever': [`loop br:0 end`, /no test of an induction variable/],
  recursion: [`local.get:0 if local.get:0 i32.const:1 i32.sub local.get:1 call:0 end`, /calls itself/],
  'a variable that goes through memory': [
    `loop i32.const:0 i32.const:0 i32.load:0 i32.const:1 i32.add i32.store:0 i32.const:0 i32.load:0 local.tee:2 local.get:0 i32.lt_s br_if:0 end`,
    /no test of an induction variable/,
  ],
  'a step that data choose': [
    up(2, 'local.get:0', `i32.const:64 i32.load8_u:0 if local.get:2 i32.const:1 i32.sub local.set:2 end`),
    /no test of an induction variable/,
  ],
  'a bound that data move': [
    up(2, 'local.get:3', `i32.const:64 i32.load8_u:0 local.set:3`),
    /no test of an induction variable/,
  ],
  'a variable that turns back': [
    up(2, 'local.get:0', `local.get:2 i32.const:1 i32.sub local.set:2`),
    /no test of an induction variable/,
  ],
  'a variable that another loop moves back': [
    up(2, 'local.get:0', up(3, 'local.get:1', `local.get:2 i32.const:1 i32.sub local.set:2`)),
    /does not move steadily/,
  ],
  'a square': [
    forLoop(
      2,
      'i32.const:0',
      'local.get:2 local.get:2 i32.mul local.get:0 i32.lt_s',
      'local.get:2 i32.const:1 i32.add',
      NOTHING,
    ),
    /no test of an induction variable/,
  ],
  doubling: [
    forLoop(2, 'i32.const:1', 'local.get:2 local.get:0 i32.lt_s', 'local.get:2 i32.const:1 i32.shl', NOTHING),
    /no test of an induction variable/,
  ],
  'a test that one path goes round': [
    `loop local.get:2 i32.const:1 i32.add local.set:2 i32.const:64 i32.load8_u:0 br_if:0 local.get:2 local.get:0 i32.lt_s br_if:0 end`,
    /no test of an induction variable/,
  ],
  'a call through a table': [`local.get:0 local.get:1 i32.const:0 call_indirect`, /through a table/],
  'a word that it overwrites': [
    up(2, 'i32.const:64 i32.load:0', 'i32.const:60 i32.load:0 drop i32.const:60 i32.const:99 i32.store:4'),
    /overwrites a word/,
  ],
  'a word that anything may overwrite': [
    up(2, 'i32.const:64 i32.load:0', 'i32.const:4 i32.load8_u:0 i32.const:99 i32.store:4'),
    /no test of an induction variable/,
  ],
  'a word that one pass overwrites for the next': [
    up(2, 'local.get:0', up(3, 'i32.const:64 i32.load:0', 'i32.const:4 i32.load8_u:0 i32.const:99 i32.store:4')),
    /no test of an induction variable/,
  ],
  'a word that a called function overwrites': [
    up(2, 'i32.const:64 i32.load:0', 'i32.const:0 i32.const:0 call:1'),
    /no test of an induction variable/,
  ],
  'a test or a word that is not known': [
    up(2, 'local.get:0', NOTHING).replace('i32.lt_s', 'i32.lt_s i32.const:64 i32.load8_u:0 i32.or'),
    /no test of an induction variable/,
  ],
  'a word and a mask of two bits': [
    up(2, 'local.get:0', NOTHING).replace(
      'i32.lt_s',
      'i32.lt_s i32.const:1 i32.shl i32.const:64 i32.load8_u:0 i32.and',
    ),
    /no test of an induction variable/,
  ],
  'a length from memory': [`i32.const:0 i32.const:1 i32.const:64 i32.load8_u:0 memory.fill`, /depends on data/],
};

test('modules built to fool it are refused by function and reason', t => {
  for (const [what, [body, reason]] of Object.entries(REFUSED)) {
    const writer = 'i32.const:4 i32.load8_u:0 i32.const:99 i32.store:4';
    const functions = [
      { name: 'f', params: 2, locals: 4, body },
      { name: 'g', params: 2, locals: 0, body: writer },
    ];
    const module = decodeModule(assemble(functions, true));
    const c = certify(module, 0, what);
    t.false(isCertificate(c), what);
    if (!isCertificate(c)) t.regex(c.reason, reason, what);
  }
  const pair = assemble([
    { name: 'f', params: 0, body: 'call:1' },
    { name: 'g', params: 0, body: 'call:0' },
  ]);
  t.deepEqual(certify(decodeModule(pair), 0, 'f'), { name: 'f', index: 0, reason: 'function 0 calls itself' });
  t.throws(() => decodeModule(Uint8Array.from([0, 0x61, 0x73, 0x6d, 2, 0, 0, 0])), {
    message: /not a WebAssembly module/,
  });
  const odd = assemble([{ name: 'f', params: 0, body: 'nop' }]);
  odd[odd.length - 2] = 0xd3;
  t.throws(() => decodeModule(odd), { message: /opcode 0xd3 at byte \d+ of function 0 is not known/ });
});

/** The same, certified; a refusal at evaluation is right where the loop would not end or a number would go round. */
const TRICKY: Record<string, readonly [body: string, exact: boolean]> = {
  'down to zero by three, not equal': [
    forLoop(2, 'local.get:0', 'local.get:2', 'local.get:2 i32.const:3 i32.sub', NOTHING),
    true,
  ],
  'down while not negative, unsigned': [
    forLoop(2, 'local.get:0', 'local.get:2 i32.const:0 i32.ge_u', 'local.get:2 i32.const:1 i32.sub', NOTHING),
    true,
  ],
  'a step that is an argument': [
    forLoop(2, 'i32.const:0', 'local.get:2 local.get:0 i32.lt_s', 'local.get:2 local.get:1 i32.add', NOTHING),
    true,
  ],
  'both ends move': [
    forLoop(
      2,
      'local.get:0 local.set:3 i32.const:0',
      'local.get:2 local.get:3 i32.lt_s',
      'local.get:2 i32.const:1 i32.add',
      'local.get:3 i32.const:2 i32.sub local.set:3',
    ),
    true,
  ],
  'tested at the end': [`loop local.get:2 i32.const:1 i32.add local.tee:2 local.get:0 i32.lt_s br_if:0 end`, true],
  'tested in the middle': [
    `block loop local.get:2 local.get:1 i32.add drop local.get:2 local.get:0 i32.ge_s br_if:1 local.get:2 i32.const:2 i32.add local.set:2 br:0 end end`,
    true,
  ],
  'a triangle': [up(2, 'local.get:0', up(3, 'local.get:2', NOTHING)), true],
  'a triangle in steps': [up(2, 'local.get:0', up(3, 'local.get:2', NOTHING, 3)), true],
  'a branch on the counter': [
    up(2, 'local.get:0', `local.get:2 local.get:1 i32.lt_s if ${NOTHING} else ${NOTHING} ${NOTHING} end`),
    true,
  ],
  'a table of arguments': [
    up(2, 'local.get:0', `block block block local.get:1 br_table:0,1,2 end ${NOTHING} end ${NOTHING} ${NOTHING} end`),
    true,
  ],
  'a table of the counter': [
    up(2, 'local.get:0', `block block block local.get:2 br_table:0,1,2 end ${NOTHING} end ${NOTHING} ${NOTHING} end`),
    true,
  ],
  'a table of data': [
    up(
      2,
      'local.get:0',
      `block block block i32.const:64 i32.load8_u:0 br_table:0,1,2 end ${NOTHING} end ${NOTHING} ${NOTHING} end`,
    ),
    false,
  ],
  'data may end it early': [up(2, 'local.get:0', `local.get:2 i32.const:2 i32.shl i32.load:64 i32.eqz br_if:2`), false],
  'an exit through two loops': [
    `block ${up(2, 'local.get:0', up(3, 'local.get:1', `local.get:3 i32.const:2 i32.shl i32.load:64 i32.eqz br_if:4`))} ${NOTHING} end`,
    false,
  ],
  'an argument ends it early': [`block ${up(2, 'local.get:0', 'local.get:2 local.get:1 i32.eq br_if:2')} end`, false],
  'a pointer that may be absent': [
    up(2, 'local.get:0', `local.get:1 if local.get:1 i32.load:0 drop local.get:1 i32.const:16 i32.add local.set:1 end`),
    true,
  ],
  'returns from within': [
    up(2, 'local.get:0', `local.get:2 i32.const:2 i32.shl i32.load:64 i32.const:1 i32.and if return end`),
    false,
  ],
  'a word of memory': [up(2, 'i32.const:64 i32.load:0', up(3, 'local.get:0 i32.load:128', NOTHING)), true],
  'a word behind a word': [up(2, 'i32.const:64 i32.load:0 i32.load:4', NOTHING), true],
  'bytes that a table places': [up(2, 'local.get:0', `${PLACED} i32.load8_u:300 drop`), true],
  'bytes behind what a table places, over and over': [
    up(3, 'local.get:1', up(2, 'local.get:0', `${PLACED} local.get:3 i32.add i32.load8_u:300 drop`)),
    true,
  ],
  'a place that decides': [up(2, 'local.get:0', `${PLACED} if ${NOTHING} end`), false],
  'a table that some arguments overwrite': [
    `${up(2, 'local.get:0', `${PLACED} i32.load8_u:300 drop`)} local.get:1 i32.const:3 i32.store:60`,
    true,
  ],
  'a word that some arguments overwrite': [
    up(2, 'i32.const:8 i32.load:0', 'local.get:0 i32.const:3 i32.store:0'),
    true,
  ],
  'a word that is read before anything is overwritten': [
    `i32.const:64 i32.load:0 local.set:5 ${up(2, 'local.get:5', 'i32.const:72 i32.load:0 drop i32.const:16 i32.load8_u:0 i32.const:99 i32.store:64')}`,
    true,
  ],
  'a test and a word that is not known': [
    up(2, 'local.get:0', NOTHING).replace('i32.lt_s', 'i32.lt_s i32.const:64 i32.load8_u:0 i32.and'),
    false,
  ],
  'two tests, not both': [
    up(2, 'local.get:0', NOTHING).replace(
      'i32.lt_s',
      'i32.lt_s i32.const:64 i32.load8_u:0 i32.and local.get:2 local.get:1 i32.lt_s i32.and i32.eqz i32.eqz',
    ),
    false,
  ],
  'one of three ways in each pass, as data say': [
    up(
      2,
      'local.get:0',
      `i32.const:64 i32.load8_u:0 if ${up(3, 'local.get:1', NOTHING)} else i32.const:65 i32.load8_u:0 if ${NOTHING} ${NOTHING} end i32.const:66 i32.load8_u:0 br_if:1 ${NOTHING} end`,
    ),
    false,
  ],
  'masks and shifts': [
    up(2, 'local.get:0 i32.const:-4 i32.and local.get:1 i32.const:3 i32.and i32.add', NOTHING),
    true,
  ],
  'a mask in the middle': [up(2, 'local.get:0 i32.const:6 i32.and', NOTHING), true],
  'a word beside one that it overwrites': [
    up(2, 'i32.const:64 i32.load:0', 'i32.const:60 i32.const:99 i32.store:0 i32.const:68 i32.const:99 i32.store:0'),
    true,
  ],
  'data read where anything may be overwritten': [
    `i32.const:64 i32.load:0 local.set:3 ${up(2, 'local.get:3', 'local.get:2 i32.const:2 i32.shl i32.load:128 i32.const:60 i32.and i32.const:99 i32.store:64')}`,
    true,
  ],
  'a masked bit': [
    `local.get:0 i32.const:2 i32.and if ${NOTHING} end local.get:1 i32.const:6 i32.and i32.const:6 i32.eq if ${NOTHING} end`,
    true,
  ],
  'two masked bits apart': [`local.get:0 i32.const:5 i32.and i32.const:1 i32.eq if ${NOTHING} end`, false],
  'a quotient': [up(2, 'local.get:0 local.get:1 i32.div_u', NOTHING), true],
};

test('what it does certify is counted exactly, or within bounds', t => {
  for (const [what, [body, exact]] of Object.entries(TRICKY)) {
    const bytes = assemble([{ name: 'f', params: 2, locals: 4, body }]);
    const c = certify(decodeModule(bytes), 0, 'f');
    if (!isCertificate(c)) {
      t.fail(`${what}: ${c.reason}`);
      continue;
    }
    t.is(isExact(c), exact, what);
    const counter = new Counter(bytes, 1);
    let held = 0;
    for (let a = 0; a < 14; a++)
      for (let b = 0; b < 14; b++) {
        const words = new Uint32Array(counter.u8.buffer, 0, 256);
        words.forEach((_, i) => (words[i] = below(3)));
        const wrong = disagreement(c, counter, [a, b]);
        if (wrong === undefined) continue; // its loop might not end
        if (wrong !== null) return void t.fail(`${what}: ${wrong}`);
        held++;
      }
    t.log(`${what}: ${held} of 196`);
  }
});

test('an operand scattered by a table: how many pieces, how far behind each, in which runs', t => {
  const [body] = TRICKY['bytes behind what a table places, over and over']!;
  const c = certify(decodeModule(assemble([{ name: 'f', params: 2, locals: 4, body }])), 0, 'f');
  if (!isCertificate(c)) return void t.fail(c.reason);
  t.deepEqual(c.strays, []);
  const scattered = c.extents.filter(x => x.scatter !== null);
  t.is(scattered.length, 1);
  const { from, to, moved, run, scatter } = scattered[0]!;
  t.deepEqual(
    [from, to, moved, run, scatter!.table, scatter!.pieces].map(p => print(p, ['n', 'm'])),
    ['300', 'm + 300', 'n·m', '1', '64', 'n'],
    'from piece to piece, a byte of each at a time',
  );
  const words = new Map([
    [64, 1000],
    [68, 7000],
  ]);
  const spans = spansAt(c, [2, 5], at => words.get(at) ?? 0);
  if (isRefusal(spans)) return void t.fail(spans.message);
  t.deepEqual(
    spans.filter(x => x.from >= 300n).map(x => [x.from, x.to, x.moved]),
    [
      [1300n, 1305n, 10n],
      [7300n, 7305n, 0n],
    ],
  );
});

const EXTREMES = [0x7fffffff, 0x40000000, -0x7ffffffd, 0x10000];

/** Random programs: nested loops of every form, branches on arguments, counters and data, calls, exits, variables that interfere. */
class Programmer {
  readonly #calls: number; // functions that may be called
  #depth = 0;
  constructor(calls: number) {
    this.#calls = calls;
  }
  // Locals: 0 and 1 are arguments, 2 … 5 are loops' own by depth, 6 and 7 are anyone's.
  value(): string {
    const r = below(10);
    if (r < 3) return `local.get:${below(8)}`;
    if (r < 6) return `i32.const:${below(30) === 0 ? EXTREMES[below(4)]! - below(3) : below(9) - 2}`;
    if (r < 7) return this.data();
    const op = oneOf(['add', 'add', 'sub', 'mul', 'and', 'shr_s', 'shl', 'shr_u', 'div_u', 'rem_u', 'or']);
    const right = op.startsWith('sh')
      ? `i32.const:${below(3)}`
      : op === 'and'
        ? `i32.const:${oneOf([1, 3, 7, 2, 6, 5, -4])}`
        : this.value();
    return `${this.value()} ${op.includes('div') || op.includes('rem') ? `i32.const:${1 + below(4)}` : right} i32.${op}`;
  }
  data(): string {
    return `i32.const:${4 * below(16)} i32.${oneOf(['load', 'load8_u', 'load16_s'])}:64`; // a whole word may become an unknown
  }
  test(): string {
    if (below(6) === 0) return `${this.test()} ${this.test()} i32.${oneOf(['and', 'and', 'or'])}`;
    return `${this.value()} ${this.value()} i32.${oneOf(['lt_s', 'lt_u', 'gt_s', 'ge_s', 'le_s', 'le_u', 'ge_u', 'eq', 'ne'])}`;
  }
  loop(labels: number): string {
    const i = 2 + this.#depth;
    if (i > 4) return NOTHING;
    this.#depth++;
    const bound = oneOf([`local.get:${below(2)}`, `local.get:${below(8)}`, `i32.const:${below(7)}`, this.value()]);
    const first = oneOf(['i32.const:0', 'i32.const:0', `local.get:${below(2)}`, this.value()]);
    const by = 1 + below(3);
    const body = this.block(labels + 2);
    const downwards = below(4) === 0;
    const step = `local.get:${i} i32.const:${by} i32.${downwards ? 'sub' : 'add'}`;
    const relation = oneOf(downwards ? ['gt_s', 'ge_s', 'ne'] : ['lt_s', 'lt_u', 'le_s', 'ne', 'lt_s']);
    this.#depth--;
    switch (below(4)) {
      case 0: // tested at the end
        return `${first} local.set:${i} block loop ${body} ${step} local.tee:${i} ${bound} i32.${relation} br_if:0 end end`;
      case 1: // tested on the way
        return `${first} local.set:${i} block loop ${NOTHING} local.get:${i} ${bound} i32.${relation} i32.eqz br_if:1 ${body} ${step} local.set:${i} br:0 end end`;
      default:
        return forLoop(
          i,
          first,
          `local.get:${i} ${bound} i32.${relation}${below(4) === 0 ? ` ${this.test()} i32.and` : ''}`,
          step,
          body,
        );
    }
  }
  statement(labels: number): string {
    switch (below(12)) {
      case 0:
      case 1:
      case 2:
        return this.loop(labels);
      case 3:
        return `${this.test()} if ${this.block(labels + 1)} end`;
      case 4:
        return `${this.test()} if ${this.block(labels + 1)} else ${this.block(labels + 1)} end`;
      case 5:
        return `${this.value()} local.set:${oneOf([6, 7, 7, 6, below(8)])}`;
      case 6:
        return below(3) === 0 ? `${this.test()} br_if:${below(labels + 1)}` : NOTHING;
      case 7:
        return this.#calls > 0
          ? `${this.value()} ${this.value()} call:${below(this.#calls)} local.set:${6 + below(2)}`
          : NOTHING;
      case 8:
        return `block block ${this.value()} br_table:0,1,0 end ${this.block(labels + 1)} end`;
      case 9:
        return `${this.value()} ${this.value()} ${this.test()} select local.set:${6 + below(2)}`;
      case 10:
        return `${oneOf([`i32.const:${below(16)}`, `local.get:${below(8)} i32.const:15 i32.and`])} i32.const:2 i32.shl ${this.value()} i32.store:64`;
      default:
        return NOTHING;
    }
  }
  block(labels: number): string {
    return Array.from({ length: 1 + below(this.#depth > 1 ? 2 : 3) }, () => this.statement(labels)).join(' ');
  }
}

test('random programs: never more, never less than certified', t => {
  const wanted = SOAK ? 20_000 : 1_500;
  let [certified, exact, runs] = [0, 0, 0];
  for (let n = 0; n < wanted; n++) {
    const functions = [0, 1].map(calls => ({
      name: `f${calls}`,
      params: 2,
      result: true,
      locals: 6,
      body: `block ${new Programmer(calls).block(0)} end local.get:7`,
    }));
    const bytes = assemble(functions);
    const c = certify(decodeModule(bytes), 1, 'f1');
    if (!isCertificate(c)) continue;
    certified++;
    if (isExact(c)) exact++;
    const counter = new Counter(bytes, 1);
    for (let i = 0; i < 12; i++) {
      const args = [0, 1].map(() => (below(12) === 0 ? 0x7fffffff - below(9) : below(9)));
      const words = new Uint32Array(counter.u8.buffer, 0, 64);
      words.forEach((_, w) => (words[w] = below(4)));
      const before = counter.u8.slice();
      const counted = disagreement(c, counter, args);
      if (counted === undefined) continue;
      const wrong = counted ?? (c.strays.some(x => x.store) ? null : strayWrite(c, args, before, counter.u8));
      if (wrong !== null) return void t.fail(`${wrong}\n${functions.map(f => f.body).join('\n\n')}`);
      runs++;
    }
  }
  t.log(`${wanted} programs: ${certified} certified, ${exact} exact; ${runs} runs`);
  t.true(certified > wanted / 4 && runs > wanted);
});
