// An audit record as people read it: what became of it in one word with a sign (colour is not needed to see it), when, and about what; and
// each attribute with its unit. The attributes themselves, their order and what they mean are ATTRIBUTES of trust/record.ts.

import { codePointWidth } from '../../kernel/abi/index.ts';
import { ATTRIBUTES } from '../../trust/index.ts';
import type { AttributeName, Json } from '../../trust/index.ts';
import type { LogRecord } from './audit-reader.ts';
import { isoMinute } from './fmt.ts';

/** What became of what was asked, each with its sign. */
export const STATUS_SIGNS = { ok: '+', late: '!', refused: '-', cut: '~', fault: 'x' } as const;
export type RecordStatus = keyof typeof STATUS_SIGNS;
export const STATUS_WORDS = Object.keys(STATUS_SIGNS) as RecordStatus[];

/** Operations by which a request ended before its own end. */
const CUT: ReadonlySet<string> = new Set(['cancel', 'timeout', 'exhausted']);
const FAULT: ReadonlySet<string> = new Set(['fault', 'breach']);

export const textOf = (record: LogRecord, name: AttributeName): string => String(record[name] ?? '');
const numberOf = (record: LogRecord, name: AttributeName): number => Number(record[name] ?? 0);

export function statusOf(record: LogRecord): RecordStatus {
  const op = textOf(record, 'arena8.op');
  if (FAULT.has(op)) return 'fault';
  if (op === 'reject' || record['error.type'] !== undefined) return CUT.has(op) ? 'cut' : 'refused';
  if (CUT.has(op)) return 'cut';
  return record['arena8.late'] === true ? 'late' : 'ok';
}

/** When: which power-on, and nanoseconds of the machine's clock since then. */
export interface Moment {
  readonly boot: number;
  readonly ns: number;
}

export const momentOf = (record: LogRecord): Moment => ({
  boot: numberOf(record, 'arena8.boot'),
  ns: numberOf(record, 'arena8.time_ns'),
});

/** `2:12.345678`: the third power-on, and seconds since then. */
export const momentText = ({ boot, ns }: Moment): string => `${boot}:${(ns / 1e9).toFixed(6)}`;

/** `2026-11-21 23:05 UTC` of a witness's clock. */
export const civilText = (seconds: number): string => `${isoMinute(seconds)} UTC`;

/** Text from a record for a line of a terminal: what could move its cursor is shown as `?`. */
export const plain = (text: string): string => text.replace(/[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g, '?'); // eslint-disable-line no-control-regex

/** As much of `text` as fits `columns`; where something is missing it ends in `>`. */
export function cut(text: string, columns: number): string {
  let used = 0;
  let end = 0; // of what still leaves room for the mark
  let at = 0;
  for (const c of text) {
    used += codePointWidth(c.codePointAt(0)!);
    if (used > columns) return `${text.slice(0, end)}>`;
    at += c.length;
    if (used < columns) end = at;
  }
  return text;
}

/** `#7 fable-f16, 4 > 12 tokens, length` for a request, `NAME=VALUE` for a setting, and why where something was refused. */
export function aboutOf(record: LogRecord): string {
  const text = (name: AttributeName): string => textOf(record, name);
  const has = (name: AttributeName): boolean => record[name] !== undefined && text(name) !== '';
  const session = has('gen_ai.conversation.id') ? `#${text('gen_ai.conversation.id')}` : '';
  const output = has('gen_ai.usage.output_tokens') ? ` > ${text('gen_ai.usage.output_tokens')}` : '';
  const tokens = has('gen_ai.usage.input_tokens') ? `${text('gen_ai.usage.input_tokens')}${output} tokens` : '';
  const finish = record['gen_ai.response.finish_reasons'];
  const isBoot = text('arena8.op') === 'boot'; // its value is the log's key
  const setting =
    has('arena8.value') && !isBoot ? `${text('arena8.name')}=${text('arena8.value')}` : text('arena8.name');
  const path = text('arena8.path');
  const message = text('arena8.message').replace(path === '' ? path : `${path}: `, '');
  const words = [
    [session, text('gen_ai.request.model')].filter(Boolean).join(' '),
    tokens,
    Array.isArray(finish) ? finish.join(' ') : '',
    isBoot ? `arena8 ${text('arena8.version')} on ${text('arena8.target')}` : '',
    path,
    setting,
    [text('error.type'), message].filter(Boolean).join(': '),
  ];
  return plain(words.filter(Boolean).join(', '));
}

// ── Values with units ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The unit of a number, by how its attribute is called. */
const UNITS: readonly (readonly [pattern: RegExp, unit: string])[] = [
  [/_ns$/, 'ns'],
  [/cycles(?:\.|$)/, 'cycles'],
  [/_bytes$/, 'bytes'],
  [/tokens$/, 'tokens'],
  [/\.nll$/, 'nats'],
];

const unitOf = (name: string): string => UNITS.find(([pattern]) => pattern.test(name))?.[1] ?? '';

const grouped = (digits: string): string => digits.replace(/\B(?=([0-9]{3})+$)/g, ',');

/** `25,000 cycles`, `1,500,000 ns (0.0015 s)`, words with blanks between, hexadecimal digits as they are. */
export function valueText(name: string, value: Json): string {
  if (Array.isArray(value)) return plain(value.length === 0 ? '(none)' : value.join(' '));
  if (value === '') return '(empty)';
  const unit = unitOf(name);
  const text = plain(String(value));
  if (unit === '' || !/^[0-9]+$/.test(text)) return unit === '' ? text : `${text} ${unit}`;
  const seconds = unit === 'ns' && Number(text) >= 1e6 ? ` (${Number((Number(text) / 1e9).toPrecision(9))} s)` : '';
  return `${grouped(text)} ${unit}${seconds}`;
}

const TABLE_ORDER = Object.keys(ATTRIBUTES);

/** The names of these records' attributes in the order of the table; those that it does not have behind them. */
export function attributesOf(...records: readonly LogRecord[]): string[] {
  const names = new Set(records.flatMap(record => Object.keys(record)));
  const known = TABLE_ORDER.filter(name => names.has(name));
  return [...known, ...[...names].filter(name => !Object.hasOwn(ATTRIBUTES, name)).toSorted()];
}

export const helpOf = (name: string): string =>
  Object.hasOwn(ATTRIBUTES, name) ? ATTRIBUTES[name as AttributeName].help : 'not an attribute that this version knows';
