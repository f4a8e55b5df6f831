// The `arena8` command: a machine on a Unix terminal or in a pipe. It parses the command line, joins the console to standard input and
// output, and turns the machine a round at a time, so that a key pressed meanwhile (Ctrl-C) reaches it before the next token. Standard
// output carries what commands print and nothing else; the kernel's log goes to standard error, or to the terminal of whoever sits there.
//
// Input from a file or pipe is fed only when everything in the machine waits for it: how fast the host delivers is then not seen inside.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { performance } from 'node:perf_hooks';
import { isatty } from 'node:tty';
import { DISK_MODELS } from '../drivers/block/models.ts';
import { Tty } from '../drivers/tty/tty.ts';
import {
  isRefusal,
  strerror,
  utf8Encode,
  type CharDevice,
  type HostDirectory,
  type LogKey,
} from '../kernel/abi/index.ts';
import { auditWord, type Terminal } from './audit-word.ts';
import { directory, reason, singleFile } from './host-directory.ts';
import { findTarget, parseCalibration, TARGET_DEFAULT, TARGETS } from '../kernel/wcet/targets.ts';
import { shareWord } from './share-word.ts';
import { boot, nodeSigner, type Machine, type RunState } from './index.ts';
import { LOG_NAME_DEFAULT, parseLogKey } from './log-key.ts';
import { parsePace, Pacer } from './pace.ts';
import { VERSION } from './version.ts';

const HELP = `Usage: arena8 [-c 'COMMANDS'] [SCRIPT] [--mount HOSTPATH:GUESTPATH[:ro]]...
              [--home DIR] [--user NAME] [--image FILE] [--seed N] [--target NAME]
              [--calibration FILE] [--disk NAME=MODEL]... [--pace real|max|N%]
              [--log-key FILE] [--log-name NAME] [--audit on|off]
              [--version] [--help]
A kernel for language models in one 8 MiB arena.

Without -c and SCRIPT: boots, runs /etc/rc, then reads commands from standard
input, terminal or not, until it ends. The exit status is the last command's.

  -c 'COMMANDS'  run the commands; operands after them are $0, $1, ...
  SCRIPT         run a shell script of the host; operands after it are $1, ...
  --mount HOSTPATH:GUESTPATH[:ro]
                 show a directory of the host in the machine (ro: read-only)
  --home DIR     the same as --mount DIR:/home: what is kept there, the shell's
                 history too, outlives the machine
  --user NAME    the shell is this user's of /etc/passwd, instead of root's
  --image FILE   boot another image (cpio newc)
  --seed N       seed of the machine's /dev/random (default 0)
  --target NAME  the processor whose time is simulated: ${TARGETS.map(t => t.name).join(', ')}
                 (default ${TARGET_DEFAULT})
  --calibration FILE
                 prices of the target host, as 'npm run bench -- --calibrate'
                 writes them
  --disk NAME=MODEL
                 what kind of storage a disk is: vda holds /, vdb, vdc ... are
                 the mounts in their order; ${['default', ...DISK_MODELS.map(m => m.name)].join(', ')}
  --pace real|max|N%
                 show output when the simulated processor would have got there,
                 or at N % of its speed (default max: at once)
  --log-key FILE the Ed25519 key that signs the audit log: PKCS#8, as
                 'openssl genpkey -algorithm ed25519' writes it, or a C2SP
                 note signer's line (default: a key that everybody has)
  --log-name NAME
                 name of that key, and origin of the log
                 (default ${LOG_NAME_DEFAULT})
  --audit on|off keep an audit log, in what is mounted on /var/audit, or
                 until power-off in memory (default on)
  --version      print the version
  --help         print this

Options may follow SCRIPT; after -- everything is an operand.

arena8 audit VERB ... reads, verifies and witnesses audit logs, and makes keys,
without a machine: arena8 audit --help.
arena8 share URL runs again what a link of the page carries, and says whether
the same came of it; it makes such links too: arena8 share --help.
`;

/** First arguments that later versions give a meaning. */
const RESERVED = ['replay', 'simulate', 'campaign', 'serve'];

