// The one entry point of the seedrandom package that the machine uses; the package brings no types.

declare module 'seedrandom/lib/xor128.js' {
  interface Xor128 {
    int32(): number;
    state(): { x: number; y: number; z: number; w: number };
  }
  export default function xor128(seed: number, options: { state: true }): Xor128;
}
