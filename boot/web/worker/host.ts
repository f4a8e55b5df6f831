// The loop that turns a machine: in slices short enough that whoever shares the thread gets in between, as fast or as slowly as a person wants
// to watch, and no further than its output has been seen. What it may decide is when the machine turns, never what it does: the bytes are the
// same at every speed. It knows no browser: moments and timers are handed to it. After boot/node.ts, which does the same for a Unix terminal.

import { Tty } from '../../../drivers/tty/tty.ts';
import { strerror, utf8Encode } from '../../../kernel/abi/index.ts';
import type { Machine, RunState } from '../../machine.ts';
import { Pacer } from '../../pace.ts';
import { Typist } from '../../share.ts';
import type { News, RunKind, Speed, StopAt } from '../protocol/messages.ts';
import { Later } from './later.ts';
import { Outflow } from './outflow.ts';
import { Typed } from './typed.ts';

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
/** A round that takes longer, as one of a large model's passes, is turned layer by layer: others have their turn between them. */
const SLOW_MS = 50;
/** News of the state come no closer together: 60 in a second. */
const STATE_MS = 16;
/** Rounds that Ctrl-C gets although the machine is paused, or nobody has seen its output: the program sees the signal in the first, then its shell. */
const INTERRUPT_ROUNDS = 16;
/** How far a pace may fall behind before what was missed is forgotten: timers of browsers are that coarse. */
const PACE_LAG_MS = 50;

const CTRL_C = 3;

interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** Why the machine does not turn just now. */
type Rest = 'paused' | 'unseen' | 'idle' | 'over';

export class Host {
  readonly tty: Tty;
  readonly machine: Machine;
  /** For a link. */
  readonly typed = new Typed();
  readonly #ground: Ground;
  readonly #outflow: Outflow;
  /** A program that redraws the screen as time goes by is shown in real time. */
  readonly #live: Pacer;
  readonly #attendant: Attendant;

  #programs: readonly (readonly string[])[] = PROGRAMS;
  #pid = 0;
  #atPrompt: ((isWhole: boolean) => void) | null = null;
  /** Types what somebody has shared, before anybody else may. */
  #typist: Typist | null = null;
  #sizeAfter: Size | null = null; // of the terminal, when the typist is through

  #speed: Speed = { mode: 'run' };
  #step: StopAt | null = null; // asked for and not yet come to
  #paceDueMs = 0; // of the next op
  #roundMs = 0; // that the round has taken, or has been taking, when it is held within its pass
  #isSlow = false; // the last round took so long that nobody may wait for the end of the next
  #state: RunState = 'busy';
  #isOver = false;
  #inTurn = false;
  #input: Uint8Array = new Uint8Array(0); // typed, and no room for it in the terminal yet
  #interruptRounds = 0;
  #said: string[] = []; // by the kernel's log, in this round

  /** What comes next, unless it is taken back; null: nothing until somebody wakes the machine. */
  #due: { readonly takeBack: () => void; readonly isFirm?: true } | null = null;
  #stateMs = -Infinity;
  #toldState = '';
  readonly #reportLater: Later;
  readonly #flushLater: Later;

