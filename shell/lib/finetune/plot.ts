// `llmfinetune plot`: the curve of a training's losses drawn with characters: each update's loss as a line of braille dots, eight to a
// character, looks at the held-out part as circles; both with ASCII where braille is not wanted.

import { LIMITS } from '../../../kernel/abi/index.ts';
import { jsonLine } from '../fmt.ts';
import { isTerminal } from '../model.ts';
import { screenSize } from '../screen.ts';
import { isStep, readLog } from './log.ts';
import type { LogLine } from './log.ts';
import { openPlace } from './store.ts';
import type { RunCtx } from './train.ts';

export const plotOptions = {
  ascii: { help: 'plot: draw with ASCII characters only' },
} as const;

type PlotCtx = RunCtx & { readonly options: { readonly ascii: boolean } };
type Point = readonly [step: number, loss: number];

export interface Curve {
  readonly train: readonly Point[];
  readonly held: readonly Point[];
}

const ROWS_MAX = 16;
const ROWS_LEAST = 4;
const COLUMNS_DEFAULT = 80;
const LABEL_EVERY = 4; // rows

export function* plot(ctx: PlotCtx, [name = '']: readonly string[]): Generator<void, number, void> {
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  const lines = yield* readLog(ctx, place.logPath);
  if (typeof lines === 'number') return lines;
  const curve = curveOf(lines);
  if (curve.train.length === 0) return yield* ctx.fail(`${name}: no step of a training was logged`);
  if (ctx.options.json) {
    yield* ctx.out.print(jsonLine({ name, train: curve.train, held_out: curve.held }));
    return 0;
  }
  const screen = (yield* isTerminal(ctx.sys, 1))
    ? yield* screenSize(ctx.sys, 1)
    : { columns: COLUMNS_DEFAULT, rows: 24 };
  const rows = Math.max(ROWS_LEAST, Math.min(ROWS_MAX, screen.rows - 6));
  yield* ctx.out.print(drawn(curve, Math.min(screen.columns, LIMITS.pathBytes), rows, ctx.options.ascii));
  return 0;
}

export const curveOf = (lines: readonly LogLine[]): Curve => ({
  train: lines.filter(isStep).map(line => [line.step, line.loss]),
  held: lines.flatMap(line => (isStep(line) ? [] : [[line.step, line.held_out_loss] as const])),
});

// ── Drawing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The curve in so many columns and rows of characters, with its axes below and to the left. */
export function drawn(curve: Curve, columns: number, rows: number, ascii: boolean): string {
  const all = [...curve.train, ...curve.held];
  const range = rangeOf(all.map(([, loss]) => loss));
  const first = Math.min(...all.slice(0, 1).map(p => p[0]), curve.held[0]?.[0] ?? Infinity);
  const last = Math.max(curve.train.at(-1)![0], curve.held.at(-1)?.[0] ?? 0);
  const label = (row: number): string =>
    (range.high - ((range.high - range.low) * row) / (rows - 1)).toFixed(range.digits);
  const labelColumns = Math.max(label(0).length, label(rows - 1).length);
  const width = Math.max(2, columns - labelColumns - 3); // a blank, the axis, the cursor
  const cell = ascii ? { across: 1, down: 1 } : { across: 2, down: 4 };
  const across = width * cell.across;
  const down = rows * cell.down;
  const x = (step: number, dots: number): number =>
    last === first ? 0 : Math.round(((step - first) / (last - first)) * (dots - 1));
  const y = (loss: number, dots: number): number =>
    Math.round(((range.high - loss) / (range.high - range.low)) * (dots - 1));
  const line = lineOf(
    curve.train,
    step => x(step, across),
    across,
    loss => y(loss, down),
  );
  const picture = ascii ? asciiCells(line, width, rows) : brailleCells(line, width, rows);
  for (const [step, loss] of curve.held) picture[y(loss, rows)]![x(step, width)] = ascii ? 'o' : '○';
  const text = picture.map((cells, row) => {
    const named = row % LABEL_EVERY === 0 || row === rows - 1;
    return `${(named ? label(row) : '').padStart(labelColumns)} ${axis(ascii, named)}${cells.join('').trimEnd()}\n`;
  });
  const margin = ' '.repeat(labelColumns + 1);
  const ends = `step ${first}`.padEnd(Math.max(0, width - String(last).length)) + String(last);
  const key = `${ascii ? '*' : '⠒'} training loss${curve.held.length > 0 ? `   ${ascii ? 'o' : '○'} held out` : ''}`;
  const base = ascii ? `+${'-'.repeat(width)}` : `└${'─'.repeat(width)}`;
  return `${text.join('')}${margin}${base}\n${margin} ${ends}\n${margin} ${key}\n`;
}

const axis = (ascii: boolean, named: boolean): string => (ascii ? (named ? '+' : '|') : named ? '┤' : '│');

/** Least and greatest, apart from each other, with as many decimals as tell the rows apart. */
function rangeOf(losses: readonly number[]): { readonly low: number; readonly high: number; readonly digits: number } {
  let low = Infinity;
  let high = -Infinity;
  for (const loss of losses) {
    low = Math.min(low, loss);
    high = Math.max(high, loss);
  }
  if (high - low < 1e-6) {
    low -= 0.5e-6;
    high += 0.5e-6;
  }
  const span = high - low;
  return { low, high, digits: span >= 10 ? 1 : span >= 1 ? 2 : span >= 0.1 ? 3 : span >= 0.01 ? 4 : 7 };
}

/** The stretch of dots of each column: the mean of the losses there, joined to the column before; null where there is none. */
function lineOf(
  points: readonly Point[],
  x: (step: number) => number,
  columns: number,
  y: (loss: number) => number,
): readonly (readonly [from: number, to: number] | null)[] {
  const sums = new Float64Array(columns);
  const counts = new Uint32Array(columns);
  for (const [step, loss] of points) {
    sums[x(step)]! += loss;
    counts[x(step)]! += 1;
  }
  const line: (readonly [number, number] | null)[] = Array.from({ length: columns }, () => null);
  let before = -1;
  let beforeAt = 0;
  for (let column = 0; column < columns; column++) {
    if (counts[column] === 0) continue;
    const at = y(sums[column]! / counts[column]!);
    // A straight line from the column before: where it is steeper than a dot, all that it passes.
    for (let c = before < 0 ? column : before + 1; c <= column; c++) {
      const share = (k: number): number =>
        before < 0 ? at : Math.round(beforeAt + ((at - beforeAt) * (k - before)) / (column - before));
      const [a, b] = [before < 0 ? at : share(c - 1), share(c)];
      line[c] = [Math.min(a, b), Math.max(a, b)];
    }
    before = column;
    beforeAt = at;
  }
  return line;
}

type Line = ReturnType<typeof lineOf>;

function asciiCells(line: Line, width: number, rows: number): string[][] {
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: width }, (_, column) => {
      const stretch = line[column];
      return stretch && stretch[0] <= row && row <= stretch[1] ? '*' : ' ';
    }),
  );
}

/** Bits of a braille character's dots (Unicode §21.1), by column and row. */
const DOTS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const;
const BRAILLE = 0x2800;

function brailleCells(line: Line, width: number, rows: number): string[][] {
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: width }, (_, column) => {
      let bits = 0;
      for (const [i, dots] of DOTS.entries()) {
        const stretch = line[column * 2 + i];
        if (stretch)
          dots.forEach((bit, j) => (bits |= stretch[0] <= row * 4 + j && row * 4 + j <= stretch[1] ? bit : 0));
      }
      return bits === 0 ? ' ' : String.fromCharCode(BRAILLE + bits);
    }),
  );
}
