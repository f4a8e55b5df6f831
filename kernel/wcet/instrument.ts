// The witness of certificates: rewrites a module so that it counts, while it runs, every class of instruction and every byte moved. One
// exported i64 global per class; each straight-line stretch begins by adding what it is about to execute. The rewritten module computes the
// same results: nothing but the counters is added.

import { I64, addToGlobal, rewriteModule, signed, sized, string, unsigned, withLocals } from './encode.ts';
import { CLASSES, I32, OP, classIndex } from './wasm.ts';
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

export function instrument(bytes: Uint8Array, module: Module): Uint8Array {
  return rewriteModule(bytes, module, (id, old) => {
    const all = (added: readonly number[]): { count: number; bytes: number[] } => ({
      count: old.count + CLASSES.length,
      bytes: [...old.bytes, ...added],
    });
    if (id === 6) return all(CLASSES.flatMap(() => [I64, 1, OP.i64_const, 0, OP.end]));
    if (id === 7)
      return all(CLASSES.flatMap((cls, i) => [...string(counterName(cls)), 3, ...unsigned(module.globals + i)]));
    if (id === 10)
      return { count: old.count, bytes: module.bodies.flatMap(b => sized(counting(bytes, b, module.globals))) };
    return null;
  });
}

/** One function's body with its counters. */
function counting(bytes: Uint8Array, body: FunctionBody, firstCounter: number): number[] {
  const scratch = body.type.params.length + body.locals.length; // i32: the length of memory.copy and memory.fill
  const out = withLocals(bytes, body.localsAt, body.codeAt, [I32]);
  const add = (cls: number, amount: readonly number[]): void =>
    void out.push(...addToGlobal(firstCounter + cls, amount));
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
