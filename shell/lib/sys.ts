// The system-call stubs, derived from the table in kernel/abi: the C library's lowest layer. A stub lays its arguments out in the window,
// traps, copies results back, and yields when the kernel says BLOCKED or that the quantum is used up. The memory that arguments lie in is the
// process's own, and every call begins at its beginning: a stub that was blocked lays everything out again.

import { BLOCKED, E, SYSCALLS, utf8Length, utf8Write } from '../../kernel/abi/index.ts';
import type { CallName, CallSpec, Entry, Gate, Sys } from '../../kernel/abi/index.ts';

/** Calls whose result says how many bytes of their `out` argument were written; the others fill a whole record. */
const countsBytes: ReadonlySet<string> = new Set<CallName>([
  'read',
  'readdir',
  'readline',
  'getcwd',
  'readlink',
  'getgroups',
  'model_ops',
  'detokenize',
  'session_read',
  'session_tokens',
  'attest',
]);

type Value = number | string | Uint8Array | Entry;

/** The typed calls of one process. An `out` buffer larger than the window is filled as far as the window reaches, as is one given to `write`. */
export function makeSys(gate: Gate): Sys {
  const stubs: Record<string, (...values: Value[]) => Generator<void, number, void>> = {};
  for (const [name, spec] of Object.entries<CallSpec>(SYSCALLS)) {
    stubs[name] =
      name === 'exit' ? status => leave(gate, Number(status)) : (...values) => invoke(gate, name, spec, values);
  }
  return { ...stubs, signalled: () => gate.signalled() } as unknown as Sys;
}

function* invoke(gate: Gate, name: string, spec: CallSpec, values: readonly Value[]): Generator<void, number, void> {
  for (;;) {
    const result = trap(gate, name, spec, values);
    if (result === BLOCKED) {
      yield;
      continue;
    }
    if (gate.mustYield()) yield;
    return result;
  }
}

/** exit: the kernel ends the process; whatever resumes the program afterwards finds it waiting. */
function* leave(gate: Gate, status: number): Generator<void, number, void> {
  gate.trap(SYSCALLS.exit.nr, status, 0, 0, 0, 0, 0);
  for (;;) yield;
}

function trap(gate: Gate, name: string, spec: CallSpec, values: readonly Value[]): number {
  const { memory, windowAt, windowBytes } = gate;
  const integers: number[] = [];
  let at = 0; // in the memory; calls name it by windowAt + at
  let out: Uint8Array | null = null;
  let outAt = 0;
  for (let i = 0; i < spec.args.length; i++) {
    const value = values[i]!;
    if (typeof value === 'number' || typeof value === 'function') {
      integers.push(typeof value === 'number' ? value : gate.address(value));
      continue;
    }
    const room = windowBytes - at;
    let length: number;
    if (typeof value === 'string') {
      length = utf8Length(value);
      if (length > room) return -E.NAMETOOLONG;
      utf8Write(value, memory, at, length);
    } else if (spec.args[i]![1] === 'out') {
      length = Math.min(value.length, room);
      out = value;
      outAt = at;
    } else {
      length = value.length;
      if (length > room) {
        if (name !== 'write') return -E.TOOBIG;
        length = room;
      }
      memory.set(length === value.length ? value : value.subarray(0, length), at);
    }
    integers.push(windowAt + at, length);
    at += length;
  }
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = integers;
  const result = gate.trap(spec.nr, a, b, c, d, e, f);
  if (out !== null && result >= 0) {
    const bytes = countsBytes.has(name) ? Math.min(result, at - outAt) : at - outAt;
    out.set(memory.subarray(outAt, outAt + bytes));
  }
  return result;
}
