// Targets: the machines whose time is simulated, as price lists. A target knows the machine instructions that the kernels' WebAssembly
// becomes, how long each takes at worst (its latency: upper bounds assume that one WebAssembly instruction ends before the next begins) and
// what each keeps busy at least (throughput: lower bounds assume that everything overlaps), how far away memory is, and what a block
// transfer costs. Every figure names its source; what rests on nobody else's word is called an assumption. docs/WCET.md argues the choice.
// The idea of separate upper and lower machine models is that of aiT and OTAWA; the figures' form follows LLVM's scheduling models, against
// which the tests check them.

import { refuse, type Refusal } from '../abi/index.ts';
import { CLASSES, type InstructionClass } from './wasm.ts';

// ── Records ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Prices are integers in thousandths of a cycle: upper ones rounded up, lower ones down. */
export const MILLI = 1000;

/** Where figures come from. `assumption`: from nobody; the text beside the figure says why it is safe. */
export const SOURCES = {
  llvm: 'LLVM 14 scheduling model of the core, as llvm-mca prints it (AArch64SchedA57 for cortex-a72, RISCVSchedSiFive7, ARMScheduleM7)',
  a72: 'Arm UAN 0016A, Cortex-A72 Software Optimization Guide, pipeline overview: one load, one store, two FP/ASIMD pipes, ASIMD multiply and divide in F0',
  u74: 'SiFive 7 series as described by Segger and in the U74 Core Complex Manual 21G1: dual issue, one slot for memory, the other for multiply, divide, branch and FP',
  m7: 'quinapalus.com, Cortex-M7 instruction cycle counts (measured on an STM32H730 at 480 MHz), and ARMScheduleM7: two issue slots, two load ports, one store port, one FPU',
  a72trm:
    'Arm 100095, Cortex-A72 Technical Reference Manual, 6.5: a direct unconditional branch that the dynamic predictor does not know is predicted taken',
  pi4: 'Raspberry Pi 4 (BCM2711): 1.5 GHz, 32 KiB L1D, 1 MiB L2, LPDDR4-3200; microSD 46 MB/s in order, 10 MB/s in 4 KiB pieces (github.com/geerlingguy/sbc-reviews, issue 4)',
  unmatched: 'HiFive Unmatched (FU740): 32 KiB L1D, 2 MiB L2, DDR4-2400; PCIe 3.0 ×4, 985 MB/s a lane',
  definition: 'this simulated machine is defined so',
  assumption: 'assumption',
  fit: 'measured on this host, see its calibration',
} as const;
export type SourceName = keyof typeof SOURCES;

/** One machine instruction: cycles until its result can be used, operands in registers or in the nearest memory. */
export interface MachineInstruction {
  readonly latency: number;
  readonly source: SourceName;
  /** Of a modelled instruction its assembly, so that the model can be asked; of another one the reason for the figure. */
  readonly what: string;
}

/**
 * What a class of WebAssembly instructions becomes. `upper`: the longest sequence any of its members needs. In `2 alu + load` each waits for the
 * one before; `8×load` are eight that do not need each other and start one a cycle; `2 8×load` are two such groups. A sequence begins when the
 * last one's results are there. `lower`: thousandths of a cycle each resource is busy with the shortest, folding into neighbours allowed.
 */
export interface Lowering {
  readonly upper: string;
  readonly lower?: Readonly<Record<string, number>>;
}

/** Bytes near and far. Level 0 is what load and store latencies already contain. */
export interface MemoryLevel {
  readonly name: string;
  /** Data up to this size, gone over repeatedly within an op, are found here from the second time on. 0: never. */
  readonly reuseBytesMax: number;
  /** Thousandths of a cycle to bring one line from here. */
  readonly lineUpper: number;
  readonly lineLower: number;
  readonly source: SourceName;
  readonly why: string;
}

/** Parts of the arena that differ in where they lie. */
export type MemoryRegion = 'fixed' | 'weights' | 'stream' | 'vocabulary' | 'kv' | 'scratch' | 'plan' | 'io';

export interface BlockDevice {
  readonly name: string;
  readonly setupCyclesUpper: number;
  readonly setupCyclesLower: number;
  readonly byteUpper: number; // thousandths of a cycle
  readonly byteLower: number;
  readonly source: SourceName;
  readonly why: string;
}

/** Cycles beside the kernels. */
export interface Overhead {
  /** A record of the plan in the executor: fetch, jump through the table, operands, return. */
  readonly recordCycles: number;
  readonly syscallCycles: number;
  /** To another process. */
  readonly switchCycles: number;
  /** A record of the audit log: its JSON, digests of up to 16 KiB of ids, its leaf and the tree above it. A signed head of the log. */
  readonly auditRecordCycles: number;
  readonly auditCheckpointCycles: number;
  readonly source: SourceName;
  readonly why: string;
}

export interface Target {
  readonly name: string;
  readonly title: string;
  readonly hz: number;
  /** `model`: bounds are sound under the target's assumptions. `fit`: figures are regressions, no bound. */
  readonly kind: 'model' | 'fit';
  /** What LLVM calls the machine; null when it is none of LLVM's. */
  readonly llvm: { readonly triple: string; readonly cpu: string } | null;
  readonly instructions: Readonly<Record<string, MachineInstruction>>;
  readonly lowerings: Readonly<Record<InstructionClass, Lowering>>;
  /** Names of the resources that `lower` speaks of, with their sources. */
  readonly resources: Readonly<Record<string, SourceName>>;
  /** Thousandths of a cycle per instruction, by class index; derived from the two above. */
  readonly upper: readonly number[];
  readonly lower: readonly { readonly resource: string; readonly prices: readonly number[] }[];
  readonly lineBytes: number;
  readonly levels: readonly MemoryLevel[]; // near to far
  /** Index into `levels`: where each region lies when an op begins. */
  readonly home: Readonly<Record<MemoryRegion, number>>;
  /** Bytes that may still be near from before, which a lower bound must not charge. */
  readonly cacheBytes: number;
  readonly block: BlockDevice;
  readonly overhead: Overhead;
  readonly assumptions: readonly string[];
  /** SHA-256 of the calibration; empty for models, and for a fit nobody has calibrated. */
  readonly calibration: string;
}

