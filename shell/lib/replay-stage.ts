// The stage of a re-execution: kernel, processor, disks, model and adapters as they were when a record was made. What the records before it say of them
// is gathered, the machine is brought there, and afterwards it is what it was. What cannot be had is a sentence with both figures.

import { sha256 } from '@noble/hashes/sha2.js';
import { DISK_SET, KIND, LIMITS, O, RESIDENCY, strerror } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { toHex } from '../../trust/index.ts';
import type { ReplayLog, Said } from './replay-log.ts';
import { applyAdapter, readAdapters } from './adapters.ts';
import type { AdapterRow } from './adapters.ts';
import { changeDisk, mountPoints, readDisks } from './disks.ts';
import type { DiskRow } from './disks.ts';
import { join, listDirectory, readText, stat } from './files.ts';
import { STORE_DIRECTORY } from './finetune/store.ts';
import { targets } from './forecast.ts';
import { choiceOf, kvType, loadedModel, loadModel, modelId } from './model.ts';
import type { LoadChoice, Model } from './model.ts';
import { lastError } from './program.ts';
import { CHUNK_BYTES } from './stdio.ts';

type Why = Generator<void, string | null, void>;

/** The kind of storage that a disk is where nobody said otherwise. */
const DEFAULT_DISK = 'default';

/** What kind of storage a disk is; attempts beyond the first, null: as many as that kind has. */
interface Kind {
  readonly model: string;
  readonly retries: number | null;
}

/** An adapter as records and the kernel's list name it. */
interface Applied {
  readonly name: string;
  readonly digest: string;
  readonly scale: number;
}

/** What was in force when a record was made: of the power-on it follows, and of the changes since. */
export class Circumstances {
  kernel = '';
  target = '';
  disks = new Map<string, Kind>();
  /** Where adapters were applied from, by digest. */
  readonly adapters = new Map<string, string>();

  /** Takes in what a record changes; to be called for every record from a power-on to the one in question, in order. */
  apply(record: Said): void {
    const op = record.text('arena8.op');
    const [name, value] = [record.text('arena8.name', ''), record.text('arena8.value', '')];
    if (op === 'boot') {
      this.kernel = record.text('arena8.kernel.digest');
      this.target = record.text('arena8.target');
      const disks = record.words('arena8.disks').map(word => word.split('='));
      this.disks = new Map(disks.map(([disk = '', model = '']) => [disk, { model, retries: null }]));
    } else if (record.has('error.type')) return;
    else if (op === 'apply') this.adapters.set(record.text('arena8.digest', ''), record.text('arena8.path', ''));
    else if (op !== 'config') return;
    else if (name === 'target') this.target = value;
    else if (name.startsWith('disk ')) this.change(name.slice('disk '.length), value);
  }

  /** `model=nvme retries=2`, or other words. */
  private change(disk: string, words: string): void {
    const [, model] = /(?:^| )model=(\S+)/.exec(words) ?? [];
    const [, retries] = /(?:^| )retries=([0-9]+)/.exec(words) ?? [];
    const was = model === undefined ? this.disks.get(disk) : { model, retries: null };
    const kind = was ?? { model: DEFAULT_DISK, retries: null };
    this.disks.set(disk, retries === undefined ? kind : { ...kind, retries: Number(retries) });
  }

  /** Those of record `number`, or what is wrong with the log. */
  static *at(log: ReplayLog, number: number): Generator<void, Circumstances | string, void> {
    let first = number;
    for (; first > 0; first--) {
      const record = yield* log.record(first);
      if (typeof record === 'string') return record;
      if (record.text('arena8.op') === 'boot') break;
    }
    const circumstances = new Circumstances();
    for (let n = first; n < number; n++) {
      const record = yield* log.record(n);
      if (typeof record === 'string') return record;
      circumstances.apply(record);
    }
    return circumstances;
  }
}

