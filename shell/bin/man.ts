// man: the manual. Pages of commands are made from the same table as --help; pages of topics are files in /usr/share/man.

import { E, IOCTL, SEEK, SIG, SYSCALLS, utf8Encode } from '../../kernel/abi/index.ts';
import type { CallName, CallSpec } from '../../kernel/abi/index.ts';
import { launch, waitFor } from '../lib/exec.ts';
import { join, listDirectory, readText } from '../lib/files.ts';
import { table, wrap } from '../lib/fmt.ts';
import { optionLines } from '../lib/getopt.ts';
import { define, screenWidth, usageLine } from '../lib/program.ts';
import type { Context, Page } from '../lib/program.ts';
import { isTerminal } from '../lib/screen.ts';
import { writeAll } from '../lib/stdio.ts';
import { quote } from '../sh/quote.ts';

const directory = '/usr/share/man';
const defaultPager = 'less';
/** Pages are no wider than this, however wide the terminal. */
const columnsMax = 100;
const NO_ENTRY_STATUS = 16;
/** 1: commands; 7: topics; 2: system calls. A name is looked for in this order: of disk, what is written about it comes before the call. */
const sections = ['1', '7', '2'] as const;
type Section = (typeof sections)[number];

const options = {
  apropos: { short: 'k', help: 'list the pages that mention NAME' },
  pager: { short: 'P', value: 'COMMAND', help: 'read with COMMAND instead of $MANPAGER, $PAGER or less' },
} as const;
type ManContext = Context<typeof options>;

export const man = define({
  name: 'man',
  summary: 'read the manual',
  usage: ['[-P COMMAND] [SECTION] NAME...', '-k WORD...'],
  options,
  description:
    'Shows the manual page of each command (section 1), system call (2) or topic (7) NAME: on a terminal through a pager, else as plain text. Topics are the files in /usr/share/man; `man intro` is a good first one.',
  examples: [
    ['man -k model', 'which pages are about models'],
    ['man 2 open', 'the system call'],
  ],
  *main(ctx) {
    const [first = '', ...rest] = ctx.operands;
    if (ctx.options.apropos) return yield* aproposAll(ctx);
    const wanted = sections.find(s => s === first);
    const names = wanted === undefined ? ctx.operands : rest;
    if (names.length === 0)
      return yield* ctx.usage(wanted ? `No page specified for section ${wanted}` : 'What manual page do you want?');
    let status = 0;
    for (const name of names) {
      const page = yield* findPage(ctx, name, wanted === undefined ? sections : [wanted]);
      if (page === null) {
        const where = wanted === undefined ? '' : ` in section ${wanted}`;
        yield* ctx.fail(`No manual entry for ${name}${where}`);
        status = NO_ENTRY_STATUS;
      } else if (yield* isTerminal(ctx.sys, 1)) status = yield* readWithPager(ctx, page);
      else yield* ctx.out.print(page.text);
    }
    return status;
  },
});

interface Found {
  readonly title: string; // `ls(1)`
  readonly text: string;
}

/** The page of a name in the first section that has one. */
function* findPage(ctx: ManContext, name: string, within: readonly Section[]): Generator<void, Found | null, void> {
  for (const section of within) {
    const title = `${name}(${section})`;
    const command = section === '1' ? ctx.manual.get(name) : undefined;
    if (command !== undefined) return { title, text: commandPage(command, yield* pageWidth(ctx)) };
    const call = section === '2' && Object.hasOwn(SYSCALLS, name) ? SYSCALLS[name as CallName] : undefined;
    if (call !== undefined) return { title, text: callPage(name, call, yield* pageWidth(ctx)) };
    const text = section === '7' ? yield* topic(ctx, name) : null;
    if (text !== null) return { title, text };
  }
  return null;
}

function* pageWidth(ctx: ManContext): Generator<void, number, void> {
  const width = yield* ctx.sys.ioctl(1, IOCTL.columns, 0);
  return width > 20 ? Math.min(width, columnsMax) : screenWidth;
}

