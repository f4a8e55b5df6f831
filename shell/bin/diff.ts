// diff: what changed between two files or directories, as the normal or the unified format of POSIX. Both files are held whole, up to a
// stated limit; lib/diff.ts finds the changes.

import { E, KIND, LIMITS, strerror } from '../../kernel/abi/index.ts';
import { byteString, bytesOf, foldCase } from '../lib/bytes.ts';
import { changes } from '../lib/diff.ts';
import type { Change } from '../lib/diff.ts';
import { basename, byteOrder, join, listDirectory, readFile, stat } from '../lib/files.ts';
import type { FileStat } from '../lib/files.ts';
import { civilTime, two } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { readAll } from '../lib/stdio.ts';

const options = {
  text: { short: 'a', help: 'treat all files as text' },
  'ignore-space-change': { short: 'b', help: 'runs of blanks are equal, blanks at the end are nothing' },
  'ignore-case': { short: 'i', help: 'letters are equal in either case' },
  label: { short: 'L', value: 'TEXT', many: true, help: 'name in the header, in place of file and time' },
  'new-file': { short: 'N', help: 'a missing file is an empty one' },
  brief: { short: 'q', help: 'tell only whether files differ' },
  recursive: { short: 'r', help: 'compare directories below directories too' },
  'report-identical-files': { short: 's', help: 'tell when files are the same' },
  unified: { value: 'N', help: 'as -u, with N lines around each change' },
  u: { help: 'unified format, with 3 lines around each change' },
  U: { value: 'N', help: 'the same as --unified=N' },
  'ignore-all-space': { short: 'w', help: 'blanks are nothing' },
} as const;
type Diff = Context<typeof options>;

const TROUBLE = 2;
const missing: unique symbol = Symbol('missing');

export const diff = define({
  name: 'diff',
  summary: 'compare files line by line',
  usage: ['[OPTION]... FILE1 FILE2'],
  options,
  usageStatus: TROUBLE,
  description: `Prints the lines that change from FILE1 to FILE2, - being standard input; of two directories, those of the files with the same names. Status: 0 when they are the same, 1 when they differ, 2 in trouble. The changes are the fewest there are, unless more than ${2 * LIMITS.diffEdits} separate the files. A file has at most ${LIMITS.textBytes} bytes.`,
  examples: [
    ['diff -u /etc/passwd /tmp/passwd', 'what was changed, with lines around it'],
    ['diff -rq /tmp/a /tmp/b', 'which files of two trees differ'],
  ],
  *main(ctx) {
    const [one, second] = ctx.operands;
    if (one === undefined) return yield* ctx.usage("missing operand after 'diff'");
    if (second === undefined) return yield* ctx.usage(`missing operand after '${one}'`);
    if (ctx.operands.length > 2) return yield* ctx.usage(`extra operand '${ctx.operands[2]}'`);
    const lines = ctx.options.U ?? ctx.options.unified;
    if (lines !== undefined && !/^[0-9]+$/.test(lines)) return yield* ctx.usage(`invalid context length '${lines}'`);
    const [a, b] = [yield* sideOf(ctx, one), yield* sideOf(ctx, second)];
    // A directory stands for the file in it that has the other's name.
    if (isDirectory(a) && isFile(b) && second !== '-') {
      return yield* compare(ctx, yield* sideOf(ctx, join(one, basename(second))), b, '');
    }
    if (isFile(a) && isDirectory(b) && one !== '-') {
      return yield* compare(ctx, a, yield* sideOf(ctx, join(second, basename(one))), '');
    }
    return yield* compare(ctx, a, b, '');
  },
});

/** A file to compare: its stat record, an errno, or `missing`, which -N takes for an empty file. */
interface Side {
  readonly path: string;
  readonly stat: FileStat | number | typeof missing;
}

function* sideOf(ctx: Diff, path: string): Generator<void, Side, void> {
  if (path === '-') return { path, stat: missing };
  const st = yield* stat(ctx.sys, path);
  return { path, stat: st === -E.NOENT && ctx.options['new-file'] ? missing : st };
}
const isDirectory = ({ stat }: Side): boolean => typeof stat === 'object' && stat.kind === KIND.dir;
const isFile = ({ stat }: Side): boolean => typeof stat === 'object' && stat.kind !== KIND.dir;

