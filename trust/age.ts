// Encryption to a reader: age v1 (C2SP age, age-encryption.org/v1) with X25519 recipients. The text is cut into chunks of 64 KiB under
// ChaCha20-Poly1305; its key lies in the header, wrapped for each reader. Debian's `age` opens what is written here and the other way round.
// Nothing is random: all keys come from the caller's seed and the text itself, so that a re-run writes the same bytes.

import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { isRefusal, utf8Decode, utf8Encode } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import { fromBech32, toBech32 } from './bech32.ts';
import { fromBase64, joined, malformed, sameBytes, sha256, toBase64, unproven } from './bytes.ts';
import { agreed, derived, hmacSha256, publicKey, secretKey } from './keys.ts';
import type { PublicKey, SecretKey } from './keys.ts';

const VERSION = 'age-encryption.org/v1';
const CHUNK_BYTES = 65536;
const TAG_BYTES = 16;
const KEY_BYTES = 16;
const NONCE_BYTES = 16;
const HEADER_BYTES_MOST = 16384;
const STANZAS_MOST = 32;
/** A wrapped key is used once, so its nonce may be 0. */
const WRAP_NONCE = new Uint8Array(12);
const EMPTY = new Uint8Array(0);

// ---- Keys ----

/** `age1…`: whom a text is encrypted to. */
export const formatRecipient = (key: PublicKey): string => toBech32('age', key.bytes);

export function parseRecipient(text: string): PublicKey | Refusal {
  const bytes = fromBech32('age', text.trim());
  return bytes === null ? malformed('not an age recipient (age1…)') : publicKey('x25519', bytes);
}

/** `AGE-SECRET-KEY-1…`: the reader's secret. */
export const formatIdentity = (key: SecretKey): string => toBech32('age-secret-key-', key.secret).toUpperCase();

/** Takes the file of age-keygen too: lines that begin with # are passed over. */
export function parseIdentity(text: string): SecretKey | Refusal {
  const lines = text.split('\n').filter(line => line.trim() !== '' && !line.startsWith('#'));
  const bytes = lines.length === 1 ? fromBech32('age-secret-key-', lines[0]!.trim()) : null;
  return bytes === null ? malformed('not an age identity (AGE-SECRET-KEY-1…)') : secretKey('x25519', bytes);
}

// ---- Encrypting ----

/**
 * `text` for the recipients. `seed`: 32 secret bytes; the keys are derived from it and from the text, so that another text under the same
 * seed, as after a power cut, has other keys.
 */
export function ageEncrypt(text: Uint8Array, recipients: readonly PublicKey[], seed: Uint8Array): Uint8Array | Refusal {
  if (recipients.length === 0 || recipients.length > STANZAS_MOST)
    return malformed(`${recipients.length} recipients: from 1 to ${STANZAS_MOST}`);
  const digest = sha256(text);
  const fileKey = derived(seed, digest, 'arena8/age file key').slice(0, KEY_BYTES);
  const nonce = derived(seed, digest, 'arena8/age nonce').slice(0, NONCE_BYTES);
  const stanzas: string[] = [];
  for (const { bytes } of recipients) {
    const stanza = wrapped(fileKey, bytes, derived(seed, joined(digest, bytes), 'arena8/age ephemeral'));
    if (isRefusal(stanza)) return stanza;
    stanzas.push(stanza);
  }
  const header = `${VERSION}\n${stanzas.join('')}---`;
  return joined(utf8Encode(`${header} ${unpadded(headerMac(fileKey, header))}\n`), nonce, sealed(text, fileKey, nonce));
}

/** The stanza that carries the file key to one recipient, under a key pair of its own. */
function wrapped(fileKey: Uint8Array, recipient: Uint8Array, secret: Uint8Array): string | Refusal {
  const ephemeral = secretKey('x25519', secret);
  if (isRefusal(ephemeral)) return ephemeral;
  const share = ephemeral.public.bytes;
  const key = wrapKey(agreed(ephemeral, recipient), share, recipient);
  if (key === null) return malformed('an age recipient of small order');
  return `-> X25519 ${unpadded(share)}\n${unpadded(chacha20poly1305(key, WRAP_NONCE).encrypt(fileKey))}\n`;
}

function wrapKey(shared: Uint8Array | null, share: Uint8Array, recipient: Uint8Array): Uint8Array | null {
  return shared === null ? null : derived(shared, joined(share, recipient), `${VERSION}/X25519`);
}

function headerMac(fileKey: Uint8Array, header: string): Uint8Array {
  return hmacSha256(derived(fileKey, EMPTY, 'header'), utf8Encode(header));
}

function sealed(text: Uint8Array, fileKey: Uint8Array, nonce: Uint8Array): Uint8Array {
  const key = derived(fileKey, nonce, 'payload');
  const count = Math.max(1, Math.ceil(text.length / CHUNK_BYTES));
  const chunks = Array.from({ length: count }, (_, i) =>
    chacha20poly1305(key, chunkNonce(i, i === count - 1)).encrypt(
      text.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES),
    ),
  );
  return joined(...chunks);
}

/** Eleven bytes of the chunk's number, big-endian, and one that says whether it is the last. */
function chunkNonce(i: number, isLast: boolean): Uint8Array {
  return Uint8Array.of(0, 0, 0, 0, 0, 0, 0, i >>> 24, i >>> 16, i >>> 8, i, isLast ? 1 : 0);
}

