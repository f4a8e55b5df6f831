// The period budget: how many tokens the whole machine may draw in a period, whoever asks (SIS §10), a rate limit as iptables' quota match
// or a CBS server's budget is one. A period begins with its first use, not by the calendar. A request that is no stream is admitted whole
// or refused whole, with its most tokens reserved until it ends; a stream asks token by token and is cut short.

import { BudgetRecord, layout, refuse, type ArenaView, type RecordValue, type Refusal } from './abi/index.ts';
import { panic } from './panic.ts';
import { counted, timeOfDay, type DateClock } from './quota.ts';

/** In the kernel tables: what the budget call shows, with tokens in the period and reserved ones apart. */
const MachineRecord = layout({
  ...BudgetRecord.fields,
  reserved: 'u64', // by requests that have not ended
  begun: 'u32', // 1: a period has begun at windowStartNs
});
type Machine = RecordValue<typeof MachineRecord.fields>;

export const BUDGET_BYTES = MachineRecord.bytes;

/**
 * While it is on, at any time: issued + reserved ≤ maxTokens, unless that was lowered since. When a period is over, `issued` falls to 0 and what
 * is reserved stays so: no period sees more tokens than the maximum, though a request be admitted in one and end in another.
 */
export class PeriodBudget {
  constructor(
    private readonly arena: ArenaView,
    /** BUDGET_BYTES in the kernel tables. */
    private readonly at: number,
    private readonly clock: DateClock,
  ) {
    MachineRecord.write(arena.u8, at, {});
  }

  /** A period of 0 or no tokens at most: off. A period that has begun goes on under the new figures. */
  configure(wanted: Pick<Machine, 'wcetCycles' | 'periodNs' | 'maxTokens'>): void {
    const { wcetCycles, periodNs, maxTokens } = wanted;
    this.store({ ...this.now(), wcetCycles, periodNs, maxTokens });
  }

  /** Cycles after which a request is a miss: as configured, or its own bound. */
  missAfter(boundCycles: number): number {
    return this.now().wcetCycles || boundCycles;
  }

  /** A request that is no stream reserves the most tokens it can draw; or EDQUOT 3003. */
  request(tokens: number): Refusal | null {
    const b = this.now();
    const fits = this.fits(b, tokens);
    if (fits) this.store({ ...this.begin(b), reserved: b.reserved + tokens });
    else this.store({ ...b, rejects: b.rejects + 1 });
    return fits ? null : this.refusal(b, tokens);
  }

  /** It has ended and drawn `used` tokens; the rest is given back. */
  settle(reserved: number, used: number): void {
    const b = this.now();
    if (used > reserved || reserved > b.reserved) panic('more tokens are given back to the period than were reserved');
    // Where no period has begun, what it drew belongs to one that is over.
    this.store({ ...b, issued: b.begun !== 0 ? b.issued + used : 0, reserved: b.reserved - reserved });
  }

  /** Whether a stream may draw one more token, which is then counted. False: it ends here, and a reject is counted. */
  token(): boolean {
    const b = this.now();
    const fits = this.fits(b, 1);
    if (!fits) this.store({ ...b, rejects: b.rejects + 1 });
    else if (isOn(b)) this.store({ ...this.begin(b), issued: b.issued + 1 });
    return fits;
  }

  /** Limits and figures of now. */
  record(): RecordValue<typeof BudgetRecord.fields> {
    const { reserved, begun, ...b } = this.now();
    return { ...b, issued: b.issued + reserved, windowStartNs: begun !== 0 ? b.windowStartNs : this.clock.nowNs() };
  }

  private fits(b: Machine, tokens: number): boolean {
    return !isOn(b) || b.issued + b.reserved + tokens <= b.maxTokens;
  }

  private refusal(b: Machine, tokens: number): Refusal {
    const left = Math.max(0, b.maxTokens - b.issued - b.reserved);
    const endNs = (b.begun !== 0 ? b.windowStartNs : this.clock.nowNs()) + b.periodNs;
    return refuse(
      'DQUOT',
      3003,
      `${counted(tokens, 'token')} asked, ${left} of the machine's ${b.maxTokens} a period left until ${timeOfDay(this.clock, endNs)}`,
    );
  }

  /** The record as of now: a period that is over has gone. */
  private now(): Machine {
    const b = MachineRecord.read(this.arena.u8, this.at);
    const over = !isOn(b) || this.clock.nowNs() - b.windowStartNs >= b.periodNs;
    return b.begun !== 0 && over ? { ...b, begun: 0, issued: 0 } : b;
  }

  /** Its first use begins a period. */
  private begin(b: Machine): Machine {
    return !isOn(b) || b.begun !== 0 ? b : { ...b, begun: 1, windowStartNs: this.clock.nowNs() };
  }

  private store(b: Machine): void {
    MachineRecord.write(this.arena.u8, this.at, b);
  }
}

const isOn = (b: Machine): boolean => b.periodNs !== 0 && b.maxTokens !== 0;
