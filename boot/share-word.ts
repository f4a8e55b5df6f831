// `arena8 share`: a link as a page makes them, come to again without a page: its commands on a machine that is switched on for it, what they
// print, and whether the state is the one that the link tells of. And the other way round: a link from commands and files of the host.

import fs from 'node:fs';
import path from 'node:path';
import { isRefusal, refuse, utf8Decode, utf8Encode, type Refusal } from '../kernel/abi/index.ts';
import { TARGET_DEFAULT } from '../kernel/wcet/targets.ts';
import { getopt, type OptionTable, type ParsedOptions } from '../shell/lib/getopt.ts';
import { helpText, type Page } from '../shell/lib/program.ts';
import type { Terminal } from './audit-word.ts';
import { reason } from './host-directory.ts';
import { boot, BUILD_DIGEST } from './index.ts';
import { formatLink, parseLink, replay, sharedOptions, type Replayed, type Share } from './share.ts';

const STATUS = { differs: 1, usage: 2 } as const;
const COLUMNS_DEFAULT = 80;
const ROWS_DEFAULT = 24;
/** Where a file without a place of its own goes. */
const HOME = '/home/user';

const options = {
  json: { help: 'print one object: man sharing says which keys it has' },
  make: { help: 'make a link, from commands, and print it' },
  seed: { value: 'N', help: 'make: seed of the machine (default 0)' },
  target: { value: 'NAME', help: `make: the processor (default ${TARGET_DEFAULT})` },
  size: { value: 'COLUMNSxROWS', help: `make: of the terminal (default ${COLUMNS_DEFAULT}x${ROWS_DEFAULT})` },
  file: {
    value: 'FILE[:PATH]',
    many: true,
    help: `make: a file of the host, put at PATH in /home or /tmp (default in ${HOME})`,
  },
  url: { value: 'URL', help: 'make: of the page that the link leads to' },
} as const satisfies OptionTable;
type Options = ParsedOptions<typeof options>;

const PAGE: Page = {
  name: 'arena8 share',
  summary: 'replay a link that somebody shares, or make one',
  usage: ['[--json] URL', '--make [OPTION]... COMMAND...'],
  description: [
    'URL is a link that a page gave, or the part of it from # on; - reads it from standard input. A machine is switched on as the link says; its terminal is shown, then the digest of its state and the head of its audit log. man sharing says what a link carries, and what it cannot.',
    '',
    'With --make every COMMAND is a line typed at the prompt. They are run once, so that the link tells what comes of them.',
    '',
    'Exit status: 0; 1 where the state is another than the link tells of, or cannot be come to; 2 for a link or a command line that cannot be used.',
  ].join('\n'),
  options,
};

/** Runs the words behind `arena8 share`. Returns the exit status. */
export async function shareWord(argv: readonly string[], terminal: Terminal): Promise<number> {
  const parsed = getopt(options, argv, 'gnu');
  const given = parsed.options as Options;
  if (parsed.help) {
    terminal.write(1, utf8Encode(helpText(PAGE)));
    return 0;
  }
  const mistake = parsed.error ?? mistakeIn(given, parsed.operands);
  if (mistake !== null) {
    terminal.write(2, utf8Encode(`arena8 share: ${mistake}\nTry 'arena8 share --help'\n`));
    return STATUS.usage;
  }
  return given.make ? make(given, parsed.operands, terminal) : show(parsed.operands[0]!, given.json, terminal);
}

function mistakeIn(
  { make: isMade, seed, target, size, file, url }: Options,
  operands: readonly string[],
): string | null {
  if (operands.length === 0) return isMade ? 'missing operand: COMMAND' : 'missing operand: URL';
  if (isMade) return null;
  if ([seed, target, size, url].some(value => value !== undefined) || file.length > 0)
    return '--seed, --target, --size, --file and --url are for --make';
  return operands.length > 1 ? `extra operand '${operands[1]}'` : null;
}

function complain(terminal: Terminal, { message }: Refusal, status: number): number {
  terminal.write(2, utf8Encode(`arena8 share: ${message}\n`));
  return status;
}

