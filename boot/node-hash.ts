// The hash device of Node: OpenSSL's SHA-256, which uses the processor's instructions for it.

import { createHash } from 'node:crypto';
import type { HashDevice } from '../kernel/abi/index.ts';

export const nodeHash: HashDevice = {
  sha256() {
    const hash = createHash('sha256');
    return { update: bytes => void hash.update(bytes), digest: () => hash.digest('hex') };
  },
};
