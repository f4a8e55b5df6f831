// A session: one inference request from submission to its last token. Everything that it is lies in its record in the arena; the object here
// is a handle on that record, with what waits outside the arena: its prompt's ids in storage and the output that nobody has read yet. Slots
// are taken again, ids never, and a handle carries the generation of its slot, so that an old one finds nothing (as Hubris' task ids do).

import {
  layout,
  LIMITS,
  NO_SLACK,
  SAMPLER_MODE,
  SERVER,
  SESSION_FLAG,
  SESSION_KIND,
  SESSION_STATE,
} from './abi/index.ts';
import type { ArenaView } from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { ROOT } from '../vfs/permission.ts';
import type { Scales } from './adapters.ts';
import { addU64 } from './clock.ts';
import type { Output } from './output.ts';
import type { Bound, Draw, Segment } from './wcet/price.ts';

/** A session's record in the kernel tables. */
export const SessionRecord = layout({
  id: 'u32', // 0: free
  generation: 'u32', // of the slot: rises with every session in it
  state: 'u32', // index into SESSION_STATE
  finish: 'u32', // index into FINISH
  kind: 'u32', // SESSION_KIND
  uid: 'u32',
  pid: 'u32', // of the process that submitted it
  flags: 'u32', // SESSION_FLAG
  model: 'u32', // Loader.generation that its tokens belong to
  place: 'u32', // 1 + the engine's slot that holds its history; 0: none
  promptTokens: 'u32', // a score session's: text tokens of finished chunks
  outputTokens: 'u32',
  pos: 'u32', // tokens whose keys and values are in the pool
  priced: 'u32', // positions that it was charged for, as if alone
  scoredTo: 'u32', // a score session's: positions of its chunk whose losses are in the sum
  chunk: 'u32', // rows of one of its steps at most
  maxTokens: 'u32',
  logitsK: 'u32',
  seed: 'i32',
  rng: 'u32', // RNG
  scored: 'u32',
  temp: 'f32',
  topK: 'u32',
  topP: 'f32',
  minP: 'f32',
  repeatPenalty: 'f32',
  scale0: 'f32', // of the applied adapters
  scale1: 'f32',
  scale2: 'f32',
  scale3: 'f32',
  parent: 'u32',
  priority: 'u32',
  server: 'u32', // SERVER
  sharedTokens: 'u32',
  swapIns: 'u32', // pages
  misses: 'u32',
  preemptions: 'u32',
  pages: 'u32', // that it had when it ended
  reservedTokens: 'u32', // of its user's quota
  budgetTokens: 'u32', // of the machine's period
  rngState0: 'u32', // 16 bytes: xor128's x y z w, or the LCG's x
  rngState1: 'u32',
  rngState2: 'u32',
  rngState3: 'u32',
  logits0: 'u32', // checksum over its logits so far, see SessionReport
  logits1: 'u32',
  logits2: 'u32',
  logits3: 'u32',
  nllSum: 'f64',
  cycles: 'u64', // charged so far
  wcetCycles: 'u64', // it cannot be charged more
  bcetCycles: 'u64', // nor, with its first token, less
  stepMaxCycles: 'u64', // its dearest step of one row
  kvBytes: 'u64', // of its user's quota
  budgetCycles: 'u64', // of its server
  periodNs: 'u64',
  deadlineNs: 'u64', // of the whole request, on the clock; 0 = none
  responseNs: 'u64',
  slackNs: 'u64', // NO_SLACK: no job has ended
  timeoutNs: 'u64', // it ends after that moment; 0 = never
  pacedNs: 'u64', // it draws no token before
  submittedNs: 'u64',
  beganNs: 'u64',
  firstTokenNs: 'u64',
  ranNs: 'u64', // the end of its last step
  endedNs: 'u64',
  arenaPeak: 'u64',
});
const at = SessionRecord.at;

