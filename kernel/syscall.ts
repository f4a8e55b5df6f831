// System calls: decode and check everything, then commit. The table in kernel/abi/syscalls.ts says what each call takes; this file says
// what it does. A handler gets integers and returns one: >= 0, -errno, or BLOCKED.

import {
  BLOCKED,
  BudgetRecord,
  ConvertReport,
  DISK_FAULTS,
  DISK_SET,
  DiskOptions,
  E,
  FsStat,
  IOCTL,
  isRefusal,
  LastError,
  LIMITS,
  LlmStats,
  LoadOptions,
  KIND,
  ModelInfo,
  O,
  PlanReport,
  POLICY,
  PrelinkReport,
  ProbeOptions,
  QUOTA_DEFAULTS,
  QUOTA_SET,
  QuotaRecord,
  refuse,
  SCHED_KEEP,
  SchedOptions,
  SchedReport,
  SessionOptions,
  SessionReport,
  SpeedOptions,
  SpeedReport,
  SIG,
  SpawnHeader,
  SPEC_CODE,
  Stat,
  STOPPED,
  strerror,
  SYSCALLS,
  Times,
  utf8Decode,
  utf8Encode,
  utf8Length,
  utf8Write,
  Utimes,
  WAIT,
  WcetOptions,
  WcetReport,
  type CallName,
  type CallSpec,
  type Gate,
  type Handler,
  type Refusal,
  type TtyDevice,
} from './abi/index.ts';
import type { AuditFields, AuditOp } from '../trust/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { MAY, permits, ROOT } from '../vfs/permission.ts';
import { pathOf, type Vfs } from '../vfs/vfs.ts';
import { ADAPTER_CALLS, adapterCalls } from './adapter-calls.ts';
import type { Arena } from './arena.ts';
import type { PeriodBudget } from './budget.ts';
import type { Chat } from './chat.ts';
import { CYCLES_MAX, NS_MAX, type Clock } from './clock.ts';
import type { Converter } from './convert.ts';
import type { Prelinker } from './prelink.ts';
import type { Costs } from './costs.ts';
import type { DiskRequest } from './disks.ts';
import type { Forecast } from './forecast.ts';
import type { Layout } from './layout.ts';
import { streamingOf, type Loader } from './loader.ts';
import type { Monitor } from './monitor.ts';
import type { Mounter } from './mounter.ts';
import { KernelPanic, panic } from './panic.ts';
import type { Pipes } from './pipes.ts';
import { CATCH, maySignal, type Process, type Processes } from './process.ts';
import type { Quotas } from './quota.ts';
import { refusedFields } from './audit/journal.ts';
import type { Right } from './rights.ts';
import type { Journal } from './service.ts';
import type { Submitter } from './session.ts';
import type { Sessions } from './sessions.ts';
import { explain } from './explain.ts';
import { formatCall } from './strace.ts';
import type { Attestor } from './attest.ts';
import type { Packages } from './packages.ts';
import { trainCalls } from './train/calls.ts';
import { TRUST_CALLS, trustCalls } from './trust-calls.ts';

/** What the calls act on. */
export interface CallContext {
  readonly arena: Arena;
  readonly lay: Layout;
  readonly clock: Clock;
  readonly costs: Costs;
  readonly vfs: Vfs;
  readonly pipes: Pipes;
  readonly mounter: Mounter;
  readonly loader: Loader;
  readonly packages: Packages;
  readonly attestor: Attestor;
  readonly sessions: Sessions;
  readonly budget: PeriodBudget;
  readonly quotas: Quotas;
  readonly forecast: Forecast;
  readonly converter: Converter;
  readonly prelinker: Prelinker;
  readonly chat: Chat;
  readonly console: TtyDevice;
  readonly processes: () => Processes;
  readonly bootEpochSeconds: number;
  readonly journal: Journal;
  readonly monitor: Monitor;
  /** Something took longer than was said. */
  readonly breached: (text: string) => void;
  /** Another simulated processor; the loaded plan gets its prices. */
  readonly switchTarget: (name: string) => Refusal | null;
  readonly configureDisk: (name: string, wanted: DiskRequest) => Refusal | null;
}

/** What streams must be what was hashed, and what its package was checked for, as long as it is loaded. */
const STREAMS = refuse('TXTBSY', 0, 'the weights of the loaded model stream from this file: llmctl unload');

/** Calls that a change of accounts or rights ends with: whoever makes it is told of in the log. */
const CHANGES: ReadonlySet<CallName> = new Set<CallName>(['close', 'rename', 'unlink']);

/** Calls that may take any time: they read whole files, or turn texts of any length into ids. */
const UNBOUNDED: ReadonlySet<CallName> = new Set<CallName>([
  'mount',
  'model_plan',
  'model_wcet',
  'model_cost',
  'model_speed',
  'model_convert',
  'model_prelink',
  'model_diff',
  'tokenize',
  'chat',
  'model_hash',
  'model_verify',
  'model_signed',
  'model_register',
  'attest',
]);

/** Calls that may leave records in the audit log: they wait until its ring has room for them. */
const RECORDED: ReadonlySet<CallName> = new Set<CallName>([
  'target',
  'disk',
  'mount',
  'umount',
  'model_load',
  'model_unload',
  'backend',
  'session_open',
  'sched',
  'budget',
  'quota',
  'setuid',
  'auth_failed',
  'train_open',
  'train_close',
  ...TRUST_CALLS,
  ...ADAPTER_CALLS,
]);

type Handlers = { readonly [N in CallName]: Handler<N> };
interface Entry {
  readonly name: CallName;
  readonly spec: CallSpec;
  /** (address, length) pairs: where among the call's integers, and whether the kernel writes there. */
  readonly ranges: readonly { readonly at: number; readonly isOut: boolean }[];
  readonly integers: number;
  readonly handler: (...integers: number[]) => number;
}

export class SystemCalls {
  private readonly entries: (Entry | undefined)[] = [];
  /** The process whose call is being served. */
  private caller!: Process;
  /** Cycles that the call may take, its price aside. */
  private allowed = 0;
  /** What it was refused with, if there is more to say than an errno. */
  private refusal: Refusal | null = null;

  constructor(private readonly k: CallContext) {
    const handlers = this.handlers();
    for (const [name, spec] of Object.entries(SYSCALLS) as [CallName, CallSpec][]) {
      const ranges: { at: number; isOut: boolean }[] = [];
      let n = 0;
      for (const [, kind] of spec.args) {
        const wide = kind === 'path' || kind === 'in' || kind === 'out';
        if (wide) ranges.push({ at: n, isOut: kind === 'out' });
        n += wide ? 2 : 1;
      }
      const handler = handlers[name] as (...integers: number[]) => number;
      this.entries[spec.nr] = { name, spec, ranges, integers: n, handler };
    }
  }

  /** The way into the kernel that process `p` gets, with memory of its own: what another program left behind is nowhere in it. */
  gateOf(p: Process): Gate {
    const memory = new Uint8Array(LIMITS.windowBytes);
    p.memory = memory;
    return {
      memory,
      windowAt: this.k.lay.windowAt,
      windowBytes: LIMITS.windowBytes,
      trap: (nr, ...integers) => this.trap(p, memory, nr, integers),
      mustYield: () => p.callsLeft <= 0 || p.stoppedBy !== null,
      signalled: () => p.caught !== 0,
      address: entry => {
        p.code = entry;
        return 0;
      },
    };
  }

