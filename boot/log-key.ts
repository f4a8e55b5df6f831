// The key of the audit log, which never enters the machine: the kernel asks for signatures and for secrets derived from it (LogKey). A file of the
// host holds it, PKCS#8 as `openssl genpkey -algorithm ed25519` writes it or a C2SP note signer's line; where none is given, everybody's key.

import { isRefusal, utf8Encode, type LogKey, type Refusal } from '../kernel/abi/index.ts';
import {
  hmacSha256,
  labelSecret,
  malformed,
  noteKey,
  parseNoteSecret,
  parseSecretPem,
  secretKey,
  sha256,
  sign,
} from '../trust/index.ts';

/** Name and origin of a log whose key has no name of its own. */
export const LOG_NAME_DEFAULT = 'arena8.invalid/log';

const DEMONSTRATION_NAME = 'arena8.invalid/demonstration';

/** Ed25519 with a 32-byte seed by a host's own code, where it is faster. The bytes are the same. */
export type SignerOf = (seed: Uint8Array) => Pick<LogKey, 'publicKey' | 'sign'>;

/** A log key from its seed. */
export function logKey(name: string, seed: Uint8Array, signerOf?: SignerOf): LogKey | Refusal {
  const pair = secretKey('ed25519', seed);
  if (isRefusal(pair)) return pair;
  const signer = signerOf?.(seed) ?? {
    publicKey: pair.public.bytes,
    sign: (message: Uint8Array) => sign(pair, message) as Uint8Array,
  };
  const known = noteKey(name, signer.publicKey);
  if (isRefusal(known)) return known;
  const secrets = new Map<string, Uint8Array>(); // by label: each is derived once
  const mac = (label: string, message: Uint8Array): Uint8Array => {
    const secret = secrets.get(label) ?? labelSecret(seed, label);
    secrets.set(label, secret);
    return hmacSha256(secret, message);
  };
  return { name, isDemonstration: false, ...signer, mac };
}

/** A log key from the text of its file; `name` where the file has none, or another is wanted. */
export function parseLogKey(text: string, name: string | null, signerOf?: SignerOf): LogKey | Refusal {
  if (text.startsWith('PRIVATE+KEY+')) {
    const parsed = parseNoteSecret(text);
    return isRefusal(parsed) ? parsed : logKey(name ?? parsed.key.name, parsed.secret, signerOf);
  }
  const pair = parseSecretPem(text);
  if (isRefusal(pair)) return pair;
  if (pair.kind !== 'ed25519') return malformed(`a log is signed with an Ed25519 key, not with ${pair.kind}`);
  return logKey(name ?? LOG_NAME_DEFAULT, pair.secret, signerOf);
}

/** The key that everybody has: a log signed with it proves order, and nobody's word. */
export function demonstrationKey(signerOf?: SignerOf): LogKey {
  const key = logKey(DEMONSTRATION_NAME, sha256(utf8Encode('arena8 demonstration log key')), signerOf);
  if (isRefusal(key)) throw new Error(key.message);
  return { ...key, isDemonstration: true };
}
