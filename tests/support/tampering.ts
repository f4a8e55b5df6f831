// Everything that may be done to an exported log, by somebody with its files, by somebody with another key, and by the log itself towards a
// reader who has seen a head of it. Each case is drawn from a seed and says where a verifier has to point: at what was changed, or at the
// first place where it shows.

import { isRefusal } from '../../kernel/abi/index.ts';
import { frame, joined, parseTilePath, tilePath, TILE_WIDTH } from '../../trust/index.ts';
import type { JsonObject, NoteSigner } from '../../trust/index.ts';
import { encoded, makeSigner, signed, TestLog, type Files } from './exported-log.ts';

export type Random = (n: number) => number;
/** Files in place of those of the log; null: removed. */
export type Overlay = ReadonlyMap<string, Uint8Array | null>;

export interface Tampered {
  readonly overlay: Overlay;
  /** Beginnings of the lines that name the place. */
  readonly places: readonly string[];
}

const ORIGIN = 'arena8.invalid/log';
const LOG = makeSigner(ORIGIN, 1);
const WITNESS = makeSigner('witness.example/w1', 2, 4);
const OTHER = makeSigner(ORIGIN, 3);
const OTHER_WITNESS = makeSigner('witness.example/w1', 4, 4);
const OTHER_ORIGIN = makeSigner('arena8.invalid/other', 1);
export const SIGNERS = { log: LOG, witness: WITNESS, otherWitness: makeSigner('witness.example/w2', 5, 4) };

/** A log of these records, exported and cosigned, and the head that its reader has seen: of the first `seenSize`. */
export class Export {
  readonly size: number;
  readonly seenSize: number;
  readonly log: TestLog;
  readonly files: Files;
  readonly seen: Uint8Array;

  constructor(records: readonly Uint8Array[], seenSize: number) {
    this.size = records.length;
    this.seenSize = seenSize;
    this.log = new TestLog(records);
    this.files = this.log.files(this.size, LOG, WITNESS);
    this.seen = this.log.checkpoint(seenSize, LOG);
  }

  /** The log with the files of an overlay. */
  with(overlay: Overlay): Files {
    const files = new Map(this.files);
    for (const [path, bytes] of overlay) {
      if (bytes === null) files.delete(path);
      else files.set(path, bytes);
    }
    return files;
  }

  /** What turns this log's files into those. */
  overlayOf(files: Files): Map<string, Uint8Array | null> {
    const overlay = new Map<string, Uint8Array | null>();
    for (const path of this.files.keys()) if (!files.has(path)) overlay.set(path, null);
    for (const [path, bytes] of files)
      if (!this.files.has(path) || !same(this.files.get(path)!, bytes)) overlay.set(path, bytes);
    return overlay;
  }

  bundlePath(record: number): string {
    const index = Math.floor(record / TILE_WIDTH);
    return tilePath({ level: 'entries', index, width: Math.min(TILE_WIDTH, this.size - index * TILE_WIDTH) });
  }

  /** How a line begins that points at a record. */
  recordPlace(record: number): string {
    return `${this.bundlePath(record)}: record ${record}`;
  }

  private frameBytes(record: number): number {
    return 2 + this.log.records[record]!.length;
  }

  /** Where changed bytes of a file first show. */
  placeOf(path: string, bytes: Uint8Array | null): string {
    const before = this.files.get(path);
    if (path === 'checkpoint' || path === 'pubkey') return `${path}: `;
    if (before === undefined || bytes === null) return `${path}: `;
    const at = firstDifference(before, bytes);
    const name = parseTilePath(path);
    if (isRefusal(name) || at === before.length) return `${path}: `; // bytes behind its last record
    if (name.level !== 'entries')
      return before.length === bytes.length ? `${path}: hash ${Math.floor(at / 32)}` : `${path}: ${bytes.length} bytes`;
    let record = name.index * TILE_WIDTH;
    for (let end = this.frameBytes(record); end <= at; end += this.frameBytes(record)) record++;
    return this.recordPlace(record);
  }

