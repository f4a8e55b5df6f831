// The boot image's container: cpio "newc" (magic 070701), the format of Linux's initramfs. The reader checks every field against the
// bytes there are and returns places, not copies; the writer gives the same bytes for the same entries. docs/IMAGE.md draws it.

import { KIND, LIMITS, refuse, utf8Decode, utf8Encode, utf8Valid } from '../kernel/abi/index.ts';
import type { Kind, Refusal } from '../kernel/abi/index.ts';

const HEADER_BYTES = 110; // magic, then 13 fields of 8 hexadecimal digits
const TRAILER = 'TRAILER!!!';
const BLOCK_BYTES = 512; // archives end on a whole block, as GNU cpio writes them

/** Index of each header field after the magic. */
const FIELD = {
  ino: 0,
  mode: 1,
  uid: 2,
  gid: 3,
  links: 4,
  mtime: 5,
  bytes: 6,
  devMajor: 7,
  devMinor: 8,
  nameBytes: 11,
} as const;

export interface CpioEntry {
  /** Components joined by '/', without leading `./`; empty for the root itself. */
  readonly name: string;
  readonly kind: Kind; // file, dir or link
  readonly mode: number; // permission bits
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number; // seconds
  readonly dataAt: number; // in the image
  readonly bytes: number;
}

const align4 = (n: number): number => (n + 3) & -4;

function bad(what: string): Refusal {
  return refuse('NOEXEC', 0, `cpio image: ${what}`);
}

