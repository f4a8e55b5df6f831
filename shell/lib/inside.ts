// llmctl probs, attention, lens: a look into a step of a session. The kernel computes the step's position again and answers with a line of JSON,
// which --json prints as it is; here it becomes tables. Without ID it is the session that took a step last.

import {
  LIMITS,
  PROBE_LAST,
  PROBES,
  ProbeOptions,
  utf8Decode,
  type AttentionAnswer,
  type LensAnswer,
  type ProbeAnswer,
  type ProbeToken,
  type ProbsAnswer,
} from '../../kernel/abi/index.ts';
import { table } from './fmt.ts';
import type { OptionTable } from './getopt.ts';
import { failAbout, parseInteger, wrong } from './model.ts';
import type { Context } from './program.ts';
import { findSession } from './sessions.ts';
import { readAll } from './stdio.ts';

const topDefault = 10;
const barWidth = 40;
/** What is left of a line for what a layer would have said. */
const saysWidth = 40;
/** Of an answer: a position has fewer bytes than that, its text included. */
const bytesMost = LIMITS.contextMax * (LIMITS.tokenBytes + 100);

export const insideOptions = {
  top: {
    value: 'N',
    help: `probs, lens: show the N best tokens, 1 to ${LIMITS.topLogitsMax} (default: ${topDefault})`,
  },
  layer: { value: 'L', help: 'attention: of that layer, from 0 (default: 0)' },
  head: { value: 'H', help: 'attention: of that head, from 0 (default: 0)' },
  at: { value: 'POS', help: 'probs, attention, lens: at that position, from 0 (default: that of the last step)' },
  last: { value: 'N', help: 'lens: of the last N positions, what each layer would have said' },
} as const satisfies OptionTable;

type Ctx = Context<typeof insideOptions & { readonly json: { readonly help: string } }>;
type Run = Generator<void, number, void>;

// ── Verbs ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export const probs = (ctx: Ctx, [id]: readonly string[]): Run => show(ctx, 'probs', id, probsText);
export const attention = (ctx: Ctx, [id]: readonly string[]): Run => show(ctx, 'attention', id, attentionText);

export function* lens(ctx: Ctx, [id]: readonly string[]): Run {
  const { last, at } = ctx.options;
  if (last === undefined) return yield* show(ctx, 'lens', id, lensText);
  const count = parseInteger(last);
  if (count === null || count < 1) return yield* wrong(ctx, `--last '${last}' is not an integer from 1 on`);
  if (at !== undefined) return yield* ctx.usage('lens: --last and --at exclude each other');
  const newest = yield* ask(ctx, 'lens', id);
  if (typeof newest === 'number') return newest;
  const { position, id: session } = JSON.parse(newest) as ProbeAnswer;
  const lines = [newest];
  for (let pos = position - 1; pos >= 0 && lines.length < count; pos--) {
    const line = yield* ask(ctx, 'lens', String(session), pos);
    if (typeof line === 'number') return line;
    lines.unshift(line);
  }
  const all = lines.map(line => JSON.parse(line) as LensAnswer);
  yield* ctx.out.print(ctx.options.json ? lines.join('') : lensesText(all));
  return 0;
}

function* show<T extends ProbeAnswer>(
  ctx: Ctx,
  what: (typeof PROBES)[number],
  id: string | undefined,
  text: (told: T) => string,
): Run {
  const line = yield* ask(ctx, what, id);
  if (typeof line === 'number') return line;
  yield* ctx.out.print(ctx.options.json ? line : text(JSON.parse(line) as T));
  return 0;
}

/** The kernel's answer, a line of JSON; or an exit status, after a message. */
function* ask(
  ctx: Ctx,
  what: (typeof PROBES)[number],
  id: string | undefined,
  position?: number,
): Generator<void, string | number, void> {
  const { sys, options } = ctx;
  const numbers = {
    top: options.top ?? topDefault,
    layer: options.layer ?? 0,
    head: options.head ?? 0,
    at: options.at,
  };
  const asked = { top: 0, layer: 0, head: 0, at: position ?? PROBE_LAST };
  for (const name of ['top', 'layer', 'head', 'at'] as const) {
    if (numbers[name] === undefined) continue;
    const n = parseInteger(String(numbers[name]));
    if (n === null || n < 0 || n >= PROBE_LAST)
      return yield* wrong(ctx, `--${name} '${numbers[name]}' is not an integer from ${name === 'top' ? 1 : 0} on`);
    asked[name] = n;
  }
  const found = id === undefined ? { handle: 0 } : yield* findSession(ctx, id);
  if (typeof found === 'number') return found;
  const record = new Uint8Array(ProbeOptions.bytes);
  const { top, layer, head, at } = asked;
  ProbeOptions.write(record, 0, { what: PROBES.indexOf(what), top, layer, head, position: at });
  const fd = yield* sys.session_probe(found.handle, record);
  if (fd < 0) return yield* failAbout(ctx, '', fd);
  const bytes = yield* readAll(sys, fd, bytesMost);
  yield* sys.close(fd);
  return typeof bytes === 'number' ? yield* failAbout(ctx, '', bytes) : utf8Decode(bytes);
}

// ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** In quotes, with what cannot be seen escaped. */
const quoted = ({ text }: ProbeToken): string => JSON.stringify(text);
const percent = (p: number | null): string => (p === null ? '-' : `${(100 * p).toFixed(2)}%`);
const bits = (entropy: number): string => `${entropy.toFixed(2)} bit`;

function heading({ id, state, position, token, next }: ProbeAnswer): string {
  const after = next === null ? 'nothing follows yet' : `then ${quoted(next)}${next.drawn ? ', drawn' : ', given'}`;
  return `session ${id}, ${state}, position ${position}: ${quoted(token)}, ${after}\n`;
}

function probsText(told: ProbsAnswer): string {
  const names = told.stages.map(({ stage }) => stage.replace('_', '-'));
  const stages = told.stages.map(({ tokens, entropy, probability }, i) => {
    return [names[i]!, String(tokens), bits(entropy), percent(probability)];
  });
  const nextTitle = told.next === null ? 'NEXT' : quoted(told.next);
  const best = told.top.map(t => [String(t.id), quoted(t), t.logit.toFixed(3), ...t.probabilities.map(percent)]);
  return [
    heading(told),
    table([['STAGE', 'TOKENS', 'ENTROPY', nextTitle], ...stages], [false, true, true, true]),
    '\n',
    table(
      [['ID', 'TOKEN', 'LOGIT', ...names.map(name => (name === 'temperature' ? 'TEMP' : name.toUpperCase()))], ...best],
      [true, false, true, ...names.map(() => true)],
    ),
  ].join('');
}

function attentionText(told: AttentionAnswer): string {
  const { layer, layers, head, heads, heads_kv, head_kv, row } = told;
  const keys = heads === heads_kv ? '' : `, keys ${head_kv} of 0 to ${heads_kv - 1}`;
  const rows = row.map(({ position, id, weight, ...token }) => {
    const bar = '#'.repeat(Math.round(weight * barWidth));
    return [String(position), String(id), quoted({ id, ...token }), percent(weight), bar];
  });
  return [
    heading(told),
    `layer ${layer} of 0 to ${layers - 1}, head ${head} of 0 to ${heads - 1}${keys}\n`,
    table([['POSITION', 'ID', 'TOKEN', 'WEIGHT', ''], ...rows], [true, true, false, true, false]),
  ].join('');
}

const layerName = (layer: number): string => (layer < 0 ? 'embedding' : String(layer));

function lensText(told: LensAnswer): string {
  const nextTitle = told.next === null ? 'NEXT' : quoted(told.next);
  const rows = told.layers.map(({ layer, entropy, rank, probability, top }) => {
    const says = top.map(t => `${quoted(t)} ${(100 * t.probability).toFixed(1)}%`);
    while (says.join('  ').length > saysWidth) says.pop();
    return [layerName(layer), bits(entropy), rank === null ? '-' : String(rank), percent(probability), says.join('  ')];
  });
  return (
    heading(told) + table([['LAYER', 'ENTROPY', 'RANK', nextTitle, 'SAYS'], ...rows], [true, true, true, true, false])
  );
}

/** A column a position: its token, below it what each layer would have said behind it. */
function lensesText(all: readonly LensAnswer[]): string {
  const [first] = all as [LensAnswer];
  const rows = first.layers.map(({ layer }, i) => {
    return [layerName(layer), ...all.map(({ layers }) => layers[i]!.top.slice(0, 1).map(quoted).join(''))];
  });
  const next = ['then', ...all.map(({ next: token }) => (token === null ? '-' : quoted(token)))];
  const positions = ['POSITION', ...all.map(({ position }) => String(position))];
  return table([positions, ['token', ...all.map(({ token }) => quoted(token))], ...rows, next], [true]);
}
