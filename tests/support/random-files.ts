// Random operations on files, drawn from a seed, for any number of systems at once: each operation is put to all of them, and descriptors are
// kept by system. Few names and short paths, so that operations meet: most are refused, for every reason there is.
import { O } from '../../kernel/abi/index.ts';
import { makeRandom } from './arena.ts';
import type { Result, System } from './file-systems.ts';

export const OPENS: Readonly<Record<string, number>> = {
  rdonly: O.RDONLY,
  wronly: O.WRONLY,
  rdwr: O.RDWR,
  directory: O.RDONLY | O.DIRECTORY,
  nofollow: O.RDONLY | O.NOFOLLOW,
  trunc: O.WRONLY | O.TRUNC,
  'rdonly trunc': O.RDONLY | O.TRUNC,
  creat: O.WRONLY | O.CREAT,
  'rdonly creat': O.RDONLY | O.CREAT,
  'creat excl': O.WRONLY | O.CREAT | O.EXCL,
  'creat trunc': O.RDWR | O.CREAT | O.TRUNC,
  'creat append': O.RDWR | O.CREAT | O.APPEND,
  append: O.WRONLY | O.APPEND,
  'creat directory': O.RDONLY | O.CREAT | O.DIRECTORY,
  'directory wronly': O.WRONLY | O.DIRECTORY,
};

/** Descriptors of one open, by system; -1 where there is none. */
export interface Opened {
  readonly how: string; // a name of OPENS
  readonly fds: number[];
}

export interface Operation {
  /** The call and its arguments; of an open file, how it was opened. */
  readonly name: string;
  /** The two paths of a rename or link, or the one of other calls. */
  readonly paths: readonly string[];
  /** What it acts on, when that is an open file, or what it opens. */
  readonly file: Opened | null;
  readonly opens: boolean;
  /** On the system with that index. */
  readonly act: (s: System, index: number) => Result;
}

const OPEN_FILES_MAX = 20;

export class FileScript {
  readonly files: Opened[] = [];
  private readonly random: (n: number) => number;

  constructor(seed: number) {
    this.random = makeRandom(seed);
  }

  private one<T>(list: readonly T[]): T {
    return list[this.random(list.length)]!;
  }
  private path(): string {
    const names = Array.from({ length: 1 + this.random(3) }, () => this.one(['a', 'b', 'c', 'd']));
    return names.join('/') + (this.random(20) === 0 ? '/' : '');
  }
  /** Mostly small, now and then over several pages. */
  private size(): number {
    return this.random(this.random(3) === 0 ? 20_000 : 50);
  }

  next(): Operation {
    if (this.random(3) === 0 && this.files.length > 0) return this.onOpen(this.one(this.files));
    const p = this.path();
    const q = this.path();
    const size = this.size();
    const named = (name: string, act: (s: System) => Result): Operation => {
      return { name: `${name} ${p}`, paths: [p], file: null, opens: false, act };
    };
    const two = (name: string, act: (s: System) => Result): Operation => {
      return { name: `${name} ${p} ${q}`, paths: [p, q], file: null, opens: false, act };
    };
    switch (this.random(18)) {
      case 0:
      case 1:
      case 2:
        return named('mkdir', s => s.mkdir(p));
      case 3:
        return named('rmdir', s => s.rmdir(p));
      case 4:
        return named('unlink', s => s.unlink(p));
      case 5:
      case 6:
        return two('rename', s => s.rename(p, q));
      case 7:
        return two('link', s => s.link(p, q));
      case 8:
        return two('symlink', s => s.symlink(p, q));
      case 9:
        return named('stat', s => s.stat(p));
      case 10:
        return named('lstat', s => s.lstat(p));
      case 11:
        return named('list', s => s.list(p));
      case 12:
        return named('readlink', s => s.readlink(p));
      case 13:
        return named('chmod', s => s.chmod(p, 0o700 | (size % 64)));
      case 14:
        return named('truncate', s => s.cut(p, size));
      default:
        return this.opening(p);
    }
  }

  private opening(p: string): Operation {
    const how = this.one(Object.keys(OPENS));
    const file: Opened = { how, fds: [] };
    const act = (s: System, index: number): Result => {
      const fd = (file.fds[index] = s.open(p, OPENS[how]!));
      return fd < 0 ? fd : 'open';
    };
    return { name: `open ${p} ${how}`, paths: [p], file, opens: true, act };
  }

  private onOpen(file: Opened): Operation {
    const size = this.size();
    const text = String.fromCharCode(97 + this.random(26)).repeat(1 + size); // Node makes no call for 0
    const on = (name: string, act: (s: System, fd: number) => Result): Operation => {
      const onFile = (s: System, index: number): Result => act(s, file.fds[index]!);
      return { name: `${name} (${file.how})`, paths: [], file, opens: false, act: onFile };
    };
    switch (this.random(8)) {
      case 0:
      case 1:
        return on('read', (s, fd) => s.read(fd, 1 + size));
      case 2:
      case 3:
        return on('write', (s, fd) => s.write(fd, text));
      case 4:
        return on('lseek', (s, fd) => (s.seek(fd, size), 0));
      case 5:
        return on('ftruncate', (s, fd) => s.truncate(fd, size));
      case 6:
        return on('fstat', (s, fd) => s.fstat(fd));
      default:
        this.files.splice(this.files.indexOf(file), 1);
        return on('close', (s, fd) => (s.close(fd), 0));
    }
  }

  /** Keeps what an operation opened on the first system; closes the oldest when there are too many. */
  settle({ file, opens }: Operation, systems: readonly System[]): void {
    if (!opens || file === null) return;
    const kept = file.fds[0]! >= 0;
    if (kept) this.files.push(file);
    const gone = kept ? (this.files.length > OPEN_FILES_MAX ? this.files.shift() : undefined) : file;
    if (gone !== undefined) closeAll(gone, systems);
  }

  /** Closes every file on every system. */
  end(systems: readonly System[]): void {
    for (const file of this.files.splice(0)) closeAll(file, systems);
  }
}

function closeAll({ fds }: Opened, systems: readonly System[]): void {
  systems.forEach((s, index) => {
    if (fds[index]! >= 0) s.close(fds[index]!);
  });
}
