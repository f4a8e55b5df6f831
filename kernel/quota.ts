// Quotas: what each user may take of the model, as a file system's disk quotas: tokens and cycles an hour, bytes of KV pages and sessions at
// any time. A request reserves the most it can take when it is admitted and is charged what it took when it ends, so that requests side by
// side cannot take more together than one after the other (an escrow; the specification's source counted at the check only). Hours are those
// of the machine's date. All figures lie in the arena; the number of users that have some is bounded.

import { isRefusal, layout, LIMITS, QUOTA_DEFAULTS, QUOTA_SET, QuotaRecord, refuse } from './abi/index.ts';
import type { ArenaView, RecordValue, Refusal } from './abi/index.ts';
import { ROOT } from '../vfs/permission.ts';
import { panic } from './panic.ts';

/** The machine's date: nanoseconds since power-on, which was at `bootEpochSeconds` after 1970. */
export interface DateClock {
  nowNs(): number;
  readonly bootEpochSeconds: number;
}

/** What a request takes at most, and in the end. */
export interface Usage {
  readonly tokens: number; // drawn
  readonly cycles: number;
}
export interface Reservation extends Usage {
  readonly kvBytes: number;
}

/** A user in the kernel tables: what the quota call shows, and what it does not. */
const UserRecord = layout({
  ...QuotaRecord.fields,
  taken: 'u32', // 0: the record is free
  touchedNs: 'u64', // last request or change
});
const field = UserRecord.at;
type User = RecordValue<typeof UserRecord.fields>;
type Quota = RecordValue<typeof QuotaRecord.fields>;

/** The defaults stand first, then the users: 17 × 104 B = 1,768 B. */
export const QUOTA_BYTES = (1 + LIMITS.quotaUsersMax) * UserRecord.bytes;

const HOUR_NS = 3600e9;
/** Every bit of QUOTA_SET. */
const OWN = QUOTA_SET.tokens | QUOTA_SET.cycles | QUOTA_SET.kv | QUOTA_SET.sessions;

/**
 * Of every user, at any time: used + reserved ≤ limit, unless the limit was lowered since. When an hour begins, `used` falls to 0 and what
 * is reserved stays so; what a request draws is charged to the hour it ends in. In any one hour no more is drawn than the limit: the requests
 * that drew it have been charged in it, or hold reservations at its end.
 */
export class Quotas {
  constructor(
    private readonly arena: ArenaView,
    /** QUOTA_BYTES in the kernel tables. */
    private readonly at: number,
    private readonly clock: DateClock,
    /** A user's name, for refusals. */
    private readonly nameOf: (uid: number) => string,
  ) {
    this.store(0, { ...newUser(QUOTA_DEFAULTS), tokensPerHour: LIMITS.tokensPerHour });
  }

  /** Reserves for a request and counts a session of the user; or EDQUOT 3003, and only the refusal is counted. */
  admit(uid: number, asked: Reservation): Refusal | null {
    const i = this.claim(uid);
    if (isRefusal(i)) return i;
    const user = this.user(i);
    const refusal = this.check(user, asked);
    if (refusal === null) {
      user.tokensReserved += asked.tokens;
      user.cyclesReserved += asked.cycles;
      user.kvBytesUsed += asked.kvBytes;
      user.sessionsUsed++;
    } else user.refused++;
    this.store(i, user);
    return refusal;
  }

  /** A request has ended: `used` of what it reserved is charged, the rest is given back. It cannot have drawn more tokens than reserved. */
  settle(uid: number, reserved: Reservation, used: Usage): void {
    const i = this.find(uid);
    if (i < 0) panic(`user ${uid} has no quota record to settle with`);
    const user = this.user(i);
    if (
      used.tokens > reserved.tokens ||
      reserved.tokens > user.tokensReserved ||
      reserved.cycles > user.cyclesReserved ||
      reserved.kvBytes > user.kvBytesUsed ||
      user.sessionsUsed === 0
    )
      panic(`user ${uid} gives back more than was reserved`);
    user.tokensReserved -= reserved.tokens;
    user.tokensUsed += used.tokens;
    user.cyclesReserved -= reserved.cycles;
    user.cyclesUsed += used.cycles;
    user.kvBytesUsed -= reserved.kvBytes;
    user.sessionsUsed--;
    this.store(i, user);
  }