// ── Prices ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Term {
  readonly count: number;
  /** Independent instructions in a group, starting one a cycle. */
  readonly width: number;
  readonly name: string;
}

/**
 * `2 alu + 8×load` → its terms. Throws on what it cannot read: a table that is wrong must not load. (The sign is escaped, which the bundler does
 * in strings but not in patterns: a program that is all ASCII is read in less than half of the time.)
 */
export function termsOf(sequence: string): Term[] {
  return sequence
    .split('+')
    .map(term => term.trim())
    .filter(term => term !== '')
    .map(term => {
      const [, count, width, name] = /^(?:(\d+) )?(?:(\d+)\xd7)?(\w+)$/.exec(term) ?? [];
      if (name === undefined) throw new Error(`sequence: ${term}`);
      return { count: Number(count ?? 1), width: Number(width ?? 1), name };
    });
}

/** Cycles of a sequence: its terms one after another, a group's last instruction starting width − 1 cycles after its first. */
export function latencyOf(sequence: string, instructions: Target['instructions']): number {
  let cycles = 0;
  for (const { count, width, name } of termsOf(sequence)) {
    const instruction = instructions[name];
    if (instruction === undefined) throw new Error(`no machine instruction ${name}`);
    cycles += count * (instruction.latency + width - 1);
  }
  return cycles;
}

/** A target as it is written down; the rest of the record follows. */
type Description = Omit<Target, 'upper' | 'lower'>;
/** Bytes that the sequence of a byte class moves: the copy loop's piece, and the second access of a load or store that crosses a line. */
const COPY_BYTES = 16;

function makeTarget(d: Description): Target {
  const upper = CLASSES.map(cls => {
    const milli = latencyOf(d.lowerings[cls].upper, d.instructions) * MILLI;
    return cls.startsWith('bytes_') ? Math.ceil(milli / COPY_BYTES) : milli;
  });
  const lower = Object.keys(d.resources).map(resource => ({
    resource,
    prices: CLASSES.map(cls => Math.floor(d.lowerings[cls].lower?.[resource] ?? 0)),
  }));
  return { ...d, upper, lower };
}

/** Counts by class index, as certificates give them. */
export type Counts = ArrayLike<number>;

/** Thousandths of a cycle that these instructions can take at most, memory at level 0. */
export function upperMilli(target: Target, counts: Counts): number {
  let sum = 0;
  for (let c = 0; c < CLASSES.length; c++) sum += counts[c]! * target.upper[c]!;
  return sum;
}

/**
 * Thousandths of a cycle they take at least: the time of the busiest resource. Give it the counts of a whole step: what is left of one op
 * may overlap the next, so bounds of parts do not add up to a bound of the whole.
 */
export function lowerMilli(target: Target, counts: Counts): number {
  let busiest = 0;
  for (const { prices } of target.lower) {
    let sum = 0;
    for (let c = 0; c < CLASSES.length; c++) sum += counts[c]! * prices[c]!;
    busiest = Math.max(busiest, sum);
  }
  return busiest;
}

/** How an op uses one operand. */
export interface Traffic {
  /** Null: where only the run will know, as far away as any. */
  readonly region: MemoryRegion | null;
  /** Bytes of the ranges it lies in, most often one, each from the first byte touched to the last. */
  readonly hullBytes: number;
  /** Lines that they can have: linesOf() of each. */
  readonly hullLines: number;
  /** Lines touched in all, repetitions included: linesOf() of the runs in which the operand is gone over. */
  readonly lines: number;
}

/** Bytes that a load or store moves at most on a machine without caches. */
const WORD_BYTES = 4;

function hasCaches({ levels }: Target): boolean {
  for (const level of levels) if (level.reuseBytesMax > 0) return true;
  return false;
}

/**
 * Lines that runs of `runBytes` can touch at most, `bytes` in all, wherever they start. Without caches each access, of `accessBytes` or
 * more, brings its own.
 */
export function linesOf(target: Target, bytes: number, runBytes: number, accessBytes: number): number {
  if (bytes === 0) return 0;
  if (!hasCaches(target)) return Math.ceil(bytes / Math.min(accessBytes, WORD_BYTES));
  return Math.ceil(bytes / runBytes) * (Math.floor((runBytes + target.lineBytes - 2) / target.lineBytes) + 1);
}

/**
 * Thousandths of a cycle beyond level 0: every line once from the region's home, again from where data of this size stay. What streams has been
 * brought there while others computed: each line of it was in their way for as long as it takes at the peak rate, and is charged that here.
 */
export function trafficMilli(target: Target, t: Traffic): number {
  const home = t.region === null ? Math.max(...Object.values(target.home)) : target.home[t.region];
  const distinct = Math.min(t.hullLines, t.lines);
  const bytes = Math.min(t.hullBytes, distinct * target.lineBytes);
  let near = 0;
  while (near < home && bytes > target.levels[near]!.reuseBytesMax) near++;
  const transferred = t.region === 'stream' ? target.levels[home]!.lineLower : 0;
  return (
    distinct * (target.levels[home]!.lineUpper + transferred) + (t.lines - distinct) * target.levels[near]!.lineUpper
  );
}

/** At least: of what a step reads from one level and its caches cannot have kept, every line at the peak rate. */
export function trafficMilliMin(target: Target, region: MemoryRegion, bytes: number): number {
  const far = Math.max(0, bytes - target.cacheBytes);
  return Math.floor(far / target.lineBytes) * target.levels[target.home[region]]!.lineLower;
}

/** Cycles of a block transfer, at most and at least. */
export function transferCycles(target: Target, bytes: number): { readonly upper: number; readonly lower: number } {
  const b = target.block;
  return {
    upper: b.setupCyclesUpper + Math.ceil((bytes * b.byteUpper) / MILLI),
    lower: b.setupCyclesLower + Math.floor((bytes * b.byteLower) / MILLI),
  };
}

// ── Cortex-A72 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const llvm = (latency: number, what: string): MachineInstruction => ({ latency, source: 'llvm', what });
const assume = (latency: number, what: string): MachineInstruction => ({ latency, source: 'assumption', what });

