// A directory in which files can be made though the host cannot make any meanwhile: empty ones are open from the beginning, and take the names that
// are asked for. One file more, written at its end only, says which has which. So a browser's worker, where opening is asynchronous and writing
// is not, can keep an audit log. Nothing is removed or renamed: a log only grows.

import {
  E,
  KIND,
  O,
  utf8Decode,
  utf8Encode,
  type HostDirectory,
  type HostFile,
  type HostStat,
} from '../kernel/abi/index.ts';
import type { ListedFile } from './listed-directory.ts';

/**
 * `names` lists what there is: lines `SLOT PATH`, of a directory `- PATH`; a line that is torn is not there. `slots` hold the files' bytes.
 * Throws where the list names a slot that is not there: the host's own mistake.
 */
export function growingDirectory(source: string, names: ListedFile, slots: readonly ListedFile[]): HostDirectory {
  return new GrowingDirectory(source, opened(names), names.size(), slots);
}

/** How many slots are taken, as the list says. */
export function slotsTaken(names: ListedFile): number {
  const text = textOf(opened(names), names.size());
  return text
    .split('\n')
    .slice(0, -1)
    .filter(line => !line.startsWith('- ')).length;
}

function opened(file: ListedFile): HostFile {
  const handle = file.open(O.RDWR);
  if (typeof handle === 'number') throw new Error(`the list of files cannot be opened: ${handle}`);
  return handle;
}

function textOf(file: HostFile, bytes: number): string {
  const into = new Uint8Array(bytes);
  const read = file.read(0, into, 0, bytes);
  if (read !== bytes) throw new Error(`the list of files cannot be read: ${read}`);
  return utf8Decode(into, 0, into.lastIndexOf(0x0a) + 1);
}

class GrowingDirectory implements HostDirectory {
  readonly readOnly = false;
  /** Entries of each directory, in order of their bytes when they are listed. */
  private readonly directories = new Map<string, Map<string, number>>([['', new Map()]]);
  private readonly files = new Map<string, ListedFile>();
  /** Bytes of the list that are whole lines. */
  private listed: number;

  constructor(
    readonly source: string,
    private readonly names: HostFile,
    bytes: number,
    private readonly slots: readonly ListedFile[],
  ) {
    const text = textOf(names, bytes);
    this.listed = utf8Encode(text).length;
    for (const line of text.split('\n').slice(0, -1)) {
      const [, slot = '', path = ''] = /^(\d+|-) (.+)$/.exec(line) ?? [];
      const file = this.slots[Number(slot)];
      if (slot === '-') this.enter(path, KIND.dir);
      else if (file === undefined) throw new Error(`'${path}' lies in file ${slot} of ${this.slots.length}`);
      else {
        this.files.set(path, file);
        this.enter(path, KIND.file);
      }
    }
  }

  private enter(path: string, kind: number): void {
    const cut = path.lastIndexOf('/');
    this.directories.get(path.slice(0, Math.max(0, cut)))?.set(path.slice(cut + 1), kind);
    if (kind === KIND.dir) this.directories.set(path, new Map());
  }

  stat(path: string): HostStat | number {
    if (this.directories.has(path)) return { kind: KIND.dir, size: 0, mode: 0o755 };
    const file = this.files.get(path);
    return file === undefined ? -E.NOENT : { kind: KIND.file, size: file.size(), mode: 0o644 };
  }
  list(path: string): readonly { name: string; kind: number }[] | number {
    const entries = this.directories.get(path);
    if (entries === undefined) return this.files.has(path) ? -E.NOTDIR : -E.NOENT;
    return [...entries].map(([name, kind]) => ({ name, kind })).sort((a, b) => (a.name < b.name ? -1 : 1));
  }
  open(path: string, access: number): HostFile | number {
    if (this.directories.has(path)) return -E.ISDIR;
    return this.files.get(path)?.open(access) ?? -E.NOENT;
  }
  truncate(path: string, size: number): number {
    return this.files.get(path)?.truncate?.(size) ?? -E.NOENT;
  }

  create(path: string): number {
    const slot = this.files.size;
    const file = this.slots[slot];
    if (file === undefined) return -E.NOSPC;
    const status = file.truncate?.(0) ?? -E.ROFS; // of a name that was torn
    return status < 0 ? status : this.add(path, `${slot}`, KIND.file, () => this.files.set(path, file));
  }
  mkdir(path: string): number {
    return this.add(path, '-', KIND.dir, () => {});
  }

  /** The line first: what is not in the list is not there. */
  private add(path: string, slot: string, kind: number, take: () => void): number {
    if (this.directories.has(path) || this.files.has(path)) return -E.EXIST;
    const line = utf8Encode(`${slot} ${path}\n`);
    const written = this.names.write(this.listed, line, 0, line.length);
    if (written !== line.length) return written < 0 ? written : -E.NOSPC;
    this.listed += line.length;
    take();
    this.enter(path, kind);
    return 0;
  }

  remove(): number {
    return -E.PERM;
  }
  removeDirectory(): number {
    return -E.PERM;
  }
  rename(): number {
    return -E.PERM;
  }
}
