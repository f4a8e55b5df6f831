// The grammar of POSIX regular expressions (XBD 9) with GNU's extensions, read into a tree. What POSIX leaves undefined is as in GNU grep: a
// repetition with nothing before it is an ordinary character in basic syntax and nothing in extended syntax.

import { characterClasses } from './glob.ts';

export type Syntax = 'basic' | 'extended' | 'fixed';
export type Assertion =
  'lineStart' | 'lineEnd' | 'wordStart' | 'wordEnd' | 'wordEdge' | 'noWordEdge' | 'noWordBefore' | 'noWordAfter';

export type Node =
  | { readonly kind: 'set'; readonly set: CharacterSet }
  | { readonly kind: 'assertion'; readonly assertion: Assertion }
  | { readonly kind: 'same'; readonly group: number }
  | { readonly kind: 'group'; readonly index: number; readonly node: Node }
  | { readonly kind: 'sequence'; readonly nodes: readonly Node[] }
  | { readonly kind: 'either'; readonly nodes: readonly Node[] }
  | { readonly kind: 'repeat'; readonly node: Node; readonly min: number; readonly max: number };

/** RE_DUP_MAX of GNU: the largest number in an interval. */
const repetitionsMax = 32767;

/** Bytes that are no UTF-8 stand in texts as these surrogates; no set has them, nor has their complement. */
export const isBrokenByte = (code: number): boolean => code >= 0xdc80 && code <= 0xdcff;

/** A set of characters: a table for ASCII, a test for the rest. */
export class CharacterSet {
  private readonly ascii = new Uint8Array(128);
  private readonly test: (code: number) => boolean;

  constructor(test: (code: number) => boolean, ignoreCase: boolean) {
    this.test = ignoreCase ? code => variants(code).some(test) : test;
    for (let code = 0; code < 128; code++) this.ascii[code] = this.test(code) ? 1 : 0;
  }
  has(code: number): boolean {
    return code < 128 ? this.ascii[code] === 1 : !isBrokenByte(code) && this.test(code);
  }
}

/** A character in its cases. */
function variants(code: number): number[] {
  const c = String.fromCodePoint(code);
  return [code, ...[c.toLowerCase(), c.toUpperCase()].filter(v => [...v].length === 1).map(v => v.codePointAt(0)!)];
}

/** The tree of one pattern, or a message. */
export function parseRegex(pattern: string, syntax: Syntax, ignoreCase: boolean): Node | string {
  if (syntax === 'fixed') {
    const literals = [...pattern].map(c => literalNode(c, ignoreCase));
    return { kind: 'sequence', nodes: literals };
  }
  const parser = new Parser(pattern, syntax === 'extended', ignoreCase);
  const node = parser.alternatives(0);
  return parser.error ?? node;
}

function literalNode(c: string, ignoreCase: boolean): Node {
  const code = c.codePointAt(0)!;
  return { kind: 'set', set: new CharacterSet(x => x === code, ignoreCase) };
}

type Token =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'operator'; readonly text: '(' | ')' | '|' | '*' | '+' | '?' | '{' | '^' | '$' | '.' | '[' }
  | { readonly kind: 'escape'; readonly text: string };

class Parser {
  error: string | null = null;
  private readonly chars: readonly string[];
  private readonly extended: boolean;
  private readonly ignoreCase: boolean;
  private i = 0;
  private groups = 0;
  private readonly closed = new Set<number>();

  constructor(pattern: string, extended: boolean, ignoreCase: boolean) {
    this.chars = [...pattern];
    this.extended = extended;
    this.ignoreCase = ignoreCase;
  }

  /** Branches up to the end, or to the parenthesis that ends a group. */
  alternatives(depth: number): Node {
    const nodes = [this.branch(depth)];
    while (this.error === null && this.isOperator('|')) {
      this.next();
      nodes.push(this.branch(depth));
    }
    return nodes.length === 1 ? nodes[0]! : { kind: 'either', nodes };
  }

