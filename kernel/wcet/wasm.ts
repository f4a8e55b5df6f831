// Decoder of WebAssembly modules: the sections and instructions a certificate is read from. It covers the 1.0 instruction set, sign
// extension, saturating conversions, bulk memory, 128-bit SIMD and relaxed SIMD. Whatever else a module holds is an error that names it:
// what is not understood is not certified. Layout: WebAssembly core specification 3.0, chapter 5.

import { utf8Decode } from '../abi/index.ts';

/** The classes a target puts a price on. Structure (block, loop, end) becomes no machine instruction and has no class. */
export const CLASSES = [
  'local', // local.get, local.set, local.tee, global.*, drop: registers
  'const', // of i32, −2,048 … 2,047: immediates of every target
  'const_pool', // all others: at worst from memory
  'branch', // br_if, br_table, if: conditional
  'jump', // br, return, and else, where the arm before it ends
  'call',
  'select',
  'int', // i32 and i64: add, logic, shifts, comparisons
  'int_bits', // trailing and leading zeros, ones
  'int_mul',
  'int_div', // and remainders
  'float', // f32 and f64: add, sub, comparisons, sign
  'float_minmax',
  'float_mul',
  'float_div',
  'float_sqrt',
  'convert', // widths, integers to floats, the same bits
  'round', // floats to integers, as float or integer
  'load',
  'store',
  'v_int', // lanes of integers: add, shifts, comparisons, extensions; logic; the sign of floats, which is a bit
  'v_int_mul', // products of 16-bit lanes and their sums
  'v_int_mul32', // products of 32-bit lanes
  'v_dot8', // products of 8-bit lanes and their sums
  'v_float', // lanes of floats: add, sub, comparisons
  'v_float_minmax', // and ≠, which is two instructions where = is one
  'v_float_mul',
  'v_float_madd', // product and sum, rounded once
  'v_float_div',
  'v_float_sqrt',
  'v_convert', // integers to floats
  'v_widen', // floats to doubles and back, two lanes
  'v_round', // floats to integers, as float or integer
  'v_shuffle', // shuffles, lanes put in; tests of all lanes, which move a vector's sum to the integer side
  'v_bitmask', // the sign bits of all lanes as an integer
  'v_splat',
  'v_extract', // lanes out
  'v_narrow', // halves the width, saturating
  'v_load',
  'v_load_splat', // splats and extensions from memory
  'v_store',
  'bulk', // memory.copy, memory.fill: the call; their bytes count as loaded and stored
  'bytes_loaded',
  'bytes_stored',
] as const;
export type InstructionClass = (typeof CLASSES)[number];
export const classIndex = (name: InstructionClass): number => CLASSES.indexOf(name);

export interface Opcode {
  readonly code: number; // prefix · 0x10000 + number for the prefixed ones
  readonly name: string;
  readonly cls: number; // index into CLASSES, −1 for none
  readonly pops: number;
  readonly pushes: number;
  readonly bytes: number; // moved from or to memory
}

export interface Instruction {
  readonly opcode: Opcode;
  readonly at: number; // in the module
  readonly end: number;
  readonly value: number; // i32.const; index of a local, global, function or label; offset of a load or store
  readonly labels: readonly number[]; // br_table: the last is the default
  readonly results: number; // block, loop, if: values they leave
  readonly params: number; // values they take
}

export interface FunctionType {
  readonly params: readonly number[]; // value types, I32 …
  readonly results: readonly number[];
}
export const I32 = 0x7f;

export interface FunctionBody {
  readonly index: number; // among imported and defined functions
  readonly type: FunctionType;
  readonly locals: readonly number[]; // types, parameters not included
  readonly localsAt: number; // the body in the module: declarations of locals …
  readonly codeAt: number; // … instructions …
  readonly end: number;
  readonly code: readonly Instruction[]; // the last is the body's own `end`
  /** For block, loop, if: index of their `end`; for if: of their `else` in `elseOf`. */
  readonly endOf: ReadonlyMap<number, number>;
  readonly elseOf: ReadonlyMap<number, number>;
}

export interface Section {
  readonly id: number;
  readonly at: number;
  readonly contentAt: number;
  readonly end: number;
}
export interface Export {
  readonly name: string;
  readonly kind: number; // 0 function, 1 table, 2 memory, 3 global
  readonly index: number;
}
export interface Module {
  readonly sections: readonly Section[];
  readonly types: readonly FunctionType[];
  readonly functionsImported: number;
  readonly globals: number; // imported and defined
  readonly exports: readonly Export[];
  readonly bodies: readonly FunctionBody[];
}

