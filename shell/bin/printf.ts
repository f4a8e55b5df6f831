// printf: arguments by a format, which is used again while arguments are left. After POSIX, with %b for echo's escapes.

import { utf8Encode } from '../../kernel/abi/index.ts';
import { define } from '../lib/program.ts';
import { concat } from '../lib/stdio.ts';

const letters: Readonly<Record<string, number>> = { a: 7, b: 8, e: 27, f: 12, n: 10, r: 13, t: 9, v: 11 };

export const printf = define({
  name: 'printf',
  summary: 'print arguments by a format',
  usage: ['FORMAT [ARG]...'],
  order: 'none',
  usageStatus: 2,
  description:
    "Prints FORMAT with the ARGs in place of its conversions: %d %i %u %o %x %X for numbers, %c the first character, %s text, %b text with backslash escapes, %e %f %g fractions, %% a percent sign; flags - + space 0 #, width and .precision, each a number or *. Backslash escapes in FORMAT: \\a \\b \\e \\f \\n \\r \\t \\v \\\\ \\NNN. While ARGs are left FORMAT is used again. A number may be 0x…, 0… or 'c (the code of c). Status 1 when an ARG is not the number that is asked for.",
  examples: [["printf '%-8s|%4d\\n' one 1 two 22", 'two lines in columns']],
  *main(ctx) {
    const [first, ...rest] = ctx.operands;
    const [format, args] = first === '--' ? [rest[0], rest.slice(1)] : [first, rest];
    if (format === undefined) return yield* ctx.usage();
    const run = new Run(args);
    do {
      const before = run.taken;
      run.once(format);
      if (run.taken === before) break;
    } while (!run.stopped && run.taken < args.length);
    yield* ctx.out.write(concat(run.pieces.length === 0 ? [new Uint8Array(0)] : run.pieces));
    let status = 0;
    for (const message of run.faults) status = yield* ctx.fail(message);
    return run.wrong ? 2 : status;
  },
});

class Run {
  readonly pieces: Uint8Array[] = [];
  readonly faults: string[] = [];
  taken = 0;
  stopped = false; // by \c in a %b
  wrong = false; // the format is
  private readonly args: readonly string[];

  constructor(args: readonly string[]) {
    this.args = args;
  }

