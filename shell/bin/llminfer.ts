// llminfer: one inference request. The prompt goes to the kernel as an open descriptor, tokens come back as events, and each is shown the
// moment it is drawn. Every option is checked before anything runs; Ctrl-C ends the session at its next token and keeps what is there. What
// was promised about its time is shown beside what it took.

import { LIMITS, SIG, utf8Decode } from '../../kernel/abi/index.ts';
import { toBase64 } from '../../trust/index.ts';
import { readAccounts } from '../lib/accounts.ts';
import { chooseAdapters } from '../lib/adapters.ts';
import { chatError, chatOptions, chatPrompt, openConversation, said, turnText, typedTurn } from '../lib/chat.ts';
import { jsonLine, times } from '../lib/fmt.ts';
import type { Json } from '../lib/fmt.ts';
import {
  defaultChoice,
  failAbout,
  grouped,
  isLoaded,
  isTerminal,
  kvName,
  loadModel,
  loadedModel,
  modelId,
  modelPath,
  openIds,
  openText,
  textSourceError,
  wrong,
} from '../lib/model.ts';
import type { Model, TextSource } from '../lib/model.ts';
import { define, lastError } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { drawOptions, flagsOf, promiseOptions, sessionRecord } from '../lib/request.ts';
import { integer, numbersOf } from '../lib/sampling.ts';
import {
  deadlineLine,
  endStatus,
  findSession,
  finishOf,
  lastReport,
  logitsText,
  nextEvent,
  reportOf,
  scheduleJson,
  tokensOf,
  verdictOf,
} from '../lib/sessions.ts';
import type { Happening, Report } from '../lib/sessions.ts';
import { CHUNK_BYTES, concat } from '../lib/stdio.ts';

const options = {
  model: { short: 'm', value: 'M', help: 'run M, a file or a name in /models; loads it when another is loaded' },
  ...drawOptions,
  file: { short: 'f', value: 'F', help: 'read the prompt from F' },
  ids: { value: 'F', help: 'the prompt is the token ids in F (- standard input): decimal, with blanks between' },
  json: { help: 'print one JSON object on one line when all is done' },
  logits: {
    value: 'K',
    help: `with --json: the K best logits of every step, at most ${LIMITS.topLogitsMax} (default 0, none)`,
  },
  special: { help: "parse special tokens in the prompt's text" },
  ...chatOptions,
  ...promiseOptions,
  keep: { help: 'keep the session when it has ended: --continue can follow it, until memory is wanted' },
  detach: { help: 'print the id of the session and leave it to run: llmctl poll, llminfer --attach' },
  attach: { value: 'ID', help: 'show what session ID, detached before, has yet to say, to its end' },
} as const;

type Ctx = Context<typeof options>;

