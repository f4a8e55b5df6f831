// Numbers of dd: counts with GNU's suffixes and products, and bytes in both systems of units, as dd's last line has them; `llmctl disk` prints
// its bytes in the same way.

const SUFFIXES: Readonly<Record<string, number>> = { '': 1, c: 1, w: 2, b: 512 };
const UNITS = 'KMGT';

/** `512`, `4K` (1024), `2kB` (1000), `1MiB`, `2x512`; null when it is none or beyond exact integers. */
export function parseBlocks(text: string): number | null {
  let product = 1;
  for (const factor of text.split('x')) {
    const [, digits, suffix] = /^([0-9]+)([cwb]?|[kKMGT](?:i?B)?)$/.exec(factor) ?? [];
    if (digits === undefined) return null;
    const base = suffix!.length === 2 ? 1000 : 1024;
    product *= Number(digits) * (SUFFIXES[suffix!] ?? base ** (UNITS.indexOf(suffix![0]!.toUpperCase()) + 1));
  }
  return Number.isSafeInteger(product) ? product : null;
}

/** `1.5 kB` (base 1000), `1.5 KiB` (base 1024): one decimal below ten, rounded to the nearest. */
export function humanBytes(bytes: number, base: 1000 | 1024): string {
  let n = bytes;
  let unit = 0;
  while (Math.round(n) >= base && unit < UNITS.length) {
    n /= base;
    unit++;
  }
  const digits = unit > 0 && n < 9.95 ? n.toFixed(1) : String(Math.round(n));
  const letter = unit === 0 ? '' : base === 1000 && unit === 1 ? 'k' : UNITS[unit - 1]!;
  return `${digits} ${letter}${base === 1024 && unit > 0 ? 'i' : ''}B`;
}
