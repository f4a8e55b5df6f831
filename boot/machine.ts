// Power-on: creates the arena (WebAssembly memory, initial = maximum), instantiates the compute kernels on it, plugs the drivers in and
// hands everything to the kernel, which never sees the host again. The only file that knows every room.

import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import {
  E,
  isRefusal,
  spawnFds,
  SpawnHeader,
  strerror,
  utf8Encode,
  type CharDevice,
  type Hasher,
  type HostDirectory,
  type LogKey,
  type ProbeWish,
  type ProgramTable,
  type Refusal,
  type TemplateDevice,
  type TtyDevice,
} from '../kernel/abi/index.ts';
import type { EngineCompute } from '../drivers/engine/compute.ts';
import { blockDriver } from '../drivers/block/index.ts';
import { StubDriver } from '../drivers/engine/stub/driver.ts';
import { Tokenizers } from '../drivers/engine/tokenizer.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { loadUnicode } from '../drivers/engine/unicode.ts';
import { lcg } from '../drivers/rng/lcg.ts';
import { xor128 } from '../drivers/rng/xor128.ts';
import { Tty } from '../drivers/tty/tty.ts';
import type { User } from '../kernel/accounts.ts';
import { Arena } from '../kernel/arena.ts';
import type { Pricer } from '../kernel/costs.ts';
import { Kernel, type RunState } from '../kernel/kernel.ts';
import { LIMITS } from '../kernel/abi/index.ts';
import type { ObservedEntry } from '../kernel/observe.ts';
import type { StopAt } from '../kernel/step.ts';
import type { TraceNews } from '../kernel/trace.ts';
import { Certificates, type CertificateFile } from '../kernel/wcet/certificate.ts';
import { meterTable, Prices } from '../kernel/wcet/price.ts';
import { TrainPrices } from '../kernel/wcet/train-price.ts';
import { hostTarget, parseCalibration, TARGET_DEFAULT, TARGETS, type Target } from '../kernel/wcet/targets.ts';
import { ExecDevice, type ExecResult } from './exec-device.ts';
import { bestBuild, type Build } from './fused.ts';
import * as inference from './inference.ts';
import type { BudgetOptions, Inference, InferOptions, Submission } from './inference.ts';
import { demonstrationKey } from './log-key.ts';
import { BUILD_DIGEST, VERSION } from './version.ts';

/** What the build makes beside the kernel. boot/parts.ts has all of it; a page fetches the kernels that its engine takes, and programs when they are first run. */
export interface Parts {
  /** The compute kernels, WebAssembly in bytes or compiled: at least the build that is to run. */
  readonly kernels: Readonly<Partial<Record<Build, Uint8Array<ArrayBuffer> | WebAssembly.Module>>>;
  /** What they cost. */
  readonly certificates: CertificateFile;
  readonly programs: ProgramTable;
  readonly templates: TemplateDevice;
}

export interface BootOptions {
  readonly parts: Parts;
  /** Boot image, cpio newc. */
  readonly image: Uint8Array;
  /** Host directories and where they appear. */
  readonly mounts?: readonly { readonly guest: string; readonly directory: HostDirectory }[];
  /** Who the programs are that the host starts: a name of /etc/passwd (default root). */
  readonly user?: string;
  /** Seed of /dev/random; sessions name their own. */
  readonly seed?: number;
  /** The console; without one, output of console programs goes nowhere. */
  readonly console?: TtyDevice;
  /** Where error output of console programs goes when not to the console. */
  readonly errors?: CharDevice;
  /** Sees each line of the kernel log as it is written. */
  readonly log?: (line: string) => void;
  /** Which build of the kernels: the fastest this engine takes, or a given one. Results are the same to the bit. */
  readonly build?: Build;
  /** The simulated processor: a name of TARGETS (default cortex-a72). */
  readonly target?: string;
  /** Text of a calibration, for the target `host`. */
  readonly calibration?: string;
  /** Begins a SHA-256: code of the host's own in place of the JavaScript that runs everywhere. */
  readonly sha256?: () => Hasher;
  /** What kinds of storage disks are: `{ vda: 'nvme' }`; vda holds /, vdb and so on are the mounts in their order. Default: the target's own. */
  readonly disks?: Readonly<Record<string, string>>;
  /** Signs the audit log; see boot/log-key.ts. Default: the demonstration key, which everybody has. */
  readonly logKey?: LogKey;
  /** False: nothing is logged. */
  readonly audit?: boolean;
  /** A charge outside its bounds stops the machine, instead of one session: for tests. */
  readonly strict?: boolean;
}

export { bestBuild };
export type {
  BudgetOptions,
  ExecResult,
  Inference,
  InferOptions,
  ObservedEntry,
  RunState,
  StopAt,
  Submission,
  TraceNews,
};

