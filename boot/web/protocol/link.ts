// Links: what somebody shares, as the fragment of a URL, which no server ever sees. Canonical JSON (keys in order, no blanks), raw deflate, base64url,
// behind a name and a version: `arena8=1.…`. A link comes from anybody: everything in it is checked, nothing is guessed, and what is wrong is
// said in one line. Lengths are bounded before anything is inflated, and while it is.

import {
  isRefusal,
  LIMITS,
  refuse,
  utf8Decode,
  utf8Encode,
  utf8Length,
  utf8Valid,
  type Refusal,
} from '../../../kernel/abi/index.ts';
import type { Share } from './messages.ts';

export const LINK_LIMITS = {
  characters: 64 * 1024, // of the fragment: what every browser and most ways of sending one still take
  inflatedBytes: 1024 * 1024, // of the JSON within
  commands: 1000,
  files: 64,
  sizeMax: 1000, // columns, and rows
} as const;

const NAME = 'arena8=';
const VERSION = '1';
/** Files of links lie where people work: nothing of the machine itself is replaced. */
const DIRECTORIES = ['/home/', '/tmp/'];

const DAMAGED = 'it does not inflate: a part of it is missing or was changed';

const wrong = (message: string): Refusal => refuse('INVAL', 0, `link: ${message}`);

// ── Into a link ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The fragment, without `#`. Refused where it could not be read back, or would be too long. */
export async function formatLink(share: Share): Promise<string | Refusal> {
  const files = share.files.map(({ path, bytes }) => ({ bytes: toBase64url(bytes), path }));
  const { build, columns, commands, digest, rows, seed, target } = share;
  const plain = { build, columns, commands, digest, files, rows, seed, target }; // in order: JSON keeps it
  const checked = shareFrom(plain);
  if (isRefusal(checked)) return checked;
  const text = utf8Encode(JSON.stringify(plain));
  if (text.length > LINK_LIMITS.inflatedBytes)
    return wrong(`${text.length} bytes of commands and files, at most ${LINK_LIMITS.inflatedBytes}`);
  const packed = await through(new CompressionStream('deflate-raw'), text, Infinity);
  if (isRefusal(packed)) return packed;
  const link = `${NAME}${VERSION}.${toBase64url(packed)}`;
  return link.length <= LINK_LIMITS.characters
    ? link
    : wrong(`it would have ${link.length} characters, at most ${LINK_LIMITS.characters}: share fewer or smaller files`);
}

// ── Out of a link ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a URL, or its fragment, carries; null where it is no link of ours; a refusal where it is one that cannot be used. */
export async function parseLink(url: string): Promise<Share | Refusal | null> {
  const link = url.slice(url.indexOf('#') + 1);
  if (!link.startsWith(NAME)) return null;
  if (link.length > LINK_LIMITS.characters)
    return wrong(`${link.length} characters, at most ${LINK_LIMITS.characters}`);
  const dot = link.indexOf('.');
  const version = link.slice(NAME.length, dot < 0 ? undefined : dot);
  if (version !== VERSION || dot < 0)
    return wrong(`version '${version.slice(0, 20)}', this arena8 reads version ${VERSION}`);
  const packed = fromBase64url(link.slice(dot + 1));
  if (packed === null) return wrong('not base64url: a part of it is missing or was changed');
  const text = await inflated(packed);
  if (isRefusal(text)) return text;
  if (!utf8Valid(text)) return wrong('what is in it is no UTF-8');
  let value: unknown;
  try {
    value = JSON.parse(utf8Decode(text));
  } catch {
    return wrong('what is in it is no JSON');
  }
  return shareFrom(value);
}

/** Some engines leave bytes behind the end of a deflate stream unread, others refuse them: a stream that ends without its last byte has some. */
async function inflated(packed: Uint8Array): Promise<Uint8Array | Refusal> {
  const inflate = (bytes: Uint8Array): Promise<Uint8Array | Refusal> =>
    through(new DecompressionStream('deflate-raw'), bytes, LINK_LIMITS.inflatedBytes);
  const text = await inflate(packed);
  if (isRefusal(text) || isRefusal(await inflate(packed.subarray(0, -1)))) return text;
  return wrong(DAMAGED);
}

