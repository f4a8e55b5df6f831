// llminfer: one inference request. The prompt goes to the kernel as an open descriptor, tokens come back as events, and each is shown the
// moment it is drawn. Every option is checked before anything runs; Ctrl-C ends the session at its next token and keeps what is there.

import {
  E,
  EVENT,
  FINISH,
  LIMITS,
  RNG,
  SESSION_FLAG,
  SIG,
  SessionEvent,
  SessionOptions,
  SessionReport,
  formatRefusal,
  refuse,
  utf8Decode,
  utf8Encode,
} from '../../kernel/abi/index.ts';
import type { FinishReason, RecordValue, Sys } from '../../kernel/abi/index.ts';
import { chatError, chatOptions, chatPrompt, openConversation, said, turnText, typedTurn } from '../lib/chat.ts';
import { jsonLine } from '../lib/fmt.ts';
import type { Json } from '../lib/fmt.ts';
import {
  base64,
  defaultChoice,
  failAbout,
  grouped,
  idsOf,
  isLoaded,
  isTerminal,
  kvName,
  loadModel,
  loadedModel,
  modelId,
  modelPath,
  openText,
  textSourceError,
  wrong,
} from '../lib/model.ts';
import type { Model } from '../lib/model.ts';
import { define, lastError, signalStatus } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { integer, numbersOf, samplerOptions, samplerRules } from '../lib/sampling.ts';
import { CHUNK_BYTES, concat } from '../lib/stdio.ts';

const options = {
  model: { short: 'm', value: 'M', help: 'run M, a file or a name in /models; loads it when another is loaded' },
  'max-tokens': {
    short: 'n',
    value: 'N',
    help: `draw at most N tokens, 1 to ${LIMITS.generationTokensMax} (default 64)`,
  },
  ...samplerOptions,
  seed: { short: 's', value: 'S', help: 'seed of the random draws (default 0)' },
  stop: { value: 'S', many: true, help: `end before the text S; up to ${LIMITS.stopStringsMax} of them` },
  file: { short: 'f', value: 'F', help: 'read the prompt from F' },
  json: { help: 'print one JSON object on one line when all is done' },
  logits: {
    value: 'K',
    help: `with --json: the K best logits of every step, at most ${LIMITS.topLogitsMax} (default 0, none)`,
  },
  rng: { value: 'NAME', help: 'random generator: xor128 (default) or lcg' },
  special: { help: "parse special tokens in the prompt's text" },
  ...chatOptions,
} as const;

type Ctx = Context<typeof options>;
type Event = RecordValue<typeof SessionEvent.fields>;
type Report = RecordValue<typeof SessionReport.fields>;