/** Compares two sides. `command`: the line that heads the output of files within directories. */
function* compare(ctx: Diff, a: Side, b: Side, command: string): Generator<void, number, void> {
  let status = 0;
  for (const { path, stat } of [a, b]) {
    if (typeof stat === 'number') status = (yield* ctx.fail(path, -stat)) && TROUBLE;
  }
  if (status !== 0) return status;
  const nothing = [a, b].some(side => side.stat === missing && side.path !== '-'); // -N takes it for an empty directory
  if (isDirectory(a) ? nothing || isDirectory(b) : nothing && isDirectory(b))
    return yield* compareDirectories(ctx, a, b);
  if (isDirectory(a) || isDirectory(b)) {
    const kind = (side: Side): string => (isDirectory(side) ? 'directory' : 'regular file');
    yield* ctx.out.print(`File ${a.path} is a ${kind(a)} while file ${b.path} is a ${kind(b)}\n`);
    return 1;
  }
  if (a.path === b.path && !ctx.options['report-identical-files']) return 0;
  return yield* compareFiles(ctx, a, b, command);
}

function* compareDirectories(ctx: Diff, a: Side, b: Side): Generator<void, number, void> {
  const inA = a.stat === missing ? [] : yield* listDirectory(ctx.sys, a.path);
  const inB = b.stat === missing ? [] : yield* listDirectory(ctx.sys, b.path);
  if (typeof inA === 'number' || typeof inB === 'number') {
    const [path, errno] = typeof inA === 'number' ? [a.path, inA] : [b.path, Number(inB)];
    return (yield* ctx.fail(path, -errno)) && TROUBLE;
  }
  const sets = [inA, inB].map(list => new Set(list.map(e => e.name))) as [Set<string>, Set<string>];
  let status = 0;
  for (const name of [...new Set([...sets[0], ...sets[1]])].sort(byteOrder)) {
    const [one, two] = [join(a.path, name), join(b.path, name)];
    const only = !sets[0].has(name) ? b : !sets[1].has(name) ? a : null;
    if (only !== null && !ctx.options['new-file']) {
      yield* ctx.out.print(`Only in ${only.path}: ${name}\n`);
      status = Math.max(status, 1);
      continue;
    }
    const [sideOne, sideTwo] = [yield* sideOf(ctx, one), yield* sideOf(ctx, two)];
    if (isDirectory(sideOne) && isDirectory(sideTwo) && !ctx.options.recursive) {
      yield* ctx.out.print(`Common subdirectories: ${one} and ${two}\n`);
      continue;
    }
    status = Math.max(
      status,
      yield* compare(ctx, sideOne, sideTwo, `${['diff', ...flags(ctx), one, two].join(' ')}\n`),
    );
  }
  return status;
}

/** The options as they were given, for the line that heads a file's changes. */
function flags(ctx: Diff): string[] {
  return ctx.argv.slice(1).filter(text => /^-./.test(text));
}

function* compareFiles(ctx: Diff, a: Side, b: Side, command: string): Generator<void, number, void> {
  const texts: string[] = [];
  for (const side of [a, b]) {
    const bytes = yield* contents(ctx, side);
    if (typeof bytes === 'number') {
      const message = bytes === -E.FBIG ? `more than ${LIMITS.textBytes} bytes to compare` : strerror(-bytes);
      return (yield* ctx.fail(`${side.path}: ${message}`)) && TROUBLE;
    }
    texts.push(byteString(bytes));
  }
  const [one, two] = texts as [string, string];
  const binary = !ctx.options.text && texts.some(text => text.includes('\0'));
  const quick = one === two ? [] : ctx.options.brief && !ignores(ctx) ? null : undefined;
  if (quick === null || (binary && one !== two)) {
    yield* ctx.out.print(`${ctx.options.brief ? 'F' : 'Binary f'}iles ${a.path} and ${b.path} differ\n`);
    return 1;
  }
  const [linesA, linesB] = [splitLines(one), splitLines(two)];
  const found = quick ?? changesOf(ctx, linesA, linesB);
  if (found.length === 0) {
    if (ctx.options['report-identical-files']) yield* ctx.out.print(`Files ${a.path} and ${b.path} are identical\n`);
    return 0;
  }
  if (ctx.options.brief) {
    yield* ctx.out.print(`Files ${a.path} and ${b.path} differ\n`);
    return 1;
  }
  yield* ctx.out.print(command);
  const around = contextOf(ctx);
  if (around === undefined) yield* printNormal(ctx, found, linesA, linesB);
  else {
    for (const [i, side] of [a, b].entries()) {
      const name = ctx.options.label[i] ?? `${side.path}\t${stamp(side)}`;
      yield* ctx.out.print(`${i === 0 ? '---' : '+++'} ${name}\n`);
    }
    yield* printUnified(ctx, found, linesA, linesB, Number(around));
  }
  return 1;
}

function* contents(ctx: Diff, { path, stat }: Side): Generator<void, Uint8Array | number, void> {
  if (path === '-') return yield* readAll(ctx.sys, 0, LIMITS.textBytes);
  return stat === missing ? new Uint8Array(0) : yield* readFile(ctx.sys, path, LIMITS.textBytes);
}

