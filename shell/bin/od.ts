// od: a file's bytes as numbers and characters (POSIX XCU). Each -t adds a row for every block of sixteen bytes; rows of different types are
// spaced so that the same byte stands in the same column. Numbers are little-endian, as the machine is.

import { parseSize } from '../lib/fmt.ts';
import { dumpTypes, leastCommonSize } from '../lib/dumptype.ts';
import type { DumpType } from '../lib/dumptype.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { Span } from '../lib/span.ts';

const options = {
  'address-radix': { short: 'A', value: 'R', help: 'offsets in d decimal, o octal (default), x hexadecimal, n none' },
  'skip-bytes': { short: 'j', value: 'N', help: 'leave out the first N bytes' },
  'read-bytes': { short: 'N', value: 'N', help: 'show at most N bytes' },
  format: {
    short: 't',
    value: 'TYPE',
    many: true,
    help: 'show as a, c, or d o u x with a size of 1 2 4 8, or f of 4 8; z: characters after it',
  },
  'output-duplicates': { short: 'v', help: 'show every line, also repeated ones' },
  width: { short: 'w', value: 'N', help: 'N bytes a line' },
  a: { help: 'the same as -t a' },
  b: { help: 'the same as -t o1' },
  c: { help: 'the same as -t c' },
  d: { help: 'the same as -t u2' },
  o: { help: 'the same as -t o2 (the default)' },
  s: { help: 'the same as -t d2' },
  x: { help: 'the same as -t x2' },
} as const;
type Od = Context<typeof options>;

const shorthands = { a: 'a', b: 'o1', c: 'c', d: 'u2', o: 'o2', s: 'd2', x: 'x2' } as const;

export const od = define({
  name: 'od',
  summary: 'show bytes as octal and other numbers',
  usage: ['[OPTION]... [FILE]...'],
  options,
  description:
    'Shows the bytes of the FILEs, one after the other, or of standard input. N takes the suffixes b (512), K and M, and 0x for hexadecimal.',
  examples: [
    ['od -A d -t x1z -N 64 /models/fable-q8_0.gguf', 'the header of a model file'],
    ['echo arena | od -c', 'characters, the newline too'],
  ],
  *main(ctx) {
    const plan = planOf(ctx);
    if (typeof plan === 'string') return yield* ctx.fail(plan);
    if (plan.warning !== null) yield* ctx.fail(plan.warning);
    const dump = new Dump(ctx, plan);
    let status = 0;
    let opened = 0;
    for (const name of ctx.operands.length > 0 ? ctx.operands : ['-']) {
      const input = yield* openInput(ctx, name);
      if (input === null) {
        status = 1;
        continue;
      }
      opened++;
      yield* dump.add(input);
      if (!(yield* closeInput(ctx, name, input))) status = 1;
      if (dump.left === 0) break;
    }
    if (opened === 0) return status;
    if (dump.skip > 0) return yield* ctx.fail('cannot skip past end of combined input');
    yield* dump.end();
    return status;
  },
});

interface Plan {
  readonly types: readonly DumpType[];
  readonly address: (offset: number) => string;
  readonly skip: number;
  readonly most: number;
  readonly blockBytes: number;
  readonly squeeze: boolean;
  readonly warning: string | null;
}

const count = (text: string): number | null => (/^0x[0-9a-f]+$/i.test(text) ? Number(text) : parseSize(text));

function planOf({ options }: Od): Plan | string {
  const chosen = Object.entries(shorthands).flatMap(([letter, type]) => (options[letter as 'a'] ? [type] : []));
  const texts = [...options.format, ...chosen];
  const types: DumpType[] = [];
  for (const text of texts.length > 0 ? texts : ['o2']) {
    const parsed = dumpTypes(text);
    if (typeof parsed === 'string') return parsed;
    types.push(...parsed);
  }
  const radix = options['address-radix'] ?? 'o';
  const base = { d: 10, o: 8, x: 16, n: 0 }[radix];
  if (base === undefined) return `invalid output address radix '${radix}'; it must be one character from [doxn]`;
  const skip = count(options['skip-bytes'] ?? '0');
  if (skip === null) return `invalid -j argument '${options['skip-bytes']}'`;
  const most = options['read-bytes'] === undefined ? Infinity : count(options['read-bytes']);
  if (most === null) return `invalid -N argument '${options['read-bytes']}'`;
  const least = leastCommonSize(types);
  const width = options.width === undefined ? 16 : count(options.width);
  if (width === null) return `invalid -w argument '${options.width}'`;
  const fits = width > 0 && width % least === 0;
  const digits = base === 16 ? 6 : 7;
  const address = (offset: number): string => (base === 0 ? '' : offset.toString(base).padStart(digits, '0'));
  return {
    types,
    address,
    skip,
    most,
    blockBytes: fits ? width : least,
    squeeze: !options['output-duplicates'],
    warning: fits ? null : `warning: invalid width ${width}; using ${least} instead`,
  };
}

class Dump extends Span {
  private squeezing = false;
  private began = false;
  private previous: Uint8Array;
  private readonly ctx: Od;
  private readonly plan: Plan;
  /** Columns of one block: enough for the widest type. */
  private readonly width: number;

  constructor(ctx: Od, plan: Plan) {
    super(ctx.sys, plan.skip, plan.most, new Uint8Array(plan.blockBytes));
    this.ctx = ctx;
    this.plan = plan;
    this.previous = new Uint8Array(plan.blockBytes);
    this.width = Math.max(...plan.types.map(type => (type.width + 1) * (plan.blockBytes / type.bytes)));
  }

  *end(): Generator<void, void, void> {
    const offset = this.at + this.filled;
    if (this.filled > 0) yield* this.flush();
    const address = this.plan.address(offset);
    if (address !== '') yield* this.ctx.out.print(`${address}\n`);
  }

  protected *flush(): Generator<void, void, void> {
    const { plan, block, filled } = this;
    const whole = filled === block.length;
    const repeated = whole && this.began && plan.squeeze && block.every((byte, i) => byte === this.previous[i]);
    if (repeated) {
      if (!this.squeezing) yield* this.ctx.out.print('*\n');
    } else {
      let lead = plan.address(this.at);
      for (const type of plan.types) {
        yield* this.ctx.out.print(`${lead}${this.row(type)}\n`);
        lead = ' '.repeat(lead.length);
      }
    }
    this.squeezing = repeated;
    this.began = true;
    this.at += filled;
    this.filled = 0;
    [this.previous, this.block] = [block, this.previous];
  }

  /** One type's row; what a wider type needs more is spread between its numbers. */
  private row(type: DumpType): string {
    const numbers = this.block.length / type.bytes;
    const present = Math.ceil(this.filled / type.bytes);
    const padding = this.width - type.width * numbers;
    const bytes = new Uint8Array(this.block.length);
    bytes.set(this.block.subarray(0, this.filled)); // a number that the file ends in is filled up with zeros
    const view = new DataView(bytes.buffer);
    let text = '';
    let rest = padding;
    for (let i = 0; i < present; i++) {
      const next = Math.floor((padding * (numbers - i - 1)) / numbers);
      text += type.print(view, i * type.bytes).padStart(rest - next + type.width);
      rest = next;
    }
    if (!type.characters) return text;
    const missing = (numbers - present) * type.width + rest;
    const characters = String.fromCharCode(...this.block.subarray(0, this.filled)).replace(/[^ -~]/gs, '.');
    return `${text}${' '.repeat(missing)}  >${characters}<`;
  }
}
