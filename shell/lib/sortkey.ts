// Sort keys (POSIX XCU, sort -k): which part of a line is compared, and how. Lines are byte strings; a comparison is a number below, at or
// above zero. Numbers are compared as their digits, so that no length loses precision.

import { foldCase, isFieldBlank } from './bytes.ts';

/** The letters that may follow a key or stand as options of their own. */
export interface Ordering {
  readonly blanks: boolean; // b
  readonly dictionary: boolean; // d
  readonly fold: boolean; // f
  readonly general: boolean; // g
  readonly human: boolean; // h
  readonly printable: boolean; // i
  readonly month: boolean; // M
  readonly numeric: boolean; // n
  readonly reverse: boolean; // r
}

interface Position {
  readonly field: number; // from 0
  readonly character: number; // `from`: bytes to skip; `to`: bytes to take, 0 = to the field's end
  readonly skipBlanks: boolean;
}
export interface Key {
  readonly from: Position;
  /** null: the key ends with the line. */
  readonly to: Position | null;
  readonly ordering: Ordering;
}

const letters: Readonly<Record<string, keyof Ordering>> = {
  b: 'blanks',
  d: 'dictionary',
  f: 'fold',
  g: 'general',
  h: 'human',
  i: 'printable',
  M: 'month',
  n: 'numeric',
  r: 'reverse',
};

/** The letters of an ordering that asks for two kinds of comparison at once, or null. */
export function clashOf(o: Ordering): string | null {
  const kinds = [o.general, o.human, o.month, o.numeric, o.dictionary || o.printable].filter(Boolean);
  if (kinds.length < 2) return null;
  return ['d', 'f', 'g', 'h', 'i', 'M', 'n'].filter(letter => o[letters[letter]!]).join('');
}

/** `FIELD[.CHARACTER][LETTERS][,FIELD[.CHARACTER][LETTERS]]`; a key without letters has those of `whole`. A message when it is malformed. */
export function parseKey(text: string, whole: Ordering): Key | string {
  const [, field, dot, character, ends, comma, lastField, lastCharacter, lastEnds, rest] =
    /^([0-9]*)(\.([0-9]*))?([bdfghiMnr]*)(?:(,)([0-9]*)(?:\.([0-9]*))?([bdfghiMnr]*))?(.*)$/s.exec(text)!;
  if (field === '') return `invalid number at field start: invalid count at start of '${text}'`;
  if (Number(field) === 0) return `field number is zero: invalid field specification '${text}'`;
  if (dot !== undefined && character === '') {
    return `invalid number after '.': invalid count at start of '${text.slice(field!.length + 1)}'`;
  }
  if (character !== undefined && Number(character) === 0) {
    return `character offset is zero: invalid field specification '${text}'`;
  }
  if (comma !== undefined && lastField === '') {
    return `invalid number after ',': invalid count at start of '${text.slice(text.indexOf(',') + 1)}'`;
  }
  if (comma !== undefined && Number(lastField) === 0)
    return `field number is zero: invalid field specification '${text}'`;
  if (rest !== '') return `stray character in field spec: invalid field specification '${text}'`;
  const chosen = [...ends!, ...(lastEnds ?? '')];
  const own = Object.fromEntries(Object.entries(letters).map(([letter, name]) => [name, chosen.includes(letter)]));
  const plain = chosen.length === 0;
  return {
    from: {
      field: Number(field) - 1,
      character: Math.max(0, Number(character ?? 1) - 1),
      skipBlanks: plain ? whole.blanks : ends!.includes('b'),
    },
    to:
      comma === undefined
        ? null
        : {
            field: Number(lastField) - 1,
            character: Number(lastCharacter ?? 0),
            skipBlanks: plain ? whole.blanks : lastEnds!.includes('b'),
          },
    ordering: plain ? whole : (own as unknown as Ordering),
  };
}

/** Index after `count` fields: with a separator after the separator that ends them, else after the last one's bytes. */
function skipFields(line: string, count: number, separator: string | null): number {
  let at = 0;
  for (let n = 0; n < count && at < line.length; n++) {
    if (separator !== null) {
      const next = line.indexOf(separator, at);
      at = next < 0 ? line.length : next + 1;
    } else {
      while (at < line.length && isFieldBlank(line[at])) at++;
      while (at < line.length && !isFieldBlank(line[at])) at++;
    }
  }
  return at;
}

function skipBlanks(line: string, at: number): number {
  let i = at;
  while (isFieldBlank(line[i])) i++;
  return i;
}

