// The versions of a name: which there are, going back to one, naming one, forgetting what nobody needs. Going back makes nothing undone: the
// history gets one more line, and a later version stays where it is.

import { O, PackageReport } from '../../../kernel/abi/index.ts';
import { sidecarOf, toHex } from '../../../trust/index.ts';
import { join, listDirectory, stat } from '../files.ts';
import { humanSize, isoMinute, jsonLine, table } from '../fmt.ts';
import type { Json } from '../fmt.ts';
import type { OptionTable } from '../getopt.ts';
import { grouped, parseInteger, wrong } from '../model.ts';
import { digestOf } from '../packages.ts';
import type { Context } from '../program.ts';
import { appliedDigests } from './apply.ts';
import { asVersion, changeVersions, findVersion, openPlace, orphans, readVersions, storeDirectory } from './store.ts';
import type { Place, VersionRecord, Versions } from './store.ts';
import type { Run, commonOptions } from './verb.ts';

export const historyOptions = {
  verify: { help: 'versions: check digests and signatures of the files' },
  key: {
    value: 'FILE',
    help: 'start, resume, import: sign the version with the private key in this PEM file; versions: the public key to check with, instead of the trusted ones',
  },
  keep: {
    value: 'N',
    help: 'gc: the newest N versions stay (default 5), and those that are current, tagged or applied',
  },
  'dry-run': { help: 'gc: only say what would go' },
} as const satisfies OptionTable;

type Ctx = Context<typeof historyOptions & typeof commonOptions>;

/** Versions that gc leaves by default. */
const KEEP = 5;
const TAG = /^[A-Za-z][A-Za-z0-9._-]{0,63}$/;

// ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a check of a version's file found. */
type Check = 'ok' | 'signed' | 'missing' | 'changed' | 'bad signature';

export function* versions(ctx: Ctx, [name]: readonly string[]): Run {
  if (name === undefined) return yield* names(ctx);
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  const all = yield* readVersions(ctx, place);
  if (typeof all === 'number') return all;
  if (all.versions.length === 0) return yield* ctx.fail(`${name}: has no version`);
  const applied = yield* appliedDigests(ctx.sys);
  const checks: Check[] = [];
  if (ctx.options.verify) for (const record of all.versions) checks.push(yield* check(ctx, place, record));
  const tagsOf = (v: VersionRecord): string[] => Object.keys(all.tags).filter(tag => all.tags[tag] === v.version);
  if (ctx.options.json) {
    const list = all.versions.map((v, i) => ({
      ...versionJson(place, v),
      current: v.version === all.current,
      applied: applied.has(v.digest),
      tags: tagsOf(v),
      ...(ctx.options.verify ? { check: checks[i]! } : {}),
    }));
    const history = all.history.map(d => ({ at: d.at, deed: d.deed, version: d.version, note: d.note }));
    yield* ctx.out.print(jsonLine({ name, current: all.current, versions: list, history }));
  } else {
    const rows = [['', 'VERSION', 'ID', 'MADE', 'SIZE', 'PARENT', 'LOSS', 'TAGS', '']];
    all.versions.forEach((v, i) =>
      rows.push([
        v.version === all.current ? '*' : '',
        String(v.version),
        asVersion(place, v).id,
        isoMinute(v.made),
        humanSize(v.bytes),
        v.parent === 0 ? '-' : String(v.parent),
        lossOf(v),
        tagsOf(v).join(',') || '-',
        [
          v.kind === 'model' ? 'model' : '',
          applied.has(v.digest) ? 'applied' : '',
          v.signed ? 'signed' : '',
          checks[i] ?? '',
        ]
          .filter(word => word !== '')
          .join(', '),
      ]),
    );
    yield* ctx.out.print(table(rows, [false, true, false, false, true, true, true]));
  }
  return checks.every(holds) ? 0 : 1;
}

/** The final loss that a training wrote down. */
const lossOf = ({ manifest }: VersionRecord): string => {
  const loss = manifest['final_loss'];
  return typeof loss === 'number' ? loss.toFixed(4) : '-';
};

const versionJson = (place: Place, v: VersionRecord): Record<string, Json> => ({
  version: v.version,
  id: asVersion(place, v).id,
  digest: v.digest,
  path: asVersion(place, v).path,
  bytes: v.bytes,
  kind: v.kind,
  parent: v.parent === 0 ? null : v.parent,
  made: v.made,
  signed: v.signed,
  manifest: v.manifest,
});

