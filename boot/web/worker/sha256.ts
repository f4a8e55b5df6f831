// SHA-256 for a machine in a browser: the compression function in WebAssembly (boot/web/sha256.as.ts), more than twice as fast as in JavaScript.
// The boot image and the model are digested before the first prompt, which is where that is felt. What comes out is SHA-256.

import type { Hasher } from '../../../kernel/abi/index.ts';
import bytes from '../../../build/sha256.wasm';

interface Compression {
  readonly memory: WebAssembly.Memory;
  readonly STATE_AT: WebAssembly.Global<'i32'>;
  readonly INPUT_AT: WebAssembly.Global<'i32'>;
  readonly INPUT_BYTES: WebAssembly.Global<'i32'>;
  compress(blocks: number): void;
}

const BLOCK_BYTES = 64;
/** The first 32 bits of the fractional parts of the square roots of the first eight primes. */
const INITIAL = [
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
] as const;

const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
const { memory, STATE_AT, INPUT_AT, INPUT_BYTES, compress } = exports as unknown as Compression;
const sharedState = new Uint32Array(memory.buffer, STATE_AT.value, INITIAL.length);
const input = new Uint8Array(memory.buffer, INPUT_AT.value, INPUT_BYTES.value);

class Sha256 implements Hasher {
  readonly #state = Uint32Array.from(INITIAL);
  /** What does not fill a block yet. */
  readonly #rest = new Uint8Array(BLOCK_BYTES);
  #restBytes = 0;
  #totalBytes = 0;

  update(data: Uint8Array): this {
    this.#totalBytes += data.length;
    let at = 0;
    sharedState.set(this.#state); // several digests may be under way
    while (this.#restBytes + data.length - at >= BLOCK_BYTES) {
      input.set(this.#rest.subarray(0, this.#restBytes));
      const room = input.length - this.#restBytes;
      const taken =
        data.length - at < room ? data.length - at - ((this.#restBytes + data.length - at) % BLOCK_BYTES) : room;
      input.set(data.subarray(at, at + taken), this.#restBytes);
      compress((this.#restBytes + taken) / BLOCK_BYTES);
      this.#restBytes = 0;
      at += taken;
    }
    this.#state.set(sharedState);
    this.#rest.set(data.subarray(at), this.#restBytes);
    this.#restBytes += data.length - at;
    return this;
  }

  digest(): Uint8Array {
    const bits = BigInt(this.#totalBytes) * 8n;
    const padded = new Uint8Array((this.#restBytes < BLOCK_BYTES - 8 ? 1 : 2) * BLOCK_BYTES - this.#restBytes);
    padded[0] = 0x80;
    new DataView(padded.buffer).setBigUint64(padded.length - 8, bits);
    this.update(padded);
    const digest = new DataView(new ArrayBuffer(32));
    this.#state.forEach((word, i) => digest.setUint32(4 * i, word));
    return new Uint8Array(digest.buffer);
  }
}

/** Begins a SHA-256. */
export const sha256 = (): Hasher => new Sha256();
