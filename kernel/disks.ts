// The disks: one for each storage that file systems lie on — vda where / is, then one for each directory of the host — and two that are memory
// of the machine itself: ram0 holds the boot image, ram1 swap and anonymous files. Each has a request queue and the times of a kind of storage;
// `default` is the target's own block device. A read is answered when it is submitted: the moment it will be done, and whether it failed.
// What a disk has done is counted as Linux counts it (Documentation/admin-guide/iostats.rst).

import {
  DISK_COLUMNS,
  DISK_FAULTS,
  DISK_SET,
  E,
  isRefusal,
  printable,
  refuse,
  type BlockDriver,
  type DiskFault,
  type DiskModel,
  type DiskOptions,
  type DiskRates,
  type DiskTimes,
  type ReadAnswer,
  type ReadTime,
  type RecordValue,
  type Refusal,
  type RequestQueue,
  type Timing,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { Clock } from './clock.ts';
import { MILLI, type Target } from './wcet/targets.ts';

/** The model whose times are those of the target's block device. */
const DEFAULT_MODEL = 'default';
/** The disk that / lies on. */
export const ROOT_DISK = 'vda';

/** Of a file, the last position there can be: a fault that reaches so far has no end. */
const POSITION_LAST = Number.MAX_SAFE_INTEGER;

/** Bytes of the requests that a long read is cut into, as Linux cuts it. */
const REQUEST_BYTES = 1 << 20;

/** Attempts beyond the first that may be asked for. */
const RETRIES_MAX = 16;

/** What one attempt takes on a target; null: its own block device, whose typical and worst times are one. */
function ratesOf(model: DiskModel | null, target: Target): DiskRates {
  if (model === null) {
    const { setupCyclesUpper, setupCyclesLower, byteUpper, byteLower } = target.block;
    return {
      latency: { least: setupCyclesLower, typical: setupCyclesUpper, most: setupCyclesUpper },
      sectorBytes: 1,
      queueDepth: 1,
      transfer: (bytes, kind) =>
        kind === 'least' ? Math.floor((bytes * byteLower) / MILLI) : Math.ceil((bytes * byteUpper) / MILLI),
    };
  }
  const { latencyNs, bytePs, sectorBytes, queueDepth } = model;
  const { hz } = target;
  // Nanoseconds are 10⁻⁹ of hz cycles, picoseconds 10⁻¹².
  const latencyOf = (kind: keyof Timing): number => (latencyNs[kind] * hz) / 1e9;
  const perByte = (kind: keyof Timing): number => (bytePs[kind] * hz) / 1e12;
  const byte: Timing = { least: perByte('least'), typical: perByte('typical'), most: perByte('most') };
  return {
    latency: {
      least: Math.floor(latencyOf('least')),
      typical: Math.ceil(latencyOf('typical')),
      most: Math.ceil(latencyOf('most')),
    },
    sectorBytes,
    queueDepth,
    transfer: (bytes, kind) => (kind === 'least' ? Math.floor(bytes * byte.least) : Math.ceil(bytes * byte[kind])),
  };
}

/** The same as bounds see it: reads begin anywhere in a sector, and are tried again `retries` times. */
function timesOf(name: string, rates: DiskRates, retries: number): DiskTimes {
  const { latency, sectorBytes, queueDepth } = rates;
  return {
    name,
    overlaps: queueDepth > 1,
    read(bytes: number, kind: keyof Timing): ReadTime {
      // Of n bytes the first may be the last of its sector: ⌈(n + sector − 1) / sector⌉ sectors, at least ⌈n / sector⌉.
      const sectors = Math.ceil((kind === 'least' ? bytes : bytes + sectorBytes - 1) / sectorBytes);
      const transfer = rates.transfer(sectors * sectorBytes, kind);
      const again = kind === 'most' ? retries * (latency.most + transfer) : 0;
      return { latency: latency[kind], transfer: transfer + again };
    },
  };
}

/** What a disk has done so far; times in nanoseconds of the machine's clock. Reads are counted when they are done. */
export interface DiskCounters {
  reads: number;
  bytes: number;
  moved: number; // bytes of whole sectors, those of failed reads too as far as they came
  readNs: number; // from submission to the end, summed over reads
  busyNs: number; // while at least one was in flight
  waitNs: number; // behind others
  waits: number; // reads that waited
  errors: number; // reads that failed
  retries: number; // attempts beyond the first
  writes: number;
  bytesWritten: number;
}

/** A read that is not done yet. */
interface InFlight extends ReadAnswer {
  readonly submittedAt: number;
  readonly bytes: number;
  readonly sectorBytes: number;
}

const NO_TIME: DiskRates = {
  latency: { least: 0, typical: 0, most: 0 },
  sectorBytes: 1,
  queueDepth: 1,
  transfer: () => 0,
};

/** See DiskOptions. */
export type DiskRequest = RecordValue<typeof DiskOptions.fields>;

export class Disk {
  private model: DiskModel | null = null;
  private retriesKept = 0;
  /** Of the target that they were last asked for. */
  private rates: { readonly target: Target; readonly rates: DiskRates } | null = null;
  private readonly inFlight: InFlight[] = [];
  private readonly done: DiskCounters = {
    reads: 0,
    bytes: 0,
    moved: 0,
    readNs: 0,
    busyNs: 0,
    waitNs: 0,
    waits: 0,
    errors: 0,
    retries: 0,
    writes: 0,
    bytesWritten: 0,
  };

  constructor(
    readonly name: string,
    /** Linux's: major << 8 | minor. */
    readonly number: number,
    /** What its bytes are, as `lsblk` says it. */
    readonly source: string,
    /** Times and faults cannot be changed: it is memory of the machine. */
    readonly fixed: boolean,
    private readonly queue: RequestQueue,
    private readonly clock: Clock,
    private readonly target: () => Target,
  ) {}

  get modelName(): string {
    return this.model?.name ?? DEFAULT_MODEL;
  }
  get title(): string {
    return this.model?.title ?? this.target().block.name;
  }
  get sectorBytes(): number {
    return this.model?.sectorBytes ?? 1;
  }
  get queueDepth(): number {
    return this.model?.queueDepth ?? 1;
  }
  /** Attempts beyond the first. */
  get retries(): number {
    return this.retriesKept;
  }
  get faults(): readonly DiskFault[] {
    return this.queue.faults;
  }
  /** Latencies in nanoseconds and rates in bytes a second on the target in force, the slowest first. */
  figures(): { readonly latencyNs: Timing; readonly bytesPerSecond: Timing } {
    const { hz } = this.target();
    const { latency, transfer } = this.ratesOn(this.target());
    const ns = (kind: keyof Timing): number => Math.round((latency[kind] * 1e9) / hz);
    const much = 1e9; // bytes: a cycle more or less does not matter
    const rate = (kind: keyof Timing): number => Math.round((much * hz) / transfer(much, kind));
    return {
      latencyNs: { least: ns('least'), typical: ns('typical'), most: ns('most') },
      bytesPerSecond: { least: rate('most'), typical: rate('typical'), most: rate('least') },
    };
  }

  /** Bytes of the longest request. The target's own device takes a file in one. */
  get requestBytesMax(): number {
    return this.model === null ? Infinity : REQUEST_BYTES;
  }
  /** Programs wait for what they read. By default they do not: small files are found in memory, as in a page cache. */
  get isTimed(): boolean {
    return this.model !== null;
  }

  /** The disk as bounds of that target see it. */
  times(target: Target): DiskTimes {
    return timesOf(this.modelName, this.ratesOn(target), this.retriesKept);
  }

  /** When everything submitted is done. */
  idleAt(): number {
    return this.queue.idleAt;
  }

  /** A read of `bytes` bytes at `position` of a file, submitted at `now`: when it will be done, and 0 or -errno. */
  submit(now: number, position: number, bytes: number): ReadAnswer {
    return this.submitAt(this.ratesOn(this.target()), now, position, bytes);
  }

  /** A read of what is in memory already: it takes no time, and meets the disk's faults. */
  probe(now: number, position: number, bytes: number): ReadAnswer {
    return this.submitAt(NO_TIME, now, position, bytes);
  }

  private ratesOn(target: Target): DiskRates {
    if (this.rates?.target !== target) this.rates = { target, rates: ratesOf(this.model, target) };
    return this.rates.rates;
  }

  private submitAt(rates: DiskRates, now: number, position: number, bytes: number): ReadAnswer {
    this.settle(now);
    const answer = this.queue.submit(rates, 1 + this.retriesKept, now, position, bytes);
    const { beganAt, doneAt, status, attempts, sectors } = answer; // one by one: a spread takes longer than all the rest
    const { sectorBytes } = rates;
    this.inFlight.push({ beganAt, doneAt, status, attempts, sectors, submittedAt: now, bytes, sectorBytes });
    return answer;
  }

  /** What a failed read is told as. */
  complaint(status: number, bytes: number, position: number): string {
    const why = status === -E.NODEV ? `disk ${this.name} is gone,` : 'I/O error';
    return `${why} reading ${bytes} bytes at ${position}`;
  }

  /** It answers nothing at all. */
  get isGone(): boolean {
    return this.queue.isGone;
  }

  /** Bytes written through it, which takes no time. */
  wrote(bytes: number): void {
    this.done.writes++;
    this.done.bytesWritten += bytes;
  }

  /** Counts what is done by now. */
  private settle(now: number): void {
    const { done } = this;
    const { hz } = this.clock;
    for (let r = this.inFlight[0]; r !== undefined && r.doneAt <= now; r = this.inFlight[0]) {
      this.inFlight.shift();
      done.reads++;
      if (r.status === 0) done.bytes += r.bytes;
      else done.errors++;
      done.moved += r.sectors * r.sectorBytes;
      done.retries += Math.max(0, r.attempts - 1);
      done.readNs += ((r.doneAt - r.submittedAt) * 1e9) / hz;
      done.busyNs += ((r.doneAt - r.beganAt) * 1e9) / hz;
      if (r.beganAt > r.submittedAt) {
        done.waits++;
        done.waitNs += ((r.beganAt - r.submittedAt) * 1e9) / hz;
      }
    }
  }

  /** Counters now, with what has passed of reads in flight, and how many these are. */
  counters(): DiskCounters & { readonly inFlight: number } {
    const now = this.clock.cycles();
    this.settle(now);
    const ns = (from: number): number => (Math.max(0, now - from) * 1e9) / this.clock.hz;
    const readNs = this.inFlight.reduce((sum, r) => sum + ns(r.submittedAt), this.done.readNs);
    const busyNs = this.inFlight.reduce(
      (sum, r) => sum + ns(r.beganAt) - ns(Math.min(now, r.doneAt)),
      this.done.busyNs,
    );
    return { ...this.done, readNs, busyNs, inFlight: this.inFlight.length };
  }

  /** Another kind of storage from now on, with the retries that come with it. */
  become(model: DiskModel | null): void {
    this.model = model;
    this.rates = null;
    this.retriesKept = model?.retries ?? 0;
  }
  retryUpTo(retries: number): void {
    this.retriesKept = retries;
  }
  inject(fault: DiskFault): void {
    this.queue.inject(fault);
  }
  heal(): void {
    this.queue.heal();
  }
}

/** The fault that options describe. */
function faultOf({ fault, every, next, factor, from, to }: DiskRequest): DiskFault | Refusal {
  const kind = DISK_FAULTS[fault];
  if (kind === undefined) return refuse('INVAL', 7001, `no fault ${fault}: ${DISK_FAULTS.join(', ')}`);
  if (every < 1 || factor < 1 || to < from)
    return refuse(
      'INVAL',
      7001,
      `a fault strikes every 1st attempt or fewer, 1 or more times as slow, at bytes in order`,
    );
  return { kind, every, next, factor, from, to };
}

/** A fault as `llmctl disk --fault` takes it. */
function faultText(fault: DiskFault): string {
  const { kind, every, next, from, to, factor } = fault;
  const words: string[] = [kind];
  if (kind === 'slow') words.push(`x=${factor}`);
  if (every > 1) words.push(`every=${every}`);
  if (next > 0) words.push(`next=${next}`);
  if (from > 0 || to < POSITION_LAST) words.push(`bytes=${from}-${to}`);
  return words.join(',');
}

/** vda, vdb … vdz, vdaa … */
function diskName(index: number): string {
  const letter = (i: number): string => String.fromCharCode(0x61 + i);
  return index < 26 ? `vd${letter(index)}` : `vd${letter(Math.floor(index / 26) - 1)}${letter(index % 26)}`;
}

/** Linux's numbers: RAM disks are major 1, virtio's disks have 254 and sixteen minors each. */
const RAM_MAJOR = 1;
const VIRTIO_MAJOR = 254;
const VIRTIO_MINORS = 16;

export class Disks {
  /** Swap and anonymous files. */
  readonly memory: Disk;
  /** The boot image. */
  readonly boot: Disk;
  private readonly byName = new Map<string, Disk>();

  constructor(
    private readonly driver: BlockDriver,
    private readonly clock: Clock,
    private readonly target: () => Target,
    /** What the host directories are called, in the order of their disks. */
    hostSources: readonly string[],
  ) {
    this.boot = this.add('ram0', RAM_MAJOR << 8, 'boot image', true);
    this.memory = this.add('ram1', (RAM_MAJOR << 8) | 1, 'swap', true);
    for (const [i, source] of ['memory storage', ...hostSources].entries())
      this.add(diskName(i), (VIRTIO_MAJOR << 8) | ((i * VIRTIO_MINORS) & 0xff), source, false);
  }

  private add(name: string, number: number, source: string, fixed: boolean): Disk {
    const disk = new Disk(name, number, source, fixed, this.driver.queue(), this.clock, this.target);
    this.byName.set(name, disk);
    return disk;
  }

  /** The disk of the n-th directory of the host. */
  static hostDisk(n: number): string {
    return diskName(1 + n);
  }

  list(): readonly Disk[] {
    return [...this.byName.values()];
  }
  get models(): readonly DiskModel[] {
    return this.driver.models;
  }

  find(name: string): Disk | Refusal {
    return this.byName.get(name) ?? refuse('NODEV', 0, `no disk '${name}': ${[...this.byName.keys()].join(', ')}`);
  }

  /** The disk that a file lies on; what lies on none is memory. */
  of(file: OpenFile): Disk {
    return this.byName.get(file.opening.disk) ?? this.memory;
  }

  /** /proc/diskmodels: a line a kind of storage, its name and what it is. */
  modelsText(): string {
    const own = `${DEFAULT_MODEL} ${this.target().block.name}\n`;
    return own + this.driver.models.map(({ name, title }) => `${name} ${title}\n`).join('');
  }

  /** A kind of storage by name; null: the target's own. */
  model(name: string): DiskModel | null | Refusal {
    if (name === DEFAULT_MODEL) return null;
    const names = [DEFAULT_MODEL, ...this.driver.models.map(m => m.name)];
    return (
      this.driver.models.find(m => m.name === name) ??
      refuse('INVAL', 7001, `no disk model '${name}': ${names.join(', ')}`)
    );
  }

  /** Changes a disk as DiskOptions say, or changes nothing. */
  configure(name: string, wanted: DiskRequest): Refusal | null {
    const disk = this.find(name);
    if (isRefusal(disk)) return disk;
    if (disk.fixed) return refuse('INVAL', 7001, `disk ${name} is memory of the machine, and stays as it is`);
    const has = (bit: number): boolean => (wanted.set & bit) !== 0;
    const model = has(DISK_SET.model) ? this.model(wanted.model) : null;
    if (isRefusal(model)) return model;
    if (has(DISK_SET.retries) && wanted.retries > RETRIES_MAX)
      return refuse('INVAL', 7001, `retries ${wanted.retries} asked, ${RETRIES_MAX} at most`);
    const fault = has(DISK_SET.fault) ? faultOf(wanted) : null;
    if (isRefusal(fault)) return fault;
    if (has(DISK_SET.model)) disk.become(model);
    if (has(DISK_SET.retries)) disk.retryUpTo(wanted.retries);
    if (has(DISK_SET.heal)) disk.heal();
    if (fault !== null) disk.inject(fault);
    return null;
  }

  /** /proc/disks: DISK_COLUMNS, then a line a disk. `mounted`: of a disk, what is mounted from it, and whether all that can only be read. */
  text(
    mounted: (disk: Disk) => { readonly targets: string; readonly readOnly: boolean; readonly bytes: number },
  ): string {
    const rows = this.list().map(disk => {
      const { targets, readOnly, bytes } = mounted(disk);
      const { latencyNs, bytesPerSecond } = disk.figures();
      const c = disk.counters();
      const cells: Readonly<Record<(typeof DISK_COLUMNS)[number], string | number>> = {
        name: disk.name,
        number: `${disk.number >> 8}:${disk.number & 255}`,
        source: printable(disk.source),
        mounts: targets,
        bytes,
        readOnly: Number(readOnly),
        fixed: Number(disk.fixed),
        model: disk.modelName,
        title: disk.title,
        sectorBytes: disk.sectorBytes,
        queueDepth: disk.queueDepth,
        retries: disk.retries,
        faults: disk.faults.map(faultText).join(' '),
        latencyLeast: latencyNs.least,
        latencyTypical: latencyNs.typical,
        latencyMost: latencyNs.most,
        rateLeast: bytesPerSecond.least,
        rateTypical: bytesPerSecond.typical,
        rateMost: bytesPerSecond.most,
        inFlight: c.inFlight,
        reads: c.reads,
        bytesRead: c.bytes,
        bytesMoved: c.moved,
        readNs: Math.floor(c.readNs),
        waits: c.waits,
        waitNs: Math.floor(c.waitNs),
        busyNs: Math.floor(c.busyNs),
        retried: c.retries,
        errors: c.errors,
        writes: c.writes,
        bytesWritten: c.bytesWritten,
      };
      return DISK_COLUMNS.map(column => cells[column]);
    });
    return [DISK_COLUMNS, ...rows].map(row => `${row.join('\t')}\n`).join('');
  }

  /** /proc/diskstats, in Linux's twenty columns: sectors of 512 bytes, milliseconds; nothing is merged, discarded or flushed. */
  statsText(): string {
    return this.list()
      .map(disk => {
        const c = disk.counters();
        const ms = (ns: number): number => Math.floor(ns / 1e6);
        const sectors = (bytes: number): number => Math.ceil(bytes / 512);
        const reads = [c.reads, 0, sectors(c.moved), ms(c.readNs)];
        const writes = [c.writes, 0, sectors(c.bytesWritten), 0];
        const all = [...reads, ...writes, c.inFlight, ms(c.busyNs), ms(c.readNs), 0, 0, 0, 0, 0, 0];
        const [major, minor] = [disk.number >> 8, disk.number & 255];
        return `${String(major).padStart(4)} ${String(minor).padStart(7)} ${disk.name} ${all.join(' ')}\n`;
      })
      .join('');
  }

  /** What a kind of storage would take on a target. */
  timesOf(modelName: string, target: Target): DiskTimes | Refusal {
    const model = this.model(modelName);
    if (isRefusal(model)) return model;
    return timesOf(modelName, ratesOf(model, target), model?.retries ?? 0);
  }
}
