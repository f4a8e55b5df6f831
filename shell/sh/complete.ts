// Completion: what Tab offers at the end of a line. The first word of a command is a command; an option comes from the command's own
// table, an operand is of the kind that its usage names (DIRECTORY, COMMAND, a verb), and whatever is not known better is a path. What
// is inserted is quoted as the word already is, so that the shell reads it back.

import { KIND, LIMITS, SIG } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { readAccounts } from '../lib/accounts.ts';
import { byteOrder, isDirectory, join, listDirectory, readText, stat } from '../lib/files.ts';
import type { Option, OptionTable } from '../lib/getopt.ts';
import type { Manual, Page } from '../lib/program.ts';
import { scan } from './scan.ts';
import type { Break, PartialWord, Place, Quote } from './scan.ts';

/** What completion asks of the shell. */
export interface Names {
  get(name: string): string | undefined;
  readonly variables: readonly string[];
  /** Reserved words, functions, aliases, builtins. */
  readonly commands: readonly string[];
  /** Jobs as `%NUMBER`, with their texts. */
  readonly jobs: readonly { readonly id: string; readonly text: string }[];
}

export interface Completion {
  /** Goes in place of the last `back` UTF-16 units. */
  readonly text: string;
  readonly back: number;
  /** All candidates, as a list shows them. */
  readonly names: readonly string[];
}

interface Candidate {
  readonly text: string;
  /** What a list shows, when that is more. */
  readonly shown?: string;
  /** What follows when it is the only one: a blank ends the word and closes its quotes. */
  readonly tail: string;
}

/** Candidates for the text behind a break of the word. */
interface Offer {
  readonly from: Break;
  readonly candidates: readonly Candidate[];
  /** Chosen already, and not to be quoted: names of variables and users. */
  readonly raw?: true;
}

type Find<T> = Generator<void, T, void>;
type Kind =
  | 'path'
  | 'directory'
  | 'program'
  | 'command'
  | 'variable'
  | 'job'
  | 'user'
  | 'model'
  | 'page'
  | 'signal'
  | 'mount'
  | 'target'
  | 'session'
  | 'none';

/** Operands that a usage does not tell apart: by command, or by command and verb. */
const operandKinds: Readonly<Record<string, Kind>> = {
  '.': 'path',
  bg: 'job',
  command: 'command',
  export: 'variable',
  fg: 'job',
  help: 'command',
  id: 'user',
  kill: 'job',
  local: 'variable',
  man: 'page',
  read: 'variable',
  readonly: 'variable',
  su: 'user',
  type: 'command',
  umount: 'mount',
  unset: 'variable',
  wait: 'job',
  llmcancel: 'session',
  'llmctl cancel': 'session',
  'llmctl detokenize': 'none',
  'llmctl load': 'model',
  'llmctl plan': 'model',
  'llmctl poll': 'session',
  'llmctl profile': 'session',
  'llmctl target': 'target',
};

/** What a name in capitals stands for in usages and tables of options. */
const nameKinds: Readonly<Record<string, Kind>> = {
  BYTES: 'none',
  COMMAND: 'command',
  DATA: 'path',
  DIR: 'directory',
  DIRECTORY: 'directory',
  ID: 'session',
  M: 'model',
  MODEL: 'model',
  MS: 'none',
  N: 'none',
  PCT: 'none',
  PPM: 'none',
  SHELL: 'program',
  SIGNAL: 'signal',
  T: 'target',
  TIME: 'none',
  USER: 'user',
};

/** What Tab offers at the end of `line`. */
export function* complete(sys: Sys, line: string, names: Names, manual: Manual): Find<Completion> {
  const nothing: Completion = { text: '', back: 0, names: [] };
  const place = scan(line, name => names.get(name));
  if (place === null) return nothing;
  const { from, candidates, raw } = yield* new Completer(sys, place, names, manual).offer();
  const typed = place.word.value.slice(from.valueAt);
  const found = new Map<string, Candidate>();
  for (const c of candidates) if (raw || c.text.startsWith(typed)) found.set(c.text, c);
  const sorted = [...found.values()].sort((a, b) => byteOrder(a.text, b.text));
  if (sorted.length === 0) return nothing;
  const common = sorted.map(c => c.text).reduce(commonPrefix);
  const tail = sorted.length === 1 ? sorted[0]!.tail : '';
  const { quote } = place.word;
  const text = raw ? common + tail : requote(common, from.quote, quote) + (tail === ' ' ? `${quote} ` : tail);
  return { text, back: line.length - from.at, names: sorted.map(c => c.shown ?? c.text) };
}

class Completer {
  readonly #sys: Sys;
  readonly #place: Place;
  readonly #word: PartialWord;
  readonly #names: Names;
  readonly #manual: Manual;