/** Lower prices on a core that decodes three instructions a cycle; `asimd`: of two pipes; `multiply`: of the one that can. */
const a72 = (instructions: number, asimd = 0, multiply = 0): Record<string, number> => ({
  decode: (instructions * MILLI) / 3,
  asimd: (asimd * MILLI) / 2,
  multiply: multiply * MILLI,
});

const CORTEX_A72 = makeTarget({
  name: 'cortex-a72',
  title: 'Arm Cortex-A72 at 1.5 GHz (Raspberry Pi 4)',
  hz: 1_500_000_000,
  kind: 'model',
  llvm: { triple: 'aarch64', cpu: 'cortex-a72' },
  instructions: {
    alu: llvm(1, 'add w0, w1, w2'),
    mul: llvm(5, 'mul x0, x1, x2'),
    div: llvm(35, 'sdiv x0, x1, x2'),
    branch: llvm(1, 'b.ne 0'),
    call: llvm(2, 'blr x1'),
    flush: { latency: 16, source: 'llvm', what: 'MispredictPenalty of AArch64SchedA57' },
    redirect: {
      latency: 8,
      source: 'a72trm',
      what: 'a jump is found at decode, after five stages of fetch and three of decode, if not before; it cannot be mispredicted',
    },
    load: llvm(5, 'ldr s0, [x1]'),
    load_q: llvm(5, 'ldr q0, [x1]'),
    load_splat: llvm(8, 'ld1r { v0.4s }, [x1]'),
    load_pair: llvm(6, 'ldp q0, q1, [x2]'),
    store: llvm(1, 'str w0, [x1]'),
    store_q: llvm(2, 'str q0, [x1]'),
    store_lane: llvm(3, 'st1 { v0.d }[0], [x1]'),
    store_pair: llvm(4, 'stp q0, q1, [x2]'),
    fadd: llvm(5, 'fadd d0, d1, d2'),
    fmul: llvm(5, 'fmul d0, d1, d2'),
    fdiv: llvm(32, 'fdiv d0, d1, d2'),
    fsqrt: llvm(32, 'fsqrt d0, d1'),
    fconvert: llvm(10, 'fcvtzs x0, d1'),
    vadd: llvm(3, 'add v0.4s, v1.4s, v2.4s'),
    vmove: llvm(3, 'mov v0.16b, v1.16b'),
    vsel: llvm(3, 'bsl v0.16b, v1.16b, v2.16b'),
    dup: llvm(8, 'dup v0.4s, w1'),
    vmul: llvm(5, 'smull v0.4s, v1.4h, v2.4h'),
    vmul_s: llvm(6, 'mul v0.4s, v1.4s, v2.4s'),
    vnarrow: llvm(4, 'sqxtn2 v0.8h, v1.4s'),
    umov: llvm(6, 'mov w0, v1.s[1]'),
    tbl: llvm(6, 'tbl v0.16b, { v1.16b }, v2.16b'),
    vsum: llvm(7, 'addv h0, v0.8h'),
    vfadd: llvm(5, 'fadd v0.4s, v1.4s, v2.4s'),
    vfmul: llvm(5, 'fmul v0.4s, v1.4s, v2.4s'),
    vfma: llvm(10, 'fmla v0.4s, v1.4s, v2.4s'),
    vfdiv: llvm(34, 'fdiv v0.4s, v1.4s, v2.4s'),
    vfsqrt: llvm(34, 'fsqrt v0.4s, v1.4s'),
    vconvert: llvm(10, 'scvtf v0.4s, v1.4s'),
    vwiden: llvm(8, 'fcvtl v0.2d, v1.2s'),
    vround: llvm(5, 'frintn v0.4s, v1.4s'),
  },
  lowerings: {
    local: { upper: 'alu' }, // most need none: the slack pays for moves of vectors and results, spills and globals
    const: { upper: 'alu' }, // at best part of another
    const_pool: { upper: 'alu + load_q' },
    branch: { upper: 'alu + branch + flush', lower: a72(0.5) },
    jump: { upper: 'branch + redirect' }, // at best none: a loop turned over
    call: { upper: 'call + branch + 2 flush + 10 store_pair + 10 load_pair', lower: a72(0) },
    select: { upper: '2 alu + dup + vsel', lower: a72(0.5) }, // of vectors; of numbers csel or fcsel
    int: { upper: '2 alu', lower: a72(0) }, // compare and set; at best part of an address
    int_bits: { upper: '2 alu', lower: a72(0) }, // rbit and clz
    int_mul: { upper: 'mul', lower: a72(0.5) },
    int_div: { upper: 'div + mul + 3 alu + 2 branch + 2 flush', lower: a72(0.5) }, // remainder, traps
    float: { upper: 'fadd + alu', lower: a72(0.5, 0.5) },
    float_minmax: { upper: 'fadd', lower: a72(0.5, 0.5) },
    float_mul: { upper: 'fmul', lower: a72(1, 1) },
    float_div: { upper: 'fdiv', lower: a72(1, 1, 1) },
    float_sqrt: { upper: 'fsqrt', lower: a72(1, 1) },
    convert: { upper: 'fconvert', lower: a72(0) },
    round: { upper: 'fconvert', lower: a72(0.5, 0.5) }, // nearest and to an integer are one
    load: { upper: 'alu + load', lower: a72(0) },
    store: { upper: 'alu + store', lower: a72(0) },
    v_int: { upper: 'vadd', lower: a72(0.5, 0.5) }, // at best half of a shift-and-add
    v_int_mul: { upper: '2×vmul + vadd', lower: a72(2, 2, 2) }, // smull, smull2, addp; at best accumulating
    v_int_mul32: { upper: 'vmul_s', lower: a72(0.5, 1.5, 2) }, // at best half of an mla, which is twice in the pipe
    v_dot8: { upper: '2×vmul + vadd', lower: a72(2, 2, 2) }, // as v_int_mul, of bytes
    v_float: { upper: 'vfadd', lower: a72(1, 1) },
    v_float_minmax: { upper: 'vfadd + vsel', lower: a72(1, 1) },
    v_float_mul: { upper: 'vfmul', lower: a72(1, 1) },
    v_float_madd: { upper: 'vmove + vfma', lower: a72(1, 1) }, // fmla overwrites what it adds to
    v_float_div: { upper: 'vfdiv', lower: a72(1, 1, 1) },
    v_float_sqrt: { upper: 'vfsqrt', lower: a72(1, 1) },
    v_convert: { upper: 'vconvert', lower: a72(1, 1) },
    v_widen: { upper: 'vwiden', lower: a72(1, 1) },
    v_round: { upper: 'vround', lower: a72(0.5, 0.5) },
    v_shuffle: { upper: 'alu + load_q + tbl', lower: a72(0) }, // umaxv, umov, cmp, cset take as long; at best an operand by element
    v_bitmask: { upper: 'vadd + alu + load_q + vadd + 2 tbl + vsum + umov', lower: a72(0) }, // signs, and, ext, zip1, addv
    v_splat: { upper: 'dup', lower: a72(0) },
    v_extract: { upper: 'dup', lower: a72(0) }, // of floats; of integers umov
    v_narrow: { upper: '2 vnarrow', lower: a72(1, 1) },
    v_load: { upper: 'alu + load_q', lower: a72(0) },
    v_load_splat: { upper: 'alu + load_splat', lower: a72(0) }, // or ldr and sshll
    v_store: { upper: 'alu + store_lane', lower: a72(0) },
    bulk: { upper: 'call + branch + 2 flush + 30 alu + 15 load + 15 store + 15 branch', lower: a72(0) }, // the last 15 bytes
    bytes_loaded: { upper: 'load_q', lower: { load: MILLI / 16 } },
    bytes_stored: { upper: 'store_q + 2 alu + branch', lower: { store: MILLI / 16 } },
  },
  resources: { decode: 'llvm', asimd: 'a72', multiply: 'a72', load: 'a72', store: 'a72' },
  lineBytes: 64,
  levels: [
    {
      name: 'L1',
      reuseBytesMax: 8192,
      lineUpper: 0,
      lineLower: 0,
      source: 'assumption',
      why: 'a quarter of 32 KiB: half of it stays free for the stream of weights, the other half for placement',
    },
    {
      name: 'L2',
      reuseBytesMax: 262144,
      lineUpper: 30 * MILLI,
      lineLower: 4 * MILLI,
      source: 'assumption',
      why: 'a quarter of 1 MiB; 20 ns a line without overlap; at best 16 bytes a cycle',
    },
    {
      name: 'DRAM',
      reuseBytesMax: 0,
      lineUpper: 300 * MILLI,
      lineLower: 7500,
      source: 'assumption',
      why: '200 ns for row miss, bus and the share of refresh, without overlap; at best 12.8 GB/s, all of LPDDR4-3200 ×32',
    },
  ],
  home: { fixed: 1, weights: 2, stream: 2, vocabulary: 2, kv: 2, scratch: 1, plan: 2, io: 2 },
  cacheBytes: 1_048_576 + 32_768,
  block: {
    name: 'microSD',
    setupCyclesUpper: 1_500_000,
    setupCyclesLower: 75_000,
    byteUpper: 50_000,
    byteLower: 30_000,
    source: 'pi4',
    why: 'published 46 MB/s in order, 400 µs for 4 KiB at random; upper: 30 MB/s and 1 ms; lower: the interface, 50 MB/s, and 50 µs',
  },
  overhead: {
    recordCycles: 2500,
    syscallCycles: 600,
    switchCycles: 1200,
    auditRecordCycles: 300_000,
    auditCheckpointCycles: 400_000,
    source: 'assumption',
    why: 'a record: 64 lines of code from L2 and 150 instructions; calls: 200 and 400 instructions of a kernel that exists only in simulation; audit: 20 KiB through SHA-256 without instructions for it at 14 cycles a byte, and an Ed25519 signature, of which openssl makes 5,000 a second here',
  },
  assumptions: [
    'instruction fetch does not miss within an op: its loops are far smaller than 48 KiB; 4 KiB of code from L2 are in the overhead of a record',
    'no other core or interrupt disturbs; a line that the block device brings meanwhile holds memory up for its time at the peak rate; caches replace the least recently used line; no TLB misses (one 8 MiB block mapping)',
    'the fixed part and scratch of one op stay in L2, being at most 256 KiB',
    'the arena is mapped at address 0: an i32 address is a pointer',
    'code is lowered instruction by instruction with registers allocated as in tests/asm; every conditional branch may be mispredicted',
  ],
  calibration: '',
});

