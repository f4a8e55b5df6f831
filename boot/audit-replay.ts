// `arena8 audit replay`: requests of a log that lies in a directory of the host, run again on a machine that is switched on for it, as the log
// says of its own (processor, disks, seed). The log is read, never written: the machine has one of its own, in memory. Whoever has the log's
// key has the salts of all records; for whoever has not, they are those that were disclosed.

import fs from 'node:fs';
import { Tty } from '../drivers/tty/tty.ts';
import { E, IOCTL, isRefusal, utf8Decode, utf8Encode, type CharDevice, type LogKey } from '../kernel/abi/index.ts';
import { openLog, readRecord, type OpenLog } from '../shell/lib/audit-reader.ts';
import { getopt, type OptionTable, type ParsedOptions } from '../shell/lib/getopt.ts';
import { helpText, type Page } from '../shell/lib/program.ts';
import { replayOptions } from '../shell/lib/replay-options.ts';
import { isEnding, noteKey, openNote, toHex, type AuditOp } from '../trust/index.ts';
import { directory, reason } from './host-directory.ts';
import { boot, type Machine } from './index.ts';
import { listedDirectory, memoryFile, type ListedFile } from './listed-directory.ts';
import { hostFiles } from './log-files.ts';
import { demonstrationKey, parseLogKey } from './log-key.ts';

/** Where text goes; `watched`: somebody looks at standard error. */
export interface ReplayTerminal {
  readonly write: (fd: 1 | 2, bytes: Uint8Array) => void;
  readonly watched: boolean;
}

const STATUS = { cannot: 1, usage: 2, halted: 70 } as const;

/** Where the log, and what is known of it, lies in the machine. */
const LOG = '/mnt/log';
const KNOWN = '/mnt/known';

const ours = (help: string): string => help.replace(/^audit replay: /, '');
const options = {
  all: { help: 'every request of the log; those whose prompt is not known are counted' },
  json: { help: 'print a JSON object for each record, one a line' },
  prompt: { value: 'TEXT', help: "the record's prompt" },
  file: { short: 'f', value: 'FILE', help: 'the same: the exact bytes of FILE' },
  ...(Object.fromEntries(
    Object.entries(replayOptions).map(([name, option]) => [name, { ...option, help: ours(option.help) }]),
  ) as typeof replayOptions),
  stop: { value: 'S', many: true, help: 'a string that ended it; in their order' },
  'log-key': { value: 'FILE', help: 'the key of the log, from which the salts of all its records follow' },
  mount: { value: 'HOSTPATH:GUESTPATH', many: true, help: 'show a directory in the machine, read-only: models' },
  image: { value: 'FILE', help: 'boot another image' },
  calibration: { value: 'FILE', help: 'prices of the target host' },
} as const satisfies OptionTable;
type Options = ParsedOptions<typeof options>;

const PAGE: Page = {
  name: 'arena8 audit replay',
  summary: 'run requests of an audit log again',
  usage: ['DIR N [OPTION]...', 'DIR --all [OPTION]...'],
  description: [
    'DIR is what `llmctl audit export` wrote, or the host directory of a machine with --mount DIR:/var/audit. A machine is switched on with the processor, the disks and the seed of the one that made record N (with --all: the first record), and `llmctl audit replay` runs in it: see man audit.',
    '',
    'Exit status: 0; 1 where a record differs, or record N cannot be run again; 2 for a wrong command line.',
  ].join('\n'),
  options,
};

/** A sentence for standard error, instead of a status. */
class Failure extends Error {}

/** Runs the words behind `arena8 audit replay`. Returns the exit status. */
export function replayWord(argv: readonly string[], terminal: ReplayTerminal): number {
  const say = (text: string): void => terminal.write(2, utf8Encode(text));
  const { options: given, operands, help, error } = getopt(options, argv, 'gnu');
  if (help) {
    terminal.write(1, utf8Encode(helpText(PAGE)));
    return 0;
  }
  const [place, number, ...more] = operands;
  const { all } = given as Options;
  const isOne = !all && number !== undefined && /^[0-9]{1,15}$/.test(number);
  const mistake = error ?? (place !== undefined && more.length === 0 && isOne !== all ? null : 'DIR and N, or --all');
  if (mistake !== null || (all && number !== undefined)) {
    say(`arena8 audit replay: ${mistake ?? `extra operand '${number}'`}\nTry 'arena8 audit replay --help'\n`);
    return STATUS.usage;
  }
  try {
    return replay(place!, all ? null : Number(number), given as Options, terminal);
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    say(`arena8 audit replay: ${failure.message}\n`);
    return STATUS.cannot;
  }
}

/** `number` null: all records. */
function replay(place: string, number: number | null, given: Options, terminal: ReplayTerminal): number {
  const log = valueOf(drain(openLog(hostFiles(place))));
  const known = knownFiles(log, number, given);
  const mounts = [...given.mount.map(mountOf), { guest: LOG, directory: directory(place, true) }];
  if (known.size > 0) mounts.push({ guest: KNOWN, directory: listedDirectory('what is known', known, true) });
  const machine = powerOn(log, number, given, mounts, terminal);
  const at = (name: string): string[] => (known.has(name) ? [`--${name}`, `${KNOWN}/${name}`] : []);
  const words = [
    ...(number === null ? ['--all'] : [`${number}`]),
    ...(given.json ? ['--json'] : []),
    ...(given.prompt === undefined ? [] : ['--prompt', given.prompt]),
    ...(given.salt === undefined ? [] : ['--salt', given.salt]),
    ...given.stop.flatMap(stop => ['--stop', stop]),
    ...['file', 'ids', 'identity', 'disclosed'].flatMap(at),
  ];
  const pid = machine.start(['llmctl', 'audit', 'replay', ...words, '--log', LOG]);
  for (;;) {
    const state = machine.run(256);
    const status = machine.statusOf(pid);
    if (status !== undefined) return status;
    if (state !== 'busy') return STATUS.halted;
  }
}

