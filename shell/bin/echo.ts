// echo: its arguments. -n and -e as in bash; without -e a backslash is an ordinary character.

import { utf8Encode } from '../../kernel/abi/index.ts';
import { define } from '../lib/program.ts';
import { concat } from '../lib/stdio.ts';

export const echo = define({
  name: 'echo',
  summary: 'print arguments',
  usage: ['[-neE] [ARG]...'],
  order: 'none',
  description:
    'Prints its arguments separated by spaces, and a newline. -n: no newline. -e: interpret \\\\ \\a \\b \\c (stop here) \\e \\f \\n \\r \\t \\v \\0NNN (octal) \\xHH. -E: do not (the default).',
  examples: [["echo -e 'a\\tb'", 'prints a and b with a tab between']],
  *main(ctx) {
    const args = [...ctx.operands];
    let newline = true;
    let escapes = false;
    while (/^-[neE]+$/.test(args[0] ?? '')) {
      for (const letter of args.shift()!.slice(1)) {
        if (letter === 'n') newline = false;
        else escapes = letter === 'e';
      }
    }
    const text = args.join(' ');
    const { bytes, stopped } = escapes ? interpret(text) : { bytes: utf8Encode(text), stopped: false };
    yield* ctx.out.write(bytes);
    if (newline && !stopped) yield* ctx.out.print('\n');
    return 0;
  },
});

const letters: Readonly<Record<string, number>> = { a: 7, b: 8, e: 27, f: 12, n: 10, r: 13, t: 9, v: 11, '\\': 92 };

/** Backslash escapes to bytes; `stopped` when \c was met. */
export function interpret(text: string): { bytes: Uint8Array; stopped: boolean } {
  const pieces: Uint8Array[] = [];
  const escape = /\\(?:c|0([0-7]{0,3})|x([0-9A-Fa-f]{1,2})|([abefnrtv\\]))/g;
  let at = 0;
  for (let m = escape.exec(text); m !== null; m = escape.exec(text)) {
    pieces.push(utf8Encode(text.slice(at, m.index)));
    at = escape.lastIndex;
    const [whole, octal, hex, letter] = m;
    if (whole === '\\c') return { bytes: concat(pieces), stopped: true };
    const byte =
      octal !== undefined ? parseInt(octal || '0', 8) : hex !== undefined ? parseInt(hex, 16) : letters[letter!]!;
    pieces.push(Uint8Array.of(byte & 0xff));
  }
  pieces.push(utf8Encode(text.slice(at)));
  return { bytes: concat(pieces), stopped: false };
}
