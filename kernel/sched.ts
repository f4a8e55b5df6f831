// The scheduler: which session's step runs next. A session with a server is promised Q cycles every T (constant bandwidth servers, Abeni and
// Buttazzo 1998), dispatched earliest deadline first; the others share what is left. A step is not preempted (limited preemption, Baruah 2005),
// so admission counts the longest segment as blocking, and `slack` says what may run out of turn without a deadline missed. Pure: no clock, `now`
// is passed in; whole cycles, sums below 2⁵³; every server lies in an arena record. docs/SCHED.md says why and how it is checked.

import {
  LIMITS,
  layout,
  POLICY,
  refuse,
  SERVER,
  type ArenaView,
  type Policy,
  type Refusal,
  type SchedReport,
} from './abi/index.ts';
import { panic } from './panic.ts';

/** A session to be scheduled, best effort or with a server. */
export const ServerRecord = layout({
  session: 'u32', // id; 0: the slot is free
  kind: 'u32', // SERVER
  state: 'u32', // STATE
  priority: 'u32', // 0 is the most urgent; for the policy fp
  budget: 'u64', // Q, cycles a period
  period: 'u64', // T, cycles
  remaining: 'u64', // of the budget; Q unless ready
  begin: 'u64', // of its period, whose deadline is begin + T; throttled: its refill; asleep: its period begins no sooner
  turn: 'u64', // the least goes first: cycles had of time that no server was due, or when it ran last (rr)
  misses: 'u32', // of its deadlines
  background: 'u32', // 1: beyond its server it gets what nobody else wants
});
const field = ServerRecord.at;
const STATE = { asleep: 0, ready: 1, throttled: 2 } as const;

/** Behind the slots of sessions: the training's. */
export const TRAIN_SLOT = LIMITS.sessionsMax;
/** What it is in place of a session's id. */
export const TRAINING = 0xffffffff;
const SLOTS = LIMITS.sessionsMax + 1;
/** Bytes of the scheduler's table: 33 × 64 B = 2,112 B. */
export const SCHED_BYTES = SLOTS * ServerRecord.bytes;

/** Periods are shorter, and soft servers further ahead are served without being charged, so that every sum stays below 2⁵³. */
const HORIZON = 2 ** 51;
const MILLION = 1_000_000;

/** Less urgent than any priority. */
const BACKGROUND = 2 ** 32;

/** Who wants a server. Times in cycles. */
export interface ServerOptions {
  readonly session: number;
  readonly kind: typeof SERVER.hard | typeof SERVER.soft;
  readonly budget: number; // at least its dearest step
  readonly period: number;
  readonly priority: number;
  readonly background?: 0 | 1;
  /** The period was not asked for: it is what a deadline leaves after this long. */
  readonly lead?: number;
}

/** What the scheduler tells, and how it writes a time in a refusal. */
export interface SchedulerHost {
  /** Cycles in words, e.g. `25 ms`. */
  show(cycles: number): string;
  /** A deadline passed with budget left for a step. */
  onMiss(slot: number, lateCycles: number): void;
  /** Its budget does not hold its next step: until `begin` it waits (hard), or is served like best effort, its deadline postponed (soft). */
  onThrottle(slot: number, begin: number): void;
  /** A budget is whole again. */
  onRefill(slot: number, budget: number): void;
}

/** The bound of a session's next step, in cycles, at least 1. */
export type StepCost = (slot: number) => number;

/** A server's demands in a test of admission. */
interface Demand {
  readonly session: number;
  readonly budget: number;
  readonly period: number;
}

