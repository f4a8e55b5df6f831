// The adapter store (SIS §15): a directory a name, with the versions of what was trained under that name, its runs and its checkpoint. A version is a
// file that is called by its number and its digest and never changes; versions.json says which there are, which is current, what it came from
// and what was done since. All of it appears by a temporary file and a rename, so that a power cut leaves the old or the new; what a cut
// leaves besides is nobody's, and `llmfinetune gc` removes it. Two that change a name at once take turns, by a lock file.

import { E, O, shown, utf8Encode } from '../../../kernel/abi/index.ts';
import type { Sys, TrainMethod, TrainTensor } from '../../../kernel/abi/index.ts';
import { sidecarOf, toHex } from '../../../trust/index.ts';
import { join, listDirectory, readText, stat } from '../files.ts';
import { times } from '../fmt.ts';
import type { Json } from '../fmt.ts';
import { failAbout } from '../model.ts';
import { digestOf, signFile } from '../packages.ts';
import { processTable } from '../processes.ts';
import type { Context } from '../program.ts';
import { writeAll } from '../stdio.ts';
import { adapterKeys, isAdapter, writeTrainedAdapter, writeTrainedModel } from './adapter-file.ts';
import type { ReadValues } from './adapter-file.ts';
import { NewFile, readModelFile, textOf, writeFile } from './model-file.ts';

export type { ReadValues } from './adapter-file.ts';

/** Options of all verbs that say where the store is. */
export const storeOptions = {
  store: { value: 'DIR', help: 'the adapter store (default: $LLM_ADAPTERS, or /var/sis/adapters)' },
} as const;

export const STORE_DIRECTORY = '/var/sis/adapters';
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/; // LIMITS.adapterNameBytes

type Caller = Pick<Context, 'sys' | 'env' | 'fail' | 'failCall'> & {
  /** `key`: private key in PEM that new versions are signed with. */
  readonly options: { readonly store: string | undefined; readonly key?: string | undefined };
};
type Failing<T> = Generator<void, T | number, void>;

/** Where the store is: --store, $LLM_ADAPTERS, or the place of the specification (§15). */
export const storeDirectory = (ctx: Pick<Caller, 'env' | 'options'>): string =>
  ctx.options.store ?? ctx.env.get('LLM_ADAPTERS') ?? STORE_DIRECTORY;

/** What a name has in the store. Each of the files may be missing. */
export interface Place {
  readonly name: string;
  readonly directory: string;
  /** The versions, one JSON object: see Versions. */
  readonly versionsPath: string;
  /** Where this process makes a file that is to become a version. */
  readonly newPath: string;
  /** The run that began last: its manifest, one line of JSON. */
  readonly runPath: string;
  /** Its log, a line of JSON a step. */
  readonly logPath: string;
  /** Scores that evaluations found, a line of JSON each. */
  readonly scoresPath: string;
  /** Parameters and moments as they were at the step that the run's manifest names. */
  readonly checkpointPath: string;
}

/** The place of `name`, its directories made with `create`; or the status after a message. */
export function* openPlace(ctx: Caller, name: string, create: boolean): Failing<Place> {
  if (name === 'none') return yield* ctx.fail("'none' is not a name: it is what sessions say that want no adapter");
  if (!NAME.test(name)) return yield* ctx.fail(`'${name}' is not a name: letters, digits, '.', '_', '-', 32 at most`);
  const directory = join(storeDirectory(ctx), name);
  if (create) {
    for (let slash = directory.indexOf('/', 1); slash >= 0; slash = directory.indexOf('/', slash + 1))
      yield* ctx.sys.mkdir(directory.slice(0, slash), 0o755);
    const made = yield* ctx.sys.mkdir(directory, 0o755);
    if (made < 0 && made !== -E.EXIST) return yield* ctx.failCall(directory, -made);
  }
  return {
    name,
    directory,
    versionsPath: join(directory, 'versions.json'),
    newPath: join(directory, `new-${yield* ctx.sys.getpid()}.gguf`),
    runPath: join(directory, 'run.json'),
    logPath: join(directory, 'log.jsonl'),
    scoresPath: join(directory, 'scores.jsonl'),
    checkpointPath: join(directory, 'checkpoint'),
  };
}

