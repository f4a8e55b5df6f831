// The shell's parser: recursive descent over POSIX XCU 2.10, one complete command (a line, or as many as its compound commands take) at a
// time, so that a script runs up to the line that is wrong and aliases act from the line after their definition.

import { Lexer } from './lex.ts';
import type { Fault, Grammar, HereDocument, Part, Token, Word } from './lex.ts';

export interface Redirect {
  readonly fd: number;
  /** `<` `>` `>>` `<>` `>|` open a file; `>&` and `<&` take a descriptor number or `-`; `<<` gives its target as text. */
  readonly operator: '<' | '>' | '>>' | '<>' | '>|' | '>&' | '<&' | '<<';
  target: Word;
}

interface Compound {
  readonly line: number;
  readonly redirects: readonly Redirect[];
}

export interface SimpleCommand extends Compound {
  readonly kind: 'simple';
  readonly assignments: readonly { readonly name: string; readonly value: Word }[];
  readonly words: readonly Word[];
}

export type Command =
  | SimpleCommand
  | (Compound & { readonly kind: 'group' | 'subshell'; readonly body: List })
  | (Compound & {
      readonly kind: 'if';
      readonly branches: readonly { readonly condition: List; readonly body: List }[];
      readonly otherwise: List;
    })
  | (Compound & { readonly kind: 'while' | 'until'; readonly condition: List; readonly body: List })
  /** `words` null: the parameters. */
  | (Compound & {
      readonly kind: 'for';
      readonly name: string;
      readonly words: readonly Word[] | null;
      readonly body: List;
    })
  | (Compound & {
      readonly kind: 'case';
      readonly word: Word;
      readonly items: readonly { readonly patterns: readonly Word[]; readonly body: List }[];
    })
  | (Compound & { readonly kind: 'function'; readonly name: string; readonly body: Command });

export interface Pipeline {
  readonly negated: boolean;
  readonly commands: readonly Command[];
}

/** Pipelines joined by && and ||: the first has no operator. */
export interface AndOr {
  readonly first: Pipeline;
  readonly rest: readonly { readonly operator: '&&' | '||'; readonly pipeline: Pipeline }[];
  /** Followed by `&`. */
  readonly background: boolean;
  /** As it was written, for `jobs`. */
  readonly text: string;
}

export type List = readonly AndOr[];

export type ParseResult =
  | { readonly kind: 'list'; readonly list: List }
  | { readonly kind: 'end' }
  | { readonly kind: 'fault'; readonly fault: Fault };

/** Words that mean something of their own where a command begins. */
// prettier-ignore
export const reserved: readonly string[] = [
  '!', '{', '}', 'case', 'do', 'done', 'elif', 'else', 'esac', 'fi', 'for', 'if', 'in', 'then', 'until', 'while',
];
/** Reserved words that end a list. */
const closers = ['}', 'do', 'done', 'elif', 'else', 'esac', 'fi', 'then'];
const redirectOperators = ['<', '>', '>>', '<>', '>&', '<&', '>|', '<<', '<<-'];
const nothing: Command = { kind: 'simple', line: 0, assignments: [], words: [], redirects: [] };
const noAliases: ReadonlyMap<string, string> = new Map();

export class Parser {
  private readonly lexer: Lexer;
  private readonly aliases: ReadonlyMap<string, string>;
  private token: Token;
  private end = 0; // where the last token taken ended
  private aliasNext = false; // the last alias ended in a blank: the next word may be one too

  /** `line`: the number of the text's first line, for messages. */
  constructor(text: string | Lexer, line = 1, aliases = noAliases) {
    this.aliases = aliases;
    const grammar: Grammar = {
      substitution: lexer => new Parser(lexer, 0, aliases).substitution(),
      program: lexer => new Parser(lexer, 0, aliases).program(),
    };
    this.lexer = typeof text === 'string' ? new Lexer(text, line, grammar) : text;
    this.token = this.lexer.next();
  }

  /** The next complete command. After a fault there is nothing more. */
  next(): ParseResult {
    this.skipNewlines();
    if (this.token.kind === 'end' && this.lexer.fault === null) return { kind: 'end' };
    const list = this.list(false);
    if (this.token.kind !== 'newline' && this.token.kind !== 'end') this.unexpected();
    const { fault } = this.lexer;
    if (fault !== null) return { kind: 'fault', fault };
    return { kind: 'list', list };
  }

  /** The text that was read since the last time. */
  taken(): string {
    return this.lexer.taken();
  }

  /** The text ended inside a here-document: a person may still add to it. */
  get hereIsOpen(): boolean {
    return this.lexer.hereIsOpen;
  }

