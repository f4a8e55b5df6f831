// Texts of requests, for an auditor who is to read them: off unless the superuser switches it on with the auditor's public key (age, X25519), and
// from then on what each request was asked and said is stored beside the log, encrypted to that key, its digest in the record. The kernel cannot
// read it again. All keys come from the log's own by the record's number, so that a machine that is run again stores the same bytes.

import { isRefusal, LIMITS, utf8Decode, type LogKey, type Refusal } from '../abi/index.ts';
import { ageEncrypt, canonical, formatRecipient, parseRecipient, toHex, type Json } from '../../trust/index.ts';
import { panic } from '../panic.ts';

/** What a request was asked and said. */
export interface Texts {
  readonly record: number;
  readonly salt: Uint8Array;
  /** Token ids, u32 little-endian. */
  readonly prompt: Uint8Array;
  readonly output: Uint8Array;
  readonly stops: readonly Uint8Array[];
  /** The bytes that a token stands for. */
  readonly piece: (id: number) => Uint8Array;
}

/** Encrypted texts. `what`: `all`, or `ids` where the texts were too long and only the token ids are there. */
export interface Sealed {
  readonly what: 'all' | 'ids';
  readonly bytes: Uint8Array;
}

/**
 * What sealing takes, as bytes that are hashed, which is how the log is charged: the text and the file each through SHA-256 (14 cycles a byte on the
 * Cortex-A72), the text through ChaCha20-Poly1305 (10), and two multiplications on Curve25519 (170,000 each, 24 KiB).
 */
export const sealingBytes = (fileBytes: number): number => 3 * fileBytes + 24 * 1024;

export interface Sealer {
  /** Who can read them: an age recipient. */
  readonly recipient: string;
  /** Null: even their ids are too long. */
  seal(texts: Texts): Sealed | null;
}

/** Seals for `recipient` (`age1…`). */
export function sealerOf(recipient: string, key: LogKey): Sealer | Refusal {
  const reader = parseRecipient(recipient);
  if (isRefusal(reader)) return { ...reader, code: 7001 };
  return {
    recipient: formatRecipient(reader),
    seal(texts) {
      const { what, plain } = plaintext(texts);
      if (plain === null) return null;
      const message = new Uint8Array(8);
      new DataView(message.buffer).setBigUint64(0, BigInt(texts.record));
      const bytes = ageEncrypt(plain, [reader], key.mac('content', message));
      return isRefusal(bytes) ? panic(bytes.message) : { what, bytes };
    },
  };
}

/** In canonical JSON, at most LIMITS.auditContentBytes; null: it would be longer. */
function plaintext(texts: Texts): { readonly what: Sealed['what']; readonly plain: Uint8Array | null } {
  const { record, salt, stops } = texts;
  const [prompt, output] = [idsOf(texts.prompt), idsOf(texts.output)];
  if ((prompt.length + output.length) * 2 > LIMITS.auditContentBytes) return { what: 'ids', plain: null };
  const ids = {
    record,
    salt: toHex(salt),
    prompt_ids: prompt,
    output_ids: output,
    stops: stops.map(stop => utf8Decode(stop)),
  };
  const [asked, said] = [textOf(texts, prompt), textOf(texts, output)];
  const all = asked === null || said === null ? null : written({ ...ids, prompt: asked, output: said });
  return all === null ? { what: 'ids', plain: written(ids) } : { what: 'all', plain: all };
}

function idsOf(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length >> 2 }, (_, i) => view.getUint32(i * 4, true));
}

/** UTF-8 as text, what is none of it as replacement characters; null when it cannot fit. */
function textOf({ piece }: Texts, ids: readonly number[]): string | null {
  const bytes = new Uint8Array(LIMITS.auditContentBytes);
  let end = 0;
  for (const id of ids) {
    const part = piece(id);
    if (end + part.length > bytes.length) return null;
    bytes.set(part, end);
    end += part.length;
  }
  return utf8Decode(bytes, 0, end);
}

function written(value: { readonly [name: string]: Json }): Uint8Array | null {
  const bytes = canonical(value);
  return isRefusal(bytes) || bytes.length > LIMITS.auditContentBytes ? null : bytes;
}
