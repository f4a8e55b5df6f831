// Texts and who signed them: signed notes (C2SP signed-note; Go's sumdb/note) and witnesses' signatures with a time (tlog-cosignature v1).
// A text counts for nothing until `openNote` has found a signature of a key that the caller knows; one bad signature of a known key
// refuses the whole note.

import { isRefusal, shown, utf8Decode, utf8Encode, utf8Valid } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import { fromBase64, joined, malformed, sha256, toBase64, unproven } from './bytes.ts';
import { publicKey, secretKey, sign, verify } from './keys.ts';

export const NOTE_BYTES_MOST = 65536;
const SIGNATURES_MOST = 16;

/** Signature types: of a log, and of a witness. The same key has another id in each, so that neither stands for the other. */
export const NOTE_TYPE = { ed25519: 1, cosignature: 4 } as const;
export type NoteType = (typeof NOTE_TYPE)[keyof typeof NOTE_TYPE];

/** A key by its name and id, Ed25519. */
export interface NoteKey {
  readonly name: string;
  readonly type: NoteType;
  readonly publicKey: Uint8Array;
  /** First four bytes of SHA-256 over name, newline, type and key. */
  readonly id: number;
}

/** A key and its signatures, which a host may make: 64 bytes of Ed25519. */
export interface NoteSigner {
  readonly key: NoteKey;
  readonly sign: (message: Uint8Array) => Uint8Array;
}

/** A name is not empty and has no Unicode blanks, no plus signs, no control characters, no half of a surrogate pair. */
function isName(name: string): boolean {
  return (
    /^[^ +\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ud800-\udfff]+$/u.test(name) &&
    !hasControl(name)
  );
}

function hasControl(line: string): boolean {
  for (const c of line) if (c < ' ') return true;
  return false;
}

export function noteKey(name: string, key: Uint8Array, type: NoteType = NOTE_TYPE.ed25519): NoteKey | Refusal {
  if (!isName(name)) return malformed(`not a key's name: ${shown(name)}`);
  const known = publicKey('ed25519', key);
  if (isRefusal(known)) return known;
  const hash = sha256(utf8Encode(`${name}\n`), Uint8Array.of(type), key);
  return { name, type, publicKey: key, id: bigEndian(hash, 4) };
}

export function noteSigner(name: string, secret: Uint8Array, type?: NoteType): NoteSigner | Refusal {
  const pair = secretKey('ed25519', secret);
  if (isRefusal(pair)) return pair;
  const key = noteKey(name, pair.public.bytes, type);
  return isRefusal(key) ? key : { key, sign: message => sign(pair, message) as Uint8Array };
}

/** `NAME+ID+KEY`: the line by which a public key is handed around. */
export function formatNoteKey(key: NoteKey): string {
  return `${key.name}+${idText(key.id)}+${toBase64(joined(Uint8Array.of(key.type), key.publicKey))}`;
}

export function parseNoteKey(line: string): NoteKey | Refusal {
  const [name = '', id = '', ...rest] = line.trim().split('+');
  return keyOf(name, id, rest.join('+'), noteKey);
}

/** `PRIVATE+KEY+NAME+ID+SEED`: Go's form of the secret key. */
export function formatNoteSecret(key: NoteKey, secret: Uint8Array): string {
  return `PRIVATE+KEY+${key.name}+${idText(key.id)}+${toBase64(joined(Uint8Array.of(key.type), secret))}`;
}

export function parseNoteSecret(line: string): { readonly key: NoteKey; readonly secret: Uint8Array } | Refusal {
  const [word, second, name = '', id = '', ...rest] = line.trim().split('+');
  if (word !== 'PRIVATE' || second !== 'KEY') return malformed('note key: does not begin with PRIVATE+KEY+');
  return keyOf(name, id, rest.join('+'), (name, secret, type) => {
    const signer = noteSigner(name, secret, type);
    return isRefusal(signer) ? signer : { id: signer.key.id, key: signer.key, secret };
  });
}

/** Takes the parts of a key's line; `make` is given the 32 bytes and says what id they have. */
function keyOf<K extends { readonly id: number }>(
  name: string,
  id: string,
  base64: string,
  make: (name: string, bytes: Uint8Array, type: NoteType) => K | Refusal,
): K | Refusal {
  const bytes = fromBase64(base64);
  if (!/^[0-9a-f]{8}$/.test(id) || bytes === null) return malformed('note key: not NAME+ID+KEY');
  const type = Object.values(NOTE_TYPE).find(t => t === bytes[0]);
  if (type === undefined) return malformed(`note key ${shown(name)}: type ${bytes[0]} is neither 1 nor 4`);
  const key = make(name, bytes.slice(1), type);
  if (isRefusal(key)) return key;
  return idText(key.id) === id ? key : malformed(`note key ${shown(name)}: id ${id} is another key's`);
}