// ── SiFive U74 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Lower prices on a core that issues two instructions a cycle; `b`: in the slot for multiply, divide, branches and floats. */
const u74 = (instructions: number, b = 0): Record<string, number> => ({
  issue: (instructions * MILLI) / 2,
  b: b * MILLI,
});

// No vector unit: a v128 is a 16-byte slot of the stack, and every instruction on it loads its operands' lanes, computes, stores.
const SIFIVE_U74 = makeTarget({
  name: 'sifive-u74',
  title: 'SiFive U74 at 1.2 GHz (HiFive Unmatched), no vector unit',
  hz: 1_200_000_000,
  kind: 'model',
  llvm: { triple: 'riscv64', cpu: 'sifive-u74' },
  instructions: {
    alu: llvm(3, 'add a0, a1, a2'),
    mul: llvm(3, 'mul a0, a1, a2'),
    div: assume(72, 'a divider of one bit a cycle, 64 bits, and its set-up; LLVM has 16'),
    branch: llvm(1, 'beq a0, a1, 0'),
    flush: assume(8, 'a pipeline of eight stages cannot lose more; LLVM has 3'),
    redirect: assume(4, 'a jump is found at decode, half-way down the pipeline'),
    load: llvm(3, 'ld a0, 0(a1)'),
    fload: llvm(2, 'flw fa0, 0(a1)'),
    store: llvm(1, 'sd a0, 0(a1)'),
    replay: assume(
      5,
      'a load of what is still in the store pipeline waits, as the manuals of SiFive’s U54 and E31 have it',
    ),
    fadd: llvm(7, 'fadd.d fa0, fa1, fa2'),
    fadd_s: llvm(5, 'fadd.s fa0, fa1, fa2'),
    fmul: llvm(7, 'fmul.d fa0, fa1, fa2'),
    fmul_s: llvm(5, 'fmul.s fa0, fa1, fa2'),
    fmadd_s: llvm(5, 'fmadd.s fa0, fa1, fa2, fa3'),
    fdiv: llvm(56, 'fdiv.d fa0, fa1, fa2'),
    fdiv_s: llvm(27, 'fdiv.s fa0, fa1, fa2'),
    fsqrt: llvm(56, 'fsqrt.d fa0, fa1'),
    fsqrt_s: llvm(27, 'fsqrt.s fa0, fa1'),
    fmove: llvm(3, 'fsgnj.s fa0, fa1, fa2'), // comparisons and moves too
    fconvert: llvm(3, 'fcvt.d.s fa0, fa1'),
  },
  lowerings: {
    local: { upper: 'alu' }, // most need none; two of them pay for the copy of a vector
    const: { upper: 'alu' },
    const_pool: { upper: '2 alu + 2×load + 2×store' }, // a v128 into its slot
    branch: { upper: '2 alu + branch + flush', lower: u74(0.5) },
    jump: { upper: 'branch + redirect' },
    call: { upper: '3 branch + 2 flush + 2 alu + 25 store + 25 load', lower: u74(0) }, // 13 integer and 12 float registers
    select: { upper: '2 alu + branch + flush + 2×load + 2×store', lower: u74(0.5) },
    int: { upper: '3 alu', lower: u74(0) },
    int_bits: { upper: '5 alu + mul + load + branch + flush', lower: u74(0) }, // the lowest one alone, by a product into a table; 0 apart
    int_mul: { upper: 'mul', lower: u74(0.5) },
    int_div: { upper: 'div + 4 alu + 2 branch + 2 flush', lower: u74(0.5) },
    float: { upper: 'fadd', lower: u74(0.5, 0.5) }, // feq and xori are no longer
    float_minmax: { upper: 'fadd + 3 fmove + 2 alu + branch + flush', lower: u74(0.5, 0.5) }, // fmin and fmax let NaN pass by
    float_mul: { upper: 'fmul', lower: u74(1, 1) },
    float_div: { upper: 'fdiv', lower: u74(1, 1) },
    float_sqrt: { upper: 'fsqrt', lower: u74(1, 1) },
    convert: { upper: 'fconvert', lower: u74(0) },
    round: { upper: '4 fmove + 3 fconvert + 2 alu + branch + flush', lower: u74(0) }, // nearest, saturation
    load: { upper: 'alu + load', lower: u74(0) },
    store: { upper: 'alu + store', lower: u74(0) },
    v_int: { upper: '2 replay + 16×load + 8×alu + 8×store', lower: u74(0) }, // eight narrow lanes of two operands
    v_int_mul: { upper: '2 replay + 16×load + 8×mul + 4×alu + 4×store', lower: u74(8, 8) },
    v_int_mul32: { upper: '2 replay + 8×load + 4×mul + 4×store', lower: u74(4, 4) },
    v_dot8: { upper: '2 replay + 2 16×load + 2 8×mul + 2 4×alu + 2 4×store', lower: u74(16, 16) },
    v_float: { upper: '2 replay + 8×fload + 4×fadd_s + 4×store', lower: u74(4, 4) }, // flt, neg are no longer
    v_float_minmax: {
      upper: '2 replay + 8×fload + 4 fadd_s + 12 alu + 4 branch + 4 flush + 4×store', // NaN
      lower: u74(4, 4),
    },
    v_float_mul: { upper: '2 replay + 8×fload + 4×fmul_s + 4×store', lower: u74(4, 4) },
    v_float_madd: { upper: '3 replay + 12×fload + 4×fmadd_s + 4×store', lower: u74(4, 4) },
    v_float_div: { upper: '2 replay + 8×fload + 4 fdiv_s + 4×store', lower: u74(4, 4) },
    v_float_sqrt: { upper: 'replay + 4×fload + 4 fsqrt_s + 4×store', lower: u74(4, 4) },
    v_convert: { upper: 'replay + 4×load + 4×fconvert + 4×store', lower: u74(4, 4) },
    v_widen: { upper: 'replay + 2×fload + 2×fconvert + 2×store', lower: u74(2, 2) },
    v_round: { upper: 'replay + 4×fload + 16 fmove + 8 fconvert + 4 branch + 4 flush + 4×store', lower: u74(2, 2) },
    v_shuffle: { upper: '2 replay + 16×load + 16×store', lower: u74(0) },
    v_bitmask: { upper: 'replay + 16×load + 48 alu', lower: u74(0) }, // a lane: its sign, to its place, into the sum
    v_splat: { upper: '3 alu + load + mul + 4×store', lower: u74(0) }, // of a byte by multiplication
    v_extract: { upper: 'replay + load', lower: u74(0) },
    v_narrow: { upper: '2 replay + 2 8×load + 12 8×alu + 2 8×store', lower: u74(0) }, // six instructions clamp a value
    v_load: { upper: 'alu + 8×load + 8×store', lower: u74(0) }, // by halfwords: blocks are not aligned
    v_load_splat: { upper: 'alu + 4×load + 4×store', lower: u74(0) },
    v_store: { upper: 'replay + alu + 4×load + 4×store', lower: u74(0) },
    bulk: { upper: '3 branch + 2 flush + 30 alu + 15 load + 15 store + 15 branch', lower: u74(0) },
    bytes_loaded: { upper: '2×load', lower: { memory: MILLI / 8 } },
    bytes_stored: { upper: '2×store + 2 alu + branch', lower: { memory: MILLI / 8 } },
  },
  resources: { issue: 'u74', b: 'u74', memory: 'u74' },
  lineBytes: 64,
  levels: [
    {
      name: 'L1',
      reuseBytesMax: 8192,
      lineUpper: 0,
      lineLower: 0,
      source: 'assumption',
      why: 'a quarter of 32 KiB, see above',
    },
    {
      name: 'L2',
      reuseBytesMax: 524288,
      lineUpper: 36 * MILLI,
      lineLower: 8 * MILLI,
      source: 'assumption',
      why: 'a quarter of 2 MiB; 30 ns a line without overlap; at best 8 bytes a cycle',
    },
    {
      name: 'DRAM',
      reuseBytesMax: 0,
      lineUpper: 240 * MILLI,
      lineLower: 4000,
      source: 'assumption',
      why: '200 ns for row miss, bus and the share of refresh, without overlap; at best 19.2 GB/s, all of DDR4-2400 ×64',
    },
  ],
  home: { fixed: 1, weights: 2, stream: 2, vocabulary: 2, kv: 2, scratch: 1, plan: 2, io: 2 },
  cacheBytes: 2_097_152 + 32_768,
  block: {
    name: 'NVMe',
    setupCyclesUpper: 600_000,
    setupCyclesLower: 12_000,
    byteUpper: 6000,
    byteLower: 304,
    source: 'unmatched',
    why: 'upper: 500 µs and 200 MB/s, assumed of any drive; lower: the link, 3.94 GB/s, and 10 µs',
  },
  overhead: {
    recordCycles: 3000,
    syscallCycles: 1200,
    switchCycles: 2400,
    auditRecordCycles: 600_000,
    auditCheckpointCycles: 800_000,
    source: 'assumption',
    why: 'as on the Cortex-A72, with twice the cycles for an instruction',
  },
  assumptions: [
    'instruction fetch does not miss within an op: its loops are far smaller than 32 KiB; 4 KiB of code from L2 are in the overhead of a record',
    'what is reused is taken to survive the stream of weights, whatever the replacement, being a quarter of a cache at most',
    'no other core or interrupt disturbs; a line that the block device brings meanwhile holds memory up for its time at the peak rate; no TLB misses (one 8 MiB mapping)',
    'the arena is mapped at address 0: an i32 address is a pointer; values lie at multiples of their size, v128 at multiples of 2, in the float kernels of 4',
    'scalar locals live in registers, v128 ones in the first-level cache; every conditional branch may be mispredicted',
    'a NaN or saturated lane takes the slow way of its sequence, and every lane may',
    'a load meets its data in the store pipeline once an operand: while it waits, the stores behind it drain',
  ],
  calibration: '',
});

