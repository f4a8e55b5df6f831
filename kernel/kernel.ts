// The kernel, put together: lays out the arena, mounts the root, registers what /proc and /dev show, and runs the machine — processes
// first, then one step of the running session, then the clock jumps to the next timer. It never names an engine or a host.

import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js';
import {
  DISK_SET,
  ENGINE_REGIONS,
  formatRefusal,
  ggmlTypeName,
  IOCTL,
  isRefusal,
  LIMITS,
  LOAD_DEFAULTS,
  O,
  printable,
  QuotaRecord,
  refuse,
  SIG,
  strerror,
  utf8Decode,
  type BlockDriver,
  type CharDevice,
  type Compute,
  type EngineDriver,
  type Hasher,
  type HostDirectory,
  type LogKey,
  type ProbeWish,
  type ProgramTable,
  type Refusal,
  type RngDriver,
  type TemplateDevice,
  type TokenizerDriver,
  type TtyDevice,
} from './abi/index.ts';
import { DevFs, memoryDisk } from '../vfs/fs-dev.ts';
import { AppendFs } from '../vfs/fs-append.ts';
import { AUDITOR_GID, AuditFs } from '../vfs/fs-audit.ts';
import { HostFs } from '../vfs/fs-host.ts';
import { TmpFs, TmpPool } from '../vfs/fs-tmp.ts';
import { ProcFs } from '../vfs/fs-proc.ts';
import { ROOT, type Credentials } from '../vfs/permission.ts';
import { Vfs } from '../vfs/vfs.ts';
import type { Arena } from './arena.ts';
import type { User } from './accounts.ts';
import { adaptersText } from './adapters.ts';
import { Attestor, type Attested } from './attest.ts';
import { AuditJournal, refusedFields, SILENT } from './audit/journal.ts';
import { sealerOf } from './audit/content.ts';
import { AuditLog } from './audit/log.ts';
import { LogView } from './audit/view.ts';
import { PeriodBudget } from './budget.ts';
import { Chat } from './chat.ts';
import { ACCOUNTS, Clock } from './clock.ts';
import { Converter } from './convert.ts';
import { Costs, type Pricer } from './costs.ts';
import { Disks, ROOT_DISK, type Disk, type DiskRequest } from './disks.ts';
import { Forecast } from './forecast.ts';
import { unpackImage } from './initramfs.ts';
import { layFixed, type Layout } from './layout.ts';
import { Listing } from './listing.ts';
import { Loader } from './loader.ts';
import { KernelLog } from './log.ts';
import { Monitor } from './monitor.ts';
import { makeDirectories, Mounter } from './mounter.ts';
import { Observer } from './observe.ts';
import { describeFailure, formatPanic, panic } from './panic.ts';
import { Packages } from './packages.ts';
import { Pace } from './pace.ts';
import { PagePool } from './pages.ts';
import { Pipes } from './pipes.ts';
import { Processes, type Process } from './process.ts';
import { Quotas } from './quota.ts';
import { Prelinker } from './prelink.ts';
import { parseQuotas, QUOTA_FILE } from './quota-file.ts';
import { Scheduler } from './sched.ts';
import { SessionTable, type Breach } from './session.ts';
import type { Journal } from './service.ts';
import { Sessions } from './sessions.ts';
import { Processor, type StopAt } from './step.ts';
import { StepView } from './step-view.ts';
import { Streams } from './stream.ts';
import { Swap } from './swap.ts';
import { ServerWatch } from './server-watch.ts';
import { checkTable, SystemCalls } from './syscall.ts';
import { Trace } from './trace.ts';
import type { Target } from './wcet/targets.ts';

/** What power-on hands to the kernel. */
export interface Hardware {
  readonly arena: Arena;
  readonly compute: Compute;
  readonly engines: readonly EngineDriver[];
  readonly tokenizer: TokenizerDriver;
  readonly xor128: RngDriver;
  readonly lcg: RngDriver;
  readonly templates: TemplateDevice;
  readonly console: TtyDevice;
  /** Further character devices under /dev. */
  readonly devices: ReadonlyMap<string, CharDevice>;
  readonly hostDirectories: readonly { readonly guest: string; readonly directory: HostDirectory }[];
  /** Kinds of storage, and which of them disks are at power-on: by name of the disk, the name of a model. */
  readonly block: BlockDriver;
  readonly diskModels: ReadonlyMap<string, string>;
  /** The boot image, cpio newc. */
  readonly image: Uint8Array;
  readonly programs: ProgramTable;
  /** Begins a SHA-256: the host's own code is many times faster than any in JavaScript. */
  readonly sha256: () => Hasher;
  /** Writes the constants the kernels read, at most LIMITS.constantsBytes; returns the bytes written. */
  readonly loadConstants: (constantsAt: number) => number;
  readonly version: string;
  /** SHA-256 of what this kernel is built from, in hexadecimal digits. */
  readonly buildDigest: string;
  readonly seed: number;
  /** The processors that can be simulated, and the one in force at power-on. */
  readonly targets: readonly Target[];
  readonly target: Target;
  /** What the kernels of `compute` cost. */
  readonly pricer: Pricer;
  /** A charge outside its bounds is a kernel panic, instead of one session's fault. */
  readonly strict: boolean;
  /** The key of the audit log; null: nothing is logged. */
  readonly logKey: LogKey | null;
  readonly log: (line: string) => void;
}

/** 'stopped': where Kernel.stopAt wants it, in the middle of a pass or behind one. */
export type RunState = 'idle' | 'busy' | 'stopped' | 'halted';