/** The machine on which requests are run again. */
export class Stage {
  private readonly target: string;
  private readonly model: Model | null;
  private readonly adapters: readonly AdapterRow[];
  private readonly changedDisks = new Map<string, Kind>(); // what they were
  /** What is loaded, by file, options and adapters. */
  private loaded: string;
  /** Digests of files that were looked at. */
  private readonly digests = new Map<string, string>();

  private constructor(
    private readonly sys: Sys,
    private readonly kernel: string,
    target: string,
    model: Model | null,
    adapters: readonly AdapterRow[],
  ) {
    this.target = target;
    this.model = model;
    this.adapters = adapters;
    this.loaded = model === null ? '' : loadName(model, adapters.map(appliedOf));
  }

  /** The machine as it is, or why it cannot be told. */
  static *open(sys: Sys): Generator<void, Stage | string, void> {
    const version = yield* readText(sys, '/proc/version');
    if (typeof version === 'number') return `/proc/version: ${strerror(version)}`;
    const target = yield* targetName(sys);
    const model = yield* loadedModel(sys);
    const [, kernel = ''] = /^sha256 ([0-9a-f]{64})$/m.exec(version) ?? [];
    return new Stage(sys, kernel, target, typeof model === 'number' ? null : model, yield* readAdapters(sys));
  }

  /** Sets the stage for a record. Returns why that cannot be done. */
  *set(record: Said, { kernel, target, disks, adapters: known }: Circumstances): Why {
    if (kernel !== this.kernel) return `another kernel made it: build ${short(kernel)}, this is ${short(this.kernel)}`;
    const untimed = yield* this.switchTo(target);
    if (untimed !== null) return untimed;
    const path = record.text('arena8.model.path', '');
    if (path === '') return yield* this.startEngine(record);
    const choice = choiceFrom(record.words('arena8.load'));
    if (typeof choice === 'string') return choice;
    const digest = record.text('arena8.model.digest', '');
    const adapters = record.words('arena8.adapters').map(appliedFrom);
    const isThere = this.model?.digest === digest && this.loaded === nameOf(this.model.path, choice, adapters);
    const file = isThere ? this.model : yield* this.find(path, digest);
    if ('why' in file) return file.why;
    if (choice.tileBytes > 0) {
      const unlike = yield* this.plug(file.path, disks);
      if (unlike !== null) return unlike;
    }
    if (this.loaded === nameOf(file.path, choice, adapters)) return null;
    const paths: string[] = [];
    for (const adapter of adapters) {
      const found = yield* this.findAdapter(adapter, known);
      if ('why' in found) return found.why;
      paths.push(found.path);
    }
    return yield* this.load(file.path, choice, adapters, paths);
  }

  /** Makes the machine what it was. */
  *restore(): Generator<void, void, void> {
    const { sys, model } = this;
    const adapters = this.adapters.map(appliedOf);
    const was = model === null ? '' : loadName(model, adapters);
    for (const [name, kind] of this.changedDisks) yield* become(sys, name, kind);
    yield* this.switchTo(this.target);
    if (this.loaded === was) return;
    if (model === null) yield* sys.model_unload();
    else if (model.path === '') yield* this.useEngine(was);
    else {
      const paths = this.adapters.map(row => row.path);
      yield* this.load(model.path, choiceOf(model), adapters, paths);
    }
  }

  private *switchTo(name: string): Why {
    const { sys } = this;
    if ((yield* targetName(sys)) === name) return null;
    const result = yield* sys.target(name, new Uint8Array(CHUNK_BYTES));
    return result < 0 ? `target ${name}: ${yield* lastError(sys, result)}` : null;
  }