const stateIndex = (s: (typeof SESSION_STATE)[number]): number => SESSION_STATE.indexOf(s);
export const STATE = {
  queued: stateIndex('QUEUED'),
  prefill: stateIndex('PREFILL'),
  decode: stateIndex('DECODE'),
  done: stateIndex('DONE'),
  faulted: stateIndex('FAULTED'),
  cancelled: stateIndex('CANCELLED'),
  timeout: stateIndex('TIMEOUT'),
} as const;

/** What a charge should have been and was: to audit. `what`: a segment, a step that drew a token, the whole session, or a pass of several. */
export interface Breach extends Bound {
  readonly what: Segment | 'step' | 'session' | 'pass' | 'training';
  readonly session: number;
  readonly outputTokens: number;
  readonly pos: number; // of the first token of the step
  readonly charged: number;
}

type Field = keyof (typeof SessionRecord)['fields'];

export class Session {
  /** Cancelled from outside: it ends before its next step. */
  isCancelled = false;
  /** The scheduler knows it as runnable. */
  isAwake = false;
  /** Its pages are wanted, or were, by others: it waits until there are enough again. */
  isSuspended = false;
  /** A server's pages are there, all that it can need. */
  isResident = false;
  /** A stream's next token is counted in the period's budget already: its logits were not to be had when it was. */
  isGranted = false;
  /** Weights that could not be read in its turn: what, from where and why; '' = none. */
  fault = '';
  /** Number of the audit record of its end, once it has ended. */
  endRecord = Infinity;
  /** Charged to it since its step began. */
  stepCycles = 0;
  /** What its keys and values begin from, see Roots. */
  root = 0;

  constructor(
    private readonly arena: ArenaView,
    readonly slot: number,
    readonly recordAt: number,
    readonly output: Output,
    /** Token ids in storage still to be run: the prompt of a queued session, the text of a score session. */
    readonly ids: OpenFile,
    readonly idCount: number,
    readonly draw: Draw,
  ) {}

  /** Its generator's state. */
  get rngAt(): number {
    return this.recordAt + at.rngState0;
  }
  /** Its checksum over logits, four lanes. */
  get logitsSumAt(): number {
    return this.recordAt + at.logits0;
  }
  get id(): number {
    return this.get('id');
  }
  get handle(): number {
    return this.get('generation') * LIMITS.sessionsMax + this.slot;
  }
  get uid(): number {
    return this.get('uid');
  }
  /** Users see sessions of their own, the superuser all. */
  isSeenBy(uid: number): boolean {
    return uid === ROOT.euid || uid === this.uid;
  }
  get isScore(): boolean {
    return this.get('kind') === SESSION_KIND.score;
  }
  get isServer(): boolean {
    return this.get('server') !== SERVER.none;
  }
  get isDetached(): boolean {
    return this.has(SESSION_FLAG.detached);
  }
  get isQueued(): boolean {
    return this.get('state') === STATE.queued;
  }
  get hasEnded(): boolean {
    return this.get('state') >= STATE.done;
  }
  /** It left the queue and has not ended. */
  get isRunning(): boolean {
    return !this.isQueued && !this.hasEnded;
  }

