// llmstream: one inference request told in chunks of a few tokens, as the specification's word has it (SIS §14). A stream takes what the period
// budget has left and is cut short there, where llminfer would be refused, and its tokens come no faster than the pace (llmctl pace).

import { EVENT, LIMITS, SIG, utf8Decode } from '../../kernel/abi/index.ts';
import { chooseAdapters } from '../lib/adapters.ts';
import { times } from '../lib/fmt.ts';
import { failAbout, openText, textSourceError, wrong } from '../lib/model.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { flagsOf, requestOptions, sessionRecord } from '../lib/request.ts';
import { integer, numbersOf } from '../lib/sampling.ts';
import { deadlineLine, endStatus, lastReport, nextEvent, verdictOf } from '../lib/sessions.ts';
import { CHUNK_BYTES, concat } from '../lib/stdio.ts';

const options = {
  chunk: { value: 'N', help: 'tokens of a chunk (default 2)' },
  file: { short: 'f', value: 'F', help: 'read the prompt from F' },
  special: { help: "parse special tokens in the prompt's text" },
  ...requestOptions,
} as const;
type Ctx = Context<typeof options>;

export const llmstream = define({
  name: 'llmstream',
  summary: 'let the model continue a text, chunk by chunk',
  usage: ['[OPTION]... PROMPT...', '[OPTION]... --file F', '[OPTION]... -'],
  description: [
    'The loaded model continues PROMPT as llminfer does; each chunk of new tokens is a line on its own:',
    '',
    '  [LLM][STREAM] chunk: TEXT',
    '  [LLM][STREAM] infer id=ID tokens=N latency_us=T',
    '  [LLM][DEADLINE] ok|miss actual=T expected=T slack=T',
    '',
    'A chunk of fewer tokens at the end is shown too. In TEXT newline, tab, carriage return and backslash are written \\n, \\t, \\r and \\\\, so that the chunks one after the other are the text; a character whose bytes come in several tokens is shown with the last of them.',
    '',
    'Where the machine has a period budget (llmctl budget), a stream ends when the period has no token left for it. Tokens come no faster than llmctl pace says.',
    '',
    'Exit status: as llminfer; 1 also for a stream that the period budget has cut short.',
  ].join('\n'),
  options,
  usageStatus: 2,
  examples: [
    ['llmstream --max-tokens 6 Once upon a time', 'three chunks of two tokens'],
    ['llmstream --chunk 8 --period 500 Once', 'eight tokens a line, one every 500 ms at least'],
  ],
  main: run,
});

function* run(ctx: Ctx): Generator<void, number, void> {
  const { sys } = ctx;
  const values = numbersOf({ chunk: integer('chunk', 1, LIMITS.generationTokensMax, 2) }, ctx.options);
  if (typeof values === 'string') return yield* wrong(ctx, values);
  const flags = flagsOf({ special: ctx.options.special, stream: true, paced: true });
  const { hz } = yield* times(sys);
  const record = sessionRecord(ctx.options, hz, { flags, logitsK: 0 });
  if (typeof record === 'string') return yield* wrong(ctx, record);
  const unchosen = yield* chooseAdapters(sys, record, ctx.options.adapter);
  if (unchosen !== null) return yield* wrong(ctx, unchosen);
  const source = { file: ctx.options.file, words: ctx.operands };
  const mistake = textSourceError(source, 'PROMPT');
  if (mistake !== null) return yield* ctx.usage(mistake);
  const prompt = yield* openText(ctx, source);
  if (prompt < 0) return -prompt;

  yield* sys.signal(SIG.INT, 1);
  const session = yield* sys.session_open(record, prompt);
  if (session < 0) return yield* failAbout(ctx, '', session);
  yield* showChunks(ctx, session, values.chunk);
  const report = yield* lastReport(ctx, session);
  if (typeof report === 'number') return report;
  yield* sys.session_close(session);
  const micros = Math.round((report.endedNs - report.submittedNs) / 1000);
  yield* ctx.out.print(
    `[LLM][STREAM] infer id=${report.id} tokens=${report.outputTokens} latency_us=${micros}\n${deadlineLine(yield* verdictOf(sys, report))}\n`,
  );
  return yield* endStatus(ctx, report);
}

/** A line for every `size` tokens, and one for what is left at the end. */
function* showChunks({ sys, out }: Ctx, session: number, size: number): Generator<void, void, void> {
  const buffer = new Uint8Array(CHUNK_BYTES);
  let pending: Uint8Array = new Uint8Array(0);
  let tokens = 0;
  const show = function* (end: number): Generator<void, void, void> {
    if (end > 0) yield* out.print(`[LLM][STREAM] chunk: ${oneLine(utf8Decode(pending, 0, end))}\n`);
    yield* out.flush();
    pending = pending.slice(end);
    tokens = 0;
  };
  for (let event; (event = yield* nextEvent(sys, session, buffer)) !== null;) {
    pending = concat([pending, event.piece]);
    if (event.kind === EVENT.token) tokens++;
    if (tokens === size) yield* show(wholeCharacters(pending));
  }
  yield* show(pending.length);
}

/** How many of these bytes end with a whole character: an unfinished one at the end has yet to come. */
function wholeCharacters(bytes: Uint8Array): number {
  const back = [1, 2, 3].find(n => n <= bytes.length && (bytes[bytes.length - n]! & 0xc0) !== 0x80);
  if (back === undefined) return bytes.length;
  const lead = bytes[bytes.length - back]!;
  const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
  return length > back ? bytes.length - back : bytes.length;
}

const escapes: Readonly<Record<string, string>> = { '\n': '\\n', '\t': '\\t', '\r': '\\r', '\\': '\\\\' };
const oneLine = (text: string): string => text.replace(/[\n\t\r\\]/g, c => escapes[c]!);
