// grep: lines that match a pattern. Status 0 when some line was selected, 1 when none, 2 when something went wrong.

import { E, KIND, utf8Decode } from '../../kernel/abi/index.ts';
import { isDirectory, join, listDirectory, stat } from '../lib/files.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { compileRegex } from '../lib/regex.ts';

const options = {
  'extended-regexp': { short: 'E', help: 'extended regular expressions' },
  'fixed-strings': { short: 'F', help: 'patterns are plain text' },
  'basic-regexp': { short: 'G', help: 'basic regular expressions (the default)' },
  regexp: { short: 'e', value: 'PATTERN', many: true, help: 'a pattern; may be given more than once' },
  count: { short: 'c', help: 'print only the number of selected lines' },
  'with-filename': { short: 'H', help: 'always print file names' },
  'no-filename': { short: 'h', help: 'never print file names' },
  'ignore-case': { short: 'i', help: 'letters match in either case' },
  'files-with-matches': { short: 'l', help: 'print only names of files with selected lines' },
  'max-count': { short: 'm', value: 'N', help: 'stop after N selected lines' },
  'line-number': { short: 'n', help: 'print line numbers' },
  'only-matching': { short: 'o', help: 'print only what matches, each on its own line' },
  quiet: { short: 'q', help: 'print nothing; the exit status is the answer' },
  recursive: { short: 'rR', help: 'search the files below directories' },
  'no-messages': { short: 's', help: 'say nothing of files that cannot be read' },
  'invert-match': { short: 'v', help: 'select the lines that do not match' },
  'word-regexp': { short: 'w', help: 'match whole words only' },
  'line-regexp': { short: 'x', help: 'match whole lines only' },
} as const;
type Grep = Context<typeof options>;

export const grep = define({
  name: 'grep',
  summary: 'print lines that match a pattern',
  usage: ['[OPTION]... PATTERNS [FILE]...'],
  options,
  usageStatus: 2,
  description:
    'Prints the lines of each FILE, or of standard input, that one of PATTERNS, one a line, matches. Patterns are POSIX regular expressions over Unicode characters.',
  examples: [
    ['grep -n kv /proc/arena', 'the KV region of the arena, with its line number'],
    ["grep -rl 'attn' /mnt/x/metadata", 'which metadata keys mention attn'],
  ],
  *main(ctx) {
    const { options } = ctx;
    const operands = [...ctx.operands];
    const patterns = options.regexp.length > 0 ? options.regexp : operands.splice(0, 1);
    if (patterns.length === 0) return yield* ctx.usage();
    const syntax = options['fixed-strings'] ? 'fixed' : options['extended-regexp'] ? 'extended' : 'basic';
    const regex = compileRegex(patterns.join('\n'), syntax, {
      ignoreCase: options['ignore-case'],
      word: options['word-regexp'],
      line: options['line-regexp'],
    });
    if (typeof regex === 'string') return (yield* ctx.fail(regex)) + 1;
    if (options['max-count'] !== undefined && !/^[0-9]+$/.test(options['max-count'])) {
      return (yield* ctx.fail('invalid max count')) + 1;
    }
    const search: Search = {
      regex,
      named: options['with-filename'] || (operands.length > 1 && !options['no-filename']),
      selected: false,
      failed: false,
    };
    if (operands.length === 0) yield* options.recursive ? grepTree(ctx, search, '.', '') : grepFile(ctx, search, '-');
    for (const name of operands) {
      if (options.recursive) yield* grepTree(ctx, search, name, name);
      else yield* grepFile(ctx, search, name);
      if (options.quiet && search.selected) return 0;
    }
    return search.failed && !(options.quiet && search.selected) ? 2 : search.selected ? 0 : 1;
  },
});

interface Search {
  readonly regex: RegExp;
  /** Lines are preceded by the file's name. */
  named: boolean;
  selected: boolean;
  failed: boolean;
}

/** The files below `path`; `shown` is how its name is printed. */
function* grepTree(ctx: Grep, search: Search, path: string, shown: string): Generator<void, void, void> {
  const st = yield* stat(ctx.sys, path);
  if (typeof st === 'number' || st.kind !== KIND.dir) return yield* grepFile(ctx, search, shown);
  search.named = !ctx.options['no-filename'];
  const entries = yield* listDirectory(ctx.sys, path);
  for (const { name, kind } of typeof entries === 'number' ? [] : entries) {
    if (kind === KIND.char) continue; // a device need not end
    yield* grepTree(ctx, search, join(path, name), shown === '' ? name : join(shown, name));
  }
}

function* grepFile(ctx: Grep, search: Search, name: string): Generator<void, void, void> {
  const { options, out } = ctx;
  if (name !== '-' && !options.recursive && (yield* isDirectory(ctx.sys, name))) {
    if (!options['no-messages']) yield* ctx.fail(name, E.ISDIR);
    search.failed = true;
    return;
  }
  const quietly = {
    ...ctx,
    *failCall() {
      return 1;
    },
  };
  const input = yield* openInput(options['no-messages'] ? quietly : ctx, name);
  if (input === null) {
    search.failed = true;
    return;
  }
  const shown = name === '-' ? '(standard input)' : name;
  const prefix = search.named ? `${shown}:` : '';
  const stopAfter = options['max-count'] === undefined ? Infinity : Number(options['max-count']);
  const silent = options.quiet || options.count || options['files-with-matches'];
  let count = 0;
  let number = 0;
  let line: Uint8Array | null;
  while (count < stopAfter && (line = yield* input.line()) !== null) {
    number++;
    const length = line.at(-1) === 10 ? line.length - 1 : line.length;
    const text = utf8Decode(line, 0, length);
    if (search.regex.test(text) === options['invert-match']) continue;
    count++;
    if (options.quiet || options['files-with-matches']) break;
    if (silent) continue;
    if (line.includes(0)) {
      yield* out.print(`Binary file ${shown} matches\n`);
      break;
    }
    const head = prefix + (options['line-number'] ? `${number}:` : '');
    if (options['only-matching']) {
      const found = options['invert-match'] ? [] : text.matchAll(new RegExp(search.regex, `${search.regex.flags}g`));
      for (const [match] of found) if (match !== '') yield* out.print(`${head}${match}\n`);
      continue;
    }
    yield* out.print(head);
    yield* out.write(line.subarray(0, length));
    yield* out.print('\n');
  }
  if (count > 0) search.selected = true;
  if (!options.quiet) {
    if (options['files-with-matches']) {
      if (count > 0) yield* out.print(`${shown}\n`);
    } else if (options.count) yield* out.print(`${prefix}${count}\n`);
  }
  if (!(yield* closeInput(ctx, name, input))) search.failed = true;
}