  /** Whatever breaks on this side of the gate is the kernel's fault, not the program's. */
  private trap(p: Process, memory: Uint8Array, nr: number, registers: readonly number[]): number {
    try {
      return this.serve(p, memory, nr, registers);
    } catch (error) {
      throw error instanceof KernelPanic ? error : new KernelPanic(String(error), { cause: error });
    }
  }

  private serve(p: Process, memory: Uint8Array, nr: number, registers: readonly number[]): number {
    if (!mayCall(p, memory)) return BLOCKED;
    const entry = this.entries[nr];
    if (entry === undefined) return -E.NOSYS;
    if (!this.drainTrace(p)) return BLOCKED;
    this.caller = p;
    this.refusal = null;
    const integers = registers.slice(0, entry.integers);
    let r = this.checkRegisters(entry, integers);
    if (r === 0) {
      this.copyIn(entry, integers, memory);
      r = this.bounded(entry, integers);
      if (r >= 0) this.copyOut(entry, integers, memory);
    }
    if (r === BLOCKED) {
      if (!entry.spec.blocks) return this.left(p, entry, integers);
      if (!p.interrupted || p.status !== null) {
        p.waitsIn = entry.name;
        return BLOCKED;
      }
      p.interrupted = false;
      p.wakeNs = null;
      r = -E.INTR;
    }
    p.waitsIn = '';
    if (CHANGES.has(entry.name)) this.k.monitor.refresh(p.credentials.euid);
    p.cycles += this.k.costs.call();
    p.callsLeft--;
    this.k.processes().progress++;
    if (r < 0) p.lastError = this.refusal ?? { errno: -r, code: 0, message: explain(entry.name, -r, this.k.vfs.pool) };
    this.traced(p, entry, integers, r);
    return r;
  }

  /**
   * While servers are admitted a call takes no more than was promised: one whose length nobody knows waits until there are none, one that
   * knows its own (session_open) until there is time for it.
   */
  private bounded(entry: Entry, integers: readonly number[]): number {
    const { sessions, clock, journal } = this.k;
    const room = RECORDED.has(entry.name) ? journal.gate() : true;
    if (room !== true) return room === false ? BLOCKED : this.fail(room);
    if (!sessions.isServing) return entry.handler(...integers);
    if (UNBOUNDED.has(entry.name) || this.looksIntoModel(entry, integers)) return BLOCKED;
    const before = clock.cycles();
    this.allowed = sessions.callMax - this.k.costs.target.overhead.syscallCycles;
    const r = entry.handler(...integers);
    const took = clock.cycles() - before;
    if (took > this.allowed) this.k.breached(`${entry.name} took ${took} cycles, ${this.allowed} were allowed`);
    return r;
  }

  /** While servers are admitted: a call that takes so long may run now, and no deadline is missed for it. */
  private hasTime(cycles: number): boolean {
    const { sessions } = this.k;
    if (!sessions.isServing) return true;
    this.allowed = cycles;
    return sessions.mayTake(cycles);
  }

  /** In a model file that is mounted as a directory, looking already reads, and reading turns blocks into numbers. */
  private looksIntoModel({ name, spec }: Entry, [first = 0, bytes = 0]: readonly number[]): boolean {
    const models = this.k.vfs.mounts().filter(m => m.fs.type === 'gguf');
    if (models.length === 0) return false;
    if (name === 'read') return models.some(m => m.device === this.caller.file(first)?.opening.device);
    if (!spec.blocks || spec.args[0]?.[1] !== 'path') return false;
    const path = this.k.vfs.normalize(pathOf(this.caller.cwd), this.text(first, bytes));
    return models.some(m => path === m.target || path.startsWith(`${m.target}/`));
  }

  /** A call after which the program that made it does not go on: exit, exec, its own end. */
  private left(p: Process, entry: Entry, integers: readonly number[]): number {
    if (p.status === null) this.traced(p, entry, integers, entry.name === 'exec' ? 0 : null);
    return BLOCKED;
  }

  /** Adds a call to the trace, if there is one; `result` is null where it does not return. */
  private traced(p: Process, { name, spec }: Entry, integers: readonly number[], result: number | null): void {
    if (p.trace === null) return;
    const who = this.tracedTogether(p) ? `[pid ${p.pid}] ` : '';
    p.traceLines += `${who}${formatCall(name, spec, integers, result, this.k.arena.u8)}\n`;
    this.drainTrace(p);
  }

  private checkRegisters(entry: Entry, integers: readonly number[]): number {
    const { windowAt } = this.k.lay;
    for (const range of entry.ranges) {
      const at = integers[range.at]!;
      const length = integers[range.at + 1]!;
      const isWhole = Number.isInteger(at) && Number.isInteger(length);
      if (!(isWhole && at >= windowAt && length >= 0 && at + length <= windowAt + LIMITS.windowBytes)) return -E.FAULT;
    }
    return integers.every(Number.isSafeInteger) ? 0 : -E.INVAL; // a register holds nothing else
  }

  /**
   * What the caller names of its memory, into the kernel's window: what it gives is copied, what it gets is zeros until the call writes there. So
   * nothing of an earlier call, or of another process, is ever answered. Its price is in that of the call.
   */
  private copyIn(entry: Entry, integers: readonly number[], memory: Uint8Array): void {
    const { u8 } = this.k.arena;
    const { windowAt } = this.k.lay;
    for (const { at: i } of entry.ranges) u8.fill(0, integers[i]!, integers[i]! + integers[i + 1]!);
    for (const { at: i, isOut } of entry.ranges) {
      const from = integers[i]! - windowAt;
      if (!isOut) u8.set(memory.subarray(from, from + integers[i + 1]!), integers[i]!);
    }
  }

  private copyOut(entry: Entry, integers: readonly number[], memory: Uint8Array): void {
    const { u8 } = this.k.arena;
    for (const { at: i, isOut } of entry.ranges) {
      const at = integers[i]!;
      if (isOut) memory.set(u8.subarray(at, at + integers[i + 1]!), at - this.k.lay.windowAt);
    }
  }

  /** True when other processes write to the same trace: lines then say whose they are. */
  private tracedTogether(p: Process): boolean {
    for (const q of this.k.processes().all()) if (q !== p && q.trace === p.trace && q.status === null) return true;
    return false;
  }

  /** Writes a process's pending strace lines; false while the descriptor takes no more. A traced process waits: no line is lost. */
  drainTrace(p: Process): boolean {
    const { lay, arena } = this.k;
    while (p.traceLines !== '') {
      const line = p.traceLines.slice(0, p.traceLines.indexOf('\n') + 1);
      const bytes = utf8Write(line, arena.u8, lay.dmaAt, LIMITS.dmaBytes);
      const wrote = p.trace!.write(lay.dmaAt, bytes);
      if (wrote === BLOCKED) return false;
      if (wrote < 0)
        p.traceLines = ''; // nobody reads it any more
      else p.traceLines = utf8Decode(arena.u8, lay.dmaAt + wrote, lay.dmaAt + bytes) + p.traceLines.slice(line.length);
    }
    return true;
  }

  private fail(r: Refusal): number {
    this.refusal = r;
    return -r.errno;
  }

  /** No other model while sessions are live, or a training is open. */
  private busy(): Refusal | null {
    const n = this.k.sessions.active();
    const training = this.k.sessions.training.busy();
    if (training !== null) return training;
    return n === 0 ? null : refuse('BUSY', 3002, `${n} session${n === 1 ? ' is' : 's are'} running`);
  }

  private text(at: number, length: number): string {
    return utf8Decode(this.k.arena.u8, at, at + length);
  }