export const llminfer = define({
  name: 'llminfer',
  summary: 'let the model continue a text',
  usage: ['[OPTION]... PROMPT...', '[OPTION]... --file F', '[OPTION]... -', '[OPTION]... --chat [PROMPT...]'],
  description: [
    'The loaded model continues PROMPT; the new text alone is printed, as it comes, and a newline after it. Several words are joined by one space, - reads the prompt from standard input.',
    '',
    'Each token is drawn so: repeat penalty, temperature, top-k, top-p, min-p, then one random number. The same model, prompt, options and seed give the same bytes on every host. With xor128, seed 0 draws zeros only, so that the likeliest token wins each time; any other seed draws evenly. Generation ends at an end token, after N tokens, at a stop string, or when the context is full. Ctrl-C ends it at the next token; what is there stays, and the exit status is 130.',
    '',
    "With --chat PROMPT is what a user says to a model made for conversations: the model's chat template (metadata tokenizer.chat_template, in the language Jinja) writes it with its role and the special tokens that the model was trained on. The template is interpreted outside of the kernel, within limits, and can do nothing else. On a terminal and without PROMPT, llminfer asks for one turn after the other until Ctrl-D, and each answer is part of the next prompt.",
    '',
    'With --json:',
    '  id                number of the session',
    "  model             the model's file",
    '  prompt_tokens     token ids of the prompt, a BOS included where the model asks for it',
    '  tokens            ids drawn, with the end token when one was drawn',
    '  text              the new text; what is not UTF-8 becomes U+FFFD',
    '  text_b64          its exact bytes in base64',
    '  finish_reason     eos, length, stop, context, cancel, timeout, quota or fault',
    "  arena_peak_bytes  the whole machine's peak since the request was submitted",
    "  kv_bytes          the session's key-value cache",
    '  ctx, kv_type      context length in tokens, and f32, f16, q8_0 or q4_0',
    '  seed              the seed used',
    '  cycles            what the session was charged on the simulated processor',
    '  wcet_cycles       what it could have been charged at most, known before it ran',
    '  bcet_cycles       what the same request cannot take less than: the prompt and one token',
    '  ttft_ns           virtual time from submission to the first token, or null when there was none',
    '  elapsed_ns        virtual time from submission to the end',
    '  steps             with --logits K: for every draw {token, top}, top being the K best [id, logit] before penalty and temperature, exact f32 values',
    '  prompt            with --chat: the text that the template has written, without the BOS that the tokenizer puts before it',
    '',
    'Exit status: 0, 1 for an error or a session that faulted or ran out of time, 2 for a wrong command line, 130 after Ctrl-C.',
  ].join('\n'),
  options,
  usageStatus: 2,
  examples: [
    ['llminfer Once upon a time', 'a story in 64 tokens'],
    ['llminfer --temp 0 --max-tokens 200 "The cat"', 'the most likely story'],
    ['echo "Tom had a dog" | llminfer --seed 7 -', 'a prompt from a pipe'],
    ['llminfer --chat --system "Answer in one word." "What is the sea?"', 'one turn of a conversation'],
    ['llminfer --json --logits 5 --max-tokens 1 Hello', 'the five best candidates for the next token'],
  ],
  main: run,
});

function* run(ctx: Ctx): Generator<void, number, void> {
  const { sys } = ctx;
  const { chat, messages, model: name } = ctx.options;
  const record = sessionOptions(ctx.options);
  if (typeof record === 'string') return yield* wrong(ctx, record);
  const source = { file: ctx.options.file, words: ctx.operands };
  const silent = source.file === undefined && source.words.length === 0;
  const typed = chat && silent && messages === undefined && (yield* isTerminal(sys, 0));
  const spoken = typed || (chat && silent && messages !== undefined); // no PROMPT is needed
  const mistake = chatError(ctx.options) ?? (spoken ? null : textSourceError(source, 'PROMPT'));
  if (mistake !== null) return yield* ctx.usage(mistake);

  const prompt = spoken ? '' : yield* chat ? turnText(ctx, source) : openText(ctx, source);
  if (typeof prompt === 'number' && prompt < 0) return -prompt;
  if (name !== undefined) {
    const status = yield* useModel(ctx, name);
    if (status !== 0) return status;
  }
  const model = yield* loadedModel(sys);
  if (typeof model === 'number') return yield* failAbout(ctx, '', model);

  yield* sys.signal(SIG.INT, 1);
  if (typeof prompt === 'string') return yield* conversation(ctx, record, model, typed ? null : prompt);
  return (yield* infer(ctx, record, model, { fd: prompt, text: null })).status;
}

/** One turn and its answer; without a turn, as many as a person types. */
function* conversation(ctx: Ctx, record: Uint8Array, model: Model, turn: string | null): Generator<void, number, void> {
  let spoken = yield* openConversation(ctx, ctx.options);
  if (typeof spoken === 'number') return spoken;
  for (;;) {
    const next = turn ?? (yield* typedTurn(ctx.sys));
    if (next === null) return 0;
    const asked = next === '' ? spoken : said(spoken, 'user', next);
    const prompt = yield* chatPrompt(ctx, ctx.options, asked);
    const answer: Answer =
      typeof prompt === 'number' ? { status: prompt, text: null } : yield* infer(ctx, record, model, prompt);
    if (turn !== null) return answer.status;
    if (answer.text !== null) spoken = said(asked, 'assistant', answer.text); // a turn without an answer is forgotten
  }
}

