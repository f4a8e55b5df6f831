// Records of the audit log as bytes: the attributes of trust/record.ts in canonical JSON (RFC 8785), and from there the specification's line of
// text (SIS §11). What is too long for its attribute is cut; what is cut, and so the longest record there can be, follows from the table alone.

import { bytesToHex } from '@noble/hashes/utils.js';
import { LIMITS, utf8Decode, utf8Length, utf8Write } from '../abi/index.ts';
import {
  ATTRIBUTES,
  groupsOf,
  isEnding,
  SIS_OP,
  type AttributeGroup,
  type AttributeKind,
  type AttributeName,
  type AuditFields,
  type AuditOp,
  type JsonObject,
} from '../../trust/index.ts';
import { panic } from '../panic.ts';

/** A record as it is read back. */
export type AuditRecord = JsonObject;

interface Column {
  readonly name: AttributeName;
  /** The name and what stands before its value. */
  readonly key: string;
  readonly in: AttributeGroup;
  readonly kind: AttributeKind;
  readonly most: number;
}

/** The attributes in the order of a canonical object: by the UTF-16 units of their names. */
const COLUMNS: readonly Column[] = (Object.keys(ATTRIBUTES) as AttributeName[]).sort().map(name => {
  const attribute: { readonly in: AttributeGroup; readonly kind: AttributeKind; readonly most?: number } =
    ATTRIBUTES[name];
  return { name, key: `${JSON.stringify(name)}:`, in: attribute.in, kind: attribute.kind, most: attribute.most ?? 0 };
});

/** Where a record is written before its length is known. */
const scratch = new Uint8Array(LIMITS.auditRecordBytes);

/**
 * The bytes that are hashed and stored: what trust/canonical.ts writes of the same values, in a fifth of the time, their names and kinds being
 * known. What a later part says counts. A value that its attribute cannot have, or an attribute that is not the operation's, is a bug.
 */
export function encodeRecord(op: AuditOp, ...parts: readonly AuditFields[]): Uint8Array {
  const groups = groupsOf(op);
  let text = '';
  for (const { name, key, in: group, kind, most } of COLUMNS) {
    let value: AuditFields[AttributeName];
    for (let part = parts.length - 1; part >= 0 && value === undefined; part--) value = parts[part]![name];
    if (value === undefined) continue;
    if (!groups.includes(group)) panic(`a record of ${op} does not say ${name}`);
    text += `${text === '' ? '{' : ','}${key}${written(name, kind, most, value)}`;
  }
  const bytes = utf8Write(`${text}}`, scratch, 0, scratch.length);
  return bytes < 0 ? panic(`a record of ${op} takes more than ${scratch.length} bytes`) : scratch.slice(0, bytes);
}

function written(name: string, kind: AttributeKind, most: number, value: unknown): string {
  const wrong = (): never => panic(`${name}: ${String(value)} is no ${kind}`);
  switch (kind) {
    case 'count':
      return Number.isSafeInteger(value) ? String(value) : wrong();
    case 'u64':
      return Number.isSafeInteger(value) && (value as number) >= 0 ? `"${String(value)}"` : wrong();
    case 'real':
      return Number.isFinite(value) ? String(value) : wrong();
    case 'flag':
      return value === true || value === false ? String(value) : wrong();
    case 'hex':
      return value instanceof Uint8Array && value.length === most ? `"${bytesToHex(value)}"` : wrong();
    case 'text':
      return typeof value === 'string' ? quoted(value, most) : wrong();
    case 'words':
      return Array.isArray(value) ? `[${fitting(value as readonly string[], most).join(',')}]` : wrong();
  }
}

