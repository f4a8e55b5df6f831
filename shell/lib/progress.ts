// A progress bar on standard error, for whoever sits at a terminal and waits: one line drawn over itself, nothing where nobody looks.

import { isTerminal } from './model.ts';
import type { Context } from './program.ts';
import { screenSize } from './screen.ts';

/** On a screen that is wide enough. */
const BAR_COLUMNS = 40;

export class ProgressBar {
  private shown = -1; // percent
  private watched: boolean | null = null;
  private figure = ''; // as drawn

  /** `text` says behind the bar how much of what is done; `lively`: it is drawn when that changes, not only with the percentage. */
  constructor(
    private readonly ctx: Pick<Context, 'sys' | 'err'>,
    private readonly text: (done: number, total: number) => string,
    private readonly lively = false,
  ) {}

  /** Draws it when it has moved: `[=====>    ]  52 %  1.2M of 2.3M`. */
  *show(done: number, total: number): Generator<void, void, void> {
    this.watched ??= yield* isTerminal(this.ctx.sys, 2);
    const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
    if (!this.watched || (percent === this.shown && !this.lively)) return;
    const figure = `${String(percent).padStart(3)} %  ${this.text(done, total)}`;
    if (percent === this.shown && figure === this.figure) return;
    const rest = this.lively ? ' \x1b[K' : ' '; // of a longer one drawn before
    this.shown = percent;
    this.figure = figure;
    const { columns } = yield* screenSize(this.ctx.sys, 2);
    const width = Math.min(BAR_COLUMNS, columns - figure.length - 5); // brackets, two blanks, the cursor: what wraps cannot be drawn over
    const bar = '='.repeat(Math.floor((Math.max(0, width) * percent) / 100)) + (percent < 100 ? '>' : '');
    yield* this.ctx.err.print(width > 0 ? `\r[${bar.padEnd(width)}] ${figure}${rest}` : `\r${figure}${rest}`);
  }

  /** Makes room for a line of output. */
  *clear(): Generator<void, void, void> {
    if (this.watched === true && this.shown >= 0) yield* this.ctx.err.print('\r\x1b[K');
    this.shown = -1;
  }

  /** Leaves its line, where there is one; it is not drawn again. */
  *end(): Generator<void, void, void> {
    if (this.watched === true && this.shown >= 0) yield* this.ctx.err.print('\n');
    this.watched = false;
  }
}
