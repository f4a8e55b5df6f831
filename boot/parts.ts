// What the build makes beside the program, bundled with it: both builds of the kernels and their certificates. For hosts that load one file;
// a page fetches its parts apart.

import certificates from '../build/certificates.json' with { type: 'json' };
import simd128 from '../build/kernels.simd128.wasm';
import relaxed from '../build/kernels.relaxed.wasm';
import type { Parts } from './machine.ts';

export const PARTS: Parts = { kernels: { simd128, relaxed }, certificates };
