// One request run again as its record has it, and what came of it. The run is an inference like any other, with a record of its own in this
// machine's log: what is compared are the two records, attribute by attribute, and the tokens, whose digests are salted, by the old salt.

import { PRIORITY_DEFAULT, RNG, SERVER, SESSION_FLAG, SESSION_KIND, SessionOptions } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { fromHex, isEnding, sha256, toHex } from '../../trust/index.ts';
import type { AttributeName, AuditOp } from '../../trust/index.ts';
import { writeScales } from './adapters.ts';
import { AUDIT_DIRECTORY } from './audit-machine.ts';
import { ReplayLog } from './replay-log.ts';
import type { Said } from './replay-log.ts';
import { idBytes, openBytes } from './model.ts';
import { lastError } from './program.ts';
import type { Context } from './program.ts';
import { writeStops } from './request.ts';
import { finishOf, nextEvent, reportOf, tokensOf } from './sessions.ts';
import { CHUNK_BYTES } from './stdio.ts';

type Ctx = Pick<Context, 'sys' | 'fail'>;

/** What a request was, and what is known of it beside its record. */
export interface Request {
  readonly record: Said;
  readonly prompt: readonly number[];
  /** Strings that end it, as bytes; null: not known. */
  readonly stops: readonly Uint8Array[] | null;
  /** Of its record, in hexadecimal digits; null: not disclosed. */
  readonly salt: string | null;
  /** Positions of the loaded model's context. */
  readonly ctx: number;
}

/** One thing that both runs say. */
export interface Check {
  readonly what: string;
  readonly recorded: string;
  readonly replayed: string;
  /** null: it was not compared. */
  readonly agrees: boolean | null;
  /** Why it was not. */
  readonly why?: string;
}

/** A run, by its own record and the tokens it drew. */
interface Run {
  readonly record: Said;
  readonly output: readonly number[];
}

/** What `runAgain` answers after Ctrl-C. */
export const INTERRUPTED = 'interrupted';

/** A day of the machine's time: what is run again is not given up. */
const PATIENCE_MS = 86_400_000;

type Compared = readonly (readonly [what: string, name: AttributeName])[];
const COMPARED = {
  beginning: [
    ['plan', 'arena8.plan.digest'],
    ['prompt tokens', 'gen_ai.usage.input_tokens'],
    ['generator at first', 'arena8.rng.begin'],
    ['least cycles', 'arena8.cycles.least'],
    ['most cycles', 'arena8.cycles.most'],
  ],
  tokens: [
    ['output tokens', 'gen_ai.usage.output_tokens'],
    ['logits', 'arena8.logits.sum'],
    ['loss', 'arena8.nll'],
    ['generator at last', 'arena8.rng.end'],
    ['cycles', 'arena8.cycles'],
  ],
  end: [['finish', 'gen_ai.response.finish_reasons']],
} as const satisfies Record<string, Compared>;

/** What a session does behind its last token before it faults, and before a quota stops it, is in these too. */
const BEHIND_LAST: Readonly<Record<string, readonly string[]>> = {
  fault: ['logits', 'generator at last', 'cycles'],
  exhausted: ['cycles'],
};

/** Requests that something outside of them ended: what came before that is the same. */
const isCutOff = (op: string): boolean => ['cancel', 'timeout', 'exhausted', 'fault'].includes(op);

// ── What was given ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

function salted(salt: string, ...parts: readonly Uint8Array[]): string {
  return toHex(sha256(fromHex(salt) ?? new Uint8Array(0), ...parts));
}

/** Whether these ids are what the record has a digest of; null: its salt is not disclosed. */
export function idsCheck(
  what: string,
  name: AttributeName,
  { record, salt }: Pick<Request, 'record' | 'salt'>,
  ids: readonly number[],
): Check {
  const recorded = record.shown(name);
  if (salt === null) return { what, recorded, replayed: '', agrees: null, why: 'its salt is not disclosed' };
  const replayed = salted(salt, idBytes(ids));
  return { what, recorded, replayed, agrees: recorded === replayed };
}

/** The same of stop strings, as SessionOptions holds them: each behind a byte that is its length. */
export function stopsCheck({ record, salt }: Pick<Request, 'record' | 'salt'>, stops: readonly Uint8Array[]): Check {
  const recorded = record.shown('arena8.stops.digest');
  if (salt === null || stops.length === 0) {
    const count = record.number('arena8.request.stops', 0);
    return { what: 'stop strings', recorded: `${count}`, replayed: `${stops.length}`, agrees: count === stops.length };
  }
  const replayed = salted(salt, ...stops.flatMap(stop => [Uint8Array.of(stop.length), stop]));
  return { what: 'stop strings', recorded, replayed, agrees: recorded === replayed };
}