/** A text in quotes, of which no more than `most` bytes stand between them. */
function quoted(text: string, most: number): string {
  const isPlain = text.length <= most && /^[ !#-[\]-~]*$/.test(text);
  return isPlain ? `"${text}"` : JSON.stringify(cut(text, most));
}

/** Bytes of a text between its quotes in JSON. */
export const quotedBytes = (text: string): number => utf8Length(JSON.stringify(text)) - 2;

/** The beginning of a text that takes no more than `most` bytes there, whole characters; half a surrogate pair is none. */
function cut(text: string, most: number): string {
  const whole = text.replace(/[\ud800-\udfff]/gu, '\ufffd');
  if (quotedBytes(whole) <= most) return whole;
  let [kept, bytes] = ['', 0];
  for (const character of whole) {
    bytes += quotedBytes(character);
    if (bytes > most) break;
    kept += character;
  }
  return kept;
}

/** The first words, in quotes, that take no more than `most` bytes between the brackets. */
function fitting(words: readonly string[], most: number): readonly string[] {
  const kept: string[] = [];
  let bytes = -1; // a comma before each but the first
  for (const word of words) {
    const whole = quoted(word, most);
    bytes += 1 + utf8Length(whole);
    if (bytes > most) break;
    kept.push(whole);
  }
  return kept;
}

/** What stands in a record's bytes; null where they are none. */
export function decodeRecord(bytes: Uint8Array): AuditRecord | null {
  try {
    const value: unknown = JSON.parse(utf8Decode(bytes));
    return typeof value === 'object' ? (value as AuditRecord | null) : null;
  } catch {
    return null; // the parser's word for what is no JSON
  }
}

// ── The specification's text ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Status bits of SIS §11. */
const STATUS = { ok: 1, rejected: 2, late: 4 } as const;

const text = (record: AuditRecord, name: AttributeName, otherwise = ''): string => {
  const value = record[name];
  return value === undefined || value === null ? otherwise : String(value);
};

/** What one record says, in one line: the seven figures of the specification, then what this machine adds. */
export function recordLine(record: AuditRecord): string {
  const op = text(record, 'arena8.op') as AuditOp;
  const value = (name: AttributeName, otherwise = '0'): string => text(record, name, otherwise);
  const isStream = text(record, 'arena8.request.flags').split(',').includes('stream');
  const number = isEnding(op) ? (isStream ? SIS_OP.stream : SIS_OP.infer) : SIS_OP[op];
  const refused = op === 'reject' || record['error.type'] !== undefined;
  const status = (refused ? STATUS.rejected : STATUS.ok) | (record['arena8.late'] === true ? STATUS.late : 0);
  const words = [
    `[LLM][AUD] op=${number ?? op}`,
    `prompt_len=${value('gen_ai.usage.input_tokens')}`,
    `tokens=${value('gen_ai.usage.output_tokens')}`,
    `wcet_cycles=${value('arena8.cycles.most')}`,
    `period_ns=${value('arena8.request.period_ns')}`,
    `status=${status}`,
    `ts_ns=${value('arena8.time_ns')}`,
    `record=${value('arena8.record')}`,
    `what=${op}`,
    `user=${value('arena8.uid')}`,
    `code=${value('arena8.code')}`,
  ];
  const more: readonly (readonly [string, AttributeName])[] = [
    ['session', 'gen_ai.conversation.id'],
    ['finish', 'gen_ai.response.finish_reasons'],
    ['cycles', 'arena8.cycles'],
    ['least', 'arena8.cycles.least'],
    ['path', 'arena8.path'],
    ['name', 'arena8.name'],
    ['value', 'arena8.value'],
    ['model', 'gen_ai.request.model'],
    ['message', 'arena8.message'],
  ];
  for (const [word, name] of more)
    if (record[name] !== undefined) words.push(`${word}=${shownText(text(record, name))}`);
  return `${words.join(' ')}\n`;
}

/** A word as it is, a text with blanks in quotes: one record is one line, and nothing in it is an order to a terminal. */
const shownText = (s: string): string =>
  /^[!#-~]*$/.test(s) ? s : JSON.stringify(s).replace(/[\x7f-\x9f\u2028\u2029]/g, '?');