  /** Prints the format once. */
  once(format: string): void {
    const piece =
      /%%|%([-+ 0#]*)(\*|[0-9]*)(?:\.(\*|[0-9]*))?([diouxXcsbeEfFgG])|%(.?)|\\([0-7]{1,3})|\\(.)|[^%\\]+|\\/gsu;
    for (let m = piece.exec(format); m !== null && !this.stopped; m = piece.exec(format)) {
      const [whole, flags, width, precision, conversion, wrong, octal, escaped] = m;
      if (whole === '%%') this.print('%');
      else if (conversion !== undefined) this.convert(flags!, this.count(width!), this.count(precision), conversion);
      else if (wrong !== undefined) {
        this.faults.push(`%${wrong}: invalid directive`);
        this.stopped = this.wrong = true;
      } else if (octal !== undefined) this.pieces.push(Uint8Array.of(parseInt(octal, 8) & 0xff));
      else if (escaped !== undefined && escaped in letters) this.pieces.push(Uint8Array.of(letters[escaped]!));
      else if (escaped !== undefined) this.print(escaped === '\\' ? '\\' : `\\${escaped}`);
      else this.print(whole);
    }
  }

  private print(text: string): void {
    this.pieces.push(utf8Encode(text));
  }

  private next(): string | undefined {
    return this.args[this.taken++];
  }

  /** A width or precision: absent, a number, or the next argument. */
  private count(text: string | undefined): number | undefined {
    if (text === '*') return Number(this.number());
    return text === undefined ? undefined : Number(text);
  }

  private convert(flags: string, width: number | undefined, precision: number | undefined, conversion: string): void {
    const left = flags.includes('-') || (width ?? 0) < 0;
    let text: string;
    let zeros = flags.includes('0') && !left;
    if (conversion === 's') text = [...(this.next() ?? '')].slice(0, precision).join('');
    else if (conversion === 'c') text = [...(this.next() ?? '')][0] ?? '';
    else if (conversion === 'b') text = this.unescaped(this.next() ?? '').slice(0, precision);
    else if (/[eEfFgG]/.test(conversion)) text = signed(this.fraction(precision ?? 6, conversion), flags);
    else {
      text = this.integer(conversion, flags, precision);
      zeros &&= precision === undefined;
    }
    if (/[scb]/.test(conversion)) zeros = false;
    const size = Math.abs(width ?? 0);
    const sign = zeros ? (/^(?:[-+ ]|0[xX])/.exec(text)?.[0] ?? '') : '';
    const padded = zeros ? sign + text.slice(sign.length).padStart(size - sign.length, '0') : text.padStart(size);
    this.print(left ? text.padEnd(size) : padded);
  }

  /** `%b`: the escapes of echo; \0NNN and \NNN are octal. */
  private unescaped(text: string): string {
    const [before, stop] = /^((?:[^\\]|\\[^c])*)(\\c)?/s.exec(text)!.slice(1);
    if (stop !== undefined) this.stopped = true;
    const escape = /\\(?:0?([0-7]{1,3})|([abefnrtv\\]))/g;
    return (stop === undefined ? text : before!).replace(escape, (_, octal: string | undefined, letter: string) =>
      octal !== undefined
        ? String.fromCharCode(parseInt(octal, 8) & 0xff)
        : letter === '\\'
          ? '\\'
          : String.fromCharCode(letters[letter]!),
    );
  }

  /** The next argument as an integer; 0 and a fault where it is none. */
  private number(): bigint {
    const text = this.next() ?? '';
    if (/^['"]./su.test(text)) return BigInt(text.codePointAt(1)!);
    const [whole, sign, digits] = /^\s*([-+]?)(0[xX][0-9A-Fa-f]+|[0-9]+)/.exec(text) ?? [''];
    if (whole.length !== text.length || (text === '' && this.taken <= this.args.length)) {
      this.faults.push(
        digits === undefined ? `'${text}': expected a numeric value` : `'${text}': value not completely converted`,
      );
    }
    if (digits === undefined) return 0n;
    const [octal = digits] = /^0[0-7]*/.exec(digits) ?? [];
    const value =
      /^0[xX]/.test(digits) || !digits.startsWith('0') ? BigInt(digits) : BigInt(`0o${octal.slice(1) || '0'}`);
    return sign === '-' ? -value : value;
  }

  private integer(conversion: string, flags: string, precision: number | undefined): string {
    const value = this.number();
    const unsigned = BigInt.asUintN(64, value);
    const base = conversion === 'o' ? 8 : /[xX]/.test(conversion) ? 16 : 10;
    const isSigned = conversion === 'd' || conversion === 'i';
    const magnitude = isSigned ? (value < 0n ? -value : value) : unsigned;
    let digits = magnitude.toString(base).padStart(precision ?? 1, '0');
    if (flags.includes('#') && base === 8 && !digits.startsWith('0')) digits = `0${digits}`;
    if (flags.includes('#') && base === 16 && magnitude !== 0n) digits = `0x${digits}`;
    if (conversion === 'X') digits = digits.toUpperCase();
    return isSigned ? signed(value < 0n ? `-${digits}` : digits, flags) : digits;
  }

  private fraction(precision: number, conversion: string): string {
    const text = this.next() ?? '0';
    const value = Number(text);
    if (Number.isNaN(value) || text === '') this.faults.push(`'${text}': expected a numeric value`);
    const x = Number.isNaN(value) ? 0 : value;
    const exponential = (digits: number): string => x.toExponential(digits).replace(/e([-+])(\d)$/, 'e$10$2');
    let shown: string;
    if (/f/i.test(conversion)) shown = x.toFixed(Math.min(precision, 100));
    else if (/e/i.test(conversion)) shown = exponential(Math.min(precision, 100));
    else {
      const digits = Math.min(Math.max(precision, 1), 100);
      const exponent = x === 0 ? 0 : Number(x.toExponential(digits - 1).split('e')[1]);
      const plain = exponent >= -4 && exponent < digits;
      shown = plain ? x.toFixed(Math.max(0, Math.min(100, digits - 1 - exponent))) : exponential(digits - 1);
      if (shown.includes('.')) shown = shown.replace(/\.?0+(?=e|$)/, '');
    }
    return /[EFG]/.test(conversion) ? shown.toUpperCase() : shown;
  }
}

const signed = (digits: string, flags: string): string =>
  digits.startsWith('-') ? digits : flags.includes('+') ? `+${digits}` : flags.includes(' ') ? ` ${digits}` : digits;
