// What a session has said and nobody has read yet: events in order, each with the text that is certain by then. Text that may begin a stop
// string is held back until it is known. The buffer is bounded: a session whose reader is behind waits for it, as a writer to a full pipe does.

import { EVENT, FINISH, LIMITS, SessionEvent, type FinishReason } from './abi/index.ts';

/** `top` are {id, logit} pairs as they lay in the arena. */
interface Event {
  readonly kind: number;
  readonly token: number;
  readonly piece: Uint8Array;
  readonly top: Uint8Array;
  readonly nll: number;
}

const EMPTY = new Uint8Array(0);

export class Output {
  private readonly events: Event[] = [];
  /** Bytes held back because they may begin a stop string. */
  private held: Uint8Array = EMPTY;
  /** Token events that were read. */
  consumed = 0;
  private endSeen = false;

  constructor(
    private readonly stops: readonly Uint8Array[],
    private readonly capacity: number,
  ) {}

  /** What is read next is the end. */
  get isAtEnd(): boolean {
    return this.events[0]?.kind === EVENT.end;
  }
  get isFull(): boolean {
    return this.events.length >= this.capacity;
  }

  /** A token was drawn; true when its text completes a stop string, before which the text then ends. */
  token(token: number, piece: Uint8Array, top: Uint8Array): boolean {
    const { release, stopped } = this.holdBack(piece);
    this.events.push({ kind: EVENT.token, token, piece: release, top, nll: 0 });
    return stopped;
  }

  progress(done: number, nll: number): void {
    this.events.push({ kind: EVENT.progress, token: done, piece: EMPTY, top: EMPTY, nll });
  }

  end(why: FinishReason): void {
    const piece = why === 'stop' ? EMPTY : this.held;
    this.held = EMPTY;
    this.events.push({ kind: EVENT.end, token: FINISH.indexOf(why), piece, top: EMPTY, nll: 0 });
  }

  /** Writes the next event at `to`; bytes written, 0 after the end, null when there is none yet, -1 when `capacity` is too small. */
  read(memory: Uint8Array, to: number, capacity: number): number | null {
    const e = this.events[0];
    if (e === undefined) return this.endSeen ? 0 : null;
    const bytes = SessionEvent.bytes + e.piece.length + e.top.length;
    if (bytes > capacity) return -1;
    SessionEvent.write(memory, to, {
      kind: e.kind,
      token: e.token,
      pieceBytes: e.piece.length,
      topCount: e.top.length / 8,
      nll: e.nll,
    });
    memory.set(e.piece, to + SessionEvent.bytes);
    memory.set(e.top, to + SessionEvent.bytes + e.piece.length);
    this.events.shift();
    if (e.kind === EVENT.token) this.consumed++;
    if (e.kind === EVENT.end) this.endSeen = true;
    return bytes;
  }

  /** Adds a piece to the held text; releases what cannot begin a stop string any more. On a stop, the text before it is released. */
  private holdBack(piece: Uint8Array): { release: Uint8Array; stopped: boolean } {
    if (this.stops.length === 0) return { release: piece, stopped: false };
    const text = new Uint8Array(this.held.length + piece.length);
    text.set(this.held);
    text.set(piece, this.held.length);
    let first = -1;
    for (const stop of this.stops) {
      const i = indexOfBytes(text, stop);
      if (i >= 0 && (first < 0 || i < first)) first = i;
    }
    if (first >= 0) {
      this.held = EMPTY;
      return { release: text.slice(0, first), stopped: true };
    }
    let keep = 0;
    for (const stop of this.stops) keep = Math.max(keep, overlap(text, stop));
    this.held = text.slice(text.length - keep);
    return { release: text.slice(0, text.length - keep), stopped: false };
  }
}

/** The stop strings of SessionOptions, which begin at `from`. */
export function readStops(memory: Uint8Array, from: number, count: number): Uint8Array[] {
  const stops: Uint8Array[] = [];
  let p = from;
  for (let i = 0; i < count; i++) {
    const bytes = Math.min(memory[p]!, LIMITS.stopBytes);
    if (bytes > 0) stops.push(memory.slice(p + 1, p + 1 + bytes));
    p += 1 + bytes;
  }
  return stops;
}

function indexOfBytes(text: Uint8Array, word: Uint8Array): number {
  for (let i = 0; i + word.length <= text.length; i++) {
    let j = 0;
    while (j < word.length && text[i + j] === word[j]) j++;
    if (j === word.length) return i;
  }
  return -1;
}

/** The longest end of `text` that is a proper beginning of `word`. */
function overlap(text: Uint8Array, word: Uint8Array): number {
  for (let n = Math.min(text.length, word.length - 1); n > 0; n--) {
    let j = 0;
    while (j < n && text[text.length - n + j] === word[j]) j++;
    if (j === n) return n;
  }
  return 0;
}
