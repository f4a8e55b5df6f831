// A progress bar: how far a long command is, on standard error when that is a terminal, one line that is written over itself.

import { isTerminal } from './model.ts';
import type { Context } from './program.ts';

const BAR_COLUMNS = 40;

export class Progress {
  private shown = -1;
  private watched: boolean | null = null;

  /** `all`: when it is done; `text`: what stands behind the bar. */
  constructor(
    private readonly ctx: Pick<Context, 'sys' | 'err'>,
    private readonly all: number,
    private readonly text: (done: number) => string,
  ) {}

  /** So much is done; drawn when it is a percent more. */
  *show(done: number): Generator<void, void, void> {
    this.watched ??= yield* isTerminal(this.ctx.sys, 2);
    const percent = this.all === 0 ? 100 : Math.floor((100 * done) / this.all);
    if (!this.watched || percent === this.shown) return;
    this.shown = percent;
    yield* this.ctx.err.print(progressLine(percent, this.text(done)));
  }

  /** Makes room for a line of output. */
  *clear(): Generator<void, void, void> {
    if (this.watched === true && this.shown >= 0) yield* this.ctx.err.print('\r\x1b[K');
    this.shown = -1;
  }

  /** Leaves the bar's line. */
  *end(): Generator<void, void, void> {
    if (this.watched === true) yield* this.ctx.err.print('\n');
    this.watched = false;
  }
}

/** `[=====>    ]  52 %  TEXT`, over the one before. */
function progressLine(percent: number, text: string): string {
  const bar = '='.repeat(Math.floor((BAR_COLUMNS * percent) / 100));
  const head = percent < 100 ? '>' : '';
  return `\r[${(bar + head).padEnd(BAR_COLUMNS)}] ${String(percent).padStart(3)} %  ${text} `;
}
