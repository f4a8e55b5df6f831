// Word expansion in POSIX's order (XCU 2.6): tilde, parameters, commands and arithmetic, field splitting, pathnames; quotes are already
// resolved by the lexer. A field in progress is kept as a pattern in which quoted characters are escaped, so that one string carries both
// text and quoting.

import { compilePattern, escapePattern, expandPath, hasMagic, matches, unescape } from '../lib/glob.ts';
import { LIMITS } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { readAccounts } from '../lib/accounts.ts';
import { evaluate } from './arith.ts';
import type { ParameterOperator, Part, Word } from './lex.ts';
import type { List } from './parse.ts';

/** What expansion needs of the shell. */
export interface Host {
  readonly sys: Sys;
  /** A variable or a special parameter; undefined when unset. `@` and `*` are asked through `positional`. */
  get(name: string): string | undefined;
  /** Assigns; returns what forbids it, or null. */
  assign(name: string, value: string): string | null;
  readonly positional: readonly string[];
  /** `set -u`. */
  readonly nounset: boolean;
  /** `set -f`. */
  readonly noglob: boolean;
  /** What `$(list)` prints, without the newlines at its end. */
  substitute(list: List): Generator<void, string, void>;
}

/** Builtins whose arguments may be assignments. */
const declarations: readonly string[] = ['export', 'readonly', 'local'];

export class Expander {
  /** What could not be expanded, as a message; the caller reports it and gives the command up. */
  fault: string | null = null;
  private readonly shell: Host;
  private size = 0; // of everything expanded so far

  constructor(shell: Host) {
    this.shell = shell;
  }

  /** The words of a command: fields, but what export and its kin are told to assign stays as it is, like an assignment. */
  *command(words: readonly Word[]): Generator<void, string[], void> {
    const [first] = words[0] ?? [];
    if (first?.kind !== 'text' || !declarations.includes(first.text)) return yield* this.fields(words);
    const out: string[] = [];
    for (const word of words) {
      const [part] = word;
      const assigns = part?.kind === 'text' && !part.quoted && /^[A-Za-z_][A-Za-z0-9_]*=/.test(part.text);
      if (assigns) out.push(yield* this.assignment(word));
      else out.push(...(yield* this.fields([word])));
    }
    return out;
  }

  /** `name=value` as one word, with a tilde after the equals sign and after colons. */
  private *assignment(word: Word): Generator<void, string, void> {
    const [head, ...rest] = word as [Part & { kind: 'text' }, ...Part[]];
    const at = head.text.indexOf('=') + 1;
    const value = yield* this.text([{ kind: 'text', text: head.text.slice(at), quoted: false }, ...rest], true);
    return head.text.slice(0, at) + value;
  }

  /** Words to fields: everything, as for the arguments of a command. */
  *fields(words: readonly Word[]): Generator<void, string[], void> {
    const out: string[] = [];
    for (const word of words) {
      for (const pattern of yield* this.split(yield* this.tilde(word))) {
        const names = hasMagic(pattern) && !this.shell.noglob ? yield* expandPath(this.shell.sys, pattern) : [];
        if (names.length > 0) out.push(...names);
        else out.push(unescape(pattern));
      }
    }
    return out;
  }

  /** A word to one text, neither split nor taken as a pattern: assignments, redirection targets. `colons`: tildes also after `:`. */
  *text(word: Word, colons = false): Generator<void, string, void> {
    return unescape(yield* this.pattern(yield* this.tilde(word, colons)));
  }

  /** A word of `case` to one pattern: quoted characters escaped. */
  *casePattern(word: Word): Generator<void, string, void> {
    return yield* this.pattern(yield* this.tilde(word));
  }

  private *pattern(word: Word): Generator<void, string, void> {
    let out = '';
    for (const part of word) {
      if (this.fault !== null) break;
      const value = this.measured(yield* this.value(part));
      if (isSubstitute(value)) out += yield* this.pattern(value.word);
      else {
        const text =
          typeof value === 'string' ? value : value.join(this.isStar(part) || !part.quoted ? this.separator() : ' ');
        // The backslashes of an unquoted value are ordinary characters; those of unquoted text were resolved by the lexer.
        if (part.quoted) out += escapePattern(text);
        else out += part.kind === 'text' ? text : text.replaceAll('\\', '\\\\');
      }
    }
    return out;
  }

