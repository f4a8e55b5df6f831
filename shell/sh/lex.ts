// The shell's lexer: text to tokens, after POSIX XCU 2.3. Quoting is resolved here into word parts, so that expansion never sees a quote
// character; what stands inside $(…) and `…` is parsed here too, by the grammar handed in, so that only the parser decides where it ends.
// A mistake or an unfinished quote is remembered and ends the token stream; the parser reads it from `fault`.

import type { List } from './parse.ts';

/** One piece of a word. `quoted` text is never split nor taken as a pattern. */
export type Part =
  | { readonly kind: 'text'; readonly text: string; readonly quoted: boolean }
  | {
      readonly kind: 'parameter';
      readonly name: string;
      readonly quoted: boolean;
      /** `${name:-word}` and its kin; `length` is `${#name}`. */
      readonly operation?: { readonly kind: ParameterOperator; readonly word: Word };
    }
  | { readonly kind: 'command'; readonly list: List; readonly quoted: boolean }
  /** `$((word))`. */
  | { readonly kind: 'arithmetic'; readonly word: Word; readonly quoted: boolean }
  /** `${…}` that means nothing: an error when it is expanded. */
  | { readonly kind: 'bad'; readonly quoted: boolean };
export type Word = readonly Part[];

export const parameterOperators = [':-', ':=', ':+', ':?', '-', '=', '+', '?', '%%', '%', '##', '#'] as const;
export type ParameterOperator = (typeof parameterOperators)[number] | 'length';

/** `from` and `to`: where in the text the token lies. */
export type Token = {
  readonly text: string;
  readonly line: number;
  readonly from: number;
  readonly to: number;
} & (
  | { readonly kind: 'word'; readonly word: Word }
  /** A control operator, or a redirection operator with the descriptor number written before it. */
  | { readonly kind: 'operator'; readonly fd: number | null }
  | { readonly kind: 'newline' }
  | { readonly kind: 'end' }
);

export interface Fault {
  readonly message: string;
  readonly line: number;
  /** More text could make it right: an interactive shell asks for another line. */
  readonly incomplete: boolean;
}

/** What the lexer asks of the parser. */
export interface Grammar {
  /** The commands of `$(…)`: reads tokens up to its closing parenthesis. */
  substitution(lexer: Lexer): List;
  /** The commands of a text of its own: what stands between backquotes. */
  program(lexer: Lexer): List;
}

/** A redirection whose text stands in the lines that follow. */
export interface HereDocument {
  readonly delimiter: string;
  /** The text is taken as it is. */
  readonly literal: boolean;
  /** `<<-`: tabs at the beginning of lines are dropped. */
  readonly stripTabs: boolean;
  target: Word;
}

/** Where the lexer is: which characters end the parts of a word, and which are special before. */
type Mode = 'word' | 'double' | 'brace' | 'quotedBrace' | 'here' | 'arithmetic';
/** In these modes blanks and single quotes are ordinary, and so a backslash before most characters. */
const escapable: Readonly<Partial<Record<Mode, string>>> = {
  double: '$`"\\',
  quotedBrace: '$`"\\}',
  here: '$`\\',
  arithmetic: '$`"\\',
};

// Longest first.
const operators = [
  '<<-',
  '&&',
  '||',
  ';;',
  '>>',
  '>&',
  '>|',
  '<&',
  '<>',
  '<<',
  '&',
  '|',
  ';',
  '<',
  '>',
  '(',
  ')',
] as const;
/** How deep ${x:-${y:-…}}, $($(…)) and compound commands may be nested. */
const nestingMax = 100;
const wordEnds = ' \t\n;&|<>()';
const isName = (c: string | undefined): boolean => c !== undefined && /[A-Za-z_]/.test(c);
const isNameRest = (c: string | undefined): boolean => c !== undefined && /[A-Za-z0-9_]/.test(c);

export class Lexer {
  fault: Fault | null = null;
  /** The text ended inside a here-document. */
  hereIsOpen = false;
  private text: string;
  private at = 0;
  private takenTo = 0;
  private depth = 0;
  private line: number;
  private readonly grammar: Grammar;
  private readonly hereDocuments: HereDocument[] = [];
  /** Aliases whose values are being read: how much text was left after each when it was put in. */
  private aliases: { readonly name: string; readonly left: number }[] = [];

  constructor(text: string, line: number, grammar: Grammar) {
    this.text = text;
    this.line = line;
    this.grammar = grammar;
  }

  next(): Token {
    this.skipBlanks();
    const { line, at: from } = this;
    const c = this.text[from];
    if (c === undefined || this.fault !== null) return { kind: 'end', text: 'end of file', line, from, to: from };
    if (c === '\n') {
      this.at++;
      this.line++;
      this.readHereDocuments();
      return { kind: 'newline', text: 'newline', line, from, to: from };
    }
    const number = /^[0-9]+(?=[<>])/.exec(this.text.slice(from, from + 8))?.[0];
    const operator = operators.find(o => this.text.startsWith(o, from + (number?.length ?? 0)));
    if (operator !== undefined) {
      this.at += operator.length + (number?.length ?? 0);
      const fd = number === undefined ? null : Number(number);
      return { kind: 'operator', text: operator, fd, line, from, to: this.at };
    }
    const word = this.parts('word');
    if (this.fault !== null) return { kind: 'end', text: 'end of file', line, from, to: from };
    return { kind: 'word', word, text: this.text.slice(from, this.at), line, from, to: this.at };
  }

