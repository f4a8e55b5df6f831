// JSON in canonical form, as RFC 8785 (JCS) has it: one value, one byte string. Records of the audit log are written with it, so that a
// digest speaks about the values and anyone can make the same bytes again. Reading is as strict as writing: `parseCanonical` takes
// nothing that `canonical` would have written otherwise, and names the byte.

import { isRefusal, shown, utf8Decode, utf8Encode, utf8Length, utf8Step, utf8Valid } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import { malformed } from './bytes.ts';

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

/** Objects and arrays within each other, and bytes, of a text that is read or written. */
const DEPTH_MOST = 32;
const BYTES_MOST = 1 << 20;

/** The bytes of `value`, UTF-8. Refused with its place: a number that is not finite, half a surrogate pair, too deep, too long. */
export function canonical(value: Json): Uint8Array | Refusal {
  const text = written(value, '', 0);
  if (isRefusal(text)) return text;
  const bytes = utf8Encode(text);
  return bytes.length > BYTES_MOST ? malformed(`JSON of ${bytes.length} bytes; at most ${BYTES_MOST}`) : bytes;
}

/** The text of `value` that stands at `place`. What JavaScript writes for a number or a string is what the RFC asks for (§3.2.2). */
function written(value: Json, place: string, depth: number): string | Refusal {
  if (depth > DEPTH_MOST) return malformed(`JSON${place}: more than ${DEPTH_MOST} levels`);
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : malformed(`JSON${place}: ${value}`);
  if (typeof value === 'string') return quoted(value, place);
  if (value === null || typeof value === 'boolean') return String(value);
  const parts: string[] = [];
  if (isList(value)) {
    for (const [i, item] of value.entries()) {
      const text = written(item, `${place}[${i}]`, depth + 1);
      if (isRefusal(text)) return text;
      parts.push(text);
    }
    return `[${parts.join(',')}]`;
  }
  for (const name of Object.keys(value).sort()) {
    const key = quoted(name, `${place}: a name`);
    const text = written(value[name]!, `${place}.${shown(name)}`, depth + 1);
    if (isRefusal(key)) return key;
    if (isRefusal(text)) return text;
    parts.push(`${key}:${text}`);
  }
  return `{${parts.join(',')}}`;
}

const isList = (value: Json): value is readonly Json[] => Array.isArray(value);

function quoted(text: string, place: string): string | Refusal {
  return /[\ud800-\udfff]/u.test(text) ? malformed(`JSON${place}: half a surrogate pair`) : JSON.stringify(text);
}

/** The value whose canonical form the bytes are (in a box: a value may have a refusal's names), or what is wrong at which byte. */
export function parseCanonical(bytes: Uint8Array): { readonly value: Json } | Refusal {
  if (bytes.length > BYTES_MOST) return malformed(`JSON of ${bytes.length} bytes; at most ${BYTES_MOST}`);
  for (let i = 0, n = 0; i < bytes.length; i += n) {
    n = utf8Step(bytes, i, bytes.length);
    if (n <= 0) return malformed(`JSON, byte ${i}: not UTF-8`);
  }
  const reader = new Reader(utf8Decode(bytes));
  const value = reader.value(0);
  reader.end();
  return reader.wrong === null ? { value } : malformed(`JSON, byte ${reader.wrongAt()}: ${reader.wrong}`);
}

/** The value of any JSON text: what others wrote need not be canonical. */
export function parseJson(bytes: Uint8Array): { readonly value: Json } | Refusal {
  if (bytes.length > BYTES_MOST) return malformed(`JSON of ${bytes.length} bytes; at most ${BYTES_MOST}`);
  if (!utf8Valid(bytes)) return malformed('JSON: not UTF-8');
  try {
    return { value: JSON.parse(utf8Decode(bytes)) as Json };
  } catch {
    return malformed('not JSON'); // where, engines say in words of their own
  }
}

/** Recursive descent; after the first thing that is wrong the text is at its end, so that every loop ends too. */
class Reader {
  readonly #text: string;
  #at = 0;
  #wrongAt = 0;
  wrong: string | null = null;

  constructor(text: string) {
    this.#text = text;
  }

  wrongAt(): number {
    return utf8Length(this.#text.slice(0, this.#wrongAt));
  }

  end(): void {
    if (this.#at < this.#text.length) this.#fail('the value ended before');
  }

  value(depth: number): Json {
    if (depth > DEPTH_MOST) return this.#fail(`more than ${DEPTH_MOST} levels`);
    if (this.#take('{')) return this.#object(depth);
    if (this.#take('[')) return this.#array(depth);
    if (this.#text[this.#at] === '"') return this.#string();
    if (this.#take('true')) return true;
    if (this.#take('false')) return false;
    if (this.#take('null')) return null;
    return this.#number();
  }

  #object(depth: number): JsonObject {
    const members: [string, Json][] = [];
    if (this.#take('}')) return {};
    do {
      const at = this.#at;
      const name = this.#string();
      if (members.length > 0 && !(members.at(-1)![0] < name)) this.#fail('names are not in order', at);
      this.#expect(':');
      members.push([name, this.value(depth + 1)]);
    } while (this.#take(','));
    this.#expect('}');
    return Object.fromEntries(members); // defines them: `__proto__` is a name like any other
  }

  #array(depth: number): readonly Json[] {
    const items: Json[] = [];
    if (this.#take(']')) return items;
    do items.push(this.value(depth + 1));
    while (this.#take(','));
    this.#expect(']');
    return items;
  }

  #string(): string {
    const begin = this.#at;
    this.#expect('"');
    for (;;) {
      const c = this.#text.charCodeAt(this.#at);
      if (!(c >= 0x20)) return this.#fail('a string does not end, or has a control character') ?? '';
      if (c === 0x5c) {
        ESCAPE.lastIndex = this.#at;
        const escape = ESCAPE.exec(this.#text)?.[0];
        if (escape === undefined) return this.#fail('not an escape of canonical form') ?? '';
        this.#at += escape.length;
      } else {
        this.#at++;
        if (c === 0x22) break;
      }
    }
    return JSON.parse(this.#text.slice(begin, this.#at)) as string;
  }

  #number(): number {
    NUMBER.lastIndex = this.#at;
    const digits = NUMBER.exec(this.#text)?.[0] ?? '';
    const value = Number(digits);
    if (digits === '') this.#fail('not a value');
    else if (String(value) !== digits) this.#fail('not a number in canonical form');
    else this.#at += digits.length;
    return value;
  }

  #take(word: string): boolean {
    if (!this.#text.startsWith(word, this.#at)) return false;
    this.#at += word.length;
    return true;
  }

  #expect(mark: string): void {
    if (!this.#take(mark)) this.#fail(`no ${mark}`);
  }

  #fail(what: string, at = this.#at): null {
    if (this.wrong === null) {
      this.wrong = what;
      this.#wrongAt = at;
    }
    this.#at = this.#text.length;
    return null;
  }
}

/** The only escapes that canonical form has: short ones where they exist, `\u00xx` in lower case for the other control characters. */
const ESCAPE = /\\(?:["\\bfnrt]|u00(?:0[0-7bef]|1[0-9a-f]))/y;
const NUMBER = /-?[0-9][0-9.e+-]*/y;
