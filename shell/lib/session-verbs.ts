// llmctl submit, poll, cancel, sessions, summary: sessions that run without a program waiting for them, as at jobs of a batch system. What
// is printed in brackets is the specification's (SIS §14).

import { FINISH, utf8Decode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { toBase64 } from '../../trust/index.ts';
import { readAccounts } from './accounts.ts';
import { chooseAdapters } from './adapters.ts';
import { jsonLine, table, times } from './fmt.ts';
import { failAbout, loadedModel, modelId, openText, parseInteger, textSourceError, wrong } from './model.ts';
import type { Context } from './program.ts';
import { flagsOf, requestOptions, sessionRecord } from './request.ts';
import {
  faultText,
  findSession,
  finishOf,
  hasEnded,
  readyPieces,
  reportOf,
  scheduleJson,
  sessionCells,
  sessionRight,
  sessionTable,
  sessionTitles,
  stateName,
  tokensOf,
} from './sessions.ts';
import type { SessionRow } from './sessions.ts';
import { concat } from './stdio.ts';

interface Switch {
  readonly help: string;
}
type Ctx = Context<typeof requestOptions & { json: Switch; special: Switch; file: Switch & { value: string } }>;
type Run = Generator<void, number, void>;

const pollTokens = 4;

/** Submits a prompt and leaves it to run; prints its id. */
export function* submit(ctx: Ctx, words: readonly string[]): Run {
  const { sys, options } = ctx;
  const flags = flagsOf({ special: options.special, detached: true });
  const record = sessionRecord(options, (yield* times(sys)).hz, { flags, logitsK: 0 });
  if (typeof record === 'string') return yield* wrong(ctx, record);
  const unchosen = yield* chooseAdapters(sys, record, options.adapter);
  if (unchosen !== null) return yield* wrong(ctx, unchosen);
  const source = { file: options.file, words };
  const mistake = textSourceError(source, 'PROMPT');
  if (mistake !== null) return yield* ctx.usage(`submit: ${mistake}`);
  const prompt = yield* openText(ctx, source);
  if (prompt < 0) return -prompt;
  const session = yield* sys.session_open(record, prompt);
  if (session < 0) return yield* failAbout(ctx, '', session);
  const report = yield* reportOf(sys, session);
  if (typeof report === 'number') return yield* failAbout(ctx, '', report);
  yield* ctx.out.print(options.json ? jsonLine({ id: report.id }) : `${report.id}\n`);
  return 0;
}

/** What is new of a session's output, MAX tokens at most: never waits. With the last of one that faulted comes the reason, and status 1. */
export function* poll(ctx: Ctx, [word = 'last', most = String(pollTokens)]: readonly string[]): Run {
  const { sys, out } = ctx;
  const max = parseInteger(most);
  if (max === null || max < 1) return yield* wrong(ctx, `MAX '${most}' is not an integer from 1 on`);
  const found = yield* findSession(ctx, word);
  if (typeof found === 'number') return found;
  const { handle, report } = found;
  const pieces = yield* readyPieces(sys, handle, report, max);
  const bytes = concat(pieces);
  const tokens = (yield* tokensOf(sys, handle, report)).output.slice(report.consumed, report.consumed + max);
  const done = report.endedNs !== 0 && report.consumed + tokens.length >= report.outputTokens;
  const model = yield* modelName(sys);
  if (ctx.options.json)
    yield* out.print(
      jsonLine({
        id: report.id,
        state: stateName(report),
        finish_reason: report.finish === FINISH.indexOf('') ? null : finishOf(report),
        tokens,
        text: utf8Decode(bytes),
        text_b64: toBase64(bytes),
        done,
        prompt_length: report.promptTokens,
        output_length: report.outputTokens,
        model,
      }),
    );
  else {
    yield* out.print(
      `[LLM][POLL] id=${report.id} n=${tokens.length} done=${Number(done)} plen=${report.promptTokens} model=${model ?? 'none'}\n`,
    );
    if (bytes.length > 0) {
      yield* out.write(bytes);
      yield* out.print('\n');
    }
  }
  return done && finishOf(report) === 'fault' ? yield* ctx.fail(faultText(report)) : 0;
}

function* modelName(sys: Sys): Generator<void, string | null, void> {
  const model = yield* loadedModel(sys);
  return typeof model === 'number' ? null : modelId(model);
}

/** Ends a session at its next token; one that has ended is forgotten. */
export function* cancel(ctx: Ctx, [word = 'last']: readonly string[]): Run {
  const { sys, out } = ctx;
  const found = yield* findSession(ctx, word);
  if (typeof found === 'number') return found;
  const { handle, report } = found;
  const ended = report.endedNs !== 0;
  const result = yield* ended ? sys.session_close(handle) : sys.session_cancel(handle);
  if (result < 0) return yield* failAbout(ctx, '', result);
  const did = ended ? 'forgotten' : 'cancelled';
  yield* out.print(ctx.options.json ? jsonLine({ id: report.id, [did]: true }) : `session ${report.id} ${did}\n`);
  return 0;
}

/** The sessions that this user may see, in a table. */
export function* sessions(ctx: Ctx): Run {
  const { sys, out } = ctx;
  const all = yield* sessionTable(sys);
  if (typeof all === 'number') return yield* ctx.fail('/proc/sessions', -all);
  const accounts = yield* readAccounts(sys);
  const { hz } = yield* times(sys);
  if (ctx.options.json)
    yield* out.print(
      jsonLine({
        sessions: all.map(s => ({
          id: s.id,
          state: s.state,
          finish_reason: s.finish === '-' ? null : s.finish,
          prompt_length: s.promptTokens,
          output_length: s.outputTokens,
          consumed: s.consumed,
          cycles: s.cycles,
          swapped_pages: s.swappedPages,
          ...scheduleJson(s, accounts.userName(s.uid) ?? null),
        })),
      }),
    );
  else {
    const rows = all.map(s => sessionCells(s, accounts, hz));
    yield* out.print(table([sessionTitles, ...rows], sessionRight));
  }
  return 0;
}

/** The specification's list of sessions. */
export function* summary(ctx: Ctx): Run {
  const { sys, out } = ctx;
  const all = yield* sessionTable(sys);
  if (typeof all === 'number') return yield* ctx.fail('/proc/sessions', -all);
  const model = yield* modelName(sys);
  const facts = (s: SessionRow) => ({
    id: s.id,
    tokens: s.outputTokens,
    consumed: s.consumed,
    done: hasEnded(s),
    ts_ns: s.submittedNs,
    model,
  });
  if (ctx.options.json) yield* out.print(jsonLine({ count: all.length, sessions: all.map(facts) }));
  else {
    const lines = all.map(s => {
      const pairs = Object.entries(facts(s)).map(
        ([key, value]) => `${key}=${typeof value === 'boolean' ? Number(value) : (value ?? 'none')}`,
      );
      return `[LLM][SESS] ${pairs.join(' ')}\n`;
    });
    yield* out.print(`[LLM][SESSIONS] count=${all.length}\n${lines.join('')}`);
  }
  return 0;
}
