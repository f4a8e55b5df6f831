// llmctl plan --mix: whether sessions of given lengths can be there at once, by the sum that the kernel makes when it admits them: slots that
// there are, and pages of keys and values, each session's last one whole. Nothing is estimated, and no sharing is counted on.

import { GGML_TYPE, KV_PAGE, LIMITS, LOAD_DEFAULTS } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { table } from './fmt.ts';
import type { Json } from './fmt.ts';
import { grouped, kvName, planModel } from './model.ts';
import type { LoadChoice, Plan } from './model.ts';

/** Sessions of one kind. */
export interface Group {
  readonly sessions: number;
  readonly prompt: number; // tokens, a BOS included
  readonly generate: number; // tokens at most
}

/** `8x64+64 2x300+100`; the count may be left out. Or what is wrong with it. */
export function parseMix(text: string): readonly Group[] | string {
  const groups: Group[] = [];
  for (const word of text.split(/[\s,]+/).filter(Boolean)) {
    const [, count = '1', prompt, generate] = /^(?:([0-9]{1,6})x)?([0-9]{1,7})\+([0-9]{1,7})$/.exec(word) ?? [];
    const group = { sessions: Number(count), prompt: Number(prompt), generate: Number(generate) };
    if (prompt === undefined || group.sessions === 0 || group.prompt === 0 || group.generate === 0)
      return `--mix '${word}' is not SESSIONSxPROMPT+GENERATED, as 8x64+64`;
    groups.push(group);
  }
  return groups.length === 0 ? '--mix names no session' : groups;
}

/** Pages of one session. The token drawn last is read by nobody, and has no keys and values. */
export const pagesEach = ({ prompt, generate }: Group): number => Math.ceil((prompt + generate - 1) / KV_PAGE);

const total = (groups: readonly Group[], of: (g: Group) => number): number =>
  groups.reduce((sum, g) => sum + g.sessions * of(g), 0);

/** How to load a model, and the pages that this gives. */
interface Load {
  readonly choice: LoadChoice; // 0: as many as there is room for
  readonly pages: number;
}

/** What a mix takes of a plan, and why it does not fit: nothing said, it does. */
export interface Mix {
  readonly groups: readonly Group[];
  readonly sessions: number;
  readonly pages: number;
  readonly reasons: readonly string[];
  /** So many fit, in the order given. */
  readonly fitting: number;
  /** How to load the model so that all fit. */
  readonly load: Load | null;
}
/** Holds a mix against a plan of the model at `path`; where it does not fit, looks for a load that would do. */
export function* checkMix(sys: Sys, path: string, plan: Plan, groups: readonly Group[]): Generator<void, Mix, void> {
  const sessions = total(groups, () => 1);
  const pages = total(groups, pagesEach);
  const reasons = [...new Set(groups.flatMap(g => tooLong(g, plan.ctx)))];
  if (sessions > plan.sessions) reasons.push(`${sessions} sessions, ${plan.sessions} at once`);
  if (pages > plan.pages) {
    const sum = groups.map(g => `${g.sessions} × ${pagesEach(g)}`).join(' + ');
    reasons.push(
      `${sum} = ${grouped(pages)} pages, the pool has ${grouped(plan.pages)}: ${grouped(pages - plan.pages)} too many`,
    );
  }
  const load = reasons.length === 0 ? null : yield* loadFor(sys, path, plan, groups);
  return { groups, sessions, pages, reasons, fitting: fittingOf(plan, groups), load };
}

/** What is wrong with the lengths of a session by itself. */
function tooLong({ prompt, generate }: Group, ctx: number): string[] {
  const { promptTokensMax, generationTokensMax } = LIMITS;
  const whole = prompt + generate;
  return [
    ...(prompt > promptTokensMax ? [`a prompt of ${grouped(prompt)} tokens, ${grouped(promptTokensMax)} at most`] : []),
    ...(generate > generationTokensMax ? [`${generate} tokens to draw, ${generationTokensMax} at most`] : []),
    ...(whole > ctx ? [`${prompt} + ${generate} = ${grouped(whole)} tokens, the context has ${grouped(ctx)}`] : []),
  ];
}

