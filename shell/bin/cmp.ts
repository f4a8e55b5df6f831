// cmp: where two files differ. Both are read side by side, a piece at a time.

import { KIND } from '../../kernel/abi/index.ts';
import { fstat } from '../lib/files.ts';
import { parseSize } from '../lib/fmt.ts';
import { closeInput, define, openInput, quietly } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import type { Input } from '../lib/stdio.ts';

const options = {
  'print-bytes': { short: 'b', help: 'show the bytes that differ' },
  'ignore-initial': { short: 'i', value: 'N[:M]', help: 'begin after N bytes of the first file, M of the second' },
  verbose: { short: 'l', help: 'print place and bytes of every difference' },
  bytes: { short: 'n', value: 'N', help: 'compare at most N bytes' },
  quiet: { short: 's', help: 'print nothing; the exit status is the answer' },
} as const;
type Cmp = Context<typeof options>;

const TROUBLE = 2;

export const cmp = define({
  name: 'cmp',
  summary: 'compare two files byte by byte',
  usage: ['[OPTION]... FILE1 [FILE2 [SKIP1 [SKIP2]]]'],
  options,
  usageStatus: TROUBLE,
  description:
    'Tells where FILE1 and FILE2 (default standard input) first differ. Status: 0 when they are the same, 1 when they differ, 2 in trouble. -l prints the place from 1 and both bytes in octal.',
  examples: [['cmp /models/fable-q4_0.gguf /models/fable-q8_0.gguf', 'the first byte that differs']],
  *main(ctx) {
    const names = [ctx.operands[0], ctx.operands[1] ?? '-'] as const;
    const [one, two] = names;
    if (one === undefined) return yield* ctx.usage("missing operand after 'cmp'");
    const [first = '0', second = first] = ctx.options['ignore-initial']?.split(':') ?? [];
    const [skipOne, skipTwo] = [ctx.operands[2] ?? first, ctx.operands[3] ?? second];
    const skips = [parseSize(skipOne), parseSize(skipTwo)];
    const most = ctx.options.bytes === undefined ? Infinity : parseSize(ctx.options.bytes);
    const bad = [skipOne, skipTwo][skips.indexOf(null)];
    if (bad !== undefined) return yield* ctx.usage(`invalid --ignore-initial value '${bad}'`);
    if (ctx.operands.length > 4) return yield* ctx.usage(`extra operand '${ctx.operands[4]}'`);
    if (most === null) return yield* ctx.usage(`invalid --bytes value '${ctx.options.bytes}'`);
    if (one === two) return 0;
    const inputs: Input[] = [];
    for (const name of [one, two]) {
      const input = yield* openInput(ctx.options.quiet ? quietly(ctx) : ctx, name);
      if (input === null) return TROUBLE;
      inputs.push(input);
    }
    const readers = inputs.map((input, i) => new Reader(input, skips[i]!));
    const status = yield* compare(ctx, [one, two], readers as [Reader, Reader], {
      most,
      width: yield* placeWidth(ctx, inputs, most),
    });
    let trouble = false;
    for (const [i, input] of inputs.entries()) {
      if (!(yield* closeInput(ctx, [one, two][i]!, input))) trouble = true;
    }
    return trouble ? TROUBLE : status;
  },
});

/** Digits of the largest place: what -l aligns with. Sizes that are not known are taken for large. */
function* placeWidth(ctx: Cmp, inputs: readonly Input[], most: number): Generator<void, number, void> {
  let largest = Math.min(most, Number.MAX_SAFE_INTEGER);
  for (const { fd } of inputs) {
    const st = yield* fstat(ctx.sys, fd);
    if (typeof st !== 'number' && st.kind === KIND.file) largest = Math.min(largest, Number(st.size));
  }
  return String(largest).length;
}

/** Bytes of an input one after the other, after the first `skip`. */
class Reader {
  private piece: Uint8Array | null = new Uint8Array(0);
  private at = 0;
  private skip: number;
  private readonly input: Input;

  constructor(input: Input, skip: number) {
    this.input = input;
    this.skip = skip;
  }

  /** What is there before another read is needed; empty at the end. */
  *rest(): Generator<void, Uint8Array, void> {
    while (this.piece !== null && this.at === this.piece.length) {
      this.piece = yield* this.input.chunk();
      this.at = Math.min(this.skip, this.piece?.length ?? 0);
      this.skip -= this.at;
    }
    return this.piece === null ? new Uint8Array(0) : this.piece.subarray(this.at);
  }
  take(count: number): void {
    this.at += count;
  }
}

function* compare(
  ctx: Cmp,
  names: readonly [string, string],
  [one, two]: readonly [Reader, Reader],
  { most, width }: { readonly most: number; readonly width: number },
): Generator<void, number, void> {
  const { options } = ctx;
  const shown = (byte: number): string => octal(byte) + (options['print-bytes'] ? ` ${caret(byte)}` : '');
  let offset = 0;
  let lines = 1;
  let differs = false;
  let last = 0; // the byte before
  while (offset < most) {
    const a = yield* one.rest();
    const b = yield* two.rest();
    const count = Math.min(a.length, b.length, most - offset);
    if (count === 0) {
      if (a.length === b.length) break;
      if (!options.quiet) yield* tellEnd(ctx, names[a.length === 0 ? 0 : 1], offset, lines, last);
      return 1;
    }
    for (let i = 0; i < count; i++) {
      if (a[i] !== b[i]) {
        differs = true;
        if (options.quiet) return 1;
        const place = offset + i + 1;
        if (!options.verbose) {
          const bytes = options['print-bytes'] ? ` is ${shown(a[i]!)} ${shown(b[i]!)}` : '';
          const unit = options['print-bytes'] ? 'byte' : 'char'; // POSIX's word and GNU's
          yield* ctx.out.print(`${names.join(' ')} differ: ${unit} ${place}, line ${lines}${bytes}\n`);
          return 1;
        }
        const left = shown(a[i]!).padEnd(options['print-bytes'] ? 8 : 3);
        yield* ctx.out.print(`${String(place).padStart(width)} ${left} ${shown(b[i]!)}\n`);
      }
      if (a[i] === 10) lines++;
    }
    last = a[count - 1]!;
    offset += count;
    one.take(count);
    two.take(count);
  }
  return differs ? 1 : 0;
}

function* tellEnd(ctx: Cmp, name: string, offset: number, lines: number, last: number): Generator<void, void, void> {
  if (offset === 0) yield* ctx.fail(`EOF on ${name} which is empty`);
  else if (ctx.options.verbose) yield* ctx.fail(`EOF on ${name} after byte ${offset}`);
  else if (last === 10) yield* ctx.fail(`EOF on ${name} after byte ${offset}, line ${lines - 1}`);
  else yield* ctx.fail(`EOF on ${name} after byte ${offset}, in line ${lines}`);
}

const octal = (byte: number): string => byte.toString(8).padStart(3);
/** `a`, `^A`, `M-a`, `M-^A`: a byte as cat -v shows it. */
function caret(byte: number): string {
  if (byte >= 128) return `M-${caret(byte - 128)}`;
  return byte === 127 ? '^?' : byte < 32 ? `^${String.fromCharCode(byte + 64)}` : String.fromCharCode(byte);
}