// Servers. The state is (begin, remaining): a period that began at `begin`, what remains of its budget Q, the deadline begin + T. What it has used
// is also a time, the virtual time v = begin + ⌈(Q − remaining) · T/Q⌉: until then its use so far entitles it at the rate U = Q/T. When its next
// step does not fit what remains, and when it wakes, a new period begins with a whole budget, at v, or now if that is later. So nothing is lost
// where steps do not fill budgets, and who wakes has a period before its deadline. (The classic rule keeps the old deadline on waking if the rate
// allows it; a segment in progress may have made that impossible already.) A hard server waits until its period begins. A soft one goes on at
// once, its deadline postponed: it is ahead, and served like best effort until the period begins. Where steps fill budgets this is the
// textbook's server: a budget used up means v = deadline.
//
// Why no deadline is missed. At time t give each server a pair (c, d): awake, what remains and its deadline; throttled or asleep, Q and
// max(begin, t) + T. By any D ≥ d it can ask for at most c + U·(D − d), as each period after d brings Q; before d for nothing. Let
//     σ(D) = D − t − Σ_{d ≤ D} (c + U·(D − d)).
// Claim: at every scheduling point σ(D) ≥ 0 at every D that is not before the first d. Then nobody who has a step to run has d ≤ t.
// (1) Changes of state do not lower σ. Waking, sleeping, refilling and postponing put (Q, e) for (c, d), with e − T ≥ d − c/U: then the line
//     c + U·(D − d) = U·(D − (d − c/U)) does not rise, and e ≥ d, because c ≤ Q.
// (2) Who is asleep, throttled or ahead, or begins only now, has d ≥ t + T and asks for at most U·(D − t) by D ≥ t + T. So up to the first
//     deadline of those that began before, and wherever there are none,
//         σ(D) ≥ L · (1 − Σ_{T ≤ L} U) ≥ B,    L = D − t.
//     Admission wants Ti · (1 − Σ_{Tk ≤ Ti} Uk) ≥ B for every server i, B the longest segment: take the longest Ti ≤ L.
// (3) Call a server due when it is awake and its period has begun. A step of C ≤ B cycles of the due server with the earliest deadline e: t grows
//     by the time it took, and c falls by what it is charged, which is no less; σ(D) does not fall for D ≥ e. For D < e it was B at least, by (2).
//     Where nobody is due, any segment of at most B may run, or none, also by (2).
// (4) Work out of turn of X cycles lowers every σ by X: it may run if X ≤ σ(D) for all D ≥ the first d. Between two d's σ is a line of slope
//     1 − ΣU ≥ 0, so the least is at one of them: that is `slack`. In one segment with a due step of C, D < e bear C + X, the others X.
// (5) A new server is asleep, and its first period begins no sooner than leaves σ ≥ 0 (`firstBegin`). One that goes takes its demand with it.
// It rests on segments that take no longer than their bounds, and on nothing else that sessions do.

export class Scheduler {
  policy: Policy = 'edf';
  boundPpm: number = LIMITS.utilisationPpm;
  private blocking = 0; // B that the admitted servers bear
  private accepted = 0;
  private rejected = 0;
  private misses = 0;
  private lastTurn = 0; // of who ran last in turn

  constructor(
    private readonly arena: ArenaView,
    /** SCHED_BYTES in the kernel tables, a multiple of 8. */
    private readonly at: number,
    private readonly host: SchedulerHost,
  ) {}

  // ── Who is there ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Another policy, only while no server is admitted, or another bound for servers to come. */
  configure(policy: Policy, boundPpm: number): Refusal | null {
    if (!POLICY.includes(policy)) return refuse('INVAL', 7001, `no policy ${policy}: ${POLICY.join(', ')}`);
    if (!(boundPpm >= 1 && boundPpm <= MILLION))
      return refuse('INVAL', 7001, `a bound of ${boundPpm} ppm: 1 to ${MILLION}`);
    const servers = this.servers().length;
    if (policy !== this.policy && servers > 0)
      return refuse('BUSY', 3002, `the policy stays ${this.policy} while ${servers} servers are admitted`);
    this.policy = policy;
    this.boundPpm = boundPpm;
    return null;
  }

  /** Another longest segment, if the admitted servers bear it. */
  segment(blocking: number): Refusal | null {
    const late = delayed(this.demands(), blocking);
    if (late !== null)
      return refuse(
        'BUSY',
        3002,
        `a segment of ${this.host.show(blocking)} would be too long for ${whose(late)} server`,
      );
    this.blocking = blocking;
    return null;
  }

  /**
   * A server for the session in `slot`, asleep, its first period to begin at `fromAt` or as soon after it as those who are due leave room.
   * `blocking`: the longest segment that may run unbroken, of anybody. Refused (3002) where Σ⌊Q·10⁶/T⌋ passes the bound, or the segment could
   * delay a server past a deadline.
   */
  admit(slot: number, s: ServerOptions, now: number, blocking: number, fromAt = now): Refusal | null {
    const refusal = this.test(s, blocking);
    const counts = s.background === 1 ? 0 : 1; // figures are of sessions
    if (refusal !== null) {
      this.rejected += counts;
      return refusal;
    }
    this.accepted += counts;
    this.blocking = blocking;
    this.put(slot, { ...s, remaining: s.budget });
    this.set(slot, 'begin', this.firstBegin(slot, now, fromAt));
    return null;
  }