/** Bytes through a compression stream of the host's; refused as soon as there are more than `most`. */
async function through(
  stream: CompressionStream | DecompressionStream,
  bytes: Uint8Array,
  most: number,
): Promise<Uint8Array | Refusal> {
  const writer = stream.writable.getWriter();
  // What goes wrong on the way in is told on the way out.
  const written = writer.write(bytes as Uint8Array<ArrayBuffer>).then(() => writer.close());
  written.catch(() => {});
  const reader = stream.readable.getReader();
  const pieces: Uint8Array[] = [];
  let length = 0;
  try {
    for (let next; !(next = await reader.read()).done;) {
      length += next.value.length;
      if (length > most) {
        reader.cancel().catch(() => {});
        return wrong(`it inflates to more than ${most} bytes`);
      }
      pieces.push(next.value);
    }
  } catch {
    return wrong(DAMAGED);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

// ── What may be in one ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Field<T> = (value: unknown, name: string) => T | Refusal;

const integer =
  (least: number, most: number): Field<number> =>
  (value, name) =>
    typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most && !Object.is(value, -0)
      ? value
      : wrong(`${name} is no whole number from ${least} to ${most}`);

const matching =
  (pattern: RegExp, what: string): Field<string> =>
  (value, name) =>
    typeof value === 'string' && pattern.test(value) ? value : wrong(`${name} is not ${what}`);

const listOf =
  <T>(most: number, element: Field<T>): Field<T[]> =>
  (value, name) => {
    if (!Array.isArray(value)) return wrong(`${name} is no list`);
    if (value.length > most) return wrong(`${value.length} ${name}, at most ${most}`);
    const elements: T[] = [];
    for (const [i, v] of value.entries()) {
      const one = element(v, `${name}[${i}]`);
      if (isRefusal(one)) return one;
      elements.push(one);
    }
    return elements;
  };

/** An object with these fields, and no others. */
const object =
  <T extends object>(fields: { readonly [K in keyof T]: Field<T[K]> }): Field<T> =>
  (value, name) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return wrong(`${name} is no object`);
    const stray = Object.keys(value).find(key => !Object.hasOwn(fields, key));
    if (stray !== undefined) return wrong(`${name} has a field '${stray.slice(0, 20)}' that nothing is known of`);
    const out: Partial<T> = {};
    for (const key of Object.keys(fields) as (keyof T & string)[]) {
      const one = fields[key]((value as Record<string, unknown>)[key], name === NOBODY ? key : `${name}.${key}`);
      if (isRefusal(one)) return one;
      out[key] = one as T[typeof key];
    }
    return out as T;
  };
const NOBODY = 'what is in it';

/** Nothing that a terminal obeys, and no halves of characters. */
const TYPABLE = /^[^\p{Cc}\p{Cs}]*$/u;

const command: Field<string> = (value, name) => {
  if (typeof value !== 'string' || !TYPABLE.test(value)) return wrong(`${name} is no line of text`);
  const bytes = utf8Length(value);
  return bytes < LIMITS.lineBytes ? value : wrong(`${name} has ${bytes} bytes, a line at most ${LIMITS.lineBytes - 1}`);
};

/** Absolute, as it would be written after all `.` and `..` are gone, and below where people work. */
const path: Field<string> = (value, name) => {
  const isPlain =
    typeof value === 'string' &&
    TYPABLE.test(value) &&
    value
      .split('/')
      .slice(1)
      .every(part => part !== '' && part !== '.' && part !== '..' && utf8Length(part) < LIMITS.nameBytes) &&
    utf8Length(value) < LIMITS.pathBytes;
  return isPlain && DIRECTORIES.some(directory => value.startsWith(directory))
    ? value
    : wrong(`${name} is no path of a file in ${DIRECTORIES.join(' or ')}`);
};

const contents: Field<Uint8Array> = (value, name) =>
  (typeof value === 'string' ? fromBase64url(value) : null) ?? wrong(`${name} is not base64url`);

const size = integer(2, LINK_LIMITS.sizeMax);

const shareFrom = (value: unknown): Share | Refusal =>
  object<Share>({
    build: matching(/^(?:[0-9a-f]{64})?$/, 'the digest of a build'),
    columns: size,
    commands: listOf(LINK_LIMITS.commands, command),
    digest: matching(/^(?:[0-9a-f]{64})?$/, 'the digest of a state'),
    files: listOf(LINK_LIMITS.files, object<Share['files'][number]>({ bytes: contents, path })),
    rows: size,
    seed: integer(-(2 ** 31), 2 ** 32 - 1),
    target: matching(/^[a-z0-9-]{0,40}$/, 'the name of a target'),
  })(value, NOBODY);

// ── base64url (RFC 4648 §5), without padding ─────────────────────────────────────────────────────────────────────────────────────────

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

function toBase64url(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const three = (bytes[i]! << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    const digits = Math.min(4, bytes.length - i + 1);
    for (let d = 0; d < digits; d++) text += DIGITS[(three >> (18 - 6 * d)) & 63]!;
  }
  return text;
}

/** null: a character that is none of the 64, a length that no bytes have, or bits behind the last byte. */
function fromBase64url(text: string): Uint8Array | null {
  if (!/^[\w-]*$/.test(text) || text.length % 4 === 1) return null;
  const bytes = new Uint8Array(Math.floor((text.length * 3) / 4));
  let [bits, held, at] = [0, 0, 0];
  for (const c of text) {
    bits = ((bits << 6) | DIGITS.indexOf(c)) & 0xfff;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes[at++] = bits >> held;
  }
  return (bits & ((1 << held) - 1)) === 0 ? bytes : null;
}
