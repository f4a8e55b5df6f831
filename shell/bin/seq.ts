// seq: a sequence of numbers. They are whole multiples of the last decimal place that the operands have, so that no step rounds.

import { getopt } from '../lib/getopt.ts';
import { define } from '../lib/program.ts';

const options = {
  format: { short: 'f', value: 'FORMAT', help: 'print numbers by a format of printf: %g, %f or %e' },
  separator: { short: 's', value: 'TEXT', help: 'what stands between numbers (default a newline)' },
  'equal-width': { short: 'w', help: 'as many digits for each, with leading zeros' },
} as const;

export const seq = define({
  name: 'seq',
  summary: 'print a sequence of numbers',
  usage: ['[OPTION]... LAST', '[OPTION]... FIRST LAST', '[OPTION]... FIRST STEP LAST'],
  options,
  order: 'none',
  description:
    'Prints the numbers from FIRST (default 1) to LAST in steps of STEP (default 1), with as many decimals as FIRST or STEP have.',
  examples: [['seq -w 8 11', 'prints 08 09 10 11']],
  *main(ctx) {
    const parsed = getopt(options, protectNegative(ctx.operands), 'posix');
    if (parsed.error !== null) return yield* ctx.usage(parsed.error);
    const { operands } = parsed;
    const chosen = parsed.options as typeof ctx.options;
    if (operands.length === 0) return yield* ctx.usage('missing operand');
    if (operands.length > 3) return yield* ctx.usage(`extra operand '${operands[3]}'`);
    const bad = operands.find(text => !isNumber.test(text));
    if (bad !== undefined) return yield* ctx.usage(`invalid floating point argument: '${bad}'`);
    const numbers = operands.map(withoutExponent);
    const first = numbers.length > 1 ? numbers[0]! : '1';
    const step = numbers.length > 2 ? numbers[1]! : '1';
    const last = numbers.at(-1)!;
    if (Number(step) === 0) return yield* ctx.usage(`invalid Zero increment value: '${step}'`);
    const format = chosen.format === undefined ? null : parseFormat(chosen.format);
    if (typeof format === 'string') return yield* ctx.fail(format);
    if (format !== null && chosen['equal-width']) {
      return yield* ctx.usage('format string may not be specified when printing equal width strings');
    }
    const places = Math.max(decimals(first), decimals(step), decimals(last));
    const shownPlaces = Math.max(decimals(first), decimals(step));
    const [from, by, to] = [first, step, last].map(text => scaled(text, places)) as [bigint, bigint, bigint];
    const shown = (n: bigint): string => decimalText(n, places, shownPlaces);
    const width = chosen['equal-width'] ? widthOf(first, last, shown(from), shown(to), shownPlaces) : 0;
    const print = format ?? ((text: string): string => padZeros(text, width));
    let printed = false;
    const separator = chosen.separator ?? '\n';
    for (let n = from; by > 0n ? n <= to : n >= to; n += by) {
      yield* ctx.out.print((printed ? separator : '') + print(shown(n)));
      printed = true;
    }
    if (printed) yield* ctx.out.print('\n');
    return 0;
  },
});

const isNumber = /^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?$/;
const decimals = (text: string): number => (text.includes('.') ? text.length - text.indexOf('.') - 1 : 0);

/** The command line with `--` before a negative number that stands where an operand would: it is no option. */
function protectNegative(args: readonly string[]): readonly string[] {
  const at = args.findIndex((text, i) => /^-[.0-9]/.test(text) && !/^-\w*[sf]$/.test(args[i - 1] ?? ''));
  const first = args.findIndex((text, i) => !text.startsWith('-') && !/^-\w*[sf]$/.test(args[i - 1] ?? ''));
  return at < 0 || (first >= 0 && first < at) ? args : [...args.slice(0, at), '--', ...args.slice(at)];
}

