// STAND-IN until the pricer lands.
import { isRefusal, type Refusal } from '../abi/index.ts';
import { decodeBlocks, type CertificateFile } from './certificate.ts';
import { upperMilli, type MemoryRegion, type Target } from './targets.ts';

export interface PlanSource {
  readonly word: (address: number) => number;
  readonly bodyAt: number;
  readonly headAt: number;
  readonly sampleAt: number;
  readonly scoreAt: number;
  readonly regionOf: (address: number) => MemoryRegion;
  readonly ctx: number;
  readonly batch: number;
  readonly vocabulary: number;
  readonly logitsAt: number;
  readonly kvAt: number;
  readonly historyAt: number;
  readonly stepAt: number;
  readonly samplerAt: number;
}
export type Segment = 'body' | 'head' | 'sample' | 'score';
export interface Bound {
  readonly most: number;
  readonly least: number;
}
export interface Draw {
  readonly modes: number;
  readonly topK: number;
}
export interface OpCost {
  readonly most: number;
  readonly least: number;
  readonly compute: number;
  readonly memory: number;
  readonly overhead: number;
  readonly instructions: number;
  readonly loaded: number;
  readonly stored: number;
}
export class Certificates {
  private constructor(readonly file: CertificateFile) {}
  static of(file: CertificateFile): Certificates | Refusal {
    return new Certificates(file);
  }
}
const wide: Bound = { most: 2 ** 40, least: 0 };
export class Prices {
  static of(_certificates: Certificates, _target: Target, _plan: PlanSource): Prices | Refusal {
    return new Prices();
  }
  fill(_u32: Uint32Array): void {}
  segment(_s: Segment, _n: number, _pos: number): Bound {
    return wide;
  }
  step(_n: number, _pos: number, _draw: Draw | null, _historyLength: number): Bound | Refusal {
    return wide;
  }
  draw(_d: Draw, _historyLength: number): Bound | Refusal {
    return wide;
  }
  topK(_k: number): Bound | Refusal {
    return wide;
  }
  tokenize(_textBytes: number, _vocabAt: number, _word: (address: number) => number): Bound | Refusal {
    return wide;
  }
  ops(_s: Segment, _n: number, _pos: number): OpCost[] {
    return [];
  }
}
export function meterTable(certificates: Certificates, target: Target): Uint32Array {
  const blocks = decodeBlocks(certificates.file);
  if (isRefusal(blocks)) throw new Error(blocks.message);
  return Uint32Array.from(blocks, b => upperMilli(target, b.counts));
}
