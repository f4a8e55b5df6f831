// What the machine in a worker keeps in the browser, and what it takes from outside: /home and the audit log in the origin private file system, files
// that a person drops, files of web servers. One answer for everything that a browser may refuse: a line of text, and a machine that goes on.

import type { HostDirectory, Refusal } from '../../../kernel/abi/index.ts';
import type { FileEntry, Storage } from '../protocol/messages.ts';

/** As much of Machine as files need. */
export interface Tree {
  /** A file as the superuser reads it, unnoticed; or -errno. */
  observe(path: string): Uint8Array | number;
  observeList(path: string): readonly { readonly name: string; readonly kind: number }[] | number;
  /** Puts a file into the machine's tree; 0 or -errno. */
  store(path: string, bytes: Uint8Array): number;
}

/** What is told while it lasts; see News. */
export interface StorageNews {
  progress(what: string, done: number, total: number): void;
  trouble(text: string): void;
  storage(storage: Storage): void;
}

export interface StorageWish {
  readonly home: 'kept' | 'lost';
  readonly log: 'kept' | 'lost';
}

/** Storage of one machine, from power-on to power-off. */
export interface MachineStorage {
  /** For BootOptions. */
  readonly mounts: readonly { readonly guest: string; readonly directory: HostDirectory }[];
  /**
   * True when few new files can be made before the browser has opened some more. Ask after each round of the machine, and when true await
   * settle() before the next: nothing of it is seen inside.
   */
  readonly isShort: boolean;
  settle(): Promise<void>;
  status(): Promise<Storage>;
  /** A file from outside, below /home unless `name` is an absolute path. Answered with its path. */
  put(machine: Tree, name: string, file: Blob): Promise<string | Refusal>;
  /** A file of a web server. Answered with the path that it has, or has from the next power-on. */
  fetch(machine: Tree, url: string): Promise<string | Refusal>;
  read(machine: Tree, path: string): Uint8Array | Refusal;
  list(machine: Tree, path: string): readonly FileEntry[] | Refusal;
  /** What has been written is on the disk. Cheap when nothing was; call it when the machine is idle. */
  flush(): void;
  /** After Machine.powerOff. Others may open it then. */
  close(): void;
}

/** Never refuses: what cannot be kept is lost with the machine, and status() says why. */
export declare function openStorage(wish: StorageWish, news: StorageNews): Promise<MachineStorage>;