const CTRL_C = 3;

/** Where a SCRIPT of the host lies in the machine. */
const SCRIPT_DIRECTORY = '/mnt/script';

const STATUS = {
  usage: 2,
  cannotBoot: 1,
  stuck: 1,
  halted: 70,
  scriptNotFound: 127,
  brokenPipe: 141,
  signal: 128,
} as const;

// ── The command line ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Mount {
  readonly guest: string;
  readonly directory: HostDirectory;
}

interface CommandLine {
  commands: string | null;
  operands: string[];
  mounts: Mount[];
  user: string | null;
  image: Uint8Array | null;
  seed: number;
  target: string;
  calibration: string | null; // its text
  disks: Record<string, string>; // models by disk
  logKey: string | null; // its file
  logName: string | null;
  audit: boolean;
  pace: number | null; // see parsePace
}

/** Says why on standard error and ends. */
function fail(status: number, message: string): never {
  writeAll(2, utf8Encode(`arena8: ${message}\n`));
  process.exit(status);
}

function misused(message: string): never {
  fail(STATUS.usage, `${message}\nTry 'arena8 --help'`);
}

function parse(argv: readonly string[]): CommandLine {
  const line: CommandLine = {
    commands: null,
    operands: [],
    mounts: [],
    user: null,
    image: null,
    seed: 0,
    target: TARGET_DEFAULT,
    calibration: null,
    disks: {},
    logKey: null,
    logName: null,
    audit: true,
    pace: null,
  };
  if (argv[0] === 'audit') process.exit(auditWord(argv.slice(1), terminal()));
  if (RESERVED.includes(argv[0]!)) fail(STATUS.usage, `'${argv[0]}' is reserved; not in this build`);
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i]!;
    const [, name = argument, joined] = /^(--[a-z]+)=(.*)$/s.exec(argument) ?? [];
    const value = (): string => joined ?? argv[++i] ?? misused(`option '${name}' needs an argument`);
    const early = line.operands.length === 0; // after SCRIPT, options not ours are the script's
    if (argument === '--') {
      line.operands.push(...argv.slice(i + 1));
      break;
    } else if (name === '--mount') line.mounts.push(mountFrom(value()));
    else if (name === '--home') line.mounts.push(mountOf('--home', value(), '/home', false));
    else if (name === '--user') line.user = value();
    else if (name === '--image') line.image = imageOf(value());
    else if (name === '--seed') line.seed = seedOf(value());
    else if (name === '--target') line.target = targetOf(value());
    else if (name === '--calibration') line.calibration = calibrationOf(value());
    else if (name === '--disk') Object.assign(line.disks, diskOf(value()));
    else if (name === '--log-key') line.logKey = value();
    else if (name === '--log-name') line.logName = value();
    else if (name === '--audit') line.audit = auditOf(value());
    else if (name === '--pace') line.pace = paceOf(value());
    else if (early && argument === '-c') line.commands = value();
    else if (early && (argument === '--help' || argument === '-h')) printAndExit(HELP);
    else if (early && argument === '--version') printAndExit(`arena8 ${VERSION}\n`);
    else if (early && argument.startsWith('-') && argument !== '-') misused(`unknown option '${argument}'`);
    else line.operands.push(argument);
  }
  return line;
}

/** Standard output and error for a word that switches no machine on. */
function terminal(): Terminal {
  const columns = isatty(1) ? (process.stdout.columns ?? Infinity) : Infinity;
  return { write: writeAll, columns, watched: isatty(2) };
}

function printAndExit(text: string): never {
  writeAll(1, utf8Encode(text));
  process.exit(0);
}

/** HOSTPATH:GUESTPATH[:ro]. A host path may contain ':'; the guest's begins after the last one that a '/' follows. */
function mountFrom(text: string): Mount {
  const [, hostPath, guest, ro] = /^(.+):(\/[^:]*?)(:ro)?$/s.exec(text) ?? [];
  if (hostPath === undefined || guest === undefined)
    misused(`--mount: '${text}' is not HOSTPATH:GUESTPATH[:ro] with an absolute GUESTPATH`);
  return mountOf('--mount', hostPath, guest, ro !== undefined);
}