  /** Limits in force and figures of now, of anybody: who has no record has used nothing. QUOTA_DEFAULTS: the default limits. */
  get(uid: number): Quota {
    const i = this.find(uid);
    const user = i < 0 ? this.current(newUser(uid)) : this.user(i);
    return this.shown(user);
  }

  /** Sets the limits that `wanted.set` names, for one user or as defaults. */
  set(wanted: Pick<Quota, 'uid' | 'set' | 'tokensPerHour' | 'cyclesPerHour' | 'kvBytes' | 'sessions'>): Refusal | null {
    const i = this.claim(wanted.uid);
    if (isRefusal(i)) return i;
    const user = this.user(i);
    if ((wanted.set & QUOTA_SET.tokens) !== 0) user.tokensPerHour = wanted.tokensPerHour;
    if ((wanted.set & QUOTA_SET.cycles) !== 0) user.cyclesPerHour = wanted.cyclesPerHour;
    if ((wanted.set & QUOTA_SET.kv) !== 0) user.kvBytes = wanted.kvBytes;
    if ((wanted.set & QUOTA_SET.sessions) !== 0) user.sessions = wanted.sessions;
    user.set |= wanted.set & OWN;
    this.store(i, user);
    return null;
  }

  /** All that have records, by user id: what /proc/quotas shows. */
  list(): Quota[] {
    const users: Quota[] = [];
    for (let i = 1; i <= LIMITS.quotaUsersMax; i++) {
      const user = this.user(i);
      if (user.taken !== 0) users.push(this.shown(user));
    }
    return users.sort((a, b) => a.uid - b.uid);
  }

  // ── Limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A record as the quota call shows it, with the limits in force. */
  private shown(user: User): Quota {
    const { taken: _, touchedNs: __, ...quota } = user;
    return { ...quota, ...this.limits(user) };
  }

  /** A user's own, and the defaults for the rest. */
  private limits(user: User): Pick<Quota, 'tokensPerHour' | 'cyclesPerHour' | 'kvBytes' | 'sessions'> {
    const others = user.uid === ROOT.euid ? newUser(ROOT.euid) : UserRecord.read(this.arena.u8, this.at);
    const own = (bit: number): User => ((user.set & bit) !== 0 ? user : others);
    return {
      tokensPerHour: own(QUOTA_SET.tokens).tokensPerHour,
      cyclesPerHour: own(QUOTA_SET.cycles).cyclesPerHour,
      kvBytes: own(QUOTA_SET.kv).kvBytes,
      sessions: own(QUOTA_SET.sessions).sessions,
    };
  }

  private check(user: User, asked: Reservation): Refusal | null {
    const { tokensPerHour, cyclesPerHour, kvBytes, sessions } = this.limits(user);
    const who = `user ${this.nameOf(user.uid)} asked`;
    return (
      this.checkHour(
        `${who} ${counted(asked.tokens, 'token')}`,
        asked.tokens,
        tokensPerHour,
        user.tokensUsed,
        user.tokensReserved,
        user,
      ) ??
      this.checkHour(
        `${who} ${counted(asked.cycles, 'cycle')}`,
        asked.cycles,
        cyclesPerHour,
        user.cyclesUsed,
        user.cyclesReserved,
        user,
      ) ??
      (kvBytes !== 0 && user.kvBytesUsed + asked.kvBytes > kvBytes
        ? refuse(
            'DQUOT',
            3003,
            `${who} ${counted(asked.kvBytes, 'byte')} of KV pages, ${left(kvBytes, user.kvBytesUsed)} of ${kvBytes} left until a session ends`,
          )
        : null) ??
      (sessions !== 0 && user.sessionsUsed >= sessions
        ? refuse('DQUOT', 3003, `${who} a session, 0 of ${sessions} left until one ends`)
        : null)
    );
  }

