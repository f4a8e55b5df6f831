// The witness of certificates: rewrites a module so that it counts, while it runs, every class of instruction and every byte moved. One
// exported i64 global per class; each straight-line stretch begins by adding what it is about to execute. The rewritten module computes the
// same results: nothing but the counters is added.

import { CLASSES, OP, classIndex } from './wasm.ts';
import type { FunctionBody, Module } from './wasm.ts';

/** The name under which an instrumented module exports the counter of a class. */
export const counterName = (cls: string): string => `count:${cls}`;

/** Instructions after which control may go elsewhere, or to which it may come. */
const ENDS_STRETCH: ReadonlySet<number> = new Set([
  OP.unreachable,
  OP.loop,
  OP.if,
  OP.else,
  OP.end,
  OP.br,
  OP.br_if,
  OP.br_table,
  OP.return,
]);

const LOADED = classIndex('bytes_loaded');
const STORED = classIndex('bytes_stored');
const I64 = 0x7e;

export function instrument(bytes: Uint8Array, module: Module): Uint8Array {
  const out: number[] = [...bytes.subarray(0, 8)];
  let written = false;
  const globals = (before: readonly number[], count: number): void => {
    const added = CLASSES.flatMap(() => [I64, 1, OP.i64_const, 0, OP.end]);
    section(out, 6, [...unsigned(count + CLASSES.length), ...before, ...added]);
    written = true;
  };
  for (const s of module.sections) {
    if (!written && s.id > 6) globals([], 0);
    const content = bytes.subarray(s.contentAt, s.end);
    if (s.id === 6) {
      const { value, length } = readUnsigned(content);
      globals([...content.subarray(length)], value);
    } else if (s.id === 7) {
      const { value, length } = readUnsigned(content);
      const counters = CLASSES.flatMap((cls, i) => [...string(counterName(cls)), 3, ...unsigned(module.globals + i)]);
      section(out, 7, [...unsigned(value + CLASSES.length), ...content.subarray(length), ...counters]);
    } else if (s.id === 10) {
      const bodies = module.bodies.flatMap(b => {
        const body = counting(bytes, b, module.globals);
        return [...unsigned(body.length), ...body];
      });
      section(out, 10, [...unsigned(module.bodies.length), ...bodies]);
    } else section(out, s.id, [...content]);
  }
  return Uint8Array.from(out);
}

/** One function's body with its counters. */
function counting(bytes: Uint8Array, body: FunctionBody, firstCounter: number): number[] {
  const declared = readUnsigned(bytes.subarray(body.localsAt));
  const scratch = body.type.params.length + body.locals.length; // i32: the length of memory.copy and memory.fill
  const out = [
    ...unsigned(declared.value + 1),
    ...bytes.subarray(body.localsAt + declared.length, body.codeAt),
    1,
    0x7f,
  ];
  const add = (cls: number, amount: readonly number[]): void => {
    const counter = unsigned(firstCounter + cls);
    out.push(OP.global_get, ...counter, ...amount, OP.i64_add, OP.global_set, ...counter);
  };
  for (let i = 0; i < body.code.length;) {
    const first = i;
    const counts = new Map<number, number>();
    const count = (cls: number, n: number): void => void counts.set(cls, (counts.get(cls) ?? 0) + n);
    for (let open = true; open && i < body.code.length; i++) {
      const opcode = body.code[i]?.opcode;
      if (opcode === undefined) break;
      if (opcode.cls >= 0) count(opcode.cls, 1);
      if (opcode.bytes > 0) count(opcode.name.includes('.store') ? STORED : LOADED, opcode.bytes);
      open = !ENDS_STRETCH.has(opcode.code);
    }
    for (const [cls, n] of counts) add(cls, [OP.i64_const, ...signed(n)]);
    for (const ins of body.code.slice(first, i)) {
      const { code } = ins.opcode;
      if (code === OP.memory_copy || code === OP.memory_fill) {
        const amount = [OP.local_get, ...unsigned(scratch), OP.i64_extend_i32_u];
        out.push(OP.local_set, ...unsigned(scratch));
        add(STORED, amount);
        if (code === OP.memory_copy) add(LOADED, amount);
        out.push(OP.local_get, ...unsigned(scratch));
      }
      for (let at = ins.at; at < ins.end; at++) out.push(bytes[at] ?? 0);
    }
  }
  return out;
}

// ── LEB128 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function unsigned(value: number): number[] {
  const out: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) + 128);
  return [...out, value];
}
function signed(value: number): number[] {
  const out: number[] = [];
  for (; value > 63; value = Math.floor(value / 128)) out.push((value % 128) + 128);
  return [...out, value];
}
function readUnsigned(bytes: Uint8Array): { value: number; length: number } {
  let value = 0;
  let length = 0;
  for (let scale = 1; ; scale *= 128) {
    const b = bytes[length++] ?? 0;
    value += (b & 127) * scale;
    if (b < 128) return { value, length };
  }
}
const string = (s: string): number[] => [...unsigned(s.length), ...Array.from(s, c => c.charCodeAt(0))]; // ASCII
function section(out: number[], id: number, content: readonly number[]): void {
  out.push(id, ...unsigned(content.length));
  for (const b of content) out.push(b);
}
