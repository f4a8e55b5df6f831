// tr: bytes into other bytes, deleted, or squeezed. Three tables of 256 entries are made from the sets; then each byte is looked up.

import { argumentBytes } from '../lib/bytes.ts';
import { parseSet } from '../lib/byteset.ts';
import type { Construct } from '../lib/byteset.ts';
import { closeInput, define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  complement: { short: 'cC', help: 'SET1 is every byte that is not in it' },
  delete: { short: 'd', help: 'delete the bytes of SET1' },
  'squeeze-repeats': { short: 's', help: 'print runs of a byte of the last set as one' },
  'truncate-set1': { short: 't', help: 'cut SET1 to the length of SET2' },
} as const;
type Options = Context<typeof options>['options'];

export const tr = define({
  name: 'tr',
  summary: 'translate, delete or squeeze bytes',
  usage: ['[OPTION]... SET1 [SET2]'],
  options,
  order: 'posix',
  description:
    'Copies standard input to standard output; bytes of SET1 become those of SET2 in the same place, the last of which counts for all that follow. Sets: characters, ranges a-z, classes [:digit:], [=c=], in SET2 [c*N] and [c*]; escapes \\\\ \\a \\b \\f \\n \\r \\t \\v \\NNN (octal). Sets are of bytes, as in the C locale: a character of UTF-8 is several.',
  examples: [
    ['echo arena | tr a-z A-Z', 'prints ARENA'],
    ["tr -cs A-Za-z '\\n' < /etc/motd | sort -u", 'the words of a text'],
  ],
  *main(ctx) {
    const { options, operands } = ctx;
    const wanted = options.delete === options['squeeze-repeats'] ? 2 : 1;
    const wrong = wrongOperands(options, operands, wanted);
    if (wrong !== null) return yield* ctx.usage(wrong);
    const sets = operands.map(text => parseSet(argumentBytes(text)));
    const bad = sets.find(set => typeof set === 'string');
    if (bad !== undefined) return yield* ctx.fail(String(bad));
    const tables = tablesOf(options, sets as Construct[][]);
    if (typeof tables === 'string') return yield* ctx.fail(tables);
    let previous = -1;
    let piece: Uint8Array | null;
    while ((piece = yield* ctx.input.chunk()) !== null) {
      let kept = 0;
      for (const byte of piece) {
        if (tables.deleted[byte] !== 0) continue;
        const image = tables.image[byte]!;
        if (image === previous && tables.squeezed[image] !== 0) continue;
        previous = image;
        piece[kept++] = image;
      }
      yield* ctx.out.write(piece.subarray(0, kept));
    }
    return (yield* closeInput(ctx, '-', ctx.input)) ? 0 : 1;
  },
});

function wrongOperands(options: Options, operands: readonly string[], wanted: number): string | null {
  if (operands.length === 0) return 'missing operand';
  if (operands.length < wanted) {
    const why = options.delete ? 'when both deleting and squeezing repeats' : 'when translating';
    return `missing operand after '${operands[0]}'\nTwo strings must be given ${why}.`;
  }
  const most = options.delete && !options['squeeze-repeats'] ? 1 : 2;
  if (operands.length <= most) return null;
  const why = most === 1 ? '\nOnly one string may be given when deleting without squeezing repeats.' : '';
  return `extra operand '${operands[most]}'${why}`;
}

interface Tables {
  readonly image: Uint8Array;
  readonly deleted: Uint8Array; // 1: in SET1 of -d
  readonly squeezed: Uint8Array; // 1: in the set of -s
}

