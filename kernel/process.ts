// Processes: programs as coroutines. A program runs until a call cannot finish (it then yields and is resumed to try again), until its
// quantum of calls is used up, or until it ends. Round robin by pid: the order, and so the output, depends on nothing outside the machine.

import {
  BLOCKED,
  E,
  KIND,
  LIMITS,
  O,
  SIG,
  SpawnHeader,
  utf8Decode,
  type Entry,
  type Gate,
  type ProgramTable,
  type Refusal,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { Inode } from '../vfs/inode.ts';
import { MAY, MODE, permits, ROOT, runsAsGroup, type Credentials } from '../vfs/permission.ts';
import type { Place, Vfs, View } from '../vfs/vfs.ts';
import type { Costs } from './costs.ts';
import { KernelPanic } from './panic.ts';

/** What a signal does to a process: its default, -EINTR from a blocked call, nothing. */
export const CATCH = { default: 0, interrupt: 1, ignore: 2 } as const;

/** 128 + SIGSEGV, as a shell reports it. */
const STATUS_CRASHED = 139;

const stopping: readonly number[] = [SIG.STOP, SIG.TSTP, SIG.TTIN, SIG.TTOU];
const harmless: readonly number[] = [SIG.CHLD, SIG.CONT, SIG.WINCH];

/** Calls a program may make before it must let others run. */
export const QUANTUM_CALLS = 64;

/** A process as the file system sees it (View) and as the scheduler does. */
export class Process implements View {
  readonly files: (OpenFile | null)[] = [];
  readonly signals = new Map<number, number>(); // signal → CATCH
  cwd: Place;
  credentials: Credentials;
  umask: number;
  status: number | null = null; // exit status once ended
  interrupted = false; // a caught signal waits for the next blocked call
  caught = 0; // caught signals that the program has not asked for yet, 1 << signal
  group: number; // gets the terminal's signals together
  stoppedBy: number | null = null; // the signal that stopped it; it is not resumed until SIGCONT
  stopTold = false; // its parent has been told so
  memory: Uint8Array | null = null; // of the program that it is; another one's calls are not its own
  tried = ''; // whose password it is about to judge
  code: Entry | null = null; // where its next fork begins
  callsLeft = QUANTUM_CALLS;
  wakeNs: number | null = null; // inside sleep or poll: until then
  waitsIn = ''; // the call that it is blocked in
  yielded = false; // inside sched_yield
  cycles = 0;
  lastError: Refusal = { errno: 0, code: 0, message: '' };
  traceLines = ''; // strace lines that the trace descriptor has not taken yet
  returned: number | null = null; // it has returned this status; it ends when its trace is written
  body!: Generator<void, number, void>;

  constructor(
    readonly pid: number,
    readonly parent: number,
    /** The block getargs returns. */
    public args: Uint8Array,
    /** Where strace lines go, or null. */
    readonly trace: OpenFile | null,
    inherited: View,
    group: number,
    readonly startedNs: number,
  ) {
    this.cwd = inherited.cwd;
    this.credentials = inherited.credentials;
    this.umask = inherited.umask;
    this.group = group;
  }

  argv(): string[] {
    const { argc } = SpawnHeader.read(this.args, 0);
    return utf8Decode(this.args, SpawnHeader.bytes).split('\0').slice(0, argc);
  }

  /** As ps prints it: R runs or could, S waits in a call, T is stopped, Z has ended and nobody has asked for its status. */
  get state(): 'R' | 'S' | 'T' | 'Z' {
    if (this.status !== null) return 'Z';
    if (this.stoppedBy !== null) return 'T';
    return this.waitsIn === '' ? 'R' : 'S';
  }

  /** Lowest free descriptor, or -EMFILE. */
  install(file: OpenFile): number {
    for (let fd = 0; fd < LIMITS.filesPerProcess; fd++) {
      if ((this.files[fd] ?? null) === null) {
        this.files[fd] = file;
        return fd;
      }
    }
    return -E.MFILE;
  }

  file(fd: number): OpenFile | null {
    return this.files[fd] ?? null;
  }
}

export class Processes {
  private readonly table = new Map<number, Process>();
  private nextPid = 1;
  /** Rises whenever a call finishes or a process ends: nothing rising means that everything waits. */
  progress = 0;
  /** The process group that has the console; 0: all have. */
  foreground = 0;
  /** Who has given the console away and may have it back: shells within shells, the outermost first. */
  private readonly givers: number[] = [];
  private running: Process | null = null;

  constructor(
    private readonly vfs: Vfs,
    private readonly costs: Costs,
    private readonly programs: ProgramTable,
    private readonly memory: Uint8Array,
    private readonly headAt: number, // where in it the first bytes of a program file are read to
    private readonly gate: (p: Process) => Gate,
    /** Writes what is left of a process's trace; false when the descriptor is full. */
    private readonly drainTrace: (p: Process) => boolean,
    private readonly ended: (p: Process) => void,
    /** A program broke by itself; it ends, the machine goes on. */
    private readonly crashed: (p: Process, why: string) => void,
    private readonly nowNs: () => number,
  ) {}

  get(pid: number): Process | undefined {
    return this.table.get(pid);
  }
  all(): IterableIterator<Process> {
    return this.table.values();
  }
  childrenOf(pid: number): Process[] {
    return [...this.table.values()].filter(p => p.parent === pid);
  }

  /** Starts the program that `path` names with these descriptors; they now belong to it. Returns the pid or -errno. */
  spawn(
    parent: number,
    path: string,
    view: View,
    args: Uint8Array,
    files: readonly (OpenFile | null)[],
    trace: OpenFile | null,
  ): number {
    const image = this.imageOf(view, path, trace);
    if (typeof image === 'number') return image;
    return this.begin(parent, { ...view, credentials: image.credentials }, args, files, trace, image.entry);
  }

  /** A second process like `p`, begun at the place its program last named; the caller has retained its files. Returns the pid or -errno. */
  fork(p: Process): number {
    const entry = p.code;
    p.code = null;
    if (entry === null) return -E.FAULT;
    const pid = this.begin(p.pid, p, p.args, p.files, p.trace, entry);
    if (pid > 0) for (const [signal, action] of p.signals) this.table.get(pid)!.signals.set(signal, action);
    return pid;
  }

  /** Makes the running process another program with these descriptors. Returns -errno, or BLOCKED: the old program is not resumed. */
  exec(p: Process, path: string, args: Uint8Array, files: readonly (OpenFile | null)[]): number {
    const image = this.imageOf(p, path, p.trace);
    if (typeof image === 'number') return image;
    for (const f of p.files) f?.close();
    p.files.length = 0;
    p.files.push(...files);
    for (const [signal, action] of p.signals) if (action === CATCH.interrupt) p.signals.delete(signal);
    p.caught = 0;
    p.interrupted = false;
    p.args = args;
    p.credentials = image.credentials;
    p.lastError = { errno: 0, code: 0, message: '' };
    const { entry } = image;
    p.body = entry(this.gate(p));
    this.progress++;
    return BLOCKED;
  }

  private begin(
    parent: number,
    inherited: View,
    args: Uint8Array,
    files: readonly (OpenFile | null)[],
    trace: OpenFile | null,
    entry: Entry,
  ): number {
    if (this.table.size >= LIMITS.processesMax) return -E.AGAIN;
    const pid = this.nextPid++;
    const father = this.table.get(parent);
    const p = new Process(pid, parent, args, trace, inherited, father?.group ?? pid, this.nowNs());
    for (const [signal, action] of father?.signals ?? []) if (action === CATCH.ignore) p.signals.set(signal, action);
    p.files.push(...files);
    p.body = entry(this.gate(p));
    this.table.set(pid, p);
    this.progress++;
    return pid;
  }

  /**
   * What a process becomes that executes `path`: the program linked into the kernel that the file names in its first line,
   * `#!arena8 NAME`, and the rights it runs with. To run it one need not be able to read it. -errno when it is no program for this user. What is
   * traced shows all that it reads: traced by others than the superuser it has the rights of whoever starts it, and no more.
   */
  private imageOf(
    view: View,
    path: string,
    trace: OpenFile | null,
  ): { entry: Entry; credentials: Credentials } | number {
    const place = this.vfs.resolve(view, path);
    if (typeof place === 'number') return place;
    const { inode } = place;
    if (inode.kind !== KIND.file || !permits(inode, view.credentials, MAY.exec)) return -E.ACCES;
    const file = this.vfs.open({ ...view, credentials: ROOT }, path, O.RDONLY, 0);
    if (typeof file === 'number') return file;
    const n = file.readAt(0, this.headAt, 64);
    file.close();
    if (n < 0) return n;
    const head = String.fromCharCode(...this.memory.subarray(this.headAt, this.headAt + n));
    const isBound = trace !== null && view.credentials.uid !== ROOT.uid;
    const entry = this.programs.get(/^#!arena8 ([a-z0-9_.[-]+)\n/.exec(head)?.[1] ?? '');
    return entry === undefined
      ? -E.NOEXEC
      : { entry, credentials: isBound ? view.credentials : executing(inode, view.credentials) };
  }

  /** The process that is inside its program now; null: the kernel acts for itself. */
  get current(): Process | null {
    return this.running;
  }

  /** Resumes every live process once, in order of pid. False when some had to wait: `mayRun` says whether there is time for a quantum. */
  runAll(mayRun: () => boolean): boolean {
    for (const p of Array.from(this.table.values())) {
      if (p.status !== null || p.stoppedBy !== null) continue;
      if (!mayRun()) return false;
      p.callsLeft = QUANTUM_CALLS;
      const before = this.progress;
      if (p.returned === null) {
        try {
          this.running = p;
          const r = p.body.next();
          if (r.done === true) p.returned = r.value & 0xff;
        } catch (error) {
          if (error instanceof KernelPanic) throw error;
          this.crashed(p, error instanceof Error ? error.message : String(error));
          p.returned = STATUS_CRASHED;
        }
        this.running = null;
      }
      if (this.progress !== before) this.costs.contextSwitch();
      if (p.returned !== null && this.drainTrace(p)) this.end(p, p.returned);
    }
    return true;
  }

  /** A signal of the console: to the group in the foreground, or to everything when none is, or nobody of it lives. */
  signalForeground(signal: number): void {
    if (this.signalGroup(this.foreground, signal) === 0)
      for (const p of Array.from(this.table.values())) this.signal(p, signal);
  }

  /**
   * `p` gives the console to a group; who had it, or -EPERM. It may when it has the console, or had it and gave it away, or could end those who
   * have it: what somebody has left running does not take the keys from who logs in next.
   */
  giveConsole(p: Process, group: number): number {
    const { foreground, givers } = this;
    const place = givers.indexOf(p.pid);
    if (place < 0 && this.isOthersConsole(p)) return -E.PERM;
    givers.length = place < 0 ? givers.filter(pid => this.get(pid)?.status === null).length : place;
    givers.push(p.pid);
    this.foreground = group;
    return foreground;
  }

  /** True while people of another user, whom `p` could not end, have the console: its keys, its line and its mode are theirs. */
  isOthersConsole(p: Process): boolean {
    if (this.foreground === 0 || p.group === this.foreground) return false;
    const holders = this.inGroup(this.foreground);
    return holders.length > 0 && !holders.some(q => maySignal(p.credentials, q.credentials));
  }

  /** The living processes of a group. */
  inGroup(group: number): Process[] {
    return Array.from(this.table.values()).filter(p => p.group === group && p.status === null);
  }

  /** To every process of a group. Returns how many there were. */
  signalGroup(group: number, signal: number): number {
    const members = this.inGroup(group);
    for (const p of members) this.signal(p, signal);
    return members.length;
  }

  signal(p: Process, signal: number): void {
    if (p.status !== null || signal === 0) return;
    if (signal === SIG.CONT || signal === SIG.KILL) p.stoppedBy = null;
    const certain = signal === SIG.KILL || signal === SIG.STOP;
    const action = certain ? CATCH.default : (p.signals.get(signal) ?? CATCH.default);
    if (action === CATCH.ignore) return;
    if (action === CATCH.interrupt) {
      p.interrupted = true;
      p.caught |= 1 << signal;
      p.stoppedBy = null;
    } else if (stopping.includes(signal)) {
      p.stoppedBy = signal;
      p.stopTold = false;
      this.progress++;
    } else if (!harmless.includes(signal)) {
      if (p !== this.running) p.body.return(0); // one that is inside a call is just not resumed
      this.end(p, 128 + signal);
    }
  }

  end(p: Process, status: number): void {
    if (p.status !== null) return;
    p.status = status;
    this.progress++;
    for (const f of p.files) f?.close();
    p.files.length = 0;
    p.trace?.close();
    for (const child of this.childrenOf(p.pid)) if (child.status !== null) this.table.delete(child.pid);
    // Nobody waits for a process whose parent is gone, except the machine for those it started itself (parent 0).
    if (p.parent !== 0 && this.table.get(p.parent)?.status !== null) this.table.delete(p.pid);
    this.ended(p);
  }

  /** Forgets an ended process; its status was taken. */
  reap(p: Process): void {
    this.table.delete(p.pid);
  }

  /** The earliest moment a sleeper wakes, in nanoseconds. */
  nextWake(): number | null {
    let next: number | null = null;
    for (const p of this.table.values())
      if (p.status === null && p.stoppedBy === null && p.wakeNs !== null && (next === null || p.wakeNs < next))
        next = p.wakeNs;
    return next;
  }

  /** Whether anybody, not stopped, is blocked in a call whose name begins so. */
  waitIn(calls: string): boolean {
    return [...this.table.values()].some(p => p.state === 'S' && p.waitsIn.startsWith(calls));
  }
}

/** The superuser signals anyone, others those that they run, or had run before they became somebody else. */
export function maySignal(by: Credentials, to: Credentials): boolean {
  return by.euid === ROOT.euid || [by.uid, by.euid].some(id => id === to.uid || id === to.suid);
}

/** Credentials of a process that runs the program `inode`: a set-user-ID program has its owner's rights, whoever starts it. */
function executing(inode: Inode, by: Credentials): Credentials {
  const euid = (inode.mode & MODE.setUser) !== 0 ? inode.uid : by.euid;
  const egid = runsAsGroup(inode.mode) ? inode.gid : by.egid;
  return { ...by, euid, suid: euid, egid, sgid: egid };
}
