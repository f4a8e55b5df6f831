// What the machine in a worker keeps in the browser, and what it takes from outside: /home and the audit log in the origin private file system, files
// that a person drops, files of web servers. One answer for everything that a browser may refuse: a line of text, and a machine that goes on.

import {
  E,
  isRefusal,
  KIND,
  O,
  refuse,
  strerror,
  utf8Decode,
  utf8Encode,
  type HostDirectory,
  type Refusal,
} from '../../../kernel/abi/index.ts';
import type { Machine } from '../../machine.ts';
import { listedDirectory, type ListedFile } from '../../listed-directory.ts';
import type { SlotDirectory } from '../../slot-directory.ts';
import { answersRanges, urlFileLater } from '../../web-files.ts';
import type { FileEntry, Storage } from '../protocol/messages.ts';
import { blobSource, downloadSource, keep, nameIn, nextName, plainName, store, type Source } from './intake.ts';
import { OpfsTree, reasonOf, type Trouble } from './opfs.ts';

/** As much of Machine as files need. */
export type Tree = Pick<Machine, 'observe' | 'observeList' | 'store'>;

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
   * True when a file was made before the browser could open one for it. Ask after each round of the machine, and when true await settle() before
   * the next: nothing of it is seen inside.
   */
  readonly isShort: boolean;
  settle(): Promise<void>;
  status(): Promise<Storage>;
  /** A file from outside, below /home unless `name` is an absolute path. Answered with its path. */
  put(machine: Tree, name: string, file: Blob): Promise<string | Refusal>;
  /** A file of a web server: by ranges below /mnt/web where /home is kept and the server answers them, downloaded otherwise. Answered with its path. */
  fetch(machine: Tree, url: string): Promise<string | Refusal>;
  read(machine: Tree, path: string): Uint8Array | Refusal;
  list(machine: Tree, path: string): readonly FileEntry[] | Refusal;
  /** What has been written is on the disk. Cheap when nothing was; call it when the machine is idle. */
  flush(): void;
  /** After Machine.powerOff. Others may open it then. */
  close(): void;
}

const HOME = '/home';
const WEB = '/mnt/web';
const LOG = '/var/audit';
/** What everything lies below in the browser's file system. */
const ROOT = 'arena8';
/** In /home: a line `NAME URL` for each file of /mnt/web. */
const WEB_LIST = '.web';

/** As the boot image has them. */
const HOMES = [
  { name: 'user', uid: 1000, gid: 1000 },
  { name: 'auditor', uid: 1001, gid: 101 },
];

/** Never refuses: what cannot be kept is lost with the machine, and status() says why. */
export async function openStorage(wish: StorageWish, news: StorageNews): Promise<MachineStorage> {
  const trouble = once(news);
  const [home, log] = await Promise.all([openTree(wish.home, 'home', trouble), openTree(wish.log, 'log', trouble)]);
  if (isRefusal(log) && wish.log === 'kept') news.trouble(`The audit log is not kept: ${log.message}.`);
  return new PageStorage(
    isRefusal(home) ? null : home,
    isRefusal(home) ? home.message : '',
    isRefusal(log) ? null : log,
    news,
  );
}

/** The person is told once of each, however often the machine tries. */
function once(news: StorageNews): Trouble {
  const told = new Set<string>();
  return what => {
    if (told.has(what)) return;
    told.add(what);
    news.trouble(
      what === 'full'
        ? "The browser's storage is full: what was written before is kept. Remove files with rm, or save them and make room in the browser."
        : "The browser's storage has failed: what is written from now on may be lost. Save what matters, then load the page again.",
    );
  };
}

/** Refused with the reason why it is not kept. */
async function openTree(wish: 'kept' | 'lost', name: string, trouble: Trouble): Promise<OpfsTree | Refusal> {
  if (wish === 'lost') return refuse('PERM', 0, 'nobody asked for it to be kept');
  if (navigator.storage?.getDirectory === undefined)
    return refuse('NOTSUP', 0, 'the browser keeps files only for pages of secure addresses (https)');
  let root: FileSystemDirectoryHandle;
  try {
    const origin = await navigator.storage.getDirectory();
    root = await (await origin.getDirectoryHandle(ROOT, { create: true })).getDirectoryHandle(name, { create: true });
  } catch (error) {
    return refuse('ACCES', 0, `the browser lets this page keep nothing: ${reasonOf(error)}`);
  }
  return OpfsTree.open(root, `opfs:/${name}`, trouble);
}

class PageStorage implements MachineStorage {
  readonly mounts: MachineStorage['mounts'];
  /** What /mnt/web shows. */
  private readonly web = new Map<string, ListedFile>();
  private readonly trees: readonly OpfsTree[];

  constructor(
    private readonly home: OpfsTree | null,
    private readonly why: string,
    log: OpfsTree | null,
    private readonly news: StorageNews,
  ) {
    const mounts: { guest: string; directory: HostDirectory }[] = [];
    if (home !== null) {
      furnish(home.directory);
      for (const [name, url] of webList(home.directory)) this.web.set(name, urlFileLater(url));
      mounts.push({ guest: HOME, directory: home.directory });
      mounts.push({ guest: WEB, directory: listedDirectory('web', this.web, true) });
    }
    if (log !== null) mounts.push({ guest: LOG, directory: log.directory });
    this.mounts = mounts;
    this.trees = [home, log].filter(tree => tree !== null);
    for (const tree of this.trees) void tree.tidy();
  }

  get isShort(): boolean {
    return this.trees.some(tree => tree.isShort);
  }

  async settle(): Promise<void> {
    await Promise.all(this.trees.map(tree => tree.settle()));
  }

