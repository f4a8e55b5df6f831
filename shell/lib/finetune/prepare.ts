// From the user's file to sequences that can be trained on: read in pieces, tokenised example by example, what is wrong named by its line.

import { E, O, SIG } from '../../../kernel/abi/index.ts';
import { fstat } from '../files.ts';
import { grouped } from '../model.ts';
import type { Model } from '../model.ts';
import { signalStatus } from '../program.ts';
import type { Context } from '../program.ts';
import { ProgressBar } from '../progress.ts';
import { Input } from '../stdio.ts';
import { formatOf, readExamples } from './examples.ts';
import type { DataFormat, Found } from './examples.ts';
import type { Settings } from './options.ts';
import { SequenceMaker } from './sequences.ts';
import type { SequenceCounts } from './sequences.ts';

type Caller = Pick<Context, 'sys' | 'err' | 'fail' | 'failCall'>;

/** What a data file came to. */
export interface Prepared extends SequenceCounts {
  readonly format: DataFormat;
  readonly bytes: number;
  readonly digest: string; // SHA-256 of the file
  readonly bad: number; // lines skipped
}

/** Bad lines that are told one by one. */
const BAD_TOLD = 10;
/** Examples between two looks at the rest of the machine. */
const TURN = 16;

/** The sequences of the file at `path`, of `most` tokens at most, into two open files; or the status after a message. */
export function* prepareData(
  ctx: Caller,
  path: string,
  settings: Settings,
  model: Model,
  most: number,
  files: { readonly data: number; readonly index: number },
): Generator<void, Prepared | number, void> {
  const { sys } = ctx;
  const fd = yield* sys.open(path, O.RDONLY, 0);
  if (fd < 0) return yield* ctx.failCall(path, -fd);
  const st = yield* fstat(sys, fd);
  const size = typeof st === 'number' ? 0 : st.size;
  const format = formatOf(path);
  const { lines, reader } = readExamples(new Input(sys, fd), format, settings.separator);
  const maker = new SequenceMaker(sys, model, most, settings.mask_prompt, files.data, files.index);
  const bar = new ProgressBar(ctx, () => `${path}: ${grouped(maker.counts.sequences)} sequences`, true);
  let bad = 0;
  let status = 0;
  for (let n = 1, found: Found | null; status === 0 && (found = yield* reader.next()) !== null; n++) {
    const { line, example } = found;
    const wrong = typeof example === 'string' ? example : yield* maker.add(example);
    if (maker.trouble !== '') break;
    if (wrong !== '') {
      bad++;
      status = yield* tellBad(ctx, bar, `${path}:${line}: ${wrong}`, settings.bad === 'stop', bad);
    }
    if (n % TURN === 0) {
      yield* bar.show(lines.bytes, size);
      if ((yield* sys.sched_yield()) === -E.INTR || sys.signalled()) status = signalStatus(SIG.INT);
    }
  }
  const whole = yield* maker.finish();
  yield* bar.clear();
  yield* sys.close(fd);
  if (status !== 0) return status;
  if (!whole) return yield* ctx.fail(`${path}: its sequences were not made: ${maker.trouble}`);
  if (lines.error !== 0) return yield* ctx.failCall(path, lines.error);
  if (reader.error !== '') return yield* ctx.fail(`${path}: ${reader.error}`);
  if (bad > 0) yield* ctx.fail(`${path}: ${bad} bad ${bad === 1 ? 'line' : 'lines'} skipped`);
  if (maker.counts.sequences === 0) return yield* ctx.fail('No training data loaded');
  return { format, bytes: lines.bytes, digest: lines.digest(), bad, ...maker.counts };
}

/** Says what is wrong with a line. 0: it is skipped; 1: that was the end. */
function* tellBad(
  ctx: Caller,
  bar: ProgressBar,
  message: string,
  stops: boolean,
  count: number,
): Generator<void, number, void> {
  yield* bar.clear();
  if (stops) return yield* ctx.fail(`${message} (--bad skip goes on without it)`);
  if (count <= BAD_TOLD) yield* ctx.fail(message);
  return 0;
}