  /** `powerOn` makes the machine on this console. Throws what it throws. */
  constructor(
    ground: Ground,
    size: Size,
    powerOn: (console: Tty, log: (line: string) => void) => Machine,
    attendant = UNATTENDED,
  ) {
    this.#ground = ground;
    this.#attendant = attendant;
    this.#outflow = new Outflow(ground.nowMs, bytes => ground.tell({ news: 'output', bytes }));
    this.#live = new Pacer(1, ground.nowMs);
    this.#reportLater = new Later(ground, () => this.#report());
    this.#flushLater = new Later(ground, () => {
      if (!this.tty.raw) this.#outflow.flush();
    });
    const output = (bytes: Uint8Array): void => this.#outflow.write(bytes);
    this.tty = new Tty({ interactive: true, output, heard: this.typed.hear, ...size });
    try {
      this.machine = powerOn(this.tty, line => {
        this.#said.push(line);
        this.#print(line);
      });
    } finally {
      this.#outflow.flush(); // what it said on the way, should it not have come up
    }
  }

  /**
   * Runs /etc/rc and the shell, and types these lines, each when everything waits (boot/share.ts). `atPrompt` is called once: when everything waits
   * behind the last of them, the shell has ended before, or Ctrl-C has cut them short: then it is not whole.
   */
  start(atPrompt: (isWhole: boolean) => void, commands: readonly string[] = []): void {
    this.#atPrompt = atPrompt;
    this.#typist = new Typist(commands);
    this.#startNext();
    this.#wake();
  }

  #startNext(): void {
    const [program, ...rest] = this.#programs;
    this.#programs = rest;
    this.#pid = this.machine.start(program!);
    if (this.#pid >= 0) return;
    this.#print(`cannot start /bin/${program![0]}: ${strerror(this.#pid)}`);
    this.powerOff();
  }

  /** A line of the machine's own on its console. */
  #print(line: string): void {
    const bytes = utf8Encode(`${line}\n`);
    this.tty.write(bytes, 0, bytes.length);
  }

  // ── What is asked of it ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Keys: what does not fit into the terminal waits here. Ctrl-C drops what was typed before it, as the terminals of Unix do. */
  type(bytes: Uint8Array): void {
    if (this.#isOver) return;
    const interrupt = bytes.lastIndexOf(CTRL_C);
    if (interrupt >= 0) {
      if (this.#typist !== null) this.#cutShort();
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
    if (this.#typist !== null || this.#input.length === 0 || this.tty.room === 0) return false;
    const taken = this.tty.feed(this.#input.subarray(0, this.tty.room));
    this.#input = this.#input.subarray(taken);
    return taken > 0;
  }

  resize(columns: number, rows: number): void {
    this.#sizeAfter = { columns, rows };
    if (this.#typist !== null || this.#isOver || (columns === this.tty.columns && rows === this.tty.rows)) return;
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

  /** Orderly: a pass that is under way comes to its end, and what is to be stored is. What was still to be typed is not. */
  powerOff(): void {
    if (this.#isOver) return;
    this.#prompted(false);
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
    this.#inTurn = true;
    const next = this.#slice();
    this.#inTurn = false;
    next();
    this.#report();
  };

  /** What comes behind it. */
  #slice(): () => void {
    const untilMs = this.#ground.nowMs() + SLICE_MS;
    for (;;) {
      const rest = this.#rest();
      if (rest !== null) return () => this.#settle(rest);
      if (this.tty.raw) this.#outflow.flush(); // its time has come: what follows is another moment's
      const waitMs = this.#round();
      if (this.#isOver) return () => {};
      const holdUp = this.#attendant.holdUp();
      if (holdUp !== null) return () => this.#holdUp(holdUp);
      if (waitMs > 0) return () => this.#delay(waitMs);
      if (this.#ground.nowMs() >= untilMs) return () => this.#continue();
    }
  }

  #holdUp(until: Promise<void>): void {
    this.#send();
    let isWanted = true;
    this.#due = { takeBack: () => void (isWanted = false), isFirm: true };
    const on = (): void => {
      if (isWanted) this.#turn();
    };
    void until.then(on, on);
  }

  /** What a program that draws by itself has drawn is shown when its time has come. */
  #delay(ms: number): void {
    if (!this.tty.raw) this.#send();
    this.#due = { takeBack: this.#ground.later(ms, this.#turn) };
  }

  #continue(): void {
    this.#send();
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
    if (rest === 'idle') this.#attendant.rested();
  }

  /** One round of the machine. Milliseconds until the next is due. */
  #round(): number {
    const { machine, tty } = this;
    const wasRaw = tty.raw;
    const fromMs = this.#ground.nowMs();
    this.#said = [];
    machine.stopAt = this.#stopAt();
    this.#state = machine.run(1);
    this.#roundMs += this.#ground.nowMs() - fromMs;
    if (this.#state !== 'stopped') {
      this.#isSlow = this.#roundMs > SLOW_MS;
      this.#roundMs = 0;
    }
    if (!wasRaw && tty.raw) this.#live.meet(machine.nowNs());
    if (this.#feed() && this.#state === 'idle') this.#state = 'busy';
    if (this.#interruptRounds > 0) this.#interruptRounds = this.#state === 'idle' ? 0 : this.#interruptRounds - 1;
    if (this.#state === 'stopped' && this.#isPaused) this.#step = null;
    this.#followPrograms();
    if (this.#isOver) return 0;
    if (tty.raw && this.#typist === null) return this.#live.waitMs(machine.nowNs());
    return this.#state === 'stopped' && this.#speed.mode === 'pace' ? this.#paceMs(this.#speed.opsPerSecond) : 0;
  }

  #stopAt(): StopAt | null {
    if (this.#interruptRounds > 0) return null;
    if (this.#speed.mode === 'pace') return 'op';
    return this.#step ?? (this.#isSlow ? 'layer' : null);
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
      } else {
        this.#prompted(); // what was shared ends here, before the log is closed
        this.powerOff();
      }
    } else if (this.#typist !== null) this.#followTypist(this.#typist);
  }

  #followTypist(typist: Typist): void {
    const keys = typist.after(this.#state, this.machine.nowNs(), this.tty.raw);
    if (keys === null) return;
    if (keys === 'done') return this.#prompted();
    this.tty.feed(keys);
    this.#state = 'busy';
  }

  /** Somebody else takes the keyboard. */
  #cutShort(): void {
    this.#input = new Uint8Array(0);
    this.#prompted(false);
  }

  #end(): void {
    this.#isOver = true;
    this.#due?.takeBack();
    this.#due = null;
    this.#input = new Uint8Array(0);
    this.#giveScreenBack();
    this.#outflow.flush();
    this.#prompted();
    this.#attendant.ended();
    this.#report();
  }

  /** A line may have been under edit: no more marks around pastes. A program may have had the screen: what was said on it is said again. */
  #giveScreenBack(): void {
    const { raw } = this.tty;
    this.#outflow.write(utf8Encode(`\x1b[?2004l${raw ? '\x1b[m\x1b[?1049l\x1b[?25h' : ''}`));
    if (raw) for (const line of this.#said) this.#print(line);
  }

  /** Who sits at the terminal has it from now on. */
  #prompted(isWhole = true): void {
    if (this.#atPrompt === null) return;
    this.#atPrompt(isWhole);
    this.#atPrompt = null;
    this.#typist = null;
    if (this.#sizeAfter !== null) this.resize(this.#sizeAfter.columns, this.#sizeAfter.rows);
    if (this.#feed()) this.#wake();
  }

  /** Something has arrived. */
  #wake(): void {
    if (this.#isOver) return;
    if (this.#state === 'idle') this.#state = 'busy'; // unless the next round finds nothing to do
    this.#toldState = ''; // whoever did something is told when the machine is through with it, should it be what it was
    if (this.#due !== null || this.#inTurn) return;
    this.#live.meet(this.machine.nowNs());
    this.#continue();
  }

  /** Nobody waits for a pace any longer. */
  #hurry(): void {
    if (this.#due === null || this.#due.isFirm === true) return;
    this.#due.takeBack();
    this.#due = null;
    this.#live.meet(this.machine.nowNs());
  }

  /** Another speed is in force: what was due by the old one is not. */
  #retime(): void {
    if (this.#isOver) return;
    this.#hurry();
    if (this.#due === null) this.#continue();
  }

  // ── Telling ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Output, when a batch is due. */
  #send(): void {
    if (this.#outflow.isEmpty) return;
    const { dueMs } = this.#outflow;
    if (dueMs <= 0) this.#outflow.flush();
    else this.#flushLater.in(dueMs);
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
    if (waitMs > 0) return this.#reportLater.in(waitMs);
    this.#stateMs = this.#ground.nowMs();
    this.#toldState = text;
    this.#ground.tell({ news: 'state', ...state });
  }
}