// ── Cortex-M7 with scratchpad ────────────────────────────────────────────────────────────────────────────────────────────────────

/** Lower prices: two instructions a cycle, one multiply-accumulate, one FPU instruction. */
const m7 = (instructions: number, mac = 0, fpu = 0): Record<string, number> => ({
  issue: (instructions * MILLI) / 2,
  mac: mac * MILLI,
  fpu: fpu * MILLI,
});

const CORTEX_M7 = makeTarget({
  name: 'cortex-m7',
  title: 'Arm Cortex-M7 at 480 MHz, tightly coupled memory and 8 MiB of scratchpad, no caches',
  hz: 480_000_000,
  kind: 'model',
  llvm: { triple: 'thumbv7em', cpu: 'cortex-m7' },
  instructions: {
    alu: llvm(1, 'add.w r0, r1, r2'),
    mul: llvm(2, 'mla r0, r1, r2, r3'),
    div: assume(20, 'two bits a cycle, 32 bits, and set-up; LLVM has 7'),
    branch: llvm(2, 'b.w 0'),
    flush: { latency: 6, source: 'llvm', what: 'mispredicted forward branch, ARMScheduleM7' },
    redirect: assume(3, 'a jump is found at decode, half-way down a pipeline of six stages'),
    load: llvm(3, 'ldrh r0, [r1]'),
    store: llvm(3, 'str r0, [r1]'),
    fadd: llvm(4, 'vadd.f64 d0, d1, d2'),
    fadd_s: llvm(3, 'vadd.f32 s0, s1, s2'),
    fmul: llvm(7, 'vmul.f64 d0, d1, d2'),
    fmul_s: llvm(3, 'vmul.f32 s0, s1, s2'),
    fma_s: llvm(6, 'vfma.f32 s0, s1, s2'),
    fdiv: llvm(30, 'vdiv.f64 d0, d1, d2'),
    fdiv_s: llvm(16, 'vdiv.f32 s0, s1, s2'),
    fsqrt: llvm(30, 'vsqrt.f64 d0, d1'),
    fsqrt_s: llvm(16, 'vsqrt.f32 s0, s1'),
    fmove: llvm(3, 'vmaxnm.f32 s0, s1, s2'),
    fconvert: llvm(4, 'vcvt.f32.f64 s0, d1'),
  },
  lowerings: {
    local: { upper: 'load' }, // thirteen registers: locals live on the stack, in tightly coupled memory
    const: { upper: 'alu' },
    const_pool: { upper: '2 alu + 4×load + 4×store' }, // a v128 into its slot
    branch: { upper: '2 alu + branch + flush', lower: m7(0.5) },
    jump: { upper: 'branch + redirect' },
    call: { upper: '3 branch + 2 flush + 2 alu + 24 store + 24 load', lower: m7(0) },
    select: { upper: '2 alu + branch + flush + 4×load + 4×store', lower: m7(0.5) },
    int: { upper: '6 alu', lower: m7(0) }, // 64 bits in two registers, shifts by constants
    int_bits: { upper: '2 alu', lower: m7(0) }, // rbit and clz
    int_mul: { upper: '3 mul', lower: m7(0.5, 0.5) },
    int_div: { upper: 'div + mul + 3 alu + 2 branch + 2 flush', lower: m7(0.5) }, // the kernels divide no 64-bit integers
    float: { upper: 'fadd + 2 alu', lower: m7(0.5, 0, 0.5) }, // vcmp, vmrs, it, mov take as long
    float_minmax: { upper: 'fadd + 2 fmove + 2 alu + branch + flush', lower: m7(0.5, 0, 0.5) },
    float_mul: { upper: 'fmul', lower: m7(1, 0, 1) },
    float_div: { upper: 'fdiv', lower: m7(1, 0, 1) },
    float_sqrt: { upper: 'fsqrt', lower: m7(1, 0, 1) },
    convert: { upper: '2 fconvert', lower: m7(0) }, // a move between the sides and a conversion
    round: { upper: '2 fconvert + 24 alu + 4 branch + 4 flush', lower: m7(0) }, // f64 to i64 in software
    load: { upper: 'alu + 2×load', lower: m7(0) },
    store: { upper: 'alu + 2×store', lower: m7(0) },
    v_int: { upper: '2 6×load + 12 alu + 2 2×store', lower: m7(0) }, // three operands of bitselect, two words at a time
    v_int_mul: { upper: '8×load + 4×mul + 4×store', lower: m7(4, 4) }, // smuad of halfword pairs
    v_int_mul32: { upper: '8×load + 4×mul + 4×store', lower: m7(4, 4) },
    v_dot8: { upper: '4 2×load + 4 4×alu + 8 2×mul + 4 alu + 4 store', lower: m7(8, 8) }, // sxtb16, smulbb, smlabb, smultt, smlatt, pkhbt
    v_float: { upper: '8×load + 4×fadd_s + 12 alu + 4×store', lower: m7(4, 0, 4) }, // four of vcmp, vmrs, it, mov
    v_float_minmax: {
      upper: '8×load + 4 fadd_s + 4 fmove + 8 alu + 4 branch + 4 flush + 4×store',
      lower: m7(4, 0, 4),
    },
    v_float_mul: { upper: '8×load + 4×fmul_s + 4×store', lower: m7(4, 0, 4) },
    v_float_madd: { upper: '12×load + 4×fma_s + 4×store', lower: m7(4, 0, 4) },
    v_float_div: { upper: '8×load + 4 fdiv_s + 4×store', lower: m7(4, 0, 4) },
    v_float_sqrt: { upper: '4×load + 4 fsqrt_s + 4×store', lower: m7(4, 0, 4) },
    v_convert: { upper: '4×load + 4×fconvert + 4×store', lower: m7(4, 0, 4) },
    v_widen: { upper: '2×load + 2×fconvert + 4×store', lower: m7(2, 0, 2) },
    v_round: { upper: '4×load + 4×fconvert + 4×store', lower: m7(2, 0, 2) },
    v_shuffle: { upper: '2 8×load + 2 8×store', lower: m7(0) },
    v_bitmask: { upper: '2 8×load + 48 alu', lower: m7(0) },
    v_splat: { upper: '3 alu + 4×store', lower: m7(0) },
    v_extract: { upper: 'load', lower: m7(0) },
    v_narrow: { upper: '8×load + 20 alu + 4×store', lower: m7(0) }, // ssat, ssat16, pkhbt
    v_load: { upper: 'alu + 8×load + 8×store', lower: m7(0) }, // by halfwords: blocks are not aligned
    v_load_splat: { upper: 'alu + 4×load + 4×store', lower: m7(0) },
    v_store: { upper: 'alu + 4×load + 4×store', lower: m7(0) },
    bulk: { upper: '3 branch + 2 flush + 30 alu + 15 load + 15 store + 15 branch', lower: m7(0) },
    bytes_loaded: { upper: '4×load', lower: { load: MILLI / 8 } },
    bytes_stored: { upper: '4×store + 2 alu + branch', lower: { store: MILLI / 8 } },
  },
  resources: { issue: 'm7', mac: 'm7', fpu: 'm7', load: 'm7', store: 'm7' },
  lineBytes: 8,
  levels: [
    {
      name: 'TCM',
      reuseBytesMax: 0,
      lineUpper: 0,
      lineLower: 0,
      source: 'definition',
      why: 'no wait states: its time is the load’s own',
    },
    {
      name: 'scratchpad',
      reuseBytesMax: 0,
      lineUpper: 12 * MILLI,
      lineLower: MILLI,
      source: 'definition',
      why: '8 MiB of static RAM behind a 64-bit bus, twelve cycles for each access, no cache; at best a burst of one beat a cycle',
    },
  ],
  home: { fixed: 0, weights: 1, stream: 1, vocabulary: 1, kv: 1, scratch: 0, plan: 1, io: 1 },
  cacheBytes: 0,
  block: {
    name: 'octal flash',
    setupCyclesUpper: 9600,
    setupCyclesLower: 480,
    byteUpper: 4800,
    byteLower: 2400,
    source: 'definition',
    why: 'eight data lines at 100 MHz, both edges: 200 MB/s at best; upper: half of it and 20 µs',
  },
  overhead: {
    recordCycles: 600,
    syscallCycles: 1200,
    switchCycles: 2400,
    auditRecordCycles: 600_000,
    auditCheckpointCycles: 800_000,
    source: 'assumption',
    why: 'as on the Cortex-A72, twice the cycles for an instruction, code in tightly coupled memory',
  },
  assumptions: [
    'code and stack lie in tightly coupled memory without wait states; no interrupt disturbs; a word that the block device brings meanwhile holds the scratchpad up for its time at the peak rate; every conditional branch may be mispredicted',
    'the arena is mapped at address 0; values lie at multiples of their size, v128 at multiples of 2, in the float kernels of 4',
    'the fixed part and scratch fit into tightly coupled memory (this machine has enough of it), the model into the scratchpad',
    'the core has the double-precision FPU (FPv5-D16); i64 and v128 values are pairs and fours of words in memory',
  ],
  calibration: '',
});