/** The part of a line that a key names. */
export function keyOf(line: string, { from, to }: Key, separator: string | null): string {
  let start = skipFields(line, from.field, separator);
  if (from.skipBlanks) start = skipBlanks(line, start);
  start = Math.min(line.length, start + from.character);
  if (to === null) return line.slice(start);
  if (to.character > 0) {
    let end = skipFields(line, to.field, separator);
    if (to.skipBlanks) end = skipBlanks(line, end);
    return line.slice(start, end + to.character);
  }
  const end = skipFields(line, to.field, separator);
  if (separator === null) return line.slice(start, skipFields(line, to.field + 1, null));
  const next = line.indexOf(separator, end);
  return line.slice(start, next < 0 ? line.length : Math.max(start, next));
}

type Compare = (a: string, b: string) => number;
const byBytes: Compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** How lines compare by their keys, or by `whole` when there are none. */
export function comparator(keys: readonly Key[], whole: Ordering, separator: string | null): Compare {
  const all =
    keys.length > 0
      ? keys
      : [{ from: { field: 0, character: 0, skipBlanks: whole.blanks }, to: null, ordering: whole }];
  const parts = all.map(key => ({ key, compare: valueComparator(key.ordering), sign: key.ordering.reverse ? -1 : 1 }));
  return (a, b) => {
    for (const { key, compare, sign } of parts) {
      const order = compare(keyOf(a, key, separator), keyOf(b, key, separator));
      if (order !== 0) return order * sign;
    }
    return 0;
  };
}

function valueComparator(o: Ordering): Compare {
  if (o.numeric) return (a, b) => compareDecimals(decimal(a), decimal(b));
  if (o.human) return compareHuman;
  if (o.general) return compareGeneral;
  if (o.month) return (a, b) => monthOf(a) - monthOf(b);
  if (!o.dictionary && !o.printable && !o.fold) return byBytes;
  const image = (text: string): string => {
    let t = text;
    if (o.dictionary) t = t.replace(/[^0-9A-Za-z \t\n]+/g, '');
    if (o.printable) t = t.replace(/[^ -~]+/g, '');
    return o.fold ? foldCase(t) : t;
  };
  return (a, b) => byBytes(image(a), image(b));
}

// ── Numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Decimal {
  readonly sign: -1 | 0 | 1;
  readonly whole: string; // without leading zeros
  readonly fraction: string; // without trailing zeros
}

/** The number that a text begins with; zero when there is none. */
function decimal(text: string): Decimal {
  const [, minus, digits = '', tail = ''] = /^[ \t\n]*(-?)([0-9]*)(?:\.([0-9]*))?/.exec(text)!;
  const whole = digits.replace(/^0+/, '');
  const fraction = tail.replace(/0+$/, '');
  return { sign: whole === '' && fraction === '' ? 0 : minus === '-' ? -1 : 1, whole, fraction };
}

function compareDecimals(a: Decimal, b: Decimal): number {
  if (a.sign !== b.sign) return a.sign - b.sign;
  const order = a.whole.length - b.whole.length || byBytes(a.whole, b.whole) || byBytes(a.fraction, b.fraction);
  return a.sign * order;
}

/** By sign, then by unit (none, K or k, M, G, T, …), then by number. */
function compareHuman(a: string, b: string): number {
  const x = decimal(a);
  const y = decimal(b);
  return unitOf(a, x) - unitOf(b, y) || compareDecimals(x, y);
}
function unitOf(text: string, { sign }: Decimal): number {
  const suffix = /^[ \t\n]*-?[0-9]*(?:\.[0-9]*)?([kKMGTPEZY])/.exec(text)?.[1];
  return suffix === undefined ? 0 : sign * ('KMGTPEZY'.indexOf(suffix.toUpperCase()) + 1);
}

/** As numbers with exponents; what is none comes first, then NaN. */
function compareGeneral(a: string, b: string): number {
  const x = general(a);
  const y = general(b);
  if (x === null || y === null) return x === y ? 0 : x === null ? -1 : 1;
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) === Number.isNaN(y) ? 0 : Number.isNaN(x) ? -1 : 1;
  return x < y ? -1 : x > y ? 1 : 0;
}
function general(text: string): number | null {
  const [, sign, number] =
    /^\s*([-+]?)(0x[0-9a-f]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|inf(?:inity)?|nan)/i.exec(text) ?? [];
  if (number === undefined) return null;
  const magnitude = /^i/i.test(number) ? Infinity : Number(number);
  return sign === '-' ? -magnitude : magnitude;
}

const months = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const monthOf = (text: string): number => months.indexOf(foldCase(text.replace(/^[ \t\n]+/, '').slice(0, 3))) + 1;
