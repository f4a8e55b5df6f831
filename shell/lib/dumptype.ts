// The types of od -t: how many bytes make one number, how wide it prints, and its text.

export interface DumpType {
  readonly bytes: number;
  /** Columns of the widest value. */
  readonly width: number;
  readonly print: (view: DataView, at: number) => string;
  /** The line ends with its bytes as characters (`z`). */
  readonly characters: boolean;
}

const names =
  'nul soh stx etx eot enq ack bel bs ht nl vt ff cr so si dle dc1 dc2 dc3 dc4 nak syn etb can em sub esc fs gs rs us sp'.split(
    ' ',
  );
const escapes: Readonly<Record<number, string>> = {
  0: '\\0',
  7: '\\a',
  8: '\\b',
  9: '\\t',
  10: '\\n',
  11: '\\v',
  12: '\\f',
  13: '\\r',
};

function named(view: DataView, at: number): string {
  const byte = view.getUint8(at) & 0x7f;
  return byte === 127 ? 'del' : (names[byte] ?? String.fromCharCode(byte));
}

function character(view: DataView, at: number): string {
  const byte = view.getUint8(at);
  if (byte >= 32 && byte < 127) return String.fromCharCode(byte);
  return escapes[byte] ?? byte.toString(8).padStart(3, '0');
}

/** Widest decimal, unsigned decimal, octal and hexadecimal of 1, 2, 4 and 8 bytes. */
const widths: Readonly<Record<string, readonly number[]>> = {
  d: [4, 6, 11, 20],
  u: [3, 5, 10, 20],
  o: [3, 6, 11, 22],
  x: [2, 4, 8, 16],
};
const sizes = [1, 2, 4, 8];

function integer(letter: string, bytes: number): Pick<DumpType, 'width' | 'print'> {
  const width = widths[letter]![sizes.indexOf(bytes)]!;
  const read = (view: DataView, at: number): bigint => {
    let n = 0n;
    for (let i = bytes - 1; i >= 0; i--) n = (n << 8n) | BigInt(view.getUint8(at + i));
    return letter === 'd' ? BigInt.asIntN(bytes * 8, n) : n;
  };
  if (letter === 'd' || letter === 'u') return { width, print: (view, at) => String(read(view, at)) };
  const radix = letter === 'o' ? 8 : 16;
  return { width, print: (view, at) => read(view, at).toString(radix).padStart(width, '0') };
}

/** The shortest digits that give the number back, as %g prints them. */
function float(bytes: number): Pick<DumpType, 'width' | 'print'> {
  const single = bytes === 4;
  return {
    width: single ? 15 : 24,
    print: (view, at) => {
      const n = single ? view.getFloat32(at, true) : view.getFloat64(at, true);
      if (Number.isNaN(n)) return (view.getUint8(at + bytes - 1) & 0x80) !== 0 ? '-nan' : 'nan';
      if (!Number.isFinite(n)) return n < 0 ? '-inf' : 'inf';
      return general(n, single);
    },
  };
}

const trim = (text: string): string => (text.includes('.') ? text.replace(/\.?0+$/, '') : text);

function general(n: number, single: boolean): string {
  const same = (digits: number): boolean => {
    const back = Number(n.toPrecision(digits));
    return (single ? Math.fround(back) : back) === n;
  };
  const subnormal = Math.abs(n) < (single ? 2 ** -126 : 2 ** -1022);
  let digits = subnormal ? 1 : single ? 6 : 15;
  while (!same(digits)) digits++;
  const [mantissa, exponent] = n.toExponential(digits - 1).split('e') as [string, string];
  const e = Number(exponent);
  if (e >= -4 && e < digits) return (Object.is(n, -0) ? '-' : '') + trim(n.toFixed(digits - 1 - e));
  return `${trim(mantissa)}e${e < 0 ? '-' : '+'}${String(Math.abs(e)).padStart(2, '0')}`;
}

const letterSizes: Readonly<Record<string, number>> = { C: 1, S: 2, I: 4, L: 8, F: 4, D: 8 };

/** The types that one argument of -t lists (`x1z`, `d4o2`), or a message. */
export function dumpTypes(text: string): DumpType[] | string {
  const types: DumpType[] = [];
  const pattern = /([ac])(z?)|([doux])([0-9]+|[CSIL])?(z?)|f([0-9]+|[FD])?(z?)/y;
  while (pattern.lastIndex < text.length) {
    const from = pattern.lastIndex;
    const found = pattern.exec(text);
    if (found === null) return `invalid character '${text[from]}' in type string '${text}'`;
    const [, characterType, z1, letter, size, z2, floatSize, z3] = found;
    const characters = Boolean(z1 || z2 || z3);
    if (characterType !== undefined) {
      types.push({ bytes: 1, width: 3, print: characterType === 'a' ? named : character, characters });
    } else {
      const bytes = sizeOf(letter === undefined ? (floatSize ?? '8') : (size ?? '4'));
      if (!(letter === undefined ? [4, 8] : sizes).includes(bytes)) {
        return `invalid type string '${text}';\nthis system doesn't provide a ${bytes}-byte ${letter === undefined ? 'floating point' : 'integral'} type`;
      }
      types.push({ bytes, ...(letter === undefined ? float(bytes) : integer(letter, bytes)), characters });
    }
  }
  return types;
}

const sizeOf = (text: string): number => letterSizes[text] ?? Number(text);

/** Bytes a line must be a multiple of: the largest, all being powers of two. */
export const leastCommonSize = (types: readonly DumpType[]): number => Math.max(...types.map(type => type.bytes));
