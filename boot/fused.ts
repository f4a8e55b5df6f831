// Which build of the kernels this engine and processor take: which relaxed multiply-add they have. The specification allows a · b + c to be rounded once or twice, each environment choosing for
// good; the relaxed kernels need the first, and are not used where it is the second.

// (func (export "fused") (param f32 f32 f32) (result f32)): f32x4.relaxed_madd of the three, splatted; lane 0.
const PROBE = Uint8Array.from(
  [
    '0061736d 01000000',
    '01 08 01 60 03 7d7d7d 01 7d',
    '03 02 01 00',
    '07 09 01 05 6675736564 00 00',
    '0a 16 01 14 00 2000 fd13 2001 fd13 2002 fd13 fd8502 fd1f00 0b',
  ]
    .join('')
    .replaceAll(' ', '')
    .match(/../g)!,
  byte => parseInt(byte, 16),
);

/** True when the engine has relaxed SIMD and its multiply-add rounds once. */
export function multiplyAddIsFused(): boolean {
  if (!WebAssembly.validate(PROBE)) return false;
  const { fused } = new WebAssembly.Instance(new WebAssembly.Module(PROBE)).exports as {
    fused: (a: number, b: number, c: number) => number;
  };
  // (1 + 2^-12)² = 1 + 2^-11 + 2^-24: rounded before the subtraction, the last term is lost.
  return fused(1 + 2 ** -12, 1 + 2 ** -12, -(1 + 2 ** -11)) === 2 ** -24;
}

export type Build = 'simd128' | 'relaxed';

/** The relaxed build where the engine has it and its multiply-add is fused. Node 20 needs the flag that boot/index.ts sets. */
export const bestBuild = (): Build => (multiplyAddIsFused() ? 'relaxed' : 'simd128');