// ---- Decrypting ----

/** The text, when the file is whole and one of its stanzas is for `identity`. */
export function ageDecrypt(file: Uint8Array, identity: SecretKey): Uint8Array | Refusal {
  const header = parseHeader(file);
  if (isRefusal(header)) return header;
  const fileKey = unwrapped(header.stanzas, identity);
  if (isRefusal(fileKey)) return fileKey;
  if (!sameBytes(headerMac(fileKey, header.text), header.mac)) return unproven('age: the header was changed');
  const body = file.subarray(header.end);
  if (body.length < NONCE_BYTES) return malformed('age: the file ends before its text');
  return opened(body.subarray(NONCE_BYTES), derived(fileKey, body.subarray(0, NONCE_BYTES), 'payload'));
}

interface Stanza {
  readonly words: readonly string[];
  readonly body: Uint8Array;
}

interface Header {
  readonly stanzas: readonly Stanza[];
  /** What the MAC is over: up to the three dashes. */
  readonly text: string;
  readonly mac: Uint8Array;
  /** Where the payload begins. */
  readonly end: number;
}

function parseHeader(file: Uint8Array): Header | Refusal {
  const lines = headerLines(file);
  if (isRefusal(lines)) return lines;
  if (lines[0] !== VERSION) return malformed(`age, line 1: not ${VERSION}`);
  const stanzas: Stanza[] = [];
  let at = 1;
  while (lines[at]?.startsWith('-> ') && stanzas.length < STANZAS_MOST) {
    const words = lines[at]!.slice(3).split(' ');
    let text = '';
    do text += lines[++at] ?? '';
    while (lines[at]?.length === 64); // a shorter line ends the stanza; behind the header's last there is none
    const body = fromUnpadded(text);
    if (words.includes('') || body === null) return malformed(`age, line ${at + 1}: not the end of a stanza`);
    stanzas.push({ words, body });
    at++;
  }
  const mac = fromUnpadded(lines.at(-1)!.slice('--- '.length));
  if (at !== lines.length - 1 || stanzas.length === 0)
    return malformed(`age, line ${at + 1}: not a stanza, or one too many`);
  if (!lines[at]!.startsWith('--- ') || mac?.length !== 32) return malformed(`age, line ${at + 1}: not a MAC`);
  const text = `${lines.slice(0, -1).join('\n')}\n---`;
  return { stanzas, text, mac, end: text.length + lines[at]!.length - '---'.length + 1 };
}

/** The lines up to the one that begins with three dashes: printable ASCII all of them. */
function headerLines(file: Uint8Array): readonly string[] | Refusal {
  const lines: string[] = [];
  for (let at = 0; at < HEADER_BYTES_MOST;) {
    const end = file.subarray(0, HEADER_BYTES_MOST).indexOf(10, at);
    const line = file.subarray(at, end);
    if (end < 0 || line.some(byte => byte < 0x20 || byte > 0x7e)) break;
    lines.push(utf8Decode(line));
    if (lines.at(-1)!.startsWith('---')) return lines;
    at = end + 1;
  }
  return malformed(`age, line ${lines.length + 1}: not a line of a header`);
}

/** The file key out of the first stanza that is for `identity`. */
function unwrapped(stanzas: readonly Stanza[], identity: SecretKey): Uint8Array | Refusal {
  const recipient = identity.public.bytes;
  for (const { words, body } of stanzas) {
    if (words[0] === 'scrypt') return malformed('age: encrypted under a passphrase');
    if (words[0] !== 'X25519') continue;
    const share = words.length === 2 ? fromUnpadded(words[1]!) : null;
    if (share?.length !== 32 || body.length !== KEY_BYTES + TAG_BYTES) return malformed('age: not an X25519 stanza');
    const key = wrapKey(agreed(identity, share), share, recipient);
    if (key === null) return malformed('age: an X25519 stanza of small order');
    const fileKey = decryptedChunk(key, WRAP_NONCE, body);
    if (fileKey !== null) return fileKey;
  }
  return unproven('age: not encrypted to this key');
}

function opened(body: Uint8Array, key: Uint8Array): Uint8Array | Refusal {
  const step = CHUNK_BYTES + TAG_BYTES;
  const count = Math.max(1, Math.ceil(body.length / step));
  const chunks: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const chunk = decryptedChunk(key, chunkNonce(i, i === count - 1), body.subarray(i * step, (i + 1) * step));
    if (chunk === null || (i > 0 && chunk.length === 0)) return unproven(`age: chunk ${i} of ${count} was changed`);
    chunks.push(chunk);
  }
  return joined(...chunks);
}

function decryptedChunk(key: Uint8Array, nonce: Uint8Array, bytes: Uint8Array): Uint8Array | null {
  try {
    return chacha20poly1305(key, nonce).decrypt(bytes);
  } catch {
    return null; // the library's word for a tag that does not fit
  }
}

const unpadded = (bytes: Uint8Array): string => toBase64(bytes).replace(/=+$/, '');

function fromUnpadded(text: string): Uint8Array | null {
  return text.includes('=') ? null : fromBase64(text.padEnd(4 * Math.ceil(text.length / 4), '='));
}