/** How an inference ended, and what the model said; null when it was refused. */
interface Answer {
  readonly status: number;
  readonly text: string | null;
}

/** A prompt that waits in a descriptor; its text where a template wrote it. */
interface Prompt {
  readonly fd: number;
  readonly text: string | null;
}

function* infer(ctx: Ctx, record: Uint8Array, model: Model, prompt: Prompt): Generator<void, Answer, void> {
  const { sys } = ctx;
  const session = yield* sys.session_open(record, prompt.fd);
  yield* sys.close(prompt.fd);
  if (session < 0) return { status: yield* ctx.fail(yield* lastError(sys, session)), text: null };
  return yield* converse(ctx, session, model, prompt.text);
}

/** Loads the model that --model names unless it is the loaded one. Returns an exit status. */
function* useModel(ctx: Ctx, name: string): Generator<void, number, void> {
  const { sys } = ctx;
  const path = yield* modelPath(sys, name);
  if (yield* isLoaded(sys, path)) return 0;
  const result = yield* loadModel(sys, path, defaultChoice);
  if (result < 0) return yield* failAbout(ctx, path, result);
  const model = yield* loadedModel(sys);
  if (typeof model !== 'number' && (yield* isTerminal(sys, 2)))
    yield* ctx.err.print(
      `llminfer: loaded ${model.name} from ${model.path}, context ${model.ctx} ${kvName(model.kvType)}\n`,
    );
  return 0;
}

/** Shows a session's output as it comes, or gathers it for --json. */
function* converse(ctx: Ctx, session: number, model: Model, prompt: string | null): Generator<void, Answer, void> {
  const { sys, out } = ctx;
  const buffer = new Uint8Array(CHUNK_BYTES);
  const json = ctx.options.json;
  const watched = (yield* isTerminal(sys, 1)) && (yield* isTerminal(sys, 2));
  const pieces: Uint8Array[] = [];
  const tokens: number[] = [];
  const steps: Json[] = [];
  while ((yield* nextEvent(sys, session, buffer)) > 0) {
    const event = SessionEvent.read(buffer, 0);
    const piece = buffer.subarray(SessionEvent.bytes, SessionEvent.bytes + event.pieceBytes);
    pieces.push(piece.slice());
    if (!json) {
      yield* out.write(piece);
      yield* out.flush();
    }
    if (event.kind !== EVENT.token) continue;
    tokens.push(event.token);
    if (event.topCount > 0) steps.push(step(event, buffer));
  }

  const record = new Uint8Array(SessionReport.bytes);
  yield* sys.session_report(session, record);
  const report = SessionReport.read(record, 0);
  const finish = FINISH[report.finish] ?? 'fault';
  const bytes = concat(pieces);
  const text = utf8Decode(bytes);
  if (json) {
    yield* out.print(
      jsonLine({
        id: report.id,
        model: modelId(model),
        prompt_tokens: yield* promptTokens(sys, report),
        tokens,
        text,
        text_b64: base64(bytes),
        finish_reason: finish,
        arena_peak_bytes: report.arenaPeak,
        kv_bytes: report.kvBytes,
        ctx: model.ctx,
        kv_type: kvName(model.kvType),
        seed: report.seed,
        cycles: report.cycles,
        wcet_cycles: report.wcetCycles,
        bcet_cycles: report.bcetCycles,
        ttft_ns: report.firstTokenNs === 0 ? null : report.firstTokenNs - report.submittedNs,
        elapsed_ns: report.endedNs - report.submittedNs,
        ...(ctx.options.logits === undefined || Number(ctx.options.logits) === 0 ? {} : { steps }),
        ...(prompt === null ? {} : { prompt }),
      }),
    );
  } else yield* out.print('\n');
  yield* sys.session_close(session);
  if (!json && watched) {
    yield* out.flush();
    yield* ctx.err.print(summary(report));
  }
  return { status: yield* exitStatus(ctx, session, finish), text };
}