  constructor(sys: Sys, place: Place, names: Names, manual: Manual) {
    this.#sys = sys;
    this.#place = place;
    this.#word = place.word;
    this.#names = names;
    this.#manual = manual;
  }

  *offer(): Find<Offer> {
    const { variable, words, redirection } = this.#place;
    const word = this.#word;
    if (variable !== null) return yield* this.#variable(variable);
    if (word.opaque || redirection === '<<' || redirection === '<<-') return this.#words([]);
    if (word.tilde && word.slash.valueAt === 0) return yield* this.#home();
    if (redirection !== '') return yield* this.#paths(all);
    if (words.length === 0) return yield* this.#of(word.assignment.valueAt === 0 ? 'command' : 'path');
    const [page, args] = this.#command(words);
    if (args === null) return yield* this.#of('command');
    const options = page?.options ?? {};
    const pending = optionValue(options, args.at(-1) ?? '');
    if (pending !== null) return yield* this.#value(pending);
    if (word.value.startsWith('-') && page !== undefined && !args.includes('--')) {
      if (word.assignment.valueAt === 0) return { from: wholeWord(word), candidates: optionCandidates(page) };
      const option = optionValue(options, word.value.slice(0, word.assignment.valueAt - 1));
      return yield* this.#value(option ?? '');
    }
    return yield* this.#operand(page, operandsOf(args, options));
  }

  /** The page of the command that the words belong to, and its arguments so far; null: the next word names a command (`time`, `env -i`). */
  #command(words: readonly string[]): [page: Page | undefined, args: readonly string[] | null] {
    const [name = '', ...args] = words;
    const page = this.#manual.get(name.slice(name.lastIndexOf('/') + 1));
    if (page === undefined || !page.usage.some(u => u.includes('COMMAND [ARG]...'))) return [page, args];
    let i = 0;
    while (i < args.length && (/^-./.test(args[i]!) || /^[A-Za-z_]\w*=/.test(args[i]!)))
      i += optionValue(page.options ?? {}, args[i]!) === null ? 1 : 2;
    if (i > args.length) return [page, args]; // the value of an option
    if (i === args.length) return [page, this.#word.value.startsWith('-') ? args : null];
    return this.#command(args.slice(i));
  }