// ── Instructions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export const OP = {
  unreachable: 0x00,
  block: 0x02,
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  end: 0x0b,
  br: 0x0c,
  br_if: 0x0d,
  br_table: 0x0e,
  return: 0x0f,
  call: 0x10,
  drop: 0x1a,
  select: 0x1b,
  local_get: 0x20,
  local_set: 0x21,
  local_tee: 0x22,
  global_get: 0x23,
  global_set: 0x24,
  i32_load: 0x28,
  i64_load32_u: 0x35,
  i32_const: 0x41,
  i64_const: 0x42,
  i64_add: 0x7c,
  i64_mul: 0x7e,
  i64_extend_i32_u: 0xad,
  memory_copy: 0xfc000a,
  memory_fill: 0xfc000b,
} as const;

const INT = 'eqz eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u';
const INT_OPS = 'clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr';
const FLOAT = 'eq ne lt gt le ge';
const FLOAT_OPS = 'abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign';
const LANES = 'eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u';
const SATURATING = 'shl shr_s shr_u add add_sat_s add_sat_u sub sub_sat_s sub_sat_u';
const of = (prefix: string, names: string): string =>
  names.replaceAll(/[^ ]+/g, n => (n === '-' ? n : `${prefix}.${n}`));

/** Names by opcode, from the first code on; `-` is a code without instruction. */
const NAMES: readonly (readonly [first: number, names: string])[] = [
  [0x00, 'unreachable nop block loop if else'],
  [0x0b, 'end br br_if br_table return call call_indirect'],
  [0x1a, 'drop select'],
  [0x20, 'local.get local.set local.tee global.get global.set'],
  [0x28, 'i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u'],
  [0x30, of('i64', 'load8_s load8_u load16_s load16_u load32_s load32_u')],
  [0x36, 'i32.store i64.store f32.store f64.store i32.store8 i32.store16 i64.store8 i64.store16 i64.store32'],
  [0x3f, 'memory.size memory.grow i32.const i64.const f32.const f64.const'],
  [0x45, `${of('i32', INT)} ${of('i64', INT)} ${of('f32', FLOAT)} ${of('f64', FLOAT)}`],
  [0x67, `${of('i32', INT_OPS)} ${of('i64', INT_OPS)} ${of('f32', FLOAT_OPS)} ${of('f64', FLOAT_OPS)}`],
  [
    0xa7,
    'i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u i64.extend_i32_s i64.extend_i32_u',
  ],
  [0xae, 'i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u'],
  [0xb2, of('f32', 'convert_i32_s convert_i32_u convert_i64_s convert_i64_u demote_f64')],
  [0xb7, of('f64', 'convert_i32_s convert_i32_u convert_i64_s convert_i64_u promote_f32')],
  [0xbc, 'i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64'],
  [0xc0, 'i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s'],
  [0xfc0000, of('i32', 'trunc_sat_f32_s trunc_sat_f32_u trunc_sat_f64_s trunc_sat_f64_u')],
  [0xfc0004, of('i64', 'trunc_sat_f32_s trunc_sat_f32_u trunc_sat_f64_s trunc_sat_f64_u')],
  [0xfc000a, 'memory.copy memory.fill'],
  [0xfd0000, of('v128', 'load load8x8_s load8x8_u load16x4_s load16x4_u load32x2_s load32x2_u')],
  [0xfd0007, of('v128', 'load8_splat load16_splat load32_splat load64_splat store const')],
  [0xfd000d, 'i8x16.shuffle i8x16.swizzle i8x16.splat i16x8.splat i32x4.splat i64x2.splat f32x4.splat f64x2.splat'],
  [
    0xfd0015,
    `${of('i8x16', 'extract_lane_s extract_lane_u replace_lane')} ${of('i16x8', 'extract_lane_s extract_lane_u replace_lane')}`,
  ],
  [0xfd001b, 'i32x4.extract_lane i32x4.replace_lane i64x2.extract_lane i64x2.replace_lane'],
  [0xfd001f, 'f32x4.extract_lane f32x4.replace_lane f64x2.extract_lane f64x2.replace_lane'],
  [
    0xfd0023,
    `${of('i8x16', LANES)} ${of('i16x8', LANES)} ${of('i32x4', LANES)} ${of('f32x4', FLOAT)} ${of('f64x2', FLOAT)}`,
  ],
  [0xfd004d, of('v128', 'not and andnot or xor bitselect any_true load8_lane load16_lane load32_lane load64_lane')],
  [0xfd0058, of('v128', 'store8_lane store16_lane store32_lane store64_lane load32_zero load64_zero')],
  [0xfd005e, 'f32x4.demote_f64x2_zero f64x2.promote_low_f32x4'],
  [0xfd0060, of('i8x16', 'abs neg popcnt all_true bitmask narrow_i16x8_s narrow_i16x8_u')],
  [0xfd0067, of('f32x4', 'ceil floor trunc nearest')],
  [
    0xfd006b,
    `${of('i8x16', SATURATING)} f64x2.ceil f64x2.floor ${of('i8x16', 'min_s min_u max_s max_u')} f64x2.trunc i8x16.avgr_u`,
  ],
  [
    0xfd007c,
    'i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u i32x4.extadd_pairwise_i16x8_s i32x4.extadd_pairwise_i16x8_u',
  ],
  [0xfd0080, of('i16x8', 'abs neg q15mulr_sat_s all_true bitmask narrow_i32x4_s narrow_i32x4_u')],
  [0xfd0087, of('i16x8', 'extend_low_i8x16_s extend_high_i8x16_s extend_low_i8x16_u extend_high_i8x16_u')],
  [0xfd008b, `${of('i16x8', SATURATING)} f64x2.nearest ${of('i16x8', 'mul min_s min_u max_s max_u - avgr_u')}`],
  [0xfd009c, of('i16x8', 'extmul_low_i8x16_s extmul_high_i8x16_s extmul_low_i8x16_u extmul_high_i8x16_u')],
  [
    0xfd00a0,
    of(
      'i32x4',
      'abs neg - all_true bitmask - - extend_low_i16x8_s extend_high_i16x8_s extend_low_i16x8_u extend_high_i16x8_u',
    ),
  ],
  [0xfd00ab, of('i32x4', 'shl shr_s shr_u add - - sub - - - mul min_s min_u max_s max_u dot_i16x8_s -')],
  [0xfd00bc, of('i32x4', 'extmul_low_i16x8_s extmul_high_i16x8_s extmul_low_i16x8_u extmul_high_i16x8_u')],
  [
    0xfd00c0,
    of(
      'i64x2',
      'abs neg - all_true bitmask - - extend_low_i32x4_s extend_high_i32x4_s extend_low_i32x4_u extend_high_i32x4_u',
    ),
  ],
  [0xfd00cb, of('i64x2', 'shl shr_s shr_u add - - sub - - - mul eq ne lt_s gt_s le_s ge_s')],
  [0xfd00dc, of('i64x2', 'extmul_low_i32x4_s extmul_high_i32x4_s extmul_low_i32x4_u extmul_high_i32x4_u')],
  [0xfd00e0, of('f32x4', 'abs neg - sqrt add sub mul div min max pmin pmax')],
  [0xfd00ec, of('f64x2', 'abs neg - sqrt add sub mul div min max pmin pmax')],
  [0xfd00f8, 'i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u'],
  [
    0xfd00fc,
    'i32x4.trunc_sat_f64x2_s_zero i32x4.trunc_sat_f64x2_u_zero f64x2.convert_low_i32x4_s f64x2.convert_low_i32x4_u',
  ],
  [0xfd0100, 'i8x16.relaxed_swizzle i32x4.relaxed_trunc_f32x4_s i32x4.relaxed_trunc_f32x4_u'],
  [0xfd0103, 'i32x4.relaxed_trunc_f64x2_s_zero i32x4.relaxed_trunc_f64x2_u_zero'],
  [0xfd0105, 'f32x4.relaxed_madd f32x4.relaxed_nmadd f64x2.relaxed_madd f64x2.relaxed_nmadd'],
  [0xfd0109, 'i8x16.relaxed_laneselect i16x8.relaxed_laneselect i32x4.relaxed_laneselect i64x2.relaxed_laneselect'],
  [0xfd010d, 'f32x4.relaxed_min f32x4.relaxed_max f64x2.relaxed_min f64x2.relaxed_max i16x8.relaxed_q15mulr_s'],
  [0xfd0112, 'i16x8.relaxed_dot_i8x16_i7x16_s i32x4.relaxed_dot_i8x16_i7x16_add_s'],
];