  /** For the log: what the caller has done, or was refused. The call's answer: 0, a number, or what it was refused with. */
  private noted(op: AuditOp, fields: AuditFields, r: Refusal | number | null): number {
    const refused =
      typeof r === 'number' && r < 0
        ? (this.refusal ?? { errno: -r, code: 0 as const, message: strerror(r) })
        : isRefusal(r)
          ? r
          : null;
    this.k.journal.note(op, this.requester.uid, { ...fields, ...(refused === null ? {} : refusedFields(refused)) });
    return isRefusal(r) ? this.fail(r) : (r ?? 0);
  }

  /** The caller as sessions and rights know it. */
  private get requester(): Submitter {
    const { euid, egid, groups } = this.caller.credentials;
    return { pid: this.caller.pid, uid: euid, groups: [egid, ...groups] };
  }

  /** Why the caller has no such right to that model's path, or to what is managed. */
  private denied(right: Right, object: string): Refusal | null {
    return this.k.monitor.refusal(this.requester, right, object);
  }

  /** A path argument; -errno when it is none. */
  private path(at: number, length: number): string | number {
    if (length === 0) return -E.NOENT;
    if (length > LIMITS.pathBytes) return -E.NAMETOOLONG;
    const s = this.text(at, length);
    return s.includes('\0') ? -E.INVAL : s;
  }

  /** Text as an answer: its bytes at `at`, or -ERANGE. */
  private answer(s: string, at: number, capacity: number): number {
    const n = utf8Write(s, this.k.arena.u8, at, capacity);
    return n < 0 ? -E.RANGE : n;
  }

  private withFile(fd: number, use: (file: OpenFile) => number): number {
    const file = this.caller.file(fd);
    return file === null ? -E.BADF : use(file);
  }

  private install(file: OpenFile | number): number {
    if (typeof file === 'number') return file;
    const fd = this.caller.install(file);
    if (fd < 0) file.close();
    return fd;
  }

  /** The caller's files that a spawn block names, or -EBADF. */
  private handedOver(blockAt: number): (OpenFile | null)[] | number {
    const h = SpawnHeader.read(this.k.arena.u8, blockAt);
    const fds = [h.fd0, h.fd1, h.fd2, h.fd3, h.fd4, h.fd5, h.fd6, h.fd7, h.fd8, h.fd9];
    if (fds.some(fd => fd >= 0 && this.caller.file(fd) === null)) return -E.BADF;
    return fds.map(fd => (fd < 0 ? null : this.caller.file(fd)));
  }

  /** 0, unless the caller's own signal ended or stopped it: then its program is not resumed. */
  private unlessEnded(): number {
    return this.caller.status === null ? 0 : BLOCKED;
  }

  /** BLOCKED until that moment of the clock, then 0. */
  private untilNs(wakeNs: number): number {
    this.caller.wakeNs = this.k.clock.nowNs() < wakeNs ? wakeNs : null;
    return this.caller.wakeNs === null ? 0 : BLOCKED;
  }

  /** BLOCKED until the caller has waited so long (-1: for ever), then 0. */
  private until(milliseconds: number): number {
    const { clock } = this.k;
    const p = this.caller;
    if (milliseconds < 0) return BLOCKED;
    p.wakeNs ??= clock.nowNs() + milliseconds * 1e6;
    if (p.wakeNs > NS_MAX || clock.cyclesAt(p.wakeNs) > CYCLES_MAX) {
      p.wakeNs = null;
      return -E.OVERFLOW;
    }
    if (clock.nowNs() < p.wakeNs) return BLOCKED;
    p.wakeNs = null;
    return 0;
  }

  /** A process outside the foreground group that reads the console is stopped by SIGTTIN: BLOCKED; -EIO where it ignores that. 0: it may read. */
  private inBackground(file: OpenFile): number {
    const { foreground } = this.k.processes();
    if (foreground === 0 || this.caller.group === foreground) return 0;
    if (file.inode.kind !== KIND.char || file.ioctl(IOCTL.isatty, 0) !== 1) return 0;
    if (this.caller.signals.get(SIG.TTIN) === CATCH.ignore) return -E.IO;
    this.k.processes().signalGroup(this.caller.group, SIG.TTIN);
    return BLOCKED;
  }