  /** The file with that digest: where it was, or else among the models of this machine. */
  private *find(path: string, digest: string): Generator<void, { path: string } | { why: string }, void> {
    const { sys } = this;
    const there = yield* this.digestOf(path);
    if (there === digest) return { path };
    const names = yield* listDirectory(sys, LIMITS.modelsDirectory);
    for (const { name, kind } of typeof names === 'number' ? [] : names) {
      const other = join(LIMITS.modelsDirectory, name);
      if (kind === KIND.file && other !== path && (yield* this.digestOf(other)) === digest) return { path: other };
    }
    const found = there === null ? 'is not there' : `has the digest ${short(there)}`;
    return { why: `no model with the digest ${short(digest)}: ${path} ${found}` };
  }

  /** The file of an adapter: one that is applied here, the one that it was applied from, or a version of this machine's store. */
  private *findAdapter(
    { name, digest }: Applied,
    known: ReadonlyMap<string, string>,
  ): Generator<void, { path: string } | { why: string }, void> {
    const applied = this.adapters.find(row => row.digest === digest)?.path;
    const was = known.get(digest);
    const places = [applied, was, ...(yield* this.stored(digest))].filter(path => path !== undefined);
    for (const path of places) if ((yield* this.digestOf(path)) === digest) return { path };
    const there = was === undefined ? null : yield* this.digestOf(was);
    const found =
      was === undefined ? '' : `: ${was} ${there === null ? 'is not there' : `has the digest ${short(there)}`}`;
    return { why: `no adapter ${name} with the digest ${short(digest)}${found}` };
  }

  /** Versions of the store whose names say that digest. */
  private *stored(digest: string): Generator<void, readonly string[], void> {
    const { sys } = this;
    const found: string[] = [];
    const names = yield* listDirectory(sys, STORE_DIRECTORY);
    for (const { name } of typeof names === 'number' ? [] : names) {
      const directory = join(STORE_DIRECTORY, name);
      const versions = yield* listDirectory(sys, directory);
      for (const version of typeof versions === 'number' ? [] : versions)
        if (version.name.endsWith(`_${digest.slice(0, 12)}.gguf`)) found.push(join(directory, version.name));
    }
    return found;
  }

  /** SHA-256 of a file; null when it cannot be read. */
  private *digestOf(path: string): Generator<void, string | null, void> {
    const { sys, digests } = this;
    const st = yield* stat(sys, path);
    if (typeof st === 'number') return null;
    const key = `${path} ${st.device} ${st.inode} ${st.modifiedNs} ${st.size}`;
    const known = digests.get(key);
    if (known !== undefined) return known;
    const fd = yield* sys.open(path, O.RDONLY, 0);
    if (fd < 0) return null;
    const hash = sha256.create();
    const buffer = new Uint8Array(CHUNK_BYTES);
    let n: number;
    while ((n = yield* sys.read(fd, buffer)) > 0) hash.update(buffer.subarray(0, n));
    yield* sys.close(fd);
    if (n < 0) return null;
    const digest = toHex(hash.digest());
    digests.set(key, digest);
    return digest;
  }

  private *load(path: string, choice: LoadChoice, adapters: readonly Applied[], paths: readonly string[]): Why {
    const { sys } = this;
    const wanted = nameOf(path, choice, adapters);
    if (wanted === this.loaded) return null;
    const result = yield* loadModel(sys, path, choice);
    if (result < 0) return about(path, yield* lastError(sys, result));
    this.loaded = nameOf(path, choice, []);
    for (const [i, { name, scale }] of adapters.entries()) {
      const applied = yield* applyAdapter(sys, paths[i]!, name, scale);
      if (applied < 0) return about(paths[i]!, yield* lastError(sys, applied));
    }
    this.loaded = wanted;
    return null;
  }

  /** An engine that needs no file. */
  private *startEngine(record: Said): Why {
    return yield* this.useEngine(`${record.text('arena8.engine')}:${record.text('gen_ai.request.model')}`);
  }

  private *useEngine(name: string): Why {
    const { sys } = this;
    if (name === this.loaded) return null;
    const result = yield* sys.backend(name, new Uint8Array(CHUNK_BYTES));
    if (result < 0) return `engine ${name}: ${yield* lastError(sys, result)}`;
    this.loaded = name;
    return null;
  }