const CLASS_RULES: readonly (readonly [RegExp, InstructionClass | null])[] = [
  [/^(block|loop|end|nop|unreachable)$/, null],
  [/^(br_if|br_table|if)$/, 'branch'],
  [/^(br|else|return)$/, 'jump'],
  [/^call/, 'call'],
  [/^select$/, 'select'],
  [/^(local|global)\.|^drop$/, 'local'],
  [/^i32\.const$/, 'const'],
  [/\.const$/, 'const_pool'],
  [/^memory\./, 'bulk'],
  [/^v128\.load\d+(x|_splat)/, 'v_load_splat'],
  [/^v128\.load/, 'v_load'],
  [/^v128\.store/, 'v_store'],
  [/\.load/, 'load'],
  [/\.store/, 'store'],
  [/x\d+\.splat$/, 'v_splat'],
  [/x\d+\.extract_lane/, 'v_extract'],
  [/x\d+\.narrow/, 'v_narrow'],
  [/x\d+\.bitmask/, 'v_bitmask'],
  [/x\d+\..*(shuffle|swizzle|replace_lane|all_true)|any_true$/, 'v_shuffle'],
  [/^f\d+x\d\.sqrt/, 'v_float_sqrt'],
  [/^f\d+x\d\.div/, 'v_float_div'],
  [/^f\d+x\d\.relaxed_n?madd/, 'v_float_madd'],
  [/^f\d+x\d\.mul/, 'v_float_mul'],
  [/^[if]\d+x\d\.(relaxed_trunc|trunc|nearest|ceil|floor)/, 'v_round'],
  [/^f\d+x\d\.(promote|demote)/, 'v_widen'],
  [/^[if]\d+x\d\.convert/, 'v_convert'],
  [/^f\d+x\d\.(min|max|pmin|pmax|relaxed_min|relaxed_max|ne)$/, 'v_float_minmax'],
  [/^f\d+x\d\.(abs|neg)$/, 'v_int'],
  [/^f\d+x\d\./, 'v_float'],
  [/^i\d+x\d+\.(relaxed_dot|extmul_\w+_i8x16)/, 'v_dot8'],
  [/^i32x4\.mul$/, 'v_int_mul32'],
  [/^i\d+x\d+\.(mul|extmul|q15mulr|dot|relaxed_q15mulr)/, 'v_int_mul'],
  [/x\d+\.|^v128\./, 'v_int'],
  [/\.trunc|\.(nearest|ceil|floor)$/, 'round'],
  [/\.(wrap|extend|convert|demote|promote|reinterpret)/, 'convert'],
  [/^i\d+\.(clz|ctz|popcnt)/, 'int_bits'],
  [/^i\d+\.mul/, 'int_mul'],
  [/^i\d+\.(div|rem)/, 'int_div'],
  [/^i\d+\./, 'int'],
  [/^f\d+\.(min|max)$/, 'float_minmax'],
  [/^f\d+\.mul/, 'float_mul'],
  [/^f\d+\.div/, 'float_div'],
  [/^f\d+\.sqrt/, 'float_sqrt'],
  [/^f\d+\./, 'float'],
];

