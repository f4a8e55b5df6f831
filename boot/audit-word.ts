// `arena8 audit`: the audit log at the host, no machine switched on. It reads what a machine exported, or the store that a host directory was
// mounted as (/var/audit), with the very code of `llmctl audit`; and it does what only a host can: make keys from its randomness, and be a
// witness with its clock, who signs a log's head when the log continues what it has signed before, and never a fork (C2SP tlog-cosignature).

import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { isRefusal, refuse, utf8Encode, type Refusal } from '../kernel/abi/index.ts';
import { auditOptions, modelHelp, refused, type Face, type Run } from '../shell/lib/audit-face.ts';
import { exportLog } from '../shell/lib/audit-export.ts';
import { listRecords } from '../shell/lib/audit-list.ts';
import { prove } from '../shell/lib/audit-prove.ts';
import { openLog, type LogFiles, type OpenLog } from '../shell/lib/audit-reader.ts';
import { diffRecords, showHead, showRecord } from '../shell/lib/audit-show.ts';
import { verifyWhole } from '../shell/lib/audit-verify.ts';
import { getopt, type ParsedOptions } from '../shell/lib/getopt.ts';
import { helpText, type Page } from '../shell/lib/program.ts';
import {
  formatIdentity,
  formatNoteKey,
  formatRecipient,
  formatSecretPem,
  malformed,
  NOTE_TYPE,
  noteSigner,
  parseNoteSecret,
  parseSecretPem,
  secretKey,
  type NoteSigner,
  type SecretKey,
  type Sha256,
} from '../trust/index.ts';
import { replayWord } from './audit-replay.ts';
import { reason } from './host-directory.ts';
import { hostFiles, hostTarget } from './log-files.ts';
import { LOG_NAME_DEFAULT } from './log-key.ts';
import { cosign } from './witness.ts';

/** Where text goes. */
export interface Terminal {
  readonly write: (fd: 1 | 2, bytes: Uint8Array) => void;
  /** How wide a line may be; Infinity where no terminal cuts it. */
  readonly columns: number;
  /** Somebody watches standard error. */
  readonly watched: boolean;
}

const STATUS = { error: 1, usage: 2 } as const;
const WITNESS_NAME_DEFAULT = 'arena8.invalid/witness';

const ours = (help: string): string => help.replace(/^audit /, '');
const options = {
  json: { help: 'list, show: the records as they are, one a line; others: one object on one line' },
  ...(Object.fromEntries(
    Object.entries(auditOptions).map(([name, option]) => [name, { ...option, help: ours(option.help) }]),
  ) as typeof auditOptions),
  model: { value: 'MODEL', help: ours(modelHelp) },
  key: { value: 'KEY', help: `${ours(auditOptions.key.help)}; witness: the file of its secret key` },
  state: { value: 'FILE', help: 'witness: what it remembers of logs; made when it is not there' },
  log: { value: 'VKEY', help: "witness: the log's verifier key, or a file that holds it" },
  name: {
    value: 'NAME',
    help: `witness, keygen, vkey: what the key is called (default ${LOG_NAME_DEFAULT}, as a cosigner ${WITNESS_NAME_DEFAULT})`,
  },
  cosigner: { help: 'keygen, vkey: the verifier key of a witness, not of a log' },
  age: { help: 'keygen: the key of an auditor, to whom texts are encrypted (llmctl audit content on)' },
} as const;
type Options = ParsedOptions<typeof options>;

interface Verb {
  readonly usage: string;
  readonly takes: readonly (keyof typeof options)[];
  readonly operands: number;
  run(host: Host, operands: readonly string[]): Run;
}

const verbs: Readonly<Record<string, Verb>> = {
  list: {
    usage: 'DIR [FILTER]...',
    takes: ['json', 'user', 'session', 'model', 'status', 'op', 'since', 'until', 'last'],
    operands: 1,
    run: (host, [directory = '']) => withLog(host, directory, listRecords),
  },
  show: {
    usage: 'DIR N',
    takes: ['json'],
    operands: 2,
    run: (host, [directory = '', ...words]) => withLog(host, directory, (face, log) => showRecord(face, log, words)),
  },
  diff: {
    usage: 'DIR N N',
    takes: ['json'],
    operands: 3,
    run: (host, [directory = '', ...words]) => withLog(host, directory, (face, log) => diffRecords(face, log, words)),
  },
  head: {
    usage: 'DIR',
    takes: ['json'],
    operands: 1,
    run: (host, [directory = '']) => withLog(host, directory, showHead),
  },
  prove: {
    usage: 'DIR N [--key VKEY]',
    takes: ['json', 'key'],
    operands: 2,
    run: (host, [directory = '', ...words]) =>
      withLog(host, directory, (face, log, files) => prove(face, log, files, words)),
  },
  export: {
    usage: 'DIR TO',
    takes: ['json'],
    operands: 2,
    run: (host, [directory = '', to = '']) =>
      withLog(host, directory, (face, log, files) => exportLog(face, log, files, hostTarget(to))),
  },
  verify: {
    usage: 'DIR [--key VKEY] [--seen FILE]... [--witness VKEY]...',
    takes: ['json', 'key', 'seen', 'witness'],
    operands: 1,
    run: (host, [directory = '']) => withLog(host, directory, verifyWhole),
  },
  witness: {
    usage: 'DIR --key FILE --state FILE [--log VKEY] [--name NAME]',
    takes: ['key', 'state', 'log', 'name'],
    operands: 1,
    run: beWitness,
  },
  keygen: {
    usage: 'FILE [--name NAME] [--cosigner] [--age]',
    takes: ['name', 'cosigner', 'age'],
    operands: 1,
    run: keygen,
  },
  vkey: { usage: 'FILE [--name NAME] [--cosigner]', takes: ['name', 'cosigner'], operands: 1, run: vkey },
};

