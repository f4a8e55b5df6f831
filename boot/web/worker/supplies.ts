// What a machine in a browser is made of, fetched from where its program lies and kept for the next power-on: the kernels that this engine runs,
// compiled while they arrive, what they cost, and the boot image. The image is the file that Node boots from, byte for byte, but travels in
// pieces, its models apart from the rest, which is compressed.

import { bestBuild, type Parts } from '../../machine.ts';
import type { CertificateFile } from '../../../kernel/wcet/certificate.ts';

export interface Supplies {
  readonly parts: Parts;
  readonly image: Uint8Array;
}

/** The image's pieces in their order: so many bytes more of that file. tools/web.mjs puts them in. */
declare const IMAGE: readonly (readonly [file: string, bytes: number])[];

type Progress = (done: number, total: number) => void;

let fetched: Promise<Supplies> | null = null;
let done = 0;
const total = IMAGE.reduce((sum, [, bytes]) => sum + bytes, 0);
let tell: Progress = () => {};

/** Throws when something cannot be fetched; the next call tries again. */
export function supplies(progress: Progress): Promise<Supplies> {
  tell = progress;
  tell(done, total);
  fetched ??= fetchAll().catch((error: unknown) => {
    fetched = null;
    done = 0;
    throw error;
  });
  return fetched;
}

async function fetchAll(): Promise<Supplies> {
  const [parts, image] = await Promise.all([fetchParts(), fetchImage()]);
  return { parts, image };
}

async function responseOf(file: string): Promise<Response> {
  const response = await fetch(new URL(file, import.meta.url));
  if (!response.ok) throw new Error(`${file}: the server answers ${response.status}`);
  return response;
}

async function fetchParts(): Promise<Parts> {
  const build = bestBuild();
  const [kernels, certificates] = await Promise.all([
    responseOf(`kernels.${build}.wasm`).then(compile),
    responseOf('certificates.json').then(response => response.json() as Promise<CertificateFile>),
  ]);
  return { kernels: { [build]: kernels }, certificates };
}

/** Compiled while it arrives, where the server says that it is WebAssembly; engines insist on that. */
async function compile(response: Response): Promise<WebAssembly.Module> {
  return response.headers.get('content-type')?.startsWith('application/wasm') === true
    ? WebAssembly.compileStreaming(response)
    : WebAssembly.compile(await response.arrayBuffer());
}

async function fetchImage(): Promise<Uint8Array> {
  const files = new Map(IMAGE.map(([file]) => [file, fetchPiece(file)]));
  const image = new Uint8Array(total);
  const taken = new Map<string, number>();
  let at = 0;
  for (const [file, bytes] of IMAGE) {
    const from = taken.get(file) ?? 0;
    const piece = (await files.get(file)!).subarray(from, from + bytes);
    if (piece.length < bytes) throw new Error(`${file}: it ends after ${from + piece.length} bytes`);
    image.set(piece, at);
    at += bytes;
    taken.set(file, from + bytes);
  }
  return image;
}

/** A file that may be compressed: some servers undo that on the way. */
async function fetchPiece(file: string): Promise<Uint8Array> {
  const { body } = await responseOf(file);
  if (body === null) throw new Error(`${file}: the server sends nothing`);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    length += chunk.length;
    done += chunk.length;
    tell(Math.min(done, total), total);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  const isGzip = whole[0] === 0x1f && whole[1] === 0x8b;
  return isGzip ? await inflated(whole) : whole;
}

async function inflated(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