  private handlers(): Handlers {
    const k = this.k;
    const u8 = k.arena.u8;
    const { vfs, loader, sessions } = k;
    return {
      // ── Processes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
      exit: status => {
        // The program yields on BLOCKED and is never resumed; its trace is written before it ends.
        this.caller.returned = status & 0xff;
        return BLOCKED;
      },
      getpid: () => this.caller.pid,
      getppid: () => this.caller.parent,
      getargs: (at, capacity) => {
        const block = this.caller.args;
        if (block.length > capacity) return -E.RANGE;
        u8.set(block, at);
        return block.length;
      },
      spawn: (pathAt, pathBytes, at, bytes) => {
        const path = this.path(pathAt, pathBytes);
        if (typeof path === 'number') return path;
        if (bytes < SpawnHeader.bytes) return -E.INVAL;
        const head = SpawnHeader.read(u8, at);
        if (head.argc + head.envc > LIMITS.argsMax) return -E.TOOBIG;
        const block = u8.slice(at, at + bytes);
        const files = this.handedOver(at);
        if (typeof files === 'number') return files;
        const trace = head.trace < 0 ? this.caller.trace : this.caller.file(head.trace);
        if (head.trace >= 0 && trace === null) return -E.BADF;
        for (const f of files) f?.retain();
        trace?.retain();
        const pid = k.processes().spawn(this.caller.pid, path, this.caller, block, files, trace);
        if (pid < 0) {
          for (const f of files) f?.close();
          trace?.close();
        }
        return pid;
      },
      exec: (pathAt, pathBytes, at, bytes) => {
        const path = this.path(pathAt, pathBytes);
        if (typeof path === 'number') return path;
        if (bytes < SpawnHeader.bytes) return -E.INVAL;
        const head = SpawnHeader.read(u8, at);
        if (head.argc + head.envc > LIMITS.argsMax) return -E.TOOBIG;
        const files = this.handedOver(at);
        if (typeof files === 'number') return files;
        for (const f of files) f?.retain();
        const r = k.processes().exec(this.caller, path, u8.slice(at, at + bytes), files);
        if (r !== BLOCKED) for (const f of files) f?.close();
        return r;
      },
      fork: () => {
        const { files, trace } = this.caller;
        for (const f of files) f?.retain();
        trace?.retain();
        const pid = k.processes().fork(this.caller);
        if (pid < 0) {
          for (const f of files) f?.close();
          trace?.close();
        }
        return pid;
      },
      wait: (pid, at, capacity, flags) => {
        const children = k.processes().childrenOf(this.caller.pid);
        const wanted = pid === -1 ? children : children.filter(c => c.pid === pid);
        if (wanted.length === 0) return -E.CHILD;
        const ended = wanted.find(c => c.status !== null);
        if (ended === undefined) {
          const stopped = wanted.find(c => c.stoppedBy !== null && !c.stopTold);
          if (stopped === undefined || (flags & WAIT.untraced) === 0) return (flags & WAIT.nohang) !== 0 ? 0 : BLOCKED;
          stopped.stopTold = true;
          if (capacity >= 4) k.arena.view.setUint32(at, STOPPED + stopped.stoppedBy!, true);
          return stopped.pid;
        }
        if (capacity >= 4) k.arena.view.setUint32(at, ended.status!, true);
        k.processes().reap(ended);
        return ended.pid;
      },
      kill: (pid, signal) => {
        if (signal < 0 || signal > 31) return -E.INVAL;
        const processes = k.processes();
        const target = processes.get(pid);
        const addressed = pid < 0 ? processes.inGroup(-pid) : target?.status === null ? [target] : [];
        if (addressed.length === 0) return -E.SRCH;
        const permitted = addressed.filter(p => maySignal(this.caller.credentials, p.credentials));
        if (permitted.length === 0) return -E.PERM;
        for (const p of permitted) processes.signal(p, signal);
        return this.unlessEnded();
      },
      signal: (signal, action) => {
        if (signal < 1 || signal > 31 || action < CATCH.default || action > CATCH.ignore) return -E.INVAL;
        const before = this.caller.signals.get(signal) ?? CATCH.default;
        this.caller.signals.set(signal, action);
        return before;
      },
      signals: () => {
        const { caught } = this.caller;
        this.caller.caught = 0;
        this.caller.interrupted = false;
        return caught;
      },
      setpgid: (pid, group) => {
        const p = pid === 0 ? this.caller : k.processes().get(pid);
        if (p === undefined || (p !== this.caller && p.parent !== this.caller.pid)) return -E.SRCH;
        if (group < 0) return -E.INVAL;
        const wanted = group === 0 ? p.pid : group;
        // A signal of the terminal goes to all of a group: nobody makes others' processes his own.
        const others = wanted === p.pid ? [] : k.processes().inGroup(wanted);
        if (others.some(q => !maySignal(this.caller.credentials, q.credentials))) return -E.PERM;
        p.group = wanted;
        return 0;
      },
      tcsetpgrp: (fd, group) =>
        this.withFile(fd, file => {
          if (file.ioctl(IOCTL.isatty, 0) < 0) return -E.NOTTY;
          return k.processes().giveConsole(this.caller, group);
        }),
      poll: (fd, milliseconds) =>
        this.withFile(fd, file => {
          const ready = file.ioctl(IOCTL.waiting, 0);
          if (ready < 0) return ready;
          const stopped = this.inBackground(file);
          if (stopped === -E.IO) return stopped;
          if (ready === 0 || stopped === BLOCKED) return this.until(milliseconds);
          this.caller.wakeNs = null;
          return 1;
        }),
      sleep: milliseconds => (milliseconds < 0 ? -E.INVAL : this.until(milliseconds)),
      sched_yield: () => {
        this.caller.yielded = !this.caller.yielded;
        if (!this.caller.yielded) return 0;
        k.processes().progress++;
        return BLOCKED;
      },
      last_error: (at, capacity) => {
        if (capacity < LastError.bytes) return -E.RANGE;
        const { errno, code, message } = this.caller.lastError;
        LastError.write(u8, at, { errno, code: code in SPEC_CODE ? code : 0, message });
        return LastError.bytes;
      },
      times: (at, capacity) => {
        if (capacity < Times.bytes) return -E.RANGE;
        const { clock } = k;
        Times.write(u8, at, {
          nowNs: clock.nowNs(),
          cycles: clock.cycles(),
          hz: clock.hz,
          processCycles: this.caller.cycles,
          bootEpochSeconds: k.bootEpochSeconds,
        });
        return Times.bytes;
      },

      target: (nameAt, nameBytes, at, capacity) => {
        const name = this.text(nameAt, nameBytes);
        if (name !== '') {
          const r = this.denied('manage', 'target') ?? k.switchTarget(name);
          const status = this.noted('config', { 'arena8.name': 'target', 'arena8.value': name }, r);
          if (status < 0) return status;
        }
        return this.answer(k.costs.target.name, at, capacity);
      },

      // ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
      open: (at, bytes, flags, mode) => {
        const path = this.path(at, bytes);
        return typeof path === 'number' ? path : this.open(path, flags, mode);
      },
      close: fd =>
        this.withFile(fd, file => {
          this.caller.files[fd] = null;
          file.close();
          return 0;
        }),
      read: (fd, at, capacity) =>
        this.withFile(fd, file => {
          const stopped = this.inBackground(file);
          if (stopped !== 0) return stopped;
          return file.opening.disk === '' ? this.read(file, at, capacity) : this.readStored(file, at, capacity);
        }),
      write: (fd, at, bytes) =>
        this.withFile(fd, file => {
          const disk = k.costs.disks.of(file);
          if (disk.isGone) return this.fail(refuse('NODEV', 0, `disk ${disk.name} is gone`));
          if (loader.streamsFrom(file.opening.device, file.inode.number)) return this.fail(STREAMS);
          const r = file.write(at, bytes, this.caller.credentials);
          if (r > 0 && file.opening.disk !== '') disk.wrote(r);
          // A writer nobody reads any more ends, as on Unix, unless it asked not to.
          if (r === -E.PIPE && (this.caller.signals.get(13) ?? CATCH.default) === CATCH.default) {
            k.processes().end(this.caller, 128 + 13);
            return BLOCKED;
          }
          const why = r < 0 ? file.refusal() : null;
          return why === null ? r : this.fail(why);
        }),
      lseek: (fd, offset, whence) => this.withFile(fd, file => file.seek(offset, whence)),
      fchmod: (fd, mode) => this.withFile(fd, file => vfs.changeMode(file, this.caller.credentials, mode)),
      fchown: (fd, uid, gid) => this.withFile(fd, file => vfs.changeOwner(file, this.caller.credentials, uid, gid)),
      fstat: (fd, at, capacity) =>
        this.withFile(fd, file => {
          if (capacity < Stat.bytes) return -E.RANGE;
          Stat.write(u8, at, file.stat());
          return 0;
        }),
      ftruncate: (fd, size) =>
        this.withFile(fd, file =>
          loader.streamsFrom(file.opening.device, file.inode.number)
            ? this.fail(STREAMS)
            : file.truncate(size, this.caller.credentials),
        ),
      dup: fd => this.withFile(fd, file => this.install(file.retain())),
      pipe: (at, capacity) => {
        if (capacity < 8) return -E.RANGE;
        const ends = k.pipes.open();
        if (typeof ends === 'number') return ends;
        const reader = this.install(ends[0]);
        const writer = reader < 0 ? reader : this.install(ends[1]);
        if (writer < 0) {
          if (reader < 0) ends[1].close();
          else {
            this.caller.files[reader] = null;
            ends[0].close();
          }
          return writer;
        }
        k.arena.view.setUint32(at, reader, true);
        k.arena.view.setUint32(at + 4, writer, true);
        return 0;
      },
      memfd: (at, bytes) => this.install(vfs.memfd(this.text(at, bytes), this.caller.credentials)),
      ioctl: (fd, command, argument) =>
        this.withFile(fd, file =>
          command === IOCTL.raw && k.processes().isOthersConsole(this.caller) ? -E.IO : file.ioctl(command, argument),
        ),
      readdir: (fd, at, capacity) => this.withFile(fd, file => file.readdir(at, capacity)),
      readline: (fd, promptAt, promptBytes, at, capacity) =>
        this.withFile(fd, file => {
          if (file.ioctl(IOCTL.isatty, 0) < 0) return -E.NOTTY;
          const stopped = this.inBackground(file);
          if (stopped !== 0) return stopped;
          return k.console.readline(this.text(promptAt, promptBytes), u8, at, capacity);
        }),
      complete: (fd, back, count, at, bytes) =>
        this.withFile(fd, file => {
          if (file.ioctl(IOCTL.isatty, 0) < 0) return -E.NOTTY;
          if (k.processes().isOthersConsole(this.caller)) return -E.IO;
          const [text = '', ...names] = this.text(at, bytes).split('\0').slice(0, -1);
          k.console.complete(text, back, names, count);
          return 0;
        }),
      remember: (fd, keep, at, bytes) =>
        this.withFile(fd, file => {
          if (file.ioctl(IOCTL.isatty, 0) < 0) return -E.NOTTY;
          if (k.processes().isOthersConsole(this.caller)) return -E.IO;
          k.console.remember(this.text(at, bytes).split('\0').slice(0, -1), keep);
          return 0;
        }),

      disk: (nameAt, nameBytes, at, bytes) => {
        if (bytes < DiskOptions.bytes) return -E.INVAL;
        const name = this.text(nameAt, nameBytes);
        const wanted = DiskOptions.read(u8, at);
        const r = this.denied('manage', `disk/${name}`) ?? k.configureDisk(name, wanted);
        return this.noted('config', { 'arena8.name': `disk ${name}`, 'arena8.value': diskText(wanted) }, r);
      },

      // ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
      stat: (pathAt, pathBytes, at, capacity) => this.stat(pathAt, pathBytes, at, capacity, true),
      lstat: (pathAt, pathBytes, at, capacity) => this.stat(pathAt, pathBytes, at, capacity, false),
      access: (at, bytes, mask) =>
        this.withPath(at, bytes, path => {
          const { cwd, umask, credentials: c } = this.caller;
          return vfs.access({ cwd, umask, credentials: { ...c, euid: c.uid, egid: c.gid } }, path, mask);
        }),
      link: (fromAt, fromBytes, at, bytes) =>
        this.withPath(fromAt, fromBytes, existing =>
          this.withPath(at, bytes, path => vfs.link(this.caller, existing, path)),
        ),
      symlink: (targetAt, targetBytes, at, bytes) =>
        this.withPath(targetAt, targetBytes, target =>
          this.withPath(at, bytes, path => vfs.symlink(this.caller, target, path)),
        ),
      readlink: (pathAt, pathBytes, at, capacity) =>
        this.withPath(pathAt, pathBytes, path => {
          if (capacity === 0) return -E.INVAL;
          const target = vfs.readlink(this.caller, path);
          if (typeof target === 'number') return target;
          const bytes = utf8Encode(target).subarray(0, capacity);
          u8.set(bytes, at);
          return bytes.length;
        }),
      chmod: (at, bytes, mode) => this.withPath(at, bytes, path => vfs.chmod(this.caller, path, mode)),
      chown: (at, bytes, uid, gid) => this.withPath(at, bytes, path => vfs.chown(this.caller, path, uid, gid)),
      lchown: (at, bytes, uid, gid) => this.withPath(at, bytes, path => vfs.chown(this.caller, path, uid, gid, false)),
      utimens: (pathAt, pathBytes, at, bytes) =>
        this.withPath(pathAt, pathBytes, path =>
          bytes < Utimes.bytes ? -E.INVAL : vfs.utimens(this.caller, path, Utimes.read(u8, at)),
        ),
      truncate: (at, bytes, size) =>
        this.withPath(at, bytes, path =>
          this.isStreamed(path) ? this.fail(STREAMS) : vfs.truncate(this.caller, path, size),
        ),
      mkdir: (at, bytes, mode) => this.withPath(at, bytes, path => vfs.mkdir(this.caller, path, mode)),
      rmdir: (at, bytes) => this.withPath(at, bytes, path => vfs.rmdir(this.caller, path)),
      unlink: (at, bytes) => this.withPath(at, bytes, path => vfs.unlink(this.caller, path)),
      rename: (fromAt, fromBytes, toAt, toBytes) =>
        this.withPath(fromAt, fromBytes, from => this.withPath(toAt, toBytes, to => vfs.rename(this.caller, from, to))),
      chdir: (at, bytes) =>
        this.withPath(at, bytes, path => {
          const dir = vfs.chdir(this.caller, path);
          if (typeof dir === 'number') return dir;
          this.caller.cwd = dir;
          return 0;
        }),
      getcwd: (at, capacity) => {
        const path = vfs.getcwd(this.caller.cwd);
        return typeof path === 'number' ? path : this.answer(path, at, capacity);
      },
      mount: (typeAt, typeBytes, sourceAt, sourceBytes, targetAt, targetBytes) =>
        this.withPath(targetAt, targetBytes, target => {
          const [type, source] = [this.text(typeAt, typeBytes), this.text(sourceAt, sourceBytes)];
          const isRoot = this.caller.credentials.euid === 0;
          const r = isRoot ? k.mounter.mount(type, source, target, this.caller) : -E.PERM;
          return this.noted('mount', { 'arena8.path': target, 'arena8.name': type, 'arena8.value': source }, r);
        }),
      umount: (at, bytes) =>
        this.withPath(at, bytes, target => {
          const r = this.caller.credentials.euid === 0 ? k.mounter.umount(target, this.caller) : -E.PERM;
          return this.noted('umount', { 'arena8.path': target }, r);
        }),
      statfs: (pathAt, pathBytes, at, capacity) =>
        this.withPath(pathAt, pathBytes, path => {
          if (capacity < FsStat.bytes) return -E.RANGE;
          const s = vfs.statfs(this.caller, path);
          if (typeof s === 'number') return s;
          FsStat.write(u8, at, s);
          return 0;
        }),

      // ── Model files ──────────────────────────────────────────────────────────────────────────────────────────────────────────
      model_convert: (pathAt, pathBytes, type, flags, at, capacity) =>
        this.withPath(pathAt, pathBytes, path => {
          if (capacity < ConvertReport.bytes) return -E.RANGE;
          const full = this.readable(path);
          if (typeof full === 'number') return full;
          const denied = k.packages.deniesFile(path, this.caller, 'export');
          if (denied !== null) return this.fail(denied);
          const r = k.converter.convert(path, type, flags, this.caller);
          if (isRefusal(r)) return this.fail(r);
          ConvertReport.write(u8, at, r.report);
          return this.install(r.file);
        }),
      model_prelink: (pathAt, pathBytes, at, capacity) =>
        this.withPath(pathAt, pathBytes, path => {
          if (capacity < PrelinkReport.bytes) return -E.RANGE;
          const full = this.readable(path);
          if (typeof full === 'number') return full;
          const denied = k.packages.deniesFile(path, this.caller, 'export');
          if (denied !== null) return this.fail(denied);
          const r = k.prelinker.prelink(path, this.caller);
          if (isRefusal(r)) return this.fail(r);
          PrelinkReport.write(u8, at, r.report);
          return this.install(r.file);
        }),
      model_diff: (leftAt, leftBytes, rightAt, rightBytes) =>
        this.withPath(leftAt, leftBytes, left =>
          this.withPath(rightAt, rightBytes, right => {
            for (const path of [left, right]) {
              const full = this.readable(path);
              if (typeof full === 'number') return full;
            }
            const denied =
              k.packages.deniesFile(left, this.caller, 'inspect') ??
              k.packages.deniesFile(right, this.caller, 'inspect');
            if (denied !== null) return this.fail(denied);
            const r = k.converter.compare(left, right, this.caller);
            return isRefusal(r) ? this.fail(r) : this.install(r);
          }),
        ),

      // ── Users ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
      getuid: () => this.caller.credentials.uid,
      geteuid: () => this.caller.credentials.euid,
      getgid: () => this.caller.credentials.gid,
      getegid: () => this.caller.credentials.egid,
      getgroups: (at, capacity) => {
        const { groups } = this.caller.credentials;
        if (groups.length * 4 > capacity) return -E.INVAL;
        groups.forEach((gid, i) => k.arena.view.setUint32(at + i * 4, gid, true));
        return groups.length * 4;
      },
      setuid: uid => {
        const c = this.caller.credentials;
        if (uid < 0) return -E.INVAL;
        if (c.euid === 0) {
          this.caller.credentials = { ...c, uid, euid: uid, suid: uid };
          k.monitor.becomes(c, uid, this.caller.tried);
        } else if (uid === c.uid || uid === c.suid) this.caller.credentials = { ...c, euid: uid };
        else return -E.PERM;
        return 0;
      },
      setgid: gid => {
        const c = this.caller.credentials;
        if (gid < 0) return -E.INVAL;
        if (c.euid === 0) this.caller.credentials = { ...c, gid, egid: gid, sgid: gid };
        else if (gid === c.gid || gid === c.sgid) this.caller.credentials = { ...c, egid: gid };
        else return -E.PERM;
        return 0;
      },
      setgroups: (at, bytes) => {
        const c = this.caller.credentials;
        if (c.euid !== 0) return -E.PERM;
        if (bytes > LIMITS.groupsMax * 4) return -E.INVAL;
        const groups = Array.from({ length: bytes >> 2 }, (_, i) => k.arena.view.getUint32(at + i * 4, true));
        this.caller.credentials = { ...c, groups };
        return 0;
      },
      umask: mask => {
        const old = this.caller.umask;
        this.caller.umask = mask & 0o777;
        return old;
      },
      auth_wait: (at, bytes) => {
        if (this.caller.credentials.euid !== 0) return -E.PERM;
        this.caller.tried = this.text(at, bytes);
        return this.untilNs(k.monitor.mayTryNs(this.caller.tried));
      },
      auth_failed: (at, bytes) => {
        const { euid, uid } = this.caller.credentials;
        if (euid !== 0) return -E.PERM;
        this.caller.tried = '';
        k.monitor.failed(this.text(at, bytes), uid);
        return 0;
      },
      rights: (userAt, userBytes, rightAt, rightBytes, objectAt, objectBytes) => {
        const [user, right] = [this.text(userAt, userBytes), this.text(rightAt, rightBytes)];
        const r = k.monitor.test(this.requester.uid, user, right, this.text(objectAt, objectBytes));
        return isRefusal(r) ? this.fail(r) : r;
      },

      // ── Models ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
      model_load: (pathAt, pathBytes, at, bytes) =>
        this.withPath(pathAt, pathBytes, path => {
          if (bytes < LoadOptions.bytes) return -E.INVAL;
          const full = this.readable(path, 'load');
          const r = this.busy() ?? (typeof full === 'number' ? full : loader.load(full, LoadOptions.read(u8, at)));
          const value = r === null ? loader.vouched() : '';
          return this.loaded({ 'arena8.path': typeof full === 'number' ? path : full, 'arena8.value': value }, r);
        }),
      model_unload: () => {
        const model = k.journal.modelFields();
        const busy = this.busy();
        const r =
          busy ??
          this.denied('load', loader.source()) ??
          (loader.unload() ? null : refuse('NODEV', 2001, 'no model loaded'));
        return this.noted('unload', model, r);
      },
      model_plan: (pathAt, pathBytes, at, bytes, toAt, capacity) => {
        if (bytes < LoadOptions.bytes) return -E.INVAL;
        if (capacity < PlanReport.bytes) return -E.RANGE;
        const path = this.modelPath(pathAt, pathBytes);
        if (typeof path === 'number') return path;
        const noModel = refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');
        const r = path === '' ? (loader.current()?.report ?? noModel) : loader.plan(path, LoadOptions.read(u8, at));
        if (isRefusal(r)) return this.fail(r);
        PlanReport.write(u8, toAt, r);
        return 0;
      },
      model_info: (at, capacity) => {
        if (capacity < ModelInfo.bytes) return -E.RANGE;
        const loaded = loader.current();
        if (loaded === null) return this.fail(refuse('NODEV', 2001, 'no model loaded: llmctl load FILE'));
        const { engine } = loaded;
        const { shape, vocabulary, options } = engine;
        ModelInfo.write(u8, at, {
          loaded: 1,
          layers: shape.layers,
          embedding: shape.embedding,
          heads: shape.heads,
          headsKv: shape.headsKv,
          feedForward: shape.feedForward,
          vocabulary: vocabulary.count,
          contextTrained: shape.contextTrained,
          ctx: options.ctx,
          kvType: options.kvType,
          batch: options.batch,
          sessions: options.sessions,
          pages: options.pages,
          draws: options.draws,
          tileBytes: options.tileBytes,
          buffers: options.buffers,
          ...streamingOf(engine.stream, address => k.arena.u32[address >> 2]!),
          bos: vocabulary.bos,
          eos: vocabulary.eos,
          addBos: vocabulary.addBos ? 1 : 0,
          spacePrefix: vocabulary.spacePrefix === true ? 1 : 0,
          tensors: loaded.tensors,
          parameters: shape.parameters,
          fileBytes: loaded.fileBytes,
          name: shape.name,
          architecture: shape.architecture,
          tokenizer: shape.tokenizer,
          types: loaded.types,
          path: loaded.path,
          digest: loaded.digest,
          source: loaded.source,
          engine: engine.name,
        });
        return ModelInfo.bytes;
      },
      model_ops: (from, at, capacity) => {
        const engine = loader.engine();
        if (engine === null) return this.fail(refuse('NODEV', 2001, 'no model loaded'));
        const denied = loader.denies('inspect');
        if (denied !== null) return this.fail(denied);
        let skip = from;
        let n = 0;
        for (const op of engine.ops()) {
          const line = `${op.segment}\t${op.op}\t${op.detail}\n`;
          const bytes = utf8Length(line);
          if (skip >= bytes) {
            skip -= bytes;
            continue;
          }
          if (skip > 0 || n + bytes > capacity) break; // whole lines only: `from` is always at a line's start
          n += utf8Write(line, u8, at + n, capacity - n);
        }
        return n;
      },
      backend: (nameAt, nameBytes, at, capacity) => {
        const name = this.text(nameAt, nameBytes);
        if (name !== '') {
          const [engine = '', form = ''] = name.split(':');
          const load = (): Refusal | null =>
            engine === 'transformer' ? loader.reloadFile() : loader.loadBuiltin(engine, form);
          const denied = this.denied('load', engine === 'transformer' ? loader.lastPath : engine);
          const r = this.loaded({ 'arena8.name': 'backend', 'arena8.value': name }, denied ?? this.busy() ?? load());
          if (r < 0) return r;
        }
        return this.answer(loader.engine()?.name ?? 'none', at, capacity);
      },
      tokenize: (pathAt, pathBytes, fd, flags) =>
        this.withFile(fd, text => {
          const loaded = loader.current();
          if (pathBytes === 0 && loaded === null)
            return this.fail(refuse('NODEV', 2001, 'no model loaded: llmctl load FILE, or --vocab FILE'));
          const path = this.modelPath(pathAt, pathBytes);
          if (typeof path === 'number') return path;
          const r =
            path === ''
              ? loader.tokenizeToFile(loaded!.engine.vocabulary, text, flags)
              : loader.tokenizeWith(path, text, flags);
          return isRefusal(r) ? this.fail(r) : this.install(r.file);
        }),
      model_wcet: (pathAt, pathBytes, at, bytes, toAt, capacity) => {
        if (bytes < WcetOptions.bytes) return -E.INVAL;
        if (capacity < WcetReport.bytes) return -E.RANGE;
        const path = this.modelPath(pathAt, pathBytes);
        if (typeof path === 'number') return path;
        const r = k.forecast.request(path, at);
        if (isRefusal(r)) return this.fail(r);
        WcetReport.write(u8, toAt, r);
        return 0;
      },
      model_cost: (pathAt, pathBytes, at, bytes) => {
        if (bytes < WcetOptions.bytes) return -E.INVAL;
        const path = this.modelPath(pathAt, pathBytes);
        if (typeof path === 'number') return path;
        const denied = path === '' ? loader.denies('inspect') : null;
        const r = denied ?? k.forecast.plan(path, at);
        return isRefusal(r) ? this.fail(r) : this.install(r);
      },
      model_speed: (pathAt, pathBytes, at, bytes, toAt, capacity) => {
        if (bytes < SpeedOptions.bytes) return -E.INVAL;
        if (capacity < SpeedReport.bytes) return -E.RANGE;
        const path = this.modelPath(pathAt, pathBytes);
        if (typeof path === 'number') return path;
        const r = k.forecast.speed(path, SpeedOptions.read(u8, at));
        if (isRefusal(r)) return this.fail(r);
        SpeedReport.write(u8, toAt, r);
        return 0;
      },
      detokenize: (idsAt, idsBytes, at, capacity, flags) => {
        const engine = loader.engine();
        if (engine === null) return this.fail(refuse('NODEV', 2001, 'no model loaded: llmctl load FILE'));
        let n = 0;
        for (let i = 0; i < idsBytes >> 2; i++) {
          const id = k.arena.view.getUint32(idsAt + i * 4, true);
          const bytes = engine.vocabulary.piece(id, at + n, capacity - n, (flags & 1) !== 0);
          if (bytes === -1)
            return this.fail(refuse('INVAL', 4002, `token ${id} is not in 0…${engine.vocabulary.count - 1}`));
          if (bytes < 0) return -E.RANGE;
          n += bytes;
        }
        return n;
      },

      // ── Sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
      session_open: (at, bytes, fd) =>
        this.withFile(fd, prompt => {
          if (bytes < SessionOptions.bytes) return -E.INVAL;
          if (!this.hasTime(sessions.isServing ? sessions.openingMax(prompt) : 0)) return BLOCKED;
          const r = sessions.open(this.requester, at, prompt);
          if (sessions.isServing) this.caller.callsLeft = 0; // a server's first period may have begun: whoever submitted it yields
          return isRefusal(r) ? this.fail(r) : r;
        }),
      session_read: (handle, at, capacity) => {
        const n = sessions.read(handle, at, capacity, this.requester);
        if (n !== null) return n;
        const unwritten = sessions.unwritten(handle);
        return unwritten === null ? BLOCKED : this.fail(unwritten);
      },
      session_cancel: handle => sessions.cancel(handle, this.requester),
      session_report: (handle, at, capacity) => {
        if (capacity < SessionReport.bytes) return -E.RANGE;
        const r = sessions.report(handle, this.requester);
        if (typeof r === 'number') return r;
        const unwritten = sessions.unwritten(handle);
        if (unwritten !== null) return this.fail(unwritten);
        SessionReport.write(u8, at, r);
        return SessionReport.bytes;
      },
      session_tokens: (handle, from, at, capacity) => sessions.tokens(handle, from, at, capacity, this.requester),
      session_close: handle => sessions.close(handle, this.requester),
      session_find: id => sessions.find(id, this.requester),
      session_probe: (handle, at, bytes) => {
        if (bytes < ProbeOptions.bytes) return -E.INVAL;
        const look = sessions.look(handle, ProbeOptions.read(u8, at), this.requester);
        if (typeof look === 'number') return look;
        if (isRefusal(look)) return this.fail(look);
        if (!this.hasTime(look.most)) return BLOCKED;
        if (sessions.isServing) this.caller.callsLeft = 0; // it has had of the servers' slack what there was
        const file = sessions.probe.book(look);
        return isRefusal(file) ? this.fail(file) : this.install(file);
      },
      sched: (at, bytes, toAt, capacity) => {
        if (capacity < SchedReport.bytes) return -E.RANGE;
        if (bytes > 0) {
          if (bytes < SchedOptions.bytes) return -E.INVAL;
          const wanted = SchedOptions.read(u8, at);
          const told = { 'arena8.name': 'sched', 'arena8.value': schedText(wanted) };
          const r = this.noted('config', told, this.denied('manage', 'sched') ?? sessions.configure(wanted));
          if (r < 0) return r;
        }
        SchedReport.write(u8, toAt, sessions.schedule());
        return SchedReport.bytes;
      },
      budget: (at, bytes, toAt, capacity) => {
        if (capacity < BudgetRecord.bytes) return -E.RANGE;
        if (bytes > 0) {
          if (bytes < BudgetRecord.bytes) return -E.INVAL;
          const wanted = BudgetRecord.read(u8, at);
          if (wanted.set !== 0) {
            const { wcetCycles, periodNs, maxTokens } = wanted;
            const value = `wcet_cycles=${wcetCycles} period_ns=${periodNs} max_tokens=${maxTokens}`;
            const denied = this.denied('manage', 'budget');
            if (denied === null) k.budget.configure(wanted);
            const r = this.noted('budget', { 'arena8.value': value }, denied);
            if (r < 0) return r;
          }
        }
        BudgetRecord.write(u8, toAt, k.budget.record());
        return BudgetRecord.bytes;
      },
      quota: (at, bytes, toAt, capacity) => {
        if (capacity < QuotaRecord.bytes) return -E.RANGE;
        if (bytes < QuotaRecord.bytes) return -E.INVAL;
        const wanted = QuotaRecord.read(u8, at);
        const { uid } = this.requester;
        const denied = wanted.set === 0 && wanted.uid === uid ? null : this.denied('manage', 'quota');
        if (wanted.set !== 0) {
          const name = wanted.uid === QUOTA_DEFAULTS ? '*' : `${wanted.uid}`;
          const r = denied ?? k.quotas.set(wanted);
          const status = this.noted('quota', { 'arena8.name': name, 'arena8.value': quotaText(wanted) }, r);
          if (status < 0) return status;
        } else if (denied !== null) return this.fail(denied);
        QuotaRecord.write(u8, toAt, k.quotas.get(wanted.uid));
        return QuotaRecord.bytes;
      },
      chat: (pathAt, pathBytes, nameAt, nameBytes, fd) =>
        this.withFile(fd, conversation => {
          const path = this.text(pathAt, pathBytes);
          const file = path === '' ? null : vfs.open(this.caller, path, O.RDONLY, 0);
          if (typeof file === 'number') return file;
          const given = file === null ? null : { file, path };
          const r = k.chat.prompt(given, this.text(nameAt, nameBytes), conversation);
          file?.close();
          return isRefusal(r) ? this.fail(r) : this.install(r);
        }),
      llm_stats: (at, capacity) => {
        if (capacity < LlmStats.bytes) return -E.RANGE;
        LlmStats.write(u8, at, sessions.stats(this.requester.uid));
        return LlmStats.bytes;
      },

      // ── Trust ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
      ...trustCalls(k, {
        caller: () => this.caller,
        isRoot: () => this.caller.credentials.euid === 0,
        text: (at, bytes) => this.text(at, bytes),
        withFile: (fd, use) => this.withFile(fd, use),
        withPath: (at, bytes, use) => this.withPath(at, bytes, use),
        readable: (path, right) => this.readable(path, right),
        answer: (text, at, capacity) => this.answer(text, at, capacity),
        busy: () => this.busy(),
        fail: r => this.fail(r),
        noted: (op, fields, r) => this.noted(op, fields, r),
      }),

      // ── Training ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
      ...trainCalls(k, {
        requester: () => this.requester,
        withFile: (fd, use) => this.withFile(fd, use),
        hasTime: cycles => this.hasTime(cycles),
        done: () => {
          this.caller.wakeNs = null;
        },
        until: milliseconds => this.until(milliseconds),
        fail: r => this.fail(r),
      }),

      // ── Adapters ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
      ...adapterCalls(k, {
        text: (at, bytes) => this.text(at, bytes),
        withPath: (at, bytes, use) => this.withPath(at, bytes, use),
        readable: (path, right) => this.readable(path, right),
        busy: () => this.busy(),
        denied: (right, object) => this.denied(right, object),
        noted: (op, fields, r) => this.noted(op, fields, r),
      }),
    };
  }