const PAGE: Page = {
  name: 'arena8 audit',
  summary: 'read, verify and witness audit logs',
  usage: [...Object.entries(verbs).map(([name, { usage }]) => `${name} ${usage}`), 'replay DIR N|--all [OPTION]...'],
  description: [
    'DIR is what `llmctl audit export` wrote, or the host directory of a machine with --mount DIR:/var/audit. No machine is switched on, but for replay.',
    '',
    '  list     its records, one a line; FILTERs are the options below',
    '  show     record N with all its attributes',
    '  diff     two records, attribute by attribute',
    '  head     the newest checkpoint',
    '  prove    a proof of record N (C2SP tlog-proof) on standard output, what it shows on standard error',
    '  export   the log as a static one (C2SP tlog-tiles) in the directory TO, as llmctl audit export does: of a store too',
    '  verify   the whole log against a key, checkpoints seen before, and witnesses',
    '  witness  signs its head with the time, when the whole log is in order and continues what was signed before. Prints the line for `llmctl audit witness cosign`',
    '  keygen   writes a new Ed25519 key to FILE (PEM, mode 0600), as `openssl genpkey -algorithm ed25519` does, and prints its verifier key; with --age one that age(1) reads, and who it is',
    '  vkey     the verifier key of a secret key in FILE',
    '  replay   requests run again, on a machine that is switched on for it: arena8 audit replay --help',
    '',
    'Exit status: 0; 1 where a log is not in order or something cannot be done (diff: where something differs); 2 for a wrong command line (diff: or an error).',
  ].join('\n'),
  options,
};

/** Runs the words behind `arena8 audit`. Returns the exit status. */
export function auditWord(argv: readonly string[], terminal: Terminal): number {
  if (argv[0] === 'replay') return replayWord(argv.slice(1), terminal);
  const parsed = getopt(options, argv, 'gnu');
  const host = new Host(terminal, parsed.options as Options);
  if (parsed.help || argv.length === 0) {
    terminal.write(parsed.help ? 1 : 2, utf8Encode(helpText(PAGE)));
    return parsed.help ? 0 : STATUS.usage;
  }
  const [name = '', ...operands] = parsed.operands;
  const verb = Object.hasOwn(verbs, name) ? verbs[name]! : null;
  const mistake = parsed.error ?? mistakeIn(name, verb, operands, host.options);
  if (mistake !== null || verb === null) return drain(host.misused(mistake ?? ''));
  const status = drain(verb.run(host, operands));
  host.flush();
  return status;
}

function mistakeIn(name: string, verb: Verb | null, operands: readonly string[], given: Options): string | null {
  if (verb === null) return `unknown verb '${name}': ${Object.keys(verbs).join(', ')}, replay`;
  const isGiven = (value: Options[keyof Options]): boolean => Boolean(Array.isArray(value) ? value.length : value);
  const stray = (Object.keys(options) as (keyof Options)[]).find(o => !verb.takes.includes(o) && isGiven(given[o]));
  if (stray !== undefined) return `${name} takes no --${stray}`;
  if (operands.length < verb.operands) return `${name}: missing operand: ${verb.usage}`;
  return operands.length > verb.operands ? `${name}: extra operand '${operands[verb.operands]}'` : null;
}

/** Verbs are generators, which wait for system calls in the machine; here nothing waits. */
function drain(run: Run): number {
  for (;;) {
    const step = run.next();
    if (step.done === true) return step.value;
  }
}

const sha256: Sha256 = (...parts) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

const BUFFER_BYTES = 1 << 16;
/** More steps than this are worth a progress line. */
const QUICK_STEPS = 64;

/** The host as a verb sees it. */
class Host implements Face {
  readonly columns: number;
  readonly hash = sha256;
  private pieces: Uint8Array[] = [];
  private held = 0;
  private percent = -1;

  constructor(
    private readonly terminal: Terminal,
    readonly options: Options,
  ) {
    this.columns = terminal.columns;
  }

  readonly out: Face['out'] = {
    print: text => this.write(utf8Encode(text)),
    write: bytes => this.write(bytes),
  };
  readonly err: Face['err'] = { print: text => this.say(text) };