// ── What versions.json says ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a training says of itself in versions.json: model digest, data digest, options, seed, losses. */
export type Manifest = Readonly<Record<string, Json>>;

export interface Version {
  readonly number: number; // from 1
  readonly id: string; // the first 12 hexadecimal digits of the digest
  readonly digest: string; // SHA-256 of the file
  readonly path: string;
  readonly bytes: number;
}

/** A version as versions.json keeps it. */
export interface VersionRecord {
  readonly version: number;
  readonly digest: string;
  readonly bytes: number;
  readonly kind: 'adapter' | 'model';
  /** The version that was current when this one was made; 0: none. */
  readonly parent: number;
  readonly made: number; // seconds since 1970
  readonly signed: boolean; // a package lay beside it when it was made
  readonly manifest: Manifest;
}

/** Something done with a name, in order. `version` is what is current behind it. */
export interface Deed {
  readonly at: number; // seconds since 1970
  readonly deed: 'commit' | 'import' | 'rollback' | 'tag' | 'gc';
  readonly version: number;
  readonly note: string;
}

const FORMAT = 'arena8-versions-1';
/** versions.json of a name that has been trained some thousands of times. */
const VERSIONS_BYTES = 16 << 20;

export interface Versions {
  readonly format: typeof FORMAT;
  readonly name: string;
  readonly current: number; // 0: none
  /** The next version's number: none is given twice. */
  readonly next: number;
  readonly versions: readonly VersionRecord[];
  readonly tags: Readonly<Record<string, number>>;
  readonly history: readonly Deed[];
}

const nothing = (name: string): Versions => ({
  format: FORMAT,
  name,
  current: 0,
  next: 1,
  versions: [],
  tags: {},
  history: [],
});

/** Digits of a digest that names show. */
const ID_DIGITS = 12;

/** The file that a version is. */
export const fileOf = ({ version, digest }: Pick<VersionRecord, 'version' | 'digest'>): string =>
  `v${version}_${digest.slice(0, ID_DIGITS)}.gguf`;

export const asVersion = (place: Place, record: VersionRecord): Version => ({
  number: record.version,
  id: record.digest.slice(0, ID_DIGITS),
  digest: record.digest,
  path: join(place.directory, fileOf(record)),
  bytes: record.bytes,
});

/** The versions of a name, none where there are none yet; or the status after a message. */
export function* readVersions(ctx: Caller, place: Place): Failing<Versions> {
  const text = yield* readText(ctx.sys, place.versionsPath, VERSIONS_BYTES);
  if (text === -E.NOENT) return nothing(place.name);
  if (typeof text === 'number') return yield* ctx.failCall(place.versionsPath, -text);
  const versions = parse(text);
  return versions ?? (yield* ctx.fail(`${place.versionsPath}: not a list of versions`));
}

function parse(text: string): Versions | null {
  try {
    const value = JSON.parse(text) as Versions | null;
    return value?.format === FORMAT && Array.isArray(value.versions) && Array.isArray(value.history) ? value : null;
  } catch {
    return null;
  }
}

/**
 * The version that `which` names: a number, `v` and a number, a tag, the beginning of a digest (four digits or more); without it the current one. Or
 * the status after a message.
 */
export function* findVersion(
  ctx: Caller,
  place: Place,
  versions: Versions,
  which: string | undefined,
): Failing<VersionRecord> {
  if (versions.versions.length === 0) return yield* ctx.fail(`${place.name}: has no version`);
  const found = which === undefined ? byNumber(versions, versions.current) : named(versions, which);
  if (found.length === 1) return found[0]!;
  if (found.length > 1) return yield* ctx.fail(`${place.name}: '${which}' is the beginning of more than one digest`);
  const known = versions.versions.map(v => v.version).join(', ');
  return yield* ctx.fail(
    `${place.name}: no version ${which === undefined ? 'is current' : shown(which)}: it has ${known}`,
  );
}