function fittingOf(plan: Plan, groups: readonly Group[]): number {
  let sessions = 0;
  let { pages } = plan;
  for (const g of groups) {
    if (tooLong(g, plan.ctx).length > 0) break;
    const n = Math.min(g.sessions, Math.floor(pages / pagesEach(g)), plan.sessions - sessions);
    sessions += n;
    pages -= n * pagesEach(g);
    if (n < g.sessions) break;
  }
  return sessions;
}

/** KV types from the widest on. */
const kvTypes: readonly number[] = [GGML_TYPE.F32, GGML_TYPE.F16, GGML_TYPE.Q8_0, GGML_TYPE.Q4_0];

/** The load with the widest KV type, not wider than the plan's, in whose pool they fit; null where there is none. */
function* loadFor(sys: Sys, path: string, plan: Plan, groups: readonly Group[]): Generator<void, Load | null, void> {
  const sessions = Math.max(
    plan.sessions,
    total(groups, () => 1),
  );
  const ctx = Math.max(plan.ctx, ...groups.map(g => g.prompt + g.generate));
  const needed = total(groups, pagesEach);
  if (sessions > LIMITS.sessionsMax || groups.some(g => tooLong(g, ctx).length > 0)) return null;
  for (const kvType of kvTypes.slice(kvTypes.indexOf(plan.kvType)))
    for (const pages of [0, Math.max(needed, Math.ceil(ctx / KV_PAGE))]) {
      const choice = { ...LOAD_DEFAULTS, ctx, kvType, batch: plan.batch, sessions, pages };
      const planned = yield* planModel(sys, path, choice);
      if (typeof planned !== 'number' && planned.fits !== 0 && planned.pages >= needed)
        return { choice, pages: planned.pages };
    }
  return null;
}

export function mixJson(mix: Mix): Readonly<Record<string, Json>> {
  return {
    mix: mix.groups.map(g => ({
      sessions: g.sessions,
      prompt_tokens: g.prompt,
      generated_tokens: g.generate,
      pages_each: pagesEach(g),
      pages: g.sessions * pagesEach(g),
    })),
    mix_fits: mix.reasons.length === 0,
    mix_sessions: mix.sessions,
    mix_pages: mix.pages,
    reasons: mix.reasons,
    sessions_that_fit: mix.fitting,
    load_that_fits: mix.load === null ? null : loadJson(mix.load),
  };
}

const loadJson = ({ choice: { ctx, kvType, sessions }, pages }: Load): Json => ({
  ctx,
  kv_type: kvName(kvType),
  sessions,
  pages,
});

/** The sum as a table, and the verdict. */
export function mixText(path: string, plan: Plan, mix: Mix): string {
  const rows = [
    ['sessions', 'prompt', 'drawn', 'pages each', 'pages'],
    ...mix.groups.map(g => [g.sessions, g.prompt, g.generate, pagesEach(g), g.sessions * pagesEach(g)].map(grouped)),
    [grouped(mix.sessions), '', '', '', grouped(mix.pages)],
    [`of ${grouped(plan.sessions)}`, '', '', '', `of ${grouped(plan.pages)}`],
  ];
  const pool = `${path}: context ${plan.ctx} ${kvName(plan.kvType)}, pages of ${KV_PAGE} tokens, ${grouped(plan.pageBytes)} bytes each`;
  return `${pool}\n${table(rows, [true, true, true, true, true])}${verdict(plan, mix)}`;
}

function verdict(plan: Plan, { reasons, pages, sessions, fitting, load }: Mix): string {
  if (reasons.length === 0)
    return `fits: ${grouped(plan.pages - pages)} pages and ${plan.sessions - sessions} sessions to spare\n`;
  const loaded = load === null ? 'no load holds them all' : `all fit after llmctl load ${words(plan, load)}`;
  return [...reasons.map(r => `does not fit: ${r}`), `the first ${fitting} of them fit`, loaded, ''].join('\n');
}

/** The options of llmctl load in which a choice differs from a plan. */
function words(plan: Plan, { choice }: Load): string {
  const { ctx, kvType, batch, sessions, pages } = choice;
  const options = [
    ctx === plan.ctx ? '' : `--ctx ${ctx}`,
    kvType === plan.kvType ? '' : `--kv ${kvName(kvType)}`,
    batch === LIMITS.prefillBatch ? '' : `--batch ${batch}`,
    sessions === plan.sessions ? '' : `--sessions ${sessions}`,
    pages === 0 ? '' : `--pages ${pages}`,
  ];
  return ['FILE', ...options.filter(text => text !== '')].join(' ');
}