// ── A link come to again ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function show(url: string, asJson: boolean, terminal: Terminal): Promise<number> {
  const share = await parseLink(url === '-' ? fs.readFileSync(0, 'utf8').trim() : url);
  if (share === null)
    return complain(terminal, refuse('INVAL', 0, 'no link of arena8: #arena8=… is missing'), STATUS.usage);
  if (isRefusal(share)) return complain(terminal, share, STATUS.usage);
  const text: Uint8Array[] = [];
  const done = run(share, asJson ? bytes => void text.push(bytes.slice()) : bytes => terminal.write(1, bytes));
  if (isRefusal(done)) return complain(terminal, done, STATUS.differs);
  const isSame = share.digest === '' || share.digest === done.digest;
  const report = asJson ? jsonOf(share, done, utf8Decode(Buffer.concat(text))) : textOf(share, done);
  terminal.write(1, utf8Encode(report));
  return isSame ? 0 : STATUS.differs;
}

/** Throws nothing: a machine that cannot be switched on is a refusal. */
function run(share: Share, output: (bytes: Uint8Array) => void): Replayed | Refusal {
  const shared = sharedOptions(share, output);
  let machine;
  try {
    machine = boot(shared);
  } catch (error) {
    return refuse('INVAL', 0, `link: ${(error as Error).message}`);
  }
  const steps = replay(machine, shared.console, share);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

function jsonOf({ digest: expected, commands, build }: Share, done: Replayed, text: string): string {
  const { digest, head, given: typed } = done;
  const of = { commands: commands.length, build, ours: BUILD_DIGEST };
  return `${JSON.stringify({ text, digest, expected, head, typed, ...of })}\n`;
}

function textOf({ digest: expected, commands, build }: Share, { digest, head, given }: Replayed): string {
  const told =
    expected === ''
      ? 'the link tells of none'
      : expected === digest
        ? 'as the link tells'
        : `the link tells of ${expected}`;
  const lines = ['\x1b[?2004l', `state  ${digest}`, `       ${told}`];
  if (build !== '' && build !== BUILD_DIGEST)
    lines.push(`build  ${BUILD_DIGEST}`, `       the link was made by ${build}`);
  if (given < commands.length) lines.push(`       ${given} of ${commands.length} commands: the shell has ended`);
  return [
    ...lines,
    'head',
    ...head
      .trimEnd()
      .split('\n')
      .map(line => `       ${line}`.trimEnd()),
    '',
  ].join('\n');
}

// ── A link made ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function make(given: Options, commands: readonly string[], terminal: Terminal): Promise<number> {
  const share = shareOf(given, commands);
  if (isRefusal(share)) return complain(terminal, share, STATUS.usage);
  const checked = await formatLink(share); // before it is run
  if (isRefusal(checked)) return complain(terminal, checked, STATUS.usage);
  const done = run(share, () => {});
  if (isRefusal(done)) return complain(terminal, done, STATUS.differs);
  const link = await formatLink({ ...share, digest: done.digest });
  if (isRefusal(link)) return complain(terminal, link, STATUS.usage);
  const url = `${given.url ?? ''}#${link}`;
  const { digest, head } = done;
  terminal.write(
    1,
    utf8Encode(given.json ? `${JSON.stringify({ url, digest, head, build: BUILD_DIGEST })}\n` : `${url}\n`),
  );
  return 0;
}

function shareOf({ seed = '0', target = '', size, file }: Options, commands: readonly string[]): Share | Refusal {
  const [, columns = COLUMNS_DEFAULT, rows = ROWS_DEFAULT] = /^([0-9]{1,4})x([0-9]{1,4})$/.exec(size ?? '') ?? [];
  if (size !== undefined && columns === COLUMNS_DEFAULT && rows === ROWS_DEFAULT && size !== `${columns}x${rows}`)
    return refuse('INVAL', 0, `--size: '${size}' is not COLUMNSxROWS`);
  if (!/^-?[0-9]{1,10}$/.test(seed)) return refuse('INVAL', 0, `--seed: '${seed}' is no whole number`);
  const files: { path: string; bytes: Uint8Array }[] = [];
  for (const one of file) {
    const [, from = one, to = `${HOME}/${path.basename(one)}`] = /^(.+):(\/.*)$/.exec(one) ?? [];
    try {
      files.push({ path: to, bytes: new Uint8Array(fs.readFileSync(from)) });
    } catch (error) {
      return refuse('NOENT', 0, `--file: cannot read '${from}': ${reason(error)}`);
    }
  }
  return {
    seed: Number(seed),
    target,
    columns: Number(columns),
    rows: Number(rows),
    commands,
    files,
    digest: '',
    build: BUILD_DIGEST,
  };
}