function mountOf(option: string, hostPath: string, guest: string, readOnly: boolean): Mount {
  try {
    return { guest, directory: directory(hostPath, readOnly) };
  } catch (error) {
    return fail(STATUS.usage, `${option}: ${(error as Error).message}`);
  }
}

function imageOf(file: string): Uint8Array {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    return fail(STATUS.usage, `--image: cannot read '${file}': ${reason(error)}`);
  }
}

function seedOf(text: string): number {
  const seed = /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(seed >= -(2 ** 31) && seed < 2 ** 32))
    misused(`--seed: '${text}' is not an integer from -2147483648 to 4294967295`);
  return seed;
}

function targetOf(name: string): string {
  if (findTarget(name) === undefined) misused(`--target: no target '${name}': ${TARGETS.map(t => t.name).join(', ')}`);
  return name;
}

function calibrationOf(file: string): string {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    return fail(STATUS.usage, `--calibration: cannot read '${file}': ${reason(error)}`);
  }
  const calibration = parseCalibration(text, '');
  return isRefusal(calibration) ? fail(STATUS.usage, `--calibration: ${file}: ${calibration.message}`) : text;
}

/** NAME=MODEL. Whether there is such a disk the machine says. */
function diskOf(text: string): Readonly<Record<string, string>> {
  const [, name, model] = /^([a-z0-9]+)=([a-z-]+)$/.exec(text) ?? [];
  const models = ['default', ...DISK_MODELS.map(m => m.name)];
  if (name === undefined || model === undefined) misused(`--disk: '${text}' is not NAME=MODEL`);
  if (!models.includes(model)) misused(`--disk: no disk model '${model}': ${models.join(', ')}`);
  return { [name]: model };
}

function auditOf(text: string): boolean {
  if (text !== 'on' && text !== 'off') misused(`--audit: '${text}' is neither on nor off`);
  return text === 'on';
}

/** The key of the audit log; null: the one that everybody has. */
function logKeyOf({ logKey: file, logName }: CommandLine): LogKey | null {
  if (file === null) return logName === null ? null : misused('--log-name: it is the name of a key, --log-key FILE');
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    return fail(STATUS.usage, `--log-key: cannot read '${file}': ${reason(error)}`);
  }
  const key = parseLogKey(text, logName, nodeSigner);
  return isRefusal(key) ? fail(STATUS.usage, `--log-key: ${file}: ${key.message}`) : key;
}

function paceOf(text: string): number | null {
  const pace = parsePace(text);
  return pace === undefined ? misused(`--pace: '${text}' is not real, max or N% with N above 0`) : pace;
}

// ── Standard output and error ────────────────────────────────────────────────────────────────────────────────────────────────────

const moment = new Int32Array(new SharedArrayBuffer(4));

/**
 * Writes everything, waiting for a slow reader. When the reader of standard output is gone, ends quietly, as a Unix filter does; when
 * that of standard error is, nobody is left to tell.
 */
function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) {
    try {
      at += fs.writeSync(fd, bytes, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN') Atomics.wait(moment, 0, 0, 2);
      else if (fd === 2) return;
      else if (code === 'EPIPE' || code === 'EIO') process.exit(STATUS.brokenPipe);
      else fail(STATUS.cannotBoot, `cannot write to standard output: ${reason(error)}`);
    }
  }
}

// ── The machine and its console ──────────────────────────────────────────────────────────────────────────────────────────────────

class Host {
  readonly #interactive: boolean;
  readonly #tty: Tty;
  readonly #machine: Machine;
  /** Programs to run one after the other; the last one's status is ours. */
  readonly #programs: string[][];
  #pid = 0;

  #input: Uint8Array = new Uint8Array(); // arrived, not yet fed
  #inputEnded = false;
  #waiting = false; // for input, with no turn scheduled
  #listening = false;
  #interruptAsked = false; // and not yet seen by the machine