  /** A session without a server, asleep. */
  addBestEffort(slot: number, s: Pick<ServerOptions, 'session' | 'priority' | 'background'>): void {
    this.put(slot, s);
  }

  remove(slot: number): void {
    ServerRecord.write(this.arena.u8, this.recordAt(slot), {});
  }

  /** It has a step to run, since `now`: a moment that may lie within the segment that has just ended. */
  wake(slot: number, now: number): void {
    if (this.word(slot, 'session') === 0) panic(`slot ${slot} has nothing to schedule`);
    if (this.word(slot, 'state') !== STATE.asleep) return;
    if (this.isServer(slot)) this.beginPeriod(slot, Math.max(this.get(slot, 'begin'), now), now);
    else this.setState(slot, STATE.ready);
    this.joinTurn(slot, now);
  }

  /** It has none: it waits for its reader, its pace or memory. */
  sleep(slot: number): void {
    if (this.word(slot, 'state') === STATE.asleep) return;
    if (this.isServer(slot)) {
      this.set(slot, 'begin', this.virtual(slot));
      this.set(slot, 'remaining', this.get(slot, 'budget'));
    }
    this.setState(slot, STATE.asleep);
  }

  // ── Who runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The slot to run next, or -1. */
  pick(now: number, cost: StepCost): number {
    return this.order(now, cost)[0] ?? -1;
  }

  /**
   * All that can run, in order of dispatch. edf: servers that are due by deadline, then the others in turn; fp: by priority, equals in turn;
   * rr: in turn. Ties go to the lowest session id. What is in the background comes behind all others, but takes its turn under rr.
   */
  order(now: number, cost: StepCost): readonly number[] {
    this.advance(now, cost);
    const key = (slot: number): readonly number[] => {
      const id = this.word(slot, 'session');
      if (!this.isInTurn(slot, now)) return [-1, this.deadline(slot), id];
      const rank = this.policy === 'fp' ? this.word(slot, 'priority') : 0;
      return [rank + (this.isBackground(slot) ? BACKGROUND : 0), this.get(slot, 'turn'), id];
    };
    const keyed = this.ready().map(slot => ({ slot, key: key(slot) }));
    keyed.sort((a, b) => a.key[0]! - b.key[0]! || a.key[1]! - b.key[1]! || a.key[2]! - b.key[2]!);
    return keyed.map(({ slot }) => slot);
  }

  /** Its step ended now and took `cycles`, no more than its bound. Comes before the next `advance`. */
  charge(slot: number, cycles: number, now: number): void {
    if (this.isInTurn(slot, now)) {
      this.lastTurn = this.policy === 'rr' ? this.lastTurn + 1 : this.get(slot, 'turn') + cycles;
      this.set(slot, 'turn', this.lastTurn);
    }
    if (!this.isServer(slot) || this.get(slot, 'begin') > now + HORIZON) return;
    const remaining = this.get(slot, 'remaining') - cycles;
    if (remaining < 0 && this.policy !== 'rr')
      panic(`session ${this.word(slot, 'session')} used ${-remaining} cycles too many`);
    this.set(slot, 'remaining', Math.max(0, remaining));
    if (now > this.deadline(slot)) this.miss(slot, now);
  }

  /** Brings all budgets and deadlines up to now. */
  advance(now: number, cost: StepCost): void {
    for (const slot of this.servers()) {
      if (this.word(slot, 'state') === STATE.throttled && this.get(slot, 'begin') <= now)
        this.beginPeriod(slot, this.get(slot, 'begin'), now);
      if (this.word(slot, 'state') !== STATE.ready) continue;
      const step = cost(slot);
      if (step <= this.get(slot, 'remaining')) {
        if (this.deadline(slot) <= now) this.miss(slot, now);
        continue;
      }
      if (step > this.get(slot, 'budget'))
        panic(`session ${this.word(slot, 'session')}: a step of ${step} passes its budget`);
      if (this.policy === 'rr') {
        if (this.deadline(slot) <= now) this.nextPeriod(slot, now);
        continue;
      }
      const begin = this.virtual(slot);
      if (begin > now) this.host.onThrottle(slot, begin);
      this.beginPeriod(slot, begin, now);
    }
  }

  /** The earliest refill that a throttled server waits for, or null. */
  nextEvent(): number | null {
    let next: number | null = null;
    for (const slot of this.servers()) {
      if (this.word(slot, 'state') !== STATE.throttled) continue;
      next = Math.min(next ?? Infinity, this.get(slot, 'begin'));
    }
    return next;
  }

