// OpenSSF Model Signing v1: the bundle that model_signing writes beside a model, as far as bare ECDSA keys go. A Sigstore bundle holds a
// DSSE envelope, that an in-toto statement, and that the model's files with their SHA-256. Certificates and keyless signatures need a
// certificate authority and a transparency log of others: they are told apart and refused by name.

import { isRefusal, shown, utf8Encode } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import { fromBase64, fromHex, joined, malformed, sha256, toBase64, toHex } from './bytes.ts';
import { canonical, parseJson } from './canonical.ts';
import type { Json } from './canonical.ts';
import { formatStatement, parseStatement, preAuthentication, STATEMENT_PAYLOAD } from './dsse.ts';
import { formatPublicPem, isCurve, sign, verify } from './keys.ts';
import type { PublicKey, SecretKey } from './keys.ts';
import { failure } from './package.ts';
import type { PackageFailure } from './package.ts';

const MEDIA_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
const MEDIA_TYPES = 'application/vnd.dev.sigstore.bundle';
const PREDICATE_TYPE = 'https://model_signing/signature/v1.0';

/** How a bundle says who signed: with a key of which it has the digest, with a chain of certificates, or keyless through Sigstore. */
export type OmsMethod = 'key' | 'certificate' | 'sigstore';

/** A bundle whose form is right; whether it holds is another question. */
export interface OmsBundle {
  readonly method: OmsMethod;
  /** SHA-256 of the public key's PEM, hex; '' where the bundle says none. */
  readonly hint: string;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array; // DER
  readonly subject: string;
  readonly rootSha256: string;
  readonly resources: readonly OmsResource[];
}
export interface OmsResource {
  readonly name: string;
  readonly sha256: string;
}

/** What the bundle of a model is called that is one file. */
export const bundleOf = (path: string): string => `${path}.sig`;

// ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Fields = Readonly<Record<string, unknown>>;

/** A bundle as the published schemas have it, or the first place that is not so. */
export function parseBundle(bytes: Uint8Array): OmsBundle | Refusal {
  const bundle = object(bytes, 'the bundle', ['mediaType', 'verificationMaterial', 'dsseEnvelope'], []);
  if (isRefusal(bundle)) return bundle;
  const { mediaType, verificationMaterial: material, dsseEnvelope } = bundle;
  if (typeof mediaType !== 'string' || !mediaType.startsWith(MEDIA_TYPES))
    return malformed(`mediaType is not ${MEDIA_TYPES}…`);
  const signer = signerOf(material);
  if (isRefusal(signer)) return signer;
  const envelope = object(dsseEnvelope, 'dsseEnvelope', ['payload', 'payloadType', 'signatures'], []);
  if (isRefusal(envelope)) return envelope;
  if (envelope['payloadType'] !== STATEMENT_PAYLOAD) return malformed(`payloadType is not ${STATEMENT_PAYLOAD}`);
  const payload = decoded(envelope['payload']);
  if (payload === null) return malformed('payload is not base64');
  const { signatures } = envelope;
  if (!Array.isArray(signatures) || signatures.length !== 1) return malformed('signatures is not a list of one');
  const signed = object(signatures[0], 'signatures[0]', ['sig'], ['keyid']);
  if (isRefusal(signed)) return signed;
  const { keyid = null } = signed;
  if (keyid !== null && typeof keyid !== 'string') return malformed('keyid is not a string');
  const signature = decoded(signed['sig']);
  if (signature === null) return malformed('sig is not base64');
  const statement = statementOf(payload);
  return isRefusal(statement) ? statement : { ...signer, payload, signature, ...statement };
}

function signerOf(material: unknown): Pick<OmsBundle, 'method' | 'hint'> | Refusal {
  const fields = object(material, 'verificationMaterial', [], null);
  if (isRefusal(fields)) return fields;
  const { tlogEntries = [], publicKey } = fields;
  if (!Array.isArray(tlogEntries)) return malformed('tlogEntries is not a list');
  if (fields['x509CertificateChain'] !== undefined) return { method: 'certificate', hint: '' };
  if (fields['certificate'] !== undefined)
    return tlogEntries.length === 0
      ? malformed('tlogEntries is missing: a certificate of Sigstore needs an entry of its log')
      : { method: 'sigstore', hint: '' };
  const key = object(publicKey, 'publicKey', [], null);
  if (isRefusal(key)) return malformed('verificationMaterial has no publicKey, x509CertificateChain or certificate');
  if (tlogEntries.length > 0 || fields['timestampVerificationData'] !== undefined)
    return malformed('a bare key has no entries of a log and no time stamps');
  const { hint = '', rawBytes = '' } = key;
  if (typeof hint !== 'string' || typeof rawBytes !== 'string' || hint + rawBytes === '')
    return malformed('publicKey has no hint');
  return { method: 'key', hint };
}

