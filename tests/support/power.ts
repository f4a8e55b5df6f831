// A directory of the host whose power can be cut: after so many operations that change it, before, in the middle of or behind one, everything fails,
// and what had been written is what the next machine finds. A write may also be refused, as a full disk does.

import { E, KIND, type HostDirectory, type HostFile, type HostStat } from '../../kernel/abi/index.ts';

/** The power went in the middle of an operation. */
export class PowerCut extends Error {}

export type Cut = 'before' | 'torn' | 'behind';

export class PowerDirectory implements HostDirectory {
  readonly source = 'power';
  readonly readOnly = false;
  /** Operations that changed something. */
  operations = 0;
  /** Seen before each of them. */
  look: () => void = () => {};
  /** Operation at which the power goes; Infinity: never. */
  cutAt = Infinity;
  cut: Cut = 'behind';
  /** What writes answer instead; 0: they are done. */
  failure = 0;

  constructor(readonly files = new Map<string, Uint8Array>()) {}

  /** What the next machine finds. */
  survivor(): PowerDirectory {
    return new PowerDirectory(new Map([...this.files].map(([name, bytes]) => [name, bytes.slice()])));
  }

  /** Does a change as far as there is power: `change` is told whether it is torn. */
  protected act(change: (torn: boolean) => number): number {
    if (this.operations > this.cutAt) throw new PowerCut();
    this.look();
    const last = this.operations++ === this.cutAt;
    if (last && this.cut === 'before') throw new PowerCut();
    const status = this.failure < 0 ? this.failure : change(last && this.cut === 'torn');
    if (last) throw new PowerCut();
    return status;
  }

  stat(path: string): HostStat | number {
    if (path === '') return { kind: KIND.dir, size: 0, mode: 0o755 };
    const bytes = this.files.get(path);
    if (bytes !== undefined) return { kind: KIND.file, size: bytes.length, mode: 0o644 };
    return this.files.has(`${path}/`) ? { kind: KIND.dir, size: 0, mode: 0o755 } : -E.NOENT;
  }
  list(path: string): readonly { name: string; kind: number }[] {
    const prefix = path === '' ? '' : `${path}/`;
    const names = [...this.files.keys()].filter(name => name.startsWith(prefix) && name !== prefix);
    const own = names.map(name => name.slice(prefix.length)).filter(name => /^[^/]+\/?$/.test(name));
    return own.map(name => ({ name: name.replace('/', ''), kind: name.endsWith('/') ? KIND.dir : KIND.file }));
  }
  open(path: string): HostFile | number {
    if (!this.files.has(path)) return -E.NOENT;
    return {
      read: (position, into, at, length) => {
        const piece = this.files.get(path)!.subarray(position, position + length);
        into.set(piece, at);
        return piece.length;
      },
      write: (position, from, at, length) =>
        this.act(torn => {
          const piece = from.subarray(at, at + (torn ? length >> 1 : length));
          const old = this.files.get(path)!;
          const now = new Uint8Array(Math.max(old.length, position + piece.length));
          now.set(old);
          now.set(piece, position);
          this.files.set(path, now);
          return piece.length;
        }),
      close: () => {},
    };
  }
  create(path: string): number {
    return this.act(torn => {
      if (!torn) this.files.set(path, new Uint8Array(0));
      return 0;
    });
  }
  mkdir(path: string): number {
    return this.act(torn => {
      if (!torn) this.files.set(`${path}/`, new Uint8Array(0));
      return 0;
    });
  }
  truncate(path: string, size: number): number {
    return this.act(torn => {
      const old = this.files.get(path)!;
      this.files.set(path, old.slice(0, torn ? (old.length + size) >> 1 : size));
      return 0;
    });
  }
  remove(_path: string): number {
    return -E.ACCES;
  }
  removeDirectory(): number {
    return -E.ACCES;
  }
  rename(_from: string, _to: string): number {
    return -E.ACCES;
  }
}