type Mounts = { readonly guest: string; readonly directory: ReturnType<typeof directory> }[];

/** A machine as the one that made a record was when it was switched on. */
function powerOn(
  log: OpenLog,
  number: number | null,
  { image, calibration }: Options,
  mounts: Mounts,
  { write, watched }: ReplayTerminal,
): Machine {
  const record = bootRecord(log, number);
  const disks = new Set(mounts.map((_, i) => `vd${String.fromCharCode('b'.charCodeAt(0) + i)}`).concat('vda'));
  const kinds = listOf(record['arena8.disks']).map(word => word.split('=') as [string, string]);
  const errors: CharDevice = {
    read: () => 0,
    write(memory, at, length) {
      write(2, memory.subarray(at, at + length));
      return length;
    },
    ioctl: command => (command === IOCTL.isatty ? Number(watched) : -E.NOTTY),
  };
  try {
    return boot({
      ...(image === undefined ? {} : { image: read(image) }),
      ...(calibration === undefined ? {} : { calibration: utf8Decode(read(calibration)) }),
      mounts,
      seed: Number(record['arena8.seed'] ?? 0),
      target: String(record['arena8.target']),
      disks: Object.fromEntries(kinds.filter(([disk]) => disks.has(disk))),
      console: new Tty({ interactive: false, output: bytes => write(1, bytes) }),
      errors,
    });
  } catch (failure) {
    throw new Failure((failure as Error).message, { cause: failure });
  }
}

type Json = Readonly<Record<string, unknown>>;

/** What the log says of the power-on before record `number`; null: of its first. */
function bootRecord(log: OpenLog, number: number | null): Json {
  for (let n = number ?? 0; n >= 0; n--) {
    const record = recordOf(log, n);
    if (record['arena8.op'] === 'boot') return record;
  }
  throw new Failure('the log does not say how its machine was switched on');
}

const recordOf = (log: OpenLog, number: number): Json => valueOf(drain(readRecord(log, number))).record;

/** The host's files that the options name, as the machine gets them; and the salts that follow from the log's key. */
function knownFiles(log: OpenLog, number: number | null, given: Options): Map<string, ListedFile> {
  const files = new Map<string, ListedFile>();
  for (const name of ['file', 'ids', 'identity', 'disclosed'] as const) {
    const path = given[name];
    if (path !== undefined) files.set(name, memoryFile(read(path)));
  }
  const key = keyOf(log, given['log-key']);
  if (key === null) return files;
  const salts = saltsOf(log, number, key);
  const disclosed = given.disclosed === undefined ? '' : `${utf8Decode(read(given.disclosed))}\n`;
  return files.set('disclosed', memoryFile(utf8Encode(disclosed + salts)));
}

/** The log's key from its file; or the one that everybody has, where the log says that it is signed with that. */
function keyOf(log: OpenLog, file: string | undefined): LogKey | null {
  if (file === undefined) {
    const key = demonstrationKey();
    return log.checkpoint.origin === key.name ? key : null;
  }
  const key = parseLogKey(utf8Decode(read(file)), log.checkpoint.origin);
  if (isRefusal(key)) throw new Failure(`${file}: ${key.message}`);
  const signed = openNote(utf8Encode(log.head), [valueOf(noteKey(key.name, key.publicKey))]);
  if (isRefusal(signed)) throw new Failure(`${file}: not the key of ${log.place}: ${signed.message}`);
  return key;
}

/** `{"record":7,"salt":"…"}`, a line for each record of a request. */
function saltsOf(log: OpenLog, number: number | null, key: LogKey): string {
  const lines: string[] = [];
  const { size } = log.checkpoint;
  const message = new Uint8Array(8);
  for (let n = number ?? 0; n < Math.min(size, number === null ? size : number + 1); n++) {
    if (!isEnding(String(recordOf(log, n)['arena8.op']) as AuditOp)) continue;
    new DataView(message.buffer).setBigUint64(0, BigInt(n));
    lines.push(`{"record":${n},"salt":"${toHex(key.mac('salt', message))}"}\n`);
  }
  return lines.join('');
}

/** HOSTPATH:GUESTPATH. */
function mountOf(text: string): Mounts[number] {
  const [, hostPath, guest] = /^(.+):(\/[^:]*)$/s.exec(text) ?? [];
  if (hostPath === undefined || guest === undefined) throw new Failure(`--mount: '${text}' is not HOSTPATH:GUESTPATH`);
  try {
    return { guest, directory: directory(hostPath, true) };
  } catch (failure) {
    throw new Failure(`--mount: ${(failure as Error).message}`, { cause: failure });
  }
}

function read(file: string): Uint8Array {
  try {
    return new Uint8Array(fs.readFileSync(file));
  } catch (failure) {
    throw new Failure(`cannot read '${file}': ${reason(failure)}`, { cause: failure });
  }
}

const listOf = (value: unknown): readonly string[] => (Array.isArray(value) ? value.map(String) : []);

/** Readers wait for system calls in the machine; here nothing waits. */
function drain<T>(steps: Generator<void, T, void>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

function valueOf<T>(value: T): Exclude<T, { readonly errno: number }> {
  if (isRefusal(value)) throw new Failure(value.message);
  return value as Exclude<T, { readonly errno: number }>;
}
