// A tiny assembler: functions of i32 written as words of the text format, in stack order, to one module that imports its memory. Enough to
// build modules that try to fool the certifier. Blocks have no result unless written `if:i32` or `block:i32`; immediates follow a colon:
// `i32.const:7 local.get:0 i32.load:4 br_if:1 br_table:0,1,2 call:1`.

import { OPCODES } from '../../kernel/wcet/wasm.ts';

export interface FunctionText {
  readonly name: string;
  readonly params: number;
  readonly result?: boolean;
  readonly locals?: number;
  readonly body: string;
}

const codeOf = new Map([...OPCODES.values()].map(o => [o.name, o]));
const I32 = 0x7f;
const MAGIC = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const CONSTANT_BYTES: Record<string, number> = {
  'f32.const': 4,
  'f64.const': 8,
  'v128.const': 16,
  'i8x16.shuffle': 16,
};

function unsigned(value: number): number[] {
  const out: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  return [...out, value];
}
function signed(value: number): number[] {
  const out: number[] = [];
  for (; value < -64 || value > 63; value >>= 7) out.push((value & 127) | 128);
  return [...out, value & 127];
}
const vector = (items: readonly (readonly number[])[]): number[] => [...unsigned(items.length), ...items.flat()];
const string = (s: string): number[] => vector([...Buffer.from(s)].map(b => [b]));
const section = (id: number, content: readonly number[]): number[] => [id, ...unsigned(content.length), ...content];

function instruction(word: string): number[] {
  const [name = '', immediate = ''] = word.split(':');
  const opcode = codeOf.get(name);
  if (opcode === undefined) throw new Error(`no instruction ${word}`);
  const op = opcode.code > 0xff ? [opcode.code >> 16, ...unsigned(opcode.code & 0xffff)] : [opcode.code];
  if (name === 'block' || name === 'loop' || name === 'if') return [...op, immediate === 'i32' ? I32 : 0x40];
  if (name === 'br_table') {
    const labels = immediate.split(',').map(Number);
    return [...op, ...vector(labels.slice(0, -1).map(unsigned)), ...unsigned(labels.at(-1)!)];
  }
  if (name === 'call_indirect') return [...op, 0, 0];
  if (name === 'memory.fill') return [...op, 0];
  if (name === 'memory.copy') return [...op, 0, 0];
  if (name === 'i32.const') return [...op, ...signed(Number(immediate))];
  const rest = CONSTANT_BYTES[name] ?? (/_lane(_[su])?$/.test(name) || /^memory\.(size|grow)$/.test(name) ? 1 : 0);
  const zeros = Array.from({ length: rest }, () => 0);
  if (opcode.bytes > 0) return [...op, 0, ...unsigned(Number(immediate)), ...zeros];
  if (rest > 0 || name === 'i64.const') return [...op, ...(rest > 0 ? zeros : [0])];
  return immediate === '' ? op : [...op, ...unsigned(Number(immediate))];
}

export function assemble(functions: readonly FunctionText[], table = false): Uint8Array {
  const type = (f: FunctionText): number[] => [
    0x60,
    ...vector(Array.from({ length: f.params }, () => [I32])),
    ...vector(f.result ? [[I32]] : []),
  ];
  const body = (f: FunctionText): number[] => {
    const words = f.body.split(/\s+/).filter(w => w !== '');
    const code = [...vector(f.locals ? [[...unsigned(f.locals), I32]] : []), ...words.flatMap(instruction), 0x0b];
    return [...unsigned(code.length), ...code];
  };
  return Uint8Array.from([
    ...MAGIC,
    ...section(1, vector(functions.map(type))),
    ...section(2, vector([[...string('env'), ...string('memory'), 2, 0, 1]])),
    ...section(3, vector(functions.map((_, i) => unsigned(i)))),
    ...(table ? section(4, vector([[0x70, 0, 1]])) : []),
    ...section(7, vector(functions.map((f, i) => [...string(f.name), 0, ...unsigned(i)]))),
    ...section(10, vector(functions.map(body))),
  ]);
}
