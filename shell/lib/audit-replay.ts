// `llmctl audit replay`: requests of an audit log run again, and whether the tokens, the logits' checksum and the cycles are what was written
// down. The machine is deterministic, so a difference is a record that does not tell what happened, or a machine that is not the one it says.
// What cannot be run again is said with its reason and is no difference.

import { SIG } from '../../kernel/abi/index.ts';
import { isEnding } from '../../trust/index.ts';
import type { AuditOp } from '../../trust/index.ts';
import { AUDIT_DIRECTORY } from './audit-machine.ts';
import { ReplayLog } from './replay-log.ts';
import type { Said } from './replay-log.ts';
import { jsonLine, table } from './fmt.ts';
import { loadedModel } from './model.ts';
import { signalStatus } from './program.ts';
import type { ReplayContext } from './replay-options.ts';
import { ProgressBar } from './progress.ts';
import { Knowledge } from './replay-known.ts';
import { idsCheck, INTERRUPTED, runAgain, stopsCheck } from './replay-run.ts';
import type { Check } from './replay-run.ts';
import { Circumstances, Stage } from './replay-stage.ts';

type Run = Generator<void, number, void>;

/** What came of one record. */
interface Outcome {
  readonly number: number;
  readonly record: Said;
  /** Empty: it was not run again, and `why` says why not. */
  readonly checks: readonly Check[];
  readonly why: string;
}

/** Exit status 1: one differs, or the one that was asked for cannot be run again. */
export function* replay(ctx: ReplayContext, [word]: readonly string[]): Run {
  const { all, log: directory = AUDIT_DIRECTORY } = ctx.options;
  if (all !== (word === undefined)) return yield* ctx.usage('audit replay: the number of a record, or --all');
  if (word !== undefined && word !== 'last' && !/^[0-9]{1,15}$/.test(word))
    return yield* ctx.usage(`audit replay: '${word}' is not the number of a record, nor last`);
  const known = yield* Knowledge.gather(ctx);
  if (typeof known === 'number') return known;
  const log = yield* ReplayLog.open(ctx.sys, directory);
  if (typeof log === 'string') return yield* ctx.fail(log);
  const number = word === undefined ? null : word === 'last' ? yield* lastRequest(log) : Number(word);
  if (typeof number === 'string') return yield* ctx.fail(number);
  const stage = yield* Stage.open(ctx.sys);
  if (typeof stage === 'string') return yield* ctx.fail(stage);
  yield* ctx.sys.signal(SIG.INT, 1);
  const replayer = new Replayer(ctx, log, stage, known);
  const status = yield* number === null ? replayer.all() : replayer.one(number);
  yield* stage.restore();
  return status;
}

/** The newest record of a request's end; or why there is none. */
function* lastRequest(log: ReplayLog): Generator<void, number | string, void> {
  for (let n = log.size - 1; n >= 0; n--) {
    const record = yield* log.record(n);
    if (typeof record === 'string') return record;
    if (isEnding(record.text('arena8.op') as AuditOp)) return n;
  }
  return 'the log has no request';
}

class Replayer {
  constructor(
    private readonly ctx: ReplayContext,
    private readonly log: ReplayLog,
    private readonly stage: Stage,
    private readonly known: Knowledge,
  ) {}

  *one(number: number): Run {
    const { ctx } = this;
    const record = yield* this.log.record(number);
    if (typeof record === 'string') return yield* ctx.fail(record);
    const circumstances = yield* Circumstances.at(this.log, number);
    if (typeof circumstances === 'string') return yield* ctx.fail(circumstances);
    const outcome = yield* this.again(number, record, circumstances);
    if (outcome.why === INTERRUPTED) return signalStatus(SIG.INT);
    if (ctx.options.json) yield* ctx.out.print(jsonLine(outcomeJson(outcome)));
    else if (outcome.checks.length > 0) yield* ctx.out.print(detailText(outcome));
    if (outcome.checks.length === 0) return yield* ctx.fail(lineOf(outcome));
    return differences(outcome).length > 0 ? 1 : 0;
  }

