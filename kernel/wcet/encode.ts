// Writing WebAssembly: the integers and sections of a module, for those who rewrite one. Layout: WebAssembly core specification 3.0,
// chapter 5. The decoder is wasm.ts.

import { OP } from './wasm.ts';
import type { Module } from './wasm.ts';

export const I64 = 0x7e;

/** Unsigned LEB128. */
export function unsigned(value: number): number[] {
  const out: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) + 128);
  return [...out, value];
}

/** Signed LEB128 of an integer that is at least 0. */
export function signed(value: number): number[] {
  const out: number[] = [];
  for (; value > 63; value = Math.floor(value / 128)) out.push((value % 128) + 128);
  return [...out, value];
}

/** The unsigned LEB128 that `bytes` begin with. */
export function readUnsigned(bytes: Uint8Array): { value: number; length: number } {
  let value = 0;
  let length = 0;
  for (let scale = 1; ; scale *= 128) {
    const b = bytes[length++] ?? 0;
    value += (b & 127) * scale;
    if (b < 128) return { value, length };
  }
}

/** A name: its length, then ASCII. */
export const string = (s: string): number[] => [...unsigned(s.length), ...Array.from(s, c => c.charCodeAt(0))];

/** A section without its entries' count, which it begins with. */
export interface Entries {
  readonly count: number;
  readonly bytes: Uint8Array;
}

/** Sections that a rewrite replaces, by id: the new entries, encoded, and their number. */
export type Rewrite = (
  id: number,
  old: Entries,
) => { readonly count: number; readonly bytes: readonly number[] } | null;

const NONE: Entries = { count: 0, bytes: new Uint8Array(0) };
const GLOBALS = 6;

/** The module with some of its sections of entries replaced. A module without globals is asked for them too, in their place. */
export function rewriteModule(bytes: Uint8Array, module: Module, rewrite: Rewrite): Uint8Array {
  const out: number[] = [...bytes.subarray(0, 8)];
  const put = (id: number, content: Uint8Array | readonly number[]): void => {
    out.push(id, ...unsigned(content.length));
    for (const b of content) out.push(b);
  };
  const replaced = (id: number, old: Entries): boolean => {
    const entries = rewrite(id, old);
    if (entries !== null) put(id, [...unsigned(entries.count), ...entries.bytes]);
    return entries !== null;
  };
  let globalsSeen = false;
  for (const s of module.sections) {
    if (!globalsSeen && s.id > GLOBALS) replaced(GLOBALS, NONE);
    globalsSeen ||= s.id >= GLOBALS;
    const content = bytes.subarray(s.contentAt, s.end);
    const { value: count, length } = readUnsigned(content);
    if (s.id === 0 || !replaced(s.id, { count, bytes: content.subarray(length) })) put(s.id, content);
  }
  return Uint8Array.from(out);
}

/** A function's locals with more behind them: the declarations, encoded. `types`: value types of the locals to add. */
export function withLocals(bytes: Uint8Array, localsAt: number, codeAt: number, types: readonly number[]): number[] {
  const declared = readUnsigned(bytes.subarray(localsAt));
  const added = types.flatMap(type => [1, type]);
  return [...unsigned(declared.value + types.length), ...bytes.subarray(localsAt + declared.length, codeAt), ...added];
}

/** An entry of the code section. */
export const sized = (body: readonly number[]): number[] => [...unsigned(body.length), ...body];

/** global += amount, where `amount` leaves an i64. */
export const addToGlobal = (global: number, amount: readonly number[]): number[] => [
  OP.global_get,
  ...unsigned(global),
  ...amount,
  OP.i64_add,
  OP.global_set,
  ...unsigned(global),
];