/** `2025-01-31 08:05:09.000000000 +0000`. */
function stamp({ stat }: Side): string {
  const seconds = typeof stat === 'object' ? Number(stat.modifiedNs) / 1e9 : 0;
  const t = civilTime(seconds);
  const clock = [t.hour, t.minute, t.second].map(two).join(':');
  return `${t.year}-${two(t.month)}-${two(t.day)} ${clock}.000000000 +0000`;
}

// ── Lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Lines with their newlines; the last may lack it. */
const splitLines = (text: string): string[] => text.match(/[^\n]*\n|[^\n]+$/g) ?? [];

const ignores = ({ options }: Diff): boolean =>
  options['ignore-case'] || options['ignore-space-change'] || options['ignore-all-space'];

function changesOf(ctx: Diff, a: readonly string[], b: readonly string[]): Change[] {
  const numbers = new Map<string, number>();
  const number = (line: string): number => {
    const key = comparedPart(ctx, line);
    const known = numbers.get(key);
    if (known !== undefined) return known;
    numbers.set(key, numbers.size);
    return numbers.size - 1;
  };
  // Equal ends need no search; as many lines of them as will be shown stay, since a change may move into what is shown.
  const around = Number(contextOf(ctx) ?? 0);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail++;
  head = Math.max(0, head - around);
  tail = Math.max(0, tail - around);
  const middle = (lines: readonly string[]): Int32Array =>
    Int32Array.from(lines.slice(head, lines.length - tail), number);
  return changes(middle(a), middle(b), LIMITS.diffEdits).map(({ from, to, start, end }) => ({
    from: from + head,
    to: to + head,
    start: start + head,
    end: end + head,
  }));
}

/** How many lines the unified format shows around a change; undefined in the normal format. */
const contextOf = ({ options }: Diff): string | undefined =>
  options.U ?? options.unified ?? (options.u ? '3' : undefined);

function comparedPart({ options }: Diff, line: string): string {
  let text = line;
  if (options['ignore-all-space']) text = text.replace(/[ \t\v\f\r\n]+/g, '');
  else if (options['ignore-space-change']) text = text.replace(/[ \t\v\f\r\n]+$/, '').replace(/[ \t\v\f\r]+/g, ' ');
  return options['ignore-case'] ? foldCase(text) : text;
}

function* printLines(ctx: Diff, mark: string, lines: readonly string[]): Generator<void, void, void> {
  for (const line of lines) {
    yield* ctx.out.write(bytesOf(mark + line));
    if (!line.endsWith('\n')) yield* ctx.out.print('\n\\ No newline at end of file\n');
  }
}

/** Lines `first` ≤ i < `end`, from 1: `3`, `3,5`; of none, the line before. */
const normalRange = (first: number, end: number): string => (end - first < 2 ? String(end) : `${first + 1},${end}`);
/** The same as first line and count. */
const unifiedRange = (first: number, end: number): string =>
  end - first === 1 ? String(end) : `${end === first ? first : first + 1},${end - first}`;

function* printNormal(
  ctx: Diff,
  found: readonly Change[],
  a: readonly string[],
  b: readonly string[],
): Generator<void, void, void> {
  for (const { from, to, start, end } of found) {
    const letter = from === to ? 'a' : start === end ? 'd' : 'c';
    yield* ctx.out.print(`${normalRange(from, to)}${letter}${normalRange(start, end)}\n`);
    yield* printLines(ctx, '< ', a.slice(from, to));
    if (letter === 'c') yield* ctx.out.print('---\n');
    yield* printLines(ctx, '> ', b.slice(start, end));
  }
}

function* printUnified(
  ctx: Diff,
  found: readonly Change[],
  a: readonly string[],
  b: readonly string[],
  around: number,
): Generator<void, void, void> {
  for (let i = 0; i < found.length;) {
    // Changes whose surroundings touch are one hunk.
    let last = i;
    while (last + 1 < found.length && found[last + 1]!.from - found[last]!.to <= 2 * around) last++;
    const first = found[i]!;
    const final = found[last]!;
    const before = Math.min(around, first.from);
    const after = Math.min(around, a.length - final.to);
    const ranges = [
      unifiedRange(first.from - before, final.to + after),
      unifiedRange(first.start - before, final.end + after),
    ];
    yield* ctx.out.print(`@@ -${ranges[0]} +${ranges[1]} @@\n`);
    let at = first.from - before;
    for (const { from, to, start, end } of found.slice(i, last + 1)) {
      yield* printLines(ctx, ' ', a.slice(at, from));
      yield* printLines(ctx, '-', a.slice(from, to));
      yield* printLines(ctx, '+', b.slice(start, end));
      at = to;
    }
    yield* printLines(ctx, ' ', a.slice(at, final.to + after));
    i = last + 1;
  }
}
