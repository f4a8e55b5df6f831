// A directory of the browser's own file system (OPFS) as a directory of the host. Everything about names is asynchronous there, reading and
// writing a file that is open is not, and only in a worker: so all files below the directory are opened when it is given to the machine, and
// stay open as long as the machine runs. https://fs.spec.whatwg.org/#api-filesystemsyncaccesshandle

import { E, type HostDirectory, type HostFile } from '../kernel/abi/index.ts';
import { growingDirectory, slotsTaken } from './growing-directory.ts';
import { listedDirectory, type ListedFile } from './listed-directory.ts';

/** FileSystemSyncAccessHandle, which the library of types has for workers only. */
interface SyncAccessHandle {
  read(into: Uint8Array, options: { readonly at: number }): number;
  write(from: Uint8Array, options: { readonly at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

interface FileHandle {
  readonly kind: 'file';
  createSyncAccessHandle(options?: { readonly mode: 'read-only' | 'readwrite' }): Promise<SyncAccessHandle>;
}

export interface DirectoryHandle {
  readonly kind: 'directory';
  readonly name: string;
  entries(): AsyncIterable<[string, FileHandle | DirectoryHandle]>;
  getFileHandle(name: string, options: { readonly create: boolean }): Promise<FileHandle>;
}

/** Files that are open at once, at most: each holds a descriptor of the browser. */
const FILES_MAX = 1024;

export interface OpfsDirectory {
  readonly directory: HostDirectory;
  /** Closes the files: others may write them then. */
  close(): void;
}

/**
 * What lies below `root` (from navigator.storage.getDirectory(), or a directory in it). Rejects where a file cannot be opened, as when another
 * worker writes it.
 */
export async function opfsDirectory(root: DirectoryHandle, readOnly: boolean): Promise<OpfsDirectory> {
  const open: SyncAccessHandle[] = [];
  const files = new Map<string, ListedFile>();
  const close = (): void => open.forEach(handle => handle.close());
  const walk = async (directory: DirectoryHandle, prefix: string): Promise<void> => {
    for await (const [name, entry] of directory.entries()) {
      if (entry.kind === 'directory') await walk(entry, `${prefix}${name}/`);
      else {
        if (open.length === FILES_MAX) throw new Error(`more than ${FILES_MAX} files below '${root.name}'`);
        const handle = await entry.createSyncAccessHandle({ mode: readOnly ? 'read-only' : 'readwrite' });
        open.push(handle);
        files.set(prefix + name, fileOf(handle));
      }
    }
  };
  try {
    await walk(root, '');
    return { directory: listedDirectory(`opfs:/${root.name}`, files, readOnly), close };
  } catch (error) {
    close();
    throw error;
  }
}

/**
 * The same for an audit log, which makes files as it grows: `root` holds them under numbers, with room for `more` than there are. One is taken at
 * each power-on, and for every 256 records. Rejects where a file cannot be opened.
 */
export async function opfsLogDirectory(root: DirectoryHandle, more = 64): Promise<OpfsDirectory> {
  const open: SyncAccessHandle[] = [];
  const close = (): void => open.forEach(handle => handle.close());
  const file = async (name: string): Promise<ListedFile> => {
    const entry = await root.getFileHandle(name, { create: true });
    const handle = await entry.createSyncAccessHandle({ mode: 'readwrite' });
    open.push(handle);
    return fileOf(handle);
  };
  try {
    const names = await file('names');
    const slots: ListedFile[] = [];
    const count = Math.min(slotsTaken(names) + more, FILES_MAX - 1);
    for (let slot = 0; slot < count; slot++) slots.push(await file(String(slot).padStart(4, '0')));
    return { directory: growingDirectory(`opfs:/${root.name}`, names, slots), close };
  } catch (error) {
    close();
    throw error;
  }
}

function fileOf(handle: SyncAccessHandle): ListedFile {
  /** What the browser throws is its disk's fault; full, it throws too. */
  const attempt = (operation: () => number): number => {
    try {
      return operation();
    } catch (error) {
      return (error as Error).name === 'QuotaExceededError' ? -E.NOSPC : -E.IO;
    }
  };
  const file: HostFile = {
    read: (position, into, at, length) => attempt(() => handle.read(into.subarray(at, at + length), { at: position })),
    write: (position, from, at, length) =>
      attempt(() => handle.write(from.subarray(at, at + length), { at: position })),
    close: () => void attempt(() => (handle.flush(), 0)),
  };
  return {
    size: () =>
      Math.max(
        0,
        attempt(() => handle.getSize()),
      ),
    open: () => file,
    truncate: size => attempt(() => (handle.truncate(size), 0)),
  };
}