  private branch(depth: number): Node {
    const nodes: Node[] = [];
    let atStart = true; // nothing yet that could be repeated
    while (this.error === null && this.i < this.chars.length) {
      if (this.isOperator('|') || (this.isOperator(')') && depth > 0)) break;
      const anchors = atStart && nodes.length === 0;
      const token = this.next();
      if (token === null) break;
      if (token.kind === 'operator' && '*+?{'.includes(token.text)) {
        const node = this.repetition(token.text, atStart ? null : nodes.pop()!);
        if (node === null) continue;
        nodes.push(node);
      } else nodes.push(this.atom(token, anchors, depth));
      const last = nodes.at(-1)!;
      atStart = last.kind === 'assertion' && last.assertion === 'lineStart';
    }
    return nodes.length === 1 ? nodes[0]! : { kind: 'sequence', nodes };
  }

  /** `before` repeated; without it, the operator as a character or, in extended syntax, nothing. */
  private repetition(operator: string, before: Node | null): Node | null {
    if (operator === '{') {
      const bounds = before === null ? null : this.interval();
      if (bounds === null || before === null) return this.withLiteral(before, '{');
      return { kind: 'repeat', node: before, ...bounds };
    }
    if (before === null) return this.extended ? null : literalNode(operator, this.ignoreCase);
    return { kind: 'repeat', node: before, min: operator === '+' ? 1 : 0, max: operator === '?' ? 1 : Infinity };
  }

  private withLiteral(before: Node | null, text: string): Node {
    const node = literalNode(text, this.ignoreCase);
    return before === null ? node : { kind: 'sequence', nodes: [before, node] };
  }