  readonly #asked: Pacer | null;
  /** A program that redraws the screen as time goes by: it is shown in real time where no other pace was asked for. */
  readonly #live = new Pacer(1, () => performance.now());
  /** Output written before it may be seen, in order. */
  #held: { readonly fd: number; readonly bytes: Uint8Array }[] = [];
  #inTurn = false;
  /** What follows when the pace allows. */
  #due: { readonly timer: NodeJS.Timeout; readonly next: () => void } | null = null;

  constructor(line: CommandLine) {
    this.#asked = line.pace === null ? null : new Pacer(line.pace, () => performance.now());
    const script = line.commands === null ? line.operands[0] : undefined;
    this.#interactive = line.commands === null && script === undefined && isatty(0) && isatty(1);
    const size = this.#interactive ? { columns: process.stdout.columns, rows: process.stdout.rows } : {};
    this.#tty = new Tty({ interactive: this.#interactive, output: bytes => this.#show(1, bytes), ...size });
    const mounts = [...line.mounts];
    if (script === undefined) {
      this.#programs =
        line.commands === null ? [['sh', '/etc/rc'], ['sh']] : [['sh', '-c', line.commands, ...line.operands]];
    } else {
      const name = path.basename(script);
      mounts.push({ guest: SCRIPT_DIRECTORY, directory: singleFile(name, scriptOf(script)) });
      this.#programs = [['sh', `${SCRIPT_DIRECTORY}/${name}`, ...line.operands.slice(1)]];
    }
    if (this.#interactive) this.#takeTerminal();
    this.#takeSignals();
    this.#machine = this.#powerOn({ ...line, mounts });
    process.once('exit', () => this.#machine.powerOff());
  }

  #powerOn(line: CommandLine): Machine {
    const logKey = logKeyOf(line);
    try {
      return boot({
        ...(line.image === null ? {} : { image: line.image }),
        ...(line.user === null ? {} : { user: line.user }),
        mounts: line.mounts,
        seed: line.seed,
        console: this.#tty,
        target: line.target,
        disks: line.disks,
        audit: line.audit,
        ...(logKey === null ? {} : { logKey }),
        ...(line.calibration === null ? {} : { calibration: line.calibration }),
        ...(this.#interactive ? {} : { errors: this.#standardError }),
        log: text => this.#log(text),
      });
    } catch (error) {
      return fail(STATUS.cannotBoot, (error as Error).message);
    }
  }

  readonly #standardError: CharDevice = {
    read: () => 0,
    write: (memory, at, length) => {
      this.#show(2, memory.subarray(at, at + length));
      return length;
    },
  };

  get #pacer(): Pacer | null {
    return this.#asked ?? (this.#tty.raw ? this.#live : null);
  }

  /** Writes, or keeps for later what the machine wrote ahead of the pace. */
  #show(fd: number, bytes: Uint8Array): void {
    if (this.#pacer !== null && (this.#inTurn || this.#held.length > 0)) this.#held.push({ fd, bytes: bytes.slice() });
    else writeAll(fd, bytes);
  }

  #showHeld(): void {
    for (const { fd, bytes } of this.#held) writeAll(fd, bytes);
    this.#held = [];
  }

  start(): void {
    this.#pacer?.meet(this.#machine.nowNs());
    this.#startNext();
  }

  #startNext(): void {
    const program = this.#programs.shift()!;
    this.#pid = this.#machine.start(program);
    if (this.#pid < 0) fail(STATUS.cannotBoot, `cannot start /bin/${program[0]}: ${strerror(this.#pid)}`);
    this.#turn();
  }

  #log(text: string): void {
    const bytes = utf8Encode(`${text}\n`);
    if (this.#interactive) this.#tty.write(bytes, 0, bytes.length);
    else this.#show(2, bytes);
  }

  /** One round of the machine; then the event loop has its turn. */
  readonly #turn = (): void => {
    this.#inTurn = true;
    const { raw } = this.#tty;
    const state = this.#machine.run(1);
    this.#inTurn = false;
    if (!raw && this.#tty.raw) this.#live.meet(this.#machine.nowNs());
    this.#interruptAsked = false;
    this.#atItsTime(() => this.#follow(state));
  };

