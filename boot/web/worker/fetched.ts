// What a machine in a browser is made of, as far as it is data, fetched from where its program lies: the compute kernels that this engine runs,
// compiled while they arrive, what they cost, and the boot image. The image is the file that Node boots from, byte for byte, but travels in
// pieces, its models apart from the rest, which is compressed. Begun before the machine's own program has come (worker.ts).

import type { CertificateFile } from '../../../kernel/wcet/certificate.ts';
import { bestBuild, type Build } from '../../fused.ts';

export interface Fetched {
  readonly build: Build;
  readonly kernels: WebAssembly.Module;
  readonly certificates: CertificateFile;
  readonly image: Uint8Array;
}

/** Bytes of the boot image that are here, of how many. */
export type Progress = (done: number, total: number) => void;

/** The image's pieces in their order: so many bytes more of that file. tools/web.mjs puts them in. */
declare const IMAGE: readonly (readonly [file: string, bytes: number])[];

const total = IMAGE.reduce((sum, [, bytes]) => sum + bytes, 0);

/** One attempt to have everything. Throws when something cannot be fetched. */
export async function fetchAll(progress: Progress): Promise<Fetched> {
  const build = bestBuild();
  const [kernels, certificates, image] = await Promise.all([
    responseOf(`kernels.${build}.wasm`).then(compile),
    responseOf('certificates.json').then(response => response.json() as Promise<CertificateFile>),
    fetchImage(progress),
  ]);
  return { build, kernels, certificates, image };
}

async function responseOf(file: string): Promise<Response> {
  const response = await fetch(new URL(file, self.location.href));
  if (!response.ok) throw new Error(`${file}: the server answers ${response.status}`);
  return response;
}

/** Engines compile what still arrives where the server says that it is WebAssembly, and insist on that. */
async function compile(response: Response): Promise<WebAssembly.Module> {
  return response.headers.get('content-type')?.startsWith('application/wasm') === true
    ? WebAssembly.compileStreaming(response)
    : WebAssembly.compile(await response.arrayBuffer());
}

async function fetchImage(progress: Progress): Promise<Uint8Array> {
  let done = 0;
  const arrived = (bytes: number): void => progress((done = Math.min(done + bytes, total)), total);
  const names = [...new Set(IMAGE.map(([file]) => file))];
  const files = new Map(await Promise.all(names.map(async name => [name, await fetchPiece(name, arrived)] as const)));
  const image = new Uint8Array(total);
  const taken = new Map<string, number>();
  let at = 0;
  for (const [file, bytes] of IMAGE) {
    const from = taken.get(file) ?? 0;
    const piece = files.get(file)!.subarray(from, from + bytes);
    if (piece.length < bytes) throw new Error(`${file}: it ends after ${from + piece.length} bytes`);
    image.set(piece, at);
    at += bytes;
    taken.set(file, from + bytes);
  }
  progress(total, total); // more than has come, where a piece was compressed
  return image;
}

/** A file that may be compressed: some servers undo that on the way. */
async function fetchPiece(file: string, arrived: (bytes: number) => void): Promise<Uint8Array> {
  const { body } = await responseOf(file);
  if (body === null) throw new Error(`${file}: the server sends nothing`);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  const reader = body.getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    chunks.push(read.value);
    arrived(read.value.length);
  }
  const bytes = new Uint8Array(await new Blob(chunks).arrayBuffer());
  return bytes[0] === 0x1f && bytes[1] === 0x8b ? inflated(bytes) : bytes; // gzip's magic
}

async function inflated(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