/** How many values an instruction takes and leaves; for structure, branches and calls the walker knows better. */
function arity(name: string): readonly [pops: number, pushes: number] {
  if (/^(unreachable|nop|block|loop|else|end|br|br_table|return|call)/.test(name)) return [0, 0];
  if (/^(if|br_if|drop)$|^(local|global)\.set$/.test(name)) return [1, 0];
  if (/\.const$|^(local|global)\.get$|^memory\.size$/.test(name)) return [0, 1];
  if (/^memory\.(copy|fill)$/.test(name)) return [3, 0];
  if (/\.store/.test(name)) return [2, 0];
  if (/load\d+_lane$/.test(name)) return [2, 1];
  if (/^select$|bitselect|laneselect|madd$|add_s$/.test(name) && !name.endsWith('sat_s')) return [3, 1];
  const unary =
    /^local\.tee$|\.load|^memory\.grow$|splat$|extract_lane|any_true|all_true|bitmask|\.(eqz|clz|ctz|popcnt|not|abs|neg|sqrt|ceil|floor|trunc|nearest)$/;
  if (unary.test(name) || /\.(wrap|trunc|extend|convert|demote|promote|reinterpret|relaxed_trunc|extadd)/.test(name))
    return [1, 1];
  return [2, 1];
}

function bytesMoved(name: string): number {
  if (!/\.(load|store)/.test(name)) return 0;
  const [, bits, lanes] = /\.(?:load|store)(\d+)?(?:x(\d))?/.exec(name) ?? [];
  if (bits !== undefined) return (Number(bits) * Number(lanes ?? 1)) / 8;
  return name.startsWith('v128') ? 16 : name.includes('64.') ? 8 : 4;
}