  /** Limits are inclusive. */
  private checkHour(
    asks: string,
    asked: number,
    limit: number,
    used: number,
    reserved: number,
    user: User,
  ): Refusal | null {
    if (limit === 0 || used + reserved + asked <= limit) return null;
    const more =
      asked > limit
        ? `, and ${limit} an hour`
        : reserved > 0
          ? `; ${reserved} are reserved by sessions that have not ended`
          : '';
    return refuse(
      'DQUOT',
      3003,
      `${asks}, ${left(limit, used + reserved)} left until ${timeOfDay(this.clock, user.hourEndNs)}${more}`,
    );
  }

  // ── Records ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Index of a user's record, or -1. */
  private find(uid: number): number {
    const { u32 } = this.arena;
    for (let i = 0; i <= LIMITS.quotaUsersMax; i++) {
      const at = this.recordAt(i);
      if (u32[(at + field.taken) >> 2] !== 0 && u32[(at + field.uid) >> 2] === uid) return i;
    }
    return -1;
  }

  /**
   * A user's record, made where there is none. In a full table the user is forgotten that was longest without a request, of those who have no
   * limits of their own, no session, and nothing used in this hour: the defaults say as much of them.
   */
  private claim(uid: number): number | Refusal {
    const found = this.find(uid);
    if (found >= 0) return found;
    let best = -1;
    let oldestNs = Infinity;
    for (let i = 1; i <= LIMITS.quotaUsersMax; i++) {
      const user = this.user(i);
      const age = user.taken === 0 ? -1 : isIdle(user) ? user.touchedNs : Infinity;
      if (age < oldestNs) {
        best = i;
        oldestNs = age;
      }
    }
    if (best < 0)
      return refuse(
        'DQUOT',
        3003,
        `user ${this.nameOf(uid)} is one more than the ${LIMITS.quotaUsersMax} whose quotas are counted; none is idle until ${timeOfDay(this.clock, this.hourEndNs())}`,
      );
    this.store(best, newUser(uid));
    return best;
  }

  /** A record as of now. */
  private user(i: number): User {
    return this.current(UserRecord.read(this.arena.u8, this.recordAt(i)));
  }
  private current(user: User): User {
    if (this.clock.nowNs() < user.hourEndNs) return user;
    return { ...user, tokensUsed: 0, cyclesUsed: 0, hourEndNs: this.hourEndNs() };
  }
  private store(i: number, user: User): void {
    UserRecord.write(this.arena.u8, this.recordAt(i), { ...user, touchedNs: this.clock.nowNs() });
  }
  private recordAt(i: number): number {
    return this.at + i * UserRecord.bytes;
  }

  /** When the hour of the machine's date ends, on the clock. */
  private hourEndNs(): number {
    const beforeBootNs = (this.clock.bootEpochSeconds % 3600) * 1e9;
    return (Math.floor((this.clock.nowNs() + beforeBootNs) / HOUR_NS) + 1) * HOUR_NS - beforeBootNs;
  }
}

/** Without limits of its own or figures. */
function newUser(uid: number): User {
  // prettier-ignore
  const none = {
    set: 0, tokensPerHour: 0, cyclesPerHour: 0, kvBytes: 0, sessions: 0, sessionsUsed: 0, tokensUsed: 0, tokensReserved: 0,
    cyclesUsed: 0, cyclesReserved: 0, kvBytesUsed: 0, hourEndNs: 0, refused: 0, touchedNs: 0,
  };
  return { ...none, uid, taken: 1 };
}

/** Nothing would be lost but the number of refusals. */
const isIdle = (user: User): boolean =>
  user.set === 0 && user.sessionsUsed === 0 && user.tokensUsed === 0 && user.cyclesUsed === 0;

/** A limit may have been lowered below what is taken. */
const left = (limit: number, taken: number): number => Math.max(0, limit - taken);

/** A moment of the clock as UTC, to the next millisecond: `12:00:00`, `12:00:00.250`. */
export function timeOfDay(clock: DateClock, ns: number): string {
  const ms = Math.ceil(ns / 1e6);
  const seconds = (clock.bootEpochSeconds + Math.floor(ms / 1000)) % 86400;
  const text = [seconds / 3600, (seconds / 60) % 60, seconds % 60]
    .map(n => String(Math.floor(n)).padStart(2, '0'))
    .join(':');
  return ms % 1000 === 0 ? text : `${text}.${String(ms % 1000).padStart(3, '0')}`;
}

/** `1 token`, `2 tokens`. */
export const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;