export class Machine {
  readonly arena: Arena;
  readonly kernel: Kernel;
  private readonly execDevice = new ExecDevice();
  private execPid = 0;
  /** null: the superuser. */
  private readonly user: User | null;

  constructor(options: BootOptions) {
    const memory = new WebAssembly.Memory({ initial: LIMITS.arenaBytes / 65536, maximum: LIMITS.arenaBytes / 65536 });
    this.arena = new Arena(memory.buffer);
    const compute = instantiate(memory, options.build ?? bestBuild(), options.parts);
    const tty = options.console ?? new Tty({ interactive: false, output: () => {} });
    const tokenizer = new Tokenizers(this.arena, compute, LIMITS.nullBytes);
    this.kernel = new Kernel({
      arena: this.arena,
      compute,
      tokenizer,
      engines: [new TransformerDriver({ arena: this.arena, compute, tokenizer }), new StubDriver(this.arena)],
      xor128,
      lcg,
      templates: options.parts.templates,
      sha256: options.sha256 ?? (() => sha256.create()),
      console: tty,
      devices: new Map([
        ['exec', this.execDevice.input],
        ['exec-out', this.execDevice.output],
        ['exec-err', this.execDevice.errors],
        ['console-err', options.errors ?? tty],
      ]),
      hostDirectories: options.mounts ?? [],
      block: blockDriver,
      diskModels: new Map(Object.entries(options.disks ?? {})),
      image: options.image,
      programs: options.parts.programs,
      loadConstants: at => loadUnicode(this.arena, at),
      version: VERSION,
      buildDigest: BUILD_DIGEST,
      seed: options.seed ?? 0,
      ...processors(options),
      pricer: pricer(options.parts),
      logKey: options.audit === false ? null : (options.logKey ?? demonstrationKey()),
      strict: options.strict ?? false,
      log: options.log ?? (() => {}),
    });
    this.user = options.user === undefined ? null : (this.kernel.user(options.user) ?? noUser(options.user));
  }

  /** Starts a program on the console. Returns its pid, or -errno. */
  start(argv: readonly string[], cwd = this.home): number {
    const block = argumentBlock(argv, this.user);
    if (block.length > LIMITS.argBytes) return -E.TOOBIG;
    return this.kernel.start(`/bin/${argv[0]}`, cwd, block, ['console', 'console', 'console-err'], this.user);
  }

  /** Where the host's programs begin. */
  private get home(): string {
    return this.user?.home ?? '/home';
  }

  /** Runs the machine: at most `slices` rounds, or up to where stopAt says. */
  run(slices: number): RunState {
    return this.kernel.run(slices);
  }

  /**
   * Where run() stops and says 'stopped', to go on from there when it is called again; null: nowhere. 'op': before every op of a plan that runs;
   * 'layer': before the first of a segment and of each layer in it; 'token': behind every pass. Nothing in the machine can tell.
   */
  get stopAt(): StopAt | null {
    return this.kernel.stopAt;
  }
  set stopAt(at: StopAt | null) {
    this.kernel.stopAt = at;
  }

  /** Exit status of a program given to start(), once it has ended. */
  statusOf(pid: number): number | undefined {
    return this.kernel.statusOf(pid);
  }

  /** The machine's clock. */
  nowNs(): number {
    return this.kernel.clock.nowNs();
  }

  /** Stores what the audit log holds, and halts. Without it the power has just gone: what was acknowledged is there, the last records are not. */
  powerOff(): void {
    this.kernel.powerOff();
  }

  // ── From outside ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Up to `length` bytes of any file from `from` on, as the superuser reads it, or -errno; the machine does not notice (kernel/observe.ts), and
   * need not be idle: not even between two steps.
   */
  observe(path: string, from = 0, length = Infinity): Uint8Array | number {
    return this.kernel.observer.read(path, from, length);
  }

  /** What a directory holds, or -errno; the machine does not notice. */
  observeList(path: string): readonly ObservedEntry[] | number {
    return this.kernel.observer.list(path);
  }

  /** Records of /dev/trace behind the first `total` events since power-on. */
  traceSince(total: number): TraceNews {
    return this.kernel.trace.since(total);
  }

  /** Puts a file into the machine, as the boot image does: 0 or -errno, and then nothing has changed. */
  store(path: string, bytes: Uint8Array): number {
    return this.kernel.observer.store(path, bytes);
  }

  /** The newest checkpoint of the audit log with its signatures; '' where nothing is logged. */
  auditHead(): string {
    return this.kernel.audit?.head ?? '';
  }

  /** SHA-256 of the machine's state: what the same commands come to on every host. docs/DESIGN.md says what it covers. */
  stateDigest(): string {
    return this.kernel.observer.stateDigest();
  }

  /** Ctrl-C from outside. */
  interrupt(): void {
    this.kernel.interrupt();
  }

