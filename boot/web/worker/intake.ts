// Files that come into the machine from outside: dropped on the page, or downloaded. They are copied piece by piece beside the running machine, and
// have no name in it before they are whole: what is broken off, by a full disk or a power cut, was never there.

import { E, isRefusal, KIND, LIMITS, refuse, strerror, utf8Length, type Refusal } from '../../../kernel/abi/index.ts';
import type { SlotDirectory } from '../../slot-directory.ts';
import { reasonOf } from './opfs.ts';
import type { Tree } from './storage.ts';

/** Bytes that are on their way. */
export interface Source {
  readonly name: string;
  /** null: as long as it turns out to be. */
  readonly bytes: number | null;
  readonly pieces: AsyncIterable<Uint8Array>;
}

type Progress = (what: string, done: number, total: number) => void;

const PIECE_BYTES = 4 * 1024 * 1024;
/** What is put into the machine's own memory, which is the browser's as well. */
export const STORED_MOST = 64 * 1024 * 1024;

/** What a person has chosen. */
export function blobSource(name: string, blob: Blob): Source {
  async function* pieces(): AsyncIterable<Uint8Array> {
    for (let at = 0; at < blob.size; at += PIECE_BYTES)
      yield new Uint8Array(await blob.slice(at, at + PIECE_BYTES).arrayBuffer());
  }
  return { name, bytes: blob.size, pieces: pieces() };
}

/** What a server sends. */
export async function downloadSource(url: string): Promise<Source | Refusal> {
  try {
    const response = await fetch(url);
    if (!response.ok || response.body === null) return refuse('IO', 0, `${url}: the server answers ${response.status}`);
    const length = response.headers.has('content-encoding') ? null : response.headers.get('content-length');
    return { name: nameIn(url), bytes: length === null ? null : Number(length), pieces: response.body };
  } catch {
    return refuse('IO', 0, `${url}: no answer`);
  }
}

/** What a file of a server is called: the last part of its path. */
export function nameIn(url: string): string {
  const last = new URL(url).pathname.split('/').at(-1)!;
  try {
    return decodeURIComponent(last) || 'download';
  } catch {
    return last; // percent signs of its own
  }
}

/** '-999', for the second of a name and the following. */
const EXTRA_BYTES = 4;
const NAME_BYTES_MOST = LIMITS.nameBytes - EXTRA_BYTES;

/** A name that the machine takes: of one piece, of characters that move no cursor, and not too long; of a longer one, the end. */
export function plainName(name: string): string {
  const isPlain = (c: string, code: number): boolean =>
    c !== '/' && code >= 0x20 && (code < 0x7f || code >= 0xa0) && (code < 0xd800 || code > 0xdfff);
  const characters = [...name].map(c => (isPlain(c, c.codePointAt(0)!) ? c : '_'));
  let bytes = utf8Length(characters.join(''));
  while (bytes > NAME_BYTES_MOST) bytes -= utf8Length(characters.shift()!);
  const plain = characters.join('');
  return plain === '' || plain === '.' || plain === '..' ? 'file' : plain;
}

/** `x-1.gguf` of `x.gguf`. */
export function nextName(path: string, count: number): string {
  const [, stem = path, ending = ''] = /^(.*[^/])(\.[^./]+)$/s.exec(path) ?? [];
  return count === 0 ? path : `${stem}-${count}${ending}`;
}

const asked = (path: string, errno: number): Refusal => ({
  errno: -errno,
  code: 0,
  message: `${path}: ${strerror(errno)}`,
});

const full = (name: string): Refusal =>
  refuse('NOSPC', 0, `${name}: the browser's storage is full; nothing of it was kept`);

const EXTRA_MOST = 999;

/** Into a tree of slots, at `path`, or beside what has that name when `mayRename`. Answered with the path that it has. */
export async function keep(
  directory: SlotDirectory,
  source: Source,
  path: string,
  mayRename: boolean,
  progress: Progress,
): Promise<string | Refusal> {
  const parent = directory.stat(path.slice(0, Math.max(0, path.lastIndexOf('/'))));
  if (typeof parent === 'number') return asked(path, parent);
  if (parent.kind !== KIND.dir) return asked(path, -E.NOTDIR);
  if (!mayRename && typeof directory.stat(path) !== 'number') return asked(path, -E.EXIST);
  const incoming = directory.incoming();
  if (typeof incoming === 'number') return full(source.name);
  let at = 0;
  try {
    for await (const piece of source.pieces) {
      const n = incoming.write(at, piece, 0, piece.length);
      if (n < piece.length) {
        incoming.drop();
        return n >= 0 || n === -E.NOSPC ? full(source.name) : asked(source.name, n);
      }
      at += n;
      progress(source.name, at, source.bytes ?? at);
    }
  } catch (error) {
    incoming.drop();
    return refuse('IO', 0, `${source.name}: broken off after ${at} bytes: ${reasonOf(error)}`);
  }
  for (let count = 0; count <= EXTRA_MOST; count++) {
    const name = nextName(path, count);
    const status = incoming.name(name, 0o644, parent.uid ?? 0, parent.gid ?? 0);
    if (status === 0) return name;
    if (status !== -E.EXIST || !mayRename) {
      incoming.drop();
      return asked(name, status);
    }
  }
  incoming.drop();
  return asked(path, -E.EXIST);
}

/** Into the machine's own memory, in the same way. */
export async function store(
  machine: Tree,
  source: Source,
  path: string,
  mayRename: boolean,
  progress: Progress,
): Promise<string | Refusal> {
  const tooLarge = (bytes: number): Refusal =>
    refuse(
      'FBIG',
      0,
      `${source.name}: ${bytes} bytes; at most ${STORED_MOST} (64 MiB) fit into files that are not kept in the browser`,
    );
  if ((source.bytes ?? 0) > STORED_MOST) return tooLarge(source.bytes!);
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const piece of source.pieces) {
      pieces.push(piece);
      bytes += piece.length;
      if (bytes > STORED_MOST) return tooLarge(bytes);
      progress(source.name, bytes, source.bytes ?? bytes);
    }
  } catch (error) {
    return refuse('IO', 0, `${source.name}: broken off after ${bytes} bytes: ${reasonOf(error)}`);
  }
  const name = freeName(machine, path, mayRename);
  if (isRefusal(name)) return name;
  const whole = new Uint8Array(bytes);
  pieces.reduce((at, piece) => (whole.set(piece, at), at + piece.length), 0);
  const status = machine.store(name, whole);
  return status < 0 ? asked(name, status) : name;
}

function freeName(machine: Tree, path: string, mayRename: boolean): string | Refusal {
  const cut = path.lastIndexOf('/');
  const entries = machine.observeList(path.slice(0, Math.max(1, cut)));
  if (typeof entries === 'number') return asked(path, entries);
  const taken = new Set(entries.map(entry => entry.name));
  for (let count = 0; count <= (mayRename ? EXTRA_MOST : 0); count++) {
    const name = nextName(path, count);
    if (!taken.has(name.slice(cut + 1))) return name;
  }
  return asked(path, -E.EXIST);
}
