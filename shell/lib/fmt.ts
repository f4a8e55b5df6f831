// Figures and tables as text: sizes, modes, dates, columns, JSON. Everything is computed here, so that output is the same on every host.

import { KIND, Times } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';

/** Bytes in the units of `ls -h` and `df -h`: rounded up, one decimal below ten: `512`, `1.5K`, `13M`. */
export function humanSize(bytes: number): string {
  if (bytes < 1024) return String(bytes);
  const units = 'KMGTPE';
  let unit = 0;
  let n = bytes / 1024;
  while (Math.ceil(n) >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  const tenths = Math.ceil(n * 10);
  return tenths < 100 ? `${Math.floor(tenths / 10)}.${tenths % 10}${units[unit]}` : `${Math.ceil(n)}${units[unit]}`;
}

/**
 * A count with GNU's suffixes: `512`, `4K` (1024), `2kB` (1000), `1M`, `b` (512); null when it is not one. Signs are not part of it.
 */
export function parseSize(text: string): number | null {
  const [, digits, suffix] = /^([0-9]+)(b|[KkMG](?:i?B)?)?$/.exec(text) ?? [];
  if (digits === undefined) return null;
  const base = suffix?.endsWith('B') && !suffix.endsWith('iB') ? 1000 : 1024;
  const scale = suffix === undefined ? 1 : suffix === 'b' ? 512 : base ** ('KMG'.indexOf(suffix[0]!.toUpperCase()) + 1);
  const n = Number(digits) * scale;
  return Number.isSafeInteger(n) ? n : null;
}

/** `-rw-r--r--`; set-user-ID, set-group-ID and sticky show in the execute places: `-rwsr-xr-x`, `drwxrwxrwt`. */
export function modeString(kind: number, mode: number): string {
  const letters: Record<number, string> = {
    [KIND.dir]: 'd',
    [KIND.char]: 'c',
    [KIND.block]: 'b',
    [KIND.fifo]: 'p',
    [KIND.link]: 'l',
  };
  let text = letters[kind] ?? '-';
  for (let bit = 8; bit >= 0; bit--) {
    const set = ((mode >> bit) & 1) !== 0;
    const special = bit % 3 === 0 && ((mode >> (9 + bit / 3)) & 1) !== 0;
    const letter = special ? (bit === 0 ? 't' : 's') : 'rwx'[2 - (bit % 3)]!;
    text += set ? letter : special ? letter.toUpperCase() : '-';
  }
  return text;
}

export interface CivilTime {
  readonly year: number;
  readonly month: number; // 1 … 12
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly weekday: number; // 0 = Sunday
}

/** UTC of a count of seconds since 1970 (Howard Hinnant's days-to-civil: March-based years, 400-year eras). */
export function civilTime(seconds: number): CivilTime {
  const days = Math.floor(seconds / 86400);
  const rest = seconds - days * 86400;
  const z = days + 719468;
  const era = Math.floor(z / 146097);
  const dayOfEra = z - era * 146097;
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36524) - Math.floor(dayOfEra / 146096)) / 365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shifted = Math.floor((5 * dayOfYear + 2) / 153);
  const month = shifted < 10 ? shifted + 3 : shifted - 9;
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * shifted + 2) / 5) + 1,
    hour: Math.floor(rest / 3600),
    minute: Math.floor(rest / 60) % 60,
    second: Math.floor(rest) % 60,
    weekday: (((days + 4) % 7) + 7) % 7,
  };
}

export const two = (n: number): string => String(n).padStart(2, '0');

/** `2025-01-31 08:05`, as `ls -l` prints times. */
export function isoMinute(seconds: number): string {
  const t = civilTime(seconds);
  return `${t.year}-${two(t.month)}-${two(t.day)} ${two(t.hour)}:${two(t.minute)}`;
}

/** The Times record of this process, nanoseconds and cycles as numbers. */
export function* times(sys: Sys): Generator<void, ReturnType<typeof Times.read>, void> {
  const record = new Uint8Array(Times.bytes);
  yield* sys.times(record);
  return Times.read(record, 0);
}

/** Rows in aligned columns, two spaces between; columns marked in `right` are flush right. No line ends in spaces. */
export function table(rows: readonly (readonly string[])[], right: readonly boolean[] = [], gap = '  '): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (right[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join(gap);
  return rows.map(row => `${line(row).trimEnd()}\n`).join('');
}

/** Names in as many columns as fit `width`, sorted downwards, as `ls` prints them. */
export function columns(names: readonly string[], width: number): string {
  if (names.length === 0) return '';
  for (let rows = 1; ; rows++) {
    const count = Math.ceil(names.length / rows);
    const widths = Array.from({ length: count }, (_, c) =>
      Math.max(...names.slice(c * rows, c * rows + rows).map(name => name.length)),
    );
    const total = widths.reduce((sum, w) => sum + w + 2, -2);
    if (total > width && rows < names.length) continue;
    let text = '';
    for (let r = 0; r < rows; r++) {
      const cells = widths.map((w, c) => (names[c * rows + r] ?? '').padEnd(w));
      text += `${cells.join('  ').trimEnd()}\n`;
    }
    return text;
  }
}

/**
 * Text folded at `width` columns, each line after `indent` spaces. An indented line is a row of a list: what does not fit hangs below its
 * second column.
 */
export function wrap(text: string, width: number, indent = 0): string {
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    const [head] = /^(?: +\S.*? {2,}| +)?/.exec(paragraph)!;
    let line = ' '.repeat(indent) + head;
    let empty = true; // nothing of this line's text is there yet
    for (const word of paragraph.slice(head.length).split(' ')) {
      if (!empty && line.length + 1 + word.length > width) {
        lines.push(line);
        line = ' '.repeat(indent + head.length);
        empty = true;
      }
      line += empty ? word : ` ${word}`;
      empty = false;
    }
    lines.push(line.trimEnd());
  }
  return `${lines.join('\n')}\n`;
}

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** One object on one line, keys in the order written. Numbers print as JavaScript prints them; what is not finite becomes null. */
export function jsonLine(value: Json): string {
  return `${JSON.stringify(value)}\n`;
}
