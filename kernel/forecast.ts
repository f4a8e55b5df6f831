// Forecasts: what a request will cost, before it runs, on any target, for the loaded model or for a file as it would be loaded. The answers to
// `llmctl wcet` and `llmctl plan --cost`; sessions are held against the same bounds while they run. A forecast changes nothing but
// the clock, which reading a file moves.

import {
  COST_COLUMNS,
  isRefusal,
  KV_PAGE,
  LIMITS,
  LOAD_DEFAULTS,
  refuse,
  SAMPLER_MODE,
  utf8Write,
  WCET_CALLS,
  WcetOptions,
  WcetReport,
  type PlanRow,
  type RecordValue,
  type Refusal,
  type SpeedOptions,
  type SpeedReport,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { Vfs } from '../vfs/vfs.ts';
import type { Arena } from './arena.ts';
import type { Costs } from './costs.ts';
import type { Layout } from './layout.ts';
import { checkKvType } from './fit.ts';
import type { Loader, Priced } from './loader.ts';
import { checkLength } from './admission.ts';
import { drawOf } from './session.ts';
import { requestBounds } from './wcet/bounds.ts';
import { withDraw, type Bound, type Draw, type OpCost, type Segment, type Wait } from './wcet/price.ts';
import { MILLI, transferCycles, type Target } from './wcet/targets.ts';

type Options = ReturnType<typeof WcetOptions.read>;
type Report = ReturnType<typeof WcetReport.read>;

type Speed = RecordValue<typeof SpeedReport.fields>;

/** How llminfer draws when it is not told otherwise. */
const DEFAULT_DRAW: Draw = { modes: SAMPLER_MODE.topP, topK: 40 };

export class Forecast {
  constructor(
    private readonly arena: Arena,
    private readonly lay: Layout,
    private readonly vfs: Vfs,
    private readonly costs: Costs,
    private readonly loader: Loader,
  ) {}

  /** Bounds of the request that the WcetOptions at `optionsAt` describe; path '': of the loaded model. */
  request(path: string, optionsAt: number): Report | Refusal {
    const o = WcetOptions.read(this.arena.u8, optionsAt);
    const priced = this.priced(path, o);
    return isRefusal(priced) ? priced : reportOf(priced, o);
  }

  /** How fast a model goes, as a load with this request would place it; path '': the loaded one. */
  speed(path: string, asked: RecordValue<typeof SpeedOptions.fields>): Speed | Refusal {
    const target = this.costs.find(asked.target);
    if (isRefusal(target)) return target;
    const found = this.loader.pricesOn(path, asked, target, asked.disk);
    if (isRefusal(found)) return found;
    const { prices, disk } = found;
    const position = prices.ctx >> 1;
    const { cycles, computed, transfers } = prices.predict(position, DEFAULT_DRAW);
    return {
      hz: target.hz,
      sound: target.kind === 'model' ? 1 : 0,
      position,
      tokenCycles: cycles,
      tokenMost: prices.step(1, position, true, DEFAULT_DRAW, position + 1).most,
      computed,
      transfers,
      target: target.name,
      disk,
    };
  }

  /** The priced plan of that request as text in an anonymous file, a line an op. */
  plan(path: string, optionsAt: number): OpenFile | Refusal {
    const o = WcetOptions.read(this.arena.u8, optionsAt);
    const priced = this.priced(path, o);
    if (isRefusal(priced)) return priced;
    const file = this.vfs.memfd('cost');
    if (typeof file === 'number') return refuse('NFILE', 4001, 'no file for the priced plan');
    for (const line of costLines(priced, o)) {
      const bytes = utf8Write(line, this.arena.u8, this.lay.dmaAt, LIMITS.dmaBytes);
      if (file.write(this.lay.dmaAt, bytes) === bytes) continue;
      file.close();
      return refuse('NOSPC', 4001, 'no room in memory storage for the priced plan');
    }
    file.seek(0, 0);
    return file;
  }

  private priced(path: string, o: Options): Priced | Refusal {
    const bad = check(o);
    if (bad !== null) return bad;
    const target = this.costs.find(o.target);
    if (isRefusal(target)) return target;
    const text = { bytes: o.promptBytes, tokens: o.prompt };
    const priced =
      path === ''
        ? this.loader.priced(target, text)
        : this.loader.pricedFile(path, { ...LOAD_DEFAULTS, ctx: o.ctx, kvType: o.kvType }, target, text);
    if (priced === null) return refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');
    if (isRefusal(priced)) return priced;
    return checkLength(o.prompt, o.generate, priced.options.ctx) ?? priced;
  }
}

function check(o: Options): Refusal | null {
  if (o.prompt < 1) return refuse('INVAL', 7001, 'a prompt has one token at least');
  if (o.generate < 1 || o.generate > LIMITS.generationTokensMax)
    return refuse('INVAL', 2002, `${o.generate} tokens to generate, 1 to ${LIMITS.generationTokensMax} are allowed`);
  return checkKvType(o.kvType);
}

function reportOf(m: Priced, o: Options): Report {
  const { prices, target, options } = m;
  const draw = drawOf(o);
  const { prompt, generate } = o;
  const bounds = requestBounds(prices, { prompt, generate, draw, logitsK: 0 });
  const least = prices.draw(draw, prompt);
  const most = prices.draw(draw, prompt + generate - 1); // the longest history: the penalty's cost grows with it
  const context = prices.step(1, options.ctx - 1, true, draw, options.ctx);
  const ids = transferCycles(target, 4 * prompt); // once to storage, when they are made, and once from it
  return {
    hz: target.hz,
    sound: target.kind === 'model' ? 1 : 0,
    ctx: options.ctx,
    kvType: options.kvType,
    batch: options.batch,
    prompt,
    generate,
    promptBytes: m.textBytes,
    decodeWorstPos: bounds.decodeWorstPos,
    tokenizeMax: m.tokenize?.most ?? 0,
    tokenizeMin: m.tokenize?.least ?? 0,
    prefillMax: bounds.prefill.most,
    prefillMin: bounds.prefill.least,
    decodeMax: bounds.decode.most,
    decodeMin: bounds.decode.least,
    decodeMeanMax: bounds.decodeMeanMost,
    contextMax: context.most,
    drawMax: most.most,
    drawMin: least.least,
    requestMax: bounds.total.most,
    requestMin: bounds.total.least,
    fullMin: bounds.full.least,
    callsMax: callCycles(target, generate),
    callsMin: callCycles(target, 1),
    transferMax: 2 * ids.upper,
    transferMin: 2 * ids.lower,
    arenaBytes: m.arenaBytes,
    kvBytes: m.shape.kvBytesPerToken(options.kvType) * KV_PAGE * options.pages,
    target: target.name,
    title: target.title,
    model: m.shape.name,
  };
}

function callCycles(target: Target, tokens: number): number {
  const { syscallCycles, switchCycles } = target.overhead;
  const calls = WCET_CALLS.calls + tokens * WCET_CALLS.callsPerToken;
  const switches = WCET_CALLS.switches + tokens * WCET_CALLS.switchesPerToken;
  return calls * syscallCycles + switches * switchCycles;
}

/** The prompt's largest batch and the draw that follows the prompt; the last decode step. */
function costLines(m: Priced, o: Options): string[] {
  const batch = Math.min(o.prompt, m.options.batch);
  const batchAt = Math.floor(o.prompt / batch) * batch - batch;
  const lastAt = o.prompt + o.generate - 2; // the token drawn last does not go through the plan any more
  const steps: Step[] = [{ step: 'prefill', n: batch, pos: batchAt, drawAt: o.prompt - 1 }];
  if (o.generate > 1) steps.push({ step: 'decode', n: 1, pos: lastAt, drawAt: lastAt });
  return steps.flatMap(s => stepLines(m, s, m.prices.draw(drawOf(o), s.drawAt + 1)));
}

/** A step of a request: `n` tokens from `pos` on, then a draw after the token at `drawAt`. */
interface Step {
  readonly step: 'prefill' | 'decode';
  readonly n: number;
  readonly pos: number;
  readonly drawAt: number;
}

function stepLines({ prices, rows }: Priced, { step, n, pos, drawAt }: Step, drawn: Bound): string[] {
  const sample = withDraw(prices.ops('sample', 1, drawAt), drawn);
  const named = rows();
  const body = withWaits(prices.ops('body', n, pos), prices.waits('body', n, pos));
  const head = withWaits(prices.ops('head', 1, drawAt), prices.waits('head', 1, drawAt));
  return [
    ...segmentLines(named, step, 'body', n, pos, body),
    ...segmentLines(named, step, 'head', 1, drawAt, head),
    ...segmentLines(named, step, 'sample', 1, drawAt, sample),
  ];
}

/** Before an op the tile that it waits for, as the plan's rows have it; what is waited for without a tile is its own. All of it is overhead. */
function withWaits(ops: readonly OpCost[], waits: readonly Wait[]): OpCost[] {
  const byOp = new Map(waits.map(w => [w.op, w]));
  return ops.flatMap((op, i) => {
    const { most, bytes } = byOp.get(i) ?? { most: 0, bytes: 0 };
    if (bytes === 0) return [{ ...op, most: op.most + most, overhead: op.overhead + most * MILLI }];
    const nothing = { least: 0, compute: 0, memory: 0, instructions: 0, loaded: 0 };
    return [{ ...nothing, most, overhead: most * MILLI, stored: bytes }, op];
  });
}

function segmentLines(
  rows: readonly PlanRow[],
  step: Step['step'],
  segment: Segment,
  n: number,
  pos: number,
  costs: readonly OpCost[],
): string[] {
  const named = rows.filter(row => row.segment === segment);
  return costs.map((cost, i) => {
    const { op, layer, name } = named[i]!;
    const columns: Record<(typeof COST_COLUMNS)[number], string | number> = {
      step,
      segment,
      op,
      layer,
      name,
      n,
      pos,
      ...cost,
    };
    return `${COST_COLUMNS.map(column => columns[column]).join('\t')}\n`;
  });
}