  /** An overlay whose every change is a place in itself. */
  changed(...changes: (readonly [string, Uint8Array | null])[]): Tampered {
    const overlay = new Map(changes.filter(([path, bytes]) => !same(this.files.get(path) ?? null, bytes)));
    return { overlay, places: [...overlay].map(([path, bytes]) => this.placeOf(path, bytes)) };
  }

  /** The log's files with other records in the bundles, all else as it was. */
  rebundled(records: readonly Uint8Array[]): Tampered {
    const overlay = new Map<string, Uint8Array | null>();
    for (let first = 0; first < this.size; first += TILE_WIDTH) {
      const last = first + TILE_WIDTH < this.size ? first + TILE_WIDTH : records.length;
      const bytes = joined(...records.slice(first, last).map(frame));
      if (!same(bytes, this.files.get(this.bundlePath(first))!)) overlay.set(this.bundlePath(first), bytes);
    }
    return { overlay, places: [...overlay].map(([path, bytes]) => this.placeOf(path, bytes)) };
  }
}

const same = (a: Uint8Array | null, b: Uint8Array | null): boolean =>
  a === null || b === null ? a === b : Buffer.compare(a, b) === 0;

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at++;
  return at;
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const pick = <T>(random: Random, list: readonly T[]): T => list[random(list.length)]!;

/** A copy with `count` bytes at `at` replaced by `by`. */
const spliced = (bytes: Uint8Array, at: number, count: number, by: Uint8Array): Uint8Array =>
  joined(bytes.subarray(0, at), by, bytes.subarray(at + count));

const noise = (random: Random, count: number): Uint8Array => Uint8Array.from({ length: count }, () => random(256));

/** The record with one of its values changed: it may still be of the same length, and is in canonical form. */
function edited(record: Uint8Array, random: Random): Uint8Array {
  const fields = JSON.parse(text(record)) as Record<string, string | number | boolean | string[]>;
  const own = ['arena8.record', 'arena8.boot', 'arena8.time_ns', 'arena8.op', 'arena8.submitted'];
  const name = pick(
    random,
    Object.keys(fields).filter(n => !own.includes(n)),
  );
  const value = fields[name]!;
  if (typeof value === 'number') fields[name] = value + 1 + random(3);
  else if (typeof value === 'boolean') fields[name] = !value;
  else if (Array.isArray(value)) fields[name] = value.length > 0 ? value.slice(1) : ['eve'];
  else if (/^[0-9a-f]+$/.test(value)) fields[name] = (value[0] === '1' ? '2' : '1') + value.slice(1);
  else fields[name] = value === 'eve' ? 'eva' : 'eve';
  return encoded(fields);
}

/**
 * Records that have the first `turn` in common with these and go another way from there, each of them fit to stand in a log; beyond the last one the
 * machine is configured again and again.
 */
export function turned(records: readonly Uint8Array[], size: number, turn: number, random: Random): Uint8Array[] {
  const last = JSON.parse(text(records.at(-1)!)) as JsonObject;
  const kept = Object.fromEntries(['arena8.boot', 'arena8.time_ns', 'arena8.user'].map(name => [name, last[name]!]));
  const more = (number: number): JsonObject => ({ ...kept, 'arena8.op': 'config', 'arena8.record': number });
  return Array.from({ length: size }, (_, i) => {
    const record = records[i] ?? encoded(more(i));
    return i < turn ? record : edited(record, random);
  });
}

/** The records, each with its number put right. */
const renumbered = (records: readonly Uint8Array[]): Uint8Array[] =>
  records.map((r, i) => encoded({ ...(JSON.parse(text(r)) as object), 'arena8.record': i }));