  /** A model was loaded, or was not; what is loaded then. */
  private loaded(fields: AuditFields, r: Refusal | number | null): number {
    return this.noted('load', { ...fields, ...(r === null ? this.k.journal.modelFields() : {}) }, r);
  }

  /** Model files are what their rights say, beside their modes; those that lie behind a mounted one are that one's. */
  private open(path: string, flags: number, mode: number): number {
    const { vfs } = this.k;
    if ((flags & O.TRUNC) !== 0 && this.isStreamed(path)) return this.fail(STREAMS);
    const file = vfs.open(this.caller, path, flags, mode);
    if (typeof file === 'number' || this.caller.credentials.euid === ROOT.euid) return this.install(file);
    const mount = vfs.mounts().find(m => m.fs.type === 'gguf' && m.device === file.opening.device);
    const model = mount?.source ?? (file.inode.kind === KIND.file && file.path.endsWith('.gguf') ? file.path : null);
    const denied = model === null ? null : this.denied('read', model);
    if (denied === null) return this.install(file);
    file.close();
    return this.fail(denied);
  }

  private isStreamed(path: string): boolean {
    const place = this.k.vfs.resolve(this.caller, path);
    return typeof place !== 'number' && this.k.loader.streamsFrom(place.mount.device, place.inode.number);
  }

