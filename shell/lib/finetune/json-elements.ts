// The elements of one list in a JSON file that may be larger than memory: {"examples": [element, …], …}. Only brackets and strings are
// followed; an element is handed on as text, to be parsed by itself, so that one that is wrong spoils no other.

import { utf8Decode } from '../../../kernel/abi/index.ts';
import { concat } from '../stdio.ts';
import type { Lines } from './lines.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const NEWLINE = 0x0a;
const OPENING = [0x5b, 0x7b]; // [ {
const CLOSING = [0x5d, 0x7d];
const DEPTH_MAX = 256;
const KEY_BYTES_MAX = 64;

const isBlank = (byte: number): boolean => byte === 0x20 || byte === 0x09 || byte === 0x0d || byte === NEWLINE;

/** An element: where it begins, and its bytes, null when they are too many. */
export interface Element {
  readonly line: number;
  readonly bytes: Uint8Array | null;
}

export class JsonElements {
  /** What is wrong with the file around its elements, with the line; '' as long as nothing is. */
  error = '';
  line = 1;
  private piece = new Uint8Array() as Uint8Array;
  private at = 0;
  private readonly open: number[] = []; // the closing brackets that are waited for
  private inString = false;
  private escaped = false;
  private begun = false; // something of the file's one value was there
  private key: number[] = []; // of the outer object: the string that ended last
  private listed = false; // between the list's brackets
  private found = false; // it was there
  private element: { readonly line: number; pieces: Uint8Array[]; length: number } | null = null;
  private elements = 0;
  private afterComma = false;

  /** `list`: the key whose value is the list; an element longer than `most` bytes is not held. */
  constructor(
    private readonly lines: Lines,
    private readonly list: string,
    private readonly most: number,
  ) {}

  /** The next element; null at the end, or when there is an error. */
  *next(): Generator<void, Element | null, void> {
    for (;;) {
      const element = this.scan();
      if (element !== null || this.error !== '') return this.error === '' ? element : null;
      const piece = yield* this.lines.chunk();
      if (piece === null) return this.ended();
      this.piece = piece;
      this.at = 0;
    }
  }

  private ended(): null {
    if (this.open.length > 0 || this.inString) this.error = `line ${this.line}: the file ends in the middle`;
    else if (!this.begun) this.error = 'line 1: not JSON: nothing is there';
    else if (!this.found) this.error = `line ${this.line}: no list "${this.list}"`;
    return null;
  }

  /** Goes on to the end of an element, or of the piece: null. */
  private scan(): Element | null {
    const { piece } = this;
    let from = this.at; // of the element's bytes in this piece
    for (; this.at < piece.length && this.error === ''; this.at++) {
      const byte = piece[this.at]!;
      const ends = this.listed && !this.inString && this.open.length === 2 && (byte === COMMA || byte === CLOSING[0]);
      if (ends) {
        const done = this.finish(from, byte);
        if (byte !== COMMA) this.follow(byte);
        if (done !== null) {
          this.at++;
          return done;
        }
        continue;
      }
      if (this.listed && this.element === null && !isBlank(byte)) {
        this.element = { line: this.line, pieces: [new Uint8Array()], length: 0 };
        from = this.at;
      }
      this.follow(byte);
    }
    this.keep(from);
    return null;
  }

  /** A comma or the list's end: the element before it, null where there is none. */
  private finish(from: number, byte: number): Element | null {
    this.keep(from);
    const { element } = this;
    this.element = null;
    const empty = byte !== COMMA && this.elements === 0 && !this.afterComma;
    this.afterComma = byte === COMMA;
    if (element === null) return empty ? null : { line: this.line, bytes: new Uint8Array() };
    this.elements++;
    return { line: element.line, bytes: element.length <= this.most ? concat(element.pieces) : null };
  }

  /** The element's bytes of this piece. */
  private keep(from: number): void {
    const { element } = this;
    if (element === null) return;
    element.length += this.at - from;
    if (element.length <= this.most) element.pieces.push(this.piece.slice(from, this.at));
    else element.pieces = [];
  }

  /** A byte's part in strings and brackets. */
  private follow(byte: number): void {
    if (byte === NEWLINE) this.line++;
    if (this.inString) {
      if (this.escaped) this.escaped = false;
      else if (byte === BACKSLASH) this.escaped = true;
      else if (byte === QUOTE) this.inString = false;
      if (this.inString && this.open.length === 1 && this.key.length < KEY_BYTES_MAX) this.key.push(byte);
      return;
    }
    if (isBlank(byte)) return;
    const opening = OPENING.indexOf(byte);
    if (this.open.length === 0) {
      if (this.begun || opening !== 1)
        this.error = `line ${this.line}: not JSON: one object with "${this.list}" is expected`;
      this.begun = true;
    }
    if (byte === QUOTE) {
      this.inString = true;
      if (this.open.length === 1) this.key = [];
    } else if (opening >= 0) this.enter(opening);
    else if (CLOSING.includes(byte)) this.leave(byte);
  }

  private enter(opening: number): void {
    if (this.open.length === DEPTH_MAX)
      this.error = `line ${this.line}: more than ${DEPTH_MAX} brackets in one another`;
    this.open.push(CLOSING[opening]!);
    if (this.open.length !== 2 || opening !== 0 || this.found) return;
    this.listed = this.found = utf8Decode(Uint8Array.from(this.key)) === this.list;
  }

  private leave(byte: number): void {
    if (this.open.pop() !== byte) this.error = `line ${this.line}: not JSON: a bracket that closes none`;
    if (this.open.length === 1) this.listed = false;
  }
}
