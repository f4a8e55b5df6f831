// grep: lines that match a pattern. Lines stream through; what -B may print later is all that is held. Status 0 when some line was selected,
// 1 when none, 2 when something went wrong.

import { E, KIND, LIMITS } from '../../kernel/abi/index.ts';
import { decodeCharacters, lineEnd } from '../lib/bytes.ts';
import type { Characters } from '../lib/bytes.ts';
import { basename, isDirectory, join, listDirectory, readText, stat } from '../lib/files.ts';
import { compilePattern, matches } from '../lib/glob.ts';
import { closeInput, define, openInput, quietly } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { isBrokenByte } from '../lib/regex-parse.ts';
import { compileRegex } from '../lib/regex.ts';
import type { Match, Regex } from '../lib/regex.ts';

const options = {
  'extended-regexp': { short: 'E', help: 'extended regular expressions' },
  'fixed-strings': { short: 'F', help: 'patterns are plain text' },
  'basic-regexp': { short: 'G', help: 'basic regular expressions (the default)' },
  regexp: { short: 'e', value: 'PATTERN', many: true, help: 'a pattern; may be given more than once' },
  file: { short: 'f', value: 'FILE', many: true, help: 'patterns from FILE, one a line' },
  'after-context': { short: 'A', value: 'N', help: 'print N lines after each selected line' },
  'before-context': { short: 'B', value: 'N', help: 'print N lines before each selected line' },
  context: { short: 'C', value: 'N', digits: true, help: 'print N lines on both sides' },
  text: { short: 'a', help: 'print lines of binary files too' },
  'byte-offset': { short: 'b', help: 'print where each line begins, in bytes; with -o each match' },
  count: { short: 'c', help: 'print only the number of selected lines' },
  'with-filename': { short: 'H', help: 'always print file names' },
  'no-filename': { short: 'h', help: 'never print file names' },
  'ignore-case': { short: 'iy', help: 'letters match in either case' },
  include: { value: 'GLOB', many: true, help: 'with -r search only files with such names' },
  exclude: { value: 'GLOB', many: true, help: 'with -r leave out files with such names' },
  'files-with-matches': { short: 'l', help: 'print only names of files with selected lines' },
  'files-without-match': { short: 'L', help: 'print only names of files without selected lines' },
  'max-count': { short: 'm', value: 'N', help: 'stop after N selected lines' },
  'line-number': { short: 'n', help: 'print line numbers' },
  'only-matching': { short: 'o', help: 'print only what matches, each on its own line' },
  quiet: { short: 'q', help: 'print nothing; the exit status is the answer' },
  recursive: { short: 'rR', help: 'search the files below directories' },
  'no-messages': { short: 's', help: 'say nothing of files that cannot be read' },
  'invert-match': { short: 'v', help: 'select the lines that do not match' },
  'word-regexp': { short: 'w', help: 'match whole words only' },
  'line-regexp': { short: 'x', help: 'match whole lines only' },
  'null-data': { short: 'z', help: 'lines end in a zero byte' },
} as const;
type Grep = Context<typeof options>;

const TROUBLE = 2;

export const grep = define({
  name: 'grep',
  summary: 'print lines that match a pattern',
  usage: ['[OPTION]... PATTERNS [FILE]...'],
  options,
  usageStatus: TROUBLE,
  description: `Prints the lines of each FILE, or of standard input, that one of PATTERNS, one a line, matches. Patterns are POSIX regular expressions over the characters of UTF-8; of several matches the leftmost counts, of those the longest. Matching takes time in proportion to line and pattern; only with back-references it can take more, and ends after ${LIMITS.regexSteps} steps. A pattern has at most ${LIMITS.regexStates} states.`,
  examples: [
    ['grep -n kv /proc/arena', 'the KV region of the arena, with its line number'],
    ["grep -rl 'attn' /mnt/x/metadata", 'which metadata keys mention attn'],
  ],
  *main(ctx) {
    const operands = [...ctx.operands];
    const search = yield* searchOf(ctx, operands);
    if (search === null) return TROUBLE;
    if (search === undefined) return yield* ctx.usage();
    const { options } = ctx;
    if (operands.length === 0) yield* options.recursive ? grepTree(ctx, search, '.', '') : grepFile(ctx, search, '-');
    for (const name of operands) {
      if (options.recursive) yield* grepTree(ctx, search, name, name);
      else yield* grepFile(ctx, search, name);
      if (options.quiet && search.selected) return 0;
    }
    return search.failed && !(options.quiet && search.selected) ? TROUBLE : search.selected ? 0 : 1;
  },
});