/** What there is in the store: a line a name. */
function* names(ctx: Ctx): Run {
  const directory = storeDirectory(ctx);
  const { verify } = ctx.options;
  const entries = yield* listDirectory(ctx.sys, directory);
  if (typeof entries === 'number') return yield* ctx.failCall(directory, -entries);
  const found: Json[] = [];
  const rows = [['NAME', 'CURRENT', 'VERSIONS', 'SIZE', ...(verify ? ['CHECK'] : [])]];
  let hold = true;
  for (const { name } of entries) {
    const place = yield* openPlace(ctx, name, false);
    const all = typeof place === 'number' ? place : yield* readVersions(ctx, place);
    if (typeof place === 'number' || typeof all === 'number') {
      hold = false;
      continue;
    }
    if (all.versions.length === 0) continue;
    const bytes = all.versions.reduce((sum, v) => sum + v.bytes, 0);
    const checks: { version: number; check: Check }[] = [];
    if (verify) for (const v of all.versions) checks.push({ version: v.version, check: yield* check(ctx, place, v) });
    const bad = checks.filter(c => !holds(c.check)).map(c => `${c.version} ${c.check}`);
    hold &&= bad.length === 0;
    found.push({ name, current: all.current, versions: all.versions.length, bytes, ...(verify ? { checks } : {}) });
    const row = [name, String(all.current), String(all.versions.length), humanSize(bytes)];
    rows.push(verify ? [...row, bad.join(', ') || 'ok'] : row);
  }
  yield* ctx.out.print(ctx.options.json ? jsonLine({ names: found }) : table(rows, [false, true, true, true]));
  return hold ? 0 : 1;
}

const holds = (check: Check): boolean => check === 'ok' || check === 'signed';

/** Whether a version's file has the bytes it was stored with, and, where it was signed, whether that holds. */
function* check(ctx: Ctx, place: Place, record: VersionRecord): Generator<void, Check, void> {
  const { sys } = ctx;
  const { path } = asVersion(place, record);
  const digest = yield* digestOf(sys, path);
  if (typeof digest === 'number') return 'missing';
  if (toHex(digest) !== record.digest) return 'changed';
  if (!record.signed) return 'ok';
  const fd = yield* sys.open(sidecarOf(path), O.RDONLY, 0);
  if (fd < 0) return 'bad signature';
  const keyFd = ctx.options.key === undefined ? -1 : yield* sys.open(ctx.options.key, O.RDONLY, 0);
  const report = new Uint8Array(PackageReport.bytes);
  const result = keyFd < 0 && ctx.options.key !== undefined ? -1 : yield* sys.model_verify(path, fd, keyFd, report);
  for (const each of [fd, keyFd]) if (each >= 0) yield* sys.close(each);
  return result === 0 ? 'signed' : 'bad signature';
}

// ── Changing ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The version before the current one, in the order in which they became current. */
function previous(all: Versions): number | undefined {
  return all.history.findLast(d => d.version !== all.current && all.versions.some(v => v.version === d.version))
    ?.version;
}

export function* rollback(ctx: Ctx, [name = '', which]: readonly string[]): Run {
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  let from = 0;
  let to = 0;
  const status = yield* changeVersions(ctx, place, function* (all, now) {
    const before = previous(all);
    if (which === undefined && before === undefined && all.versions.length > 0)
      return yield* ctx.fail(`${name}: no version before the current one`);
    const record = yield* findVersion(ctx, place, all, which ?? String(before ?? 0));
    if (typeof record === 'number') return record;
    from = all.current;
    to = record.version;
    const deed = { at: now, deed: 'rollback', version: to, note: `from ${from}` } as const;
    return { ...all, current: to, history: [...all.history, deed] };
  });
  if (status !== 0) return status;
  yield* ctx.out.print(
    ctx.options.json ? jsonLine({ name, from, current: to }) : `${name}: version ${to} is current, it was ${from}\n`,
  );
  return 0;
}

