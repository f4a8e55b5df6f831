// What prices of plans are made from in tests: the certificates of this build, and what the regions of a model are to a target.

import { readFileSync } from 'node:fs';
import type { ENGINE_REGIONS } from '../../kernel/abi/index.ts';
import { Certificates, type CertificateFile } from '../../kernel/wcet/certificate.ts';
import type { MemoryRegion } from '../../kernel/wcet/targets.ts';
import { accepted } from '../harness.ts';

export const certificates = accepted(
  Certificates.of(JSON.parse(readFileSync('build/certificates.json', 'utf8')) as CertificateFile),
);

export const REGIONS: Readonly<Record<(typeof ENGINE_REGIONS)[number], MemoryRegion>> = {
  weights: 'weights',
  adapters: 'weights',
  stream: 'stream',
  tensors: 'plan',
  vocabulary: 'vocabulary',
  kv: 'kv',
  scratch: 'scratch',
  plan: 'plan',
  session: 'io',
};
