// A position of a session, computed once more and alone: its token goes through the plan again, over the keys and values that are there, and its
// own are written again, the same bytes. So what a step said in between can be looked at without anybody having noted it down. What it
// takes is counted here and booked by whoever asked. Scratch, StepBlock and the like are left as a pass leaves them.

import {
  FAULT,
  PickRecord,
  PLAN_RECORD,
  RowRecord,
  SAMPLER_MODE,
  SamplerRecord,
  StepBlock,
  type Engine,
  type Inside,
} from './abi/index.ts';
import { log2 } from './log2.ts';
import { panic } from './panic.ts';
import type { Service } from './service.ts';

const step = StepBlock.at;
const END = 0;

/** The position, and where its session keeps its history and block table. */
export interface Place {
  readonly session: number;
  readonly pos: number;
  readonly historyAt: number;
  readonly tableAt: number;
}

/** Which stages of the sampler cut a distribution: SAMPLER_MODE's topP and minP. */
export interface Cut {
  readonly modes: number;
  readonly topP: number;
  readonly minP: number;
}
export const UNCUT: Cut = { modes: 0, topP: 1, minP: 0 };

/** A distribution over the vocabulary. */
export interface Chances {
  /** Tokens that can be drawn. */
  readonly tokens: number;
  /** In bits. */
  readonly entropy: number;
  of(id: number): number;
}

export class Rerun {
  /** What ops took so far, and what metered kernels took. */
  readonly cycles = { plan: 0, kernels: 0 };

  constructor(
    private readonly k: Service,
    private readonly engine: Engine,
    private readonly place: Place,
  ) {
    const { arena, lay } = k;
    const { session, pos, historyAt, tableAt } = place;
    RowRecord.write(arena.u8, lay.rowsAt, { token: arena.u32[(historyAt >> 2) + pos]!, pos, tableAt, session });
    PickRecord.write(arena.u8, lay.picksAt, { row: 0 });
    StepBlock.write(arena.u8, lay.stepAt, {
      rowsAt: lay.rowsAt,
      n: 1,
      picksAt: lay.picksAt,
      picks: 1,
      vocabulary: engine.vocabulary.count,
      kvAt: engine.kvAt,
      ctx: engine.options.ctx,
      historyAt,
      historyLength: pos + 1,
      samplerAt: lay.samplerAt,
      logitsAt: engine.logitsAt,
    });
  }