/** The eight hexadecimal digits at `at`, or -1. */
function hex8(image: Uint8Array, at: number): number {
  let value = 0;
  for (let i = at; i < at + 8; i++) {
    const c = image[i]!;
    let digit = -1;
    if (c >= 0x30 && c <= 0x39) digit = c - 0x30;
    else if ((c | 0x20) >= 0x61 && (c | 0x20) <= 0x66) digit = (c | 0x20) - 0x57;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

/** `./a/b` → `a/b`, `.` → ``; null for a name that is absolute or has an empty, `.` or `..` component. */
function plainName(name: string): string | null {
  if (name === '.') return '';
  const plain = name.startsWith('./') ? name.slice(2) : name;
  return plain.split('/').every(part => part !== '' && part !== '.' && part !== '..') ? plain : null;
}

/**
 * Every entry up to the trailer, in the image's order, or the first thing that is wrong with it. The archive stores a hard-linked file's
 * data with its last name only; here every name has it.
 */
export function readCpio(image: Uint8Array): CpioEntry[] | Refusal {
  const entries: CpioEntry[] = [];
  const seen = new Set<string>();
  const linked = new Map<string, number[]>(); // entries of each hard-linked file so far
  const field = new Uint32Array(13);
  for (let at = 0; ;) {
    const index = entries.length;
    if (at + HEADER_BYTES > image.length)
      return bad(`truncated: entry ${index} needs ${HEADER_BYTES} bytes at ${at}, the image has ${image.length}`);
    const magic = utf8Decode(image, at, at + 6);
    if (magic !== '070701')
      return bad(`bad magic "${printable(magic)}" of entry ${index} at ${at}, want 070701 (newc)`);
    for (let i = 0; i < 13; i++) {
      const value = hex8(image, at + 6 + 8 * i);
      if (value < 0) return bad(`field ${i} of entry ${index} at ${at + 6 + 8 * i} is not hexadecimal`);
      field[i] = value;
    }
    const nameBytes = field[FIELD.nameBytes]!;
    if (nameBytes < 2 || nameBytes > LIMITS.pathBytes)
      return bad(`name of entry ${index} at ${at} has ${nameBytes} bytes, allowed 2 to ${LIMITS.pathBytes}`);
    const nameAt = at + HEADER_BYTES;
    const dataAt = align4(nameAt + nameBytes);
    const bytes = field[FIELD.bytes]!;
    if (dataAt > image.length)
      return bad(`truncated: name of entry ${index} ends ${dataAt - image.length} bytes past the image`);
    const nameEnd = nameAt + nameBytes - 1;
    if (image[nameEnd] !== 0 || image.subarray(nameAt, nameEnd).includes(0) || !utf8Valid(image, nameAt, nameEnd))
      return bad(`name of entry ${index} at ${nameAt} is not text ended by one zero byte`);
    const written = utf8Decode(image, nameAt, nameEnd);
    if (written === TRAILER) return entries;
    const name = plainName(written);
    if (name === null) return bad(`entry ${index} has the name "${printable(written)}"`);
    if (name.split('/').some(part => utf8Encode(part).length > LIMITS.nameBytes))
      return bad(`a component of the name of entry ${index} is longer than ${LIMITS.nameBytes} bytes`);
    if (seen.has(name)) return bad(`two entries have the name "${printable(written)}"`);
    seen.add(name);
    if (dataAt + bytes > image.length)
      return bad(`truncated: ${written} ends ${dataAt + bytes - image.length} bytes past the image`);
    const kind = field[FIELD.mode]! >>> 12;
    if (kind !== KIND.file && kind !== KIND.dir && kind !== KIND.link)
      return bad(`${written} has type ${kind}; files (8), directories (4) and symbolic links (10) are read`);
    if (name === '' && kind !== KIND.dir) return bad('the root is not a directory');
    if (kind === KIND.link && (bytes === 0 || bytes >= LIMITS.pathBytes))
      return bad(`symbolic link ${written} has a target of ${bytes} bytes, allowed 1 to ${LIMITS.pathBytes - 1}`);
    const [uid, gid, mtime] = [field[FIELD.uid]!, field[FIELD.gid]!, field[FIELD.mtime]!];
    entries.push({ name, kind, mode: field[FIELD.mode]! & 0o7777, uid, gid, mtime, dataAt, bytes });
    if (kind === KIND.file && field[FIELD.links]! > 1) {
      const file = `${field[FIELD.devMajor]}:${field[FIELD.devMinor]}:${field[FIELD.ino]}`;
      const names = linked.get(file) ?? [];
      linked.set(file, names);
      for (const i of bytes > 0 ? names : []) entries[i] = { ...entries[i]!, dataAt, bytes };
      names.push(index);
    }
    at = align4(dataAt + bytes);
  }
}

/** Text from an untrusted file for an error line: control characters shown as dots, long text cut. */
function printable(text: string): string {
  let s = '';
  for (const c of text.slice(0, 80)) s += c < ' ' || c === '\x7f' || c === '\ufffd' ? '.' : c;
  return text.length > 80 ? `${s}…` : s;
}

export interface CpioSource {
  readonly name: string;
  readonly kind: Kind;
  readonly mode: number;
  /** User and group, of the same number; 0 when not given. */
  readonly owner?: number;
  /** Contents of a file, target of a link, nothing for a directory. */
  readonly data: Uint8Array;
}

/** The archive of `sources` in the order given: time 0, inode numbers from 1 on. Nothing outside the arguments enters it. */
export function writeCpio(sources: readonly CpioSource[]): Uint8Array {
  const names = sources.map(s => utf8Encode(`${s.name}\0`));
  const trailer = utf8Encode(`${TRAILER}\0`);
  let total = align4(HEADER_BYTES + trailer.length);
  sources.forEach((s, i) => (total += align4(HEADER_BYTES + names[i]!.length) + align4(s.data.length)));
  const out = new Uint8Array(Math.ceil(total / BLOCK_BYTES) * BLOCK_BYTES);
  let at = 0;
  const put = (name: Uint8Array, ino: number, mode: number, owner: number, links: number, data: Uint8Array): void => {
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    const fields = [ino, mode, owner, owner, links, 0, data.length, 0, 0, 0, 0, name.length, 0];
    out.set(utf8Encode(`070701${fields.map(f => f.toString(16).toUpperCase().padStart(8, '0')).join('')}`), at);
    out.set(name, at + HEADER_BYTES);
    at = align4(at + HEADER_BYTES + name.length);
    out.set(data, at);
    at = align4(at + data.length);
  };
  sources.forEach((s, i) =>
    put(names[i]!, i + 1, (s.kind << 12) | s.mode, s.owner ?? 0, s.kind === KIND.dir ? 2 : 1, s.data),
  );
  put(trailer, 0, 0, 0, 1, new Uint8Array(0));
  return out;
}