  fail(message: string, line = this.line, incomplete = false): void {
    this.fault ??= { message, line, incomplete };
  }

  /** Runs one level of a nested construct; too many are a fault. */
  nested<T>(read: () => T, otherwise: T): T {
    if (this.depth === nestingMax) {
      this.fail(`nested more than ${nestingMax} deep`);
      return otherwise;
    }
    this.depth++;
    const result = read();
    this.depth--;
    return result;
  }

  /** The text that was read since the last time. */
  taken(): string {
    const text = this.text.slice(this.takenTo, this.at);
    this.takenTo = this.at;
    return text;
  }

  /** The text between two tokens, for people. */
  source(from: number, to: number): string {
    return this.text.slice(from, to);
  }

  /** The body is read when the line ends. */
  expectHereDocument(document: HereDocument): void {
    this.hereDocuments.push(document);
  }

  /** Puts the value of an alias in the place of the token just read; false when that token came from the same alias. */
  replace(token: Token, value: string): boolean {
    this.aliases = this.aliases.filter(a => this.text.length - token.from > a.left);
    if (this.aliases.some(a => a.name === token.text)) return false;
    this.aliases.push({ name: token.text, left: this.text.length - token.to });
    this.text = this.text.slice(0, token.from) + value + this.text.slice(token.to);
    this.at = token.from;
    return true;
  }

  private skipBlanks(): void {
    for (;;) {
      const c = this.text[this.at];
      if (c === ' ' || c === '\t') this.at++;
      else if (c === '\\' && this.text[this.at + 1] === '\n') this.skipJoinedLine();
      else if (c === '#') {
        while (this.at < this.text.length && this.text[this.at] !== '\n') this.at++;
      } else return;
    }
  }

  /** A backslash and the newline after it. */
  private skipJoinedLine(): void {
    this.at += 2;
    this.line++;
    if (this.at === this.text.length) this.fail('unexpected end of file', this.line, true);
  }

  private readHereDocuments(): void {
    for (const document of this.hereDocuments.splice(0)) {
      const firstLine = this.line;
      let body = '';
      let joined: string | null = null; // a line that goes on in the next
      for (;;) {
        if (this.at >= this.text.length) {
          this.hereIsOpen = true;
          break;
        }
        const newline = this.text.indexOf('\n', this.at);
        const end = newline < 0 ? this.text.length : newline + 1;
        let line = this.text.slice(this.at, end);
        this.at = end;
        this.line++;
        if (document.stripTabs) line = line.replace(/^\t+/, '');
        if (joined !== null) line = joined + line;
        joined = document.literal ? null : (/^((?:.*[^\\])?(?:\\\\)*)\\\n$/s.exec(line)?.[1] ?? null);
        if (joined !== null) continue;
        if (line.replace(/\n$/, '') === document.delimiter) break;
        body += line;
      }
      document.target = document.literal
        ? [{ kind: 'text', text: body, quoted: true }]
        : this.hereParts(body, firstLine);
    }
  }

  private hereParts(body: string, line: number): Word {
    const lexer = new Lexer(body, line, this.grammar);
    const word = this.nested(() => lexer.parts('here'), []);
    if (lexer.fault !== null) this.fail(lexer.fault.message, lexer.fault.line);
    return word;
  }

  /** Word parts up to the character that ends the mode, which is not read. */
  private parts(mode: Mode): Part[] {
    const parts: Part[] = [];
    const special = escapable[mode];
    const quoted = special !== undefined;
    let parentheses = 0;
    let plain = '';
    const add = (...more: readonly Part[]): void => {
      if (plain !== '') parts.push({ kind: 'text', text: plain, quoted });
      plain = '';
      parts.push(...more);
    };
    while (this.at < this.text.length && this.fault === null) {
      const c = this.text[this.at]!;
      if (endsParts(c, mode, parentheses)) break;
      if (c === '(') parentheses++;
      else if (c === ')') parentheses--;
      this.at++;
      if (c === '\\') {
        const escaped = this.text[this.at];
        if (escaped === '\n') {
          this.at--;
          this.skipJoinedLine();
        } else if (escaped === undefined || (quoted && !special.includes(escaped))) plain += '\\';
        else {
          add({ kind: 'text', text: escaped, quoted: true });
          this.at++;
        }
      } else if (c === "'" && !quoted) add({ kind: 'text', text: this.singleQuoted(), quoted: true });
      else if (c === '"' && mode !== 'here') {
        const inner = this.doubleQuoted();
        // "" is a word; "$@" without parameters is none.
        add(...(inner.length === 0 ? [{ kind: 'text', text: '', quoted: true } as const] : inner));
      } else if (c === '$' || c === '`') {
        const part = c === '$' ? this.dollar(quoted) : this.backquoted(quoted, mode === 'double');
        if (part === null) plain += '$';
        else add(part);
      } else {
        if (c === '\n') this.line++;
        plain += c;
      }
    }
    add();
    return parts;
  }

