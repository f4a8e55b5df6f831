// The history file: the commands a person typed, oldest first. An entry begins in the first column and goes on in lines that begin with a
// tab, as header fields of mail do (RFC 5322), so that a command of several lines stays one and `grep` still reads the file. Only the end
// of a long file is looked at.

import { E, LIMITS, O, SEEK, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { readAll, writeAll } from './stdio.ts';

/** Where an interactive shell keeps its history. */
export const historyFile = (get: (name: string) => string | undefined): string =>
  get('HISTFILE') ?? `${get('HOME') ?? ''}/.sh_history`;

const mode = 0o600; // commands may hold what is nobody else's business

const format = (entry: string): string => `${entry.replaceAll('\n', '\n\t')}\n`;

function parse(text: string): string[] {
  const entries: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('\t') && entries.length > 0) entries[entries.length - 1] += `\n${line.slice(1)}`;
    else if (line !== '') entries.push(line.replaceAll('\0', ''));
  }
  return entries;
}

/** The last entries, at most LIMITS.historyLines of them from the last LIMITS.historyBytes of the file; or -errno. */
export function* readHistory(sys: Sys, file: string): Generator<void, string[] | number, void> {
  const fd = yield* sys.open(file, O.RDONLY, 0);
  if (fd < 0) return fd;
  const size = yield* sys.lseek(fd, 0, SEEK.end);
  const from = Math.max(0, size - LIMITS.historyBytes);
  yield* sys.lseek(fd, from, SEEK.set);
  const bytes = yield* readAll(sys, fd, LIMITS.historyBytes);
  yield* sys.close(fd);
  if (typeof bytes === 'number') return bytes;
  const text = utf8Decode(bytes);
  // The first entry of what was cut out may have lost its beginning.
  const whole = from === 0 ? text : text.slice(text.search(/\n(?!\t)/) + 1);
  return parse(whole).slice(-LIMITS.historyLines);
}

/** Adds an entry at the end. Returns 0 or -errno. */
export function* appendHistory(sys: Sys, file: string, entry: string): Generator<void, number, void> {
  return yield* write(sys, file, O.APPEND, format(entry));
}

/** Replaces the whole history. Returns 0 or -errno. */
export function* writeHistory(sys: Sys, file: string, entries: readonly string[]): Generator<void, number, void> {
  return yield* write(sys, file, O.TRUNC, entries.map(format).join(''));
}

function* write(sys: Sys, file: string, how: number, text: string): Generator<void, number, void> {
  if (file === '') return -E.NOENT;
  const fd = yield* sys.open(file, O.WRONLY | O.CREAT | how, mode);
  if (fd < 0) return fd;
  const result = yield* writeAll(sys, fd, utf8Encode(text));
  yield* sys.close(fd);
  return Math.min(0, result);
}
