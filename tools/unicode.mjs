// Generates drivers/engine/unicode.ts: the character classes that the pre-tokenizers' regular expressions name, read once from this
// Node's own regular-expression engine and then pinned, because engines ship different Unicode versions. Run by hand, not by the build.
import { writeFileSync } from 'node:fs';
import process from 'node:process';

// L letter, N number, Z white space, P punctuation, O everything else.
const classes = [
  ['L', /\p{L}/u],
  ['N', /\p{N}/u],
  ['Z', /\p{White_Space}/u],
  ['P', /\p{P}/u],
];
const classOf = c => classes.find(([, re]) => re.test(String.fromCodePoint(c)))?.[0] ?? 'O';

const runs = [];
for (let c = 0; c < 0x110000; c++) {
  const k = classOf(c);
  if (runs.at(-1)?.k === k) runs.at(-1).n++;
  else runs.push({ k, n: 1 });
}

const lines = [''];
for (const { k, n } of runs) {
  const word = n.toString(36) + k;
  if (lines.at(-1).length + word.length > 128) lines.push('');
  lines[lines.length - 1] += word;
}

writeFileSync(
  new URL('../drivers/engine/unicode.ts', import.meta.url),
  `// Character classes of Unicode ${process.versions.unicode} for the byte-level pre-tokenizers (\\p{L}, \\p{N}, \\p{P}, \\s), pinned so that every engine cuts text
// alike. Written by tools/unicode.mjs. The text below lists runs of code points from U+0000 on: a length in base 36, then a letter.

import type { ArenaView } from '../../kernel/abi/index.ts';

export const UNICODE_VERSION = '${process.versions.unicode}';
const LETTERS = 'OLNZP'; // a class's number is its letter's place here plus one; 0 is the end of the text

/** Bytes that loadUnicode writes: a count, then one u32 per run. */
export const UNICODE_BYTES = ${4 * runs.length + 4};

/** Writes the table at \`at\` (a multiple of 4): u32 count, then per run u32 first code point | class << 21, ascending. Returns its bytes. */
export function loadUnicode(arena: ArenaView, at: number): number {
  let count = 0;
  let first = 0;
  let length = 0;
  for (let i = 0; i < RUNS.length; i++) {
    const digit = RUNS.charCodeAt(i);
    if (digit < 0x41 || digit > 0x5a) length = length * 36 + (digit < 0x3a ? digit - 0x30 : digit - 0x57);
    else {
      arena.u32[(at >> 2) + ++count] = first | ((LETTERS.indexOf(RUNS.charAt(i)) + 1) << 21);
      first += length;
      length = 0;
    }
  }
  arena.u32[at >> 2] = count;
  return 4 * count + 4;
}

// prettier-ignore
const RUNS =
${lines.map((l, i) => `  '${l}'${i === lines.length - 1 ? ';' : ' +'}`).join('\n')}
`,
);
console.log(`${runs.length} runs, ${4 * runs.length + 4} bytes, Unicode ${process.versions.unicode}`);