  private substitution(): List {
    const list = this.list(true, true);
    if (this.token.kind !== 'operator' || this.token.text !== ')') this.unexpected();
    return list;
  }

  private program(): List {
    const list = this.list(true, true);
    if (this.token.kind !== 'end') this.unexpected();
    return list;
  }

  // ── Tokens ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private advance(): void {
    this.end = this.token.to;
    this.token = this.lexer.next();
  }

  private skipNewlines(): void {
    while (this.token.kind === 'newline') this.advance();
  }

  /** The token in hand cannot stand here. What follows is not read. */
  private unexpected(): void {
    const { kind, text, line, from, to } = this.token;
    this.lexer.fail(
      kind === 'end' ? 'syntax error: unexpected end of file' : `syntax error near unexpected token '${text}'`,
      line,
      kind === 'end',
    );
    this.token = { kind: 'end', text: 'end of file', line, from, to };
  }

  private takeOperator(...texts: string[]): string | null {
    const { token } = this;
    if (token.kind !== 'operator' || !texts.includes(token.text)) return null;
    this.advance();
    return token.text;
  }

  private isWord(...texts: string[]): boolean {
    return this.token.kind === 'word' && texts.includes(this.token.text);
  }

  private takeWord(text: string): boolean {
    if (!this.isWord(text)) return false;
    this.advance();
    return true;
  }

  private expect(text: string): void {
    if (!this.takeWord(text)) this.unexpected();
  }

  // ── Lists and pipelines ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Commands up to the end of the line, or when `multiline` up to what closes the compound command around them. */
  private list(multiline: boolean, mayBeEmpty = false): List {
    const items: AndOr[] = [];
    for (;;) {
      if (multiline) {
        this.skipNewlines();
        this.aliasNext = false;
        this.expandAlias();
        if (this.closesList() && (mayBeEmpty || items.length > 0)) return items;
      }
      const { from } = this.token;
      const { first, rest } = this.andOr();
      const text = this.lexer.source(from, this.end);
      const separator = this.takeOperator(';', '&');
      items.push({ first, rest, background: separator === '&', text });
      if (this.token.kind === 'end') return items;
      if (separator === null && !(multiline && this.token.kind === 'newline')) return items;
      if (!multiline && this.token.kind === 'newline') return items;
    }
  }

  private closesList(): boolean {
    const { kind, text } = this.token;
    return kind === 'end' || (kind === 'operator' && (text === ')' || text === ';;')) || this.isWord(...closers);
  }

  private andOr(): Pick<AndOr, 'first' | 'rest'> {
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
    this.expandAlias();
    const negated = this.takeWord('!');
    const commands = [this.command()];
    while (this.takeOperator('|') !== null) {
      this.skipNewlines();
      commands.push(this.command());
    }
    return { negated, commands };
  }

  // ── Commands ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private command(): Command {
    return this.lexer.nested(() => this.compound() ?? this.simple(), nothing);
  }

  /** A compound command with its redirections, or null when the token in hand begins none. */
  private compound(): Command | null {
    this.expandAlias();
    const { line } = this.token;
    if (this.takeOperator('(') !== null) {
      const body = this.list(true);
      if (this.takeOperator(')') === null) this.unexpected();
      return { kind: 'subshell', line, body, redirects: this.redirects() };
    }
    if (!this.isWord(...reserved)) return null;
    const word = this.token.text;
    switch (word) {
      case '{': {
        this.advance();
        const body = this.list(true);
        this.expect('}');
        return { kind: 'group', line, body, redirects: this.redirects() };
      }
      case 'if':
        return this.conditional(line);
      case 'while':
      case 'until': {
        this.advance();
        const condition = this.list(true);
        const body = this.doGroup();
        return { kind: word, line, condition, body, redirects: this.redirects() };
      }
      case 'for':
        return this.forLoop(line);
      case 'case':
        return this.caseOf(line);
      case 'in':
        return null;
      default:
        this.unexpected();
        return nothing;
    }
  }

  private doGroup(): List {
    this.expect('do');
    const body = this.list(true);
    this.expect('done');
    return body;
  }

  private conditional(line: number): Command {
    const branches: { condition: List; body: List }[] = [];
    do {
      this.advance(); // if, elif
      const condition = this.list(true);
      this.expect('then');
      branches.push({ condition, body: this.list(true) });
    } while (this.isWord('elif'));
    const otherwise = this.takeWord('else') ? this.list(true) : [];
    this.expect('fi');
    return { kind: 'if', line, branches, otherwise, redirects: this.redirects() };
  }

  private forLoop(line: number): Command {
    this.advance();
    const name = this.token.text;
    if (this.token.kind !== 'word') this.unexpected();
    else if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) this.lexer.fail('syntax error: bad for loop variable', line);
    this.advance();
    let words: Word[] | null = null;
    if (this.takeOperator(';') === null) {
      this.skipNewlines();
      if (this.takeWord('in')) {
        words = [];
        for (; this.token.kind === 'word'; this.advance()) words.push(this.token.word);
        if (this.takeOperator(';') === null && this.token.kind !== 'newline') this.unexpected();
      }
    }
    this.skipNewlines();
    return { kind: 'for', line, name, words, body: this.doGroup(), redirects: this.redirects() };
  }

  private caseOf(line: number): Command {
    this.advance();
    const word = this.anyWord();
    this.skipNewlines();
    this.expect('in');
    this.skipNewlines();
    const items: { patterns: Word[]; body: List }[] = [];
    while (!this.isWord('esac') && this.token.kind !== 'end') {
      this.takeOperator('(');
      const patterns = [this.anyWord()];
      while (this.takeOperator('|') !== null) patterns.push(this.anyWord());
      if (this.takeOperator(')') === null) this.unexpected();
      items.push({ patterns, body: this.list(true, true) });
      if (this.takeOperator(';;') === null) break;
      this.skipNewlines();
    }
    this.expect('esac');
    return { kind: 'case', line, word, items, redirects: this.redirects() };
  }

  private anyWord(): Word {
    const { token } = this;
    if (token.kind === 'word') this.advance();
    else this.unexpected();
    return token.kind === 'word' ? token.word : [];
  }

  private simple(): Command {
    const { line } = this.token;
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
        // After an assignment, or after an alias that ends in a blank, a word may be an alias as well.
        if (words.length === 0 || this.aliasNext) {
          this.aliasNext = false;
          this.expandAlias();
        }
        if (words.length === 1 && assignments.length + redirects.length === 0 && this.takeOperator('(') !== null)
          return this.functionDefinition(token.text, line);
      } else if (token.kind === 'operator' && redirectOperators.includes(token.text)) redirects.push(this.redirect());
      else break;
    }
    if (words.length + assignments.length + redirects.length === 0) this.unexpected();
    return { kind: 'simple', line, assignments, words, redirects };
  }

  private functionDefinition(name: string, line: number): Command {
    if (this.takeOperator(')') === null) this.unexpected();
    else if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) this.lexer.fail('syntax error: bad function name', line);
    this.skipNewlines();
    return { kind: 'function', line, name, body: this.command(), redirects: [] };
  }

  /** Replaces the word in hand while it is an alias. */
  private expandAlias(): void {
    for (;;) {
      const { token } = this;
      const named = token.kind === 'word' && !reserved.includes(token.text);
      const value = named ? this.aliases.get(token.text) : undefined;
      if (value === undefined || !this.lexer.replace(token, value)) return;
      this.aliasNext = /[ \t]$/.test(value);
      this.token = this.lexer.next();
    }
  }

  // ── Redirections ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private redirects(): Redirect[] {
    const redirects: Redirect[] = [];
    while (this.token.kind === 'operator' && redirectOperators.includes(this.token.text))
      redirects.push(this.redirect());
    return redirects;
  }

  private redirect(): Redirect {
    const token = this.token as Token & { kind: 'operator' };
    const fd = token.fd ?? (token.text.startsWith('<') ? 0 : 1);
    const isHere = token.text.startsWith('<<');
    this.advance();
    const target = this.token;
    if (target.kind !== 'word') {
      this.unexpected();
      return { fd, operator: '<', target: [] };
    }
    if (!isHere) {
      const [part] = target.word;
      const literal = target.word.length === 1 && part?.kind === 'text' && !/^(?:-|[0-9]+)$/.test(part.text);
      if (token.text.endsWith('&') && literal) this.lexer.fail('syntax error: bad fd number', token.line);
      this.advance();
      return { fd, operator: token.text as Redirect['operator'], target: target.word };
    }
    const literal = /['"\\]/.test(target.text);
    const delimiter = literal ? target.word.map(part => (part.kind === 'text' ? part.text : '')).join('') : target.text;
    const document: HereDocument & Redirect = {
      fd,
      operator: '<<',
      target: [],
      delimiter,
      literal,
      stripTabs: token.text === '<<-',
    };
    this.lexer.expectHereDocument(document);
    this.advance(); // perhaps the end of the line, after which the document is read
    return document;
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