// ── Host ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * What the host's time is made of, few enough for some hundred measured steps to settle: thousandths of a cycle for an instruction on one
 * number, on the lanes of a vector, for their rearrangement, a vector of integer products, one of float arithmetic, one of products added up,
 * a vector loaded or stored, and a byte of the KV cache that the first-level cache has not kept.
 */
export const HOST_PRICES = [
  'scalar',
  'vector',
  'shuffle',
  'product',
  'float',
  'multiply_add',
  'access',
  'byte',
] as const;
export type HostPrice = (typeof HOST_PRICES)[number];

/** How often a class pays which of them. Divisions, roots and calls count for several; registers and bytes that are near are free. */
const HOST_UNITS: Readonly<Record<InstructionClass, readonly [price: HostPrice, times: number]>> = {
  local: ['scalar', 0],
  const: ['scalar', 1],
  const_pool: ['scalar', 1],
  branch: ['scalar', 1],
  jump: ['scalar', 1],
  call: ['scalar', 8],
  select: ['scalar', 1],
  int: ['scalar', 1],
  int_bits: ['scalar', 1],
  int_mul: ['scalar', 1],
  int_div: ['scalar', 8],
  float: ['scalar', 1],
  float_minmax: ['scalar', 1],
  float_mul: ['scalar', 1],
  float_div: ['scalar', 8],
  float_sqrt: ['scalar', 8],
  convert: ['scalar', 1],
  round: ['scalar', 1],
  load: ['scalar', 1],
  store: ['scalar', 1],
  v_int: ['vector', 1],
  v_int_mul: ['product', 1],
  v_int_mul32: ['product', 1],
  v_dot8: ['product', 1],
  v_float: ['float', 1],
  v_float_minmax: ['float', 1],
  v_float_mul: ['float', 1],
  v_float_madd: ['multiply_add', 1],
  v_float_div: ['float', 8],
  v_float_sqrt: ['float', 8],
  v_convert: ['vector', 1],
  v_widen: ['vector', 1],
  v_round: ['vector', 1],
  v_shuffle: ['shuffle', 1],
  v_bitmask: ['shuffle', 1],
  v_splat: ['shuffle', 1],
  v_extract: ['shuffle', 1],
  v_narrow: ['shuffle', 1],
  v_load: ['access', 1],
  v_load_splat: ['access', 1],
  v_store: ['access', 1],
  bulk: ['scalar', 64],
  bytes_loaded: ['scalar', 0],
  bytes_stored: ['scalar', 0],
};