const byNumber = ({ versions }: Versions, number: number): VersionRecord[] =>
  versions.filter(v => v.version === number);

function named(versions: Versions, which: string): VersionRecord[] {
  const tagged = versions.tags[which];
  if (tagged !== undefined) return byNumber(versions, tagged);
  if (/^v?[1-9][0-9]{0,8}$/.test(which)) {
    const found = byNumber(versions, Number(which.replace('v', '')));
    if (found.length > 0) return found;
  }
  return /^[0-9a-f]{4,64}$/.test(which) ? versions.versions.filter(v => v.digest.startsWith(which)) : [];
}

/** `NAME` or `NAME@VERSION`, found, its file as it was stored; or the status after a message. */
export function* openVersion(
  ctx: Caller,
  text: string,
): Failing<{ readonly place: Place; readonly versions: Versions; readonly record: VersionRecord }> {
  const [name = '', which] = text.split('@', 2);
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  const versions = yield* readVersions(ctx, place);
  if (typeof versions === 'number') return versions;
  const record = yield* findVersion(ctx, place, versions, which);
  if (typeof record === 'number') return record;
  const { path } = asVersion(place, record);
  const digest = yield* digestOf(ctx.sys, path);
  if (typeof digest === 'number') return yield* failAbout(ctx, path, digest);
  if (toHex(digest) !== record.digest)
    return yield* ctx.fail(`${path}: was changed since it became version ${record.version} of ${name}`);
  return { place, versions, record };
}

// ── Changing it ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a change of a name's versions makes of them, or the status after a message. */
export type Change = (versions: Versions, now: number) => Failing<Versions>;

/** Reads the versions of a name, lets `change` make the next ones, and puts these in their place, nobody else doing so meanwhile. 0, or the status after a message. */
export function* changeVersions(ctx: Caller, place: Place, change: Change): Generator<void, number, void> {
  const { sys } = ctx;
  const lock = yield* takeLock(ctx, place);
  if (typeof lock === 'number') return lock;
  const before = yield* readVersions(ctx, place);
  const now = yield* seconds(sys);
  const after = typeof before === 'number' ? before : yield* change(before, now);
  let status = typeof after === 'number' ? after : 0;
  if (typeof after !== 'number' && after !== before) {
    const wrote = yield* writeFile(sys, place.versionsPath, utf8Encode(`${JSON.stringify(after, null, 1)}\n`));
    if (wrote < 0) status = yield* ctx.failCall(place.versionsPath, -wrote);
  }
  yield* sys.unlink(lock);
  return status;
}

/** Seconds since 1970 by the machine's clock. */
function* seconds(sys: Sys): Generator<void, number, void> {
  const { nowNs, bootEpochSeconds } = yield* times(sys);
  return bootEpochSeconds + Math.floor(nowNs / 1e9);
}

/** Attempts to get the lock, 50 ms apart. */
const LOCK_ATTEMPTS = 40;
const LOCK_WAIT_MS = 50;

/**
 * Takes the lock of a name, a file that says who has it: its path, or the status after a message. A lock of a process that is no more, as after a
 * power cut, is taken away.
 */
function* takeLock(ctx: Caller, place: Place): Failing<string> {
  const { sys } = ctx;
  const path = join(place.directory, 'lock');
  const own = yield* identity(sys, yield* sys.getpid());
  for (let attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
    const fd = yield* sys.open(path, O.WRONLY | O.CREAT | O.EXCL, 0o644);
    if (fd >= 0) {
      const wrote = yield* writeAll(sys, fd, utf8Encode(own));
      yield* sys.close(fd);
      if (wrote === 0) return path;
      yield* sys.unlink(path);
      return yield* ctx.failCall(path, -wrote);
    }
    if (fd === -E.NOENT) return yield* ctx.fail(`${place.name}: has no version`);
    if (fd !== -E.EXIST) return yield* ctx.failCall(path, -fd);
    const holder = yield* readText(sys, path);
    if (typeof holder === 'string' && !(yield* isHeld(sys, holder, own))) yield* sys.unlink(path);
    else yield* sys.sleep(LOCK_WAIT_MS);
  }
  return yield* ctx.fail(`${place.name}: is being changed by another program (${path})`);
}

