// test, [: conditions on files, strings and numbers, by POSIX's rule that the number of arguments decides what each of them is.

import { ACCESS, IOCTL, KIND } from '../../kernel/abi/index.ts';
import { byteOrder, lstat, stat } from '../lib/files.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const description =
  'Status 0 when EXPRESSION holds, 1 when not, 2 when it makes no sense. Files: -e -f -d -r -w -x -s -b -c -p -h -L -u -g -k; FILE -nt FILE (newer), -ot (older), -ef (the same). Strings: -n -z = != < >. Numbers: -eq -ne -lt -le -gt -ge. -t N: descriptor N is a terminal. Also ! ( ) -a -o.';

export const test = define({
  name: 'test',
  summary: 'check files and compare values',
  usage: ['[EXPRESSION]'],
  order: 'none',
  usageStatus: 2,
  description,
  examples: [['test -d /models && echo yes', 'prints yes']],
  *main(ctx) {
    return yield* evaluate(ctx, ctx.operands);
  },
});

export const bracket = define({
  name: '[',
  summary: 'check files and compare values',
  usage: ['EXPRESSION ]'],
  order: 'none',
  usageStatus: 2,
  description,
  *main(ctx) {
    if (ctx.operands.at(-1) !== ']') return (yield* ctx.fail('missing ]')) + 1;
    return yield* evaluate(ctx, ctx.operands.slice(0, -1));
  },
});

type Tester = Pick<Context, 'sys' | 'fail'>;

function* evaluate(ctx: Tester, args: readonly string[]): Generator<void, number, void> {
  const expression = new Expression(ctx, args);
  const result = yield* expression.whole();
  if (expression.fault !== null) return (yield* ctx.fail(expression.fault)) + 1;
  return result ? 0 : 1;
}

const unary: readonly string[] = [...'efdrwxscbpLhugknzt'].map(letter => `-${letter}`);
const fileComparisons: readonly string[] = ['-nt', '-ot', '-ef'];
const orders: Readonly<Record<string, (a: string, b: string) => boolean>> = {
  '=': (a, b) => a === b,
  '!=': (a, b) => a !== b,
  '<': (a, b) => byteOrder(a, b) < 0,
  '>': (a, b) => byteOrder(a, b) > 0,
};
const comparisons: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  '-eq': (a, b) => a === b,
  '-ne': (a, b) => a !== b,
  '-lt': (a, b) => a < b,
  '-le': (a, b) => a <= b,
  '-gt': (a, b) => a > b,
  '-ge': (a, b) => a >= b,
};

class Expression {
  fault: string | null = null;
  private at = 0;
  private readonly ctx: Tester;
  private readonly args: readonly string[];

  constructor(ctx: Tester, args: readonly string[]) {
    this.ctx = ctx;
    this.args = args;
  }

  *whole(): Generator<void, boolean, void> {
    if (this.args.length === 0) return false;
    const result = yield* this.or();
    if (this.at < this.args.length) this.fault ??= `unexpected operator '${this.args[this.at]}'`;
    return result;
  }

  private *or(): Generator<void, boolean, void> {
    let result = yield* this.and();
    while (this.take('-o')) result = (yield* this.and()) || result;
    return result;
  }

  private *and(): Generator<void, boolean, void> {
    let result = yield* this.primary();
    while (this.take('-a')) result = (yield* this.primary()) && result;
    return result;
  }

  private take(text: string): boolean {
    if (this.args[this.at] !== text) return false;
    this.at++;
    return true;
  }

  private *primary(): Generator<void, boolean, void> {
    const [first, second, third] = this.args.slice(this.at);
    if (first === undefined) {
      this.fault ??= 'argument expected';
      return false;
    }
    const isBinary =
      second !== undefined && (second in orders || second in comparisons || fileComparisons.includes(second));
    if (third !== undefined && isBinary) {
      this.at += 3;
      return fileComparisons.includes(second)
        ? yield* this.compareFiles(first, second, third)
        : this.compare(first, second, third);
    }
    if (first === '!' && second !== undefined) {
      this.at++;
      return !(yield* this.primary());
    }
    if (first === '(' && second !== undefined) {
      this.at++;
      const result = yield* this.or();
      if (!this.take(')')) this.fault ??= "')' expected";
      return result;
    }
    if (unary.includes(first) && second !== undefined) {
      this.at += 2;
      return yield* this.examine(first, second);
    }
    this.at++;
    return first !== '';
  }

  private compare(a: string, operator: string, b: string): boolean {
    const order = orders[operator];
    if (order !== undefined) return order(a, b);
    for (const text of [a, b]) if (!/^\s*[-+]?[0-9]+\s*$/.test(text)) this.fault ??= `Illegal number: ${text}`;
    return comparisons[operator]!(Number(a), Number(b));
  }

  private *compareFiles(a: string, operator: string, b: string): Generator<void, boolean, void> {
    const x = yield* stat(this.ctx.sys, a);
    const y = yield* stat(this.ctx.sys, b);
    if (typeof x === 'number' || typeof y === 'number') return false;
    if (operator === '-ef') return x.inode === y.inode && x.device === y.device;
    return operator === '-nt' ? x.modifiedNs > y.modifiedNs : x.modifiedNs < y.modifiedNs;
  }

  private *examine(operator: string, operand: string): Generator<void, boolean, void> {
    if (operator === '-n') return operand !== '';
    if (operator === '-z') return operand === '';
    if (operator === '-t') return (yield* this.ctx.sys.ioctl(Number(operand), IOCTL.isatty, 0)) === 1;
    const rights: Readonly<Record<string, number>> = { '-r': ACCESS.read, '-w': ACCESS.write, '-x': ACCESS.exec };
    if (operator in rights) return (yield* this.ctx.sys.access(operand, rights[operator]!)) === 0;
    const isLink = operator === '-L' || operator === '-h';
    const st = yield* isLink ? lstat(this.ctx.sys, operand) : stat(this.ctx.sys, operand);
    if (typeof st === 'number') return false;
    const kinds: Readonly<Record<string, number>> = {
      '-f': KIND.file,
      '-d': KIND.dir,
      '-b': KIND.block,
      '-c': KIND.char,
      '-p': KIND.fifo,
      '-L': KIND.link,
      '-h': KIND.link,
    };
    const bits: Readonly<Record<string, number>> = { '-u': 0o4000, '-g': 0o2000, '-k': 0o1000 };
    if (operator in kinds) return st.kind === kinds[operator];
    if (operator in bits) return (st.mode & bits[operator]!) !== 0;
    return operator === '-s' ? st.size > 0 : true;
  }
}