  /** A word to patterns, one per field. */
  private *split(word: Word): Generator<void, string[], void> {
    const into: Fields = { done: [], field: null };
    for (const part of word) yield* this.append(part, into, false);
    finish(into);
    return into.done;
  }

  /** Appends one part to the fields. `substituted`: it comes from a `${x-word}`, whose plain text is split like a value. */
  private *append(part: Part, into: Fields, substituted: boolean): Generator<void, void, void> {
    if (this.fault !== null) return;
    const value = this.measured(yield* this.value(part));
    if (isSubstitute(value)) {
      // A quoted `${x-}` is an empty field.
      if (part.quoted && value.word.length === 0) into.field ??= '';
      for (const inner of value.word) yield* this.append(inner, into, true);
    } else if (typeof value === 'string') {
      if (part.quoted) into.field = (into.field ?? '') + escapePattern(value);
      else if (part.kind === 'text' && !substituted) into.field = (into.field ?? '') + value;
      else this.splitText(value, into, part.kind === 'text');
    } else if (part.quoted && this.isStar(part)) {
      into.field = (into.field ?? '') + escapePattern(value.join(this.separator()));
    } else {
      value.forEach((parameter, i) => {
        if (i > 0) finish(into);
        if (part.quoted) into.field = (into.field ?? '') + escapePattern(parameter);
        else this.splitText(parameter, into, false);
      });
    }
  }

  /** Splits one unquoted value by IFS. `isPattern`: a backslash in it escapes. */
  private splitText(text: string, into: Fields, isPattern: boolean): void {
    const ifs = this.shell.get('IFS') ?? ' \t\n';
    let afterBlank = false; // white space already ended the last field
    for (const c of text) {
      if (!ifs.includes(c)) {
        into.field = (into.field ?? '') + (c === '\\' && !isPattern ? '\\\\' : c);
        afterBlank = false;
      } else if (c === ' ' || c === '\t' || c === '\n') {
        if (into.field !== null) afterBlank = true;
        finish(into);
      } else {
        if (!afterBlank) into.field ??= '';
        finish(into);
        afterBlank = false;
      }
    }
  }

  private isStar(part: Part): boolean {
    return part.kind === 'parameter' && part.name === '*';
  }

  /** What `"$*"` puts between parameters. */
  private separator(): string {
    return (this.shell.get('IFS') ?? ' ').slice(0, 1);
  }

  /** The value of a part; `$@` and `$*` give the list of parameters, `${x-word}` may give a word in its place. */
  private *value(part: Part): Generator<void, Value, void> {
    switch (part.kind) {
      case 'text':
        return part.text;
      case 'command':
        return yield* this.shell.substitute(part.list);
      case 'arithmetic':
        return this.arithmetic(unescape(yield* this.pattern(part.word)));
      case 'bad':
        this.fault ??= 'Bad substitution';
        return '';
      case 'parameter':
        break;
    }
    const { name, operation } = part;
    const list = name === '@' || name === '*' ? this.shell.positional : null;
    const value = list === null ? this.shell.get(name) : list.length === 0 ? undefined : list.join(' ');
    const provides = operation !== undefined && /[-+=?]$/.test(operation.kind);
    if (value === undefined && list === null && !provides && this.shell.nounset)
      this.fail(`${name}: parameter not set`);
    else if (operation !== undefined) {
      const result = yield* this.operate(name, operation.kind, operation.word, value);
      if (result !== null) return result;
    }
    return list ?? value ?? '';
  }

  /** A value, or nothing when the command grows too large with it. */
  private measured(value: Value): Value {
    if (isSubstitute(value)) return value;
    for (const text of typeof value === 'string' ? [value] : value) this.size += text.length + 1;
    if (this.size <= LIMITS.expansionBytes) return value;
    this.fail(`expansion of more than ${LIMITS.expansionBytes} bytes`);
    return '';
  }

  private arithmetic(text: string): string {
    const value = evaluate(text, {
      get: name => this.shell.get(name),
      set: (name, digits) => {
        this.fault ??= this.shell.assign(name, digits);
      },
    });
    if (typeof value === 'string') this.fail(value);
    return String(value);
  }

