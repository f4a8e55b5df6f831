// Files in the browser's own file system (OPFS) as a directory of the machine. Everything about names is asynchronous there, reading and writing a
// file that is open is not, and only in a worker: so each file of the tree is open as long as the machine runs, with some empty ones beside them
// (boot/slot-directory.ts). A file that is open here is nobody else's. https://fs.spec.whatwg.org/#api-filesystemsyncaccesshandle

import { E, isRefusal, refuse, type Refusal } from '../../../kernel/abi/index.ts';
import { SlotDirectory, type SlotFile } from '../../slot-directory.ts';

/** Empty files that are open, and how few start the opening of more: a browser takes one to four milliseconds for each. */
const SPARES = 16;
const SPARES_LOW = 8;
/** Files that are open at once, at most: each holds a descriptor of the browser. */
const SLOTS_MOST = 4000;
/** A worker that has just ended may hold its files a little longer. */
const TRIES = 10;
const TRY_MS = 60;

/** Told what the browser said: storage is full, or it has failed. */
export type Trouble = (what: 'full' | 'failed') => void;

export class OpfsTree {
  /** By name. */
  private readonly handles = new Map<string, FileSystemSyncAccessHandle>();
  /** By slot. */
  private readonly files = new Map<number, SlotFile>();
  private settling: Promise<void> | null = null;
  private isClosed = false;

  private constructor(
    private readonly root: FileSystemDirectoryHandle,
    private readonly trouble: Trouble,
    private tree: SlotDirectory | null = null,
  ) {}

  get directory(): SlotDirectory {
    return this.tree!;
  }

  /**
   * The tree that lies in `root`; an empty one the first time. Refused with EBUSY when another worker has it open, ENOSPC when there is no room for
   * it, EIO when it is damaged or cannot be read: it stays as it is then.
   */
  static async open(root: FileSystemDirectoryHandle, source: string, trouble: Trouble): Promise<OpfsTree | Refusal> {
    const opened = new OpfsTree(root, trouble);
    try {
      const journals = [await opened.file('journal-a'), await opened.file('journal-b')] as const;
      const close = (slot: number): void => opened.drop(slot);
      const tree = SlotDirectory.open({ source, journals, slotsMost: SLOTS_MOST, close });
      if (isRefusal(tree)) {
        opened.close();
        return tree;
      }
      opened.tree = tree;
      await Promise.all(tree.slotsTaken().map(slot => opened.add(slot)));
      void opened.settle();
      return opened;
    } catch (error) {
      opened.close();
      return refusalOf(error);
    }
  }

  /** The first one says whether another worker has the tree. */
  private async file(name: string): Promise<SlotFile> {
    const entry = await this.root.getFileHandle(name, { create: true });
    for (let tries = 1; ; tries++)
      try {
        const handle = await entry.createSyncAccessHandle();
        if (this.isClosed) handle.close();
        this.handles.set(name, handle);
        return fileOf(handle, this.trouble);
      } catch (error) {
        if (!isBusy(error) || tries === TRIES) throw error;
        await new Promise(resolve => setTimeout(resolve, TRY_MS));
      }
  }

  private async add(slot: number): Promise<void> {
    const file = this.files.get(slot) ?? (await this.file(String(slot)));
    this.files.set(slot, file);
    if (!this.isClosed) this.directory.add(slot, file);
  }

  /** Chromium holds the room of a file that is open, though it be emptied. */
  private drop(slot: number): void {
    this.handles.get(String(slot))?.close();
    this.handles.delete(String(slot));
    this.files.delete(slot);
  }

  /** Opens what has been waited for, and empty files until there are enough again. */
  private async fill(): Promise<void> {
    const { directory } = this;
    const slots = [...directory.slotsLate()];
    for (let missing = SPARES - directory.spares; missing > 0; missing--) slots.push(directory.reserve());
    await Promise.all(slots.filter(slot => slot >= 0).map(slot => this.add(slot)));
  }

  /** Again for what has come meanwhile; not when nothing gets better, as on a full disk. */
  private async fillAll(): Promise<void> {
    const late = (): number => this.directory.slotsLate().length;
    let before: number;
    do {
      before = late();
      await this.fill();
    } while (late() > 0 && late() !== before);
  }

  /** A file was made and no empty one was left: it waits for settle(). */
  get isShort(): boolean {
    return this.directory.slotsLate().length > 0;
  }

  /** What is waited for is opened, and empty files are again. */
  settle(): Promise<void> {
    this.settling ??= this.fillAll()
      .catch(() => this.trouble('failed'))
      .finally(() => (this.settling = null));
    return this.settling;
  }

  /** What has been written is on the disk, and empty files are being opened where few are left. True: there was something to do. */
  flush(): boolean {
    const { isDirty, spares } = this.directory;
    this.directory.flush();
    if (spares < SPARES_LOW) void this.settle();
    return isDirty;
  }

  /** Removes files that no name leads to, and that are not open: what once was more, or was cut off. */
  async tidy(): Promise<void> {
    for await (const name of this.root.keys())
      if (/^\d+$/.test(name) && !this.isClosed && !this.directory.isUsed(Number(name)))
        await this.root.removeEntry(name).catch(() => {}); // opened meanwhile
  }

  /** Now, or when what waits for a file has one. */
  close(): void {
    if (this.tree !== null && this.isShort) void this.settle().then(() => this.end());
    else this.end();
  }

  private end(): void {
    if (this.isClosed) return;
    this.tree?.flush();
    this.isClosed = true;
    for (const handle of this.handles.values()) handle.close();
  }
}

const isBusy = (error: unknown): boolean => (error as Error).name === 'NoModificationAllowedError';

/** A line for what the browser threw. */
function refusalOf(error: unknown): Refusal {
  if (isBusy(error)) return refuse('BUSY', 0, 'another tab or window has it open');
  return isFull(error) ? refuse('NOSPC', 0, 'the browser has no room for it') : refuse('IO', 0, reasonOf(error));
}

export const reasonOf = (error: unknown): string => {
  const { name, message } = error as Error;
  return message === '' ? name : message.split('\n')[0]!.replace(/\.$/, '');
};

/** Firefox has its own name for it. */
const isFull = (error: unknown): boolean =>
  /^(QuotaExceededError|NS_ERROR_FILE_NO_DEVICE_SPACE)$/.test((error as Error).name);

function fileOf(handle: FileSystemSyncAccessHandle, trouble: Trouble): SlotFile {
  const failed = (what: 'full' | 'failed'): number => {
    trouble(what);
    return what === 'full' ? -E.NOSPC : -E.IO;
  };
  const attempt = (operation: () => number): number => {
    try {
      return operation();
    } catch (error) {
      return failed(isFull(error) ? 'full' : 'failed');
    }
  };
  return {
    size: () =>
      Math.max(
        0,
        attempt(() => handle.getSize()),
      ),
    read: (position, into, at, length) => attempt(() => handle.read(into.subarray(at, at + length), { at: position })),
    write: (position, from, at, length) =>
      attempt(() => {
        // Of what there is no room for, Firefox takes a part, or nothing; Chromium throws.
        const n = handle.write(from.subarray(at, at + length), { at: position });
        return n === 0 && length > 0 ? failed('full') : n;
      }),
    truncate: size => attempt(() => (handle.truncate(size), 0)),
    flush: () => attempt(() => (handle.flush(), 0)),
  };
}
