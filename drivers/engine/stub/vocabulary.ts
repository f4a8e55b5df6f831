// The stub's vocabulary (SIS §4): byte b is token b + 4, below it <UNK> <BOS> <EOS> <PAD>. It needs no tables: the text waits in the
// caller's work memory and leaves it byte by byte.

import { ENCODE, utf8Write } from '../../../kernel/abi/index.ts';
import type { ArenaView, Refusal, Vocabulary } from '../../../kernel/abi/index.ts';

export const FIRST_BYTE = 4;
const SPECIAL = ['<UNK>', '<BOS>', '<EOS>', '<PAD>'];

export class ByteVocabulary implements Vocabulary {
  readonly model = 'stub';
  readonly count = FIRST_BYTE + 256;
  readonly bytes = 0;
  readonly bos = 1;
  readonly eos = 2;
  readonly addBos = false;
  readonly addEos = false;

  private workAt = 0;
  private workBytes = 0;
  private next = 0; // of the text in work memory
  private end = 0;
  private bosDue = false;

  constructor(private readonly arena: ArenaView) {}

  isEnd(id: number): boolean {
    return id === this.eos;
  }

  begin(flags: number, workAt: number, workBytes: number): void {
    this.workAt = workAt;
    this.workBytes = workBytes;
    this.next = 0;
    this.end = 0;
    this.bosDue = (flags & ENCODE.bos) !== 0;
  }

  inputAt(): number {
    return this.workAt;
  }
  inputBytes(): number {
    return this.next === this.end ? this.workBytes : 0;
  }
  input(length: number): void {
    this.next = 0;
    this.end = length;
  }

  encode(outAt: number, capacity: number): number {
    const out = outAt >> 2;
    let n = 0;
    if (this.bosDue && capacity > 0) {
      this.arena.u32[out + n++] = this.bos;
      this.bosDue = false;
    }
    while (n < capacity && this.next < this.end)
      this.arena.u32[out + n++] = FIRST_BYTE + this.arena.u8[this.workAt + this.next++]!;
    return n;
  }

  refusal(): Refusal | null {
    return null;
  }

  piece(id: number, outAt: number, capacity: number, special: boolean): number {
    if (id < 0 || id >= this.count) return -1;
    if (id < FIRST_BYTE) {
      if (!special) return 0;
      const bytes = utf8Write(SPECIAL[id]!, this.arena.u8, outAt, capacity);
      return bytes < 0 ? -2 : bytes;
    }
    if (capacity < 1) return -2;
    this.arena.u8[outAt] = id - FIRST_BYTE;
    return 1;
  }
}
