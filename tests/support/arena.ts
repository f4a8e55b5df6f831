// A bare arena for tests of one room: the memory and its views, with nothing allocated in it.
import type { ArenaView } from '../../kernel/abi/index.ts';

export function makeArena(pages = 128): ArenaView {
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const buffer = memory.buffer as ArrayBuffer;
  return {
    buffer,
    u8: new Uint8Array(buffer),
    u16: new Uint16Array(buffer),
    i32: new Int32Array(buffer),
    u32: new Uint32Array(buffer),
    f32: new Float32Array(buffer),
    f64: new Float64Array(buffer),
    view: new DataView(buffer),
  };
}

/** A seeded generator of integers below `n` (xorshift32): the same run every time. */
export function makeRandom(seed: number): (n: number) => number {
  let x = seed | 0 || 1;
  return n => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % n;
  };
}