  /** What reading weights costs depends on the kind of storage that the file lies on. */
  private *plug(path: string, disks: ReadonlyMap<string, Kind>): Why {
    const { sys } = this;
    const all = yield* readDisks(sys);
    const disk = typeof all === 'number' ? undefined : diskOf(all, path);
    if (disk === undefined) return null;
    const { name, model, retries } = disk;
    const wanted = disks.get(name) ?? { model: DEFAULT_DISK, retries: null };
    if (wanted.model === model && (wanted.retries ?? retries) === retries) return null;
    const result = yield* become(sys, name, wanted);
    if (result < 0) return `disk ${name} was ${wanted.model}, it is ${model}: ${yield* lastError(sys, result)}`;
    if (!this.changedDisks.has(name)) this.changedDisks.set(name, { model, retries });
    return null;
  }
}

/** Makes a disk one of a kind: 0, or -errno. */
function* become(sys: Sys, name: string, { model, retries }: Kind): Generator<void, number, void> {
  const set = DISK_SET.model | (retries === null ? 0 : DISK_SET.retries);
  return yield* changeDisk(sys, name, { set, model, retries: retries ?? 0 });
}

/** The kernel's sentence, led by the file where it does not name it. */
const about = (path: string, text: string): string => (text.includes(path) ? text : `${path}: ${text}`);

/** `NAME:DIGEST:SCALE`, as records have it. */
function appliedFrom(word: string): Applied {
  const [name = '', digest = '', scale = ''] = word.split(':');
  return { name, digest, scale: Number(scale) };
}
const appliedOf = ({ name, digest, scale }: AdapterRow): Applied => ({ name, digest, scale: Number(scale) });

const nameOf = (path: string, choice: LoadChoice, adapters: readonly Applied[]): string =>
  JSON.stringify([path, choice, adapters]);

/** A model by file, options and adapters, or an engine that needs no file, as `backend` takes it. */
const loadName = (model: Model, adapters: readonly Applied[]): string =>
  model.path === '' ? modelId(model) : nameOf(model.path, choiceOf(model), adapters);

/** A digest as sentences name it. */
export const short = (digest: string): string => (digest === '' ? 'none' : `${digest.slice(0, 16)}…`);

function* targetName(sys: Sys): Generator<void, string, void> {
  const all = yield* targets(sys);
  return typeof all === 'number' ? '' : (all.find(t => t.current)?.name ?? '');
}

/** The disk whose mount is the nearest above `path`. */
function diskOf(disks: readonly DiskRow[], path: string): DiskRow | undefined {
  const depth = (disk: DiskRow): number =>
    Math.max(-1, ...mountPoints(disk).map(m => (m === '/' || path === m || path.startsWith(`${m}/`) ? m.length : -1)));
  return disks.filter(disk => depth(disk) > 0).sort((a, b) => depth(b) - depth(a))[0];
}

/** What `arena8.load` says, as a load takes it: numbers by the names of llmctl's options, none of `tile` where nothing streamed. */
function choiceFrom(words: readonly string[]): LoadChoice | string {
  const given = new Map(words.map(word => word.split('=') as [string, string]));
  const number = (name: string): number => Number(given.get(name) ?? 0);
  const type = kvType(given.get('kv') ?? '');
  const tileBytes = number('tile');
  const choice: LoadChoice = {
    ctx: number('ctx'),
    kvType: type ?? -1,
    batch: number('batch'),
    sessions: number('sessions'),
    pages: number('pages'),
    draws: number('draws'),
    stream: tileBytes === 0 ? RESIDENCY.resident : RESIDENCY.streamed,
    tileBytes,
    buffers: number('buffers'),
    pinBytes: number('pin'),
  };
  const isWhole = type !== null && Object.values(choice).every(n => Number.isInteger(n) && n >= 0 && n < 2 ** 32);
  return isWhole ? choice : `it says of its load: ${words.join(' ')}`;
}
