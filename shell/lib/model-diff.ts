// llmctl diff: two models held against each other, metadata key by key and tensor by tensor. The kernel compares (model_diff), this prints: what
// differs for people, everything as JSON for programs. The exit status is cmp's.

import { DIFF_COLUMNS, utf8Decode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { jsonLine, table } from './fmt.ts';
import type { Json } from './fmt.ts';
import { failAbout, grouped, isTerminal, modelPath } from './model.ts';
import type { Context } from './program.ts';
import { CHUNK_BYTES } from './stdio.ts';

type Ctx = Context<{ readonly json: { readonly help: string } }>;
type Row = Readonly<Record<(typeof DIFF_COLUMNS)[number], string>>;
/** Exit status of an error: 1 says that the models differ. */
const FAILED = 2;

export function* diffModels(ctx: Ctx, [a = '', b = '']: readonly string[]): Generator<void, number, void> {
  const { sys, err } = ctx;
  const left = yield* modelPath(sys, a);
  const right = yield* modelPath(sys, b);
  const watched = yield* isTerminal(sys, 2);
  const rows = yield* diffRows(sys, left, right, function* (count) {
    if (watched) yield* err.print(`\r ${count} keys and tensors `);
  });
  if (watched) yield* err.print('\r\x1b[K');
  if (typeof rows === 'number') {
    yield* failAbout(ctx, `${left}, ${right}`, rows);
    return FAILED;
  }
  yield* ctx.out.print(ctx.options.json ? json(left, right, rows) : report(rows));
  return rows.some(differs) ? 1 : 0;
}

/** The differences of two models, a row a key or tensor; or -errno. `seen` hears how many there are so far. */
export function* diffRows(
  sys: Sys,
  left: string,
  right: string,
  seen: (count: number) => Generator<void, void, void> = function* () {},
): Generator<void, Row[] | number, void> {
  const fd = yield* sys.model_diff(left, right);
  if (fd < 0) return fd;
  const rows: Row[] = [];
  const buffer = new Uint8Array(CHUNK_BYTES);
  let text = '';
  let n: number;
  while ((n = yield* sys.read(fd, buffer)) > 0) {
    const lines = (text + utf8Decode(buffer, 0, n)).split('\n');
    text = lines.pop()!;
    rows.push(...lines.map(rowOf));
    yield* seen(rows.length);
  }
  yield* sys.close(fd);
  return n < 0 ? n : rows;
}

function rowOf(line: string): Row {
  const cells = line.split('\t');
  return Object.fromEntries(DIFF_COLUMNS.map((column, i) => [column, cells[i] ?? ''])) as Row;
}

/** Missing in one model, of another type or shape, or of other values. */
const differs = (row: Row): boolean => row.left !== row.right || row.differing !== '0';

function report(rows: readonly Row[]): string {
  const changed = rows.filter(differs);
  const keys = changed.filter(row => row.what === 'key');
  const tensors = changed.filter(row => row.what === 'tensor');
  const total = rows.filter(row => row.what === 'tensor').length;
  const keyRows = keys.map(row => [row.name, row.left || 'none', row.right || 'none']);
  const head = ['TENSOR', 'LEFT', 'RIGHT', 'DIFFER', 'MAX', 'RMS', 'COSINE'];
  const tensorRows = tensors.map(row => [
    row.name,
    row.left || 'none',
    row.right || 'none',
    row.count === '' ? '' : `${((100 * Number(row.differing)) / Number(row.count)).toFixed(1)} %`,
    figure(row.most),
    figure(row.rms),
    row.cosine === '' ? '' : Number(row.cosine).toFixed(6),
  ]);
  return [
    keyRows.length === 0 ? '' : table([['KEY', 'LEFT', 'RIGHT'], ...keyRows]),
    tensorRows.length === 0 ? '' : table([head, ...tensorRows], [false, false, false, true, true, true, true]),
    `${keys.length} of ${grouped(rows.length - total)} keys and ${tensors.length} of ${grouped(total)} tensors differ\n`,
  ].join('');
}

const figure = (text: string): string => (text === '' ? '' : Number(text).toPrecision(4));

function json(left: string, right: string, rows: readonly Row[]): string {
  const number = (text: string): Json => (text === '' ? null : Number.isFinite(Number(text)) ? Number(text) : text); // Infinity is no JSON number
  const metadata = rows.filter(row => row.what === 'key' && differs(row));
  const tensors = rows.filter(row => row.what === 'tensor');
  return jsonLine({
    left,
    right,
    equal: !rows.some(differs),
    metadata: metadata.map(row => ({ key: row.name, left: row.left || null, right: row.right || null })),
    tensors: tensors.map(row => ({
      name: row.name,
      left: row.left || null,
      right: row.right || null,
      count: number(row.count),
      differing: number(row.differing),
      max: number(row.most),
      rms: number(row.rms),
      cosine: number(row.cosine),
    })),
  });
}