/** `1.5e3` as `1500`. */
function withoutExponent(text: string): string {
  const [, sign, whole = '', fraction = '', exponent] = /^([-+]?)([0-9]*)\.?([0-9]*)(?:[eE](.*))?$/.exec(text)!;
  if (exponent === undefined) return text;
  const e = Number(exponent);
  const digits = '0'.repeat(Math.max(0, -e)) + whole + fraction.padEnd(e, '0');
  const point = Math.max(0, -e) + whole.length + e;
  const tail = digits.slice(point);
  return `${sign}${digits.slice(0, point) || '0'}${tail === '' ? '' : `.${tail}`}`;
}

/** A number in units of 10^-places. */
function scaled(text: string, places: number): bigint {
  const [, sign, whole = '', fraction = ''] = /^([-+]?)([0-9]*)\.?([0-9]*)$/.exec(text)!;
  const n = BigInt(whole + fraction.padEnd(places, '0'));
  return sign === '-' ? -n : n;
}

/** `n` × 10^-places with `shown` decimals: LAST may have more than are ever printed, all of them zero then. */
function decimalText(n: bigint, places: number, shown: number): string {
  const digits = String(n < 0n ? -n : n).padStart(places + 1, '0');
  const whole = digits.slice(0, digits.length - places);
  const fraction = digits.slice(digits.length - places).slice(0, shown);
  return `${n < 0n ? '-' : ''}${whole}${shown === 0 ? '' : `.${fraction}`}`;
}

/** How long a number prints; the sign of -0 counts. */
const lengthOf = (text: string, shown: string): number => shown.length + (/^-0*\.?0*$/.test(text) ? 1 : 0);

/** The width of the wider of the first and the last number. */
function widthOf(first: string, last: string, from: string, to: string, places: number): number {
  return Math.max(lengthOf(first, from), lengthOf(last, to), places === 0 ? 0 : places + 2);
}

function padZeros(text: string, width: number): string {
  return text.startsWith('-') ? `-${text.slice(1).padStart(width - 1, '0')}` : text.padStart(width, '0');
}

const percent = (text: string): string => text.replaceAll('%%', '%');

/** What a format makes of a number, or what is wrong with it. */
function parseFormat(format: string): ((text: string) => string) | string {
  const directives = [...format.matchAll(/%%|%([-+ #0']*)([0-9]*)(?:\.([0-9]*))?(.?)/gs)].filter(m => m[0] !== '%%');
  const [directive, second] = directives;
  if (directive === undefined) return `format '${format}' has no % directive`;
  const [text, flags = '', width = '', precision, letter = ''] = directive;
  if (letter === '') return `format '${format}' ends in %`;
  if (!/[efgEFG]/.test(letter)) return `format '${format}' has unknown %${letter} directive`;
  if (second !== undefined) return `format '${format}' has too many % directives`;
  const at = directive.index;
  const places = precision === undefined ? 6 : Number(precision);
  return number => {
    const n = Number(number);
    let body = formatFloat(Math.abs(n), letter.toLowerCase(), places, flags.includes('#'));
    if (letter !== letter.toLowerCase()) body = body.toUpperCase();
    const sign = n < 0 ? '-' : flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '';
    const whole = flags.includes('-')
      ? (sign + body).padEnd(Number(width))
      : flags.includes('0')
        ? sign + body.padStart(Number(width) - sign.length, '0')
        : (sign + body).padStart(Number(width));
    return percent(format.slice(0, at)) + whole + percent(format.slice(at + text.length));
  };
}

/** %e, %f and %g of C. */
function formatFloat(n: number, letter: string, places: number, keepZeros: boolean): string {
  const exponential = (digits: number): string =>
    n.toExponential(digits).replace(/e([-+])([0-9])$/, (_, sign: string, digit: string) => `e${sign}0${digit}`);
  if (letter === 'f') return n.toFixed(Math.min(100, places));
  if (letter === 'e') return exponential(Math.min(100, places));
  const significant = Math.max(1, Math.min(100, places));
  const exponent = Number(n.toExponential(significant - 1).split('e')[1]);
  const plain = exponent >= -4 && exponent < significant;
  const text = plain ? n.toFixed(significant - 1 - exponent) : exponential(significant - 1);
  return keepZeros || !text.includes('.') ? text : text.replace(/\.?0+(e|$)/, '$1');
}
