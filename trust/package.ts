// Model packages (SIS §12): who vouches for a model file. A package is the file's number, version, size and SHA-256 under an Ed25519 signature
// that binds all four, so that none can be taken from another package. It lies beside the file as NAME.gguf.sis, one object of canonical
// JSON. Permissions are not part of what is signed: whoever registers a package on a machine grants them there.

import { isRefusal, refuse, utf8Encode } from '../kernel/abi/index.ts';
import type { ErrnoName, Refusal } from '../kernel/abi/index.ts';
import { fromHex, joined, malformed, sameBytes, toHex } from './bytes.ts';
import { parseCanonical } from './canonical.ts';
import { sign, verify } from './keys.ts';
import type { SecretKey } from './keys.ts';

/** The specification's results, by number. */
export const PACKAGE_RESULTS = [
  'Success',
  'PermissionDenied',
  'ConstraintViolation',
  'SignatureFailure',
  'HashMismatch',
] as const;
export type PackageResult = (typeof PACKAGE_RESULTS)[number];

/** The specification's permissions, a bit each. */
export const PERMISSION = { load: 1, execute: 2, inspect: 4, export: 8, attest: 16 } as const;
export type Permission = keyof typeof PERMISSION;
export const ALL_PERMISSIONS = 31;

/** `LOAD EXECUTE`, in the order of their bits. */
export const permissionNames = (bits: number): string[] =>
  (Object.keys(PERMISSION) as Permission[]).filter(p => (bits & PERMISSION[p]) !== 0).map(p => p.toUpperCase());

/** The bits that words between commas or blanks name; null where one is none. */
export function permissionBits(words: string): number | null {
  let bits = 0;
  for (const word of words.toLowerCase().split(/[, ]+/)) {
    if (word === 'all') bits = ALL_PERMISSIONS;
    else if (Object.hasOwn(PERMISSION, word)) bits |= PERMISSION[word as Permission];
    else if (word !== 'none' && word !== '') return null;
  }
  return bits;
}

/** What a signature binds. */
export interface PackageHeader {
  readonly id: number; // u32, from 1
  readonly version: number; // u32
  readonly size: number; // of the file, bytes
  readonly sha256: Uint8Array; // of the whole file
}
export interface ModelPackage extends PackageHeader {
  readonly key: Uint8Array; // Ed25519, 32 bytes: who is said to have signed
  readonly signature: Uint8Array; // 64 bytes
}

/** Why a package is not taken: one of the specification's results, and the sentence that goes with it. */
export interface PackageFailure {
  readonly result: Exclude<PackageResult, 'Success'>;
  readonly message: string;
}
export const failure = (result: PackageFailure['result'], message: string): PackageFailure => ({ result, message });

const ERRNO: Record<PackageFailure['result'], ErrnoName> = {
  PermissionDenied: 'ACCES',
  ConstraintViolation: 'OVERFLOW',
  SignatureFailure: 'KEYREJECTED',
  HashMismatch: 'BADMSG',
};
/** The same as system calls refuse: Linux's numbers for modules whose signature does not hold. */
export const refusalOf = ({ result, message }: PackageFailure): Refusal =>
  refuse(ERRNO[result], 0, `${result}: ${message}`);

const FORMAT = 'SIS-MODEL-V1';
const U32_MAX = 0xffffffff;

/** What is signed: the ASCII of the format and a zero byte, u32 id, u32 version, u64 size, little-endian, then the digest: 61 bytes. */
export function packageMessage({ id, version, size, sha256 }: PackageHeader): Uint8Array {
  const numbers = new Uint8Array(16);
  const view = new DataView(numbers.buffer);
  view.setUint32(0, id, true);
  view.setUint32(4, version, true);
  view.setBigUint64(8, BigInt(size), true);
  return joined(utf8Encode(`${FORMAT}\0`), numbers, sha256);
}

/** The package that the holder of an Ed25519 key makes. */
export function signPackage(header: PackageHeader, key: SecretKey): ModelPackage | Refusal {
  if (key.kind !== 'ed25519') return malformed(`packages are signed with Ed25519, not with a key of ${key.kind}`);
  const signature = sign(key, packageMessage(header));
  return isRefusal(signature) ? signature : { ...header, key: key.public.bytes, signature };
}

/**
 * Whether a package holds for a file, in the specification's order: size, hash, signature; permissions come after. `trusts`: which keys count.
 * A signature whose S is not below the group's order, and a key of small order, are refused: every signature has one form.
 */
export function checkPackage(
  p: ModelPackage,
  file: { readonly size: number; readonly sha256: Uint8Array },
  trusts: (key: Uint8Array) => boolean,
): PackageFailure | null {
  if (p.size !== file.size)
    return failure('HashMismatch', `the package is of a file of ${p.size} bytes, this one has ${file.size}`);
  if (!sameBytes(p.sha256, file.sha256))
    return failure('HashMismatch', `the file's SHA-256 is ${toHex(file.sha256)}, not ${toHex(p.sha256)}`);
  if (!trusts(p.key)) return failure('SignatureFailure', `key ${toHex(p.key)} is not trusted`);
  if (!verify({ kind: 'ed25519', bytes: p.key }, packageMessage(p), p.signature))
    return failure('SignatureFailure', `package ${p.id} version ${p.version} is not signed by ${toHex(p.key)}`);
  return null;
}

// ── The sidecar ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a model's package is called. */
export const sidecarOf = (path: string): string => `${path}.sis`;

/** The bytes of a sidecar: canonical JSON and a line feed. */
export function formatPackage({ id, version, size, sha256, key, signature }: ModelPackage): Uint8Array {
  const [digest, signer, seal] = [sha256, key, signature].map(bytes => toHex(bytes));
  return utf8Encode(
    `{"format":"${FORMAT}","id":${id},"key":"${signer}","sha256":"${digest}","signature":"${seal}","size":${size},"version":${version}}\n`,
  );
}

const MEMBERS = 'format id key sha256 signature size version';

/** A sidecar's package, or what is wrong with it. */
export function parsePackage(bytes: Uint8Array): ModelPackage | Refusal {
  const body = bytes.at(-1) === 0x0a ? bytes.subarray(0, -1) : bytes;
  const parsed = parseCanonical(body);
  if (isRefusal(parsed)) return parsed;
  const { value } = parsed;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return malformed('not an object');
  const o = value as Readonly<Record<string, unknown>>;
  if (Object.keys(o).join(' ') !== MEMBERS) return malformed(`not the members ${MEMBERS}`);
  if (o['format'] !== FORMAT) return malformed(`format is not ${FORMAT}`);
  const number = (name: string, most: number): number => {
    const n = o[name];
    return typeof n === 'number' && Number.isInteger(n) && n >= 0 && n <= most ? n : -1;
  };
  const hex = (name: string, length: number): Uint8Array | null => {
    const text = o[name];
    return typeof text === 'string' && text.length === 2 * length && /^[0-9a-f]+$/.test(text) ? fromHex(text) : null;
  };
  const [id, version, size] = [number('id', U32_MAX), number('version', U32_MAX), number('size', 2 ** 53 - 1)];
  if (id < 1) return malformed(`id is not an integer from 1 to ${U32_MAX}`);
  if (version < 0) return malformed(`version is not an integer up to ${U32_MAX}`);
  if (size < 0) return malformed('size is not an integer below 2^53');
  const [sha256, key, signature] = [hex('sha256', 32), hex('key', 32), hex('signature', 64)];
  if (sha256 === null || key === null || signature === null)
    return malformed('sha256, key and signature are 64, 64 and 128 digits of hex');
  return { id, version, size, sha256, key, signature };
}