  private read(file: OpenFile, at: number, capacity: number): number {
    const n = file.read(at, capacity);
    const why = n < 0 ? file.refusal() : null;
    return why === null ? n : this.fail(why);
  }

  /** A file on a disk: what the disk does not deliver is not read, and the file stays where it was. */
  private readStored(file: OpenFile, at: number, capacity: number): number {
    const { costs, sessions } = this.k;
    const disk = costs.disks.of(file);
    if (disk.isTimed && !this.hasTime(sessions.callMax + costs.transferMost(capacity, disk))) return BLOCKED;
    const { position } = file;
    const n = this.read(file, at, capacity);
    if (n === -E.IO) return this.fail(refuse('IO', 0, disk.complaint(n, capacity, position)));
    if (n <= 0) return n;
    const status = costs.programRead(n, disk, position);
    if (status === 0) return n;
    file.position = position;
    return this.fail({ errno: -status, code: 0, message: disk.complaint(status, n, position) });
  }

  private stat(pathAt: number, pathBytes: number, at: number, capacity: number, follow: boolean): number {
    return this.withPath(pathAt, pathBytes, path => {
      if (capacity < Stat.bytes) return -E.RANGE;
      const s = this.k.vfs.stat(this.caller, path, follow);
      if (typeof s === 'number') return s;
      Stat.write(this.k.arena.u8, at, s);
      return 0;
    });
  }