function statementOf(payload: Uint8Array): Pick<OmsBundle, 'subject' | 'rootSha256' | 'resources'> | Refusal {
  const members = object(payload, 'the payload', ['_type', 'subject', 'predicateType', 'predicate'], []);
  if (isRefusal(members)) return members;
  const statement = parseStatement(payload);
  if (isRefusal(statement)) return statement;
  const { subject: subjects, predicateType, predicate } = statement;
  if (predicateType !== PREDICATE_TYPE)
    return malformed(`predicateType ${shown(predicateType)} is not ${PREDICATE_TYPE}`);
  const [subject, ...more] = subjects;
  if (subject === undefined || subject.name === '' || more.length > 0)
    return malformed('subject is not a list of one, with a name');
  const rootSha256 = sha256Text(subject.digest['sha256']);
  if (rootSha256 === null) return malformed('subject[0].digest.sha256 is not 64 digits of hex');
  const resources = resourcesOf(predicate);
  return isRefusal(resources) ? resources : { subject: subject.name, rootSha256, resources };
}

function resourcesOf(predicate: unknown): OmsResource[] | Refusal {
  const fields = object(predicate, 'predicate', ['resources', 'serialization'], []);
  if (isRefusal(fields)) return fields;
  const how = object(
    fields['serialization'],
    'serialization',
    ['method', 'hash_type', 'allow_symlinks'],
    SERIALIZATION,
  );
  if (isRefusal(how)) return how;
  if (how['method'] !== 'files') return malformed(`serialization by ${shown(String(how['method']))}: only files`);
  if (how['shard_size'] !== undefined) return malformed('shard_size without shards');
  if (typeof how['allow_symlinks'] !== 'boolean') return malformed('allow_symlinks is not true or false');
  const { ignore_paths: ignored = [] } = how;
  if (!Array.isArray(ignored) || ignored.some(name => typeof name !== 'string' || name === ''))
    return malformed('ignore_paths is not a list of names');
  if (how['hash_type'] !== 'sha256') return malformed(`hash_type ${shown(String(how['hash_type']))}: only sha256`);
  if (!Array.isArray(fields['resources'])) return malformed('resources is not a list');
  const resources: OmsResource[] = [];
  for (const [i, entry] of fields['resources'].entries()) {
    const resource = object(entry, `resources[${i}]`, ['name', 'digest', 'algorithm'], null);
    if (isRefusal(resource)) return resource;
    const { name, digest, algorithm } = resource;
    const text = sha256Text(digest);
    if (typeof name !== 'string' || name === '' || text === null || algorithm !== 'sha256')
      return malformed(`resources[${i}] is not a name with its sha256`);
    resources.push({ name, sha256: text });
  }
  return resources;
}
const SERIALIZATION = ['shard_size', 'ignore_paths'];

/** An object, or JSON bytes that hold one, with all the members of `needs`, and others only of `may`, or any where that is null. */
function object(
  value: unknown,
  place: string,
  needs: readonly string[],
  may: readonly string[] | null,
): Fields | Refusal {
  let found = value;
  if (value instanceof Uint8Array) {
    if (value.length === 0) return malformed(`${place} is empty`);
    const parsed = parseJson(value);
    if (isRefusal(parsed)) return malformed(`${place}: ${parsed.message}`);
    found = parsed.value;
  }
  if (typeof found !== 'object' || found === null || Array.isArray(found))
    return malformed(`${place} is not an object`);
  const fields = found as Fields;
  const missing = needs.find(name => !Object.hasOwn(fields, name));
  if (missing !== undefined) return malformed(`${place} has no ${missing}`);
  const stray = Object.keys(fields).find(name => may !== null && !needs.includes(name) && !may.includes(name));
  return stray === undefined ? fields : malformed(`${place} has a member ${shown(stray)}`);
}

const decoded = (text: unknown): Uint8Array | null =>
  typeof text === 'string' && text !== '' ? fromBase64(text) : null;
const sha256Text = (text: unknown): string | null =>
  typeof text === 'string' && /^[0-9a-f]{64}$/.test(text) ? text : null;

// ── Verifying ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** SHA-256 of the key's PEM, as bundles name keys. */
export const hintOf = (key: PublicKey): string => toHex(sha256(utf8Encode(formatPublicPem(key))));