/** A list with something done to one place: dropped, doubled, exchanged with another, edited. */
function disturbed(records: readonly Uint8Array[], random: Random, whole = false): Uint8Array[] {
  const list = [...records];
  const at = random(list.length);
  const what = random(whole ? 3 : 4);
  if (what === 0) list[at] = edited(list[at]!, random);
  else if (what === 1) {
    const other = random(list.length);
    [list[at], list[other]] = [list[other]!, list[at]!];
  } else if (what === 2) list.splice(at, 1, list[random(list.length)]!);
  else if (random(2) === 0) list.splice(at, 1);
  else list.splice(at, 0, list[at]!);
  return list;
}

type Deed = (e: Export, random: Random) => Tampered | null;

/** The checkpoint with other text or lines; its tiles as they were. */
const withNote = (e: Export, note: string): Tampered => e.changed(['checkpoint', bytesOf(note)]);
const noteParts = (e: Export): { body: string; lines: string[] } => {
  const [body, lines] = text(e.files.get('checkpoint')!).split('\n\n') as [string, string];
  return { body: `${body}\n`, lines: lines.split('\n').slice(0, -1) };
};
const tilePaths = (e: Export): string[] => [...e.files.keys()].filter(p => p.startsWith('tile/'));
const hashTiles = (e: Export): string[] => tilePaths(e).filter(p => !p.startsWith('tile/entries/'));

/** A whole other log in the place of this one, signed by these. */
const replaced = (
  e: Export,
  log: TestLog,
  size: number,
  signers: [NoteSigner, ...NoteSigner[]],
  place: string,
): Tampered => ({
  overlay: e.overlayOf(log.files(size, ...signers)),
  places: [place],
});