  async status(): Promise<Storage> {
    const { usage = 0, quota = 0 } =
      this.home === null ? {} : await navigator.storage.estimate().catch(() => ({}) as StorageEstimate);
    return { isKept: this.home !== null, why: this.why, usedBytes: usage, quotaBytes: quota };
  }

  flush(): void {
    const written = this.trees.filter(tree => tree.flush());
    if (written.length > 0) this.tell();
  }

  private tell(): void {
    void this.status().then(status => this.news.storage(status));
  }

  close(): void {
    for (const tree of this.trees) tree.close();
  }

  // ── From outside, and to it ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  put(machine: Tree, name: string, file: Blob): Promise<string | Refusal> {
    return this.take(machine, blobSource(name, file), name);
  }

  /** `name`: a path where it is absolute; otherwise one in /home that is free. */
  private async take(machine: Tree, source: Source, name: string): Promise<string | Refusal> {
    const isPath = name.startsWith('/');
    const path = isPath ? name : `${HOME}/${plainName(name)}`;
    const progress = this.news.progress.bind(this.news);
    if (this.home === null || !path.startsWith(`${HOME}/`)) return store(machine, source, path, !isPath, progress);
    const { usedBytes, quotaBytes } = await this.status();
    const room = Math.max(0, quotaBytes - usedBytes);
    if (quotaBytes > 0 && (source.bytes ?? 0) > room)
      return refuse('NOSPC', 0, `${source.name}: ${source.bytes} bytes, and the browser has room for ${room} more`);
    if (this.home.directory.spares === 0) await this.home.settle();
    const kept = await keep(this.home.directory, source, path.slice(HOME.length + 1), !isPath, progress);
    this.tell();
    return isRefusal(kept) ? kept : `${HOME}/${kept}`;
  }

  async fetch(machine: Tree, text: string): Promise<string | Refusal> {
    const url = URL.canParse(text, self.location.href) ? new URL(text, self.location.href) : null;
    if (url === null || !/^https?:$/.test(url.protocol))
      return refuse('INVAL', 0, `${text}: no address of a web server`);
    const ranges = this.home === null ? false : await answersRanges(url.href);
    if (typeof ranges === 'string') return refuse('IO', 0, `${url.href}: ${ranges}`);
    if (ranges) return this.show(url.href);
    const source = await downloadSource(url.href);
    return isRefusal(source) ? source : this.take(machine, source, plainName(source.name));
  }

  /** As a file of /mnt/web, from now on and after the next power-on. */
  private show(url: string): string | Refusal {
    const directory = this.home!.directory;
    const list = webList(directory);
    for (const [name, listed] of list) if (listed === url && this.web.has(name)) return `${WEB}/${name}`;
    const plain = plainName(nameIn(url)).replaceAll(' ', '_');
    let name = plain;
    for (let count = 1; list.has(name) || this.web.has(name); count++) name = nextName(plain, count);
    const status = append(directory, WEB_LIST, `${name} ${url}\n`);
    if (status < 0) return refuse('IO', 0, `${HOME}/${WEB_LIST}: ${strerror(status)}`);
    this.web.set(name, urlFileLater(url));
    return `${WEB}/${name}`;
  }

  read(machine: Tree, path: string): Uint8Array | Refusal {
    const bytes = machine.observe(path);
    return typeof bytes === 'number' ? refused(path, bytes) : bytes;
  }

  list(machine: Tree, path: string): readonly FileEntry[] | Refusal {
    const entries = machine.observeList(path);
    if (typeof entries === 'number') return refused(path, entries);
    const below = path.endsWith('/') ? path : `${path}/`;
    return entries
      .filter(({ kind }) => kind === KIND.file || kind === KIND.dir || kind === KIND.link)
      .map(({ name, kind, bytes }) => ({ path: below + name, bytes, isDirectory: kind === KIND.dir }));
  }
}

const refused = (path: string, errno: number): Refusal => ({
  errno: -errno,
  code: 0,
  message: `${path}: ${strerror(errno)}`,
});

/** A home that is new gets what the image's has. */
function furnish(home: SlotDirectory): void {
  const entries = home.list('');
  if (typeof entries !== 'number' && entries.length > 0) return;
  for (const { name, uid, gid } of HOMES) home.mkdir(name, 0o700, uid, gid);
}

/** URLs by name, in their order. A line that is none is passed over: people may write in the file. */
function webList(home: SlotDirectory): Map<string, string> {
  const list = new Map<string, string>();
  for (const line of textOf(home, WEB_LIST).split('\n')) {
    const [, name, url] = /^([^\s/]+) (https?:\/\/\S+)$/.exec(line) ?? [];
    if (name !== undefined && url !== undefined && plainName(name) === name) list.set(name, url);
  }
  return list;
}

function textOf(home: SlotDirectory, path: string): string {
  const stat = home.stat(path);
  const file = home.open(path, O.RDONLY);
  if (typeof file === 'number' || typeof stat === 'number') return '';
  const bytes = new Uint8Array(stat.size);
  const n = file.read(0, bytes, 0, bytes.length);
  file.close();
  return utf8Decode(bytes, 0, Math.max(0, n));
}

/** 0 or -errno. */
function append(home: SlotDirectory, path: string, text: string): number {
  const made = home.create(path, 0o644);
  if (made < 0 && made !== -E.EXIST) return made;
  const file = home.open(path, O.WRONLY);
  if (typeof file === 'number') return file;
  const bytes = utf8Encode(text);
  const stat = home.stat(path);
  const n = file.write(typeof stat === 'number' ? 0 : stat.size, bytes, 0, bytes.length);
  file.close();
  return n < 0 ? n : n < bytes.length ? -E.NOSPC : 0;
}