function tablesOf(options: Options, sets: readonly Construct[][]): Tables | string {
  const [first, second] = sets as [Construct[], Construct[] | undefined];
  if (first.some(c => c.kind === 'repeat' && c.count === 0))
    return 'the [c*] repeat construct may not appear in string1';
  const tables: Tables = {
    image: Uint8Array.from({ length: 256 }, (_, byte) => byte),
    deleted: new Uint8Array(256),
    squeezed: new Uint8Array(256),
  };
  const one = options.complement ? complementOf(expand(first, 0)) : expand(first, 0);
  if (options.delete) for (const byte of one) tables.deleted[byte] = 1;
  const translating = second !== undefined && !options.delete;
  const two = second === undefined ? one : expand(second, translating ? one.length : 0);
  if (options['squeeze-repeats']) for (const byte of two) tables.squeezed[byte] = 1;
  if (!translating) return tables;
  const wrong = wrongTranslation(options, first, second, one, two);
  if (wrong !== null) return wrong;
  const count = options['truncate-set1'] ? Math.min(one.length, two.length) : one.length;
  const pairs = options.complement ? null : casePairs(first, second);
  for (let i = 0; i < count; i++) tables.image[one[i]!] = two[Math.min(i, two.length - 1)]!;
  if (pairs !== null) for (const [from, to] of pairs) tables.image[from] = to;
  return tables;
}

const isCase = (c: Construct): boolean => c.kind === 'class' && (c.name === 'lower' || c.name === 'upper');

function wrongTranslation(
  options: Options,
  first: readonly Construct[],
  second: readonly Construct[],
  one: readonly number[],
  two: readonly number[],
): string | null {
  if (second.some(c => c.kind === 'class' && !isCase(c))) {
    return "when translating, the only character classes that may appear in\nstring2 are 'upper' and 'lower'";
  }
  if (second.filter(c => c.kind === 'repeat' && c.count === 0).length > 1) {
    return 'only one [c*] repeat construct may appear in string2';
  }
  if (two.length === 0 && one.length > 0 && !options['truncate-set1']) {
    return 'when not truncating set1, string2 must be non-empty';
  }
  if (!options.complement && second.some(isCase) && casePairs(first, second) === null) {
    return 'misaligned [:upper:] and/or [:lower:] construct';
  }
  const covers = two.length === one.length || (two.length < one.length && !options['truncate-set1']);
  const single = covers && two.every(byte => byte === two[0]);
  if (options.complement && first.some(c => c.kind === 'class') && !single) {
    return 'when translating with complemented character classes,\nstring2 must map all characters in the domain to one';
  }
  if (one.length > two.length && !options['truncate-set1'] && second.at(-1)?.kind === 'class') {
    return 'when translating with string1 longer than string2,\nthe latter string must not end with a character class';
  }
  return null;
}

/** What case classes of SET2 change their counterparts in SET1 to; null when one has none in the same place. */
function casePairs(first: readonly Construct[], second: readonly Construct[]): [from: number, to: number][] | null {
  const starts = new Map<number, Construct>();
  let at = 0;
  for (const c of first) {
    if (isCase(c)) starts.set(at, c);
    at += c.kind === 'repeat' ? c.count : c.bytes.length;
  }
  const pairs: [number, number][] = [];
  at = 0;
  for (const c of second) {
    if (isCase(c) && c.kind === 'class') {
      const counterpart = starts.get(at);
      if (counterpart?.kind !== 'class') return null;
      counterpart.bytes.forEach((byte, i) => pairs.push([byte, c.bytes[i]!]));
    }
    at += c.kind === 'repeat' ? c.count : c.bytes.length;
  }
  return pairs;
}

/** The bytes of a set in order; one repetition without a count fills it to `length`. */
function expand(set: readonly Construct[], length: number): number[] {
  const fixed = set.reduce((sum, c) => sum + (c.kind === 'repeat' ? c.count : c.bytes.length), 0);
  return set.flatMap(c => {
    if (c.kind !== 'repeat') return [...c.bytes];
    return Array.from({ length: c.count || Math.max(0, length - fixed) }, () => c.byte);
  });
}

function complementOf(bytes: readonly number[]): number[] {
  const members = new Set(bytes);
  return Array.from({ length: 256 }, (_, byte) => byte).filter(byte => !members.has(byte));
}