interface Search {
  /** null: no pattern at all, so nothing matches. */
  readonly regex: Regex | null;
  readonly before: number;
  readonly grouped: boolean; // a context was asked for, be it of no lines
  readonly after: number;
  readonly most: number;
  readonly end: number; // the byte that ends lines
  /** Lines are preceded by the file's name. */
  named: boolean;
  selected: boolean;
  failed: boolean;
}

/** What is searched for; takes the pattern from `operands`. null after a message, undefined when there is no pattern. */
function* searchOf(ctx: Grep, operands: string[]): Generator<void, Search | null | undefined, void> {
  const { options } = ctx;
  const patterns = [...options.regexp];
  for (const name of options.file) {
    const text = yield* readText(ctx.sys, name === '-' ? '/dev/stdin' : name);
    if (typeof text === 'number') {
      yield* ctx.fail(name, -text);
      return null;
    }
    if (text !== '') patterns.push(text.replace(/\n$/, ''));
  }
  if (options.regexp.length + options.file.length === 0) {
    if (operands.length === 0) return undefined;
    patterns.push(operands.shift()!);
  }
  const syntax = options['fixed-strings'] ? 'fixed' : options['extended-regexp'] ? 'extended' : 'basic';
  const regex = compileRegex(patterns.join('\n'), syntax, {
    ignoreCase: options['ignore-case'],
    word: options['word-regexp'],
    line: options['line-regexp'],
  });
  const context = options.context ?? '0';
  const [before, after] = [options['before-context'] ?? context, options['after-context'] ?? context];
  const bad = [before, after].find(text => !/^[0-9]+$/.test(text));
  let wrong = typeof regex === 'string' ? regex : bad === undefined ? null : `${bad}: invalid context length argument`;
  if (!/^[0-9]+$/.test(options['max-count'] ?? '0')) wrong = 'invalid max count';
  if (wrong !== null) {
    yield* ctx.fail(wrong);
    return null;
  }
  return {
    regex: patterns.length === 0 ? null : (regex as Regex),
    before: Number(before),
    grouped: [options.context, options['before-context'], options['after-context']].some(text => text !== undefined),
    after: Number(after),
    most: Number(options['max-count'] ?? Infinity),
    end: lineEnd(options['null-data']),
    named: options['with-filename'] || (operands.length > 1 && !options['no-filename']),
    selected: false,
    failed: false,
  };
}

/** The files below `path`; `shown` is how its name is printed. */
function* grepTree(ctx: Grep, search: Search, path: string, shown: string): Generator<void, void, void> {
  const st = yield* stat(ctx.sys, path);
  if (typeof st === 'number' || st.kind !== KIND.dir) return yield* grepFile(ctx, search, shown);
  search.named = !ctx.options['no-filename'];
  const entries = yield* listDirectory(ctx.sys, path);
  for (const { name, kind } of typeof entries === 'number' ? [] : entries) {
    if (kind === KIND.char || kind === KIND.block) continue; // a device need not end
    if (kind !== KIND.dir && !isWanted(ctx, name)) continue;
    yield* grepTree(ctx, search, join(path, name), shown === '' ? name : join(shown, name));
  }
}

function isWanted({ options }: Grep, name: string): boolean {
  const fits = (glob: string): boolean => matches(compilePattern(glob), basename(name));
  return (options.include.length === 0 || options.include.some(fits)) && !options.exclude.some(fits);
}

function* grepFile(ctx: Grep, search: Search, name: string): Generator<void, void, void> {
  const { options } = ctx;
  if (name !== '-' && !options.recursive && (yield* isDirectory(ctx.sys, name))) {
    if (!options['no-messages']) yield* ctx.fail(name, E.ISDIR);
    search.failed = true;
    return;
  }
  const input = yield* openInput(options['no-messages'] ? quietly(ctx) : ctx, name);
  if (input === null) {
    search.failed = true;
    return;
  }
  const shown = name === '-' ? '(standard input)' : name;
  const printer = new Printer(ctx, search, shown);
  const stopEarly = options.quiet || options['files-with-matches'] || options['files-without-match'];
  let count = 0;
  for (let line: Uint8Array | null; (line = yield* input.line(search.end)) !== null;) {
    const bytes = line.at(-1) === search.end ? line.subarray(0, -1) : line;
    const characters = decodeCharacters(bytes);
    const found = count < search.most && (search.regex?.find(characters.codes, 0) ?? null) !== null;
    if (search.regex?.exceeded) {
      yield* ctx.fail(`${shown}: line ${printer.number}: back-references take more than ${LIMITS.regexSteps} steps`);
      search.failed = true;
    }
    const selected = count < search.most && found !== options['invert-match'];
    if (selected) count++;
    if (selected && stopEarly) break;
    if (!options.count && !stopEarly && !(yield* printer.line(bytes, characters, selected))) break;
    printer.pass(line);
    if (count >= search.most && (options.count || !printer.owesContext)) break;
  }
  yield* finish(ctx, search, shown, count);
  if (!(yield* closeInput(ctx, name, input))) search.failed = true;
}