/** The machine's date at power-on, in seconds since 1970. */
const BOOT_EPOCH_SECONDS = 0;

/** Where the audit log lies. */
const AUDIT_DIRECTORY = '/var/audit';

/** Changes of a disk that change what reads take. */
const DISK_TIMES = DISK_SET.model | DISK_SET.retries;

export class Kernel {
  readonly lay: Layout;
  readonly vfs: Vfs;
  readonly clock: Clock;
  readonly costs: Costs;
  readonly streams: Streams;
  private readonly processor: Processor;
  private readonly listing: Listing;
  readonly disks: Disks;
  readonly packages: Packages;
  readonly loader: Loader;
  readonly sessions: Sessions;
  readonly sched: Scheduler;
  readonly pool: PagePool;
  readonly quotas: Quotas;
  readonly budget: PeriodBudget;
  readonly forecast: Forecast;
  private readonly log: KernelLog;
  /** Null: nothing is logged. */
  readonly audit: AuditLog | null;
  private readonly journal: Journal;
  readonly trace: Trace;
  readonly observer: Observer;
  private readonly swap: Swap;
  private readonly processes: Processes;
  private readonly pace: Pace;
  readonly monitor: Monitor;
  private readonly proc = new ProcFs();
  private halted = false;
  /** Somebody outside has interrupted while the processor was held. */
  private isInterrupted = false;
  /** The arena as it was before the last look of whoever stands outside. */
  private held: Uint8Array | undefined;
  /** What has interrupted the processor so far; transfers are counted by Costs. */
  private readonly interrupts = { timer: 0, console: 0, plan: 0 };

  private readonly imageDigest: string; // SHA-256, hex

  constructor(private readonly hw: Hardware) {
    const { arena } = hw;
    this.imageDigest = this.digestOf(hw.image);
    checkTable();
    this.lay = layFixed(arena);
    this.clock = new Clock(arena, this.lay.clockAt, hw.target.hz);
    this.disks = new Disks(
      hw.block,
      this.clock,
      () => this.costs.target,
      hw.hostDirectories.map(h => h.directory.source),
    );
    this.costs = new Costs(arena, this.lay, this.clock, hw.compute, hw.pricer, hw.targets, hw.target, this.disks);
    this.log = new KernelLog(() => this.clock.nowNs(), hw.log);
    this.audit = this.makeLog();
    this.trace = new Trace(() => this.clock.nowNs());
    this.swap = new Swap(arena);
    this.log.print(`arena8 ${hw.version}: ${hw.target.name}, ${hw.target.hz / 1e6} MHz, compute ${hw.compute.build}`);
    this.log.print('build: sources, kernels and certificates, sha256');
    this.log.print(hw.buildDigest);
    const constants = hw.loadConstants(this.lay.constantsAt);
    if (constants > LIMITS.constantsBytes) panic(`constants take ${constants} of ${LIMITS.constantsBytes} bytes`);

    this.vfs = new Vfs(arena, () => this.clock.nowNs());
    this.observer = new Observer(this.vfs, {
      arena: () => this.arenaDigest(),
      cycles: () => this.clock.cycles(),
      head: () => this.audit?.head ?? '',
      sha256: hw.sha256,
    });
    const dev = new DevFs();
    const images = { arena, lay: this.lay, costs: this.costs, vfs: this.vfs };
    this.packages = new Packages(images, hw.sha256, text => this.log.print(text));
    const mounter = new Mounter(arena, this.lay, this.costs, this.vfs, hw.compute, this.packages, dev, this.proc, () =>
      [...this.processes.all()].filter(p => p.status === null).map(p => p.cwd),
    );
    this.streams = new Streams(arena, this.lay, this.clock);
    this.processor = new Processor(arena, this.lay, this.clock, hw.compute, this.streams, at =>
      this.listing.layerOf(at),
    );
    this.loader = new Loader(
      arena,
      this.lay,
      this.costs,
      this.vfs,
      hw.engines,
      hw.tokenizer,
      hw.sha256,
      this.streams,
      this.packages,
      text => this.log.print(text),
    );
    this.listing = new Listing(this.loader);
    const date = { nowNs: () => this.clock.nowNs(), bootEpochSeconds: BOOT_EPOCH_SECONDS };
    this.quotas = new Quotas(arena, this.lay.quotasAt, date, uid => this.monitor.nameOf(uid));
    this.budget = new PeriodBudget(arena, this.lay.budgetAt, date);
    this.pace = new Pace(arena, this.lay.paceAt);
    this.pool = new PagePool(arena, this.swap);
    const table = new SessionTable(arena, this.lay.sessionsAt);
    this.journal =
      this.audit === null
        ? SILENT
        : new AuditJournal(this.audit, {
            arena,
            lay: this.lay,
            loader: this.loader,
            quotas: this.quotas,
            table,
            sealerOf: recipient => sealerOf(recipient, hw.logKey!),
            sha256: hw.sha256,
          });
    this.sched = new Scheduler(arena, this.lay.schedAt, new ServerWatch(this.clock, table, this.trace));
    this.monitor = new Monitor({
      arena,
      lay: this.lay,
      vfs: this.vfs,
      clock: this.clock,
      journal: this.journal,
      sha256: hw.sha256,
      print: line => this.log.print(line),
    });
    this.sessions = new Sessions({
      arena,
      lay: this.lay,
      clock: this.clock,
      costs: this.costs,
      vfs: this.vfs,
      loader: this.loader,
      streams: this.streams,
      compute: hw.compute,
      processor: this.processor,
      rng: { xor128: hw.xor128, lcg: hw.lcg },
      table,
      pool: this.pool,
      sched: this.sched,
      quotas: this.quotas,
      budget: this.budget,
      pace: this.pace,
      trace: this.trace,
      journal: this.journal,
      breached: breach => this.breached(breach),
      monitor: this.monitor,
      sha256: hw.sha256,
    });
    this.forecast = new Forecast(arena, this.lay, this.vfs, this.costs, this.loader);
    const calls = new SystemCalls({
      arena,
      lay: this.lay,
      clock: this.clock,
      costs: this.costs,
      vfs: this.vfs,
      pipes: new Pipes(this.vfs, this.lay.pipesAt),
      mounter,
      loader: this.loader,
      packages: this.packages,
      attestor: new Attestor(this.attested()),
      sessions: this.sessions,
      budget: this.budget,
      quotas: this.quotas,
      bootEpochSeconds: BOOT_EPOCH_SECONDS,
      breached: text => this.report(text),
      forecast: this.forecast,
      converter: new Converter(images, hw.compute),
      prelinker: new Prelinker(images, hw.compute, hw.sha256, image => this.loader.order(image)),
      chat: new Chat(arena, this.lay, this.clock, this.costs, this.vfs, this.loader, hw.templates),
      console: hw.console,
      processes: () => this.processes,
      journal: this.journal,
      monitor: this.monitor,
      switchTarget: name => this.switchTarget(name),
      configureDisk: (name, wanted) => this.configureDisk(name, wanted),
    });
    this.processes = new Processes(
      this.vfs,
      this.costs,
      hw.programs,
      arena.u8,
      this.lay.dmaAt,
      p => calls.gateOf(p),
      p => calls.drainTrace(p),
      p => {
        this.sessions.closeOwnedBy(p.pid);
        this.monitor.refresh(p.credentials.euid); // what it wrote and did not close is its change all the same
      },
      // What a program says of its end may hold what it was working on.
      (p, why) => this.log.print(`${p.argv()[0]}[${p.pid}]: crashed: ${why}`, p.credentials.euid),
      () => this.clock.nowNs(),
    );

    this.sayMemoryMap();
    const { interactive, columns, rows } = hw.console;
    this.log.print(`driver: console ${interactive ? `${columns}×${rows}` : 'not a terminal'}`);
    this.log.print(`driver: engines ${this.loader.engineNames().join(' ')}`);
    this.log.print(`driver: rng xor128 lcg, seed ${hw.seed}`);
    this.plugDisks();
    this.mountRoot(mounter, dev);
    arena.seal([...ENGINE_REGIONS, 'train', 'vocabulary only']);
    this.log.print(`arena sealed: ${arena.remaining()} bytes for models`);
    this.monitor.begin();
    this.readQuotas();
    this.openLog();
    this.packages.boot();
    this.loadBootModel();
    this.audit?.settle();
  }

