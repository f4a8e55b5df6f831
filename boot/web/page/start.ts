// The first script of the page, and a short one: it starts the machine's worker, which then fetches what it needs while the page's own script is
// still on its way. An engine that cannot run the kernels is told so at once, instead of a machine that does not come.

// (module (func (drop (i8x16.splat (i32.const 0))))): one instruction of WebAssembly's fixed-width SIMD.
const SIMD = Uint8Array.from(
  [
    [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // magic, version
    [0x01, 0x04, 0x01, 0x60, 0x00, 0x00], // a type: () → ()
    [0x03, 0x02, 0x01, 0x00], // a function of it
    [0x0a, 0x09, 0x01, 0x07, 0x00, 0x41, 0x00, 0xfd, 0x0f, 0x1a, 0x0b], // its code
  ].flat(),
);

declare global {
  /** The worker that this script has started and nobody has taken yet. */
  var arena8Worker: Worker | null | undefined;
}

/** One sentence why there can be no machine; null: there can. */
export const refusal: string | null =
  typeof WebAssembly === 'object' && WebAssembly.validate(SIMD)
    ? null
    : 'This browser has no SIMD in WebAssembly, with which the machine computes: Chromium, Firefox and Safari of 2023 and later have it.';

const makeWorker = (): Worker => new Worker(new URL('worker.js', import.meta.url), { name: 'machine' });

/** A worker with the machine's program: the first time, the one that is there already. */
export function takeWorker(): Worker {
  const started = globalThis.arena8Worker;
  globalThis.arena8Worker = null;
  return started ?? makeWorker();
}

// The page's script has this one in it too: whichever comes first starts the worker.
if (refusal === null && globalThis.arena8Worker === undefined) globalThis.arena8Worker = makeWorker();
