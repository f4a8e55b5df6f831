// The loop that turns a machine: in slices short enough that whoever shares the thread gets in between, as fast or as slowly as a person wants
// to watch, and no further than its output has been seen. What it may decide is when the machine turns, never what it does: the bytes are the
// same at every speed. It knows no browser: moments and timers are handed to it. After boot/node.ts, which does the same for a Unix terminal.

import { Tty } from '../../../drivers/tty/tty.ts';
import { strerror, utf8Encode } from '../../../kernel/abi/index.ts';
import type { Machine, RunState } from '../../machine.ts';
import { Pacer } from '../../pace.ts';
import type { News, RunKind, Speed, StopAt } from '../protocol/messages.ts';
import { Outflow } from './outflow.ts';

/** What the loop stands on. */
export interface Ground {
  /** A clock of the host's, in milliseconds. */
  readonly nowMs: () => number;
  /** Calls back as soon as messages that have arrived are through. */
  readonly soon: (turn: () => void) => void;
  /** Calls back after that time; the result takes it back. */
  readonly later: (ms: number, turn: () => void) => () => void;
  readonly tell: (news: News) => void;
}

/** Who looks after the machine between its rounds. */
export interface Attendant {
  /** It has moved, or has come to rest. */
  readonly moved: () => void;
  /** Everything in it waits for a person. */
  readonly rested: () => void;
  /** Null: on with the next round; otherwise when to go on. */
  readonly holdUp: () => Promise<void> | null;
  /** It is switched off, or has halted: nothing of it will move again. */
  readonly ended: () => void;
}

/** Nobody does. */
export const UNATTENDED: Attendant = { moved: () => {}, rested: () => {}, holdUp: () => null, ended: () => {} };

/** Programs that the host starts, one after the other. */
const PROGRAMS = [['sh', '/etc/rc'], ['sh']] as const;

/** So long the machine turns before others have theirs. */
const SLICE_MS = 8;
/** News of the state come no closer together: 60 in a second. */
const STATE_MS = 16;
/** Rounds that Ctrl-C gets although the machine is paused, or nobody has seen its output: the program sees the signal in the first, then its shell. */
const INTERRUPT_ROUNDS = 16;
/** How far a pace may fall behind before what was missed is forgotten: timers of browsers are that coarse. */
const PACE_LAG_MS = 50;

const CTRL_C = 3;

/** Why the machine does not turn just now. */
type Rest = 'paused' | 'unseen' | 'idle' | 'over';

export class Host {
  readonly tty: Tty;
  readonly machine: Machine;
  readonly #ground: Ground;
  readonly #outflow: Outflow;
  /** A program that redraws the screen as time goes by is shown in real time. */
  readonly #live: Pacer;
  readonly #attendant: Attendant;

  #programs: readonly (readonly string[])[] = PROGRAMS;
  #pid = 0;
  #atPrompt: (() => void) | null = null;

  #speed: Speed = { mode: 'run' };
  #step: StopAt | null = null; // asked for and not yet come to
  #paceDueMs = 0; // of the next op
  #state: RunState = 'busy';
  #isOver = false;
  #input: Uint8Array = new Uint8Array(0); // typed, and no room for it in the terminal yet
  #interruptRounds = 0;

  /** What comes next, unless it is taken back; null: nothing until somebody wakes the machine. */
  #due: { readonly takeBack: () => void } | null = null;
  #stateMs = -Infinity;
  #toldState = '';
  #stateTimer: (() => void) | null = null;
  #flushTimer: (() => void) | null = null;

