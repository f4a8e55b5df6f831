// Keys and signatures: Ed25519 (RFC 8032), ECDSA on P-256 and P-384 (FIPS 186-5, nonces of RFC 6979) and X25519 (RFC 7748), in the PEM files of
// openssl. No result is random: who makes a key brings its bytes, and nonces are derived. Verification is strict, so that no two verifiers
// can be told different things: what Go and openssl refuse is refused, and keys of small order besides.

import { mulAddUnsafe } from '@noble/curves/abstract/curve.js';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256, sha512 } from '@noble/hashes/sha2.js';
import { isRefusal, shown, utf8Encode } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import { fromBase64, fromHex, joined, malformed, sameBytes, toBase64 } from './bytes.ts';
import { isCurvePoint, isScalar, pointOf, signEcdsa, verifyEcdsa } from './ecdsa.ts';
import type { CurveName } from './ecdsa.ts';

// Most processes sign a few times. The first time multiples of the base point are made: in windows of 4 bits 12 ms go into that, in the
// library's of 6 bits 21, which would save 0.2 ms of each signature.
ed25519.Point.BASE.precompute(4);

export type KeyKind = 'ed25519' | 'p256' | 'p384' | 'x25519';

export interface PublicKey {
  readonly kind: KeyKind;
  /** 32 bytes; of P-256 and P-384 the 65 or 97 of an uncompressed point. */
  readonly bytes: Uint8Array;
}

export interface SecretKey {
  readonly kind: KeyKind;
  /** 32 bytes, of P-384 48: Ed25519's seed, or the scalar. */
  readonly secret: Uint8Array;
  readonly public: PublicKey;
}

const NAMES: Record<KeyKind, string> = { ed25519: 'Ed25519', p256: 'P-256', p384: 'P-384', x25519: 'X25519' };
const SECRET_BYTES: Record<KeyKind, number> = { ed25519: 32, p256: 32, p384: 48, x25519: 32 };
const PUBLIC_BYTES: Record<KeyKind, number> = { ed25519: 32, p256: 65, p384: 97, x25519: 32 };
/** A key that makes ECDSA signatures, over SHA-256 and over SHA-384. */
export const isCurve = (kind: KeyKind): kind is CurveName => kind === 'p256' || kind === 'p384';

export function secretKey(kind: KeyKind, secret: Uint8Array): SecretKey | Refusal {
  const want = SECRET_BYTES[kind];
  if (secret.length !== want) return malformed(`${NAMES[kind]} secret key of ${secret.length} bytes, not ${want}`);
  if (isCurve(kind) && !isScalar(kind, secret)) return malformed(`${NAMES[kind]} secret key is out of range`);
  let made: PublicKey | null = null;
  return {
    kind,
    secret,
    // Made when it is asked for: a host that signs with code of its own never does.
    get public() {
      made ??= { kind, bytes: publicBytes(kind, secret) };
      return made;
    },
  };
}

function publicBytes(kind: KeyKind, secret: Uint8Array): Uint8Array {
  if (isCurve(kind)) return pointOf(kind, secret);
  return (kind === 'ed25519' ? ed25519 : x25519).getPublicKey(secret);
}

export function publicKey(kind: KeyKind, bytes: Uint8Array): PublicKey | Refusal {
  const want = PUBLIC_BYTES[kind];
  if (bytes.length !== want) return malformed(`${NAMES[kind]} public key of ${bytes.length} bytes, not ${want}`);
  if (!isPoint(kind, bytes)) return malformed(`${NAMES[kind]} public key is no point that a key can have`);
  return { kind, bytes };
}

/** On the curve, written the one way there is, and not of small order. Every X25519 string is a point; `agreed` looks at what comes out. */
function isPoint(kind: KeyKind, bytes: Uint8Array): boolean {
  if (kind === 'ed25519') return edwardsPoint(bytes) !== null;
  return !isCurve(kind) || isCurvePoint(kind, bytes);
}

/** 64 bytes of Ed25519; DER of P-256 over SHA-256, of P-384 over SHA-384. The same for the same message, always. An X25519 key signs nothing. */
export function sign(key: SecretKey, message: Uint8Array): Uint8Array | Refusal {
  if (key.kind === 'ed25519') return ed25519.sign(message, key.secret);
  if (isCurve(key.kind)) return signEcdsa(key.kind, key.secret, message);
  return malformed('an X25519 key does not sign');
}

export function verify(key: PublicKey, message: Uint8Array, signature: Uint8Array): boolean {
  if (key.kind === 'ed25519') return verifyEd25519(key.bytes, message, signature);
  return isCurve(key.kind) && verifyEcdsa(key.kind, key.bytes, message, signature);
}

/**
 * RFC 8032 §5.1.7 with the equation that Go and openssl use, [S]B = R + [k]A, compared as bytes. The library's own would also take what
 * is equal after multiplying by the cofactor, which its signer could make so that one verifier accepts it and another does not.
 */
function verifyEd25519(key: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  const { BASE, Fn } = ed25519.Point;
  const a = edwardsPoint(key);
  if (a === null || signature.length !== 64) return false;
  const r = signature.subarray(0, 32);
  const s = littleEndian(signature.subarray(32));
  if (s >= Fn.ORDER) return false;
  const k = littleEndian(sha512(joined(r, key, message))) % Fn.ORDER;
  return sameBytes(mulAddUnsafe(ed25519.Point, [BASE, a.negate()], [s, k]).toBytes(), r); // nothing of it is secret
}