export const OPCODES: ReadonlyMap<number, Opcode> = new Map(
  NAMES.flatMap(([first, names]) =>
    names.split(' ').flatMap((name, i): [number, Opcode][] => {
      if (name === '-') return [];
      const cls = CLASS_RULES.find(([rule]) => rule.test(name))?.[1] ?? null;
      const [pops, pushes] = arity(name);
      const opcode = {
        code: first + i,
        name,
        cls: cls === null ? -1 : classIndex(cls),
        pops,
        pushes,
        bytes: bytesMoved(name),
      };
      return [[first + i, opcode]];
    }),
  ),
);

/** A constant that does not fit into an instruction. */
const LARGE_CONST: Opcode = { ...(OPCODES.get(OP.i32_const) as Opcode), cls: classIndex('const_pool') };

// ── Sections ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

class Reader {
  readonly bytes: Uint8Array;
  at: number;
  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.at = at;
  }
  byte(): number {
    const b = this.bytes[this.at++];
    if (b === undefined) throw new WasmError(`the module ends at byte ${this.bytes.length}`);
    return b;
  }
  unsigned(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const b = this.byte();
      value += (b & 127) * scale;
      if (b < 128) return value;
      if (scale > 2 ** 28) throw new WasmError(`integer too long at byte ${this.at}`);
    }
  }
  /** Signed LEB128, its low 32 bits. */
  signed(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const b = this.byte();
      if (shift < 32) value |= (b & 127) << shift;
      if (b >= 128) continue;
      return shift + 7 < 32 && (b & 64) !== 0 ? value | (-1 << (shift + 7)) : value;
    }
  }
  name(): string {
    const bytes = this.unsigned();
    this.at += bytes;
    return utf8Decode(this.bytes.subarray(this.at - bytes, this.at));
  }
  list<T>(item: (index: number) => T): T[] {
    return Array.from({ length: this.unsigned() }, (_, i) => item(i));
  }
}

/** What is wrong with a module, in one line. */
export class WasmError extends Error {}

/** Decodes a module; throws a WasmError naming what it does not know. */
export function decodeModule(bytes: Uint8Array): Module {
  const r = new Reader(bytes, 8);
  if (
    bytes.length < 8 ||
    bytes[0] !== 0 ||
    bytes[1] !== 0x61 ||
    bytes[2] !== 0x73 ||
    bytes[3] !== 0x6d ||
    bytes[4] !== 1
  )
    throw new WasmError('not a WebAssembly module of version 1');
  const sections: Section[] = [];
  let types: FunctionType[] = [];
  let typeOf: number[] = [];
  let exports: Export[] = [];
  let bodies: FunctionBody[] = [];
  let functionsImported = 0;
  let globals = 0;
  while (r.at < bytes.length) {
    const at = r.at;
    const id = r.byte();
    const size = r.unsigned();
    const contentAt = r.at;
    sections.push({ id, at, contentAt, end: contentAt + size });
    switch (id) {
      case 1:
        types = r.list(() => {
          if (r.byte() !== 0x60) throw new WasmError(`type at byte ${r.at - 1} is not a function's`);
          return { params: r.list(() => r.byte()), results: r.list(() => r.byte()) };
        });
        break;
      case 2:
        for (const kind of r.list(() => readImport(r))) {
          if (kind === 0) functionsImported++;
          if (kind === 3) globals++;
        }
        break;
      case 3:
        typeOf = r.list(() => r.unsigned());
        break;
      case 6:
        globals += r.unsigned();
        break;
      case 7:
        exports = r.list(() => ({ name: r.name(), kind: r.byte(), index: r.unsigned() }));
        break;
      case 10:
        bodies = r.list(i => {
          const type = types[typeOf[i] ?? -1];
          if (type === undefined) throw new WasmError(`function ${functionsImported + i} has no type`);
          return readBody(r, functionsImported + i, type, types);
        });
        break;
      case 0: // custom
      case 4: // table
      case 5: // memory
      case 8: // start
      case 9: // elements
      case 11: // data
      case 12: // data count
        break;
      default:
        throw new WasmError(`section ${id} at byte ${at} is not known`);
    }
    r.at = contentAt + size;
  }
  return { sections, types, functionsImported, globals, exports, bodies };
}