function* topic(ctx: ManContext, name: string): Generator<void, string | null, void> {
  const text = name.includes('/') ? -E.NOENT : yield* readText(ctx.sys, join(directory, `${name}.md`));
  if (typeof text === 'number') return null;
  return text.replace(/^# (.*)$/m, 'NAME\n    $1').replace(/^## (.*)$/gm, (_, title: string) => title.toUpperCase());
}

// ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Hands a page to the pager as its standard input, in memory storage, and waits for it. Returns its status. */
function* readWithPager(ctx: ManContext, { title, text }: Found): Generator<void, number, void> {
  const { sys, env } = ctx;
  const chosen = ctx.options.pager ?? env.get('MANPAGER') ?? env.get('PAGER') ?? '';
  const pager = chosen.trim() || defaultPager;
  const command = pager === defaultPager ? `less -RM -P ${quote(`Manual page ${title}`)}` : pager;
  const fd = yield* sys.memfd('man');
  if (fd < 0) return yield* ctx.fail('cannot keep the page', -fd);
  yield* writeAll(sys, fd, utf8Encode(decorated(text)));
  yield* sys.lseek(fd, 0, SEEK.set);
  // Ctrl-C is the pager's.
  yield* sys.signal(SIG.INT, 1);
  const settings = new Map([['LESS', '-RM'], ...env]);
  const pid = yield* launch(sys, '/bin/sh', ['sh', '-c', `exec ${command}`], settings, [fd, 1, 2]);
  const status = pid < 0 ? yield* ctx.fail(pager, -pid) : yield* waitFor(sys, pid);
  yield* sys.close(fd);
  return status;
}

const bold = (text: string): string => `\x1b[1m${text}\x1b[m`;
const underlined = (text: string): string => `\x1b[4m${text}\x1b[m`;

/** A page with headings, options and the words in backquotes in bold, and the names of values underlined. */
function decorated(page: string): string {
  let section = '';
  const lines = page.split('\n').map(line => {
    if (/^[A-Z]/.test(line)) {
      section = line;
      return bold(line);
    }
    if (section === 'SYNOPSIS') return line.replace(/[A-Z]{2,}/g, underlined).replace(/^ {4}(?! )\S+/, bold);
    const [, indent, forms, rest] =
      section === 'OPTIONS' ? (/^( {4,10})(-.*?)( {2,}.*)?$/.exec(line) ?? []) : ([] as string[]);
    if (forms === undefined) return line.replace(/`([^`]+)`/g, (_, words: string) => bold(words));
    const shown = forms.replace(/(-[^ ,=[]+)|([A-Z]{2,}|(?<=[ =])[A-Z]\b)/g, (whole, form?: string) =>
      form === undefined ? underlined(whole) : bold(whole),
    );
    return `${indent}${shown}${rest ?? ''}`;
  });
  return lines.join('\n');
}

// ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const section = (title: string, text: string): string => (text === '' ? '' : `${title}\n${text}\n`);

/** A command's page in the classic sections. */
function commandPage(page: Page, width: number): string {
  const usage = page.usage.map(form => usageLine(`    ${page.name} `, form, width));
  const lines = optionLines(page.options ?? {}, width - 2).map(line => line.replace(/^/gm, '  '));
  const examples = (page.examples ?? []).map(([command, effect]) => `    ${command}\n        ${effect}\n`);
  return [
    section('NAME', `    ${page.name} - ${page.summary}\n`),
    section('SYNOPSIS', `${usage.join('\n')}\n`),
    section('DESCRIPTION', wrap(page.description, width - 4, 4)),
    section('OPTIONS', `${lines.join('\n')}\n`),
    section('EXAMPLES', examples.join('')),
  ]
    .join('')
    .replace(/\n$/, '');
}

/** A system call's page, from the table that the stubs and the kernel are made from. */
function callPage(name: string, call: CallSpec, width: number): string {
  const args = call.args.map(([argument, kind]) => (kind === argument ? kind : `${kind} ${argument}`));
  const summary = /^[^.:;,(]*/.exec(call.doc)![0].trim();
  const facts = `System call number ${call.nr}.${call.blocks ? ' It may wait.' : ''} Returns a value of at least 0, or minus an errno. See docs/ABI.md and \`man syscalls\`.`;
  return [
    section('NAME', `    ${name} - ${summary.charAt(0).toLowerCase()}${summary.slice(1)}\n`),
    section('SYNOPSIS', `${usageLine(`    ${name} `, `(${args.join(', ')})`, width)}\n`),
    section('DESCRIPTION', wrap(`${call.doc}\n${facts}`, width - 4, 4)),
  ]
    .join('')
    .replace(/\n$/, '');
}

function* aproposAll(ctx: ManContext): Generator<void, number, void> {
  if (ctx.operands.length === 0) return yield* ctx.usage('apropos what?');
  let status = 0;
  for (const word of ctx.operands) {
    const found = yield* apropos(ctx, word);
    if (found === '') status = yield* ctx.fail(`${word}: nothing appropriate.`);
    yield* ctx.out.print(found);
  }
  return status;
}

/** `NAME - SUMMARY` of commands and topics that mention a word. */
function* apropos(ctx: ManContext, word: string): Generator<void, string, void> {
  const wanted = word.toLowerCase();
  const rows: [string, string][] = [];
  for (const page of ctx.manual.values()) {
    const text = `${page.name} ${page.summary} ${page.description}`.toLowerCase();
    if (text.includes(wanted)) rows.push([page.name, page.summary]);
  }
  const files = yield* listDirectory(ctx.sys, directory);
  for (const { name } of typeof files === 'number' ? [] : files) {
    const text = yield* readText(ctx.sys, join(directory, name));
    if (typeof text === 'number' || !text.toLowerCase().includes(wanted)) continue;
    // A dash, escaped: a program that is all ASCII is read faster.
    rows.push([name.replace(/\.md$/, ''), text.split('\n', 1)[0]!.replace(/^# *\S+ *[-\u2014]* */, '')]);
  }
  rows.sort(([a], [b]) => (a < b ? -1 : 1));
  return rows.length === 0 ? '' : table(rows.map(([name, summary]) => [name, `- ${summary}`]));
}