export const llminfer = define({
  name: 'llminfer',
  summary: 'let the model continue a text',
  usage: [
    '[OPTION]... PROMPT...',
    '[OPTION]... --file F',
    '[OPTION]... -',
    '[OPTION]... --ids F',
    '[OPTION]... --chat [PROMPT...]',
    '--attach ID [--json]',
  ],
  description: [
    'The loaded model continues PROMPT; the new text alone is printed, as it comes, and a newline after it. Several words are joined by one space, - reads the prompt from standard input.',
    '',
    'Each token is drawn so: repeat penalty, temperature, top-k, top-p, min-p, then one random number. The same model, prompt, options and seed give the same bytes on every host. With xor128, seed 0 draws zeros only, so that the likeliest token wins each time; any other seed draws evenly. Generation ends at an end token, after N tokens, at a stop string, or when the context is full. Ctrl-C ends it at the next token; what is there stays, and the exit status is 130.',
    '',
    "With --chat PROMPT is what a user says to a model made for conversations: the model's chat template (metadata tokenizer.chat_template, in the language Jinja) writes it with its role and the special tokens that the model was trained on. The template is interpreted outside of the kernel, within limits, and can do nothing else. On a terminal and without PROMPT, llminfer asks for one turn after the other until Ctrl-D, and each answer is part of the next prompt.",
    '',
    'With --deadline the kernel proves before it begins that the request ends in time whatever others do, or refuses it with the time that it could promise. With --period it gets a server: a budget of cycles that is filled up every period, which nobody else can take and which it cannot exceed; the servers of all together may not ask more than the processor has (llmctl status). Without either it runs in turn with others, in the time that servers leave.',
    '',
    'On a terminal two lines follow the output on standard error: what it took, and [LLM][DEADLINE] ok or miss, with the time that it took, the time expected (its deadline; else the bound that its server promises; else what the cycles charged may be at most) and what was left. Out of time is a miss, too.',
    '',
    'What sessions are and who runs next is in sessions(7), the keys of --json in json(7): man sessions, man json.',
    '',
    'Exit status: 0, 1 for an error, a refusal, or a session that faulted, ran out of time or of its budget, 2 for a wrong command line, 130 after Ctrl-C.',
  ].join('\n'),
  options,
  usageStatus: 2,
  examples: [
    ['llminfer Once upon a time', 'a story in 64 tokens'],
    ['llminfer --temp 0 --max-tokens 200 "The cat"', 'the most likely story'],
    ['echo "Tom had a dog" | llminfer --seed 7 -', 'a prompt from a pipe'],
    ['llmctl tokenize --bos Once | llminfer --ids -', 'a prompt that is token ids'],
    ['llminfer --chat --system "Answer in one word." "What is the sea?"', 'one turn of a conversation'],
    ['llminfer --json --logits 5 --max-tokens 1 Hello', 'the five best candidates for the next token'],
    ['llminfer --deadline 1000 --max-tokens 20 Once', 'twenty tokens within a second, or a refusal now'],
    ['llminfer --period 500 Once', 'a token every 500 ms at least, whoever else runs'],
    ['llminfer --keep Once; llminfer --continue 1 " Then"', 'go on with session 1, whose text is not computed again'],
  ],
  main: run,
});

function* run(ctx: Ctx): Generator<void, number, void> {
  const { sys } = ctx;
  const { chat, messages, ids, model: name } = ctx.options;
  if (ctx.options.attach !== undefined) return yield* attach(ctx, ctx.options.attach);
  const record = yield* requestRecord(ctx);
  if (typeof record === 'string') return yield* wrong(ctx, record);
  const source = { file: ctx.options.file, words: ctx.operands };
  const silent = source.file === undefined && source.words.length === 0;
  const typed = chat && silent && messages === undefined && (yield* isTerminal(sys, 0));
  const spoken = typed || (chat && silent && messages !== undefined); // no PROMPT is needed
  const mistake =
    chatError(ctx.options) ?? idsError(ctx) ?? (spoken || ids !== undefined ? null : textSourceError(source, 'PROMPT'));
  if (mistake !== null) return yield* ctx.usage(mistake);

  const prompt = spoken ? '' : yield* promptOf(ctx, source);
  if (typeof prompt === 'number' && prompt < 0) return -prompt;
  if (name !== undefined) {
    const status = yield* useModel(ctx, name);
    if (status !== 0) return status;
  }
  const model = yield* loadedModel(sys);
  if (typeof model === 'number') {
    // Asked all the same: the kernel refuses it, and writes that down.
    if (typeof prompt === 'number') yield* sys.session_open(record, prompt);
    return yield* failAbout(ctx, '', model);
  }
  const unchosen = yield* chooseAdapters(sys, record, ctx.options.adapter);
  if (unchosen !== null) return yield* wrong(ctx, unchosen);

  yield* sys.signal(SIG.INT, 1);
  if (typeof prompt === 'string') return yield* conversation(ctx, record, model, typed ? null : prompt);
  return (yield* infer(ctx, record, model, { fd: prompt, text: null })).status;
}

/** What is wrong with --ids beside others, or null. */
function idsError({ options: { ids, chat, file, special }, operands }: Ctx): string | null {
  if (ids === undefined) return null;
  const other = chat ? '--chat' : file !== undefined ? '--file' : special ? '--special' : 'PROMPT';
  return other === 'PROMPT' && operands.length === 0 ? null : `--ids and ${other} exclude each other`;
}

/** What the model is given: a turn of a conversation, or a descriptor; or minus the exit status, after a message. */
function* promptOf(ctx: Ctx, source: TextSource): Generator<void, string | number, void> {
  const { chat, ids } = ctx.options;
  if (ids !== undefined) return yield* openIds(ctx, ids);
  return yield* chat ? turnText(ctx, source) : openText(ctx, source);
}

