// Signed statements: a DSSE envelope v1 (secure-systems-lab/dsse) around an in-toto Statement v1. The signature covers the payload's type
// and its exact bytes, so nobody parses what has not been verified; the statement says something about files by their digests.

import { isRefusal, shown, utf8Encode } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import { fromBase64, joined, malformed, toBase64, unproven } from './bytes.ts';
import { canonical, parseJson } from './canonical.ts';
import type { Json, JsonObject } from './canonical.ts';
import { verify } from './keys.ts';
import type { PublicKey } from './keys.ts';

const SIGNATURES_MOST = 16;

export interface Envelope {
  readonly payloadType: string;
  readonly payload: Uint8Array;
  /** `keyid` is a hint and decides nothing. */
  readonly signatures: readonly { readonly keyid: string; readonly sig: Uint8Array }[];
}

/** PAE: what is signed. */
export function preAuthentication(payloadType: string, payload: Uint8Array): Uint8Array {
  const type = utf8Encode(payloadType);
  return joined(utf8Encode(`DSSEv1 ${type.length} ${payloadType} ${payload.length} `), payload);
}

export interface EnvelopeSigner {
  readonly keyid: string;
  readonly sign: (message: Uint8Array) => Uint8Array;
}

/** The envelope with a signature of each signer, as canonical JSON. */
export function signEnvelope(
  payloadType: string,
  payload: Uint8Array,
  signers: readonly EnvelopeSigner[],
): Uint8Array | Refusal {
  const message = preAuthentication(payloadType, payload);
  const signatures = signers.map(({ keyid, sign }) => ({ keyid, sig: toBase64(sign(message)) }));
  return canonical({ payload: toBase64(payload), payloadType, signatures });
}

/** Takes an envelope apart; no signature is looked at. Both alphabets of base64 are read, as the protocol asks. */
export function parseEnvelope(bytes: Uint8Array): Envelope | Refusal {
  const parsed = parseJson(bytes);
  if (isRefusal(parsed)) return parsed;
  const { payload, payloadType, signatures } = fieldsOf(parsed.value);
  const body = decoded(payload);
  if (body === null) return malformed('envelope: payload is not base64');
  if (typeof payloadType !== 'string') return malformed('envelope: payloadType is not a string');
  if (!Array.isArray(signatures) || signatures.length === 0 || signatures.length > SIGNATURES_MOST)
    return malformed(`envelope: signatures is not a list of 1 to ${SIGNATURES_MOST}`);
  const list: { keyid: string; sig: Uint8Array }[] = [];
  for (const [i, signature] of (signatures as readonly Json[]).entries()) {
    const { keyid = '', sig } = fieldsOf(signature);
    const raw = decoded(sig);
    if (raw === null || typeof keyid !== 'string') return malformed(`envelope: signatures[${i}] has no sig`);
    list.push({ keyid, sig: raw });
  }
  return { payloadType, payload: body, signatures: list };
}

/** The payload, when it is of this type and at least one of `keys` has signed it. */
export function openEnvelope(bytes: Uint8Array, payloadType: string, keys: readonly PublicKey[]): Uint8Array | Refusal {
  const envelope = parseEnvelope(bytes);
  if (isRefusal(envelope)) return envelope;
  const message = preAuthentication(envelope.payloadType, envelope.payload);
  if (!envelope.signatures.some(({ sig }) => keys.some(key => verify(key, message, sig))))
    return unproven('envelope: not signed by a known key');
  if (envelope.payloadType !== payloadType)
    return malformed(`envelope: of ${shown(envelope.payloadType)}, not of ${payloadType}`);
  return envelope.payload;
}

// ---- in-toto ----

export const STATEMENT_PAYLOAD = 'application/vnd.in-toto+json';
const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';

export interface Subject {
  readonly name: string;
  /** By algorithm, hexadecimal. */
  readonly digest: Readonly<Record<string, string>>;
}

export interface Statement {
  readonly subject: readonly Subject[];
  /** URI of what `predicate` means. */
  readonly predicateType: string;
  readonly predicate: JsonObject;
}

export function formatStatement({ subject, predicateType, predicate }: Statement): Uint8Array | Refusal {
  const subjects = subject.map(({ name, digest }) => ({ name, digest: { ...digest } }));
  return canonical({ _type: STATEMENT_TYPE, subject: subjects, predicateType, predicate });
}

export function parseStatement(bytes: Uint8Array): Statement | Refusal {
  const parsed = parseJson(bytes);
  if (isRefusal(parsed)) return parsed;
  const { _type, subject, predicateType, predicate = {} } = fieldsOf(parsed.value);
  if (_type !== STATEMENT_TYPE) return malformed(`statement: _type is not ${STATEMENT_TYPE}`);
  if (typeof predicateType !== 'string') return malformed('statement: predicateType is not a string');
  if (!isObject(predicate)) return malformed('statement: predicate is not an object');
  if (!Array.isArray(subject) || subject.length === 0) return malformed('statement: subject is not a list');
  const subjects: Subject[] = [];
  for (const [i, entry] of (subject as readonly Json[]).entries()) {
    const { name = '', digest } = fieldsOf(entry);
    if (typeof name !== 'string' || !isDigest(digest)) return malformed(`statement: subject[${i}] has no digest`);
    subjects.push({ name, digest });
  }
  return { subject: subjects, predicateType, predicate };
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The members of an object; of anything else none. */
const fieldsOf = (value: Json): Partial<Record<string, Json>> => (isObject(value) ? value : {});

function isDigest(value: Json | undefined): value is Readonly<Record<string, string>> {
  if (!isObject(value)) return false;
  const sums = Object.values(value);
  return sums.length > 0 && sums.every(sum => typeof sum === 'string' && /^([0-9a-f]{2})+$/.test(sum));
}

function decoded(text: Json | undefined): Uint8Array | null {
  return typeof text === 'string' ? fromBase64(text.replaceAll('-', '+').replaceAll('_', '/')) : null;
}
