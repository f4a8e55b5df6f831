// The shell's lexer: text to tokens, after POSIX XCU 2.3. Quoting is resolved here into word parts, so that expansion never sees a quote
// character. A mistake or an unfinished quote is remembered and ends the token stream; the parser reads it from `fault`.

/** One piece of a word. `quoted` text is never split nor taken as a pattern. */
export type Part =
  | { readonly kind: 'text'; readonly text: string; readonly quoted: boolean }
  | {
      readonly kind: 'parameter';
      readonly name: string;
      readonly quoted: boolean;
      /** `${name:-word}` and its kin; `length` is `${#name}`. */
      readonly operation?: { readonly kind: ParameterOperator; readonly word: Word };
    };
export type Word = readonly Part[];

export const parameterOperators = [':-', ':=', ':+', ':?', '-', '=', '+', '?', '%%', '%', '##', '#'] as const;
export type ParameterOperator = (typeof parameterOperators)[number] | 'length';

export type Token =
  | { readonly kind: 'word'; readonly word: Word; readonly text: string; readonly line: number }
  /** A control operator, or a redirection operator with the descriptor number written before it. */
  | { readonly kind: 'operator'; readonly text: string; readonly fd: number | null; readonly line: number }
  | { readonly kind: 'newline'; readonly text: string; readonly line: number }
  | { readonly kind: 'end'; readonly text: string; readonly line: number };

export interface Fault {
  readonly message: string;
  readonly line: number;
  /** More text could make it right: an interactive shell asks for another line. */
  readonly incomplete: boolean;
}

// Longest first. Those that the grammar does not use yet are still operators, so that they are not taken for words.
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
/** How deep ${x:-${y:-…}} may go. */
const bracesMax = 64;
const wordEnds = ' \t\n;&|<>()';
const isName = (c: string | undefined): boolean => c !== undefined && /[A-Za-z_]/.test(c);
const isNameRest = (c: string | undefined): boolean => c !== undefined && /[A-Za-z0-9_]/.test(c);

export class Lexer {
  fault: Fault | null = null;
  private readonly text: string;
  private at = 0;
  private bracesOpen = 0;
  private line: number;

  constructor(text: string, line = 1) {
    this.text = text;
    this.line = line;
  }

  next(): Token {
    this.skipBlanks();
    const { line } = this;
    const c = this.text[this.at];
    if (c === undefined || this.fault !== null) return { kind: 'end', text: 'end of file', line };
    if (c === '\n') {
      this.at++;
      this.line++;
      return { kind: 'newline', text: 'newline', line };
    }
    const number = /^[0-9]+(?=[<>])/.exec(this.text.slice(this.at, this.at + 8))?.[0];
    const operator = operators.find(o => this.text.startsWith(o, this.at + (number?.length ?? 0)));
    if (operator !== undefined) {
      this.at += operator.length + (number?.length ?? 0);
      return { kind: 'operator', text: operator, fd: number === undefined ? null : Number(number), line };
    }
    const from = this.at;
    const word = this.parts(ch => wordEnds.includes(ch), false);
    if (this.fault !== null) return { kind: 'end', text: 'end of file', line };
    return { kind: 'word', word, text: this.text.slice(from, this.at), line };
  }

  fail(message: string, line = this.line, incomplete = false): void {
    this.fault ??= { message, line, incomplete };
  }

  private skipBlanks(): void {
    for (;;) {
      const c = this.text[this.at];
      if (c === ' ' || c === '\t') this.at++;
      else if (c === '\\' && this.text[this.at + 1] === '\n') {
        this.at += 2;
        this.line++;
        if (this.at === this.text.length) this.fail('unexpected end of file', this.line, true);
      } else if (c === '#') {
        while (this.at < this.text.length && this.text[this.at] !== '\n') this.at++;
      } else return;
    }
  }

