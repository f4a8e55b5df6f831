// The sets of tr(1) (POSIX XCU): characters, ranges, classes, equivalence classes, repetitions and escapes, over bytes as in the C locale.

/** One construct of a set. `class` keeps its name, because case classes pair with each other; `repeat` 0 fills up to the other set's length. */
export type Construct =
  | { readonly kind: 'bytes'; readonly bytes: readonly number[] }
  | { readonly kind: 'class'; readonly name: string; readonly bytes: readonly number[] }
  | { readonly kind: 'repeat'; readonly byte: number; readonly count: number };

const within = (low: number, high: number): number[] =>
  Array.from({ length: Math.max(0, high - low + 1) }, (_, i) => low + i);
const lower = within(97, 122);
const upper = within(65, 90);
const digit = within(48, 57);
const graph = within(33, 126);
const alnum = [...digit, ...upper, ...lower];

/** Members of the classes of the C locale, in order. */
export const byteClasses: Readonly<Record<string, readonly number[]>> = {
  alnum,
  alpha: [...upper, ...lower],
  blank: [9, 32],
  cntrl: [...within(0, 31), 127],
  digit,
  graph,
  lower,
  print: [32, ...graph],
  punct: graph.filter(byte => !alnum.includes(byte)),
  space: [...within(9, 13), 32],
  upper,
  xdigit: [...digit, ...within(65, 70), ...within(97, 102)],
};

const escapes: Readonly<Record<string, number>> = { a: 7, b: 8, f: 12, n: 10, r: 13, t: 9, v: 11 };

interface Unit {
  readonly byte: number;
  readonly escaped: boolean;
}

/** A set's constructs, or a message. `text` is a byte string. */
export function parseSet(text: string): Construct[] | string {
  const units = unescapeUnits(text);
  const found: Construct[] = [];
  let i = 0;
  const is = (at: number, c: string): boolean =>
    units[at] !== undefined && !units[at].escaped && units[at].byte === c.charCodeAt(0);
  while (i < units.length) {
    if (is(i, '[')) {
      const bracketed = bracket(units, i, is);
      if (typeof bracketed === 'string') return bracketed;
      if (bracketed !== null) {
        found.push(bracketed.construct);
        i = bracketed.next;
        continue;
      }
    }
    const { byte } = units[i]!;
    const last = units[i + 2];
    if (is(i + 1, '-') && last !== undefined) {
      if (last.byte < byte) {
        return `range-endpoints of '${shown(byte)}-${shown(last.byte)}' are in reverse collating sequence order`;
      }
      found.push({ kind: 'bytes', bytes: within(byte, last.byte) });
      i += 3;
    } else {
      found.push({ kind: 'bytes', bytes: [byte] });
      i++;
    }
  }
  return found;
}

/** `[:class:]`, `[=c=]`, `[c*n]` at `at`; null when the bracket is an ordinary character. */
function bracket(
  units: readonly Unit[],
  at: number,
  is: (at: number, c: string) => boolean,
): { construct: Construct; next: number } | string | null {
  for (const mark of [':', '=']) {
    if (!is(at + 1, mark)) continue;
    let end = mark === '=' ? at + 3 : at + 2; // [===] is the class of the equals sign
    while (end < units.length && !(is(end, mark) && is(end + 1, ']'))) end++;
    if (end >= units.length) continue;
    const inside = units.slice(at + 2, end).map(u => u.byte);
    const name = String.fromCharCode(...inside);
    if (mark === '=') {
      if (inside.length !== 1) return `${name}: equivalence class operand must be a single character`;
      return { construct: { kind: 'bytes', bytes: inside }, next: end + 2 };
    }
    const bytes = byteClasses[name];
    if (bytes === undefined)
      return name === '' ? "missing character class name '[::]'" : `invalid character class '${name}'`;
    return { construct: { kind: 'class', name, bytes }, next: end + 2 };
  }
  if (units[at + 1] === undefined || !is(at + 2, '*')) return null;
  let end = at + 3;
  while (end < units.length && !is(end, ']')) end++;
  if (end >= units.length) return null;
  const number = String.fromCharCode(...units.slice(at + 3, end).map(u => u.byte));
  if (!/^[0-9]*$/.test(number)) return `invalid repeat count '${number}' in [c*n] construct`;
  const count = number === '' ? 0 : parseInt(number, number.startsWith('0') ? 8 : 10);
  return { construct: { kind: 'repeat', byte: units[at + 1]!.byte, count }, next: end + 1 };
}

function unescapeUnits(text: string): Unit[] {
  const units: Unit[] = [];
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== '\\' || i + 1 === text.length) {
      units.push({ byte: text.charCodeAt(i), escaped: false });
      continue;
    }
    const [octal] = /^(?:[0-3][0-7]{0,2}|[4-7][0-7]?)/.exec(text.slice(i + 1, i + 4)) ?? [];
    if (octal !== undefined) {
      units.push({ byte: parseInt(octal, 8), escaped: true });
      i += octal.length;
    } else {
      const c = text[++i]!;
      units.push({ byte: escapes[c] ?? c.charCodeAt(0), escaped: true });
    }
  }
  return units;
}

const shown = (byte: number): string =>
  byte >= 32 && byte < 127 ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`;
