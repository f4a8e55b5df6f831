// Pacing: how fast a person sees what the machine does. The machine runs as fast as the host can and its clock never follows the host's;
// a pacer says how long to hold back what was written at a virtual moment, so that it appears no earlier than the simulated processor
// would have got there. State and bytes are the same at every pace: only the moment of display differs.

/** `real` = 1, `max` = null (nothing is held back), `N%` = N / 100 of the simulated processor's speed. undefined: not a pace. */
export function parsePace(text: string): number | null | undefined {
  if (text === 'max') return null;
  if (text === 'real') return 1;
  const [, percent] = /^(\d{1,6}(?:\.\d+)?)%$/.exec(text) ?? [];
  return Number(percent) > 0 ? Number(percent) / 100 : undefined;
}

/** A timer must fire within setTimeout's range; a longer wait is several of them. */
const WAIT_MS_MAX = 60_000;

export class Pacer {
  #hostMs = 0;
  #virtualNs = 0;

  constructor(
    /** Virtual seconds in a second. */
    private readonly rate: number,
    private readonly hostNowMs: () => number,
  ) {}

  /** The two clocks agree now: at the start, and whenever the machine has waited for a person. */
  meet(virtualNs: number): void {
    this.#hostMs = this.hostNowMs();
    this.#virtualNs = virtualNs;
  }

  /** Milliseconds until what happens at this virtual moment may be seen; 0 = now. */
  waitMs(virtualNs: number): number {
    const dueMs = this.#hostMs + (virtualNs - this.#virtualNs) / 1e6 / this.rate;
    return Math.min(WAIT_MS_MAX, Math.max(0, dueMs - this.hostNowMs()));
  }
}
