// Many sessions on one strict machine, submitted, read and cancelled by schedules, and each again alone: what a schedule may change is when
// things happen, and nothing else. After every segment the ledgers must agree: pages, reservations, the clock's accounts.

import { readFileSync } from 'node:fs';
import { boot } from '../../boot/index.ts';
import type { Machine } from '../../boot/machine.ts';
import {
  EVENT,
  FINISH,
  isRefusal,
  LIMITS,
  LOAD_DEFAULTS,
  PRIORITY_DEFAULT,
  QUOTA_DEFAULTS,
  QUOTA_SET,
  SERVER,
  SESSION_FLAG,
  SessionEvent,
  SessionOptions,
  type Engine,
  type FinishReason,
  type RecordValue,
  type Refusal,
  type SessionReport,
} from '../../kernel/abi/index.ts';
import type { LoadRequest } from '../../kernel/fit.ts';
import { SWAPPED } from '../../kernel/pages.ts';
import { TRAIN_SLOT } from '../../kernel/sched.ts';
import type { Service } from '../../kernel/service.ts';
import type { Caller, Session } from '../../kernel/session.ts';

export type Options = Partial<RecordValue<typeof SessionOptions.fields>>;
export type Report = RecordValue<typeof SessionReport.fields>;

/** What somebody wants, and when. */
export interface Wish {
  readonly text: string;
  readonly options: Options;
  readonly uid: number;
  /** Segments after the schedule's begin. */
  readonly at: number;
  /** Cancelled after so many segments from then; Infinity: never. */
  readonly cancelAfter: number;
  /** Its reader looks every so many segments. */
  readonly readEvery: number;
}

/** What came of it. `text`: everything read. */
export interface Outcome {
  readonly tokens: readonly number[];
  readonly text: string;
  readonly tops: string;
  readonly finish: FinishReason;
  readonly cycles: number;
  readonly report: Report;
}

const DEFAULTS: Options = { temp: 0.8, topK: 40, topP: 0.95, repeatPenalty: 1, priority: PRIORITY_DEFAULT };
export const PID = 4711; // no process

/** A promise was broken. */
export class Broken extends Error {}

function expect(holds: boolean, what: () => string): void {
  if (!holds) throw new Broken(what());
}

/** What ended sessions left in the page pool is forgotten: the next one computes all that it is charged. No session may be live. */
export function forget({ kernel }: Machine): void {
  const { kvAt, pageBytes, pageRecordsAt: recordsAt, shape, options } = kernel.loader.engine()!;
  const planes = Math.max(1, 2 * shape.layers);
  kernel.pool.reset({ kvAt, pageBytes, pages: options.pages, planes, recordsAt });
}

/** One session being read. */
class Reading {
  readonly tokens: number[] = [];
  private readonly pieces: Uint8Array[] = [];
  private readonly tops: Uint8Array[] = [];
  private nll = 0;
  finish: FinishReason | null = null;

  take(memory: Uint8Array, at: number): void {
    const e = SessionEvent.read(memory, at);
    const pieceAt = at + SessionEvent.bytes;
    this.pieces.push(memory.slice(pieceAt, pieceAt + e.pieceBytes));
    this.tops.push(memory.slice(pieceAt + e.pieceBytes, pieceAt + e.pieceBytes + e.topCount * 8));
    if (e.kind === EVENT.token) this.tokens.push(e.token);
    if (e.kind === EVENT.progress) this.nll = e.nll;
    if (e.kind === EVENT.end) this.finish = FINISH[e.token]!;
  }

  outcome(report: Report): Outcome {
    const text = Buffer.concat(this.pieces).toString('base64');
    const tops = `${Buffer.concat(this.tops).toString('base64')} ${this.nll}`;
    return { tokens: this.tokens, text, tops, finish: this.finish!, cycles: report.cycles, report };
  }
}

export class Bench {
  readonly machine: Machine;
  /** Segments run so far. */
  segments = 0;
  private missed = 0;

  constructor(build?: 'simd128' | 'relaxed', target?: string, more: Parameters<typeof boot>[0] = {}) {
    const image = readFileSync('build/boot.cpio');
    const options = {
      image,
      strict: true,
      ...more,
      ...(build === undefined ? {} : { build }),
      ...(target === undefined ? {} : { target }),
    };
    this.machine = boot(options);
    // prettier-ignore
    this.kernel.quotas.set({ uid: QUOTA_DEFAULTS, set: QUOTA_SET.tokens, tokensPerHour: 0, cyclesPerHour: 0, kvBytes: 0, sessions: 0 });
  }