/** The next event; a Ctrl-C meanwhile cancels the session, whose events still come. Returns its bytes, 0 after the end. */
function* nextEvent(sys: Sys, session: number, buffer: Uint8Array): Generator<void, number, void> {
  for (;;) {
    const n = yield* sys.session_read(session, buffer);
    if (n !== -E.INTR) return n;
    yield* sys.session_cancel(session);
  }
}

function step(event: Event, buffer: Uint8Array): Json {
  const view = new DataView(buffer.buffer, SessionEvent.bytes + event.pieceBytes, event.topCount * 8);
  const top = Array.from({ length: event.topCount }, (_, i) => [
    view.getUint32(i * 8, true),
    view.getFloat32(i * 8 + 4, true),
  ]);
  return { token: event.token, top };
}

/** For a person at the terminal: what it took, within what was known before it ran. */
function summary(r: Report): string {
  const seconds = ((r.endedNs - r.submittedNs) / 1e9).toFixed(2);
  const [cycles, least, most] = [r.cycles, r.bcetCycles, r.wcetCycles].map(grouped);
  return `llminfer: ${r.outputTokens} tokens in ${seconds} s of virtual time: ${cycles} cycles, bounds ${least} and ${most}\n`;
}

function* promptTokens(sys: Sys, report: Report): Generator<void, number[], void> {
  const ids: number[] = [];
  const buffer = new Uint8Array(CHUNK_BYTES);
  while (ids.length < report.promptTokens) {
    const n = yield* sys.session_tokens(report.id, ids.length, buffer);
    if (n <= 0) break;
    ids.push(...idsOf(buffer.subarray(0, n)));
  }
  return ids.slice(0, report.promptTokens);
}

function* exitStatus(ctx: Ctx, session: number, finish: FinishReason): Generator<void, number, void> {
  if (finish === 'cancel') return signalStatus(SIG.INT);
  if (finish === 'fault') return yield* ctx.fail(formatRefusal(refuse('IO', 5002, `session ${session} faulted`)));
  if (finish === 'quota')
    return yield* ctx.fail(formatRefusal(refuse('DQUOT', 3003, `session ${session} used its user's tokens up`)));
  if (finish === 'timeout')
    return yield* ctx.fail(
      formatRefusal(
        refuse('TIMEDOUT', 2004, `session ${session} took longer than ${LIMITS.sessionTimeoutMs} ms of virtual time`),
      ),
    );
  return 0;
}

// ── Options ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const rules = {
  // 0 leaves the kernel its default, cut to what the context leaves.
  maxTokens: integer('max-tokens', 1, LIMITS.generationTokensMax, 0),
  ...samplerRules,
  seed: integer('seed', -(2 ** 31), 2 ** 31 - 1, 0),
  logitsK: integer('logits', 0, LIMITS.topLogitsMax, 0),
};

/** The SessionOptions record, or what is wrong with an option. */
function sessionOptions(given: Ctx['options']): Uint8Array | string {
  const values = numbersOf(rules, given);
  if (typeof values === 'string') return values;
  const { rng = 'xor128' } = given;
  if (!Object.hasOwn(RNG, rng)) return `--rng '${rng}' is not xor128 or lcg`;
  if (values.logitsK > 0 && !given.json) return `--logits ${values.logitsK} needs --json`;
  const stops = given.stop.map(utf8Encode);
  if (stops.length > LIMITS.stopStringsMax)
    return `--stop given ${stops.length} times, ${LIMITS.stopStringsMax} at most`;
  const badStop = stops.findIndex(s => s.length === 0 || s.length > LIMITS.stopBytes);
  if (badStop >= 0)
    return `--stop '${given.stop[badStop]}' is ${stops[badStop]!.length} bytes, 1 to ${LIMITS.stopBytes} are allowed`;

  const record = new Uint8Array(SessionOptions.bytes);
  SessionOptions.write(record, 0, {
    ...values,
    rng: RNG[rng as keyof typeof RNG],
    stopCount: stops.length,
    flags: given.special || given.chat ? SESSION_FLAG.special : 0,
  });
  let at = SessionOptions.at.stopBytes;
  for (const stop of stops) {
    record[at] = stop.length;
    record.set(stop, at + 1);
    at += 1 + stop.length;
  }
  return record;
}
