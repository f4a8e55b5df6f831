// A directory of the host whose names the host knows: what a browser hands over, or one file in memory. The machine cannot make or remove
// names; where the host lets files be written, their contents can be. Directories are what the paths of files go through.

import { E, KIND, O, type HostDirectory, type HostFile, type HostStat } from '../kernel/abi/index.ts';

/** A file that the host has: how long it is now, and how it is read. */
export interface ListedFile {
  size(): number;
  open(access: number): HostFile | number;
  /** Where it can be written. */
  truncate?(size: number): number;
}

type Directories = ReadonlyMap<string, ReadonlyMap<string, number>>;

/** Entries of each directory by its path, in order of their bytes. */
function directoriesOf(files: ReadonlyMap<string, ListedFile>): Directories {
  const directories = new Map<string, Map<string, number>>([['', new Map()]]);
  for (const path of [...files.keys()].sort()) {
    const names = path.split('/');
    if (names.some(name => name === '' || name === '.' || name === '..')) throw new Error(`'${path}' is no path`);
    for (let depth = 0; depth < names.length; depth++) {
      const parent = directories.get(names.slice(0, depth).join('/'));
      const kind = depth === names.length - 1 ? KIND.file : KIND.dir;
      const here = names.slice(0, depth + 1).join('/');
      if ((parent!.get(names[depth]!) ?? kind) !== kind) throw new Error(`'${here}' is a file and a directory`);
      parent!.set(names[depth]!, kind);
      if (kind === KIND.dir && !directories.has(here)) directories.set(here, new Map());
    }
  }
  return directories;
}

/**
 * `files` by path, '/'-separated; the host may add some. Throws where a path is no path, or one file's is another's directory: the host's own
 * mistake.
 */
export function listedDirectory(
  source: string,
  files: ReadonlyMap<string, ListedFile>,
  readOnly: boolean,
): HostDirectory {
  let known: { readonly count: number; readonly directories: Directories } | null = null;
  const tree = (): Directories => {
    if (known?.count !== files.size) known = { count: files.size, directories: directoriesOf(files) };
    return known.directories;
  };
  tree();
  const fixed = (): number => (readOnly ? -E.ROFS : -E.PERM);
  const stat = (path: string): HostStat | number => {
    if (tree().has(path)) return { kind: KIND.dir, size: 0, mode: 0o755 };
    const file = files.get(path);
    return file === undefined ? -E.NOENT : { kind: KIND.file, size: file.size(), mode: 0o644 };
  };
  return {
    source,
    readOnly,
    stat,
    list(path) {
      const entries = tree().get(path);
      if (entries === undefined) return files.has(path) ? -E.NOTDIR : -E.NOENT;
      return [...entries].map(([name, kind]) => ({ name, kind }));
    },
    open(path, access) {
      if (tree().has(path)) return -E.ISDIR;
      if (readOnly && access !== O.RDONLY) return -E.ROFS;
      return files.get(path)?.open(access) ?? -E.NOENT;
    },
    truncate: (path, size) => (readOnly ? -E.ROFS : (files.get(path)?.truncate?.(size) ?? -E.PERM)),
    create: fixed,
    mkdir: fixed,
    remove: fixed,
    removeDirectory: fixed,
    rename: fixed,
  };
}

/** A file that is read by one function, which gives -errno or the bytes it put at `at`, and cannot be written. */
export function readableFile(size: () => number, read: HostFile['read']): ListedFile {
  return { size, open: () => ({ read, write: () => -E.ROFS, close: () => {} }) };
}

/** One in memory. */
export function memoryFile(bytes: Uint8Array): ListedFile {
  return readableFile(
    () => bytes.length,
    (position, into, at, length) => {
      const part = bytes.subarray(position, position + length);
      into.set(part, at);
      return part.length;
    },
  );
}
