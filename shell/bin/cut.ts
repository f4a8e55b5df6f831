// cut: chosen bytes or fields of each line.

import { argumentBytes, bytesOf, lineEnd, lineText } from '../lib/bytes.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  bytes: { short: 'b', value: 'LIST', help: 'print these bytes' },
  characters: { short: 'c', value: 'LIST', help: 'the same: characters are bytes in the C locale' },
  fields: { short: 'f', value: 'LIST', help: 'print these fields; lines without a delimiter whole' },
  delimiter: { short: 'd', value: 'BYTE', help: 'what separates fields (default a tab)' },
  n: { help: 'accepted, without effect' },
  complement: { help: 'print what is not in LIST' },
  'only-delimited': { short: 's', help: 'leave out lines without a delimiter' },
  'output-delimiter': { value: 'TEXT', help: 'what stands between what is printed' },
  'zero-terminated': { short: 'z', help: 'lines end in a zero byte' },
} as const;
type Cut = Context<typeof options>;

export const cut = define({
  name: 'cut',
  summary: 'print parts of lines',
  usage: ['-b LIST [FILE]...', '-c LIST [FILE]...', '-f LIST [-s] [-d BYTE] [FILE]...'],
  options,
  description:
    'Prints the bytes or fields of each line that LIST names: numbers from 1 and ranges N-M, N-, -M, separated by commas. They come in the order of the line, each once.',
  examples: [['cut -d : -f 1,7 /etc/passwd', 'users and their shells']],
  *main(ctx) {
    const plan = planOf(ctx);
    if (typeof plan === 'string') return yield* ctx.usage(plan);
    const end = lineEnd(ctx.options['zero-terminated']);
    let status = 0;
    for (const name of ctx.operands.length > 0 ? ctx.operands : ['-']) {
      const input = yield* openInput(ctx, name);
      if (input === null) {
        status = 1;
        continue;
      }
      let line: Uint8Array | null;
      while ((line = yield* input.line(end)) !== null) {
        const chosen = plan(lineText(line, end));
        if (chosen !== null) yield* ctx.out.write(bytesOf(chosen + String.fromCharCode(end)));
      }
      if (!(yield* closeInput(ctx, name, input))) status = 1;
    }
    return status;
  },
});

/** Ranges from 1, both ends included, in order and apart. */
type Ranges = readonly (readonly [first: number, last: number])[];

/** What is printed of a line (null: nothing), or what is wrong with the command line. */
function planOf({ options }: Cut): ((line: string) => string | null) | string {
  const lists = [options.bytes, options.characters, options.fields].filter(list => list !== undefined);
  if (lists.length > 1) return 'only one list may be specified';
  if (lists.length === 0) return 'you must specify a list of bytes, characters, or fields';
  const byFields = options.fields !== undefined;
  if (!byFields && options.delimiter !== undefined) {
    return 'an input delimiter may be specified only when operating on fields';
  }
  if (!byFields && options['only-delimited']) {
    return 'suppressing non-delimited lines makes sense\n\tonly when operating on fields';
  }
  const delimiter = options.delimiter === '' ? '\0' : argumentBytes(options.delimiter ?? '\t');
  if (delimiter.length > 1) return 'the delimiter must be a single character';
  const listed = parseList(lists[0]!, byFields);
  if (typeof listed === 'string') return listed;
  const ranges = options.complement ? complementOf(listed) : listed;
  const between = options['output-delimiter'];
  if (!byFields) {
    const joint = argumentBytes(between ?? '');
    return line =>
      ranges
        .filter(([first]) => first <= line.length)
        .map(([first, last]) => line.slice(first - 1, last))
        .join(joint);
  }
  const joint = between === undefined ? delimiter : argumentBytes(between);
  return line => {
    const fields = line.split(delimiter);
    if (fields.length === 1) return options['only-delimited'] ? null : line;
    return ranges.flatMap(([first, last]) => fields.slice(first - 1, last)).join(joint);
  };
}

function parseList(text: string, fields: boolean): Ranges | string {
  const zero = fields ? 'fields are numbered from 1' : 'byte/character positions are numbered from 1';
  const ranges: [number, number][] = [];
  for (const item of text.split(/[, \t]/)) {
    const [all, first, dash, last] = /^([0-9]*)(-?)([0-9]*)$/.exec(item) ?? [];
    if (all === undefined) {
      if (/^[0-9]*-[0-9]*-/.test(item)) return fields ? 'invalid field range' : 'invalid byte or character range';
      return `invalid ${fields ? 'field value' : 'byte/character position'} '${item}'`;
    }
    if (all === '') return zero;
    if (all === '-') return 'invalid range with no endpoint: -';
    const low = first === '' ? 1 : Number(first);
    const high = dash === '' ? low : last === '' ? Infinity : Number(last);
    if (low === 0) return zero;
    if (high < low) return 'invalid decreasing range';
    ranges.push([low, high]);
  }
  ranges.sort((a, b) => a[0] - b[0]);
  const apart: [number, number][] = [];
  for (const [low, high] of ranges) {
    const previous = apart.at(-1);
    // Ranges that overlap are one; those that only touch stay two, which --output-delimiter shows.
    if (previous !== undefined && low <= previous[1]) previous[1] = Math.max(previous[1], high);
    else apart.push([low, high]);
  }
  return apart;
}

function complementOf(ranges: Ranges): Ranges {
  const gaps: [number, number][] = [];
  let next = 1;
  for (const [first, last] of ranges) {
    if (first > next) gaps.push([next, first - 1]);
    next = last + 1;
  }
  if (next < Infinity) gaps.push([next, Infinity]);
  return gaps;
}