/** What `npm run bench -- --calibrate` measures: an input like any other, known by its digest. */
export interface Calibration {
  readonly digest: string;
  readonly cpu: string;
  readonly hz: number;
  readonly prices: Readonly<Record<HostPrice, number>>;
  /** Largest relative error among the measured steps, in thousandths. */
  readonly errorMilli: number;
}

const isPrice = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0 && (n as number) <= 1e9;

const wrong = (what: string): Refusal => refuse('INVAL', 0, what);

/** Reads a calibration's JSON; `digest` is the SHA-256 of the text. */
export function parseCalibration(text: string, digest: string): Calibration | Refusal {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return wrong('not JSON');
  }
  const fields = Object(value) as Readonly<Record<string, unknown>>;
  const prices = Object(fields['prices']) as Readonly<Record<string, unknown>>;
  const { cpu, hz, errorMilli } = fields;
  if (typeof cpu !== 'string' || !/^[ -~]{1,64}$/.test(cpu))
    return wrong('cpu is not a name of 1 to 64 ASCII characters');
  if (!Number.isSafeInteger(hz) || (hz as number) < 1e6 || (hz as number) > 1e11)
    return wrong(`hz ${String(hz)} is not 10⁶ … 10¹¹`);
  if (!isPrice(errorMilli)) return wrong(`errorMilli ${String(errorMilli)} is not 0 … 10⁹`);
  for (const name of HOST_PRICES)
    if (!isPrice(prices[name])) return wrong(`price of ${name}: ${String(prices[name])} is not 0 … 10⁹`);
  return { digest, cpu, hz: hz as number, prices: prices as Calibration['prices'], errorMilli };
}