  private singleQuoted(): string {
    const { line } = this;
    const end = this.text.indexOf("'", this.at);
    if (end < 0) {
      this.fail("unexpected end of file while looking for matching `''", line, true);
      return '';
    }
    const text = this.text.slice(this.at, end);
    this.line += text.split('\n').length - 1;
    this.at = end + 1;
    return text;
  }

  private doubleQuoted(): Part[] {
    const { line } = this;
    const parts = this.parts('double');
    if (this.text[this.at] !== '"') this.fail('unexpected end of file while looking for matching `"\'', line, true);
    this.at++;
    return parts;
  }

  /** What follows a `$`: an expansion, or null when the dollar is an ordinary character. */
  private dollar(quoted: boolean): Part | null {
    if (this.text[this.at] === '{') return this.nested(() => this.braced(quoted), null);
    if (this.text.startsWith('((', this.at)) {
      const part = this.nested(() => this.arithmetic(quoted), null);
      if (part !== null) return part;
    }
    if (this.text[this.at] === '(') {
      this.at++;
      return { kind: 'command', list: this.nested(() => this.grammar.substitution(this), []), quoted };
    }
    const name = this.parameterName(false);
    return name === '' ? null : { kind: 'parameter', name, quoted };
  }

  /** `$((…))`, or null and nothing read when it is a command substitution that begins with a subshell. */
  private arithmetic(quoted: boolean): Part | null {
    const { at, line } = this;
    this.at += 2;
    const word = this.parts('arithmetic');
    if (this.text.startsWith('))', this.at)) {
      this.at += 2;
      return { kind: 'arithmetic', word, quoted };
    }
    if (this.at >= this.text.length) this.fail("unexpected end of file while looking for matching `))'", line, true);
    this.at = at;
    this.line = line;
    return null;
  }

  /** Commands between backquotes, in which a backslash is special only before `$`, a backquote and itself. */
  private backquoted(quoted: boolean, inDouble: boolean): Part {
    const { line } = this;
    const special = inDouble ? '$`\\"' : '$`\\';
    let text = '';
    for (; this.at < this.text.length && this.text[this.at] !== '`'; this.at++) {
      if (this.text[this.at] === '\\' && special.includes(this.text[this.at + 1] ?? 'end')) this.at++;
      if (this.text[this.at] === '\n') this.line++;
      text += this.text[this.at];
    }
    if (this.at >= this.text.length) this.fail("unexpected end of file while looking for matching ``'", line, true);
    this.at++;
    const lexer = new Lexer(text, line, this.grammar);
    lexer.depth = this.depth;
    const list = this.nested(() => this.grammar.program(lexer), []);
    if (lexer.fault !== null) this.fail(lexer.fault.message, lexer.fault.line);
    return { kind: 'command', list, quoted };
  }

  /** `x1`, a digit (several inside braces), or one of the special parameters; empty when there is none here. */
  private parameterName(inBraces: boolean): string {
    const from = this.at;
    const c = this.text[this.at];
    if (isName(c)) while (isNameRest(this.text[this.at])) this.at++;
    else if (c !== undefined && /[0-9]/.test(c)) {
      this.at++;
      if (inBraces) while (/[0-9]/.test(this.text[this.at] ?? '')) this.at++;
    } else if (c !== undefined && '?$#@*-!'.includes(c)) this.at++;
    return this.text.slice(from, this.at);
  }

  private braced(quoted: boolean): Part {
    const { line } = this;
    this.at++;
    // `${#}` and `${#-x}` are about the parameter #, `${#x}` and `${#-}` ask for a length.
    const isLength = /^#(?:[A-Za-z0-9_@*]|[?$#!-]\})/.test(this.text.slice(this.at, this.at + 3));
    if (isLength) this.at++;
    const name = this.parameterName(true);
    const kind = isLength ? undefined : parameterOperators.find(o => this.text.startsWith(o, this.at));
    let part: Part;
    if (isLength) part = { kind: 'parameter', name, quoted, operation: { kind: 'length', word: [] } };
    else if (kind === undefined) part = { kind: 'parameter', name, quoted };
    else {
      this.at += kind.length;
      // A pattern after % or # keeps its own quoting even inside double quotes.
      const word = this.parts(quoted && !/[%#]/.test(kind) ? 'quotedBrace' : 'brace');
      part = { kind: 'parameter', name, quoted, operation: { kind, word } };
    }
    if (this.text[this.at] !== '}' || name === '') {
      part = { kind: 'bad', quoted };
      this.parts('brace');
    }
    if (this.at >= this.text.length) this.fail("unexpected end of file while looking for matching `}'", line, true);
    this.at++;
    return part;
  }
}

function endsParts(c: string, mode: Mode, parentheses: number): boolean {
  switch (mode) {
    case 'word':
      return wordEnds.includes(c);
    case 'double':
      return c === '"';
    case 'here':
      return false;
    case 'arithmetic':
      return c === ')' && parentheses === 0;
    default:
      return c === '}';
  }
}