  get kernel(): Machine['kernel'] {
    return this.machine.kernel;
  }
  get engine(): Engine {
    const engine = this.kernel.loader.engine();
    if (engine === null) throw new Error('no model');
    return engine;
  }
  /** What the service's parts share. */
  get service(): Service {
    return this.kernel.sessions['k'];
  }

  load(path: string, request: Partial<LoadRequest> = {}): void {
    const all = { ...LOAD_DEFAULTS, ...request };
    const { loader } = this.kernel;
    const refusal = path === 'stub' ? loader.loadBuiltin('stub', '', all) : loader.load(`/models/${path}.gguf`, all);
    if (refusal !== null) throw new Error(refusal.message);
  }

  forget(): void {
    forget(this.machine);
  }

  /** Null: servers leave no time for it now. */
  submit(text: string, options: Options, uid = 0, pid = PID): number | Refusal | null {
    const { kernel, machine } = this;
    const { lay, vfs, sessions } = kernel;
    const prompt = vfs.memfd('prompt');
    if (typeof prompt === 'number') throw new Error(`no file for the prompt: ${prompt}`);
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length; at += LIMITS.dmaBytes) {
      const piece = bytes.subarray(at, at + LIMITS.dmaBytes);
      machine.arena.u8.set(piece, lay.dmaAt);
      prompt.write(lay.dmaAt, piece.length);
    }
    prompt.seek(0, 0);
    SessionOptions.write(machine.arena.u8, lay.windowAt, { ...DEFAULTS, ...options });
    const handle = sessions.mayTake(sessions.isServing ? sessions.openingMax(prompt) : 0)
      ? sessions.open({ pid, uid, groups: [] }, lay.windowAt, prompt)
      : null;
    prompt.close();
    return handle;
  }

  /** The handle of a request that must not be refused. */
  accepted(text: string, options: Options, uid = 0): number {
    const handle = this.submit(text, options, uid);
    if (isRefusal(handle)) throw new Error(handle.message);
    if (handle === null) throw new Error('no time to submit it');
    return handle;
  }

  report(handle: number): Report {
    const report = this.kernel.sessions.report(handle);
    if (typeof report === 'number') throw new Error(`no report of ${handle}: ${report}`);
    return report;
  }

  /** Reads what there is. True when the end has been read. */
  private read(handle: number, reading: Reading): boolean {
    const { sessions, lay } = this.kernel;
    for (;;) {
      const n = sessions.read(handle, lay.windowAt, LIMITS.windowBytes);
      if (n === null) return false;
      if (n === 0) return true;
      if (n < 0) throw new Broken(`session_read of ${handle}: ${n}`);
      reading.take(this.machine.arena.u8, lay.windowAt);
    }
  }

  /** One segment; where everything waits for time, the clock jumps. False when nothing can happen any more. */
  step(): boolean {
    const { sessions, clock } = this.kernel;
    this.segments++;
    if (sessions.run()) return true;
    const next = sessions.nextEvent();
    if (next === null) return false;
    clock.jumpTo(next);
    return true;
  }

  /** A request alone, to its end. */
  alone(text: string, options: Options, uid = 0): Outcome {
    this.forget();
    const handle = this.accepted(text, options, uid);
    const outcome = this.finish(handle);
    this.kernel.sessions.close(handle);
    return outcome;
  }

  /** Runs a session to its end and reads it all. */
  finish(handle: number): Outcome {
    const reading = new Reading();
    while (!this.read(handle, reading)) expect(this.step(), () => `nothing can run, and ${handle} has not ended`);
    return reading.outcome(this.report(handle));
  }

  /** A schedule of requests side by side. What was refused is null. `look` is called after every segment. */
  together(wishes: readonly Wish[], look: () => void = () => {}): (Outcome | null)[] {
    const live = new Map<number, { handle: number; reading: Reading; since: number }>();
    const outcomes: (Outcome | null)[] = wishes.map(() => null);
    const due = new Set(wishes.keys());
    for (let now = 0; due.size > 0 || live.size > 0; now++) {
      for (const i of due) {
        const { at, text, options, uid } = wishes[i]!;
        if (at > now) continue;
        const handle = this.submit(text, options, uid);
        if (handle === null) continue;
        due.delete(i);
        if (!isRefusal(handle)) live.set(i, { handle, reading: new Reading(), since: now });
      }
      for (const [i, { handle, reading, since }] of live) {
        const { cancelAfter, readEvery } = wishes[i]!;
        if (now - since === cancelAfter) this.kernel.sessions.cancel(handle);
        if (now % readEvery !== 0 || !this.read(handle, reading)) continue;
        outcomes[i] = reading.outcome(this.report(handle));
        this.kernel.sessions.close(handle);
        live.delete(i);
      }
      const moved = this.step();
      this.check();
      look();
      expect(moved || due.size > 0 || [...live.keys()].some(i => wishes[i]!.readEvery > 1) || now < 1e6, () => 'stuck');
      expect(now < 1e5, () => `no end after ${now} segments: due ${[...due].join()}\n${kernelText(this)}`);
    }
    return outcomes;
  }

  // ── What must hold after every segment ─────────────────────────────────────────────────────────────────────────────────────────

  check(): void {
    this.kernel.clock.check();
    this.checkPages();
    this.checkLedgers();
  }

  /** Pages are free, cached or named, and servers keep theirs. */
  private checkPages(): void {
    const { table, pool } = this.service;
    const { slots, options, pageBytes } = this.engine;
    const { u32 } = this.machine.arena;
    const named = new Set<number>();
    let out = 0;
    const places = new Set<number>();
    for (const s of table.all()) {
      const place = s.get('place');
      if (place === 0) continue;
      expect(!places.has(place), () => `slot ${place} has two sessions`);
      places.add(place);
      if (!s.isRunning) continue;
      const tableAt = (slots.at + (place - 1) * slots.bytes + slots.tableAt) >> 2;
      let mine = 0;
      for (let i = 0; i < Math.ceil(options.ctx / 32); i++) {
        const entry = u32[tableAt + i]!;
        if (entry === 0xffffffff) continue;
        mine++;
        if (entry >= SWAPPED) out++;
        else named.add(entry / pageBytes);
        expect(!(s.isServer && entry >= SWAPPED), () => `a page of server ${s.id} is out`);
      }
      expect(mine * 32 >= s.get('pos'), () => `session ${s.id} has ${mine} pages for ${s.get('pos')} positions`);
    }
    const f = pool.figures();
    expect(
      f.free + f.cached + named.size === f.total,
      () => `${f.free} free + ${f.cached} cached + ${named.size} named of ${f.total} pages`,
    );
    expect(f.swapped === out, () => `${f.swapped} pages are said to be out, tables name ${out}`);
  }

  /** What is reserved is what live sessions have reserved. */
  private checkLedgers(): void {
    const { table, quotas, sched } = this.service;
    const live = table.live();
    for (const uid of new Set(live.map(s => s.uid))) {
      const own = live.filter(s => s.uid === uid);
      const sum = (of: (s: Session) => number): number => own.reduce((n, s) => n + of(s), 0);
      const q = quotas.get(uid);
      expect(
        q.tokensReserved === sum(s => s.get('reservedTokens')),
        () => `user ${uid}: ${q.tokensReserved} tokens reserved`,
      );
      expect(
        q.cyclesReserved === sum(s => s.u64('wcetCycles')),
        () => `user ${uid}: ${q.cyclesReserved} cycles reserved`,
      );
      expect(q.kvBytesUsed === sum(s => s.u64('kvBytes')), () => `user ${uid}: ${q.kvBytesUsed} KV bytes`);
      expect(q.sessionsUsed === own.length, () => `user ${uid}: ${q.sessionsUsed} sessions`);
    }
    const servers = live.filter(s => s.isServer);
    const others = sched.server(TRAIN_SLOT).kind === SERVER.none ? 0 : 1; // a training's
    expect(sched.figures().servers === servers.length + others, () => `${sched.figures().servers} servers`);
    if (sched.policy !== 'edf') this.missed = sched.figures().misses; // the others promise nothing
    expect(sched.figures().misses === this.missed, () => 'a deadline was missed');
  }
}

const kernelText = (b: Bench): string =>
  `${b.kernel.sessions.list(0)}${JSON.stringify(b.kernel.pool.figures())} ${JSON.stringify(b.kernel.sessions.schedule())} slack ${b.kernel.sched.slack(b.kernel.clock.cycles())} ${b.kernel.clock.cycles()} ${JSON.stringify(b.service.table.live().map(s => [s.id, s.isAwake, s.isSuspended, s.output.isFull, s.get('pos')]))}`;

export { SERVER, SESSION_FLAG, type Caller };
