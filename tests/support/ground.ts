// A host for the loop of boot/web/worker/host.ts without a browser: its clock goes on by itself a little whenever it is looked at, callbacks come in the
// order in which they are due, and a person acts between them.

import { readFileSync } from 'node:fs';
import { boot } from '../../boot/index.ts';
import { storeShared, type Share } from '../../boot/share.ts';
import { Host, UNATTENDED, type Attendant, type Ground } from '../../boot/web/worker/host.ts';
import type { News } from '../../boot/web/protocol/messages.ts';
import { utf8Encode } from '../../kernel/abi/index.ts';

/** A look at the clock takes so long: 80 of them fill a slice. */
const LOOK_MS = 0.1;

const IMAGE = readFileSync('build/boot.cpio');

interface Callback {
  readonly atMs: number;
  readonly turn: () => void;
}

type StateNews = Extract<News, { news: 'state' }>;

export class SimulatedGround implements Ground {
  #ms = 0;
  #callbacks: Callback[] = [];
  readonly states: StateNews[] = [];
  /** What the page has been sent, and not yet said to have shown. */
  unshown = 0;
  #output = '';
  readonly #decoder = new TextDecoder();

  readonly nowMs = (): number => (this.#ms += LOOK_MS);
  readonly soon = (turn: () => void): void => void this.#callbacks.push({ atMs: this.#ms, turn });
  readonly later = (ms: number, turn: () => void): (() => void) => {
    const callback = { atMs: this.#ms + ms, turn };
    this.#callbacks.push(callback);
    return () => void (this.#callbacks = this.#callbacks.filter(c => c !== callback));
  };
  readonly tell = (news: News): void => {
    if (news.news === 'state') this.states.push(news);
    if (news.news !== 'output') return;
    this.#output += this.#decoder.decode(news.bytes, { stream: true });
    this.unshown += news.bytes.length;
  };

  /** Lets a callback happen. False: none is waiting. */
  tick(): boolean {
    const next = this.#callbacks.reduce<Callback | null>((a, b) => (a === null || b.atMs < a.atMs ? b : a), null);
    if (next === null) return false;
    this.#callbacks.splice(this.#callbacks.indexOf(next), 1);
    this.#ms = Math.max(this.#ms, next.atMs);
    next.turn();
    return true;
  }

  /** What has come to the terminal since the last look. */
  take(): string {
    const text = this.#output;
    this.#output = '';
    return text;
  }

  get now(): number {
    return this.#ms;
  }

  /** Time goes by. */
  pass(ms: number): void {
    this.#ms += ms;
  }
}

/** Somebody at a page with a machine, by raw calls. */
export class Sitter {
  readonly ground = new SimulatedGround();
  readonly host: Host;
  #attendant = UNATTENDED;
  /** What came to the terminal up to the first prompt. */
  readonly boot: string;

  /** Of the state and of the log at that moment; '' where it was not come to. */
  digestAtPrompt = '';
  headAtPrompt = '';

  /** With what somebody has shared: its lines are typed first, while the terminal changes its size and somebody types ahead. */
  constructor(options: Parameters<typeof boot>[0] = {}, columns = 80, rows = 24, share: Share | null = null) {
    const atPrompt = (isWhole: boolean): void => {
      this.digestAtPrompt = isWhole ? this.host.machine.stateDigest() : '';
      this.headAtPrompt = this.host.machine.auditHead();
    };
    this.host = new Host(
      this.ground,
      { columns, rows },
      (console, log) => boot({ image: IMAGE, ...options, console, log }),
      {
        moved: () => this.#attendant.moved(),
        rested: () => this.#attendant.rested(),
        holdUp: () => this.#attendant.holdUp(),
        ended: () => this.#attendant.ended(),
      },
    );
    if (share !== null) storeShared(this.host.machine, share);
    this.host.start(atPrompt, share?.commands);
    if (share !== null) {
      this.host.resize(100, 30);
      this.type('echo ah""ead\r');
    }
    this.boot = this.settle();
  }

  /** Who looks after the machine from now on. */
  attend(attendant: Attendant): void {
    this.#attendant = attendant;
  }

  /** Everything is shown at once, until nothing is left to happen; returns what came. */
  settle(): string {
    let text = '';
    for (let ticks = 0; ticks < 100_000; ticks++) {
      text += this.ground.take();
      this.host.shown(this.ground.unshown);
      this.ground.unshown = 0;
      if (!this.ground.tick()) return text + this.ground.take();
    }
    throw new Error('the machine does not come to rest');
  }

  /** Callbacks happen until `met`, and nobody shows any output. */
  until(met: () => boolean): void {
    for (let ticks = 0; ticks < 100_000 && !met(); ticks++) if (!this.ground.tick()) break;
    if (!met()) throw new Error('it does not come to that');
  }

  type(keys: string): void {
    this.host.type(utf8Encode(keys));
  }

  /** Keys, and what came of them when everything waits again. */
  enter(keys: string): string {
    this.type(keys);
    return this.settle();
  }
}
