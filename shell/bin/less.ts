// less: reads texts a screen at a time. On a terminal it is the pager of lib/pager.ts; anywhere else it is cat.

import { E, O, strerror } from '../../kernel/abi/index.ts';
import { Document } from '../lib/document.ts';
import { copyDescriptor } from '../lib/files.ts';
import { Pager, keyList } from '../lib/pager.ts';
import type { PagerOptions, Source } from '../lib/pager.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { Screen, isTerminal, screenSize } from '../lib/screen.ts';
import { View } from '../lib/view.ts';

const options = {
  'LINE-NUMBERS': { short: 'N', help: 'number the lines' },
  'chop-long-lines': { short: 'S', help: 'cut long lines instead of continuing them below' },
  'RAW-CONTROL-CHARS': { short: 'R', help: 'let colour sequences take effect' },
  'ignore-case': { short: 'i', help: 'search without regard to case, unless the pattern has a capital' },
  'quit-if-one-screen': { short: 'F', help: 'print a text that fits on the screen and end' },
  'no-init': { short: 'X', help: 'leave on the screen what was read' },
  'LONG-PROMPT': { short: 'M', help: 'prompt with name, lines and percent' },
  prompt: { short: 'P', value: 'TEXT', help: 'prompt with TEXT instead of the name' },
  pattern: { short: 'p', value: 'PATTERN', help: 'begin at the first match of PATTERN; as +/PATTERN' },
} as const;

export const less = define({
  name: 'less',
  summary: 'read a text screen by screen',
  usage: ['[-NSRiFXM] [-P TEXT] [+LINE | +/PATTERN | +G | +F] [FILE]...'],
  options,
  description: `Shows each FILE, or standard input, a screen at a time; h shows the keys. Files are read where they are needed, so their size does not matter. Of a pipe 16 MiB are kept to go back in, in memory storage; what follows is not read. Control characters are shown as ^A, bytes that are not UTF-8 as <E9>, lines beyond 64 KiB as several. Ctrl-C ends waiting or searching, else less. Options are also taken from the variable LESS. Where standard output is no terminal, copies its input as cat does. Keys:\n${keyList}`,
  examples: [
    ['dmesg | less', 'reads the log of the boot'],
    ['less -N +/budget /usr/share/man/limits.md', 'begins at a word'],
  ],
  *main(ctx) {
    const { sys } = ctx;
    const { names, starts } = operands(ctx);
    if (names.length === 0 && (yield* isTerminal(sys, 0)))
      return yield* ctx.usage('Missing filename ("less --help" for help)');
    const { sources, status } = yield* openAll(ctx, names);
    if (sources.length === 0) return status;
    if (!(yield* isTerminal(sys, 1))) return Math.max(status, yield* copyAll(ctx, sources));
    const wanted = pagerOptions(ctx, starts);
    if (has(ctx, 'quit-if-one-screen') && (yield* printShort(ctx, sources, wanted))) return status;
    const screen = yield* Screen.open(sys, 1, { stay: has(ctx, 'no-init') });
    if (typeof screen === 'number') return yield* ctx.fail('cannot use the terminal', -screen);
    const result = yield* new Pager(sys, screen, sources, wanted).run();
    yield* screen.close();
    return Math.max(status, result);
  },
});

type LessContext = Context<typeof options>;
type File = Source & { readonly fd: number };

/** A switch, given here or as a letter in the variable LESS. */
function has({ options: given, env }: LessContext, name: Exclude<keyof typeof options, 'prompt' | 'pattern'>): boolean {
  const letters = (env.get('LESS') ?? '').split(/\s+/).filter(word => /^-?[A-Za-z]+$/.test(word));
  return given[name] || letters.some(word => word.includes(options[name].short));
}

/** File names, and the operands that begin with `+`: where to start. */
function operands(ctx: LessContext): { names: string[]; starts: string[] } {
  const starts = ctx.operands.filter(text => text.startsWith('+')).map(text => text.slice(1));
  if (ctx.options.pattern !== undefined) starts.push(`/${ctx.options.pattern}`);
  return { names: ctx.operands.filter(text => !text.startsWith('+')), starts };
}

function pagerOptions(ctx: LessContext, starts: readonly string[]): PagerOptions {
  return {
    numbers: has(ctx, 'LINE-NUMBERS'),
    chop: has(ctx, 'chop-long-lines'),
    colours: has(ctx, 'RAW-CONTROL-CHARS'),
    ignoreCase: has(ctx, 'ignore-case'),
    longPrompt: has(ctx, 'LONG-PROMPT'),
    follow: starts.includes('F'),
    start: starts.find(text => text !== 'F') ?? '',
  };
}

/** Opens what was named; says what cannot be read. */
function* openAll(
  ctx: LessContext,
  names: readonly string[],
): Generator<void, { sources: File[]; status: number }, void> {
  const { prompt } = ctx.options;
  const sources: File[] = [];
  let status = 0;
  for (const name of names.length === 0 ? ['-'] : names) {
    const fd = name === '-' ? 0 : yield* ctx.sys.open(name, O.RDONLY, 0);
    const doc = fd < 0 ? fd : yield* Document.open(ctx.sys, fd);
    if (typeof doc === 'number') {
      status = yield* ctx.fail(doc === -E.ISDIR ? `${name} is a directory` : `${name}: ${strerror(doc)}`);
      continue;
    }
    sources.push({ name: prompt ?? (name === '-' ? '' : name), fd, doc });
  }
  return { sources, status };
}

function* copyAll(ctx: LessContext, sources: readonly File[]): Generator<void, number, void> {
  let status = 0;
  for (const { name, fd } of sources) {
    const result = yield* copyDescriptor(ctx.sys, fd, 1);
    if (result !== 0) status = yield* ctx.fail(name || 'standard input', result.errno);
  }
  return status;
}

/** With -F: prints the only text if all of it fits on the screen. */
function* printShort(
  ctx: LessContext,
  sources: readonly Source[],
  wanted: PagerOptions,
): Generator<void, boolean, void> {
  if (sources.length > 1) return false;
  const { doc } = sources[0]!;
  const { columns, rows } = yield* screenSize(ctx.sys, 1);
  const view = new View(doc, wanted);
  view.resize(columns, rows - 1);
  const lines = yield* view.draw();
  yield* doc.fill(view.below.at + 1);
  if (!view.atEnd || view.top.at > 0) return false;
  for (const line of lines) yield* ctx.out.print(`${line}\n`);
  return true;
}
