// What a machine in a browser is made of, fetched from where the page lies and kept for the next power-on: the boot image, the kernels that this
// engine runs, what they cost.

import { PARTS } from '../../parts.ts';
import type { Parts } from '../../machine.ts';

export interface Supplies {
  readonly parts: Parts;
  readonly image: Uint8Array;
}

type Progress = (done: number, total: number) => void;

let fetched: Supplies | null = null;

/** Throws when something cannot be fetched. */
export async function supplies(progress: Progress): Promise<Supplies> {
  fetched ??= { parts: PARTS, image: await bytesOf('boot.cpio', progress) };
  return fetched;
}

async function bytesOf(name: string, progress: Progress): Promise<Uint8Array> {
  const response = await fetch(new URL(name, self.location.href));
  if (!response.ok || response.body === null) throw new Error(`${name}: the server answers ${response.status}`);
  const total = Number(response.headers.get('content-length') ?? 0);
  const chunks: Uint8Array[] = [];
  let done = 0;
  for await (const chunk of response.body) {
    chunks.push(chunk);
    done += chunk.length;
    progress(done, Math.max(total, done));
  }
  const bytes = new Uint8Array(done);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
