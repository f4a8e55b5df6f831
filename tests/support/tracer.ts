// The witness of footprints and memory prices: rewrites a module so that it writes down, while it runs, every access to memory, and plays a
// trace to a hierarchy of caches that replace the least recently used line. Nothing here knows what certificates say.

import { I64, rewriteModule, sized, unsigned, withLocals } from '../../kernel/wcet/encode.ts';
import { I32, OP, decodeModule } from '../../kernel/wcet/wasm.ts';
import type { FunctionBody, Instruction, Module } from '../../kernel/wcet/wasm.ts';

const [F32, F64, V128] = [0x7d, 0x7c, 0x7b];

const ARENA_PAGES = 128;
const TRACE_PAGES = 1024; // 64 MiB: 8 million accesses
const TRACE_AT = ARENA_PAGES * 65536;
const ENTRY_BYTES = 8; // address, then bytes; bit 31: a store
const STORE = 0x80000000;

export interface TracedAccess {
  readonly at: number;
  readonly bytes: number;
  readonly store: boolean;
}

type Exports = Record<string, (...args: number[]) => number>;

export class Tracer {
  readonly u8: Uint8Array;
  readonly #exports: Exports;
  readonly #words: Uint32Array;
  readonly #top: WebAssembly.Global;

  constructor(bytes: Uint8Array) {
    const pages = ARENA_PAGES + TRACE_PAGES;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.#top = new WebAssembly.Global({ value: 'i32', mutable: true }, TRACE_AT);
    const traced = trace(bytes, decodeModule(bytes), pages);
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(traced)), { env: { memory } });
    this.#exports = exports as Exports;
    this.#top = exports['trace:top'] as unknown as WebAssembly.Global;
    this.u8 = new Uint8Array(memory.buffer, 0, TRACE_AT);
    this.#words = new Uint32Array(memory.buffer);
  }

  /** Runs a function; its accesses in the order in which they happened. */
  run(name: string, args: readonly number[]): TracedAccess[] {
    this.#top.value = TRACE_AT;
    this.#exports[name]!(...args);
    const end = (this.#top.value as number) >> 2;
    const list: TracedAccess[] = [];
    for (let i = TRACE_AT >> 2; i < end; i += ENTRY_BYTES >> 2) {
      const size = this.#words[i + 1]!;
      list.push({ at: this.#words[i]!, bytes: size & 0x7fffffff, store: size >= STORE });
    }
    return list;
  }
}

function trace(bytes: Uint8Array, module: Module, pages: number): Uint8Array {
  const top = module.globals;
  const name = [...'trace:top'].map(c => c.charCodeAt(0));
  const traced = rewriteModule(bytes, module, (id, old) => {
    const with1 = (added: readonly number[]): { count: number; bytes: number[] } => ({
      count: old.count + 1,
      bytes: [...old.bytes, ...added],
    });
    if (id === 2) {
      // The one import, the memory, may be larger: its last numbers are the least and the most pages.
      const head = [...old.bytes].slice(0, old.bytes.length - unsigned(ARENA_PAGES).length);
      return { count: old.count, bytes: [...head, ...unsigned(pages)] };
    }
    if (id === 6) return with1([I32, 1, OP.i32_const, 0, OP.end]);
    if (id === 7) return with1([name.length, ...name, 3, ...unsigned(top)]);
    if (id === 10) return { count: old.count, bytes: module.bodies.flatMap(b => sized(tracing(bytes, b, top))) };
    return null;
  });
  return traced;
}

const VALUE_TYPES: Record<string, number> = { i32: I32, i64: I64, f32: F32, f64: F64, v128: V128 };
const [I32_ADD, I32_OR, I32_STORE] = [0x6a, 0x72, 0x36];

const get = (local: readonly number[] = []): number[] => [OP.local_get, ...local];
const set = (local: readonly number[] = []): number[] => [OP.local_set, ...local];
const constant = (n: number): number[] => [OP.i32_const, ...signed32(n)];

function tracing(bytes: Uint8Array, body: FunctionBody, top: number): number[] {
  const first = body.type.params.length + body.locals.length;
  const values = Object.values(VALUE_TYPES);
  const [address, length, source] = [0, 1, 2].map(n => unsigned(first + values.length + n));
  const out = withLocals(bytes, body.localsAt, body.codeAt, [...values, I32, I32, I32]);
  const topGet = [OP.global_get, ...unsigned(top)];
  const log = (at: readonly number[], size: readonly number[]): void => {
    out.push(...topGet, ...at, I32_STORE, 2, 0);
    out.push(...topGet, ...size, I32_STORE, 2, 4);
    out.push(...topGet, ...constant(ENTRY_BYTES), I32_ADD, OP.global_set, ...unsigned(top));
  };
  const before = (ins: Instruction): void => {
    const { opcode } = ins;
    if (opcode.code === OP.memory_copy || opcode.code === OP.memory_fill) {
      out.push(...set(length), ...set(source), ...set(address));
      if (opcode.code === OP.memory_copy) log(get(source), get(length));
      log(get(address), [...get(length), ...constant(STORE | 0), I32_OR]);
      out.push(...get(address), ...get(source), ...get(length));
      return;
    }
    if (opcode.bytes === 0) return;
    const type = opcode.name.split('.')[0] ?? '';
    const value = unsigned(first + values.indexOf(VALUE_TYPES[type] ?? I32));
    const store = opcode.name.includes('.store');
    if (opcode.pops === 2) out.push(...set(value));
    out.push(...set(address));
    log([...get(address), ...constant(ins.value), I32_ADD], constant(opcode.bytes | (store ? STORE : 0)));
    out.push(...get(address));
    if (opcode.pops === 2) out.push(...get(value));
  };
  for (const ins of body.code) {
    before(ins);
    for (let at = ins.at; at < ins.end; at++) out.push(bytes[at] ?? 0);
  }
  return out;
}

/** Signed LEB128 of an i32. */
function signed32(value: number): number[] {
  const out: number[] = [];
  for (let v = value | 0; ; v >>= 7) {
    const byte = v & 127;
    const done = (v >> 7 === 0 && byte < 64) || (v >> 7 === -1 && byte >= 64);
    out.push(done ? byte : byte | 128);
    if (done) return out;
  }
}

/** A cache of whole lines that replaces the least recently used one. */
export class Cache {
  readonly #lines = new Map<number, true>();
  readonly #capacity: number;
  constructor(bytes: number, lineBytes: number) {
    this.#capacity = Math.floor(bytes / lineBytes);
  }
  /** Whether the line was there; now it is. */
  touch(line: number): boolean {
    const hit = this.#lines.delete(line);
    this.#lines.set(line, true);
    if (this.#lines.size > this.#capacity) for (const [oldest] of this.#lines) return (this.#lines.delete(oldest), hit);
    return hit;
  }
}