function readImport(r: Reader): number {
  r.name();
  r.name();
  const kind = r.byte();
  const limits = (): void => {
    const flags = r.byte();
    r.unsigned();
    if ((flags & 1) !== 0) r.unsigned();
  };
  if (kind === 0) r.unsigned();
  else if (kind === 1) {
    r.byte();
    limits();
  } else if (kind === 2) limits();
  else if (kind === 3) r.at += 2;
  else throw new WasmError(`import of kind ${kind} is not known`);
  return kind;
}

function readBody(r: Reader, index: number, type: FunctionType, types: readonly FunctionType[]): FunctionBody {
  const size = r.unsigned();
  const localsAt = r.at;
  const end = localsAt + size;
  const locals = r
    .list(() => ({ count: r.unsigned(), type: r.byte() }))
    .flatMap(({ count, type }) => Array.from({ length: count }, () => type));
  const codeAt = r.at;
  const code: Instruction[] = [];
  const open: number[] = [];
  const endOf = new Map<number, number>();
  const elseOf = new Map<number, number>();
  while (r.at < end) {
    const instruction = readInstruction(r, types, index);
    const { code: op } = instruction.opcode;
    if (op === OP.block || op === OP.loop || op === OP.if) open.push(code.length);
    else if (op === OP.else) elseOf.set(open.at(-1) ?? -1, code.length);
    else if (op === OP.end) {
      const start = open.pop();
      if (start !== undefined) endOf.set(start, code.length);
    }
    code.push(instruction);
  }
  return { index, type, locals, localsAt, codeAt, end, code, endOf, elseOf };
}

function readInstruction(r: Reader, types: readonly FunctionType[], index: number): Instruction {
  const at = r.at;
  let op = r.byte();
  if (op === 0xfc || op === 0xfd) op = op * 0x10000 + r.unsigned();
  let opcode = OPCODES.get(op);
  if (opcode === undefined)
    throw new WasmError(`opcode 0x${op.toString(16)} at byte ${at} of function ${index} is not known`);
  let value = 0;
  let labels: readonly number[] = [];
  let results = 0;
  let params = 0;
  if (op === OP.block || op === OP.loop || op === OP.if) {
    const blockType = r.signed();
    const type = blockType >= 0 ? types[blockType] : undefined;
    results = type?.results.length ?? (blockType === -64 ? 0 : 1);
    params = type?.params.length ?? 0;
  } else if (op === OP.br_table) {
    labels = r.list(() => r.unsigned());
    labels = [...labels, r.unsigned()];
  } else if (opcode.name === 'call_indirect') {
    value = r.unsigned();
    r.unsigned();
  } else if ((op >= OP.br && op <= OP.call) || (op >= OP.local_get && op <= OP.global_set)) {
    if (op !== OP.return) value = r.unsigned();
  } else if (opcode.bytes > 0) {
    r.unsigned(); // alignment
    value = r.unsigned();
    if (opcode.name.endsWith('_lane')) r.byte();
  } else if (op === OP.i32_const) {
    value = r.signed();
    if (value < -2048 || value > 2047) opcode = LARGE_CONST;
  } else if (op === OP.i64_const) r.signed();
  else if (opcode.name === 'f32.const') r.at += 4;
  else if (opcode.name === 'f64.const') r.at += 8;
  else if (opcode.name === 'v128.const' || opcode.name === 'i8x16.shuffle') r.at += 16;
  else if (/(extract|replace)_lane|^memory\.(size|grow|fill)$/.test(opcode.name)) r.byte();
  else if (op === OP.memory_copy) r.at += 2;
  return { opcode, at, end: r.at, value, labels, results, params };
}
