// `audit list`: the records of a log that filters let through, one a line, in the order in which they were made; with --json the records
// themselves, byte for byte as they were hashed.

import { isRefusal } from '../../kernel/abi/index.ts';
import type { Refusal } from '../../kernel/abi/index.ts';
import { AUDIT_OPS } from '../../trust/index.ts';
import { refused } from './audit-face.ts';
import type { Face, Run } from './audit-face.ts';
import { readRecord } from './audit-reader.ts';
import type { LogRecord, OpenLog } from './audit-reader.ts';
import {
  aboutOf,
  cut,
  momentOf,
  momentText,
  plain,
  STATUS_SIGNS,
  STATUS_WORDS,
  statusOf,
  textOf,
} from './audit-record.ts';
import type { Moment } from './audit-record.ts';

/** Whether a record is to be listed. */
type Filter = (record: LogRecord) => boolean;

const NEWLINE = Uint8Array.of(0x0a);

export function* listRecords(face: Face, log: OpenLog): Run {
  const { size } = log.checkpoint;
  const newest = size === 0 ? null : yield* readRecord(log, size - 1);
  if (isRefusal(newest)) return yield* refused(face, newest);
  const filter = filterOf(face.options, newest === null ? 0 : momentOf(newest.record).boot);
  const last = lastOf(face.options.last);
  if (typeof filter === 'string' || typeof last === 'string') {
    yield* face.fail(String(typeof filter === 'string' ? filter : last));
    return 2;
  }
  if (!face.options.json) yield* face.out.print(lineOf(TITLES, size, face.columns));
  const first = yield* firstListed(log, filter, last);
  if (isRefusal(first)) return yield* refused(face, first);
  for (let number = first; number < size; number++) {
    const read = yield* readRecord(log, number);
    if (isRefusal(read)) return yield* refused(face, read);
    if (!filter(read.record)) continue;
    if (face.options.json) {
      yield* face.out.write(read.bytes);
      yield* face.out.write(NEWLINE);
    } else yield* face.out.print(lineOf(cellsOf(number, read.record), size, face.columns));
  }
  return 0;
}

/** Where the last `last` of the records that `filter` lets through begin: found from the end, so that the whole log is not gone through. */
function* firstListed(log: OpenLog, filter: Filter, last: number): Generator<void, number | Refusal, void> {
  if (last === Infinity) return 0;
  let number = log.checkpoint.size;
  for (let found = 0; found < last && number > 0;) {
    const read = yield* readRecord(log, --number);
    if (isRefusal(read)) return read;
    if (filter(read.record)) found++;
  }
  return number;
}

// ── Filters ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function lastOf(text: string | undefined): number | string {
  if (text === undefined) return Infinity;
  return /^[0-9]{1,15}$/.test(text) ? Number(text) : `--last '${text}' is not a number of records`;
}

/** What the options let through, all of them together; or what is wrong with one. `newest`: the boot that times without one are of. */
function filterOf(options: Face['options'], newest: number): Filter | string {
  const { user, session, model, op, status, since, until } = options;
  const filters: Filter[] = [];
  if (user !== undefined) filters.push(r => textOf(r, 'arena8.user') === user || textOf(r, 'arena8.uid') === user);
  if (session !== undefined) filters.push(r => textOf(r, 'gen_ai.conversation.id') === session);
  if (model !== undefined) filters.push(r => isOfModel(r, model));
  for (const [name, text, known, of] of [
    ['op', op, AUDIT_OPS, (r: LogRecord) => textOf(r, 'arena8.op')],
    ['status', status, STATUS_WORDS, statusOf],
  ] as const) {
    const words = text?.split(',') ?? [];
    const stray = words.find(word => !(known as readonly string[]).includes(word));
    if (stray !== undefined) return `--${name} '${stray}' is none of ${known.join(', ')}`;
    if (words.length > 0) filters.push(r => words.includes(of(r)));
  }
  for (const [name, text, sign] of [
    ['since', since, 1],
    ['until', until, -1],
  ] as const) {
    if (text === undefined) continue;
    const moment = parseMoment(text, newest);
    if (moment === null)
      return `--${name} '${text}' is not a time: [BOOT:]SECONDS of the machine's clock, as 12.5 or 2:12.5`;
    filters.push(r => sign * compareMoments(momentOf(r), moment) >= 0);
  }
  return r => filters.every(filter => filter(r));
}

/** At least so many digits of a digest stand for it. */
const DIGEST_DIGITS = 8;

function isOfModel(record: LogRecord, model: string): boolean {
  const digest = textOf(record, 'arena8.model.digest');
  if (model.length >= DIGEST_DIGITS && digest.startsWith(model.toLowerCase())) return true;
  return [textOf(record, 'gen_ai.request.model'), textOf(record, 'arena8.model.path')].includes(model);
}

/** `12.5`, of the newest boot, or `2:12.5`; null when it is no time. */
function parseMoment(text: string, newest: number): Moment | null {
  const [, boot, seconds] = /^(?:([0-9]{1,9}):)?([0-9]{1,9}(?:\.[0-9]{1,9})?)$/.exec(text) ?? [];
  if (seconds === undefined) return null;
  const [whole = '', fraction = ''] = seconds.split('.');
  return {
    boot: boot === undefined ? newest : Number(boot),
    ns: Number(whole) * 1e9 + Number(fraction.padEnd(9, '0')),
  };
}

const compareMoments = (a: Moment, b: Moment): number => a.boot - b.boot || a.ns - b.ns;

// ── The table ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const TITLES = ['record', 'time', 'user', 'what', 'end', 'about'] as const;
type Cells = readonly [record: string, time: string, user: string, op: string, end: string, about: string];

function cellsOf(number: number, record: LogRecord): Cells {
  const status = statusOf(record);
  return [
    `${number}`,
    momentText(momentOf(record)),
    plain(textOf(record, 'arena8.user') || textOf(record, 'arena8.uid')),
    plain(textOf(record, 'arena8.op')),
    `${STATUS_SIGNS[status]} ${status}`,
    aboutOf(record),
  ];
}

/** A name longer than this loses its end. */
const USER_COLUMNS = 8;
/** `unregister`, the longest operation. */
const OP_COLUMNS = 10;
/** `- refused`. */
const END_COLUMNS = 9;
/** `0:1234.123456`. */
const TIME_COLUMNS = 13;

/** One line, cut at `columns`: widths are known beforehand, since a log may be too long to be held. */
function lineOf([record, time, user, op, end, about]: Cells, size: number, columns: number): string {
  const digits = Math.max('record'.length, String(size).length);
  const left = [
    record.padStart(digits),
    time.padStart(TIME_COLUMNS),
    cut(user, USER_COLUMNS).padEnd(USER_COLUMNS),
    op.padEnd(OP_COLUMNS),
    end.padEnd(END_COLUMNS),
  ].join(' ');
  return `${cut(`${left} ${about}`.trimEnd(), columns)}\n`;
}