function edwardsPoint(bytes: Uint8Array): InstanceType<typeof ed25519.Point> | null {
  try {
    const point = ed25519.Point.fromBytes(bytes);
    return point.isSmallOrder() ? null : point;
  } catch {
    return null; // the library's word for bytes that are no point
  }
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((sum, b) => (sum << 8n) | BigInt(b), 0n);
}

/** The secret that two X25519 keys share, or null where the other one has small order and it would be 0. */
export function agreed(key: SecretKey, other: Uint8Array): Uint8Array | null {
  try {
    return x25519.getSharedSecret(key.secret, other);
  } catch {
    return null;
  }
}

/** HKDF-SHA256 (RFC 5869), 32 bytes. */
export function derived(secret: Uint8Array, salt: Uint8Array, info: string): Uint8Array {
  return hkdf(sha256, secret, salt, utf8Encode(info), 32);
}

export const hmacSha256 = (key: Uint8Array, message: Uint8Array): Uint8Array => hmac(sha256, key, message);

/** The secret that a log key's 32 bytes have for `label` alone. */
export const labelSecret = (secret: Uint8Array, label: string): Uint8Array =>
  derived(secret, new Uint8Array(0), `arena8/log-key/v1 ${label}`);

/** What LogKey.mac promises: HMAC-SHA256 under that secret. */
export function labelMac(secret: Uint8Array, label: string, message: Uint8Array): Uint8Array {
  return hmacSha256(labelSecret(secret, label), message);
}

// ---- PEM (RFC 7468) with PKCS#8 (RFC 5958, RFC 8410) and SubjectPublicKeyInfo (RFC 5280), as openssl writes them ----

const PEM_BYTES_MOST = 4096;

/** What stands before the bytes of a key; its DER has no other form. A curve's secret is followed by its point. */
const DER: Record<KeyKind, { readonly secret: string; readonly point?: string; readonly public: string }> = {
  ed25519: { secret: '302e020100300506032b657004220420', public: '302a300506032b6570032100' },
  x25519: { secret: '302e020100300506032b656e04220420', public: '302a300506032b656e032100' },
  p256: {
    secret: '308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420',
    point: 'a144034200',
    public: '3059301306072a8648ce3d020106082a8648ce3d030107034200',
  },
  p384: {
    secret: '3081b6020100301006072a8648ce3d020106052b8104002204819e30819b0201010430',
    point: 'a164036200',
    public: '3076301006072a8648ce3d020106052b81040022036200',
  },
};
const KINDS = Object.keys(DER) as KeyKind[];

export function formatSecretPem(key: SecretKey): string {
  const { secret, point } = DER[key.kind];
  const tail = point === undefined ? [] : [fromHex(point)!, key.public.bytes];
  return pem('PRIVATE KEY', joined(fromHex(secret)!, key.secret, ...tail));
}

export function formatPublicPem(key: PublicKey): string {
  return pem('PUBLIC KEY', joined(fromHex(DER[key.kind].public)!, key.bytes));
}

export function parseSecretPem(text: string): SecretKey | Refusal {
  const der = fromPem('PRIVATE KEY', text);
  if (isRefusal(der)) return der;
  for (const kind of KINDS) {
    const { secret } = DER[kind];
    if (!startsWith(der, secret)) continue;
    const key = secretKey(kind, der.slice(secret.length / 2, secret.length / 2 + SECRET_BYTES[kind]));
    if (isRefusal(key)) return key;
    if (formatSecretPem(key) === pem('PRIVATE KEY', der)) return key;
    return malformed(`PEM: the ${NAMES[kind]} key is cut, or its point is another's`);
  }
  return malformed('PEM: the secret key is none of Ed25519, P-256, P-384 and X25519');
}

export function parsePublicPem(text: string): PublicKey | Refusal {
  const der = fromPem('PUBLIC KEY', text);
  if (isRefusal(der)) return der;
  const kind = KINDS.find(k => startsWith(der, DER[k].public));
  if (kind === undefined) return malformed('PEM: the public key is none of Ed25519, P-256, P-384 and X25519');
  return publicKey(kind, der.slice(DER[kind].public.length / 2));
}

function startsWith(bytes: Uint8Array, hex: string): boolean {
  return sameBytes(bytes.subarray(0, hex.length / 2), fromHex(hex)!);
}

function pem(label: string, der: Uint8Array): string {
  const lines = toBase64(der).match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}

/** The bytes of the one block in `text`; around it there may be nothing but blanks. */
function fromPem(label: string, text: string): Uint8Array | Refusal {
  if (text.length > PEM_BYTES_MOST) return malformed(`PEM of ${text.length} characters; at most ${PEM_BYTES_MOST}`);
  const block = /^\s*-----BEGIN ([A-Z0-9 ]+)-----\s([A-Za-z0-9+/=\s]*)-----END ([A-Z0-9 ]+)-----\s*$/.exec(text);
  if (block === null) return malformed('PEM: no block from BEGIN to END, or more than that');
  if (block[1] !== label || block[3] !== label)
    return malformed(`PEM: ${shown(block[1]!)} where ${label} is wanted (PKCS#8 and SubjectPublicKeyInfo are read)`);
  return fromBase64(block[2]!.replace(/\s/g, '')) ?? malformed('PEM: not base64');
}