/**
 * What a lock says of a process: number, when it began, and when the machine was switched on, so that no later process is taken for it. '' where
 * it does not run.
 */
function* identity(sys: Sys, pid: number): Generator<void, string, void> {
  const table = yield* processTable(sys);
  const row = typeof table === 'number' ? undefined : table.find(p => p.pid === pid && !p.stat.startsWith('Z'));
  return row === undefined ? '' : `${pid} ${row.startNs} ${(yield* times(sys)).bootEpochSeconds}\n`;
}

/** Whether who wrote the lock runs, and is not who asks. */
function* isHeld(sys: Sys, holder: string, own: string): Generator<void, boolean, void> {
  const [, pid] = /^([0-9]+) [0-9]+ [0-9]+\n$/.exec(holder) ?? [];
  return pid !== undefined && holder !== own && holder === (yield* identity(sys, Number(pid)));
}

/**
 * Makes the file at `source` the next version of the place's name (it is moved, or copied where it is on another file system); its bytes being
 * those of a version already there, it is that version, which becomes current. With --key the version is signed. The kernel hashes it, so that
 * the audit log names its digest. Or the status after a message.
 */
export function* commit(
  ctx: Caller,
  place: Place,
  source: string,
  manifest: Manifest,
  deed: 'commit' | 'import' = 'commit',
): Failing<Version> {
  let made: Version | null = null;
  const status = yield* changeVersions(ctx, place, function* (versions, now) {
    const record = yield* takeIn(ctx, place, versions, source, manifest, now);
    if (typeof record === 'number') return record;
    made = asVersion(place, record);
    const isNew = record.version === versions.next;
    return {
      ...versions,
      current: record.version,
      next: versions.next + (isNew ? 1 : 0),
      versions: isNew ? [...versions.versions, record] : versions.versions,
      history: [...versions.history, { at: now, deed, version: record.version, note: isNew ? '' : 'same bytes' }],
    };
  });
  return made === null || status !== 0 ? status || 1 : made;
}

/** Puts a file into the store under its digest: the record of the version that it is; or the status after a message. */
function* takeIn(
  ctx: Caller,
  place: Place,
  versions: Versions,
  source: string,
  manifest: Manifest,
  now: number,
): Failing<VersionRecord> {
  const { sys } = ctx;
  const hash = yield* digestOf(sys, source);
  if (typeof hash === 'number') return yield* failAbout(ctx, source, hash);
  const digest = toHex(hash);
  const facts = yield* lookAt(ctx, source);
  if (typeof facts === 'number') return facts;
  const same = versions.versions.find(v => v.digest === digest);
  const version = same?.version ?? versions.next;
  const path = join(place.directory, fileOf({ version, digest }));
  const moved = yield* move(sys, source, path);
  if (moved < 0) return yield* ctx.failCall(path, -moved);
  if (same !== undefined) return same;
  const sealed = ctx.options.key === undefined ? null : yield* signFile(ctx, path, ctx.options.key, { id: 1, version });
  if (typeof sealed === 'number') return sealed;
  return { version, digest, ...facts, parent: versions.current, made: now, signed: sealed !== null, manifest };
}

/** Size and kind of a GGUF file; or the status after a message. */
function* lookAt(ctx: Caller, path: string): Failing<Pick<VersionRecord, 'bytes' | 'kind'>> {
  const fd = yield* ctx.sys.open(path, O.RDONLY, 0);
  if (fd < 0) return yield* ctx.failCall(path, -fd);
  const file = yield* readModelFile(ctx.sys, fd);
  yield* ctx.sys.close(fd);
  if (typeof file === 'string') return yield* ctx.fail(`${path}: ${file}`);
  return { bytes: file.bytes, kind: isAdapter(file) ? 'adapter' : 'model' };
}