const idText = (id: number): string => id.toString(16).padStart(8, '0');

// ---- Signed notes ----

/** A signature as it stands in a note. */
export interface NoteSignature {
  readonly name: string;
  readonly id: number;
  /** Without the id. */
  readonly bytes: Uint8Array;
}

export interface Note {
  /** Ends in a newline. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

/** A signature that holds; `time`: seconds since 1970 that a witness states, else null. */
export interface Signed {
  readonly key: NoteKey;
  readonly time: number | null;
}

/** The line that `signer` adds to a note of this text, for a witness with the time it states. */
export function signatureLine(text: string, signer: NoteSigner, time = 0): string {
  const { name, type, id } = signer.key;
  const stamp = type === NOTE_TYPE.cosignature ? u64(time) : new Uint8Array(0);
  const signature = signer.sign(signedBytes(text, type, time));
  return `— ${name} ${toBase64(joined(u32(id), stamp, signature))}\n`;
}

/** `text` (whole lines) as a note with one signature; further signature lines are simply appended. */
export const signNote = (text: string, signer: NoteSigner): string => `${text}\n${signatureLine(text, signer)}`;

function signedBytes(text: string, type: NoteType, time: number): Uint8Array {
  return utf8Encode(type === NOTE_TYPE.cosignature ? `cosignature/v1\ntime ${time}\n${text}` : text);
}

/** Takes a note apart; nobody's signature is looked at. */
export function parseNote(bytes: Uint8Array): Note | Refusal {
  if (bytes.length > NOTE_BYTES_MOST) return malformed(`note of ${bytes.length} bytes; at most ${NOTE_BYTES_MOST}`);
  if (!utf8Valid(bytes)) return malformed('note: not UTF-8');
  const all = utf8Decode(bytes);
  const lines = all.split('\n');
  const control = lines.findIndex(hasControl);
  if (control >= 0) return malformed(`note, line ${control + 1}: a control character`);
  const blank = all.lastIndexOf('\n\n');
  if (blank < 0 || !all.endsWith('\n')) return malformed('note: no blank line and whole lines of signatures after it');
  const text = all.slice(0, blank + 1);
  const first = text.split('\n').length; // lines are counted from 1; this one is the blank line
  const signatures: NoteSignature[] = [];
  for (const [i, line] of lines.slice(first, -1).entries()) {
    const [dash, name = '', base64 = '', ...more] = line.split(' ');
    const signature = fromBase64(base64);
    if (dash !== '—' || more.length > 0 || !isName(name) || signature === null || signature.length < 5)
      return malformed(`note, line ${first + 1 + i}: not a signature`);
    signatures.push({ name, id: bigEndian(signature, 4), bytes: signature.slice(4) });
  }
  if (signatures.length === 0) return malformed('note: no signature');
  if (signatures.length > SIGNATURES_MOST)
    return malformed(`note: ${signatures.length} signatures; at most ${SIGNATURES_MOST}`);
  return { text, signatures };
}

/** A note that at least one of `keys` has signed; signatures of keys that are not among them say nothing. */
export function openNote(
  bytes: Uint8Array,
  keys: readonly NoteKey[],
): { readonly text: string; readonly signed: readonly Signed[] } | Refusal {
  const note = parseNote(bytes);
  if (isRefusal(note)) return note;
  const signed: Signed[] = [];
  for (const signature of note.signatures) {
    const key = keys.find(k => k.name === signature.name && k.id === signature.id);
    if (key === undefined) continue;
    const time = checked(note.text, signature.bytes, key);
    if (time === undefined)
      return unproven(`note: the signature of ${shown(key.name)}+${idText(key.id)} does not hold`);
    signed.push({ key, time });
  }
  return signed.length > 0 ? { text: note.text, signed } : unproven('note: not signed by a known key');
}

/** The time that a signature states, null where its type has none, undefined when it does not hold. */
function checked(text: string, signature: Uint8Array, key: NoteKey): number | null | undefined {
  const isWitness = key.type === NOTE_TYPE.cosignature;
  const time = isWitness && signature.length === 72 ? bigEndian(signature, 8) : 0;
  if (!Number.isSafeInteger(time)) return undefined;
  const message = signedBytes(text, key.type, time);
  const holds = verify({ kind: 'ed25519', bytes: key.publicKey }, message, isWitness ? signature.slice(8) : signature);
  if (!holds) return undefined;
  return isWitness ? time : null;
}

function bigEndian(bytes: Uint8Array, count: number): number {
  return bytes.subarray(0, count).reduce((sum, b) => sum * 256 + b, 0);
}

const u32 = (n: number): Uint8Array => Uint8Array.of(n >>> 24, n >>> 16, n >>> 8, n);
const u64 = (n: number): Uint8Array => joined(u32(Math.floor(n / 2 ** 32)), u32(n));
