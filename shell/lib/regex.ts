// POSIX regular expressions, basic and extended, rewritten as the host language's: anchors, groups, intervals and bracket expressions
// are translated, GNU's \+ \? \| \w \W \s \S \b \B \< \> are kept, everything else is a literal. Matching is leftmost, not longest.

import { characterClasses } from './glob.ts';

export type Syntax = 'basic' | 'extended' | 'fixed';

const escapeLiteral = (c: string): string => (/[\\^$.*+?()[\]{}|/]/.test(c) ? `\\${c}` : c);

/** The pattern as a RegExp, or a message. A newline separates alternatives, as in grep's pattern lists. */
export function compileRegex(
  pattern: string,
  syntax: Syntax,
  flags: { ignoreCase: boolean; word: boolean; line: boolean },
): RegExp | string {
  const alternatives: string[] = [];
  for (const one of pattern.split('\n')) {
    const source = syntax === 'fixed' ? [...one].map(escapeLiteral).join('') : translate(one, syntax === 'extended');
    if (typeof source !== 'string') return source.error;
    alternatives.push(source);
  }
  let source = alternatives.length === 1 ? alternatives[0]! : alternatives.map(a => `(?:${a})`).join('|');
  if (flags.word) source = `(?<!\\w)(?:${source})(?!\\w)`;
  if (flags.line) source = `^(?:${source})$`;
  try {
    return new RegExp(source, flags.ignoreCase ? 'iu' : 'u');
  } catch {
    return 'Invalid regular expression';
  }
}

/** One alternative list in the host's syntax. */
function translate(pattern: string, extended: boolean): string | { error: string } {
  const chars = [...pattern];
  let out = '';
  let depth = 0;
  // What the last thing written was: nothing that could be repeated, an atom, or an atom with its repetition.
  let last: 'start' | 'atom' | 'repeated' | 'interval' = 'start';
  const repeat = (operator: string): void => {
    // `a+*`: a repetition of a repetition is any number of times.
    out = last === 'repeated' ? `${out.slice(0, -1)}*` : out + operator;
    last = 'repeated';
  };
  for (let i = 0; i < chars.length; i++) {
    const c = chars[i]!;
    const escaped = c === '\\';
    const x = escaped ? chars[++i] : c;
    if (x === undefined) return { error: 'Trailing backslash' };
    // ( ) { | + ? are operators bare in extended syntax, escaped in basic syntax.
    const operator = escaped !== extended;
    if (last === 'interval' && ((x === '*' && !escaped) || (/[+?{]/.test(x) && operator))) {
      return { error: 'Invalid preceding regular expression' };
    }
    if ((x === '(' || x === '|') && operator) {
      if (x === '(') depth++;
      out += x;
      last = 'start';
    } else if (x === ')' && operator && (depth > 0 || !extended)) {
      if (--depth < 0) return { error: 'Unmatched ) or \\)' };
      out += ')';
      last = 'atom';
    } else if ((x === '+' || x === '?') && operator && last !== 'start') repeat(x);
    else if (x === '*' && !escaped && last !== 'start') repeat('*');
    else if (x === '{' && operator && last === 'atom' && (!extended || beginsInterval(chars, i))) {
      const end = chars.indexOf('}', i);
      if (end < 0) return { error: 'Unmatched { or \\{' };
      const interval = chars.slice(i + 1, extended ? end : end - 1).join('');
      if (!/^[0-9]+(,[0-9]*)?$/.test(interval)) return { error: 'Invalid content of \\{\\}' };
      out += `{${interval}}`;
      i = end;
      last = 'interval';
    } else if (x === '^' && !escaped && (extended || last === 'start')) out += '^';
    else if (x === '$' && !escaped && (extended || endsAlternative(chars, i + 1))) out += '$';
    else {
      if (escaped) out += escapedAtom(x);
      else if (x === '.') out += '.';
      else if (x === '[') {
        const set = bracket(chars, i);
        if (set === null) return { error: 'Invalid regular expression' };
        out += set.source;
        i = set.last;
      } else out += escapeLiteral(x);
      last = 'atom';
    }
  }
  return depth > 0 ? { error: 'Unmatched ( or \\(' } : out;
}

function escapedAtom(c: string): string {
  if (/[wWsSbB]/.test(c)) return `\\${c}`;
  if (c === '<') return '\\b(?=\\w)';
  if (c === '>') return '\\b(?<=\\w)';
  return /[1-9]/.test(c) ? `(?:\\${c})` : escapeLiteral(c);
}

/** In extended syntax a brace that begins no interval is an ordinary character. */
const beginsInterval = (chars: readonly string[], i: number): boolean =>
  /^\{[0-9]+(?:,[0-9]*)?\}/.test(chars.slice(i, i + 24).join(''));

/** In basic syntax `$` is an anchor at the end of the pattern and before \) and \|. */
function endsAlternative(chars: readonly string[], i: number): boolean {
  return i === chars.length || (chars[i] === '\\' && (chars[i + 1] === ')' || chars[i + 1] === '|'));
}

/** A bracket expression at `start`; backslashes inside are ordinary. */
function bracket(chars: readonly string[], start: number): { source: string; last: number } | null {
  let i = start + 1;
  let source = '[';
  if (chars[i] === '^') {
    source += '^';
    i++;
  }
  const first = i;
  for (; i < chars.length; i++) {
    const c = chars[i]!;
    if (c === ']' && i > first) return { source: `${source}]`, last: i };
    if (c === '[' && chars[i + 1] === ':') {
      const end = chars.indexOf(':', i + 2);
      const set = characterClasses[chars.slice(i + 2, end).join('')];
      if (end < 0 || chars[end + 1] !== ']' || set === undefined) return null;
      source += set;
      i = end + 1;
    } else if (c === '-' && i > first && chars[i + 1] !== ']') source += '-';
    else source += /[\\\]^[\-(){}|/&]/.test(c) ? `\\${c}` : c;
  }
  return null;
}