  // ── Boot ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private sayMemoryMap(): void {
    const { arena } = this.hw;
    this.log.print(`memory: ${arena.capacity} bytes, one arena, ${LIMITS.arenaAlign}-byte aligned`);
    for (const r of arena.regions())
      this.log.print(`memory: ${hex(r.startAt)}-${hex(r.startAt + r.bytes)} ${r.name.padEnd(9)} ${r.bytes}`);
    this.log.print(`memory: ${hex(arena.usage().offset)}-${hex(arena.capacity)} free      ${arena.remaining()}`);
  }

  /** What the disks are at power-on. Throws where there is no such disk or model: that is no machine to boot. */
  private plugDisks(): void {
    for (const [name, modelName] of this.hw.diskModels) {
      const disk = this.disks.find(name);
      const model = this.disks.model(modelName);
      if (isRefusal(disk)) throw new Error(disk.message);
      if (isRefusal(model)) throw new Error(model.message);
      if (disk.fixed) throw new Error(`disk ${name} is memory of the machine`);
      disk.become(model);
      this.log.print(`driver: disk ${name} ${disk.modelName}, ${disk.title}`);
    }
  }

  private mountRoot(mounter: Mounter, dev: DevFs): void {
    const { hw, vfs } = this;
    vfs.mount('/', vfs.tmpfs(0o755), 'rootfs', false, '/', ROOT_DISK);
    this.log.print(`image: ${hw.image.length} bytes, cpio newc, sha256`);
    this.log.print(this.imageDigest); // 64 digits and the time stamp fill a line
    const made = unpackImage(vfs, hw.image, hw.arena.u8, this.lay.dmaAt);
    if (isRefusal(made)) panic(made.message);
    this.costs.transfer(made.bytes, this.disks.boot);
    this.log.print(`image: ${made.files} files, ${made.bytes} bytes on /`);

    this.registerDevices(dev);
    this.registerProc(dev);
    for (const [type, target] of [
      ['proc', '/proc'],
      ['dev', '/dev'],
      ['tmpfs', '/tmp'],
    ] as const) {
      vfs.mkdir('/', target, 0o755);
      const r = mounter.mount(type, type, target, '/');
      if (isRefusal(r) || r < 0) panic(`cannot mount ${type} on ${target}`);
    }
    for (const name of ['/home', '/mnt', '/var']) vfs.mkdir('/', name, 0o755);
    if (this.audit !== null) this.mountLog(this.audit);
    for (const [i, { guest, directory }] of hw.hostDirectories.entries()) {
      if (this.audit !== null && guest === AUDIT_DIRECTORY) continue; // it is mounted
      const disk = Disks.hostDisk(i);
      const r = mounter.mountHost(guest, new HostFs(directory), directory.source, directory.readOnly, disk);
      if (r < 0) panic(`cannot mount ${directory.source} on ${guest}: ${strerror(r)}`);
    }
    for (const m of vfs.mounts())
      this.log.print(`mount: ${m.source} on ${m.target} type ${m.fs.type}${m.readOnly ? ' ro' : ''}`);
  }

  // ── The audit log ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private makeLog(): AuditLog | null {
    const { arena, logKey: key, sha256 } = this.hw;
    if (key === null) return null;
    return new AuditLog({
      arena,
      at: this.lay.auditAt,
      clock: this.clock,
      costs: this.costs,
      key,
      sha256: (...parts) => {
        const hash = sha256();
        for (const part of parts) hash.update(part);
        return Uint8Array.from(hash.digest());
      },
      nameOf: uid => this.monitor.nameOf(uid),
      isLookedAt: () => this.observer.isLooking,
    });
  }

  /** Mounts what the log lies in: the directory that the host gave for it, or memory storage, which forgets it with power-off. */
  private mountLog(log: AuditLog): void {
    const { vfs } = this;
    const given = this.hw.hostDirectories.findIndex(h => h.guest === AUDIT_DIRECTORY);
    const directory = this.hw.hostDirectories[given]?.directory;
    if (directory?.readOnly === true) throw new Error(`${AUDIT_DIRECTORY}: ${directory.source} cannot be written`);
    const other = this.hw.hostDirectories.find(
      ({ directory: d }, i) => i !== given && !d.readOnly && directory?.overlaps?.(d) === true,
    );
    if (other !== undefined)
      throw new Error(
        `${AUDIT_DIRECTORY}: what lies in it could be written through ${other.guest}, a mount of the same directory`,
      );
    // Storage of its own: whoever fills /tmp stops no log.
    const pool = new TmpPool(() => this.clock.nowNs(), LIMITS.auditStoreBytes);
    const stored = directory === undefined ? new TmpFs(pool, 0o700) : new HostFs(directory);
    const fs = new AppendFs(stored, { gid: AUDITOR_GID });
    const disk = directory === undefined ? this.disks.memory : this.disks.find(Disks.hostDisk(given));
    if (isRefusal(disk)) panic(disk.message);
    const made = makeDirectories(vfs, AUDIT_DIRECTORY);
    const [source, name] = directory === undefined ? ['audit', ''] : [directory.source, disk.name];
    const r = made < 0 ? made : vfs.mount(AUDIT_DIRECTORY, fs, source, false, '/', name);
    if (r < 0) panic(`cannot mount ${AUDIT_DIRECTORY}: ${strerror(r)}`);
    vfs.mounts().at(-1)!.opens++; // the log itself: it stays mounted
    vfs.mkdir('/', '/audit', 0o750);
    this.observer.alsoOf(pool);
    const hasTime = (): boolean => !this.sessions.isServing;
    const view = new LogView(log, this.journal as AuditJournal, hasTime, () => this.observer.isLooking);
    vfs.mount('/audit', new AuditFs(view, () => this.reader()), 'audit', false);
    log.place({ appender: fs.appender, pool, disk });
  }

  /** Finds the log as it was left, and writes down that the machine was switched on. Throws where the log is not whole. */
  private openLog(): void {
    const { audit, hw, journal } = this;
    if (audit === null || !(journal instanceof AuditJournal)) return this.log.print('audit: off, nothing is recorded');
    const found = audit.open();
    if (isRefusal(found)) throw new Error(found.message);
    const { tree, dropped, open } = found;
    const { size } = tree;
    journal.note('boot', ROOT.euid, {
      'arena8.name': hw.logKey!.name,
      'arena8.value': audit.publicKey.trimEnd(),
      'arena8.version': hw.version,
      'arena8.kernel.digest': hexToBytes(hw.buildDigest),
      'arena8.image.digest': hexToBytes(this.imageDigest),
      'arena8.seed': hw.seed,
      'arena8.target': hw.target.name,
      'arena8.disks': [...hw.diskModels].map(([name, model]) => `${name}=${model}`),
    });
    journal.recovered(found, size);
    const refusal = audit.settle();
    this.log.print(
      `audit: ${size} records found, ${dropped.records} dropped, ${open.length} requests cut off; signed by`,
    );
    this.log.print(`audit: ${hw.logKey!.name}`);
    if (hw.logKey!.isDemonstration) this.log.print('audit: a key everybody has: proves order, not whose (--log-key)');
    if (refusal !== null) this.log.print(`audit: the log has stopped: ${formatRefusal(refusal)}`);
  }

  /** /proc/audit: the ring, newest first; users see their own. */
  private auditLines(uid: number): readonly string[] {
    return this.audit?.lines(uid) ?? [];
  }

  /** The model that /etc/model names, if the image has that file. A machine without a model is a machine all the same. */
  private loadBootModel(): void {
    const path = this.textOf(LIMITS.bootModelFile)?.trim();
    if (path === undefined) return;
    if (path === '') return this.log.print(`model: ${LIMITS.bootModelFile} names none`);
    const refusal = this.loader.load(path, LOAD_DEFAULTS);
    const told =
      refusal === null
        ? { 'arena8.value': this.loader.vouched(), ...this.journal.modelFields() }
        : refusedFields(refusal);
    this.journal.note('load', ROOT.euid, { 'arena8.path': path, ...told });
    if (refusal !== null) this.log.print(`model: ${formatRefusal(refusal)}`);
  }

  /** Whose quotas differ from the defaults. A wrong line is told and left out. */
  private readQuotas(): void {
    const { names } = this.monitor.accounts;
    const { lines, complaints } = parseQuotas(this.textOf(QUOTA_FILE) ?? '', name => names.uid(name));
    for (const line of lines) {
      const refusal = this.quotas.set(line);
      if (refusal !== null) panic(refusal.message);
    }
    for (const complaint of complaints) this.log.print(`quota: ${complaint}`);
  }

  /** A small file of the image; undefined where there is none. */
  private textOf(path: string): string | undefined {
    const file = this.vfs.open('/', path, O.RDONLY, 0);
    if (typeof file === 'number') return undefined;
    const { dmaAt } = this.lay;
    const bytes = Math.max(0, file.read(dmaAt, LIMITS.dmaBytes));
    file.close();
    return utf8Decode(this.hw.arena.u8, dmaAt, dmaAt + bytes);
  }

  private registerDevices(dev: DevFs): void {
    const { console: tty, arena, xor128, seed } = this.hw;
    const stateAt = this.lay.randomAt;
    dev.register('console', tty);
    dev.register('tty', tty);
    xor128.seed(arena, stateAt, seed);
    const random: CharDevice = {
      read(memory, at, length) {
        for (let i = 0; i < length; i++) memory[at + i] = xor128.next(arena, stateAt) & 0xff;
        return length;
      },
      write: (_memory, _at, length) => length,
    };
    dev.register('random', random);
    dev.register('urandom', random);
    dev.registerMemory(arena.u8);
    dev.registerDisk('ram0', memoryDisk(this.hw.image));
    dev.registerDisk('ram1', this.swap);
    // The host's own ends of a shell are inherited, and opened by nobody else: they carry what others type.
    for (const [name, device] of this.hw.devices) dev.register(name, device, 0o600);
    const trace = this.trace.device(() => {
      const uid = this.reader();
      return id => this.sessions.isSeenBy(uid, id);
    });
    dev.register('trace', trace, 0o444);
  }

  private registerProc(dev: DevFs): void {
    const { arena } = this.hw;
    const proc = (path: string, text: () => string): void => this.proc.register(path, text);
    proc('version', () => `arena8 ${this.hw.version} ${this.hw.compute.build}\nsha256 ${this.hw.buildDigest}\n`);
    proc('kmsg', () => this.log.text(this.reader()));
    proc('uptime', () => `${(this.clock.nowNs() / 1e9).toFixed(2)} ${(this.clock.nowNs() / 1e9).toFixed(2)}\n`);
    proc(
      'cpuinfo',
      () =>
        `model name\t: ${this.costs.target.name}\ncpu MHz\t\t: ${this.clock.hz / 1e6}\ncycles\t\t: ${this.clock.cycles()}\n`,
    );
    proc('clock', () => {
      const record = this.clock.record();
      return `${ACCOUNTS.map(a => `${a} ${record[a]}\n`).join('')}total ${record.cycles}\n`;
    });
    proc('targets', () =>
      this.costs.targets
        .map(t => `${t === this.costs.target ? '*' : '-'} ${t.name} ${t.hz} ${t.kind} ${t.title}\n`)
        .join(''),
    );
    proc('arena', () => this.arenaText());
    proc('meminfo', () => {
      const kB = (bytes: number): string => `${String(Math.floor(bytes / 1024)).padStart(8)} kB\n`;
      const s = arena.stats();
      return (
        `MemTotal:     ${kB(s.total_size)}MemFree:      ${kB(arena.remaining())}MemAvailable: ${kB(arena.remaining())}` +
        `MemPeak:      ${kB(s.high_water_mark)}Storage:      ${kB(LIMITS.tmpfsBytes)}StorageUsed:  ${kB(this.vfs.pool.bytesUsed)}`
      );
    });
    proc('mounts', () =>
      this.vfs
        .mounts()
        .map(m => `${mountField(m.source)} ${mountField(m.target)} ${m.fs.type} ${m.readOnly ? 'ro' : 'rw'} 0 0\n`)
        .join(''),
    );
    proc('interrupts', () => {
      const { timer, console: keys, plan } = this.interrupts;
      const counts: [number, string][] = [
        [timer, 'timer  a sleeper woke'],
        [keys, 'console  Ctrl-C'],
        [this.costs.transfers, 'block  a transfer ended'],
        [plan, 'plan  the executor yielded'],
      ];
      const rows = counts.map(([n, what], irq) => `${String(irq).padStart(3)}: ${String(n).padStart(10)}  ${what}\n`);
      return `           CPU0\n${rows.join('')}`;
    });
    proc('devices', () => dev.driversText());
    proc('partitions', () => dev.disksText());
    proc('swaps', () => this.swap.text());
    proc('disks', () => this.disks.text(disk => this.mountedFrom(disk)));
    proc('diskstats', () => this.disks.statsText());
    const { hard, symbolic } = this.vfs.protection;
    proc('sys/fs/protected_hardlinks', () => `${Number(hard)}\n`);
    proc('sys/fs/protected_symlinks', () => `${Number(symbolic)}\n`);
    proc('filesystems', () => 'nodev\ttmpfs\nnodev\tproc\nnodev\tdevfs\n\tgguf\n');
    proc('ps', () => this.processTable());
    proc('sessions', () => this.sessions.list(this.reader()));
    proc('kv', () => figuresText(this.pool.figures()));
    proc('sched', () => figuresText({ ...this.sessions.schedule(), policy: this.sched.policy }));
    proc('budget', () => figuresText(this.budget.record()));
    proc('quotas', () => this.quotasText());
    proc('rights', () => this.monitor.rightsText(!this.observer.isLooking));
    proc('models', () => {
      const m = this.loader.current();
      if (m === null) return '';
      const { shape, options } = m.engine;
      return `${shape.name} ${m.path} ${shape.architecture} ctx=${options.ctx} kv=${ggmlTypeName(options.kvType)} sha256=${m.digest}\n`;
    });
    proc('tensors', () => this.tensorsText());
    proc('pages', () => this.sessions.pages(this.reader()));
    proc('adapters', () => adaptersText(this.loader.engine()?.options.adapters ?? []));
    proc('packages', () => this.packages.packagesText());
    proc('keys', () => this.packages.keys.text());
    proc('audit', () => this.auditLines(this.reader()).join(''));
    proc('stream', () => this.streams.text());
    proc('step', () => this.stepView().step());
    proc('plan', () => this.stepView().plan());
    proc('diskmodels', () => this.disks.modelsText());
    proc('trace', () => this.trace.text());
    proc('training', () => this.sessions.training.text(this.reader()));
    proc('traintensors', () => this.sessions.training.tensorsText());
  }

  /** The processor's place in its plan, as who reads may see it. */
  private stepView(): StepView {
    const { clock, lay, listing, loader, processor } = this;
    const uid = this.reader();
    return new StepView({
      arena: this.hw.arena,
      lay,
      clock,
      loader,
      listing,
      processor,
      pass: () => this.sessions.latestPass,
      isSeen: id => this.sessions.isSeenBy(uid, id),
    });
  }

  /** /proc/tensors: a header, then a line a tensor of the loaded model; empty when none is loaded. */
  private tensorsText(): string {
    const engine = this.loader.engine();
    if (engine === null) return '';
    const titles = ['name', 'type', 'shape', 'at', 'bytes', 'fileType', 'fileAt', 'fileBytes'];
    const rows = engine
      .tensors()
      .map(t => [
        printable(t.name),
        ggmlTypeName(t.type),
        t.shape.join('x'),
        t.at,
        t.bytes,
        ggmlTypeName(t.fileType),
        t.fileAt,
        t.fileBytes,
      ]);
    return [titles, ...rows].map(row => `${row.join('\t')}\n`).join('');
  }

  /** What lies on a disk, for /proc/disks. */
  private mountedFrom(disk: Disk): { readonly targets: string; readonly readOnly: boolean; readonly bytes: number } {
    const mounts = this.vfs.mounts().filter(m => m.disk === disk.name);
    const bytes: Readonly<Record<string, number>> = {
      [ROOT_DISK]: LIMITS.tmpfsBytes,
      [this.disks.boot.name]: this.hw.image.length,
      [this.disks.memory.name]: LIMITS.swapBytes,
    };
    return {
      targets: mounts.map(m => mountField(m.target)).join(' '),
      readOnly: disk.fixed || (mounts.length > 0 && mounts.every(m => m.readOnly)),
      bytes: bytes[disk.name] ?? 0,
    };
  }

  /** Whose eyes a file of /proc is for: users see requests of their own, the superuser, the kernel and the host all. */
  private reader(): number {
    if (this.observer.isLooking) return ROOT.euid;
    return this.processes.current?.credentials.euid ?? ROOT.euid;
  }

  /** /proc/quotas: a header, then a line a user; users see their own. */
  private quotasText(): string {
    const uid = this.reader();
    const own = this.quotas.list().filter(q => uid === ROOT.euid || q.uid === uid);
    const columns = Object.keys(QuotaRecord.fields) as (keyof typeof QuotaRecord.fields)[];
    return [columns.join('\t'), ...own.map(q => columns.map(c => q[c]).join('\t'))].map(line => `${line}\n`).join('');
  }

  /**
   * /proc/ps: a header, then a line a process, fields separated by blanks: when it began in nanoseconds, its cycles and those of its
   * sessions, the call that it waits in. `+`: in the terminal's foreground. The command is the rest of the line.
   */
  private processTable(): string {
    const reader = this.reader();
    const rows = [...this.processes.all()].map(p => this.processRow(p, isSeen(p, reader)));
    const head = ['PID', 'PPID', 'PGID', 'UID', 'STAT', 'TTY', 'START', 'CYCLES', 'SESSIONS', 'WCHAN', 'COMMAND'];
    return [head, ...rows].map(row => `${row.join(' ')}\n`).join('');
  }

  /** Of others than `isOwn` only what it is: prompts are given as arguments, and what its sessions take tells how long they are. */
  private processRow(p: Process, isOwn: boolean): string[] {
    const { foreground } = this.processes;
    const argv = isOwn ? p.argv() : p.argv().slice(0, 1);
    return [
      `${p.pid}`,
      `${p.parent}`,
      `${p.group}`,
      `${p.credentials.euid}`,
      p.state + (p.group === foreground ? '+' : ''),
      p.files.some(f => f !== null && f.ioctl(IOCTL.isatty, 0) >= 0) ? 'tty' : '?',
      `${p.startedNs}`,
      `${isOwn ? p.cycles : 0}`,
      `${isOwn ? this.sessions.cyclesOf(p.pid) : 0}`,
      p.state === 'S' && isOwn ? p.waitsIn : '-',
      // One process, one line, whatever its arguments are.
      argv.join(' ').replace(/[^ -~\u00a0-\uffff]/g, '?'), // control characters, without the engine's Unicode tables
    ];
  }

  /** /proc/arena: header, one line per region, totals. Peaks are each region's largest size since power-on. */
  private arenaText(): string {
    const { arena } = this.hw;
    const s = arena.stats();
    const rows = arena
      .regions()
      .map(
        r =>
          `${r.name.replace(' ', '-')} ${r.startAt} ${r.startAt + r.bytes} ${r.bytes} ${r.bytes} ${arena.regionPeak(r.name)}\n`,
      );
    return (
      `region start end bytes used peak\n${rows.join('')}` +
      `free ${s.current_offset} ${s.total_size} ${arena.remaining()} 0 ${arena.capacity - s.current_offset}\n` +
      `total 0 ${s.total_size} ${s.total_size} ${s.current_offset} ${s.high_water_mark}\n`
    );
  }

  /** Between sessions only: what runs is charged, and bounded, on one processor. */
  switchTarget(name: string): Refusal | null {
    const target = this.costs.find(name);
    if (isRefusal(target)) return target;
    const training = this.sessions.training.busy();
    if (training !== null) return training;
    const active = this.sessions.active();
    if (active > 0)
      return refuse(
        'BUSY',
        3002,
        `${active} session${active === 1 ? ' is' : 's are'} running on ${this.costs.target.name}: switch when none is`,
      );
    const refusal = this.loader.reprice(target);
    if (refusal !== null) return refusal;
    this.costs.drain();
    this.costs.switchTo(target);
    this.log.print(`target: ${target.name}, ${target.hz / 1e6} MHz: ${target.title}`);
    return null;
  }

  /**
   * What is charged depends on the times of the disk that weights come from: they change between sessions only, and the plan gets its prices.
   * Faults may come at any time.
   */
  private configureDisk(name: string, wanted: DiskRequest): Refusal | null {
    const active = this.sessions.active();
    if (active > 0 && (wanted.set & DISK_TIMES) !== 0)
      return refuse(
        'BUSY',
        3002,
        `${active} session${active === 1 ? ' is' : 's are'} running: model and retries of disks change when none is`,
      );
    const training = (wanted.set & DISK_TIMES) !== 0 ? this.sessions.training.busy() : null;
    if (training !== null) return training;
    if ((wanted.set & DISK_TIMES) !== 0) this.costs.drain();
    const refusal = this.disks.configure(name, wanted);
    if (refusal !== null || (wanted.set & DISK_TIMES) === 0) return refusal;
    const unpriced = this.loader.reprice(this.costs.target);
    return unpriced === null ? null : panic(unpriced.message); // it had prices before
  }

  /** Soundness is checked while the machine runs: nothing may cost more, or less, than was said before. */
  private breached(b: Breach): void {
    this.journal.breached(b);
    this.report(
      `session ${b.session}, ${b.what} at position ${b.pos}, ${b.outputTokens} tokens drawn: charged ${b.charged} cycles, bounds ${b.least} to ${b.most}`,
    );
  }

  /** Something was not as it was said to be. */
  private report(text: string): void {
    if (this.hw.strict) panic(text);
    this.log.print(text, ROOT.euid);
  }

  // ── Running ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A user of /etc/passwd; undefined where there is none. */
  user(name: string): User | undefined {
    return this.monitor.user(name);
  }

  /** Starts a program whose descriptors 0, 1, 2 are these devices, as `user` (null: the superuser). Returns the pid or -errno. */
  start(
    path: string,
    cwd: string,
    args: Uint8Array,
    devices: readonly [string, string, string],
    user: User | null = null,
  ): number {
    const files = [];
    for (const [fd, name] of devices.entries()) {
      const file = this.vfs.open('/', `/dev/${name}`, fd === 0 ? 0 : 1, 0);
      if (typeof file === 'number') {
        for (const f of files) f.close();
        return file;
      }
      files.push(file);
    }
    const credentials: Credentials = user === null ? ROOT : this.monitor.enter(user);
    const begins = this.vfs.chdir('/', cwd);
    const place = typeof begins === 'number' && user !== null ? this.vfs.chdir('/', '/') : begins; // a home may be away
    const pid =
      typeof place === 'number'
        ? place
        : this.processes.spawn(0, path, { cwd: place, credentials, umask: 0o022 }, args, files, null);
    if (pid < 0) for (const f of files) f.close();
    return pid;
  }

  /** Exit status of a program the host started, once it has ended. */
  statusOf(pid: number): number | undefined {
    return this.processes.get(pid)?.status ?? undefined;
  }
  reap(pid: number): void {
    const p = this.processes.get(pid);
    if (p !== undefined && p.status !== null) this.processes.reap(p);
  }

  /** Ctrl-C. In the middle of a pass it waits, as all else does, for the pass's end. */
  interrupt(): void {
    if (this.sessions.isHeld) this.isInterrupted = true;
    else this.processes.signalForeground(SIG.INT);
  }

  /** Where run() stops; null: nowhere. Whatever it is, the machine comes to the same bytes. */
  get stopAt(): StopAt | null {
    return this.processor.stopAt;
  }
  set stopAt(at: StopAt | null) {
    this.processor.stopAt = at;
  }

  /** Before the host switches the machine off: what the audit log has not stored yet is stored. A machine that has halted stores nothing. */
  powerOff(): void {
    if (!this.halted) this.audit?.settle();
    this.halted = true;
  }

  /** At most `slices` rounds, or up to where stopAt says. 'idle': everything waits for input from outside. */
  run(slices: number): RunState {
    if (this.halted) return 'halted';
    try {
      for (let i = 0; i < slices; i++) {
        const { passes } = this.sessions;
        const moved = this.sessions.isHeld ? this.step() : this.round();
        if (this.sessions.isHeld || (this.stopAt === 'token' && this.sessions.passes > passes)) return 'stopped';
        if (!moved) return 'idle';
      }
      return 'busy';
    } catch (e) {
      this.halted = true;
      const what = describeFailure(e);
      this.log.print(`kernel panic: ${what.split('\n', 1)[0]}`);
      const screen = formatPanic(what, {
        cycles: this.clock.cycles(),
        seed: this.hw.seed,
        session: this.sessions.current(),
        audit: this.auditLines(ROOT.euid).map(l => l.trimEnd()),
      });
      for (const line of screen.split('\n')) this.hw.log(line);
      return 'halted';
    }
  }

  /** Every process once, while servers leave time for it; one segment of a session; when nothing moved, the clock jumps. False: nothing can move. */
  private round(): boolean {
    for (const { directory } of this.hw.hostDirectories) directory.refresh?.();
    if (this.hw.console.takeInterrupt()) {
      this.interrupts.console++;
      this.interrupt();
    }
    if (this.isInterrupted) this.interrupt();
    this.isInterrupted = false;
    if (this.hw.console.takeSuspend()) {
      this.interrupts.console++;
      this.processes.signalForeground(SIG.TSTP);
    }
    if (this.hw.console.takeResize()) this.processes.signalForeground(SIG.WINCH);
    const before = this.processes.progress;
    const allRan = this.processes.runAll(() => this.sessions.mayRunProgram());
    if (this.step() || this.processes.progress !== before) return true;
    return this.sleep() || !allRan;
  }

  /** One segment of a session, or as much of it as runs before the processor is held. False: nothing can run. */
  private step(): boolean {
    const stepped = this.sessions.run();
    if (stepped && !this.sessions.isHeld) this.interrupts.plan++;
    return stepped;
  }

  /**
   * Nothing moved: the clock jumps to what comes next. False: nothing will come. Sessions run out of time when time passes; it does for them
   * alone when somebody waits for one, else the readers that Ctrl-Z has stopped would find theirs ended as soon as a prompt waits for input.
   */
  private sleep(): boolean {
    const wakeNs = this.processes.nextWake();
    const wake = wakeNs === null ? Infinity : this.clock.cyclesAt(wakeNs);
    const next = Math.min(wake, this.sessions.nextEvent() ?? Infinity);
    if (next === Infinity && !this.processes.waitIn('session_')) return false;
    const at = Math.min(next, this.sessions.nextTimeout() ?? Infinity);
    if (at === Infinity) return false;
    this.interrupts.timer++;
    this.clock.jumpTo(at);
    return true;
  }

  /**
   * A look into a step as the superuser has it, for whoever stands outside: nothing of the machine changes, no cycle passes. Also while a pass is
   * held between two ops.
   */
  probe(wish: ProbeWish): string | Refusal {
    const { u8 } = this.hw.arena;
    this.held ??= new Uint8Array(u8.length);
    this.held.set(u8);
    try {
      const look = this.sessions.probe.look(wish, ROOT.euid);
      return isRefusal(look) ? look : look.take().answer;
    } finally {
      u8.set(this.held);
    }
  }

  /** What an attestation speaks about. */
  private attested(): Attested {
    const { hw } = this;
    return {
      key: hw.logKey,
      version: hw.version,
      compute: hw.compute.build,
      kernelDigest: hw.buildDigest,
      imageDigest: this.imageDigest,
      seed: hw.seed,
      packages: this.packages,
      sha256: hw.sha256,
      nowNs: () => this.clock.nowNs(),
      target: () => this.costs.target.name,
      disks: () =>
        this.disks
          .list()
          .filter(d => d.modelName !== 'default')
          .map(d => `${d.name}=${d.modelName}`),
      loaded: () => this.loader.current(),
      head: () => this.audit?.head ?? '',
    };
  }

  /** SHA-256 of everything allocated in the arena, the clock included: equal machines have equal digests, on every host. */
  arenaDigest(): string {
    return this.digestOf(this.hw.arena.u8.subarray(0, this.hw.arena.usage().offset));
  }

  private digestOf(bytes: Uint8Array): string {
    const hash = this.hw.sha256();
    hash.update(bytes);
    return bytesToHex(hash.digest());
  }
}

/** Whether a user may know what a process works on: those that it has become, or came from, theirs. */
function isSeen({ credentials }: Process, reader: number): boolean {
  const { uid, euid } = credentials;
  return reader === ROOT.euid || (reader === uid && reader === euid);
}

function hex(n: number): string {
  return `0x${n.toString(16).padStart(6, '0')}`;
}

/** A field of /proc/mounts: what would end it is written in octal. */
function mountField(text: string): string {
  return text.replace(/[ \t\n\\]/g, c => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

/** A line a figure: `name value`. */
function figuresText(figures: Readonly<Record<string, number | string>>): string {
  return Object.entries(figures)
    .map(([name, value]) => `${name} ${value}\n`)
    .join('');
}