/** Gives a file another name, by copying it where that is on another file system: 0, or -errno. */
function* move(sys: Sys, from: string, to: string): Generator<void, number, void> {
  const renamed = yield* sys.rename(from, to);
  if (renamed !== -E.XDEV) return renamed;
  const fd = yield* sys.open(from, O.RDONLY, 0);
  if (fd < 0) return fd;
  const st = yield* stat(sys, from);
  const file = typeof st === 'number' ? st : yield* NewFile.begin(sys, to);
  if (typeof file === 'number' || typeof st === 'number') {
    yield* sys.close(fd);
    return typeof file === 'number' ? file : -E.IO;
  }
  yield* file.copy({ fd, at: 0, bytes: st.size });
  yield* sys.close(fd);
  const done = yield* file.finish();
  return done < 0 ? done : yield* sys.unlink(from);
}

// ── What was trained ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What was trained, as the file that is written of it says. */
export interface Trained {
  readonly method: TrainMethod;
  readonly name: string;
  /** Path of the base model: architecture and name are read from it; of full, everything but the trained tensors. */
  readonly base: string;
  readonly alpha: number; // not of full
  readonly tensors: readonly TrainTensor[];
}

/** Writes what was trained to `path`: a GGUF adapter (F32), of full a whole model. Bytes of the file, or minus the status after a message. */
export function* writeTrained(
  ctx: Caller,
  path: string,
  trained: Trained,
  values: ReadValues,
): Generator<void, number, void> {
  const { sys } = ctx;
  const { base, name, tensors } = trained;
  const fd = yield* sys.open(base, O.RDONLY, 0);
  if (fd < 0) return -(yield* ctx.failCall(base, -fd));
  const model = yield* readModelFile(sys, fd);
  if (typeof model === 'string') return -(yield* ctx.fail(`${base}: ${model}`));
  const keys = adapterKeys(textOf(model, 'general.architecture'), name, trained.alpha);
  const bytes =
    trained.method === 'full'
      ? yield* writeTrainedModel(sys, path, model, name, tensors, values)
      : yield* writeTrainedAdapter(sys, path, keys, tensors, values);
  yield* sys.close(fd);
  return bytes < 0 ? -(yield* ctx.failCall(path, -bytes)) : bytes;
}

// ── What nobody needs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Files of a place that are no version's: what a power cut left, and versions that are forgotten. To be asked with the lock held. What a
 * training has of its own (run, log, checkpoint) is not looked at, nor what a process that runs is making. Or -errno.
 */
export function* orphans(sys: Sys, place: Place, versions: Versions): Generator<void, string[] | number, void> {
  const entries = yield* listDirectory(sys, place.directory);
  if (typeof entries === 'number') return entries;
  const kept = new Set(versions.versions.flatMap(v => [fileOf(v), sidecarOf(fileOf(v))]));
  const found: string[] = [];
  for (const { name } of entries) {
    const [, pid] = NEW_FILE.exec(name) ?? [];
    const left = pid === undefined ? LOCKED_FILE.test(name) && !kept.has(name) : !(yield* runs(sys, pid));
    if (left) found.push(name);
  }
  return found;
}

const NEW_FILE = /^new-([0-9]+)\.gguf(?:\.part)?$/;
/** Files that are only written by who has the lock. */
const LOCKED_FILE = /^(?:v[0-9]+_[0-9a-f]{12}\.gguf(?:\.sis|\.part)?|versions\.json\.part)$/;

/** Whether there is another process of that number. */
function* runs(sys: Sys, pid: string): Generator<void, boolean, void> {
  return Number(pid) !== (yield* sys.getpid()) && (yield* sys.kill(Number(pid), 0)) !== -E.SRCH;
}
