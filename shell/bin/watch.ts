// watch: runs a command again and again and shows what it prints, a screenful, with what has changed.

import { O, SEEK } from '../../kernel/abi/index.ts';
import { launch, waitFor } from '../lib/exec.ts';
import { readText } from '../lib/files.ts';
import { times } from '../lib/fmt.ts';
import { layoutLine, drawRow, wrapRows } from '../lib/layout.ts';
import type { Line, Row } from '../lib/layout.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { EVENT, Screen, clipped, fitted } from '../lib/screen.ts';
import { readUpTo } from '../lib/stdio.ts';
import { formatTime } from '../lib/strftime.ts';

const options = {
  interval: { short: 'n', value: 'SECONDS', help: 'of virtual time between two runs (2; at least 0.1)' },
  differences: { short: 'd', help: 'show in reverse what has changed since the run before' },
  'no-title': { short: 't', help: 'no header' },
  errexit: { short: 'e', help: 'end when the command fails' },
  chgexit: { short: 'g', help: 'end when the output changes' },
  exec: { short: 'x', help: 'run the command itself instead of sh -c' },
} as const;
type WatchContext = Context<typeof options>;

/** What one run printed beyond this is not shown. */
const outputBytesMax = 64 * 1024;
const intervalMsMin = 100;

interface Result {
  readonly bytes: Uint8Array;
  readonly status: number;
}
interface Shown {
  readonly line: Line;
  readonly row: Row;
}

export const watch = define({
  name: 'watch',
  summary: 'run a command again and again',
  usage: ['[-degtx] [-n SECONDS] COMMAND...'],
  options,
  order: 'posix',
  description:
    'Runs COMMAND every two seconds of virtual time and shows the beginning of its output on the whole screen, until q or Ctrl-C. A key other than q runs it at once. Needs a terminal.',
  examples: [["watch -n 1 -d 'free -v'", 'the arena while another session loads models']],
  *main(ctx) {
    const { options, operands, sys } = ctx;
    if (operands.length === 0) return yield* ctx.usage('no command given');
    const seconds = Number(options.interval ?? 2);
    if (options.interval === '' || !(seconds >= 0 && seconds < 1e6))
      return yield* ctx.usage(`failed to parse argument: '${options.interval}'`);
    const screen = yield* Screen.open(sys, 1);
    if (typeof screen === 'number') return yield* ctx.fail('standard output is not a terminal');
    const status = yield* watching(ctx, screen, Math.max(intervalMsMin, Math.round(seconds * 1000)));
    yield* screen.close();
    return status;
  },
});

function* watching(ctx: WatchContext, screen: Screen, milliseconds: number): Generator<void, number, void> {
  const { options } = ctx;
  let before: Result | null = null;
  for (;;) {
    const now: Result | number = yield* runOnce(ctx);
    if (typeof now === 'number') return 1;
    for (let key: string = EVENT.redraw; key === EVENT.redraw;) {
      yield* draw(ctx, screen, milliseconds, before, now);
      if (options.errexit && now.status !== 0) return now.status;
      if (options.chgexit && before !== null && !same(before.bytes, now.bytes)) return 0;
      key = yield* screen.key(milliseconds);
      if (key === 'q' || key === 'Q' || key === EVENT.interrupt || key === EVENT.end) return 0;
    }
    before = now;
  }
}

/** One run, its output and errors in memory storage; -errno when it cannot be started. */
function* runOnce({ sys, options, operands, env }: WatchContext): Generator<void, Result | number, void> {
  const fd = yield* sys.memfd('watch');
  if (fd < 0) return fd;
  const empty = yield* sys.open('/dev/null', O.RDONLY, 0);
  const argv = options.exec ? ['env', ...operands] : ['sh', '-c', operands.join(' ')];
  const pid = yield* launch(sys, `/bin/${argv[0]}`, argv, env, [empty, fd, fd]);
  const status = pid < 0 ? pid : yield* waitFor(sys, pid);
  yield* sys.lseek(fd, 0, SEEK.set);
  const bytes = yield* readUpTo(sys, fd, outputBytesMax);
  yield* sys.close(fd);
  yield* sys.close(empty);
  return pid < 0 ? pid : { bytes, status };
}

function* draw(
  ctx: WatchContext,
  screen: Screen,
  milliseconds: number,
  before: Result | null,
  now: Result,
): Generator<void, void, void> {
  const title = ctx.options['no-title'] ? [] : [yield* titleOf(ctx, screen.columns, milliseconds), ''];
  const height = screen.rows - title.length;
  const old = before === null || !ctx.options.differences ? null : rowsOf(before.bytes, screen.columns, height);
  const rows = rowsOf(now.bytes, screen.columns, height);
  yield* screen.show([
    ...title,
    ...rows.map(({ line, row }, y) => drawRow(line, row, old === null ? [] : changes(old[y], { line, row }))),
  ]);
}

/** `Every 2.0s: COMMAND        HOST: DATE`. */
function* titleOf(ctx: WatchContext, columns: number, milliseconds: number): Generator<void, string, void> {
  const host = yield* readText(ctx.sys, '/etc/hostname');
  const { bootEpochSeconds, nowNs } = yield* times(ctx.sys);
  const time = formatTime('%a %b %e %H:%M:%S %Y', bootEpochSeconds + Math.floor(nowNs / 1e9), nowNs % 1e9);
  const right = `${typeof host === 'string' ? host.trim() : ''}: ${time}`;
  const left = `Every ${(milliseconds / 1000).toFixed(1)}s: ${ctx.operands.join(' ').replace(/\s+/g, ' ')}`;
  const room = columns - right.length - 1;
  return room < 12 ? clipped(left, columns) : `${fitted(left, room)} ${right}`;
}

function rowsOf(bytes: Uint8Array, columns: number, height: number): Shown[] {
  const shown: Shown[] = [];
  for (let at = 0; at < bytes.length && shown.length < height;) {
    const newline = bytes.indexOf(10, at);
    const end = newline < 0 ? bytes.length : newline + 1;
    const line = layoutLine(bytes.subarray(at, end), { colours: false });
    for (const row of wrapRows(line, columns)) shown.push({ line, row });
    at = end;
  }
  return shown.slice(0, height);
}

/** The characters of a row that are not what stood in the same column before. */
function changes(old: Shown | undefined, now: Shown): (readonly [number, number])[] {
  const before = new Map<number, string>();
  let column = 0;
  for (const glyph of glyphsOf(old)) {
    before.set(column, glyph.text);
    column += glyph.width;
  }
  const changed: (readonly [number, number])[] = [];
  column = 0;
  for (const glyph of glyphsOf(now)) {
    if ((before.get(column) ?? ' ') !== glyph.text) changed.push([glyph.from, glyph.from + 1]);
    column += glyph.width;
  }
  return changed;
}

const glyphsOf = (shown: Shown | undefined): Line['glyphs'] =>
  shown === undefined ? [] : shown.line.glyphs.slice(shown.row.from, shown.row.to);

const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);