  /** Word parts up to a character that `ends` accepts. `inDouble`: inside double quotes, where blanks and single quotes are ordinary. */
  private parts(ends: (c: string) => boolean, inDouble: boolean): Part[] {
    const parts: Part[] = [];
    let plain = '';
    const close = (): void => {
      if (plain !== '') parts.push({ kind: 'text', text: plain, quoted: inDouble });
      plain = '';
    };
    while (this.at < this.text.length && this.fault === null) {
      const c = this.text[this.at]!;
      if (ends(c)) break;
      this.at++;
      if (c === '\\') {
        const escaped = this.text[this.at];
        if (escaped === '\n') {
          this.at++;
          this.line++;
          if (this.at === this.text.length) this.fail('unexpected end of file', this.line, true);
        } else if (escaped === undefined || (inDouble && !'$`"\\}'.includes(escaped))) plain += '\\';
        else {
          close();
          parts.push({ kind: 'text', text: escaped, quoted: true });
          this.at++;
        }
      } else if (c === "'" && !inDouble) {
        close();
        parts.push({ kind: 'text', text: this.singleQuoted(), quoted: true });
      } else if (c === '"') {
        close();
        const inner = this.doubleQuoted();
        // "" is a word; "$@" without parameters is none.
        parts.push(...(inner.length === 0 ? [{ kind: 'text', text: '', quoted: true } as const] : inner));
      } else if (c === '$') {
        const part = this.parameter(inDouble);
        if (part === null) plain += '$';
        else {
          close();
          parts.push(part);
        }
      } else if (c === '`') this.fail("syntax error near unexpected token '`'");
      else {
        if (c === '\n') this.line++;
        plain += c;
      }
    }
    close();
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
    const parts = this.parts(c => c === '"', true);
    if (this.text[this.at] !== '"') this.fail('unexpected end of file while looking for matching `"\'', line, true);
    this.at++;
    return parts;
  }

  /** What follows a `$`: a parameter, or null when the dollar is an ordinary character. */
  private parameter(quoted: boolean): Part | null {
    const c = this.text[this.at];
    if (c === '{') return this.braced(quoted);
    if (c === '(') {
      this.fail("syntax error near unexpected token '$('");
      return null;
    }
    const name = this.parameterName(false);
    return name === '' ? null : { kind: 'parameter', name, quoted };
  }

  /** `x1`, a digit (several inside braces), or one of the special parameters; empty when there is none here. */
  private parameterName(inBraces: boolean): string {
    const from = this.at;
    const c = this.text[this.at];
    if (isName(c)) while (isNameRest(this.text[this.at])) this.at++;
    else if (c !== undefined && /[0-9]/.test(c)) {
      this.at++;
      if (inBraces) while (/[0-9]/.test(this.text[this.at] ?? '')) this.at++;
    } else if (c !== undefined && '?$#@*-'.includes(c)) this.at++;
    return this.text.slice(from, this.at);
  }

  private braced(quoted: boolean): Part | null {
    const { line } = this;
    if (this.bracesOpen === bracesMax) {
      this.fail(`\${ nested more than ${bracesMax} deep`, line);
      return null;
    }
    this.bracesOpen++;
    this.at++;
    const isLength = this.text[this.at] === '#' && !'}:-=+?%#'.includes(this.text[this.at + 1] ?? '}');
    if (isLength) this.at++;
    const name = this.parameterName(true);
    const kind = parameterOperators.find(o => this.text.startsWith(o, this.at));
    let part: Part;
    if (isLength) part = { kind: 'parameter', name, quoted, operation: { kind: 'length', word: [] } };
    else if (kind === undefined) part = { kind: 'parameter', name, quoted };
    else {
      this.at += kind.length;
      // A pattern after % or # keeps its own quoting even inside double quotes.
      const word = this.parts(c => c === '}', quoted && !/[%#]/.test(kind));
      part = { kind: 'parameter', name, quoted, operation: { kind, word } };
    }
    if (this.at >= this.text.length) this.fail("unexpected end of file while looking for matching `}'", line, true);
    else if (this.text[this.at] !== '}' || name === '') this.fail('bad substitution', line);
    this.at++;
    this.bracesOpen--;
    return part;
  }
}
