// man: the manual. Pages of commands are made from the same table as --help; pages of topics are files in /usr/share/man.

import { E, IOCTL } from '../../kernel/abi/index.ts';
import { join, listDirectory, readText } from '../lib/files.ts';
import { table, wrap } from '../lib/fmt.ts';
import { optionLines } from '../lib/getopt.ts';
import { define, screenWidth, usageLine } from '../lib/program.ts';
import type { Context, Page } from '../lib/program.ts';

const directory = '/usr/share/man';
const options = { apropos: { short: 'k', help: 'list the pages that mention NAME' } } as const;

export const man = define({
  name: 'man',
  summary: 'read the manual',
  usage: ['NAME...', '-k WORD'],
  options,
  description:
    'Prints the manual page of each command or topic NAME. Topics are the files in /usr/share/man; `man intro` is a good first one.',
  examples: [['man -k model', 'which pages are about models']],
  *main(ctx) {
    if (ctx.operands.length === 0) return yield* ctx.usage('What manual page do you want?');
    let status = 0;
    for (const name of ctx.operands) {
      if (ctx.options.apropos) {
        const found = yield* apropos(ctx, name);
        if (found === '') status = yield* ctx.fail(`${name}: nothing appropriate.`);
        yield* ctx.out.print(found);
        continue;
      }
      const page = ctx.manual.get(name);
      const text = page === undefined ? yield* topic(ctx, name) : commandPage(page, yield* terminalWidth(ctx));
      if (typeof text === 'number') {
        yield* ctx.fail(
          text === -E.NOENT ? `No manual entry for ${name}` : name,
          text === -E.NOENT ? undefined : -text,
        );
        status = 16;
      } else yield* ctx.out.print(text);
    }
    return status;
  },
});

function* terminalWidth(ctx: Context<typeof options>): Generator<void, number, void> {
  const width = yield* ctx.sys.ioctl(1, IOCTL.columns, 0);
  return width > 20 ? Math.min(width, 100) : screenWidth;
}

function* topic(ctx: Context<typeof options>, name: string): Generator<void, string | number, void> {
  const text = name.includes('/') ? -E.NOENT : yield* readText(ctx.sys, join(directory, `${name}.md`));
  if (typeof text === 'number') return text;
  return text.replace(/^# (.*)$/m, 'NAME\n    $1').replace(/^## (.*)$/gm, (_, title: string) => title.toUpperCase());
}

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

/** `NAME - SUMMARY` of commands and topics that mention a word. */
function* apropos(ctx: Context<typeof options>, word: string): Generator<void, string, void> {
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
    rows.push([name.replace(/\.md$/, ''), text.split('\n', 1)[0]!.replace(/^# *\S+ *[-—]* */, '')]);
  }
  rows.sort(([a], [b]) => (a < b ? -1 : 1));
  return rows.length === 0 ? '' : table(rows.map(([name, summary]) => [name, `- ${summary}`]));
}
