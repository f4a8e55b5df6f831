// wc: counts lines, words and bytes. Words are runs of bytes that are not white space.

import { KIND, codePointWidth } from '../../kernel/abi/index.ts';
import { isPrintable } from '../lib/bytes.ts';
import { fstat } from '../lib/files.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Input } from '../lib/stdio.ts';

const options = {
  bytes: { short: 'c', help: 'print the number of bytes' },
  chars: { short: 'm', help: 'print the number of characters (UTF-8)' },
  lines: { short: 'l', help: 'print the number of newlines' },
  words: { short: 'w', help: 'print the number of words' },
  'max-line-length': { short: 'L', help: 'print the columns that the widest line takes' },
} as const;

interface Counts {
  lines: number;
  words: number;
  chars: number;
  bytes: number;
  'max-line-length': number;
}
const order = ['lines', 'words', 'chars', 'bytes', 'max-line-length'] as const;
const none: Counts = { lines: 0, words: 0, chars: 0, bytes: 0, 'max-line-length': 0 };

export const wc = define({
  name: 'wc',
  summary: 'count lines, words and bytes',
  usage: ['[-clmwL] [FILE]...'],
  options,
  description:
    'Prints counts of newlines, words and bytes for each FILE, or standard input, and a total when there are several.',
  examples: [['ls /bin | wc -l', 'how many programs there are']],
  *main(ctx) {
    const chosen = order.filter(k => ctx.options[k]);
    const shown = chosen.length > 0 ? chosen : (['lines', 'words', 'bytes'] as const);
    const names = ctx.operands.length > 0 ? ctx.operands : [''];
    const total: Counts = { ...none };
    const rows: { counts: Counts; name: string }[] = [];
    let status = 0;
    let widest = 1;
    for (const name of names) {
      const input = yield* openInput(ctx, name === '' ? '-' : name);
      if (input === null) {
        status = 1;
        continue;
      }
      const st = yield* fstat(ctx.sys, input.fd);
      // A stream's size is not known beforehand: coreutils then makes every column seven wide.
      if (typeof st === 'number' || st.kind !== KIND.file) widest = 7;
      const counts = yield* count(input);
      for (const key of order) {
        total[key] = key === 'max-line-length' ? Math.max(total[key], counts[key]) : total[key] + counts[key];
      }
      rows.push({ counts, name });
      if (!(yield* closeInput(ctx, name, input))) status = 1;
    }
    if (names.length > 1) rows.push({ counts: total, name: 'total' });
    const width = names.length === 1 && shown.length === 1 ? 1 : Math.max(widest, String(total.bytes).length);
    for (const { counts, name } of rows) {
      const figures = shown.map(key => String(counts[key]).padStart(width)).join(' ');
      yield* ctx.out.print(`${figures}${name === '' ? '' : ` ${name}`}\n`);
    }
    return status;
  },
});

function* count(input: Input): Generator<void, Counts, void> {
  const counts: Counts = { ...none };
  let inWord = false;
  const columns = new Columns();
  for (;;) {
    const piece = yield* input.chunk();
    if (piece === null) return counts;
    counts.bytes += piece.length;
    for (const byte of piece) {
      if (byte === 10) counts.lines++;
      if ((byte & 0xc0) !== 0x80) counts.chars++;
      const blank = byte === 32 || (byte >= 9 && byte <= 13);
      if (!blank && !inWord) counts.words++;
      inWord = !blank;
      columns.add(byte);
    }
    counts['max-line-length'] = columns.widest;
  }
}

/** Follows a text over the screen, byte by byte. */
class Columns {
  widest = 0;
  private column = 0;
  private code = 0; // of the UTF-8 character in progress
  private missing = 0; // bytes of it still to come

  add(byte: number): void {
    if (byte === 9) this.column += 8 - (this.column % 8);
    else if (byte === 10 || byte === 12 || byte === 13) this.column = 0;
    else if (isPrintable(byte)) this.column++;
    else if (byte >= 0xc0) {
      this.missing = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
      this.code = byte & (0x3f >> this.missing);
    } else if (byte >= 0x80 && this.missing > 0) {
      this.code = (this.code << 6) | (byte & 0x3f);
      if (--this.missing === 0) this.column += codePointWidth(this.code);
    }
    this.widest = Math.max(this.widest, this.column);
  }
}