  // ── What is promised ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Cycles that work out of turn may take from now, unbroken, and no admitted server misses a deadline. `beside`: the bound of the step first
   * in order, where the work shares its segment. Infinity where nothing is promised. Comes after `advance` or `order` for the same now.
   */
  slack(now: number, beside = 0): number {
    if (this.policy !== 'edf') return Infinity;
    const room = this.room(now, beside);
    // (2) in exact numbers; `room` is rounded down.
    return Math.max(0, room, this.begun(now) ? 0 : this.blocking - beside);
  }

  /**
   * Cycles from now within which steps of these bounds end, one after the other without sleep between them, whatever others do. Steps that what
   * remains holds end by the deadline. Else a step may end as late as T after the virtual time that the steps before it make; packing bounds into
   * budgets would promise too much, as a step that takes less may move a later one into the next period. Infinity where nothing is promised.
   */
  responseBound(slot: number, steps: Iterable<number>, now: number): number {
    if (!this.isServer(slot) || this.policy !== 'edf') return Infinity;
    let sum = 0;
    let last = 0;
    let count = 0;
    for (const step of steps) {
      sum += step;
      last = step;
      count++;
    }
    const asleep = this.word(slot, 'state') === STATE.asleep;
    const begin = asleep ? Math.max(this.get(slot, 'begin'), now) : this.get(slot, 'begin');
    const period = this.get(slot, 'period');
    if (sum <= this.get(slot, 'remaining')) return begin + period - now;
    const used = this.get(slot, 'budget') - this.get(slot, 'remaining');
    // Each new period rounds the virtual time up by at most one cycle.
    return begin + period - now + quotient(used + sum - last, period, this.get(slot, 'budget')) + count;
  }

  /** The deadline of its present or next period; read before `advance` it is that of the step that has ended. */
  deadline(slot: number): number {
    return this.get(slot, 'begin') + this.get(slot, 'period');
  }

  /** Cycles of its budget that are left: what its next segment may take. */
  remaining(slot: number): number {
    return this.get(slot, 'remaining');
  }

  server(slot: number): ReturnType<typeof ServerRecord.read> {
    return ServerRecord.read(this.arena.u8, this.recordAt(slot));
  }

  figures(): Pick<
    ReturnType<typeof SchedReport.read>,
    'policy' | 'boundPpm' | 'usedPpm' | 'accepted' | 'rejected' | 'misses' | 'servers'
  > {
    return {
      policy: POLICY.indexOf(this.policy),
      boundPpm: this.boundPpm,
      usedPpm: this.usedPpm(),
      accepted: this.accepted,
      rejected: this.rejected,
      misses: this.misses,
      servers: this.servers().length,
    };
  }

