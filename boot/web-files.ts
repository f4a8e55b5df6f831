// Files that a browser can read without keeping them: those a person has chosen (Blobs), and those of a server that answers ranges. Both are
// read by position, at once, which browsers allow in workers only; nothing is read ahead and nothing kept.

import { E } from '../kernel/abi/index.ts';
import { readableFile, type ListedFile } from './listed-directory.ts';

/** FileReaderSync, which the library of types has for workers only. */
declare const FileReaderSync: new () => { readAsArrayBuffer(blob: Blob): ArrayBuffer };

/** A Blob or File. One whose file changes on the disk of the person who chose it gives an I/O error from then on. */
export function blobFile(blob: Blob): ListedFile {
  const reader = new FileReaderSync();
  return readableFile(
    () => blob.size,
    (position, into, at, length) => {
      try {
        const bytes = new Uint8Array(reader.readAsArrayBuffer(blob.slice(position, position + length)));
        into.set(bytes, at);
        return bytes.length;
      } catch {
        return -E.IO;
      }
    },
  );
}

const PARTIAL = 206;
/** A server that says nothing for so long is away: the machine waits for it. */
const PATIENCE_MS = 20_000;

/**
 * A file of a server. Throws, in a line, where nobody answers, or the server knows no ranges or does not say how long the file is. It is the very
 * file that was found: when that is replaced (its entity tag changes, or its date) reading gives an I/O error.
 */
export function urlFile(url: string): ListedFile {
  const first = request(url, 'GET', 'bytes=0-0');
  if (first === null) throw new Error(`${url}: no answer`);
  if (first.status !== PARTIAL) throw new Error(`${url}: ${withoutRanges(first.status)}`);
  const size = sizeIn(first.getResponseHeader('content-range')) ?? lengthOf(request(url, 'HEAD', null));
  if (size === null) throw new Error(`${url}: the server does not say how long it is`);
  const version = versionOf(first);
  return readableFile(
    () => size,
    (position, into, at, length) => {
      const last = Math.min(position + length, size) - 1;
      if (last < position) return 0;
      const answer = request(url, 'GET', `bytes=${position}-${last}`);
      if (answer?.status !== PARTIAL || versionOf(answer) !== version) return -E.IO;
      const bytes = new Uint8Array(answer.response as ArrayBuffer);
      if (bytes.length !== last - position + 1) return -E.IO;
      into.set(bytes, at);
      return bytes.length;
    },
  );
}

/** The same, asked for when it is first looked at: a server that is away then gives a file without bytes that cannot be opened. */
export function urlFileLater(url: string): ListedFile {
  let found: ListedFile | null = null;
  const look = (): ListedFile | null => {
    try {
      return (found ??= urlFile(url));
    } catch {
      return null;
    }
  };
  return { size: () => look()?.size() ?? 0, open: access => look()?.open(access) ?? -E.IO };
}

/** Whether a server answers ranges of a file, asked without reading it; or a line that says what is in the way. */
export async function answersRanges(url: string): Promise<boolean | string> {
  const enough = new AbortController();
  try {
    const signal = AbortSignal.any([enough.signal, AbortSignal.timeout(PATIENCE_MS)]);
    const { status, ok } = await fetch(url, { headers: { range: 'bytes=0-0' }, signal });
    return status === PARTIAL || ok || status === NOT_SATISFIABLE ? status === PARTIAL : `the server answers ${status}`;
  } catch {
    return 'no answer: the server is away, or lets no other site read it';
  } finally {
    enough.abort();
  }
}

/** An empty file has no byte 0. */
const NOT_SATISFIABLE = 416;

const withoutRanges = (status: number): string =>
  status === 200 ? 'the server answers no ranges' : `the server answers ${status}`;

/** N of `bytes 0-0/N`, where a server of another site lets it be seen. */
function sizeIn(range: string | null): number | null {
  const [, size] = /\/(\d+)$/.exec(range ?? '') ?? [];
  return size === undefined ? null : Number(size);
}

function lengthOf(head: XMLHttpRequest | null): number | null {
  const length = head?.status === 200 ? head.getResponseHeader('content-length') : null;
  return length === null ? null : Number(length);
}

/** What changes when the file is replaced; the same in all answers where the server says neither. */
const versionOf = (answer: XMLHttpRequest): string =>
  answer.getResponseHeader('etag') ?? answer.getResponseHeader('last-modified') ?? '';

/** Sends and waits; null: nobody answered. */
function request(url: string, method: string, range: string | null): XMLHttpRequest | null {
  const asked = new XMLHttpRequest();
  asked.open(method, url, false);
  asked.responseType = 'arraybuffer';
  asked.timeout = PATIENCE_MS;
  if (range !== null) asked.setRequestHeader('range', range);
  try {
    asked.send();
    return asked;
  } catch {
    return null;
  }
}