export function* tag(ctx: Ctx, [name = '', label = '', which]: readonly string[]): Run {
  if (!TAG.test(label) || /^v[0-9]+$/.test(label) || /^[0-9a-f]+$/.test(label))
    return yield* wrong(
      ctx,
      `'${label}' is not a tag: a letter, then letters, digits, '.', '_', '-'; no digest, no v and number`,
    );
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  let version = 0;
  const status = yield* changeVersions(ctx, place, function* (all, now) {
    const record = yield* findVersion(ctx, place, all, which);
    if (typeof record === 'number') return record;
    ({ version } = record);
    const deed = { at: now, deed: 'tag', version: all.current, note: `${label} is ${version}` } as const;
    return { ...all, tags: { ...all.tags, [label]: version }, history: [...all.history, deed] };
  });
  if (status !== 0) return status;
  yield* ctx.out.print(
    ctx.options.json ? jsonLine({ name, tag: label, version }) : `${name}@${label}: version ${version}\n`,
  );
  return 0;
}

/** Without a name: of every name in the store. */
export function* gc(ctx: Ctx, [name]: readonly string[]): Run {
  const keep = ctx.options.keep === undefined ? KEEP : parseInteger(ctx.options.keep);
  if (keep === null || keep < 1)
    return yield* wrong(ctx, `--keep '${ctx.options.keep}' is not a number of versions, at least 1`);
  const directory = storeDirectory(ctx);
  const entries = name === undefined ? yield* listDirectory(ctx.sys, directory) : [{ name }];
  if (typeof entries === 'number') return yield* ctx.failCall(directory, -entries);
  const swept: Swept[] = [];
  for (const entry of entries) {
    const done = yield* sweep(ctx, entry.name, keep);
    if (typeof done === 'number') return done;
    swept.push(done);
  }
  yield* ctx.out.print(
    ctx.options.json
      ? jsonLine({ dry_run: ctx.options['dry-run'], names: swept.map(sweptJson) })
      : swept.map(s => sweptText(s, ctx.options['dry-run'])).join(''),
  );
  return 0;
}

/** What gc did with a name. */
interface Swept {
  readonly name: string;
  readonly versions: readonly number[];
  readonly files: readonly string[];
  readonly bytes: number;
}
const sweptJson = (s: Swept): Json => ({ name: s.name, versions: s.versions, files: s.files, bytes: s.bytes });
function sweptText({ name, versions: gone, files, bytes }: Swept, dry: boolean): string {
  if (files.length === 0) return `${name}: nothing to remove\n`;
  const list = gone.length === 0 ? '' : `, of versions ${gone.join(', ')}`;
  return `${name}: ${files.length} ${files.length === 1 ? 'file' : 'files'}${list}: ${grouped(bytes)} bytes${dry ? ' would go' : ' removed'}\n`;
}

/**
 * Forgets the versions of a name that nobody needs, then removes files that are no version's. The list is written first: a power cut leaves
 * files that the next gc finds.
 */
function* sweep(ctx: Ctx, name: string, keep: number): Generator<void, Swept | number, void> {
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  const dry = ctx.options['dry-run'];
  const applied = yield* appliedDigests(ctx.sys);
  const gone: number[] = [];
  const forgotten = yield* changeVersions(ctx, place, function* (all, now) {
    const wanted = new Set([all.current, ...Object.values(all.tags), ...all.versions.slice(-keep).map(v => v.version)]);
    const stays = (v: VersionRecord): boolean => wanted.has(v.version) || applied.has(v.digest);
    gone.push(...all.versions.filter(v => !stays(v)).map(v => v.version));
    if (dry || gone.length === 0) return all;
    const deed = { at: now, deed: 'gc', version: all.current, note: gone.join(' ') } as const;
    return { ...all, versions: all.versions.filter(stays), history: [...all.history, deed] };
  });
  if (forgotten !== 0) return forgotten;
  const files: string[] = [];
  let bytes = 0;
  const status = yield* changeVersions(ctx, place, function* (all) {
    const rest = { ...all, versions: all.versions.filter(v => !gone.includes(v.version)) };
    const found = yield* orphans(ctx.sys, place, rest);
    if (typeof found === 'number') return yield* ctx.failCall(place.directory, -found);
    files.push(...found);
    bytes = yield* bytesOf(ctx, place, files);
    if (!dry) for (const file of files) yield* ctx.sys.unlink(join(place.directory, file));
    return all;
  });
  return status === 0 ? { name, versions: gone, files, bytes } : status;
}

function* bytesOf(ctx: Ctx, place: Place, files: readonly string[]): Generator<void, number, void> {
  let bytes = 0;
  for (const file of files) {
    const st = yield* stat(ctx.sys, join(place.directory, file));
    if (typeof st !== 'number') bytes += st.size;
  }
  return bytes;
}