/** Whether a bundle holds under one of these keys for a file: which is one of its resources, by name and digest. */
export function checkBundle(
  bundle: OmsBundle,
  file: { readonly name: string; readonly sha256: Uint8Array },
  keys: readonly PublicKey[],
): PackageFailure | null {
  const resource = bundle.resources.find(r => r.name === file.name);
  if (resource === undefined) return failure('HashMismatch', `${file.name} is not among the bundle's files`);
  if (resource.sha256 !== toHex(file.sha256))
    return failure('HashMismatch', `the file's SHA-256 is ${toHex(file.sha256)}, not ${resource.sha256}`);
  return checkBundleSignature(bundle, keys);
}

/** The same without looking at any file: who signed, and that the statement is of one piece. */
export function checkBundleSignature(bundle: OmsBundle, keys: readonly PublicKey[]): PackageFailure | null {
  if (bundle.method !== 'key')
    return failure('SignatureFailure', `signed by way of a ${METHOD[bundle.method]}: bare keys only`);
  const root = rootOf(bundle.resources);
  if (root !== bundle.rootSha256)
    return failure('HashMismatch', `the files' digests add up to ${root}, not ${bundle.rootSha256}`);
  const key = keys.find(k => isCurve(k.kind) && hintOf(k) === bundle.hint);
  if (key === undefined)
    return failure(
      'SignatureFailure',
      `key ${bundle.hint === '' ? 'without a hint' : shown(bundle.hint)} is not trusted`,
    );
  const misshapen = shapeOf(bundle.signature, key);
  if (misshapen !== null) return failure('SignatureFailure', misshapen);
  return verify(key, preAuthentication(STATEMENT_PAYLOAD, bundle.payload), bundle.signature)
    ? null
    : failure('SignatureFailure', `the statement is not signed by key ${bundle.hint}`);
}

const METHOD = { certificate: 'certificate chain', sigstore: 'Sigstore certificate' } as const;

/** SHA-256 over the files' digests, one after the other in the statement's order. */
const rootOf = (resources: readonly OmsResource[]): string =>
  toHex(sha256(joined(...resources.map(r => fromHex(r.sha256)!))));

/** What is wrong with a DER signature {r, s} for a key's curve, or null: two positive integers, minimal, no longer than its order. */
export function shapeOf(der: Uint8Array, { kind }: Pick<PublicKey, 'kind'>): string | null {
  const most = kind === 'p384' ? 48 : 32;
  if (der[0] !== 0x30 || der[1] !== der.length - 2) return 'the signature is not a DER sequence';
  let at = 2;
  for (const name of ['r', 's']) {
    const length = der[at + 1] ?? 0;
    const value = der.subarray(at + 2, at + 2 + length);
    if (der[at] !== 2 || length === 0 || value.length !== length) return `${name} of the signature is not an integer`;
    if (value[0]! >= 0x80) return `${name} of the signature is negative`;
    if (value[0] === 0 && (value[1] ?? 0) < 0x80) return `${name} of the signature is not minimal`;
    if (value.length - (value[0] === 0 ? 1 : 0) > most) return `${name} of the signature has more than ${most} bytes`;
    at += 2 + length;
  }
  return at === der.length ? null : 'the signature has bytes behind it';
}

// ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The bundle of these files under a curve's key, as bytes; `subject`: what the model is called. */
export function signBundle(subject: string, resources: readonly OmsResource[], key: SecretKey): Uint8Array | Refusal {
  if (!isCurve(key.kind)) return malformed(`model signing bundles take P-256 and P-384, not a key of ${key.kind}`);
  const sorted = [...resources].sort((a, b) => (a.name < b.name ? -1 : 1));
  const payload = formatStatement({
    subject: [{ name: subject, digest: { sha256: rootOf(sorted) } }],
    predicateType: PREDICATE_TYPE,
    predicate: {
      resources: sorted.map(r => ({ name: r.name, digest: r.sha256, algorithm: 'sha256' })),
      serialization: { method: 'files', hash_type: 'sha256', allow_symlinks: false, ignore_paths: [] },
    },
  });
  if (isRefusal(payload)) return payload;
  const sig = sign(key, preAuthentication(STATEMENT_PAYLOAD, payload));
  if (isRefusal(sig)) return sig;
  const bundle: Json = {
    mediaType: MEDIA_TYPE,
    verificationMaterial: { publicKey: { hint: hintOf(key.public) }, tlogEntries: [] },
    dsseEnvelope: {
      payload: toBase64(payload),
      payloadType: STATEMENT_PAYLOAD,
      signatures: [{ sig: toBase64(sig), keyid: '' }],
    },
  };
  const text = canonical(bundle);
  return isRefusal(text) ? text : joined(text, utf8Encode('\n'));
}