  /** The result of `${name OPERATOR word}`, or null when it is the parameter's own value. */
  private *operate(
    name: string,
    kind: ParameterOperator,
    word: Word,
    value: string | undefined,
  ): Generator<void, Value | null, void> {
    if (kind === 'length') {
      const { positional } = this.shell;
      return String(name === '@' || name === '*' ? positional.length : [...(value ?? '')].length);
    }
    if (kind.startsWith('%') || kind.startsWith('#'))
      return trim(value ?? '', kind, yield* this.pattern(yield* this.tilde(word)));
    const missing = value === undefined || (kind.startsWith(':') && value === '');
    switch (kind.at(-1)) {
      case '-':
        return missing ? { word: yield* this.tilde(word) } : null;
      case '+':
        return missing ? '' : { word: yield* this.tilde(word) };
      case '=': {
        if (!missing) return null;
        const text = yield* this.text(word);
        if (/^[A-Za-z_]/.test(name)) this.fault ??= this.shell.assign(name, text);
        else this.fail(`${name}: bad variable name`);
        return text;
      }
      default:
        if (missing) this.fail(`${name}: ${(yield* this.text(word)) || 'parameter not set'}`);
        return null;
    }
  }

  private fail(message: string): void {
    this.fault ??= message;
  }

  /** A leading unquoted `~` becomes the home directory, `~name` that user's; in assignments also one after a colon. */
  private *tilde(word: Word, colons = false): Generator<void, Word, void> {
    const out: Part[] = [];
    for (const [i, part] of word.entries()) {
      const plain = part.kind === 'text' && !part.quoted && part.text.includes('~');
      if (!plain) {
        out.push(part);
        continue;
      }
      const pieces = colons ? part.text.split(':') : [part.text];
      for (const [k, piece] of pieces.entries()) {
        // `~"x"` is no tilde prefix: what follows the name must be a slash, a colon, or the end of the word.
        const ends = piece.includes('/') || k < pieces.length - 1 || i === word.length - 1;
        const begins = (k > 0 || i === 0) && ends;
        out.push(...(yield* this.homeward(piece, begins, k > 0 ? ':' : '')));
      }
    }
    return out;
  }

  /** One piece of unquoted text, its tilde prefix replaced when it `begins` with one. */
  private *homeward(piece: string, begins: boolean, before: string): Generator<void, Part[], void> {
    const [prefix, name] = /^~([A-Za-z0-9_.-]*)(?=\/|$)/.exec(piece) ?? [];
    const home = !begins || name === undefined ? undefined : yield* this.home(name);
    if (home === undefined) return [{ kind: 'text', text: before + piece, quoted: false }];
    const texts = [
      { text: before, quoted: false },
      { text: home, quoted: true },
      { text: piece.slice(prefix!.length), quoted: false },
    ];
    return texts.filter(({ text }) => text !== '').map(({ text, quoted }): Part => ({ kind: 'text', text, quoted }));
  }

  /** The home directory of a user, '' being this shell's; undefined when unknown. */
  private *home(name: string): Generator<void, string | undefined, void> {
    if (name === '') return this.shell.get('HOME');
    return (yield* readAccounts(this.shell.sys)).users.find(user => user.name === name)?.home;
  }
}

/** Fields being built: those that are complete, and the one in progress as a pattern (null: none is begun). */
interface Fields {
  readonly done: string[];
  field: string | null;
}

function finish(into: Fields): void {
  if (into.field !== null) into.done.push(into.field);
  into.field = null;
}

type Value = string | readonly string[] | { readonly word: Word };
const isSubstitute = (value: Value): value is { readonly word: Word } => typeof value === 'object' && 'word' in value;

/** Removes the shortest (`%` `#`) or longest (`%%` `##`) match of a pattern from the end or the beginning. */
function trim(value: string, kind: ParameterOperator, pattern: string): string {
  const compiled = compilePattern(pattern);
  const chars = [...value];
  const fromEnd = kind.startsWith('%');
  const longest = kind.length === 2;
  for (let i = 0; i <= chars.length; i++) {
    const taken = longest ? chars.length - i : i;
    const cut = fromEnd ? chars.length - taken : taken;
    const [head, tail] = [chars.slice(0, cut).join(''), chars.slice(cut).join('')];
    if (matches(compiled, fromEnd ? tail : head)) return fromEnd ? head : tail;
  }
  return value;
}
