// POSIX pattern matching (XCU 2.14): `*`, `?`, `[…]`, a backslash makes the next character ordinary. One matcher for pathnames and for
// the shell's `${name%pattern}`; pathname expansion walks directories component by component.

import type { Sys } from '../../kernel/abi/index.ts';
import { byteOrder, join, listDirectory, stat } from './files.ts';

/** `*`, one code point that `test` accepts, in sequence. */
type Step = { readonly star: true } | { readonly star: false; readonly test: (c: string) => boolean };
export type Pattern = readonly Step[];

const magic = /(?:^|[^\\])(?:\\\\)*(?:[*?]|\[.*\])/s;
/** True when a pattern has a character that is special and not escaped; `[` is only with a `]` after it. */
export const hasMagic = (pattern: string): boolean => magic.test(pattern);
export const unescape = (pattern: string): string => pattern.replace(/\\(.)/gsu, '$1');
/** A pattern that matches exactly `text`. */
export const escapePattern = (text: string): string => text.replace(/[\\*?[\]]/g, '\\$&');

export function compilePattern(pattern: string): Pattern {
  const chars = [...pattern];
  const steps: Step[] = [];
  for (let i = 0; i < chars.length; i++) {
    const c = chars[i]!;
    if (c === '*') {
      if (!steps.at(-1)?.star) steps.push({ star: true });
    } else if (c === '?') steps.push({ star: false, test: () => true });
    else if (c === '[') {
      const set = bracket(chars, i);
      if (set === null) steps.push(literal(c));
      else {
        steps.push({ star: false, test: set.test });
        i = set.last;
      }
    } else if (c === '\\' && i + 1 < chars.length) steps.push(literal(chars[++i]!));
    else steps.push(literal(c));
  }
  return steps;
}

const literal = (wanted: string): Step => ({ star: false, test: c => c === wanted });

/** Character classes of the POSIX locale. */
export const characterClasses: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  blank: ' \\t',
  cntrl: '\\x00-\\x1f\\x7f',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`\\{-~',
  space: ' \\t\\n\\v\\f\\r',
  upper: 'A-Z',
  xdigit: '0-9A-Fa-f',
};

/** The bracket expression that begins at `start`: its test and the index of its `]`; null when it has no end (then `[` is ordinary). */
function bracket(chars: readonly string[], start: number): { test: (c: string) => boolean; last: number } | null {
  let i = start + 1;
  const negated = chars[i] === '!' || chars[i] === '^';
  if (negated) i++;
  const ranges: [low: number, high: number][] = [];
  const classes: RegExp[] = [];
  const first = i;
  for (; i < chars.length; i++) {
    let c = chars[i]!;
    if (c === ']' && i > first) {
      const test = (x: string): boolean => {
        const code = x.codePointAt(0)!;
        return negated !== (ranges.some(([low, high]) => code >= low && code <= high) || classes.some(r => r.test(x)));
      };
      return { test, last: i };
    }
    if (c === '[' && chars[i + 1] === ':') {
      const end = chars.indexOf(':', i + 2);
      const set = characterClasses[chars.slice(i + 2, end).join('')];
      if (end > 0 && chars[end + 1] === ']' && set !== undefined) {
        classes.push(new RegExp(`^[${set}]$`, 'u'));
        i = end + 1;
        continue;
      }
    }
    if (c === '\\' && i + 1 < chars.length) c = chars[++i]!;
    const low = c.codePointAt(0)!;
    let high = low;
    if (chars[i + 1] === '-' && i + 2 < chars.length && chars[i + 2] !== ']') {
      i += 2;
      if (chars[i] === '\\' && i + 1 < chars.length) i++;
      high = chars[i]!.codePointAt(0)!;
    }
    ranges.push([low, high]);
  }
  return null;
}

/** True when the pattern matches all of `text`. Linear in the text for each star: only the last star is ever retried. */
export function matches(pattern: Pattern, text: string): boolean {
  const chars = [...text];
  let p = 0;
  let t = 0;
  let star = -1;
  let retry = 0;
  while (t < chars.length) {
    const step = pattern[p];
    if (step?.star) {
      star = p++;
      retry = t;
    } else if (step !== undefined && step.test(chars[t]!)) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++retry;
    } else return false;
  }
  while (pattern[p]?.star) p++;
  return p === pattern.length;
}

/** The names that a pattern stands for, in byte order; none when there is no match. A leading dot must be matched by a dot. */
export function* expandPath(sys: Sys, pattern: string): Generator<void, string[], void> {
  const parts = pattern.split(/(?<!\\)\/+/);
  let found: string[] = [''];
  if (pattern.startsWith('/')) {
    parts.shift();
    found = ['/'];
  }
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    const last = i === parts.length - 1;
    const next: string[] = [];
    for (const prefix of found) {
      if (!hasMagic(part)) {
        const path = prefix === '' ? unescape(part) : part === '' ? `${prefix}/` : join(prefix, unescape(part));
        if (typeof (yield* stat(sys, path)) !== 'number') next.push(path);
        continue;
      }
      const entries = yield* listDirectory(sys, prefix === '' ? '.' : prefix);
      if (typeof entries === 'number') continue;
      const compiled = compilePattern(part);
      for (const { name } of entries) {
        if (name.startsWith('.') && !part.startsWith('.')) continue;
        if (!matches(compiled, name)) continue;
        const path = prefix === '' ? name : join(prefix, name);
        if (last || typeof (yield* stat(sys, `${path}/.`)) !== 'number') next.push(path);
      }
    }
    found = next;
  }
  return found.sort(byteOrder);
}
