// Two models held against each other: every metadata key and every tensor of either, in the first one's order, then what only the second has.
// The text is made while it is read, a line a key or tensor (DIFF_COLUMNS); values are compared as f32, whatever they are stored as.

import { DIFF_COLUMNS, E, ggmlTypeName, LIMITS, printable, utf8Encode, type ArenaView } from './abi/index.ts';
import { scalarText } from '../vfs/fs-gguf.ts';
import type { GgufImage } from '../vfs/gguf.ts';
import { readBytes, type Handle } from '../vfs/inode.ts';
import { differenceOf, TensorValues, type Decode } from '../vfs/values.ts';

type Row = Partial<Record<(typeof DIFF_COLUMNS)[number], string | number>>;

/** Reads forwards only; a line is computed when it is reached. */
export function comparison(a: GgufImage, b: GgufImage, decode: Decode, arena: ArenaView): Handle {
  const rows = rowsOf(a, b, decode, arena);
  let line: Uint8Array = new Uint8Array(0);
  let lineAt = 0;
  return {
    read: (memory, position, at, length) => {
      if (position < lineAt) return -E.SPIPE;
      while (position >= lineAt + line.length) {
        const next = rows.next();
        if (next.done === true) return 0;
        if (typeof next.value === 'number') return next.value;
        const row = next.value;
        lineAt += line.length;
        line = utf8Encode(`${DIFF_COLUMNS.map(column => row[column] ?? '').join('\t')}\n`);
      }
      return readBytes(line, memory, position - lineAt, at, length);
    },
    write: () => -E.BADF,
  };
}

function* rowsOf(a: GgufImage, b: GgufImage, decode: Decode, arena: ArenaView): Generator<Row | number, void, void> {
  for (const key of new Set([...a.keys, ...b.keys])) {
    const left = metaText(a, key);
    const right = metaText(b, key);
    const equal = metaEqual(a, b, key, arena);
    yield typeof equal === 'number'
      ? equal
      : { what: 'key', name: printable(key), left, right, differing: equal ? 0 : 1 };
  }
  for (const { name } of [...a.tensors, ...b.tensors.filter(t => a.tensor(t.name) === undefined)])
    yield tensorRow(a, b, name, decode, arena);
}

function tensorRow(a: GgufImage, b: GgufImage, name: string, decode: Decode, arena: ArenaView): Row | number {
  const [x, y] = [a.tensor(name), b.tensor(name)];
  const text = (t: typeof x): string => (t === undefined ? '' : `${ggmlTypeName(t.type)} ${t.shape.join('×')}`);
  const row = { what: 'tensor', name: printable(name), left: text(x), right: text(y) };
  if (x === undefined || y === undefined || x.shape.join() !== y.shape.join()) return row;
  const values = new TensorValues(a, x, decode, arena.u8);
  const d = differenceOf(values, new TensorValues(b, y, decode, arena.u8), arena);
  return typeof d === 'number' ? d : { ...row, count: values.count, ...d };
}

/** Whether both have the key, with one type and value; -errno when a file cannot be read. */
function metaEqual(a: GgufImage, b: GgufImage, key: string, arena: ArenaView): boolean | number {
  const [x, y] = [a.meta(key), b.meta(key)];
  if (a.typeOf(key) !== b.typeOf(key)) return false;
  if (typeof x !== 'object' || typeof y !== 'object') return Object.is(x, y);
  if (x.elementType !== y.elementType || x.count !== y.count || x.bytes !== y.bytes) return false;
  const step = LIMITS.dmaBytes / 2;
  for (let at = 0; at < x.bytes; at += step) {
    const n = Math.min(step, x.bytes - at);
    const leftAt = a.dmaAt;
    const rightAt = a.dmaAt + step;
    const got = Math.min(a.read(x.fileAt + at, leftAt, n), b.read(y.fileAt + at, rightAt, n));
    if (got < n) return got < 0 ? got : -E.IO;
    for (let i = 0; i < n; i++) if (arena.u8[leftAt + i] !== arena.u8[rightAt + i]) return false;
  }
  return true;
}

/** A value on a line of its own: `string[512]` for an array, cut when it is long. */
function metaText(image: GgufImage, key: string): string {
  const value = image.meta(key);
  if (value === undefined) return '';
  if (typeof value === 'object') return `${TYPE_NAMES[value.elementType]}[${value.count}]`;
  return printable(scalarText(image.typeOf(key)!, value));
}

/** GGUF's names of its value types, by number. */
const TYPE_NAMES = 'u8 i8 u16 i16 u32 i32 f32 bool string array u64 i64 f64'.split(' ');