/** What is printed once a file has been read. */
function* finish(ctx: Grep, search: Search, shown: string, count: number): Generator<void, void, void> {
  const { options } = ctx;
  const without = options['files-without-match'];
  if (count > 0) search.selected = true;
  if (options.quiet) return;
  const listed = (options['files-with-matches'] && count > 0) || (without && count === 0);
  if (listed) yield* ctx.out.print(`${shown}\n`);
  else if (options.count && !options['files-with-matches'] && !without) {
    yield* ctx.out.print(`${search.named ? `${shown}:` : ''}${count}\n`);
  }
}

interface Held {
  readonly bytes: Uint8Array;
  readonly number: number;
  readonly at: number;
}

/** Prints the selected lines of one file, and those around them. */
class Printer {
  number = 1; // of the line in hand
  private at = 0; // where it begins, in bytes
  private owed = 0; // lines of context still to print
  private lastPrinted = 0; // line number
  private readonly held: Held[] = [];
  private readonly ctx: Grep;
  private readonly search: Search;
  private readonly shown: string;

  constructor(ctx: Grep, search: Search, shown: string) {
    this.ctx = ctx;
    this.search = search;
    this.shown = shown;
  }

  get owesContext(): boolean {
    return this.owed > 0;
  }

  /** Goes on to the next line. */
  pass(line: Uint8Array): void {
    this.number++;
    this.at += line.length;
  }

  /** False after a match in a binary file: it is told once. */
  *line(bytes: Uint8Array, characters: Characters, selected: boolean): Generator<void, boolean, void> {
    const { ctx, search, number, at } = this;
    const here: Held = { bytes, number, at };
    if (selected) {
      if (!ctx.options.text && isBinary(bytes, characters, search.end)) {
        yield* ctx.fail(`${this.shown}: binary file matches`);
        return false;
      }
      for (const line of this.held.splice(0)) yield* this.whole(line, '-');
      yield* this.whole(here, ':');
      this.owed = search.after;
    } else if (this.owed > 0) {
      this.owed--;
      yield* this.whole(here, '-');
    } else if (search.before > 0) {
      this.held.push(here);
      if (this.held.length > search.before) this.held.shift();
    }
    return true;
  }

  /** `--` between groups that are not neighbours. */
  private *separate(number: number): Generator<void, void, void> {
    if (this.search.grouped && this.lastPrinted > 0 && number > this.lastPrinted + 1) yield* this.ctx.out.print('--\n');
  }

  /** A line as it is, or with -o what matches in it; with -v that is in the lines of the context. */
  private *whole({ bytes, number, at }: Held, mark: string): Generator<void, void, void> {
    yield* this.separate(number);
    this.lastPrinted = number;
    const { options } = this.ctx;
    if (!options['only-matching']) yield* this.print(number, at, mark, bytes);
    else if ((mark === '-') === options['invert-match']) yield* this.parts({ bytes, number, at }, mark);
  }

  /** Each match on a line of its own. */
  private *parts({ bytes, number, at: lineAt }: Held, mark: string): Generator<void, void, void> {
    const { codes, at } = decodeCharacters(bytes);
    let match: Match | null;
    for (let from = 0; from <= codes.length && (match = this.search.regex!.find(codes, from)) !== null;) {
      const { start, end } = match;
      if (end > start) yield* this.print(number, lineAt + at[start]!, mark, bytes.subarray(at[start], at[end]));
      from = Math.max(end, start + 1);
    }
  }

  private *print(number: number, at: number, mark: string, bytes: Uint8Array): Generator<void, void, void> {
    const { out, options } = this.ctx;
    const name = this.search.named ? this.shown + mark : '';
    const offset = options['byte-offset'] ? `${at}${mark}` : '';
    yield* out.print(`${name}${options['line-number'] ? `${number}${mark}` : ''}${offset}`);
    yield* out.write(bytes);
    yield* out.write(Uint8Array.of(this.search.end));
  }
}

/** A line that is no text: it has zero bytes, or is not UTF-8. */
const isBinary = (bytes: Uint8Array, { codes }: Characters, end: number): boolean =>
  (end !== 0 && bytes.includes(0)) || codes.some(isBrokenByte);
