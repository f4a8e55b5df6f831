// The machine's ceilings as WebAssembly sees them (AssemblyScript): multiply-adds per second on operands that stay in the first-level
// cache, each loaded once and used twice, and bytes per second streamed from an arena-sized set. They do nothing useful and nothing else,
// as STREAM and peak-FLOP loops do. RELAXED is a compile-time constant: 1 allows the relaxed integer dot product. A fused f32
// multiply-add is in neither build: it rounds differently, and the kernels may not use it.

const TILE: usize = 2048; // bytes of operands, far inside any first-level cache

/** int8 products, `rounds` times over the tile: 256 products of 8 multiply-adds (SIMD128) or 16 (relaxed) a round. Returns a sum so that nothing is dropped. */
export function multiply_add_int8(at: usize, rounds: i32): i32 {
  const y = v128.load(at);
  const z = v128.load(at, 16);
  let a = i32x4.splat(0);
  let b = a;
  let c = a;
  let d = a;
  let e = a;
  let f = a;
  let g = a;
  let h = a;
  for (let r = 0; r < rounds; r++) {
    for (let p = at; p < at + TILE; p += 64) {
      let x: v128;
      if (RELAXED) {
        x = v128.load(p);
        a = i16x8.add(a, i16x8.relaxed_dot_i8x16_i7x16_s(x, y));
        b = i16x8.add(b, i16x8.relaxed_dot_i8x16_i7x16_s(x, z));
        x = v128.load(p, 16);
        c = i16x8.add(c, i16x8.relaxed_dot_i8x16_i7x16_s(x, y));
        d = i16x8.add(d, i16x8.relaxed_dot_i8x16_i7x16_s(x, z));
        x = v128.load(p, 32);
        e = i16x8.add(e, i16x8.relaxed_dot_i8x16_i7x16_s(x, y));
        f = i16x8.add(f, i16x8.relaxed_dot_i8x16_i7x16_s(x, z));
        x = v128.load(p, 48);
        g = i16x8.add(g, i16x8.relaxed_dot_i8x16_i7x16_s(x, y));
        h = i16x8.add(h, i16x8.relaxed_dot_i8x16_i7x16_s(x, z));
      } else {
        x = v128.load(p);
        a = i32x4.add(a, i32x4.dot_i16x8_s(x, y));
        b = i32x4.add(b, i32x4.dot_i16x8_s(x, z));
        x = v128.load(p, 16);
        c = i32x4.add(c, i32x4.dot_i16x8_s(x, y));
        d = i32x4.add(d, i32x4.dot_i16x8_s(x, z));
        x = v128.load(p, 32);
        e = i32x4.add(e, i32x4.dot_i16x8_s(x, y));
        f = i32x4.add(f, i32x4.dot_i16x8_s(x, z));
        x = v128.load(p, 48);
        g = i32x4.add(g, i32x4.dot_i16x8_s(x, y));
        h = i32x4.add(h, i32x4.dot_i16x8_s(x, z));
      }
    }
  }
  return fold(a, b, c, d, e, f, g, h);
}

/** f32 products, `rounds` times over the tile: 256 products of 4 multiply-adds a round. */
export function multiply_add_f32(at: usize, rounds: i32): i32 {
  const y = v128.load(at);
  const z = v128.load(at, 16);
  let a = f32x4.splat(0);
  let b = a;
  let c = a;
  let d = a;
  let e = a;
  let f = a;
  let g = a;
  let h = a;
  for (let r = 0; r < rounds; r++) {
    for (let p = at; p < at + TILE; p += 64) {
      let x: v128;
      x = v128.load(p);
      a = f32x4.add(a, f32x4.mul(x, y));
      b = f32x4.add(b, f32x4.mul(x, z));
      x = v128.load(p, 16);
      c = f32x4.add(c, f32x4.mul(x, y));
      d = f32x4.add(d, f32x4.mul(x, z));
      x = v128.load(p, 32);
      e = f32x4.add(e, f32x4.mul(x, y));
      f = f32x4.add(f, f32x4.mul(x, z));
      x = v128.load(p, 48);
      g = f32x4.add(g, f32x4.mul(x, y));
      h = f32x4.add(h, f32x4.mul(x, z));
    }
  }
  return fold(a, b, c, d, e, f, g, h);
}

/** Reads `bytes` (a multiple of 128) from `at` on, once. */
export function stream(at: usize, bytes: usize): i32 {
  let a = i32x4.splat(0);
  let b = a;
  let c = a;
  let d = a;
  let e = a;
  let f = a;
  let g = a;
  let h = a;
  for (let p = at; p < at + bytes; p += 128) {
    a = v128.xor(a, v128.load(p));
    b = v128.xor(b, v128.load(p, 16));
    c = v128.xor(c, v128.load(p, 32));
    d = v128.xor(d, v128.load(p, 48));
    e = v128.xor(e, v128.load(p, 64));
    f = v128.xor(f, v128.load(p, 80));
    g = v128.xor(g, v128.load(p, 96));
    h = v128.xor(h, v128.load(p, 112));
  }
  return fold(a, b, c, d, e, f, g, h);
}

function fold(a: v128, b: v128, c: v128, d: v128, e: v128, f: v128, g: v128, h: v128): i32 {
  const all = v128.xor(v128.xor(v128.xor(a, b), v128.xor(c, d)), v128.xor(v128.xor(e, f), v128.xor(g, h)));
  return (
    i32x4.extract_lane(all, 0) ^ i32x4.extract_lane(all, 1) ^ i32x4.extract_lane(all, 2) ^ i32x4.extract_lane(all, 3)
  );
}