/** All of it, by name. A deed that is not possible with this log gives null. */
export const DEEDS: Readonly<Record<string, Deed>> = {
  'a bit of the checkpoint': (e, random) => flipped(e, random, 'checkpoint'),
  'a bit of a bundle': (e, random) => flipped(e, random, e.bundlePath(random(e.size))),
  'a bit of a tile': (e, random) => flipped(e, random, pick(random, hashTiles(e))),
  'some bits of a file': (e, random) => {
    const path = pick(random, [...e.files.keys()]);
    const bytes = e.files.get(path)!.slice();
    for (let i = random(8); i >= 0; i--) bytes[random(bytes.length)]! ^= 1 << random(8);
    return e.changed([path, bytes]);
  },
  'bytes overwritten': (e, random) => {
    const path = pick(random, [...e.files.keys()]);
    const bytes = e.files.get(path)!;
    const at = random(bytes.length);
    const count = 1 + random(Math.min(64, bytes.length - at));
    return e.changed([path, spliced(bytes, at, count, random(2) === 0 ? new Uint8Array(count) : noise(random, count))]);
  },
  'bytes put in': (e, random) => {
    const path = pick(random, [...e.files.keys()]);
    const bytes = e.files.get(path)!;
    return e.changed([path, spliced(bytes, random(bytes.length + 1), 0, noise(random, 1 + random(40)))]);
  },
  'bytes taken out': (e, random) => {
    const path = pick(random, [...e.files.keys()]);
    const bytes = e.files.get(path)!;
    const at = random(bytes.length);
    return e.changed([path, spliced(bytes, at, 1 + random(Math.min(64, bytes.length - at)), new Uint8Array(0))]);
  },
  'a file cut off': (e, random) => {
    const path = pick(random, [...e.files.keys()]);
    return e.changed([path, e.files.get(path)!.slice(0, random(e.files.get(path)!.length))]);
  },
  'a file missing': (e, random) => e.changed([pick(random, ['checkpoint', ...tilePaths(e)]), null]),
  'a file too many': (e, random) => {
    const [n, width] = [Math.floor(e.size / TILE_WIDTH), e.size % TILE_WIDTH];
    const digits = String(n).padStart(3, '0');
    const level = pick(random, ['entries', '0', '1', '2', '63']);
    const path = pick(random, [
      `tile/${level}/${digits}.p/${1 + random(255)}`,
      `tile/${level}/${digits}.p/${width + 1}`,
      `tile/${level}/${digits}`,
      `tile/${level}/${String(n + 1).padStart(3, '0')}`,
      `tile/${level}/x001/000`,
      `tile/${level}/x000/${digits}`,
      `tile/${level}/${n}`,
      `tile/${level}/${digits}.p/0${width}`,
      `tile/${level}/${digits}.p/256`,
      `tile/8/${level}/${digits}`,
      'checkpoint.old',
      'tile/checkpoint',
    ]);
    return e.files.has(path) ? null : e.changed([path, e.files.get(pick(random, tilePaths(e)))!]);
  },
  'two files exchanged': (e, random) => {
    const [a, b] = [pick(random, tilePaths(e)), pick(random, tilePaths(e))];
    return e.changed([a, e.files.get(b)!], [b, e.files.get(a)!]);
  },
  'a file of another log': (e, random) => {
    const path = pick(random, tilePaths(e));
    const other = new TestLog(turned(e.log.records, e.size, 0, random));
    return e.changed([path, other.tiles(e.size).get(path)!]);
  },

  'records of a bundle': (e, random) => e.rebundled(disturbed(e.log.records, random)),
  'a record cut short': (e, random) => {
    const records = [...e.log.records];
    const at = random(records.length);
    records[at] = records[at]!.slice(0, random(records[at]!.length));
    return e.rebundled(records);
  },
  'a record edited': (e, random) => {
    const records = [...e.log.records];
    const at = random(records.length);
    records[at] = edited(records[at]!, random);
    return e.rebundled(records);
  },
  'records moved and renumbered': (e, random) => e.rebundled(renumbered(disturbed(e.log.records, random, true))),

  'hashes of a tile exchanged': (e, random) => {
    const path = pick(random, hashTiles(e));
    const bytes = e.files.get(path)!.slice();
    const [a, b] = [random(bytes.length / 32), random(bytes.length / 32)].map(i => i * 32) as [number, number];
    const hash = bytes.slice(a, a + 32);
    bytes.copyWithin(a, b, b + 32);
    bytes.set(hash, b);
    return e.changed([path, bytes]);
  },
  'a hash of a tile replaced': (e, random) => {
    const path = pick(random, hashTiles(e));
    const bytes = e.files.get(path)!.slice();
    const other = e.files.get(pick(random, hashTiles(e)))!;
    const at = 32 * random(other.length / 32);
    bytes.set(random(3) === 0 ? new Uint8Array(32) : other.slice(at, at + 32), 32 * random(bytes.length / 32));
    return e.changed([path, bytes]);
  },

  'a record edited, and its leaf hash': (e, random) => {
    const at = random(e.size);
    const records = [...e.log.records];
    records[at] = edited(records[at]!, random);
    const forged = e.overlayOf(new Map([...e.files, ...new TestLog(records).tiles(e.size)]));
    for (const path of forged.keys()) if (/^tile\/[1-9]/.test(path)) forged.delete(path);
    const above = tilePath({ level: 1, index: 0, width: Math.floor(e.size / TILE_WIDTH) || 1 });
    const isFull = at < e.size - (e.size % TILE_WIDTH);
    const place = isFull ? `${above}: hash ${Math.floor(at / TILE_WIDTH)}` : 'checkpoint: its root';
    return { overlay: forged, places: [place] };
  },
  'rewritten from one record on, below the old checkpoint': (e, random) => {
    const other = new TestLog(turned(e.log.records, e.size, random(e.size), random));
    return { overlay: e.overlayOf(new Map([...e.files, ...other.tiles(e.size)])), places: ['checkpoint: its root'] };
  },
  'the last records dropped with their hashes': (e, random) => {
    const left = random(e.size);
    const overlay = e.overlayOf(e.log.tiles(left).set('checkpoint', e.files.get('checkpoint')!));
    // Where nothing is left the head is the only place there is: it speaks of more records than there are files for.
    const shows = left === 0 ? [...overlay.keys(), 'checkpoint'] : [...overlay.keys()];
    return { overlay, places: shows.map(path => `${path}: `) };
  },

  'size, root or origin edited': (e, random) => {
    const { body, lines } = noteParts(e);
    const part = body.split('\n');
    const which = random(5);
    if (which === 0) part[0] = OTHER_ORIGIN.key.name;
    else if (which === 1) part[1] = String(random(2 * e.size + 2));
    else if (which === 2) part[1] = pick(random, ['0', `0${e.size}`, `${e.size}.0`, `-${e.size}`, '', String(2 ** 53)]);
    else if (which === 3) part[2] = Buffer.from(noise(random, 32)).toString('base64');
    else part.splice(3, 0, pick(random, ['extension', '', part[2]!]));
    return withNote(e, `${part.join('\n')}\n${lines.join('\n')}\n`);
  },
  'size edited, files to match': (e, random) => {
    const { body, lines } = noteParts(e);
    const size = random(e.size);
    const part = body.split('\n');
    part[1] = String(size);
    if (random(2) === 0) part[2] = e.log.text(size, ORIGIN).split('\n')[2]!;
    const files = e.log.tiles(size).set('checkpoint', bytesOf(`${part.join('\n')}\n${lines.join('\n')}\n`));
    return { overlay: e.overlayOf(files), places: ['checkpoint: '] };
  },
  'lines of the note': (e, random) => {
    const { body, lines } = noteParts(e);
    const whole = text(e.files.get('checkpoint')!);
    const [log, witness] = lines as [string, string];
    const other = signed(body, OTHER, OTHER_WITNESS);
    return withNote(
      e,
      pick(random, [
        whole.slice(0, -1),
        whole.replaceAll('\n', '\r\n'),
        whole.replace('\n\n', '\n'),
        `${body}\n${witness}\n`,
        `${body}\n${log}\n`,
        `${body}\n`,
        body,
        '',
        text(other),
        `${body}\n${log.replace('—', '-')}\n${witness}\n`,
        `${body}\n${log.replace(' ', '  ')}\n${witness}\n`,
        `${body}\n${witness.replace(WITNESS.key.name, ORIGIN)}\n${witness}\n`,
        `${body}\n${log}\n${log.replace(ORIGIN, WITNESS.key.name)}\n`,
      ]),
    );
  },
  'another spelling of a signature': (e, random) => {
    const { body, lines } = noteParts(e);
    const at = random(lines.length);
    const [dash, name, base64] = lines[at]!.split(' ') as [string, string, string];
    // Bits behind the last byte of base64; or S + L, the same number modulo the order of the group (RFC 8032 §5.1.7 refuses it).
    const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
    const last = base64.replaceAll('=', '').length - 1;
    const stray = digits[digits.indexOf(base64[last]!) + 1 + random(3)]!;
    const spelled =
      base64.endsWith('=') && random(2) === 0
        ? base64.slice(0, last) + stray + base64.slice(last + 1)
        : Buffer.from(plusOrder(Buffer.from(base64, 'base64'))).toString('base64');
    return withNote(e, `${body}\n${lines.with(at, `${dash} ${name} ${spelled}`).join('\n')}\n`);
  },
  'signed again with another key': (e, random) => {
    const body = noteParts(e).body;
    const isPosing = random(2) === 0; // with the key id of the true one
    const log = isPosing ? posing(OTHER, LOG) : OTHER;
    const witness = isPosing ? posing(OTHER_WITNESS, WITNESS) : OTHER_WITNESS;
    const signers = pick(random, [
      [log, WITNESS],
      [LOG, witness],
      [log, witness],
    ] as const);
    return e.changed(['checkpoint', signed(body, ...signers)]);
  },
  'edited and signed with another key': (e, random) => {
    const records = [...e.log.records];
    const at = random(e.size);
    records[at] = edited(records[at]!, random);
    return replaced(e, new TestLog(records), e.size, [OTHER, pick(random, [WITNESS, OTHER_WITNESS])], 'checkpoint: ');
  },
  'of another origin, by the same key': (e, random) => {
    const body = e.log.text(e.size, OTHER_ORIGIN.key.name);
    return e.changed(['checkpoint', signed(body, pick(random, [LOG, OTHER_ORIGIN]), WITNESS)]);
  },
  'cosignature of another head': (e, random) => {
    if (e.size < 2) return null;
    const old = text(e.log.checkpoint(1 + random(e.size - 1), LOG, WITNESS)).split('\n');
    const { body, lines } = noteParts(e);
    return withNote(e, `${body}\n${lines[0]}\n${old[5]}\n`);
  },

  'an old head replayed': (e, random) => {
    if (e.size < 2) return null;
    const size = 1 + random(e.size - 1);
    const overlay = e.overlayOf(new Map(e.files).set('checkpoint', e.log.checkpoint(size, LOG, WITNESS)));
    if (size < e.seenSize) return { overlay, places: ['checkpoint: rollback'] };
    const tiles = e.log.tiles(size);
    const odd = [...tiles.keys(), ...tilePaths(e)].filter(path => !tiles.has(path) || !e.files.has(path));
    return { overlay, places: odd.map(path => `${path}: `) };
  },
  'the whole log as it was before': (e, random) =>
    e.seenSize < 2 ? null : replaced(e, e.log, 1 + random(e.seenSize - 1), [LOG, WITNESS], 'checkpoint: rollback'),
  'another past, signed by the log': (e, random) => {
    const size = e.seenSize + random(e.size - e.seenSize + 8);
    const other = new TestLog(turned(e.log.records, size, random(e.seenSize), random));
    return replaced(e, other, size, [LOG, WITNESS], 'checkpoint: fork');
  },
  'one record of the past edited, signed by the log': (e, random) => {
    const records = [...e.log.records];
    const at = random(e.seenSize);
    records[at] = edited(records[at]!, random);
    return replaced(e, new TestLog(records), e.size, [LOG, WITNESS], 'checkpoint: fork');
  },
  'another future, without the witness': (e, random) => {
    const turn = e.seenSize + random(e.size - e.seenSize + 1);
    const other = new TestLog(turned(e.log.records, e.size + 5, turn, random));
    return replaced(e, other, e.size + 5, [LOG], 'checkpoint: ');
  },
};

/** A signer whose lines carry the key id of another. */
const posing = (signer: NoteSigner, as: NoteSigner): NoteSigner => ({
  ...signer,
  key: { ...signer.key, id: as.key.id },
});

function flipped(e: Export, random: Random, path: string): Tampered {
  const bytes = e.files.get(path)!.slice();
  bytes[random(bytes.length)]! ^= 1 << random(8);
  return e.changed([path, bytes]);
}

/** A signature line's bytes with L added to S, their last 32. */
function plusOrder(line: Uint8Array): Uint8Array {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const bytes = line.slice();
  let sum = order;
  for (let i = 0; i < 32; i++) sum += BigInt(bytes[bytes.length - 32 + i]!) << BigInt(8 * i);
  for (let i = 0; i < 32; i++) bytes[bytes.length - 32 + i] = Number((sum >> BigInt(8 * i)) & 255n);
  return bytes;
}

/** The next case with this log; null when the deed was not possible, or changed nothing. */
export function tamper(e: Export, deed: string, random: Random): Tampered | null {
  const tampered = DEEDS[deed]!(e, random);
  const isChange = [...(tampered?.overlay ?? [])].some(([path, bytes]) => !same(e.files.get(path) ?? null, bytes));
  return isChange ? tampered : null;
}
