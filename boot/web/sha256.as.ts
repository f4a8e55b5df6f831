// SHA-256's compression function (FIPS 180-4, section 6.2) in WebAssembly (AssemblyScript), for hosts whose own digests cannot be had at once:
// browsers give them only as promises. It has a page of memory of its own and never sees the arena. Words of a message are big-endian.

const ROUNDS: i32 = 64;

/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
const CONSTANTS_AT = memory.data<u32>([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
  0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
  0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
  0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
  0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
  0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
]);
/** The message schedule. */
const SCHEDULE_AT = memory.data(ROUNDS * 4);

/** Where the eight words of the state stand, in this machine's order. */
export const STATE_AT: usize = 0x4000;
/** Where the message's blocks are put, and how many bytes at once. */
export const INPUT_AT: usize = 0x8000;
export const INPUT_BYTES: i32 = 0x8000;

@inline function load_big(at: usize): u32 { return bswap(load<u32>(at)); }
@inline function schedule(t: i32): u32 { return load<u32>(SCHEDULE_AT + (<usize>t << 2)); }
@inline function small_0(x: u32): u32 { return rotr(x, 7) ^ rotr(x, 18) ^ (x >> 3); }
@inline function small_1(x: u32): u32 { return rotr(x, 17) ^ rotr(x, 19) ^ (x >> 10); }
@inline function big_0(x: u32): u32 { return rotr(x, 2) ^ rotr(x, 13) ^ rotr(x, 22); }
@inline function big_1(x: u32): u32 { return rotr(x, 6) ^ rotr(x, 11) ^ rotr(x, 25); }
@inline function choose(e: u32, f: u32, g: u32): u32 { return g ^ (e & (f ^ g)); }
@inline function majority(a: u32, b: u32, c: u32): u32 { return (a & b) | (c & (a | b)); }
@inline function constant(t: i32): u32 { return load<u32>(CONSTANTS_AT + (<usize>t << 2)); }

/** Fills the schedule from a block. */
function expand(block: usize): void {
  for (let t = 0; t < 16; t++) store<u32>(SCHEDULE_AT + (<usize>t << 2), load_big(block + (<usize>t << 2)));
  for (let t = 16; t < ROUNDS; t++)
    store<u32>(SCHEDULE_AT + (<usize>t << 2), small_1(schedule(t - 2)) + schedule(t - 7) + small_0(schedule(t - 15)) + schedule(t - 16));
}

/** Takes `blocks` blocks of 64 bytes at INPUT_AT into the state. */
export function compress(blocks: i32): void {
  let a = load<u32>(STATE_AT), b = load<u32>(STATE_AT, 4), c = load<u32>(STATE_AT, 8), d = load<u32>(STATE_AT, 12);
  let e = load<u32>(STATE_AT, 16), f = load<u32>(STATE_AT, 20), g = load<u32>(STATE_AT, 24), h = load<u32>(STATE_AT, 28);
  for (let block = INPUT_AT; blocks > 0; blocks--, block += 64) {
    expand(block);
    const a0 = a, b0 = b, c0 = c, d0 = d, e0 = e, f0 = f, g0 = g, h0 = h;
    // Eight rounds at a time: each names the words anew instead of moving them.
    for (let t = 0; t < ROUNDS; t += 8) {
      h += big_1(e) + choose(e, f, g) + constant(t) + schedule(t); d += h; h += big_0(a) + majority(a, b, c);
      g += big_1(d) + choose(d, e, f) + constant(t + 1) + schedule(t + 1); c += g; g += big_0(h) + majority(h, a, b);
      f += big_1(c) + choose(c, d, e) + constant(t + 2) + schedule(t + 2); b += f; f += big_0(g) + majority(g, h, a);
      e += big_1(b) + choose(b, c, d) + constant(t + 3) + schedule(t + 3); a += e; e += big_0(f) + majority(f, g, h);
      d += big_1(a) + choose(a, b, c) + constant(t + 4) + schedule(t + 4); h += d; d += big_0(e) + majority(e, f, g);
      c += big_1(h) + choose(h, a, b) + constant(t + 5) + schedule(t + 5); g += c; c += big_0(d) + majority(d, e, f);
      b += big_1(g) + choose(g, h, a) + constant(t + 6) + schedule(t + 6); f += b; b += big_0(c) + majority(c, d, e);
      a += big_1(f) + choose(f, g, h) + constant(t + 7) + schedule(t + 7); e += a; a += big_0(b) + majority(b, c, d);
    }
    a += a0; b += b0; c += c0; d += d0;
    e += e0; f += f0; g += g0; h += h0;
  }
  store<u32>(STATE_AT, a); store<u32>(STATE_AT, b, 4); store<u32>(STATE_AT, c, 8); store<u32>(STATE_AT, d, 12);
  store<u32>(STATE_AT, e, 16); store<u32>(STATE_AT, f, 20); store<u32>(STATE_AT, g, 24); store<u32>(STATE_AT, h, 28);
}
