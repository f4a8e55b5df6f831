// Directories of the host, given to the machine as devices: node:fs behind HostDirectory. Nothing outside the directory is reached: links
// are followed only while they stay inside. Reads go straight into the arena. Entries are sorted, so that the host's own order, which is
// not the same on every machine, is not seen. The host may change files at any time; this is a window on them, not a copy. What is open is read
// by position through its descriptor: names are looked at once, not for each of the thousands of reads of a model that streams.

import fs from 'node:fs';
import path from 'node:path';
import { E, KIND, O, type HostDirectory, type HostFile, type HostStat } from '../kernel/abi/index.ts';
import { FileCache } from './file-cache.ts';
import { listedDirectory, memoryFile } from './listed-directory.ts';

/** The directory at `hostPath`. Throws an Error of one line when it is not a directory that can be read. */
export function directory(hostPath: string, readOnly: boolean): HostDirectory {
  let root: string;
  try {
    root = fs.realpathSync.native(hostPath);
    fs.opendirSync(root).closeSync();
  } catch (error) {
    throw new Error(`cannot mount '${hostPath}': ${reason(error)}`, { cause: error });
  }
  return new NodeDirectory(hostPath, root, readOnly);
}

/** A directory that holds one file, in memory, read-only: how a script of the host reaches the machine. */
export function singleFile(name: string, bytes: Uint8Array): HostDirectory {
  return listedDirectory(name, new Map([[name, memoryFile(bytes)]]), true);
}

/** The text of what node:fs threw, without the call and the path: `ENOENT: no such file or directory`. */
export function reason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/, \w+( '.*)?$/s, '').replace(/^[A-Z0-9]+: /, '');
}

/** -errno for what node:fs threw. */
function errnoOf(error: unknown): number {
  const name = String((error as NodeJS.ErrnoException).code).replace(/^E/, '');
  return -((E as Readonly<Record<string, number>>)[name] ?? E.IO);
}

/** Runs a call of node:fs; what it throws becomes -errno. */
function attempt<T>(call: () => T): T | number {
  try {
    return call();
  } catch (error) {
    return errnoOf(error);
  }
}

/** Of all directories of this process. */
const cache = new FileCache();

class NodeFile implements HostFile {
  constructor(private readonly fd: number) {}

  read(position: number, into: Uint8Array, at: number, length: number): number {
    try {
      return cache.read(this.fd, position, into, at, length);
    } catch (error) {
      return errnoOf(error);
    }
  }

  write(position: number, from: Uint8Array, at: number, length: number): number {
    return attempt(() => {
      const written = fs.writeSync(this.fd, from, at, length, position);
      cache.forget(this.fd);
      return written;
    });
  }

  close(): void {
    cache.closed(this.fd);
    fs.closeSync(this.fd);
  }
}

/** How a file is opened for O.RDONLY, O.WRONLY and O.RDWR. */
const OPEN_FLAGS = [fs.constants.O_RDONLY, fs.constants.O_WRONLY, fs.constants.O_RDWR] as const;

/** A descriptor of a regular file by its real path, or -errno. Pipes, sockets and devices would stop the whole machine when read. */
function openRegular(real: string, flags: number): number {
  return attempt(() => {
    const s = fs.statSync(real);
    if (!s.isFile()) return s.isDirectory() ? -E.ISDIR : -E.ACCES;
    return fs.openSync(real, flags | (fs.constants.O_NOFOLLOW ?? 0));
  });
}

class NodeDirectory implements HostDirectory {
  constructor(
    readonly source: string,
    private readonly root: string,
    readonly readOnly: boolean,
  ) {}

  refresh(): void {
    cache.refresh();
  }

  overlaps(other: HostDirectory): boolean {
    return other instanceof NodeDirectory && (this.#contains(other.root) || other.#contains(this.root));
  }

  /** The real path of something that exists, inside the directory; or -errno. */
  #real(p: string): string | number {
    return attempt(() => {
      const real = fs.realpathSync.native(path.join(this.root, p));
      return this.#contains(real) ? real : -E.ACCES;
    });
  }

  /** The real path of a name in its directory, which exists; the name itself may not, and is not followed if it is a link. */
  #place(p: string): string | number {
    const parent = this.#real(path.dirname(p));
    return typeof parent === 'number' ? parent : path.join(parent, path.basename(p));
  }

  #contains(real: string): boolean {
    return real === this.root || real.startsWith(this.root.endsWith(path.sep) ? this.root : this.root + path.sep);
  }

  stat(p: string): HostStat | number {
    const real = this.#real(p);
    if (typeof real === 'number') return real;
    return attempt(() => {
      const s = fs.statSync(real);
      if (!s.isFile() && !s.isDirectory()) return -E.ACCES; // see openRegular
      return { kind: s.isFile() ? KIND.file : KIND.dir, size: s.size, mode: s.mode & 0o777 };
    });
  }

  /** What a link leads to is told by stat(); a link that leads nowhere, or out, is listed as a file. */
  list(p: string): readonly { name: string; kind: number }[] | number {
    const real = this.#real(p);
    if (typeof real === 'number') return real;
    return attempt(() =>
      fs
        .readdirSync(real, { withFileTypes: true })
        .map(entry => {
          const linked = entry.isSymbolicLink() ? this.stat(path.join(p, entry.name)) : null;
          const isDirectory =
            linked === null ? entry.isDirectory() : typeof linked === 'object' && linked.kind === KIND.dir;
          return { name: entry.name, kind: isDirectory ? KIND.dir : KIND.file };
        })
        .sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name))),
    );
  }

  open(p: string, access: number): HostFile | number {
    if (this.readOnly && access !== O.RDONLY) return -E.ROFS;
    const real = this.#real(p);
    if (typeof real === 'number') return real;
    const fd = openRegular(real, OPEN_FLAGS[access]!);
    return fd < 0 ? fd : new NodeFile(fd);
  }

  truncate(p: string, size: number): number {
    if (this.readOnly) return -E.ROFS;
    const real = this.#real(p);
    if (typeof real === 'number') return real;
    const fd = openRegular(real, fs.constants.O_WRONLY);
    if (fd < 0) return fd;
    const status = attempt(() => {
      fs.ftruncateSync(fd, size);
      cache.forget(fd);
    });
    fs.closeSync(fd);
    return status ?? 0;
  }

  create(p: string, mode: number): number {
    return this.#entry(p, real => fs.closeSync(fs.openSync(real, 'wx', mode & 0o777)));
  }
  mkdir(p: string, mode: number): number {
    return this.#entry(p, real => void fs.mkdirSync(real, { mode: mode & 0o777 }));
  }
  remove(p: string): number {
    return this.#entry(p, real => {
      if (fs.lstatSync(real).isDirectory()) return -E.ISDIR; // some hosts say EPERM
      fs.unlinkSync(real);
    });
  }
  removeDirectory(p: string): number {
    return this.#entry(p, real => fs.rmdirSync(real));
  }
  rename(from: string, to: string): number {
    const target = this.#place(to);
    if (typeof target === 'number') return this.readOnly ? -E.ROFS : target;
    return this.#entry(from, real => fs.renameSync(real, target));
  }

  /** An operation on a name in its directory. */
  #entry(p: string, operation: (real: string) => number | void): number {
    if (this.readOnly) return -E.ROFS;
    if (p === '') return -E.BUSY; // the mount point itself
    const place = this.#place(p);
    if (typeof place === 'number') return place;
    return attempt(() => operation(place) ?? 0);
  }
}
