// The library: `import { boot } from 'arena8'`. boot() returns a running machine; machine.exec(line) runs a shell command line in it,
// machine.infer(prompt) lets its model continue a text.

import { createHash, createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import v8 from 'node:v8';
import { directory } from './host-directory.ts';
import { isRefusal, type LogKey } from '../kernel/abi/index.ts';
import { demonstrationKey, parseLogKey, type SignerOf } from './log-key.ts';
import { Machine, type BootOptions as MachineOptions } from './machine.ts';
import { PARTS } from './parts.ts';

export interface BootOptions extends Partial<Omit<MachineOptions, 'mounts'>> {
  /** Host directories: `{ '/guest/path': '/host/path' }`, or with options. */
  readonly mounts?: MachineOptions['mounts'] | Readonly<Record<string, string | { path: string; readOnly?: boolean }>>;
}

export type { BudgetOptions, ExecResult, Inference, InferOptions, RunState, StopAt, Submission } from './machine.ts';
export { BUILD_DIGEST, Machine, PARTS, VERSION };

import { BUILD_DIGEST, VERSION } from './version.ts';

/** The boot image that was built beside this file. */
export function defaultImage(): Uint8Array {
  const path = fileURLToPath(new URL('boot.cpio', import.meta.url));
  if (!existsSync(path)) throw new Error(`boot image ${path} is missing: npm run build`);
  return readFileSync(path);
}

/** Node 20 keeps relaxed SIMD behind a flag; later versions ignore it. Call before the kernels are compiled. */
export function allowRelaxedSimd(): void {
  v8.setFlagsFromString('--experimental-wasm-relaxed-simd');
}

/** Ed25519 by node:crypto, some ten times as fast as in JavaScript; the bytes are the same. */
export const nodeSigner: SignerOf = seed => {
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]); // PKCS#8 (RFC 8410)
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
  return { publicKey: new Uint8Array(spki.subarray(-32)), sign: message => sign(null, message, key) };
};

/** A log key from the text of its file, PKCS#8 or a note signer's line; a name of its own where none is given. Throws when it is none. */
export function logKeyFrom(text: string, name?: string): LogKey {
  const key = parseLogKey(text, name ?? null, nodeSigner);
  if (isRefusal(key)) throw new Error(key.message);
  return key;
}

/** Powers a machine on. Throws when the image is unusable: there is no machine then. */
export function boot(options: BootOptions = {}): Machine {
  allowRelaxedSimd();
  const { mounts, ...rest } = options;
  return new Machine({
    parts: PARTS,
    sha256: () => createHash('sha256'),
    logKey: demonstrationKey(nodeSigner),
    ...rest,
    image: options.image ?? defaultImage(),
    mounts: mountList(mounts),
  });
}

function mountList(mounts: BootOptions['mounts']): NonNullable<MachineOptions['mounts']> {
  if (mounts === undefined) return [];
  if (Array.isArray(mounts)) return mounts as NonNullable<MachineOptions['mounts']>;
  return Object.entries(mounts as Record<string, string | { path: string; readOnly?: boolean }>).map(([guest, m]) => {
    const { path, readOnly = false } = typeof m === 'string' ? { path: m } : m;
    return { guest, directory: directory(path, readOnly) };
  });
}
