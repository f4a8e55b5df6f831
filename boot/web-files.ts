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

/**
 * A file of a server. Throws where it does not say how long the file is, or knows no ranges. It is asked for the very file that was found: when
 * that is replaced (its entity tag changes, or its date) reading gives an I/O error.
 */
export function urlFile(url: string): ListedFile {
  const head = request(url, 'HEAD', {});
  const size = Number(head?.getResponseHeader('content-length') ?? Number.NaN);
  if (head === null || head.status !== 200 || !Number.isSafeInteger(size))
    throw new Error(`${url}: ${head === null ? 'no answer' : `status ${head.status}, no length`}`);
  if (head.getResponseHeader('accept-ranges') !== 'bytes') throw new Error(`${url}: the server answers no ranges`);
  const version = head.getResponseHeader('etag') ?? head.getResponseHeader('last-modified');
  const sameFile: Readonly<Record<string, string>> = version === null ? {} : { 'if-range': version };
  return readableFile(
    () => size,
    (position, into, at, length) => {
      const last = Math.min(position + length, size) - 1;
      if (last < position) return 0;
      const answer = request(url, 'GET', { ...sameFile, range: `bytes=${position}-${last}` });
      if (answer?.status !== PARTIAL) return -E.IO;
      const bytes = new Uint8Array(answer.response as ArrayBuffer);
      if (bytes.length !== last - position + 1) return -E.IO;
      into.set(bytes, at);
      return bytes.length;
    },
  );
}

/** Sends and waits; null: nobody answered. */
function request(url: string, method: string, headers: Readonly<Record<string, string>>): XMLHttpRequest | null {
  const asked = new XMLHttpRequest();
  asked.open(method, url, false);
  asked.responseType = 'arraybuffer';
  for (const [name, value] of Object.entries(headers)) asked.setRequestHeader(name, value);
  try {
    asked.send();
    return asked;
  } catch {
    return null;
  }
}
