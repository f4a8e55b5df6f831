// The root file system: the boot image (cpio newc) unpacked into memory storage, as Linux unpacks its initramfs. Everything can be changed
// or broken while the machine runs; the next boot starts from the image again.

import { isRefusal, KIND, LIMITS, O, refuse, strerror, utf8Decode, type Refusal } from './abi/index.ts';
import { readCpio, type CpioEntry } from '../vfs/cpio.ts';
import type { Vfs } from '../vfs/vfs.ts';
import { makeDirectories } from './mounter.ts';

/** Unpacks `image` into the mounted root; file contents pass through the DMA buffer. Returns what was made. */
export function unpackImage(
  vfs: Vfs,
  image: Uint8Array,
  memory: Uint8Array,
  dmaAt: number,
): { files: number; bytes: number } | Refusal {
  const entries = readCpio(image);
  if (isRefusal(entries)) return entries;
  let files = 0;
  let bytes = 0;
  for (const entry of entries) {
    const path = vfs.normalize('/', entry.name);
    if (entry.kind === KIND.dir) {
      const r = makeDirectories(vfs, path);
      if (r < 0) return refuse('IO', 0, `boot image: cannot make directory ${path}: ${strerror(r)}`);
      own(vfs, path, entry);
      continue;
    }
    if (entry.kind === KIND.link) {
      const r = vfs.symlink('/', utf8Decode(image, entry.dataAt, entry.dataAt + entry.bytes), path);
      if (r < 0) return refuse('IO', 0, `boot image: cannot link ${path}: ${strerror(r)}`);
      vfs.chown('/', path, entry.uid, entry.gid, false);
      continue;
    }
    makeDirectories(vfs, path.slice(0, path.lastIndexOf('/')));
    const file = vfs.open('/', path, O.WRONLY | O.CREAT | O.TRUNC, entry.mode);
    if (typeof file === 'number') return refuse('IO', 0, `boot image: cannot create ${path}: ${strerror(file)}`);
    const data = image.subarray(entry.dataAt, entry.dataAt + entry.bytes);
    for (let done = 0; done < data.length;) {
      const n = Math.min(LIMITS.dmaBytes, data.length - done);
      memory.set(data.subarray(done, done + n), dmaAt);
      const wrote = file.write(dmaAt, n);
      if (wrote !== n) {
        file.close();
        return refuse('NOSPC', 0, `boot image: ${path} does not fit in memory storage (${LIMITS.tmpfsBytes} bytes)`);
      }
      done += n;
    }
    file.close();
    own(vfs, path, entry);
    files++;
    bytes += data.length;
  }
  return { files, bytes };
}

/** Owner first: giving a file away takes its set-user-ID bit. */
function own(vfs: Vfs, path: string, { uid, gid, mode }: CpioEntry): void {
  vfs.chown('/', path, uid, gid);
  vfs.chmod('/', path, mode);
}