  *#operand(page: Page | undefined, operands: readonly string[]): Find<Offer> {
    const name = page?.name ?? '';
    const kind = operandKinds[`${name} ${operands[0] ?? ''}`] ?? operandKinds[name];
    if (kind !== undefined) return yield* this.#of(kind);
    const { literals, kinds } = usageAt(page?.usage ?? [], operands);
    if (literals.length > 0) return this.#words(literals);
    return yield* this.#of(kinds.length === 1 ? kinds[0]! : 'path');
  }

  /** The value of an option, as its table names it: one of some words, or a kind. */
  *#value(name: string): Find<Offer> {
    return isLiteral(name) ? this.#words(name.split('|')) : yield* this.#of(nameKinds[name] ?? 'path');
  }

  *#of(kind: Kind): Find<Offer> {
    switch (kind) {
      case 'none':
        return this.#words([]);
      case 'path':
        return yield* this.#paths(all);
      case 'directory':
        return yield* this.#paths(none);
      case 'program':
        return yield* this.#paths(isProgram);
      case 'command':
        return yield* this.#word.value.includes('/') ? this.#paths(isProgram) : this.#commands();
      case 'variable':
        return this.#words(this.#names.variables);
      case 'job': {
        const jobs = this.#names.jobs.map(({ id, text }) => ({ text: id, shown: `${id} ${text}`, tail: ' ' }));
        return { from: this.#start(), candidates: jobs };
      }
      case 'user':
        return this.#words((yield* readAccounts(this.#sys)).users.map(u => u.name));
      case 'model':
        return yield* this.#models();
      case 'page':
        return yield* this.#pages();
      case 'signal':
        return this.#words(Object.keys(SIG));
      case 'mount':
        return this.#words(yield* this.#column('/proc/mounts', 1));
      case 'target':
        return this.#words(yield* this.#column('/proc/targets', 1));
      case 'session':
        return this.#words((yield* this.#column('/proc/sessions', 0)).filter(id => /^[0-9]/.test(id)));
    }
  }

  #words(words: readonly string[]): Offer {
    return { from: this.#start(), candidates: words.map(text => ({ text, tail: ' ' })) };
  }

  *#column(file: string, column: number): Find<string[]> {
    const text = yield* readText(this.#sys, file);
    return typeof text === 'number' ? [] : text.split('\n').flatMap(line => line.split(/[ \t]/)[column] ?? []);
  }

  *#variable({ name, at, brace }: NonNullable<Place['variable']>): Find<Offer> {
    const candidates: Candidate[] = [];
    for (const text of this.#names.variables) {
      if (!text.startsWith(name)) continue;
      const value = this.#names.get(text) ?? '';
      const leads = value.startsWith('/') && (yield* isDirectory(this.#sys, value));
      candidates.push({ text, tail: (brace ? '}' : '') + (leads ? '/' : this.#word.quote === '' ? ' ' : '') });
    }
    return { from: { at, valueAt: 0, quote: '' }, candidates, raw: true };
  }

  /** `~`, or the beginning of `~USER`. */
  *#home(): Find<Offer> {
    const { value } = this.#word;
    const users = value === '~' ? ['~'] : (yield* readAccounts(this.#sys)).users.map(u => `~${u.name}`);
    const fitting = users.filter(text => text.startsWith(value));
    return { from: wholeWord(this.#word), candidates: fitting.map(text => ({ text, tail: '/' })), raw: true };
  }

  *#commands(): Find<Offer> {
    const names = [...this.#names.commands];
    for (const directory of (this.#names.get('PATH') ?? '').split(':')) {
      const entries = yield* listDirectory(this.#sys, directory || '.');
      if (typeof entries !== 'number') names.push(...entries.map(e => e.name));
    }
    return this.#words(names);
  }

  *#pages(): Find<Offer> {
    const topics = yield* listDirectory(this.#sys, manualDirectory);
    const files = typeof topics === 'number' ? [] : topics.map(e => e.name.replace(/\.md$/, ''));
    return this.#words([...this.#manual.keys(), ...files]);
  }

  /** Names in /models as llmctl takes them, and model files here. */
  *#models(): Find<Offer> {
    const offer = yield* this.#paths(all);
    // What lies beside a model, its package and its bundle, is none.
    if (this.#word.slash.valueAt > 0)
      return { ...offer, candidates: offer.candidates.filter(c => !/\.gguf\.(sis|sig)$/.test(c.text)) };
    const listed = yield* listDirectory(this.#sys, LIMITS.modelsDirectory);
    const names = typeof listed === 'number' ? [] : listed.map(e => /^(.*)\.gguf$/.exec(e.name)?.[1] ?? '');
    const here = offer.candidates.filter(c => c.tail === '/' || c.text.endsWith('.gguf'));
    const models = names.filter(name => name !== '').map(text => ({ text, tail: ' ' }));
    return { from: this.#start(), candidates: [...models, ...here] };
  }

  /** Entries of the directory that the word names up to its last slash: directories, and the files that `accepts` does. */
  *#paths(accepts: (mode: number) => boolean): Find<Offer> {
    const offer = yield* this.#pathsFrom(wholeWord(this.#word), accepts);
    const { assignment } = this.#word;
    return offer.candidates.length > 0 || assignment.valueAt === 0
      ? offer
      : yield* this.#pathsFrom(assignment, accepts);
  }

  *#pathsFrom(base: Break, accepts: (mode: number) => boolean): Find<Offer> {
    const { value, slash } = this.#word;
    const from = slash.valueAt > base.valueAt ? slash : base;
    const directory = yield* this.#homeOf(value.slice(base.valueAt, from.valueAt));
    const prefix = value.slice(from.valueAt);
    const entries = yield* listDirectory(this.#sys, directory || '.');
    const candidates: Candidate[] = [];
    for (const { name, kind } of typeof entries === 'number' ? [] : entries) {
      if (!name.startsWith(prefix) || (name.startsWith('.') && !prefix.startsWith('.'))) continue;
      const st = kind === KIND.dir ? null : yield* stat(this.#sys, join(directory || '.', name));
      const leads = st === null || (typeof st !== 'number' && st.kind === KIND.dir);
      if (leads) candidates.push({ text: name, shown: `${name}/`, tail: '/' });
      else if (accepts(typeof st === 'number' ? 0 : st.mode)) candidates.push({ text: name, tail: ' ' });
    }
    return { from, candidates };
  }

  /** A path with the `~` or `~USER` that it begins with replaced. */
  *#homeOf(path: string): Find<string> {
    if (!this.#word.tilde || !path.startsWith('~')) return path;
    const name = path.slice(1, path.indexOf('/'));
    const home = name === '' ? this.#names.get('HOME') : (yield* readAccounts(this.#sys)).user(name)?.home;
    return (home ?? '') + path.slice(1 + name.length);
  }

  /** Where an operand begins: in `--option=VALUE` behind the sign. */
  #start(): Break {
    return this.#word.assignment.valueAt > 0 ? this.#word.assignment : wholeWord(this.#word);
  }
}

const manualDirectory = '/usr/share/man';
const all = (): boolean => true;
const none = (): boolean => false;
const isProgram = (mode: number): boolean => (mode & 0o111) !== 0;
const wholeWord = (word: PartialWord): Break => ({ at: word.start, valueAt: 0, quote: '' });

// ── Usages and tables of options ─────────────────────────────────────────────────────────────────────────────────────────────────

/** The name of the value that an argument, an option, waits for; null when it waits for none. */
function optionValue(options: OptionTable, argument: string): string | null {
  if (/^--./.test(argument)) return options[argument.slice(2)]?.value ?? null;
  if (!/^-./.test(argument)) return null;
  const letters = Array.from(argument.slice(1));
  const option = (letter: string): Option | undefined =>
    options[letter] ?? Object.values(options).find(o => o.short?.includes(letter));
  const taking = letters.findIndex(letter => option(letter)?.value !== undefined);
  return taking >= 0 && taking === letters.length - 1 ? option(letters[taking]!)!.value! : null;
}

function operandsOf(args: readonly string[], options: OptionTable): string[] {
  const operands: string[] = [];
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--') return [...operands, ...args.slice(i + 1)];
    if (!/^-./.test(args[i]!)) operands.push(args[i]!);
    else if (optionValue(options, args[i]!) !== null) i++;
  }
  return operands;
}

function optionCandidates(page: Page): Candidate[] {
  const candidates: Candidate[] = 'entry' in page ? [{ text: '--help', tail: ' ' }] : [];
  for (const [name, { short = '', value }] of Object.entries(page.options ?? {})) {
    for (const letter of name.length === 1 ? name + short : short) candidates.push({ text: `-${letter}`, tail: ' ' });
    if (name.length > 1)
      candidates.push({ text: `--${name}${value === undefined ? '' : '='}`, tail: value === undefined ? ' ' : '' });
  }
  return candidates;
}

/** What a usage has at the place after `operands`: words to be typed as they are, and kinds. */
function usageAt(usage: readonly string[], operands: readonly string[]): { literals: string[]; kinds: Kind[] } {
  const literals = new Set<string>();
  const kinds = new Set<Kind>();
  for (const form of usage.flatMap(alternatives)) {
    const tokens = operandTokens(form);
    if (!operands.every((o, i) => isLiteral(tokens[i] ?? '') !== true || tokens[i]!.split('|').includes(o))) continue;
    const repeated = tokens.findIndex(t => t.endsWith('...'));
    const here =
      repeated >= 0 && repeated <= operands.length
        ? tokens.slice(repeated)
        : tokens.slice(operands.length, operands.length + 1);
    for (const token of here) {
      if (isLiteral(token)) for (const word of token.split('|')) literals.add(word);
      else kinds.add(nameKinds[token.replace('...', '')] ?? 'path');
    }
  }
  return { literals: [...literals], kinds: [...kinds] };
}

const isLiteral = (token: string): boolean => /^[a-z]/.test(token);

/** The forms that one stands for, where all behind its first words is a choice: `key [add FILE|remove NAME]` is two. */
function alternatives(form: string): string[] {
  const [, words, choice] = /^([a-z ]+ )\[(.* .*)\]$/.exec(form) ?? [];
  if (words === undefined || choice === undefined) return [form];
  const parts = [''];
  let depth = 0;
  for (const c of choice) {
    if (c === '[') depth++;
    else if (c === ']' && --depth < 0) return [form]; // two brackets, not one
    if (c === '|' && depth === 0) parts.push('');
    else parts[parts.length - 1] += c;
  }
  return parts.length === 1 ? [form] : parts.flatMap(part => alternatives(words + part));
}

/** The operands of one form: options and their values are left out, brackets dropped. */
function operandTokens(form: string): string[] {
  let rest = form;
  for (let before = ''; before !== rest;) {
    before = rest;
    rest = rest.replace(/\[-[^[\]]*\](?:\.\.\.)?/g, '');
  }
  rest = rest.replace(/(^|[\s|])--?[a-z][\w-]*(?: [A-Z]+)?/g, '$1');
  return rest
    .replace(/[[\]]/g, '')
    .split(/\s+/)
    .filter(token => token !== '' && token !== '-' && token !== '|');
}

// ── Quoting ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `text` as the shell reads it back, where the quotes `from` are open before it and `to` after it. */
function requote(text: string, from: Quote, to: Quote): string {
  const lead = from === to ? '' : from + to;
  if (to === "'") return lead + text.replaceAll("'", `'\\''`);
  // A backslash does not keep ! from being expanded between double quotes, and makes a newline vanish outside of them.
  if (to === '"') return lead + text.replace(/["$\\`]/g, '\\$&').replaceAll('!', `"'!'"`);
  return lead + text.replace(/[\s'"\\|&;<>()$`*?[\]#~!{}]/g, c => (c === '\n' ? `'\n'` : `\\${c}`));
}

function commonPrefix(a: string, b: string): string {
  const x = [...a];
  const y = [...b];
  let n = 0;
  while (n < x.length && x[n] === y[n]) n++;
  return x.slice(0, n).join('');
}
