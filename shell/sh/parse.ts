// The shell's parser: recursive descent over POSIX XCU 2.10, one complete command (a line) at a time, so that a script runs up to the
// line that is wrong. Compound commands will be further kinds of Command.

import { Lexer } from './lex.ts';
import type { Fault, Part, Token, Word } from './lex.ts';

export interface Redirect {
  readonly fd: number;
  /** `<` `>` `>>` `<>` open a file (`>|` is `>`); `>&` and `<&` take a descriptor number or `-`. */
  readonly operator: '<' | '>' | '>>' | '<>' | '>&' | '<&';
  readonly target: Word;
}

export interface SimpleCommand {
  readonly kind: 'simple';
  readonly line: number;
  readonly assignments: readonly { readonly name: string; readonly value: Word }[];
  readonly words: readonly Word[];
  readonly redirects: readonly Redirect[];
}

export type Command = SimpleCommand;

export interface Pipeline {
  readonly negated: boolean;
  readonly commands: readonly Command[];
}

/** Pipelines joined by && and ||: the first has no operator. */
export interface AndOr {
  readonly first: Pipeline;
  readonly rest: readonly { readonly operator: '&&' | '||'; readonly pipeline: Pipeline }[];
}

export type List = readonly AndOr[];

export type ParseResult =
  | { readonly kind: 'list'; readonly list: List }
  | { readonly kind: 'end' }
  | { readonly kind: 'fault'; readonly fault: Fault };

// Words that begin or divide compound commands, which this grammar does not have: better refused than looked up as programs.
const reserved = ['{', '}', 'case', 'do', 'done', 'elif', 'else', 'esac', 'fi', 'for', 'if', 'then', 'until', 'while'];
const redirectOperators = ['<', '>', '>>', '<>', '>&', '<&', '>|'];

export class Parser {
  private readonly lexer: Lexer;
  private token: Token;

  /** `line`: the number of the text's first line, for messages. */
  constructor(text: string, line = 1) {
    this.lexer = new Lexer(text, line);
    this.token = this.lexer.next();
  }

  /** The next complete command. After a fault there is nothing more. */
  next(): ParseResult {
    this.skipNewlines();
    if (this.token.kind === 'end' && this.lexer.fault === null) return { kind: 'end' };
    const list = this.list();
    if (this.token.kind !== 'newline' && this.token.kind !== 'end') this.unexpected();
    const { fault } = this.lexer;
    if (fault !== null) return { kind: 'fault', fault };
    return { kind: 'list', list };
  }

  private advance(): void {
    this.token = this.lexer.next();
  }

  private skipNewlines(): void {
    while (this.token.kind === 'newline') this.advance();
  }

  /** The token in hand cannot stand here. What follows is not read. */
  private unexpected(): void {
    const { kind, text, line } = this.token;
    this.lexer.fail(
      kind === 'end' ? 'syntax error: unexpected end of file' : `syntax error near unexpected token '${text}'`,
      line,
      kind === 'end',
    );
    this.token = { kind: 'end', text: 'end of file', line };
  }

  private takeOperator(...texts: string[]): string | null {
    const { token } = this;
    if (token.kind !== 'operator' || !texts.includes(token.text)) return null;
    this.advance();
    return token.text;
  }

  private list(): List {
    const items = [this.andOr()];
    while (this.takeOperator(';') !== null && this.token.kind !== 'newline' && this.token.kind !== 'end') {
      items.push(this.andOr());
    }
    return items;
  }

  private andOr(): AndOr {
    const first = this.pipeline();
    const rest: { operator: '&&' | '||'; pipeline: Pipeline }[] = [];
    let operator: string | null;
    while ((operator = this.takeOperator('&&', '||')) !== null) {
      this.skipNewlines();
      rest.push({ operator: operator as '&&' | '||', pipeline: this.pipeline() });
    }
    return { first, rest };
  }

  private pipeline(): Pipeline {
    let negated = false;
    while (this.token.kind === 'word' && this.token.text === '!') {
      negated = !negated;
      this.advance();
    }
    const commands = [this.command()];
    while (this.takeOperator('|') !== null) {
      this.skipNewlines();
      commands.push(this.command());
    }
    return { negated, commands };
  }

  private command(): Command {
    const { line } = this.token;
    if (this.token.kind === 'word' && reserved.includes(this.token.text)) {
      this.lexer.fail(`'${this.token.text}': compound commands are not supported`, line);
    }
    const assignments: { name: string; value: Word }[] = [];
    const words: Word[] = [];
    const redirects: Redirect[] = [];
    for (;;) {
      const { token } = this;
      if (token.kind === 'word') {
        const assignment = words.length === 0 ? splitAssignment(token.word) : null;
        if (assignment === null) words.push(token.word);
        else assignments.push(assignment);
        this.advance();
      } else if (token.kind === 'operator' && redirectOperators.includes(token.text)) redirects.push(this.redirect());
      else break;
    }
    if (words.length + assignments.length + redirects.length === 0) this.unexpected();
    return { kind: 'simple', line, assignments, words, redirects };
  }

  private redirect(): Redirect {
    const token = this.token as Token & { kind: 'operator' };
    const operator = (token.text === '>|' ? '>' : token.text) as Redirect['operator'];
    this.advance();
    const target = this.token;
    if (target.kind === 'word') this.advance();
    else this.unexpected();
    return {
      fd: token.fd ?? (operator.startsWith('<') ? 0 : 1),
      operator,
      target: target.kind === 'word' ? target.word : [],
    };
  }
}

/** `name=value` when the word begins so, unquoted. */
function splitAssignment(word: Word): { name: string; value: Word } | null {
  const [first, ...rest] = word;
  if (first?.kind !== 'text' || first.quoted) return null;
  const [, name, text] = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s.exec(first.text) ?? [];
  if (name === undefined) return null;
  const head: Part[] = text === '' ? [] : [{ kind: 'text', text: text!, quoted: false }];
  return { name, value: [...head, ...rest] };
}
