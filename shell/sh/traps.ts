// Traps: what a shell does when a signal comes, and at its end. A signal is only noted when it comes; its action runs between two commands.

import { SIG } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';

/** The number that stands for the end of the shell. */
const EXIT = 0;
const uncatchable: readonly number[] = [SIG.KILL, SIG.STOP];

/** A signal's number from `INT`, `SIGINT`, `2` or `EXIT`; null when there is none such. */
export function signalNumber(text: string): number | null {
  if (/^[0-9]+$/.test(text)) return Number(text) < 32 ? Number(text) : null;
  const name = text.toUpperCase().replace(/^SIG/, '');
  return name === 'EXIT' ? EXIT : (SIG[name as keyof typeof SIG] ?? null);
}

/** `INT`, `EXIT`, or the number where the signal has no name here. */
export function signalName(number: number): string {
  if (number === EXIT) return 'EXIT';
  return Object.entries(SIG).find(([, n]) => n === number)?.[0] ?? String(number);
}

export class Traps {
  /** `$?` before the trap that is being run: what `exit` in it means. */
  statusBefore: number | null = null;
  private readonly actions: Map<number, string>;
  /** In a fork that has set none of its own: what its parent had, for `trap` to list. */
  private inherited: ReadonlyMap<number, string> | null = null;
  private readonly waiting: number[] = [];

  /** A copy is for a fork: only what is ignored stays. */
  constructor(from?: Traps) {
    this.actions = new Map([...(from?.actions ?? [])].filter(([, action]) => action === ''));
    if (from !== undefined) this.inherited = from.inherited ?? new Map(from.actions);
  }

  has(signal: number): boolean {
    return this.actions.has(signal);
  }

  /** True when an action waits for something: a program must not take this shell's place. */
  any(): boolean {
    return [...this.actions.values()].some(action => action !== '');
  }

  /** Sets an action; '' ignores, null is the default again. `caught`: the shell itself outlives the signal. */
  *set(sys: Sys, signal: number, action: string | null, caught: boolean): Generator<void, void, void> {
    this.inherited = null;
    if (action === null) this.actions.delete(signal);
    else this.actions.set(signal, action);
    if (signal === EXIT || uncatchable.includes(signal)) return;
    yield* sys.signal(signal, action === '' ? 2 : action !== null || caught ? 1 : 0);
  }

  /** In a fork: signals that the parent caught have their default effect again. */
  *resetForFork(sys: Sys): Generator<void, void, void> {
    for (const [signal, action] of this.inherited ?? []) {
      if (action !== '' && signal !== EXIT) yield* sys.signal(signal, 0);
    }
  }

  /** Signals that came, 1 << signal. */
  note(caught: number): void {
    for (const signal of this.actions.keys()) {
      if (signal !== EXIT && (caught & (1 << signal)) !== 0) this.waiting.push(signal);
    }
  }

  /** The action of the next signal that came. */
  next(): string | undefined {
    const signal = this.waiting.shift();
    return signal === undefined ? undefined : (this.actions.get(signal) ?? '');
  }

  get pending(): boolean {
    return this.waiting.length > 0;
  }

  /** The signal whose action will be run next. */
  get first(): number | undefined {
    return this.waiting[0];
  }

  takeExit(): string | undefined {
    const action = this.actions.get(EXIT);
    this.actions.delete(EXIT);
    return action;
  }

  /** The actions, by number of the signal. */
  list(): [signal: number, action: string][] {
    return [...(this.inherited ?? this.actions)].sort(([a], [b]) => a - b);
  }
}
