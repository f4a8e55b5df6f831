// Storage of a machine that keeps nothing: /home and the log are in its own memory and go with it. What is dropped on it comes into that memory.

import { refuse, strerror, type Refusal } from '../../../kernel/abi/index.ts';
import type { Storage } from '../protocol/messages.ts';
import type { MachineStorage, Tree } from './storage.ts';

/** What is dropped comes whole into the machine's memory. */
const PUT_MAX = 64 << 20;

export function unkept(why: string): MachineStorage {
  const status: Storage = { isKept: false, why, usedBytes: 0, quotaBytes: 0 };
  return {
    mounts: [],
    isShort: false,
    settle: async () => {},
    status: async () => status,
    put: async (machine, name, file) => {
      if (file.size > PUT_MAX)
        return refuse(
          'FBIG',
          0,
          `${name}: ${file.size} bytes, and at most ${PUT_MAX} can be put into a home that is not kept`,
        );
      const path = name.startsWith('/') ? name : `/home/${name}`;
      const stored = machine.store(path, new Uint8Array(await file.arrayBuffer()));
      return stored < 0 ? refuse('IO', 0, `${path}: ${strerror(stored)}`) : path;
    },
    fetch: async (_machine, url) => refuse('NOTSUP', 0, `${url}: files of servers need a home that is kept`),
    read: (machine: Tree, path: string): Uint8Array | Refusal => {
      const bytes = machine.observe(path);
      return typeof bytes === 'number' ? refuse('IO', 0, `${path}: ${strerror(bytes)}`) : bytes;
    },
    list: (machine, path) => {
      const entries = machine.observeList(path);
      if (typeof entries === 'number') return refuse('IO', 0, `${path}: ${strerror(entries)}`);
      return entries.map(e => ({ path: `${path}/${e.name}`, bytes: 0, isDirectory: e.kind === 2 }));
    },
    flush: () => {},
    close: () => {},
  };
}