  private *write(bytes: Uint8Array): Generator<void, void, void> {
    this.pieces.push(bytes);
    this.held += bytes.length;
    if (this.held >= BUFFER_BYTES) this.flush();
  }
  private *say(text: string): Generator<void, void, void> {
    this.flush();
    this.terminal.write(2, utf8Encode(text));
  }
  flush(): void {
    if (this.held > 0) this.terminal.write(1, Buffer.concat(this.pieces));
    this.pieces = [];
    this.held = 0;
  }
  *fail(message: string): Run {
    yield* this.say(`${this.percent >= 0 ? '\n' : ''}arena8 audit: ${message}\n`);
    return STATUS.error;
  }
  *misused(message: string): Run {
    yield* this.say(`arena8 audit: ${message}\nTry 'arena8 audit --help'\n`);
    return STATUS.usage;
  }
  *readFile(file: string): Generator<void, Uint8Array | Refusal, void> {
    return readWhole(file);
  }
  *progress(done: number, total: number): Generator<void, void, void> {
    const percent = Math.floor((100 * done) / total);
    if (!this.terminal.watched || total <= QUICK_STEPS || percent === this.percent) return;
    yield* this.say(`\r${percent} % of ${total} files${done === total ? '\n' : ' '}`);
    this.percent = done === total ? -1 : percent;
  }
}

// ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function readWhole(file: string): Uint8Array | Refusal {
  try {
    return new Uint8Array(fs.readFileSync(file));
  } catch (error) {
    return refuse('NOENT', 0, `${file}: ${reason(error)}`);
  }
}

function* withLog(host: Host, directory: string, verb: (face: Face, log: OpenLog, files: LogFiles) => Run): Run {
  const files = hostFiles(directory);
  const log = yield* openLog(files);
  return isRefusal(log) ? yield* refused(host, log) : yield* verb(host, log, files);
}

// ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

type KeyOptions = { readonly name?: string | undefined; readonly cosigner: boolean };

/** The signer that a file holds: a PEM key, called as asked, or a note signer's line, which has a name of its own. */
function signerFrom(file: string, { name, cosigner }: KeyOptions): NoteSigner | Refusal {
  const bytes = readWhole(file);
  if (isRefusal(bytes)) return bytes;
  const text = Buffer.from(bytes).toString('latin1');
  const pair = text.startsWith('PRIVATE+KEY+') ? parseNoteSecret(text) : ed25519From(text);
  if (isRefusal(pair)) return { ...pair, message: `${file}: ${pair.message}` };
  return signerOf(pair.secret, { name: name ?? ('key' in pair ? pair.key.name : undefined), cosigner });
}

function ed25519From(text: string): SecretKey | Refusal {
  const pair = parseSecretPem(text);
  return isRefusal(pair) || pair.kind === 'ed25519'
    ? pair
    : malformed(`an Ed25519 key is wanted, this one is ${pair.kind}`);
}

function signerOf(secret: Uint8Array, { name, cosigner }: KeyOptions): NoteSigner | Refusal {
  const usual = cosigner ? WITNESS_NAME_DEFAULT : LOG_NAME_DEFAULT;
  return noteSigner(name ?? usual, secret, cosigner ? NOTE_TYPE.cosignature : NOTE_TYPE.ed25519);
}

/** A new key in a file of its own, and how others call it. */
function* keygen(host: Host, [file = '']: readonly string[]): Run {
  const secret = new Uint8Array(randomBytes(32));
  const made = host.options.age ? ageKey(secret) : noteKeyOf(secret, host.options);
  if (isRefusal(made)) return yield* refused(host, made);
  try {
    fs.writeFileSync(file, made.text, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    return yield* host.fail(`${file}: ${reason(error)}`);
  }
  yield* host.out.print(`${made.name}\n`);
  return 0;
}

interface NewKey {
  /** Of the file. */
  readonly text: string;
  readonly name: string;
}

function noteKeyOf(secret: Uint8Array, options: KeyOptions): NewKey | Refusal {
  const pair = secretKey('ed25519', secret);
  const signer = signerOf(secret, options);
  if (isRefusal(pair)) return pair;
  return isRefusal(signer) ? signer : { text: formatSecretPem(pair), name: formatNoteKey(signer.key) };
}

/** As age-keygen writes it. */
function ageKey(secret: Uint8Array): NewKey | Refusal {
  const pair = secretKey('x25519', secret);
  if (isRefusal(pair)) return pair;
  const name = formatRecipient(pair.public);
  return { text: `# public key: ${name}\n${formatIdentity(pair)}\n`, name };
}

function* vkey(host: Host, [file = '']: readonly string[]): Run {
  const signer = signerFrom(file, host.options);
  if (isRefusal(signer)) return yield* refused(host, signer);
  yield* host.out.print(`${formatNoteKey(signer.key)}\n`);
  return 0;
}

function* beWitness(host: Host, [directory = '']: readonly string[]): Run {
  const { key, state, log, name } = host.options;
  if (key === undefined || state === undefined)
    return yield* host.misused('witness: --key FILE and --state FILE are needed');
  const signer = signerFrom(key, { name, cosigner: true });
  if (isRefusal(signer)) return yield* refused(host, signer);
  const now = (): number => Math.floor(Date.now() / 1000);
  return yield* withLog(host, directory, (face, opened, files) =>
    cosign(face, opened, files, { signer, state, log, now }),
  );
}