  /** `powerOn` makes the machine on this console. Throws what it throws. */
  constructor(
    ground: Ground,
    size: { readonly columns: number; readonly rows: number },
    powerOn: (console: Tty, log: (line: string) => void) => Machine,
    attendant = UNATTENDED,
  ) {
    this.#ground = ground;
    this.#attendant = attendant;
    this.#outflow = new Outflow(ground.nowMs, bytes => ground.tell({ news: 'output', bytes }));
    this.#live = new Pacer(1, ground.nowMs);
    this.tty = new Tty({ interactive: true, output: bytes => this.#outflow.write(bytes), ...size });
    try {
      this.machine = powerOn(this.tty, line => {
        const bytes = utf8Encode(`${line}\n`);
        this.tty.write(bytes, 0, bytes.length);
      });
    } finally {
      this.#outflow.flush(); // what it said on the way, should it not have come up
    }
  }

  /** Runs /etc/rc and the shell. `atPrompt` is called once: when everything waits for the first time, or the machine has ended before. */
  start(atPrompt: () => void): void {
    this.#atPrompt = atPrompt;
    this.#startNext();
    this.#wake();
  }

  #startNext(): void {
    const [program, ...rest] = this.#programs;
    this.#programs = rest;
    this.#pid = this.machine.start(program!);
    if (this.#pid >= 0) return;
    const text = utf8Encode(`cannot start /bin/${program![0]}: ${strerror(this.#pid)}\n`);
    this.tty.write(text, 0, text.length);
    this.powerOff();
  }

  // ── What is asked of it ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Keys: what does not fit into the terminal waits here. Ctrl-C drops what was typed before it, as the terminals of Unix do. */
  type(bytes: Uint8Array): void {
    if (this.#isOver) return;
    const interrupt = bytes.lastIndexOf(CTRL_C);
    if (interrupt >= 0) {
      if (this.#input.length > 0) {
        this.#input = new Uint8Array(0);
        this.tty.interrupt();
        this.#enqueue(bytes.subarray(interrupt + 1));
      } else this.#enqueue(bytes);
      this.#interruptRounds = INTERRUPT_ROUNDS;
      this.#hurry();
    } else {
      this.#enqueue(bytes);
      if (this.tty.raw) this.#hurry();
    }
    this.#wake();
  }

  #enqueue(bytes: Uint8Array): void {
    const all = new Uint8Array(this.#input.length + bytes.length);
    all.set(this.#input);
    all.set(bytes, this.#input.length);
    this.#input = all;
    this.#feed();
  }

  /** What there is room for. False: nothing was fed. */
  #feed(): boolean {
    if (this.#input.length === 0 || this.tty.room === 0) return false;
    const taken = this.tty.feed(this.#input.subarray(0, this.tty.room));
    this.#input = this.#input.subarray(taken);
    return taken > 0;
  }

  resize(columns: number, rows: number): void {
    if (this.#isOver || (columns === this.tty.columns && rows === this.tty.rows)) return;
    this.tty.resize(columns, rows);
    if (this.tty.raw) this.#hurry();
    this.#wake();
    this.#send();
  }

  /** So many bytes of output have been shown. */
  shown(bytes: number): void {
    const wasFull = this.#outflow.isFull;
    this.#outflow.shown(bytes);
    if (wasFull && !this.#outflow.isFull) this.#wake();
  }

  speed(speed: Speed): void {
    this.#speed = speed;
    this.#step = null;
    this.#paceDueMs = this.#ground.nowMs();
    this.#retime();
  }

  /** On to the next stop, then pause. */
  step(at: StopAt): void {
    this.#speed = { mode: 'pause' };
    this.#step = at;
    this.#retime();
  }

  /** Orderly: a pass that is under way comes to its end, and what is to be stored is. */
  powerOff(): void {
    if (this.#isOver) return;
    if (this.#state === 'stopped') {
      this.machine.stopAt = null;
      this.machine.run(1);
    }
    this.machine.powerOff();
    this.#end();
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get kind(): RunKind {
    if (this.#state === 'halted') return 'halted';
    if (this.#isOver) return 'off';
    if (this.#state === 'stopped' && this.#isPaused) return 'held';
    if (this.#isPaused && this.#step === null) return 'paused';
    return this.#state === 'idle' ? 'idle' : 'busy';
  }

  get #isPaused(): boolean {
    return this.#speed.mode === 'pause';
  }

  // ── Turning ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** One slice; then others have their turn. */
  readonly #turn = (): void => {
    this.#due = null;
    const untilMs = this.#ground.nowMs() + SLICE_MS;
    for (;;) {
      const rest = this.#rest();
      if (rest !== null) return this.#settle(rest);
      if (this.tty.raw) this.#outflow.flush(); // its time has come: what follows is another moment's
      const waitMs = this.#round();
      if (this.#isOver) return undefined;
      const holdUp = this.#attendant.holdUp();
      if (holdUp !== null) {
        this.#due = { takeBack: () => {} };
        void holdUp.then(this.#turn);
        return this.#report();
      }
      if (waitMs > 0) {
        if (!this.tty.raw) this.#send();
        this.#due = { takeBack: this.#ground.later(waitMs, this.#turn) };
        return this.#report();
      }
      if (this.#ground.nowMs() >= untilMs) break;
    }
    this.#send();
    this.#report();
    this.#continue();
    return undefined;
  };

  #continue(): void {
    let isWanted = true;
    this.#due = { takeBack: () => void (isWanted = false) };
    this.#ground.soon(() => {
      if (isWanted) this.#turn();
    });
  }

  /** Null: the machine may turn. */
  #rest(): Rest | null {
    if (this.#isOver) return 'over';
    if (this.#interruptRounds === 0) {
      if (this.#isPaused && this.#step === null) return 'paused';
      if (this.#outflow.isFull) return 'unseen';
    }
    return this.#state === 'idle' ? 'idle' : null;
  }

  #settle(rest: Rest): void {
    this.#interruptRounds = 0;
    this.#outflow.flush();
    if (rest === 'idle') {
      this.#attendant.rested();
      this.#prompted();
    }
    this.#report();
  }

  /** One round of the machine. Milliseconds until the next is due. */
  #round(): number {
    const { machine, tty } = this;
    const wasRaw = tty.raw;
    machine.stopAt = this.#stopAt();
    this.#state = machine.run(1);
    if (!wasRaw && tty.raw) this.#live.meet(machine.nowNs());
    if (this.#feed() && this.#state === 'idle') this.#state = 'busy';
    if (this.#interruptRounds > 0) this.#interruptRounds = this.#state === 'idle' ? 0 : this.#interruptRounds - 1;
    if (this.#state === 'stopped') this.#step = null;
    this.#followPrograms();
    if (this.#isOver) return 0;
    if (tty.raw) return this.#live.waitMs(machine.nowNs());
    return this.#state === 'stopped' && this.#speed.mode === 'pace' ? this.#paceMs(this.#speed.opsPerSecond) : 0;
  }

  #stopAt(): StopAt | null {
    if (this.#interruptRounds > 0) return null;
    if (this.#speed.mode === 'pace') return 'op';
    return this.#step;
  }

  /** Milliseconds until the next op is due, when one has just been done. */
  #paceMs(opsPerSecond: number): number {
    const nowMs = this.#ground.nowMs();
    this.#paceDueMs = Math.max(this.#paceDueMs + 1000 / opsPerSecond, nowMs - PACE_LAG_MS);
    return Math.max(0, this.#paceDueMs - nowMs);
  }

  #followPrograms(): void {
    if (this.#state === 'halted') this.#end();
    else if (this.machine.statusOf(this.#pid) !== undefined) {
      if (this.#programs.length > 0) {
        this.#startNext();
        this.#state = 'busy';
      } else this.powerOff();
    }
  }

  #end(): void {
    this.#isOver = true;
    this.#due?.takeBack();
    this.#due = null;
    this.#input = new Uint8Array(0);
    this.#outflow.flush();
    this.#attendant.ended();
    this.#prompted();
    this.#report();
  }

  #prompted(): void {
    const told = this.#atPrompt;
    this.#atPrompt = null;
    told?.();
  }

  /** Something has arrived. */
  #wake(): void {
    if (this.#isOver) return;
    if (this.#state === 'idle') this.#state = 'busy'; // unless the next round finds nothing to do
    this.#toldState = ''; // whoever did something is told when the machine is through with it, should it be what it was
    if (this.#due !== null) return;
    this.#live.meet(this.machine.nowNs());
    this.#continue();
  }

  /** Nobody waits for a pace any longer. */
  #hurry(): void {
    if (this.#due === null) return;
    this.#due.takeBack();
    this.#due = null;
    this.#live.meet(this.machine.nowNs());
  }

  /** Another speed is in force: what was due by the old one is not. */
  #retime(): void {
    if (this.#isOver) return;
    this.#hurry();
    this.#continue();
  }

  // ── Telling ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Output, when a batch is due. */
  #send(): void {
    if (this.#outflow.isEmpty) return;
    const { dueMs } = this.#outflow;
    if (dueMs <= 0) return this.#outflow.flush();
    this.#flushTimer ??= this.#ground.later(dueMs, () => {
      this.#flushTimer = null;
      if (!this.tty.raw) this.#outflow.flush();
    });
  }

  /** The state, when it is another one and the last news of it are not too fresh. */
  #report(): void {
    this.#attendant.moved();
    const state = {
      run: this.kind,
      nowNs: this.machine.nowNs(),
      cycles: this.machine.kernel.clock.cycles(),
      raw: this.tty.raw,
    };
    const text = JSON.stringify(state);
    if (text === this.#toldState) return;
    const waitMs = this.#stateMs + STATE_MS - this.#ground.nowMs();
    if (waitMs > 0) {
      this.#stateTimer ??= this.#ground.later(waitMs, () => {
        this.#stateTimer = null;
        this.#report();
      });
      return;
    }
    this.#stateMs = this.#ground.nowMs();
    this.#toldState = text;
    this.#ground.tell({ news: 'state', ...state });
  }
}