  *all(): Run {
    const { ctx, log } = this;
    const bar = new ProgressBar(ctx, (done, total) => `${done} of ${total} records`);
    const circumstances = new Circumstances();
    const count = { requests: 0, agree: 0, differ: 0, skipped: 0 };
    let status = 0;
    for (let number = 0; number < log.size && status === 0; number++) {
      yield* bar.show(number, log.size);
      const record = yield* log.record(number);
      if (typeof record === 'string') {
        yield* bar.clear();
        return yield* ctx.fail(record);
      }
      circumstances.apply(record);
      if (!isEnding(record.text('arena8.op') as AuditOp)) continue;
      const outcome = yield* this.again(number, record, circumstances);
      if (outcome.why === INTERRUPTED) status = signalStatus(SIG.INT);
      else {
        count.requests++;
        count[outcome.checks.length === 0 ? 'skipped' : differences(outcome).length > 0 ? 'differ' : 'agree']++;
        yield* bar.clear();
        yield* ctx.out.print(ctx.options.json ? jsonLine(outcomeJson(outcome)) : `${lineOf(outcome)}\n`);
        yield* ctx.out.flush();
      }
    }
    yield* bar.show(log.size, log.size);
    yield* bar.end();
    yield* ctx.out.print(
      ctx.options.json
        ? jsonLine(count)
        : `${count.requests} request${count.requests === 1 ? '' : 's'}: ${count.agree} agree, ${count.differ} differ, ${count.skipped} not run again\n`,
    );
    return status || Number(count.differ > 0);
  }

  /** Runs one record again, if it can be. */
  private *again(number: number, record: Said, circumstances: Circumstances): Generator<void, Outcome, void> {
    const outcome = (checks: readonly Check[], why = ''): Outcome => ({ number, record, checks, why });
    const op = record.text('arena8.op') as AuditOp;
    if (op === 'submit') return outcome([], 'it is the submission of a request, whose end has a record of its own');
    if (!isEnding(op)) return outcome([], `it is no request, but ${op}`);
    if (op === 'reject') return outcome([], 'it was refused: nothing was run');
    if (!record.has('arena8.prompt.digest'))
      return outcome([], `it does not say of what: ${record.shown('arena8.message')}`);
    const known = yield* this.known.of(this.log, number, record);
    if (typeof known === 'string') return outcome([], known);
    const unset = yield* this.stage.set(record, circumstances);
    if (unset !== null) return outcome([], unset);
    const prompt = yield* this.known.idsOf(record, known);
    const model = yield* loadedModel(this.ctx.sys);
    if (typeof prompt === 'string') return outcome([], prompt);
    const { salt, stops } = known;
    const asked = idsCheck('prompt', 'arena8.prompt.digest', { record, salt }, prompt);
    if (asked.agrees === false) return outcome([asked]);
    const stopped = stops === null ? null : stopsCheck({ record, salt }, stops);
    if (stopped?.agrees === false) return outcome([asked, stopped]);
    const ctx = typeof model === 'number' ? 0 : model.ctx;
    const checks = yield* runAgain(this.ctx, { record, prompt, stops, salt, ctx });
    if (typeof checks === 'string') return outcome([], checks);
    return record.missing === '' ? outcome(checks) : outcome([], `it does not say ${record.missing}`);
  }
}

// ── What is told ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const differences = ({ checks }: Outcome): readonly Check[] => checks.filter(c => c.agrees === false);

/** `record 7: infer agrees`. */
function lineOf(outcome: Outcome): string {
  const { number, record, checks, why } = outcome;
  const head = `record ${number}: ${record.text('arena8.op', 'unknown')}`;
  if (checks.length === 0) return `${head} not run again: ${why}`;
  const differing = differences(outcome).map(c => c.what);
  return differing.length === 0 ? `${head} agrees` : `${head} DIFFERS in ${differing.join(', ')}`;
}

/** Every check on a line of its own; of one that differs both values. */
function detailText(outcome: Outcome): string {
  const { record } = outcome;
  const rows = outcome.checks.flatMap(({ what, recorded, replayed, agrees, why }) => {
    if (agrees !== false) return [[what, agrees === null ? `not compared: ${why}` : 'agrees', '']];
    return [
      [what, 'DIFFERS', `recorded ${recorded || 'nothing'}`],
      ['', '', `replayed ${replayed || 'nothing'}`],
    ];
  });
  const title = `session ${record.shown('gen_ai.conversation.id')} of power-on ${record.shown('arena8.boot')}, ${record.shown('gen_ai.request.model')}`;
  return `${title}\n${table(rows)}${lineOf(outcome)}\n`;
}

function outcomeJson(outcome: Outcome): Parameters<typeof jsonLine>[0] {
  const { number, record, checks, why } = outcome;
  const differing = differences(outcome);
  return {
    record: number,
    op: record.text('arena8.op', ''),
    result: checks.length === 0 ? 'skipped' : differing.length > 0 ? 'differs' : 'agrees',
    ...(checks.length === 0 ? { reason: why } : {}),
    checks: checks.map(c => ({
      what: c.what,
      recorded: c.recorded,
      ...(c.agrees === null ? { reason: c.why ?? '' } : { replayed: c.replayed }),
      agrees: c.agrees,
    })),
  };
}