  has(flag: number): boolean {
    return (this.get('flags') & flag) !== 0;
  }
  /** hot */
  get(field: Field): number {
    return this.arena.u32[(this.recordAt + at[field]) >> 2]!;
  }
  set(field: Field, value: number): void {
    this.arena.u32[(this.recordAt + at[field]) >> 2] = value;
  }
  f32(field: Field): number {
    return this.arena.f32[(this.recordAt + at[field]) >> 2]!;
  }
  u64(field: Field): number {
    const i = (this.recordAt + at[field]) >> 2;
    return this.arena.u32[i]! + this.arena.u32[i + 1]! * 4294967296;
  }
  setU64(field: Field, value: number): void {
    const i = (this.recordAt + at[field]) >> 2;
    this.arena.u32[i] = value % 4294967296;
    this.arena.u32[i + 1] = Math.floor(value / 4294967296);
  }
  /** hot: what it did costs it so much; the clock has its own account. */
  charge(cycles: number): void {
    addU64(this.arena.u32, (this.recordAt + at.cycles) >> 2, cycles);
    this.stepCycles += cycles;
  }
  get scales(): Scales {
    const [scale0, scale1, scale2, scale3] = [
      this.f32('scale0'),
      this.f32('scale1'),
      this.f32('scale2'),
      this.f32('scale3'),
    ];
    return { scale0, scale1, scale2, scale3 };
  }
  addLoss(loss: number): void {
    const i = (this.recordAt + at.nllSum) >> 3;
    this.arena.f64[i] = this.arena.f64[i]! + loss;
    this.set('scored', this.get('scored') + 1);
  }
  get nllSum(): number {
    return this.arena.f64[(this.recordAt + at.nllSum) >> 3]!;
  }
  /** A server's job has ended with so much time left. */
  noteSlack(ns: number): void {
    const least = this.u64('slackNs');
    if (least === NO_SLACK || ns < least) this.setU64('slackNs', ns);
  }
}

/** Who asks: a process, with its user's rights. */
export interface Caller {
  readonly pid: number;
  readonly uid: number; // effective
}

/** Who asks for a session: that somebody may have one is a matter of groups too. */
export interface Submitter extends Caller {
  readonly groups: readonly number[]; // the effective one and the others
}

/** All sessions, by slot. */
export class SessionTable {
  private readonly slots: (Session | null)[] = Array.from({ length: LIMITS.sessionsMax }, () => null);
  private nextId = 1;
  /** Sessions with a server that have not ended. */
  servers = 0;

  constructor(
    private readonly arena: ArenaView,
    private readonly sessionsAt: number,
  ) {}

  /** The lowest slot that is free, or -1. */
  freeSlot(): number {
    return this.slots.indexOf(null);
  }
  recordAt(slot: number): number {
    return this.sessionsAt + slot * SessionRecord.bytes;
  }

  /** Puts a session into a free slot under the next id. */
  add(s: Session, record: Parameters<typeof SessionRecord.write>[2]): void {
    // 2²⁶ generations of 32 slots fill an i32 that is not negative; 0 is left out, so that no handle is 0.
    const generation = (s.get('generation') % (2 ** 26 - 1)) + 1;
    SessionRecord.write(this.arena.u8, s.recordAt, { ...record, id: this.nextId++, generation });
    this.slots[s.slot] = s;
  }
  remove(s: Session): void {
    s.set('id', 0);
    this.slots[s.slot] = null;
  }

  at(slot: number): Session | null {
    return this.slots[slot] ?? null;
  }
  find(handle: number): Session | null {
    const s = handle >= 0 ? this.at(handle % LIMITS.sessionsMax) : null;
    return s !== null && s.handle === handle ? s : null;
  }
  /** In order of ids: as they came. */
  all(): Session[] {
    return this.slots.filter(s => s !== null).sort((a, b) => a.id - b.id);
  }
  byId(id: number): Session | null {
    return this.slots.find(s => s?.id === id) ?? null;
  }
  live(): Session[] {
    return this.all().filter(s => !s.hasEnded);
  }
  /** Ended sessions that nobody holds open, the longest ended first: their memory may be taken. */
  evictable(): Session[] {
    return this.all()
      .filter(s => s.hasEnded && s.isDetached)
      .sort((a, b) => a.u64('endedNs') - b.u64('endedNs'));
  }
}

/** Which stages of the sampler these settings switch on. Temperature 0 and top-k 1 leave nothing to draw. */
export function drawOf(o: {
  readonly temp: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repeatPenalty: number;
}): Draw {
  const modes =
    (o.repeatPenalty === 1 ? 0 : SAMPLER_MODE.penalty) |
    (o.temp <= 0 || o.topK === 1 ? SAMPLER_MODE.greedy : 0) |
    (o.topP < 1 ? SAMPLER_MODE.topP : 0) |
    (o.minP > 0 ? SAMPLER_MODE.minP : 0);
  return { modes, topK: o.topK };
}