  /** `N}`, `N,}`, `,M}`, `N,M}` (in basic syntax with a backslash); null when extended syntax takes the brace as a character. */
  private interval(): { min: number; max: number } | null {
    const rest = this.chars.slice(this.i).join('');
    const [whole, low, comma, high] =
      (this.extended ? /^([0-9]*)(,?)([0-9]*)\}/ : /^([0-9]*)(,?)([0-9]*)\\\}/).exec(rest) ?? [];
    if (whole === undefined || (low === '' && comma === '')) {
      if (this.extended) return null;
      this.error = rest.includes('\\}') ? 'Invalid content of \\{\\}' : 'Unmatched \\{';
      return null;
    }
    const min = Number(low);
    const max = comma === '' ? min : high === '' ? Infinity : Number(high);
    if (min > max) this.error = 'Invalid content of \\{\\}';
    else if (min > repetitionsMax || (max > repetitionsMax && max !== Infinity))
      this.error = 'Regular expression too big';
    this.i += whole.length;
    return { min, max };
  }

  private atom(token: Token, anchors: boolean, depth: number): Node {
    if (token.kind === 'escape') return this.escaped(token.text);
    if (token.kind === 'literal') return literalNode(token.text, this.ignoreCase);
    switch (token.text) {
      case '^':
        if (this.extended || anchors) return { kind: 'assertion', assertion: 'lineStart' };
        break;
      case '$':
        if (this.extended || this.endsBranch(depth)) return { kind: 'assertion', assertion: 'lineEnd' };
        break;
      case '.':
        return { kind: 'set', set: new CharacterSet(() => true, false) };
      case '[':
        return this.bracket();
      case '(':
        return this.group(depth);
      case ')':
        if (!this.extended) this.error = 'Unmatched ) or \\)';
        break;
    }
    return literalNode(token.text, this.ignoreCase);
  }

  private group(depth: number): Node {
    const index = ++this.groups;
    const node = this.alternatives(depth + 1);
    if (this.error === null && !this.isOperator(')')) this.error = 'Unmatched ( or \\(';
    else this.next();
    this.closed.add(index);
    return { kind: 'group', index, node };
  }

  private escaped(c: string): Node {
    const members = escapedSets[c];
    if (members !== undefined) {
      const set = new CharacterSet(code => members.test(String.fromCodePoint(code)), false);
      return { kind: 'set', set };
    }
    const assertion = assertions[c];
    if (assertion !== undefined) return { kind: 'assertion', assertion };
    const group = Number(c);
    if (!this.closed.has(group)) this.error = 'Invalid back reference';
    return { kind: 'same', group };
  }

  // ── Tokens ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private isOperator(text: string): boolean {
    const bare = this.chars[this.i] === text;
    const escaped = this.chars[this.i] === '\\' && this.chars[this.i + 1] === text;
    return this.extended ? bare : escaped;
  }

  private next(): Token | null {
    const c = this.chars[this.i++]!;
    if (c !== '\\') {
      const special = this.extended ? '()|*+?{^$.[' : '*^$.[';
      return special.includes(c) ? ({ kind: 'operator', text: c } as Token) : { kind: 'literal', text: c };
    }
    const x = this.chars[this.i++];
    if (x === undefined) {
      this.error = 'Trailing backslash';
      return null;
    }
    if (!this.extended && '()|+?{'.includes(x)) return { kind: 'operator', text: x } as Token;
    return { kind: /[1-9wWsSbB<>`']/.test(x) ? 'escape' : 'literal', text: x };
  }

  /** In basic syntax `$` is an anchor at the end of the pattern and before \) and \|. */
  private endsBranch(depth: number): boolean {
    return this.i === this.chars.length || this.isOperator('|') || (depth > 0 && this.isOperator(')'));
  }

  // ── Bracket expressions ────────────────────────────────────────────────────────────────────────────────────────────────────────

  private bracket(): Node {
    const { chars } = this;
    const start = this.i;
    const negated = chars[this.i] === '^';
    if (negated) this.i++;
    const tests: ((code: number) => boolean)[] = [];
    for (let first = true; ; first = false) {
      const c = chars[this.i];
      if (c === undefined && first) this.error = 'Invalid regular expression'; // so GNU says when nothing at all follows
      if (c === undefined) return this.unmatched();
      if (c === ']' && !first) break;
      if (c === '[' && chars[this.i + 1] === ':') {
        const name = this.delimited(':');
        if (name === null) return this.unmatched();
        const set = characterClasses[name];
        if (set === undefined) this.error = 'Invalid character class name';
        const members = new RegExp(`^[${unicodeClasses[name] ?? set ?? ''}]$`, 'u');
        tests.push(code => members.test(String.fromCodePoint(code)));
        continue;
      }
      const low = this.element();
      let high = low;
      if (chars[this.i] === '-' && chars[this.i + 1] !== undefined && chars[this.i + 1] !== ']') {
        this.i++;
        high = this.element();
      }
      if (low === null || high === null) return this.unmatched();
      if (high < low) this.error ??= 'Invalid range end';
      tests.push(code => code >= low && code <= high);
    }
    this.i++;
    const inside = chars.slice(start, this.i - 1).join('');
    if (/^:.*:$/.test(inside)) this.error ??= `character class syntax is [[${inside}]], not [${inside}]`;
    const { ignoreCase } = this;
    const positive = new CharacterSet(code => tests.some(test => test(code)), ignoreCase);
    return { kind: 'set', set: negated ? new CharacterSet(code => !positive.has(code), false) : positive };
  }

  /** One character, `[.c.]` or `[=c=]`; null where the expression ends in it. */
  private element(): number | null {
    const mark = this.chars[this.i + 1];
    if (this.chars[this.i] === '[' && (mark === '.' || mark === '=')) {
      const text = this.delimited(mark);
      if (text === null) return null;
      if ([...text].length !== 1) this.error ??= 'Invalid collation character';
      return text.codePointAt(0) ?? 0;
    }
    return this.chars[this.i++]?.codePointAt(0) ?? null;
  }

  /** What stands between `[:` and `:]`; null when it has no end. */
  private delimited(mark: string): string | null {
    const from = this.i + 2;
    for (let end = from; end + 1 < this.chars.length; end++) {
      if (this.chars[end] === mark && this.chars[end + 1] === ']') {
        this.i = end + 2;
        return this.chars.slice(from, end).join('');
      }
    }
    return null;
  }

  private unmatched(): Node {
    this.error ??= 'Unmatched [, [^, [:, [., or [=';
    return { kind: 'sequence', nodes: [] };
  }
}

/** Classes of letters, beyond ASCII too. */
const unicodeClasses: Readonly<Record<string, string>> = {
  alnum: '\\p{L}\\p{Nd}',
  alpha: '\\p{L}',
  lower: '\\p{Ll}',
  upper: '\\p{Lu}',
  graph: '!-~\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}',
  print: ' -~\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Zs}',
};

const escapedSets: Readonly<Record<string, RegExp>> = {
  w: /[\p{L}\p{N}_]/u,
  W: /[^\p{L}\p{N}_]/u,
  s: /[ \t\n\v\f\r]/,
  S: /[^ \t\n\v\f\r]/,
};

const assertions: Readonly<Record<string, Assertion>> = {
  '<': 'wordStart',
  '>': 'wordEnd',
  b: 'wordEdge',
  B: 'noWordEdge',
  '`': 'lineStart',
  "'": 'lineEnd',
};