  // ── Through the layers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  body(): void {
    this.run(this.engine.bodyAt);
  }

  /** The residual stream, f32[embedding], before the first layer and behind each. */
  residuals(inside: Inside): Float32Array[] {
    const { bodyAt, shape } = this.engine;
    const from = inside.residualAt >> 2;
    const seen: Float32Array[] = [];
    const ops = this.engine.ops().filter(op => op.segment === 'body');
    for (const [i, { layer }] of ops.entries()) {
      const next = layer < 0 ? shape.layers : layer; // behind the last layer comes what belongs to none
      if (next === seen.length) seen.push(this.k.arena.f32.slice(from, from + shape.embedding));
      this.op(bodyAt + i * PLAN_RECORD.bytes);
    }
    return seen;
  }

  /** What a head of a layer weighs the positions with, f32[position + 1]. The record that is changed for it is put back. */
  weights(inside: Inside, layer: number, head: number): Float32Array {
    const { u8, f32 } = this.k.arena;
    const opAt = inside.weighingAt(layer);
    for (let at = this.engine.bodyAt; at < opAt; at += PLAN_RECORD.bytes) this.op(at);
    const record = u8.slice(opAt, opAt + PLAN_RECORD.bytes);
    const { weightsAt, times } = inside.focus(layer, head);
    this.op(opAt);
    u8.set(record, opAt);
    const from = weightsAt >> 2;
    return f32.slice(from, from + this.place.pos + 1).map(x => x / times);
  }

  // ── Logits and what is drawn from them ─────────────────────────────────────────────────────────────────────────────────────────

  /** The logits of the residual stream as it is, or of another one put in its place; null where one is not finite. */
  logits(inside?: Inside, residual?: Float32Array): Float32Array | null {
    const { arena, lay } = this.k;
    if (inside !== undefined && residual !== undefined) arena.f32.set(residual, inside.residualAt >> 2);
    this.run(this.engine.headAt);
    return PickRecord.read(arena.u8, lay.picksAt).fault === FAULT.none ? this.row() : null;
  }

  /** The `count` best ids of these logits with their logits, best first, ties by lower id. */
  best(logits: Float32Array, count: number): readonly { readonly id: number; readonly logit: number }[] {
    const { arena, lay, compute, costs } = this.k;
    const taken = Math.min(count, logits.length);
    this.put(logits);
    compute.top_k(this.engine.logitsAt, logits.length, taken, lay.topAt);
    this.cycles.kernels += costs.takeSpent();
    return Array.from({ length: taken }, (_, i) => {
      const at = (lay.topAt >> 2) + 2 * i;
      return { id: arena.u32[at]!, logit: arena.f32[at + 1]! };
    });
  }

  /** The logits as the sampler's repetition penalty leaves them. */
  penalised(logits: Float32Array, repeatPenalty: number): Float32Array {
    this.put(logits);
    this.sample({ temp: 0, topP: 1, minP: 0, repeatPenalty, modes: SAMPLER_MODE.penalty | SAMPLER_MODE.greedy });
    return this.row();
  }

  /** What the sampler draws from at a temperature above 0, by its own masses; logits of −∞ are no token's. */
  chances(logits: Float32Array, temp: number, cut: Cut): Chances {
    const most = logits[indexOfMost(logits)]!;
    const z = logits.map(x => Math.fround(x - most) / temp);
    this.put(z);
    this.sample({ ...cut, temp: 1, repeatPenalty: 1 });
    const masses = this.row();
    let [tokens, sum, weighted] = [0, 0, 0];
    for (const [id, mass] of masses.entries()) {
      if (mass === 0) continue;
      tokens++;
      sum += mass;
      weighted += mass * z[id]!;
    }
    // −Σ p ln p with p = e^z / Σ e^z: ln Σ e^z − Σ p z.
    return { tokens, entropy: Math.max(0, log2(sum) - weighted / sum / Math.LN2), of: id => masses[id]! / sum };
  }

  private sample(settings: Omit<Parameters<typeof SamplerRecord.write>[2], 'topK'>): void {
    SamplerRecord.write(this.k.arena.u8, this.k.lay.samplerAt, { ...settings, topK: 0 });
    this.run(this.engine.sampleAt);
  }

  /** The first row of logits, as it is now. */
  private row(): Float32Array {
    const from = this.engine.logitsAt >> 2;
    return this.k.arena.f32.slice(from, from + this.engine.vocabulary.count);
  }
  private put(row: Float32Array): void {
    this.k.arena.f32.set(row, this.engine.logitsAt >> 2);
  }

  // ── Ops ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private run(opAt: number): void {
    this.executed(this.k.compute.run(this.k.lay.stepAt, opAt));
  }
  private op(opAt: number): void {
    if (this.k.arena.i32[opAt >> 2] !== END) this.executed(this.k.compute.run_op(this.k.lay.stepAt, opAt));
  }

  /** What has gone well once goes well again: a fault is the kernel's own. */
  private executed(fault: number): void {
    const { arena, lay } = this.k;
    if (fault !== FAULT.none) panic(`position ${this.place.pos} of session ${this.place.session} faults: ${fault}`);
    const i = (lay.stepAt + step.cycles) >> 2;
    this.cycles.plan += arena.u32[i]! + arena.u32[i + 1]! * 4294967296;
    arena.u32.fill(0, i, i + 2);
  }
}

/** The lowest index of the largest value. */
function indexOfMost(x: Float32Array): number {
  let best = 0;
  for (let i = 1; i < x.length; i++) if (x[i]! > x[best]!) best = i;
  return best;
}
