// What a person sees of a training: the bar while it goes, with loss, speed and time left, and the block at its end. Times are the machine's.

import { times } from '../fmt.ts';
import { grouped, isTerminal } from '../model.ts';
import { processTable } from '../processes.ts';
import type { Context } from '../program.ts';
import { ProgressBar } from '../progress.ts';
import type { Progress } from './checkpoint.ts';
import type { State } from './device.ts';
import type { Run } from './run.ts';
import type { Result } from './train.ts';

type Caller = Pick<Context, 'sys' | 'err'> & { readonly options: { readonly json: boolean; readonly quiet: boolean } };

/** Milliseconds of machine time from one drawing of the bar to the next, while a batch is under way. */
const DRAW_MS = 100;

/** `0.8s`, `41s`, `3m 05s`, `2h 07m`. */
export function duration(ns: number): string {
  const seconds = ns / 1e9;
  if (seconds < 9.95) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  const two = (n: number): string => String(n).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h ${two(Math.floor(whole / 60) % 60)}m`;
}

export class Meter {
  private readonly bar: ProgressBar;
  private progress!: Progress;
  private part = 0; // of the step under way
  private fromStep = 0;
  private fromNs = 0; // of machine time
  private nowNs = 0;

  constructor(
    private readonly ctx: Caller,
    private readonly steps: number,
  ) {
    this.bar = new ProgressBar(ctx, () => this.text(), true);
  }

  /** Milliseconds between two calls of `step` while it waits; -1 where nobody looks. */
  *begin(progress: Progress): Generator<void, number, void> {
    this.progress = progress;
    this.fromStep = progress.step;
    this.fromNs = (yield* times(this.ctx.sys)).nowNs;
    const watched = !this.ctx.options.quiet && (yield* isTerminal(this.ctx.sys, 2));
    return watched ? DRAW_MS : -1;
  }

  /** Draws where the training stands; `state` is that of a batch under way. Silent in the background. */
  *step(progress: Progress, state: State | null): Generator<void, void, void> {
    const { sys, options } = this.ctx;
    this.progress = progress;
    this.part = state === null ? 0 : state.progressPpm / 1e6;
    if (options.quiet || !(yield* isTerminal(sys, 2)) || !(yield* inForeground(this.ctx))) return;
    this.nowNs = (yield* times(sys)).nowNs;
    yield* this.bar.show(progress.step, this.steps);
  }

  private text(): string {
    const { step, loss, held, tokens, measured, elapsedNs } = this.progress;
    const said = [`step ${step}/${this.steps}`];
    if (loss !== null) said.push(`loss ${loss.toFixed(3)}`);
    if (held !== null) said.push(`held-out ${held.toFixed(3)}`);
    if (elapsedNs > 0 && tokens > 0) said.push(`${grouped(Math.round(((tokens + measured) * 1e9) / elapsedNs))} tok/s`);
    const done = step - this.fromStep;
    if (done > 0) {
      const left = ((this.nowNs - this.fromNs) / (done + this.part)) * (this.steps - step - this.part);
      said.push(`${duration(Math.max(0, left))} left`);
    }
    return said.join('  ');
  }

  *clear(): Generator<void, void, void> {
    yield* this.bar.clear();
  }
  *end(): Generator<void, void, void> {
    yield* this.bar.end();
  }
}

/** Whether this process is in the foreground of its terminal. */
function* inForeground(ctx: Caller): Generator<void, boolean, void> {
  const pid = yield* ctx.sys.getpid();
  const rows = yield* processTable(ctx.sys);
  return typeof rows !== 'number' && rows.some(row => row.pid === pid && row.stat.includes('+'));
}

const ENDINGS: Readonly<Record<string, string>> = {
  patience: ', ended early: the held-out loss fell no more',
  frozen: ', ended early: the next one would have gone beyond --max-delta',
};

/** `3.012`, or a dash. */
const figure = (loss: number | null): string => (loss === null ? '-' : loss.toFixed(4));
const count = (n: number, what: string): string => `${grouped(n)} ${what}${n === 1 ? '' : 's'}`;

/** What stands on the screen when a training has ended. */
export function closing(name: string, run: Omit<Run, 'format'>, r: Result): string {
  const { course, data } = run;
  const { progress: p, version } = r;
  const lines: string[] = [];
  if (version !== null) lines.push(`${name} v${version.number} ${version.id}  ${count(version.bytes, 'byte')}`);
  if (version !== null && course.heldOut > 0)
    lines.push(
      `  held out   ${figure(p.first)} → ${figure(r.loss)}  (${count(course.heldOut, 'sequence')} that were not trained on)`,
    );
  else if (version !== null) lines.push(`  loss       ${figure(r.loss)}  (over sequences that were trained on)`);
  if (version !== null) lines.push(`  inference  ${figure(r.quantisedLoss)}  (the same, as sessions compute it)`);
  lines.push(`  trained    ${figure(p.began)} → ${figure(p.loss)}  (first and last step)`);
  lines.push(
    `  steps      ${p.step}${ENDINGS[r.ending] ?? ''}${r.keptStep === p.step || version === null ? '' : `; kept: those up to ${r.keptStep}`}`,
  );
  lines.push(
    `  tokens     ${grouped(p.tokens)} in ${duration(p.elapsedNs)}, ${grouped(Math.round(((p.tokens + p.measured) * 1e9) / Math.max(1, p.elapsedNs)))} a second with those only measured`,
  );
  if (data.cut > 0) lines.push(`  cut        ${count(data.cut, 'example')} at ${run.settings.ctx} tokens`);
  if (version !== null)
    lines.push(run.settings.method === 'full' ? `llmctl load ${version.path}` : `llmfinetune apply ${name}`);
  return lines.map(line => `${line}\n`).join('');
}