/** The SessionOptions record that the options ask for, or what is wrong with one. */
function* requestRecord({ sys, options: given }: Ctx): Generator<void, Uint8Array | string, void> {
  const values = numbersOf({ logitsK: integer('logits', 0, LIMITS.topLogitsMax, 0) }, given);
  if (typeof values === 'string') return values;
  if (values.logitsK > 0 && !given.json) return `--logits ${values.logitsK} needs --json`;
  if (given.detach && given.json) return '--detach and --json exclude each other: llminfer --attach ID --json';
  const flags = flagsOf({
    special: given.special || given.chat,
    detached: given.keep || given.detach,
    ids: given.ids !== undefined,
  });
  return sessionRecord(given, (yield* times(sys)).hz, { flags, logitsK: values.logitsK });
}

/** The rest of a detached session, as if it had just been submitted. */
function* attach(ctx: Ctx, word: string): Generator<void, number, void> {
  const { sys } = ctx;
  if (ctx.operands.length > 0 || ctx.options.file !== undefined) return yield* ctx.usage('--attach takes no PROMPT');
  const found = yield* findSession(ctx, word);
  if (typeof found === 'number') return found;
  const model = yield* loadedModel(sys);
  if (typeof model === 'number') return yield* failAbout(ctx, '', model);
  yield* sys.signal(SIG.INT, 1);
  return (yield* converse(ctx, found.handle, model, null)).status;
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
  if (ctx.options.detach) {
    const report = yield* reportOf(sys, session);
    if (typeof report === 'number') return { status: yield* failAbout(ctx, '', report), text: null };
    yield* ctx.out.print(`${report.id}\n`);
    return { status: 0, text: null };
  }
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
  const steps: Json[] = [];
  for (let event; (event = yield* nextEvent(sys, session, buffer)) !== null;) {
    pieces.push(event.piece.slice());
    if (!json) {
      yield* out.write(event.piece);
      yield* out.flush();
    }
    if (event.topCount > 0) steps.push(step(event, buffer));
  }

  const report = yield* lastReport(ctx, session);
  if (typeof report === 'number') return { status: report, text: null };
  const bytes = concat(pieces);
  const text = utf8Decode(bytes);
  if (json) {
    const { prompt: promptTokens, output } = yield* tokensOf(sys, session, report);
    yield* out.print(
      jsonLine({
        id: report.id,
        model: modelId(model),
        prompt_tokens: promptTokens,
        tokens: output,
        text,
        text_b64: toBase64(bytes),
        finish_reason: finishOf(report),
        arena_peak_bytes: report.arenaPeak,
        kv_bytes: report.kvBytes,
        ctx: model.ctx,
        kv_type: kvName(model.kvType),
        seed: report.seed,
        cycles: report.cycles,
        wcet_cycles: report.wcetCycles,
        bcet_cycles: report.bcetCycles,
        logits_sum: logitsText(report),
        ttft_ns: report.firstTokenNs === 0 ? null : report.firstTokenNs - report.submittedNs,
        elapsed_ns: report.endedNs - report.submittedNs,
        ...(ctx.options.logits === undefined || Number(ctx.options.logits) === 0 ? {} : { steps }),
        ...(prompt === null ? {} : { prompt }),
        ...scheduleJson(report, (yield* readAccounts(sys)).userName(report.uid) ?? null),
      }),
    );
  } else yield* out.print('\n');
  if (!ctx.options.keep) yield* sys.session_close(session);
  if (!json && watched) {
    yield* out.flush();
    yield* ctx.err.print(`${summary(report)}${deadlineLine(yield* verdictOf(sys, report))}\n`);
  }
  return { status: yield* endStatus(ctx, report), text };
}

function step(event: Happening, buffer: Uint8Array): Json {
  const view = new DataView(buffer.buffer, event.piece.byteOffset + event.pieceBytes, event.topCount * 8);
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
  return `llminfer: session ${r.id}: ${r.outputTokens} tokens in ${seconds} s of virtual time: ${cycles} cycles, bounds ${least} and ${most}\n`;
}