  /** The absolute path of a file that the kernel is to read for the caller; -EACCES where the caller may not. What is not there, the loader says. */
  private readable(path: string, right: Right = 'read'): string | number {
    const { vfs } = this.k;
    const place = vfs.resolve(this.caller, path);
    if (typeof place !== 'number') {
      if (!permits(place.inode, this.caller.credentials, MAY.read)) return -E.ACCES;
      const full = pathOf(place);
      const denied = this.denied(right, full);
      return denied === null ? full : this.fail(denied);
    }
    return place === -E.ACCES ? place : vfs.normalize(pathOf(this.caller.cwd), path);
  }

  /** The path of a model file that may be looked into, absolute; '' stands for the loaded model. */
  private modelPath(at: number, bytes: number): string | number {
    if (bytes === 0) return '';
    const path = this.readable(this.text(at, bytes));
    if (typeof path === 'number') return path;
    const denied = this.k.packages.deniesFile(path, this.caller, 'inspect');
    return denied === null ? path : this.fail(denied);
  }

  private withPath(at: number, bytes: number, use: (path: string) => number): number {
    const path = this.path(at, bytes);
    return typeof path === 'number' ? path : use(path);
  }
}

// ── What was asked for, as records say it ────────────────────────────────────────────────────────────────────────────────────────

