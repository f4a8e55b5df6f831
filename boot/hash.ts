// The hash device where the host has none of its own that works at once (a browser's answers later): SHA-256 by @noble/hashes.

import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import type { HashDevice } from '../kernel/abi/index.ts';

export const portableHash: HashDevice = {
  sha256() {
    const hash = sha256.create();
    return { update: bytes => void hash.update(bytes), digest: () => bytesToHex(hash.digest()) };
  },
};
