// What the build makes beside the kernel, bundled with it: both builds of the compute kernels with their certificates, the programs, and the
// template device. For hosts that load one file; a page fetches its parts apart.

import certificates from '../build/certificates.json' with { type: 'json' };
import simd128 from '../build/kernels.simd128.wasm';
import relaxed from '../build/kernels.relaxed.wasm';
import { programs } from '../shell/index.ts';
import type { Parts } from './machine.ts';
import { templateDevice } from './template.ts';

export const PARTS: Parts = { kernels: { simd128, relaxed }, certificates, programs, templates: templateDevice };