function diskText({ set, model, retries, fault, every, next, from, to, factor }: DiskRequest): string {
  const words: string[] = [];
  if ((set & DISK_SET.model) !== 0) words.push(`model=${model}`);
  if ((set & DISK_SET.retries) !== 0) words.push(`retries=${retries}`);
  if ((set & DISK_SET.heal) !== 0) words.push('heal');
  if ((set & DISK_SET.fault) !== 0)
    words.push(
      `fault=${DISK_FAULTS[fault] ?? fault}`,
      `every=${every}`,
      `next=${next}`,
      `bytes=${from}-${to}`,
      `factor=${factor}`,
    );
  return words.join(' ');
}

function schedText({ policy, ...others }: ReturnType<typeof SchedOptions.read>): string {
  const words = Object.entries(others).flatMap(([name, value]) => (value === SCHED_KEEP ? [] : [`${name}=${value}`]));
  return (policy === SCHED_KEEP ? words : [`policy=${POLICY[policy] ?? policy}`, ...words]).join(' ');
}

function quotaText(q: ReturnType<typeof QuotaRecord.read>): string {
  const words: string[] = [];
  if ((q.set & QUOTA_SET.tokens) !== 0) words.push(`tokens=${q.tokensPerHour}`);
  if ((q.set & QUOTA_SET.cycles) !== 0) words.push(`cycles=${q.cyclesPerHour}`);
  if ((q.set & QUOTA_SET.kv) !== 0) words.push(`kv=${q.kvBytes}`);
  if ((q.set & QUOTA_SET.sessions) !== 0) words.push(`sessions=${q.sessions}`);
  return words.join(' ');
}

/**
 * A program that has ended, has become another one (whose rights may be greater), is stopped, or has used up its quantum, is to yield: a stub does so,
 * and a program without stubs gets no further.
 */
function mayCall(p: Process, memory: Uint8Array): boolean {
  return p.memory === memory && p.status === null && p.returned === null && p.stoppedBy === null && p.callsLeft > 0;
}

/** Every number names one call; checked once at boot. */
export function checkTable(): void {
  const seen = new Map<number, string>();
  for (const [name, spec] of Object.entries(SYSCALLS)) {
    const other = seen.get(spec.nr);
    if (other !== undefined) panic(`system calls ${other} and ${name} share number ${spec.nr}`);
    seen.set(spec.nr, name);
  }
}