  // ── Admission ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private test(s: ServerOptions, blocking: number): Refusal | null {
    if (![s.budget, s.period].every(n => n >= 1 && n <= HORIZON))
      return refuse('INVAL', 7001, `a server of ${s.budget} cycles every ${s.period}: both are 1 to ${HORIZON}`);
    const used = this.usedPpm();
    const ppm = utilisationPpm(s.budget, s.period);
    const left = Math.max(0, this.boundPpm - used);
    const fits = (period: number): boolean =>
      utilisationPpm(s.budget, period) <= left && delayed([...this.demands(), { ...s, period }], blocking) === null;
    if (fits(s.period)) return null;
    const asked = `${s.budget} cycles every ${this.host.show(s.period)} are ${ppm} ppm; servers use ${used} of ${this.boundPpm}, ${left} left`;
    const late = delayed([...this.demands(), s], blocking);
    const why =
      ppm > left || late === null
        ? ''
        : `; ${late === s.session ? 'its' : whose(late)} deadlines must bear a segment of ${this.host.show(blocking)} (llmctl sched --segment-max)`;
    const shortest = least(s.period, HORIZON, fits);
    const [what, lead] = s.lead === undefined ? ['period', 0] : ['deadline', s.lead];
    const advice =
      shortest === null
        ? `no ${what} would do`
        : `the shortest ${what} that would do is ${this.host.show(shortest + lead)}`;
    return refuse('AGAIN', 3002, `${asked}${why}; ${advice}`);
  }

  private usedPpm(): number {
    return this.demands().reduce((sum, s) => sum + utilisationPpm(s.budget, s.period), 0);
  }

  private demands(): Demand[] {
    return this.servers().map(slot => ({
      session: this.word(slot, 'session'),
      budget: this.get(slot, 'budget'),
      period: this.get(slot, 'period'),
    }));
  }

  /** The earliest begin of a new server's first period with σ ≥ 0; by (2) that is any, where nobody awake has begun before now. */
  private firstBegin(slot: number, now: number, fromAt: number): number {
    if (this.policy !== 'edf' || !this.begun(now)) return fromAt;
    const fits = (begin: number): boolean => {
      this.set(slot, 'begin', begin);
      return this.room(now, 0, this.deadline(slot)) >= 0;
    };
    if (fits(fromAt)) return fromAt;
    let later = this.get(slot, 'period');
    while (!fits(fromAt + later)) later *= 2;
    return least(fromAt, fromAt + later, fits)!;
  }

  /** Whether somebody awake began before now: where nobody did, (2) holds for every D. */
  private begun(now: number): boolean {
    return this.servers().some(slot => this.word(slot, 'state') !== STATE.asleep && this.get(slot, 'begin') < now);
  }

  /**
   * The least σ(D) over all d not before `fromAt`, less `beside` where no due server has its deadline by D; rounded down, Infinity without
   * servers. Sums are of doubles: fewer than 2⁸ operations on numbers of one sign, each wrong by a factor within 1 ± 2⁻⁵³, so that a factor of
   * 1 + 2⁻⁴⁴ makes upper bounds of them.
   */
  private room(now: number, beside: number, fromAt = now): number {
    const lines = this.servers().map(slot => {
      const asleep = this.word(slot, 'state') === STATE.asleep;
      const begin = asleep ? Math.max(this.get(slot, 'begin'), now) : this.get(slot, 'begin');
      const period = this.get(slot, 'period');
      const rate = this.get(slot, 'budget') / period;
      return { c: this.get(slot, 'remaining'), d: begin + period, rate, due: !asleep && begin <= now };
    });
    lines.sort((a, b) => a.d - b.d);
    let least = Infinity;
    let demand = 0; // Σ (c + U·(D − d)) at D = `upTo`
    let rate = 0; // ΣU of those counted
    let upTo = now;
    let due = false;
    for (const [i, line] of lines.entries()) {
      demand += rate * (line.d - upTo) + line.c;
      rate += line.rate;
      upTo = line.d;
      due ||= line.due;
      if (upTo < fromAt || lines[i + 1]?.d === upTo) continue;
      least = Math.min(least, upTo - now - Math.ceil(demand * (1 + 2 ** -44)) - (due ? 0 : beside));
    }
    return least;
  }

  // ── One server ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A whole budget for a period from `begin`, for which a hard server waits. */
  private beginPeriod(slot: number, begin: number, now: number): void {
    this.set(slot, 'begin', begin);
    this.set(slot, 'remaining', this.get(slot, 'budget'));
    if (begin > now && this.word(slot, 'kind') === SERVER.hard && this.policy !== 'rr')
      return this.setState(slot, STATE.throttled);
    this.setState(slot, STATE.ready);
    this.host.onRefill(slot, this.get(slot, 'budget'));
    if (begin > now) this.joinTurn(slot, now);
  }

  /** Comes among those who run in turn: not before them, whatever it had not had while it was away. */
  private joinTurn(slot: number, now: number): void {
    const others = this.ready().filter(
      other => other !== slot && this.isInTurn(other, now) && this.isBackground(other) === this.isBackground(slot),
    );
    const first = others.length === 0 ? this.lastTurn : Math.min(...others.map(other => this.get(other, 'turn')));
    this.set(slot, 'turn', Math.max(this.get(slot, 'turn'), first));
  }

  /** Its deadline has passed with budget left for a step. */
  private miss(slot: number, now: number): void {
    const late = now - this.deadline(slot);
    const periods = this.nextPeriod(slot, now);
    // The background's are told by whoever runs there.
    if (this.word(slot, 'background') === 0) this.misses += periods;
    this.arena.u32[(this.recordAt(slot) + field.misses) >> 2]! += periods;
    this.host.onMiss(slot, late);
  }

  /** The period in which now lies, on the grid of the last one; returns the deadlines passed. What was left of budgets is lost. */
  private nextPeriod(slot: number, now: number): number {
    const period = this.get(slot, 'period');
    const periods = 1 + Math.floor((now - this.deadline(slot)) / period);
    this.set(slot, 'begin', this.get(slot, 'begin') + periods * period);
    this.set(slot, 'remaining', this.get(slot, 'budget'));
    return periods;
  }

  /** From when on its use so far is no more than its rate: begin + ⌈used · T/Q⌉, which is the deadline − ⌊remaining · T/Q⌋. */
  private virtual(slot: number): number {
    return (
      this.deadline(slot) - quotient(this.get(slot, 'remaining'), this.get(slot, 'period'), this.get(slot, 'budget'))
    );
  }

  private isServer(slot: number): boolean {
    return this.word(slot, 'kind') !== SERVER.none;
  }
  /** Not dispatched by deadline: best effort, a soft server ahead of its time, everybody under the other policies. */
  private isInTurn(slot: number, now: number): boolean {
    return this.policy !== 'edf' || !this.isServer(slot) || this.get(slot, 'begin') > now;
  }

  /** It runs in turn only when nobody else does. */
  private isBackground(slot: number): boolean {
    return this.policy !== 'rr' && this.word(slot, 'background') !== 0;
  }

  // ── Records ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private slots(): number[] {
    const out: number[] = [];
    for (let slot = 0; slot < SLOTS; slot++) if (this.word(slot, 'session') !== 0) out.push(slot);
    return out;
  }
  private ready(): number[] {
    return this.slots().filter(slot => this.word(slot, 'state') === STATE.ready);
  }
  private servers(): number[] {
    return this.slots().filter(slot => this.isServer(slot));
  }
  private put(slot: number, record: Parameters<typeof ServerRecord.write>[2]): void {
    if (this.word(slot, 'session') !== 0) panic(`slot ${slot} is taken`);
    ServerRecord.write(this.arena.u8, this.recordAt(slot), record);
  }
  private recordAt(slot: number): number {
    return this.at + slot * ServerRecord.bytes;
  }
  private setState(slot: number, state: number): void {
    this.arena.u32[(this.recordAt(slot) + field.state) >> 2] = state;
  }
  private word(slot: number, name: 'session' | 'kind' | 'state' | 'priority' | 'background'): number {
    return this.arena.u32[(this.recordAt(slot) + field[name]) >> 2]!;
  }
  private get(slot: number, name: 'budget' | 'period' | 'remaining' | 'begin' | 'turn'): number {
    const i = (this.recordAt(slot) + field[name]) >> 2;
    return this.arena.u32[i]! + this.arena.u32[i + 1]! * 4294967296;
  }
  private set(slot: number, name: 'remaining' | 'begin' | 'turn', value: number): void {
    const i = (this.recordAt(slot) + field[name]) >> 2;
    this.arena.u32[i] = value % 4294967296;
    this.arena.u32[i + 1] = Math.floor(value / 4294967296);
  }
}

