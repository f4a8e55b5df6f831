// `audit show`, `diff` and `head`: one record with all its attributes, two attribute by attribute, and the newest checkpoint.

import { isRefusal } from '../../kernel/abi/index.ts';
import { toBase64 } from '../../trust/index.ts';
import type { AttributeName, Json } from '../../trust/index.ts';
import { recordNumber, refused } from './audit-face.ts';
import type { Face, Run } from './audit-face.ts';
import { readRecord } from './audit-reader.ts';
import type { LogRecord, OpenLog } from './audit-reader.ts';
import { attributesOf, helpOf, STATUS_SIGNS, statusOf, valueText } from './audit-record.ts';
import { jsonLine, wrap } from './fmt.ts';
import { screenWidth } from './program.ts';

/** All attributes in the table's order, each with its unit and, beneath, what it means. */
export function* showRecord(face: Face, log: OpenLog, [word = '']: readonly string[]): Run {
  const found = yield* recordNumber(face, log, word);
  if ('status' in found) return found.status;
  const read = yield* readRecord(log, found.number);
  if (isRefusal(read)) return yield* refused(face, read);
  const { bytes, record } = read;
  if (face.options.json) {
    yield* face.out.write(bytes);
    yield* face.out.print('\n');
    return 0;
  }
  const status = statusOf(record);
  yield* face.out.print(`record ${found.number} of ${log.checkpoint.origin}: ${STATUS_SIGNS[status]} ${status}\n`);
  const names = attributesOf(record);
  const width = Math.max(...names.map(name => name.length));
  for (const name of names) {
    yield* face.out.print(`${name.padEnd(width)}  ${valueText(name, record[name]!)}\n`);
    yield* face.out.print(wrap(helpOf(name), Math.min(face.columns, screenWidth), HELP_INDENT));
  }
  return 0;
}
const HELP_INDENT = 4;

/**
 * What any two records differ in, whatever was asked: which they are, when they were made, and digests, each of which has a salt of its own.
 * `replay` is what compares outputs.
 */
const OF_THE_OCCASION: ReadonlySet<string> = new Set<AttributeName>([
  'arena8.record',
  'arena8.boot',
  'arena8.time_ns',
  'gen_ai.conversation.id',
  'arena8.submitted',
  'arena8.submitted_ns',
  'arena8.began_ns',
  'arena8.first_token_ns',
  'arena8.prompt.digest',
  'arena8.stops.digest',
  'arena8.output.digest',
  'arena8.content.digest',
]);

/** Two records, attribute by attribute. 0: they differ in nothing but their occasion; 1: in something; 2: there is an error. */
export function* diffRecords(face: Face, log: OpenLog, words: readonly string[]): Run {
  const records: LogRecord[] = [];
  const numbers: number[] = [];
  for (const word of words) {
    const found = yield* recordNumber(face, log, word);
    if ('status' in found) return 2;
    const read = yield* readRecord(log, found.number);
    if (isRefusal(read)) {
      yield* refused(face, read);
      return 2;
    }
    records.push(read.record);
    numbers.push(found.number);
  }
  const [a, b] = records as [LogRecord, LogRecord];
  const differing = attributesOf(a, b).filter(name => JSON.stringify(a[name]) !== JSON.stringify(b[name]));
  const telling = differing.filter(name => !OF_THE_OCCASION.has(name));
  const occasion = differing.filter(name => OF_THE_OCCASION.has(name));
  if (face.options.json) {
    const pair = (name: string): Json => ({ attribute: name, a: a[name] ?? null, b: b[name] ?? null });
    yield* face.out.print(
      jsonLine({ a: numbers[0]!, b: numbers[1]!, differs: telling.map(pair), occasion: occasion.map(pair) }),
    );
  } else yield* face.out.print(diffText(numbers, a, b, telling, occasion));
  return telling.length > 0 ? 1 : 0;
}

function diffText(
  numbers: readonly number[],
  a: LogRecord,
  b: LogRecord,
  telling: readonly string[],
  occasion: readonly string[],
): string {
  const shown = (name: string, value: Json | undefined): string =>
    value === undefined ? '(not there)' : valueText(name, value);
  const width = Math.max(...numbers.map(n => String(n).length));
  const lines = telling.map(
    name =>
      `${name}\n` +
      `  ${String(numbers[0]).padStart(width)}  ${shown(name, a[name])}\n` +
      `  ${String(numbers[1]).padStart(width)}  ${shown(name, b[name])}\n`,
  );
  if (telling.length === 0) lines.push('nothing differs but the occasion\n');
  if (occasion.length > 0) lines.push(wrap(`of the occasion: ${occasion.join(' ')}`, screenWidth));
  return lines.join('');
}

/** The newest checkpoint, as it is signed. */
export function* showHead(face: Face, log: OpenLog): Run {
  if (!face.options.json) {
    yield* face.out.print(log.head);
    return 0;
  }
  const { origin, size, root } = log.checkpoint;
  yield* face.out.print(jsonLine({ origin, size, root: toBase64(root), checkpoint: log.head }));
  return 0;
}
