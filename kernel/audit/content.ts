// Texts of requests, for an auditor who is to read them: off unless the superuser switches it on with the auditor's public key (age, X25519), and
// from then on what each request was asked and said is stored beside the log, encrypted to that key, its digest in the record. The kernel cannot
// read it again. All keys come from the log's own by the record's number, so that a machine that is run again stores the same bytes.

import { isRefusal, LIMITS, refuse, utf8Decode, type LogKey, type Refusal } from '../abi/index.ts';
import {
  canonical,
  encrypt,
  formatRecipient,
  parseRecipient,
  sha256,
  toHex,
  type Json,
  type PublicKey,
} from '../../trust/index.ts';
import { panic } from '../panic.ts';

/** A request as it is known at its end. Ids are u32; `bytesOf` gives what an id stands for. */
export interface Texts {
  readonly record: number;
  readonly salt: Uint8Array;
  readonly prompt: Uint32Array;
  readonly output: Uint32Array;
  readonly stops: readonly Uint8Array[];
  readonly bytesOf: (id: number) => Uint8Array;
}

/** What a record says of its texts: all are stored; only the ids are, with texts there was no room; nothing is, for want of room or of storage. */
export const STORED = { all: 'all', ids: 'ids', tooLong: 'too long', failed: 'failed' } as const;
export type Stored = (typeof STORED)[keyof typeof STORED];

/** Texts as they are stored. */
export interface Sealed {
  readonly bytes: Uint8Array;
  readonly digest: Uint8Array;
  readonly what: Stored;
}

export class Content {
  private recipient: PublicKey | null = null;

  constructor(private readonly key: LogKey) {}

  get isOn(): boolean {
    return this.recipient !== null;
  }

  /** `on age1…` or `off`, as `ctl` takes it behind `content`. */
  get setting(): string {
    return this.recipient === null ? 'off' : `on ${formatRecipient(this.recipient)}`;
  }

  /** Switches it; a refusal changes nothing. */
  set(setting: string): Refusal | null {
    const [word = '', key = '', ...more] = setting.split(' ');
    if (setting === 'off') {
      this.recipient = null;
      return null;
    }
    if (word !== 'on' || more.length > 0)
      return refuse('INVAL', 7001, `content '${setting}': on AGE-RECIPIENT, or off`);
    const recipient = parseRecipient(key);
    if (isRefusal(recipient)) return { ...recipient, code: 7001 };
    this.recipient = recipient;
    return null;
  }

  /** The texts of a request, encrypted; or why they are not stored. Null while it is off. */
  seal(texts: Texts): Sealed | typeof STORED.tooLong | null {
    if (this.recipient === null) return null;
    const ids = {
      record: texts.record,
      salt: toHex(texts.salt),
      prompt_ids: [...texts.prompt],
      output_ids: [...texts.output],
      stops: texts.stops.map(stop => utf8Decode(stop)),
    };
    const all = written({ ...ids, prompt: textOf(texts, texts.prompt), output: textOf(texts, texts.output) });
    const plain = all ?? written(ids);
    if (plain === null) return STORED.tooLong;
    const message = new Uint8Array(8);
    new DataView(message.buffer).setBigUint64(0, BigInt(texts.record));
    const bytes = encrypt(plain, [this.recipient], this.key.mac('content', message));
    if (isRefusal(bytes)) return panic(bytes.message); // the recipient was tried when it was set
    return { bytes, digest: sha256(bytes), what: all === null ? STORED.ids : STORED.all };
  }
}

/** The text of ids: UTF-8, what is none as replacement characters. Null when it cannot fit. */
function textOf({ bytesOf }: Texts, ids: Uint32Array): string | null {
  const bytes = new Uint8Array(LIMITS.auditContentBytes);
  let end = 0;
  for (const id of ids) {
    const piece = bytesOf(id);
    if (end + piece.length > bytes.length) return null;
    bytes.set(piece, end);
    end += piece.length;
  }
  return utf8Decode(bytes, 0, end);
}

/** In canonical JSON; null when it is too long, or a part of it was. */
function written(value: { readonly [name: string]: Json }): Uint8Array | null {
  if (Object.values(value).includes(null)) return null;
  const bytes = canonical(value);
  return isRefusal(bytes) || bytes.length > LIMITS.auditContentBytes ? null : bytes;
}