const whose = (session: number): string => (session === TRAINING ? "the training's" : `session ${session}'s`);

/** ⌊Q · 10⁶ / T⌋ */
export function utilisationPpm(budget: number, period: number): number {
  return quotient(budget, MILLION, period);
}

/** ⌊a · b / c⌋ of whole numbers below 2⁵³, exact where the product passes that too. */
function quotient(a: number, b: number, c: number): number {
  return a * b <= Number.MAX_SAFE_INTEGER ? Math.floor((a * b) / c) : Number((BigInt(a) * BigInt(b)) / BigInt(c));
}

/**
 * The session of the first server i by period for which Σ_{Tk ≤ Ti} Qk/Tk + B/Ti > 1, or null: then all meet their deadlines under EDF though
 * a segment of B is not preempted (Baker 1991). In exact fractions: sums of ⌊ppm⌋ would hide up to one millionth a server.
 */
function delayed(demands: readonly Demand[], blocking: number): number | null {
  const byPeriod = [...demands].sort((a, b) => a.period - b.period);
  let above = 0n; // Σ Qk/Tk = above / below
  let below = 1n;
  for (const [i, { session, budget, period }] of byPeriod.entries()) {
    const t = BigInt(period);
    above = above * t + BigInt(budget) * below;
    below *= t;
    if (byPeriod[i + 1]?.period === period) continue;
    if (above * t + BigInt(blocking) * below > below * t) return session;
  }
  return null;
}

/** The least whole number in (from, to] that passes a test which from fails and all larger ones pass too, or null. */
function least(from: number, to: number, passes: (n: number) => boolean): number | null {
  if (!passes(to)) return null;
  let low = from;
  let high = to;
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2);
    if (passes(middle)) high = middle;
    else low = middle;
  }
  return high;
}