  /** Goes on when the pace allows. */
  #atItsTime(next: () => void): void {
    const waitMs = this.#pacer?.waitMs(this.#machine.nowNs()) ?? 0;
    if (waitMs > 0) {
      this.#due = { timer: setTimeout(() => this.#atItsTime(next), waitMs), next };
      return;
    }
    this.#due = null;
    this.#showHeld();
    next();
  }

  /** Ctrl-C: nobody waits for a pace any longer. */
  #hurry(): void {
    if (this.#due === null) return;
    const { timer, next } = this.#due;
    clearTimeout(timer);
    this.#due = null;
    this.#pacer?.meet(this.#machine.nowNs());
    this.#showHeld();
    next();
  }

  #follow(state: RunState): void {
    const status = this.#machine.statusOf(this.#pid);
    if (status !== undefined) {
      if (this.#programs.length > 0) this.#startNext();
      else process.exit(status);
    } else if (state === 'halted') process.exit(STATUS.halted);
    else if (state === 'busy' || this.#feed()) setImmediate(this.#turn);
    else this.#waiting = true;
  }

  #wake(): void {
    if (!this.#waiting) return;
    this.#waiting = false;
    this.#pacer?.meet(this.#machine.nowNs());
    setImmediate(this.#turn);
  }

  /** Everything in the machine waits: gives it input that has arrived. False: more has to arrive first. */
  #feed(): boolean {
    if (this.#input.length > 0) {
      const taken = this.#tty.feed(this.#input);
      this.#input = this.#input.subarray(taken);
      if (taken > 0) return true;
    } else if (!this.#inputEnded) {
      this.#listen();
      return false;
    } else if (this.#tty.end()) return true;
    return fail(STATUS.stuck, 'every program waits, and none of them for input');
  }

  /** Standard input is opened when it is first wanted: commands that read nothing leave it to others. */
  #listen(): void {
    process.stdin.resume();
    if (this.#listening) return;
    this.#listening = true;
    const ended = (): void => {
      this.#inputEnded = true;
      if (this.#interactive) this.#tty.end();
      this.#wake();
    };
    process.stdin.on('data', (bytes: Buffer) => {
      if (this.#interactive) {
        this.#tty.feed(bytes);
        if (bytes.includes(CTRL_C) || this.#tty.raw) this.#hurry();
      } else {
        this.#input = bytes;
        process.stdin.pause();
      }
      this.#wake();
    });
    process.stdin.on('end', ended);
    process.stdin.on('error', ended);
  }

  /** Keys come one by one and unechoed from now on; at the end the terminal is as it was. */
  #takeTerminal(): void {
    process.stdin.setRawMode(true);
    process.once('exit', () => {
      process.stdin.setRawMode(false);
      try {
        // A line may have been under edit: no more marks around pastes. A program may have had the screen.
        fs.writeSync(1, `\x1b[?2004l${this.#tty.raw ? '\x1b[m\x1b[?1049l\x1b[?25h' : ''}`);
      } catch {
        // The terminal is gone.
      }
    });
    process.stdout.on('resize', () => {
      this.#tty.resize(process.stdout.columns, process.stdout.rows);
      if (this.#tty.raw) this.#hurry();
      this.#wake();
    });
    this.#listen();
  }

  #takeSignals(): void {
    process.on('SIGINT', () => {
      if (this.#interruptAsked) process.exit(STATUS.signal + 2);
      this.#interruptAsked = true;
      this.#tty.interrupt();
      this.#hurry();
      this.#wake();
    });
    process.once('SIGTERM', () => process.exit(STATUS.signal + 15));
    process.once('SIGHUP', () => process.exit(STATUS.signal + 1));
  }
}

function scriptOf(file: string): Uint8Array {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    return fail(STATUS.scriptNotFound, `cannot open '${file}': ${reason(error)}`);
  }
}

const words = process.argv.slice(2);
if (words[0] === 'share') process.exit(await shareWord(words.slice(1), terminal()));
new Host(parse(words)).start();