  /**
   * Runs one shell command line to its end. Working directory and variables last from one call to the next. A command that waits for
   * input that cannot come is interrupted (status 130). It goes on over stops.
   */
  exec(line: string): ExecResult {
    if (this.execPid <= 0) {
      const devices = ['exec', 'exec-out', 'exec-err'] as const;
      const block = argumentBlock(['sh', '--serve'], this.user);
      this.execPid = this.kernel.start('/bin/sh', this.home, block, devices, this.user);
      if (this.execPid < 0) throw new Error(`cannot start /bin/sh: ${strerror(this.execPid)}`);
    }
    this.execDevice.submit(line);
    while (this.execDevice.running) {
      const state = this.kernel.run(1); // no further than the line's end: what runs in the background waits for the next
      if (state === 'halted') throw new Error('the machine has halted: see the kernel log');
      const status = this.statusOf(this.execPid);
      if (status !== undefined) {
        this.kernel.reap(this.execPid);
        this.execPid = 0; // the line ended its shell: the next one gets a new one
        return this.execDevice.result(status);
      }
      if (state === 'idle' && this.execDevice.running) {
        this.kernel.interrupt();
        if (this.kernel.run(1024) === 'idle' && this.execDevice.running) return this.execDevice.result(130);
      }
    }
    return this.execDevice.result();
  }

  private readonly line = (text: string): ExecResult => this.exec(text);

  /** The model continues a prompt: to its end, or a refusal. */
  infer(prompt: string, options: InferOptions = {}): Inference {
    return inference.infer(this.line, prompt, options);
  }

  /** The same without waiting: sessions run side by side while the machine does anything, and `wait` gives what came of each. */
  submit(prompt: string, options: InferOptions = {}): Submission {
    return inference.submit(this.line, prompt, options);
  }

  wait(submission: Submission): Inference {
    return inference.wait(this.line, submission);
  }

  /** Tokens in a period for the whole machine; throws when the machine refuses the numbers. */
  configureBudget(options: BudgetOptions): void {
    inference.configureBudget(this.line, options);
  }

  /**
   * A look into a step of a session, as `llmctl probs|attention|lens --json` print it to the superuser; or why there is none. The machine does not
   * notice: it stays as it is to the last byte, and may be held in the middle of a pass.
   */
  probe(wish: ProbeWish): string | Refusal {
    return this.kernel.probe(wish);
  }

  /** The figures of `llmstats --json`. */
  stats(): Readonly<Record<string, unknown>> {
    return inference.stats(this.line);
  }
}

function instantiate(memory: WebAssembly.Memory, build: Build, { kernels }: Parts): EngineCompute {
  const shipped = kernels[build];
  if (shipped === undefined) throw new Error(`the ${build} build of the kernels is not here`);
  const module = shipped instanceof WebAssembly.Module ? shipped : new WebAssembly.Module(shipped);
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  return { build, ...instance.exports } as unknown as EngineCompute;
}

/** Every build of the kernels is charged what the certified one costs. */
function pricer(parts: Parts): Pricer {
  const certificates = Certificates.of(parts.certificates);
  if (isRefusal(certificates)) throw new Error(certificates.message);
  return {
    plan: (target, plan) => Prices.of(certificates, target, plan),
    training: (target, source) => TrainPrices.of(certificates, target, source),
    meterTable: target => meterTable(certificates, target),
  };
}

/** Throws when there is no such processor, or the calibration is none: a machine without a clock is no machine. */
function processors({ target: name = TARGET_DEFAULT, calibration: text }: BootOptions): {
  readonly targets: readonly Target[];
  readonly target: Target;
} {
  const calibration = text === undefined ? null : parseCalibration(text, bytesToHex(sha256(utf8Encode(text))));
  if (isRefusal(calibration)) throw new Error(`calibration: ${calibration.message}`);
  const host = calibration === null ? undefined : hostTarget(calibration);
  const targets = TARGETS.map(t => (t.name === host?.name ? host : t));
  const target = targets.find(t => t.name === name);
  if (target === undefined) throw new Error(`no target '${name}': ${targets.map(t => t.name).join(', ')}`);
  return { targets, target };
}

/** A user that is not there is no user to run as: no machine. */
function noUser(name: string): never {
  throw new Error(`no user '${name}' in /etc/passwd`);
}

/** A SpawnHeader block for a program that the host starts. */
function argumentBlock(argv: readonly string[], user: User | null): Uint8Array {
  const environment = ['PATH=/bin', `HOME=${user?.home ?? '/home'}`, `USER=${user?.name ?? 'root'}`];
  const text = utf8Encode([...argv, ...environment].map(s => `${s}\0`).join(''));
  const block = new Uint8Array(SpawnHeader.bytes + text.length);
  SpawnHeader.write(block, 0, { argc: argv.length, envc: environment.length, trace: -1, ...spawnFds([0, 1, 2]) });
  block.set(text, SpawnHeader.bytes);
  return block;
}