/** Proportions that a fit begins with, about those found on an AMD EPYC. Twenty scalar instructions a cycle: most vanish in compilation. */
export const HOST_PRIOR: Calibration['prices'] = {
  scalar: 50,
  vector: 100,
  shuffle: 250,
  product: 250,
  float: 250,
  multiply_add: 500,
  access: 250,
  byte: 30,
};

/** Stands in until somebody calibrates. It promises nothing. */
const UNCALIBRATED: Calibration = {
  digest: '',
  cpu: 'not calibrated',
  hz: 3_000_000_000,
  prices: HOST_PRIOR,
  errorMilli: MILLI,
};

/** The host as a target: the clock shows what the fit predicts, and the lower prices are less by its largest error. Neither bounds anything. */
export function hostTarget(c: Calibration = UNCALIBRATED): Target {
  const low = Math.max(0, MILLI - c.errorMilli);
  const calibrated = c.digest !== '';
  const upper = CLASSES.map(cls => c.prices[HOST_UNITS[cls][0]] * HOST_UNITS[cls][1]);
  const level = {
    lineLower: 0,
    source: calibrated ? 'fit' : 'assumption',
    why: calibrated ? `fit on ${c.cpu}` : 'placeholder until calibrated',
  } as const;
  return {
    name: 'host',
    title: `This host, ${c.cpu}: a fit${calibrated ? `, ±${c.errorMilli / 10} %` : ''}, not a bound`,
    hz: c.hz,
    kind: 'fit',
    llvm: null,
    instructions: {},
    lowerings: Object.fromEntries(CLASSES.map(cls => [cls, { upper: '' }])) as Record<InstructionClass, Lowering>,
    resources: { all: level.source },
    upper,
    lower: [{ resource: 'all', prices: upper.map(milli => Math.floor((milli * low) / MILLI)) }],
    lineBytes: 1, // a price by the byte
    levels: [
      { ...level, name: 'near', reuseBytesMax: 32768, lineUpper: 0 },
      { ...level, name: 'KV cache', reuseBytesMax: 0, lineUpper: c.prices.byte },
    ],
    home: { fixed: 0, weights: 0, stream: 0, vocabulary: 0, kv: 1, scratch: 0, plan: 0, io: 0 }, // weights come in order, before they are asked for
    cacheBytes: 8_388_608,
    block: {
      name: 'page cache',
      setupCyclesUpper: 60_000,
      setupCyclesLower: 3000,
      byteUpper: 1000,
      byteLower: 100,
      source: 'assumption',
      why: 'reads of a file that is in memory; no bound',
    },
    overhead: {
      recordCycles: 0,
      syscallCycles: 600,
      switchCycles: 1200,
      auditRecordCycles: 60_000,
      auditCheckpointCycles: 150_000,
      source: 'assumption',
      why: 'a record: nothing beside the executor’s instructions; the others: orders of magnitude; no bound',
    },
    assumptions: ['figures are a regression over whole steps on one machine and bound nothing'],
    calibration: c.digest,
  };
}

export const TARGETS: readonly Target[] = [CORTEX_A72, SIFIVE_U74, CORTEX_M7, hostTarget()];
export const TARGET_DEFAULT = 'cortex-a72';

export function findTarget(name: string): Target | undefined {
  return TARGETS.find(target => target.name === name);
}