// ── Running ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Runs a request again on the stage that is set. Returns what was compared; or why it could not be run. */
export function* runAgain(ctx: Ctx, request: Request): Generator<void, readonly Check[] | string, void> {
  const { record, stops } = request;
  const op = record.text('arena8.op');
  const drawn = record.number('gen_ai.usage.output_tokens', 0);
  const finish = record.shown('gen_ai.response.finish_reasons');
  const prompt = idsCheck('prompt', 'arena8.prompt.digest', request, request.prompt);
  const unknownStop = stops === null && finish === 'stop';
  if (!isCutOff(op) && !unknownStop) {
    const again = yield* run(ctx, request, 'whole');
    if (typeof again === 'string') return again;
    const { beginning, tokens, end } = COMPARED;
    return [prompt, ...compared(request, again, [...beginning, ...tokens, ...end]), output(request, again)];
  }
  if (isScored(record)) return 'the text was not scored to its end';
  // Bounds are those of the whole request; the tokens those of one that ends by itself where this one was ended.
  const begun = yield* run(ctx, request, 'begun');
  if (typeof begun === 'string') return begun;
  const again = drawn === 0 ? begun : yield* run(ctx, request, drawn);
  if (typeof again === 'string') return again;
  const loose = [...(BEHIND_LAST[op] ?? []), ...(drawn === 0 ? ['cycles'] : [])];
  const why = unknownStop ? 'its stop strings are not given' : 'it was ended from outside';
  return [
    prompt,
    ...compared(request, begun, COMPARED.beginning),
    ...compared(request, again, COMPARED.tokens, loose),
    output(request, again),
    { what: 'finish', recorded: finish, replayed: '', agrees: null, why },
  ];
}

/** `whole`: to its end; `begun`: cancelled at once; a number: for so many tokens. */
function* run(ctx: Ctx, request: Request, extent: 'whole' | 'begun' | number): Generator<void, Run | string, void> {
  const { sys } = ctx;
  const prompt = yield* openBytes(ctx, idBytes(request.prompt));
  if (prompt < 0) return 'there is no memory for its prompt';
  const session = yield* sys.session_open(optionsOf(request, extent), prompt);
  yield* sys.close(prompt);
  if (session < 0) return `it is refused: ${yield* lastError(sys, session)}`;
  if (extent === 'begun') yield* sys.session_cancel(session);
  const buffer = new Uint8Array(CHUNK_BYTES);
  while ((yield* nextEvent(sys, session, buffer)) !== null);
  const report = yield* reportOf(sys, session);
  if (typeof report === 'number') return 'its session was closed by somebody else';
  const { output } = yield* tokensOf(sys, session, report);
  yield* sys.session_close(session);
  if (finishOf(report) === 'cancel' && extent !== 'begun') return INTERRUPTED;
  const record = yield* recordOf(sys, report.id);
  return typeof record === 'string' ? record : { record, output };
}

/** The request as the kernel takes it. When it is served does not change what it says: it is run as the others leave time. */
function optionsOf({ record, prompt, stops, ctx }: Request, extent: 'whole' | 'begun' | number): Uint8Array {
  const asked = record.number('gen_ai.request.max_tokens');
  // The default, unlike a number that was asked for, may be more than the context leaves.
  const most = typeof extent === 'number' ? extent : prompt.length + asked > ctx ? 0 : asked;
  const given = stops ?? [];
  const bytes = new Uint8Array(SessionOptions.bytes);
  SessionOptions.write(bytes, 0, {
    maxTokens: most,
    temp: record.number('gen_ai.request.temperature'),
    topK: record.number('gen_ai.request.top_k'),
    topP: record.number('gen_ai.request.top_p'),
    minP: record.number('arena8.request.min_p'),
    repeatPenalty: record.number('arena8.request.repeat_penalty'),
    seed: record.number('gen_ai.request.seed'),
    rng: RNG[record.text('arena8.request.rng') as keyof typeof RNG] ?? RNG.xor128,
    logitsK: record.number('arena8.request.logits', 0),
    kind: isScored(record) ? SESSION_KIND.score : SESSION_KIND.generate,
    flags: SESSION_FLAG.ids,
    priority: PRIORITY_DEFAULT,
    server: SERVER.none,
    timeoutMs: PATIENCE_MS,
    stopCount: given.length,
  });
  writeStops(bytes, given);
  if (record.has('arena8.request.scales')) writeScales(bytes, record.words('arena8.request.scales').map(Number));
  return bytes;
}

export const isScored = (record: Said): boolean => record.text('gen_ai.operation.name', '') === 'score';

/** The record that this machine has just made of the end of a session: one of the newest. */
function* recordOf(sys: Sys, session: number): Generator<void, Said | string, void> {
  const log = yield* ReplayLog.open(sys, AUDIT_DIRECTORY);
  if (typeof log === 'string') return `this machine's log cannot be read: ${log}`;
  for (let n = log.size - 1; n >= 0; n--) {
    const record = yield* log.record(n);
    if (typeof record === 'string') return record;
    const op = record.text('arena8.op') as AuditOp;
    if (op === 'boot') break; // what is before is another machine's
    if (isEnding(op) && record.text('gen_ai.conversation.id', '') === String(session)) return record;
  }
  return `session ${session} left no record`;
}

// ── Comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Attributes of both records. Those in `loose` may differ, the request having gone on behind its last token: of cycles there can be more then,
 * up to their bound.
 */
function compared({ record }: Request, again: Run, names: Compared, loose: readonly string[] = []): Check[] {
  return names
    .filter(([, name]) => record.has(name) || again.record.has(name))
    .map(([what, name]) => {
      const [recorded, replayed] = [record.shown(name), again.record.shown(name)];
      const isCharge = name !== 'arena8.cycles' || isBetween(Number(recorded), Number(replayed), record);
      if (recorded === replayed || !loose.includes(what) || !isCharge)
        return { what, recorded, replayed, agrees: recorded === replayed };
      return {
        what,
        recorded,
        replayed,
        agrees: null,
        why: `it went on behind its last token, where it was ${replayed}`,
      };
    });
}

const isBetween = (cycles: number, least: number, record: Said): boolean =>
  cycles >= least && cycles <= record.number('arena8.cycles.most');

function output(request: Request, again: Run): Check {
  return idsCheck('output', 'arena8.output.digest', request, again.output);
}
