// The probe: a look into a step of a session, as a debugger looks into a process. Nothing is noted down while sessions run; whoever asks has the
// step's position computed again (Rerun), which costs what it costs, by certificates, and says what the step said: what the next token's
// chances were behind each stage of the sampler, how a head weighed the positions, and what every layer would have said had it been
// the last (the logit lens, after nostalgebraist). The answer is a line of JSON, its keys in man json.

import {
  isRefusal,
  LIMITS,
  PROBE_LAST,
  PROBES,
  ProbeOptions,
  refuse,
  SAMPLER_MODE,
  SESSION_STATE,
  strerror,
  utf8Decode,
  utf8Encode,
  type Engine,
  type Inside,
  type ProbeWish,
  type Refusal,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import { lengthOf } from './charging.ts';
import { log2 } from './log2.ts';
import { pagesOf } from './pages.ts';
import { Rerun, UNCUT, type Cut, type Place } from './rerun.ts';
import type { Residency } from './residency.ts';
import type { Service } from './service.ts';
import type { Session } from './session.ts';

/** A look that can be taken, and what it takes at most. */
export interface Look {
  readonly most: number; // cycles
  take(): Taken;
}
export interface Taken {
  readonly answer: string | Refusal;
  /** To be booked: of ops, and of metered kernels. */
  readonly cycles: Rerun['cycles'];
}

/** What is looked at: a position of a session. */
interface Subject extends Place {
  readonly s: Session;
  readonly engine: Engine;
}

interface Text {
  readonly id: number;
  readonly text: string;
}
/** What of the answer depends on the kind of look. */
type Part = Readonly<Record<string, unknown>>;

/** A stage of the sampler that is in force: what it makes of the model's logits, all stages before it included. */
interface Stage {
  readonly name: 'model' | 'penalty' | 'temperature' | 'top_k' | 'top_p' | 'min_p';
  readonly isPenalised: boolean;
  readonly keeps: number; // tokens with the largest logits; the others are nobody's
  readonly temp: number;
  readonly cut: Cut;
}

/** What a program asks. */
export function wishOf(session: number, o: ReturnType<typeof ProbeOptions.read>): ProbeWish | Refusal {
  const what = PROBES[o.what];
  if (what === undefined) return refuse('INVAL', 7001, `no look ${o.what}: ${PROBES.join(', ')}`);
  const { layer, head, top, position } = o;
  return { session, what, layer, head, top, ...(position === PROBE_LAST ? {} : { position }) };
}

export class Probe {
  constructor(
    private readonly k: Service,
    private readonly residency: Residency,
  ) {}

  /** Decodes and checks a wish of user `uid`. Nothing changes before it is taken, which is to be at once. */
  look(wish: ProbeWish, uid: number): Look | Refusal {
    const engine = this.k.loader.engine();
    if (engine === null) return refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');
    if (engine.stream !== null)
      return refuse('NOTSUP', 0, 'the weights of the loaded model stream, and a look needs all of them in the arena');
    const bad = this.k.loader.denies('inspect') ?? check(wish, engine);
    if (bad !== null) return bad;
    const s = this.find(wish.session, uid);
    if (isRefusal(s)) return s;
    const last = s.get('pos') - 1;
    const pos = wish.position ?? last;
    if (last < 0)
      return refuse(
        'INVAL',
        7001,
        `session ${s.id} has no step to look into: none was taken yet, or its pages were given up`,
      );
    if (!Number.isInteger(pos) || pos < 0 || pos > last)
      return refuse('INVAL', 7001, `position ${pos}: session ${s.id} has computed 0 to ${last}`);
    const { historyAt, tableAt } = this.residency.slotOf(s)!;
    const subject = { s, engine, session: s.id, pos, historyAt, tableAt };
    const most = this.most(wish, subject);
    return { most, take: () => this.take(wish, subject, most) };
  }

  /** The session of that id, or of those that this user sees the one that took a step last; it has a history. */
  private find(id: number, uid: number): Session | Refusal {
    const seen = this.k.table.all().filter(s => s.isSeenBy(uid));
    if (id === 0) {
      const stepped = seen.filter(s => s.u64('ranNs') > 0 && this.residency.slotOf(s) !== null);
      const [latest] = stepped.sort((a, b) => b.u64('ranNs') - a.u64('ranNs') || b.id - a.id);
      return latest ?? refuse('SRCH', 7001, 'no session that is still there has taken a step');
    }
    const s = seen.find(other => other.id === id);
    if (s === undefined) return refuse('SRCH', 7001, `no session ${id}: it was closed, or its memory was wanted`);
    return this.residency.slotOf(s) === null
      ? refuse('INVAL', 7001, `session ${id} has no history: it never began`)
      : s;
  }

  /** By the plan's certificates. */
  private most({ what, top }: ProbeWish, { s, pos, engine: { shape } }: Subject): number {
    const prices = this.k.loader.prices();
    const sampled = (modes: number): number =>
      prices.computed('sample', 1, pos) + prices.draw({ modes, topK: 0 }, pos + 1).most;
    const said = prices.headMost(1) + prices.topK(Math.max(1, top)).most;
    const body = prices.computed('body', 1, pos);
    if (what === 'attention') return body;
    if (what === 'lens') return body + (shape.layers + 1) * (said + sampled(UNCUT.modes));
    const stages = stagesOf(s, shape.vocabulary).reduce((sum, { cut }) => sum + sampled(cut.modes), 0);
    return body + said + sampled(SAMPLER_MODE.penalty | SAMPLER_MODE.greedy) + stages;
  }

  /** Takes a look and books it: its answer as an anonymous file. */
  book(look: Look): OpenFile | Refusal {
    const { arena, lay, clock, processor, vfs } = this.k;
    const { answer, cycles } = look.take();
    clock.advance(cycles.plan, 'plan');
    clock.advance(cycles.kernels, 'kernels');
    processor.forget();
    if (isRefusal(answer)) return answer;
    const file = vfs.memfd('probe');
    if (typeof file === 'number') return refuse('NFILE', 0, `no file for the answer: ${strerror(file)}`);
    const bytes = utf8Encode(`${answer}\n`);
    for (let at = 0; at < bytes.length; at += LIMITS.dmaBytes) {
      const piece = bytes.subarray(at, at + LIMITS.dmaBytes);
      arena.u8.set(piece, lay.dmaAt);
      if (file.write(lay.dmaAt, piece.length) === piece.length) continue;
      file.close();
      return refuse('NOSPC', 0, `no room in memory storage for an answer of ${bytes.length} bytes`);
    }
    file.seek(0, 0);
    return file;
  }

  private take(wish: ProbeWish, subject: Subject, most: number): Taken {
    const { s, engine, tableAt, historyAt, pos } = subject;
    const absent = this.absence(subject);
    const rerun = new Rerun(this.k, engine, subject);
    const part = absent ?? this.part(wish, subject, rerun);
    if (s.hasEnded) this.k.pool.begin(tableAt, engine.options.ctx); // it names nothing, as before
    if (isRefusal(part)) return { answer: part, cycles: rerun.cycles };
    const { plan, kernels } = rerun.cycles;
    const told = {
      what: wish.what,
      id: s.id,
      state: SESSION_STATE[s.get('state')],
      position: pos,
      token: this.tokenAt(historyAt, pos),
      next: this.next(subject),
      ...part,
      cycles: plan + kernels,
      cycles_most: most,
    };
    return { answer: JSON.stringify(told), cycles: rerun.cycles };
  }

  /** Why keys and values of its first positions are not all there; those of one that has ended are looked for in the pool, and named in its table. */
  private absence({ s, pos, historyAt, tableAt }: Subject): Refusal | null {
    const { pool } = this.k;
    const positions = pos + 1;
    if (!s.hasEnded) {
      const out = pool.swapped(tableAt, positions);
      const where = `${out} of the ${pagesOf(positions)} pages of session ${s.id} are on the swap device`;
      return out === 0 ? null : refuse('AGAIN', 0, where);
    }
    const found = s.isScore ? 0 : pool.recall(tableAt, s.uid, historyAt, positions, s.root);
    const kept = `session ${s.id} has ended, and of its ${positions} positions ${found} are still in the pool`;
    return found === positions ? null : refuse('SRCH', 0, kept);
  }

  private part(wish: ProbeWish, subject: Subject, rerun: Rerun): Part | Refusal {
    const { inside, name } = subject.engine;
    if (wish.what === 'probs') return this.probs(wish, subject, rerun);
    if (inside === null) return refuse('NOTSUP', 0, `the ${name} engine has no layers`);
    if (wish.what === 'lens') return this.lens(wish, subject, rerun, inside);
    return this.attention(wish, subject, rerun, inside);
  }

  // ── Kinds of looks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private probs({ top }: ProbeWish, subject: Subject, rerun: Rerun): Part | Refusal {
    const { s, pos } = subject;
    rerun.body();
    const logits = rerun.logits();
    if (logits === null) return refuse('INVAL', 5002, `the logits behind position ${pos} are not finite`);
    const penalised =
      (s.draw.modes & SAMPLER_MODE.penalty) === 0 ? logits : rerun.penalised(logits, s.f32('repeatPenalty'));
    const stages = stagesOf(s, logits.length).map(({ name, isPenalised, keeps, temp, cut }) => {
      return { name, chances: rerun.chances(largest(isPenalised ? penalised : logits, keeps), temp, cut) };
    });
    const next = this.idAt(subject, pos + 1);
    return {
      vocabulary: logits.length,
      sampler: {
        temp: asAsked(s.f32('temp')),
        top_k: s.get('topK'),
        top_p: asAsked(s.f32('topP')),
        min_p: asAsked(s.f32('minP')),
        repeat_penalty: asAsked(s.f32('repeatPenalty')),
      },
      stages: stages.map(({ name, chances: { tokens, entropy, of } }) => {
        return { stage: name, tokens, entropy, probability: next === null ? null : of(next) };
      }),
      top: rerun.best(logits, top).map(({ id, logit }) => {
        return { ...this.text(id), logit, probabilities: stages.map(({ chances }) => chances.of(id)) };
      }),
    };
  }

  private attention({ layer, head }: ProbeWish, subject: Subject, rerun: Rerun, inside: Inside): Part {
    const { layers, heads, headsKv } = subject.engine.shape;
    const row = [...rerun.weights(inside, layer, head)];
    return {
      layer,
      head,
      layers,
      heads,
      heads_kv: headsKv,
      head_kv: Math.floor(head / (heads / headsKv)),
      entropy: row.reduce((sum, w) => (w === 0 ? sum : sum - w * log2(w)), 0),
      row: row.map((weight, position) => ({ position, ...this.tokenAt(subject.historyAt, position), weight })),
    };
  }

  private lens({ top }: ProbeWish, subject: Subject, rerun: Rerun, inside: Inside): Part | Refusal {
    const next = this.idAt(subject, subject.pos + 1);
    const layers: Part[] = [];
    for (const [i, residual] of rerun.residuals(inside).entries()) {
      const logits = rerun.logits(inside, residual);
      if (logits === null) return refuse('INVAL', 5002, `the logits behind layer ${i - 1} are not finite`);
      const { entropy, of } = rerun.chances(logits, 1, UNCUT);
      const best = rerun.best(logits, top);
      layers.push({
        layer: i - 1,
        entropy,
        rank: next === null ? null : rankOf(logits, next),
        probability: next === null ? null : of(next),
        top: best.map(({ id, logit }) => ({ ...this.text(id), logit, probability: of(id) })),
      });
    }
    return { vocabulary: subject.engine.vocabulary.count, layers };
  }

  // ── Tokens ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The token of a position of its session, if it is known by now. */
  private idAt({ s, engine, historyAt }: Subject, pos: number): number | null {
    return pos < lengthOf(s, engine) ? this.k.arena.u32[(historyAt >> 2) + pos]! : null;
  }

  private next(subject: Subject): Part | null {
    const { s, historyAt, pos } = subject;
    if (this.idAt(subject, pos + 1) === null) return null;
    return { ...this.tokenAt(historyAt, pos + 1), drawn: !s.isScore && pos + 1 >= s.get('promptTokens') };
  }

  private tokenAt(historyAt: number, pos: number): Text {
    return this.text(this.k.arena.u32[(historyAt >> 2) + pos]!);
  }

  /** A control token's text is its name. */
  private text(id: number): Text {
    const { arena, lay, loader } = this.k;
    const bytes = loader.engine()!.vocabulary.piece(id, lay.dmaAt, LIMITS.dmaBytes, true);
    return { id, text: utf8Decode(arena.u8, lay.dmaAt, lay.dmaAt + Math.max(0, bytes)) };
  }
}

function check({ what, layer, head, top }: ProbeWish, { name, inside, shape, vocabulary }: Engine): Refusal | null {
  const bad = (text: string): Refusal => refuse('INVAL', 7001, text);
  const isBelow = (x: number, end: number): boolean => Number.isInteger(x) && x >= 0 && x < end;
  if (!PROBES.includes(what)) return bad(`no look '${String(what)}': ${PROBES.join(', ')}`);
  const most = Math.min(LIMITS.topLogitsMax, vocabulary.count);
  if (what !== 'attention') return isBelow(top - 1, most) ? null : bad(`${top} tokens, 1 to ${most} can be shown`);
  if (inside === null) return refuse('NOTSUP', 0, `the ${name} engine has no layers`);
  if (!isBelow(layer, shape.layers)) return bad(`layer ${layer}: the model has 0 to ${shape.layers - 1}`);
  return isBelow(head, shape.heads) ? null : bad(`head ${head}: a layer has 0 to ${shape.heads - 1}`);
}

/** Of an f32 the digits that it was given by: 0.8 is 0.800000012 there. */
const asAsked = (x: number): number => Number(x.toPrecision(7));

/** How many logits are larger, or as large and of a lower id; and 1. */
function rankOf(logits: Float32Array, id: number): number {
  const own = logits[id]!;
  return logits.reduce((rank, x, other) => rank + Number(x > own || (x === own && other < id)), 1);
}

/** These logits, all but the `k` largest being nobody's, ties by lower id. */
function largest(logits: Float32Array, k: number): Float32Array {
  if (k >= logits.length) return logits;
  const ids = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
  const cut = new Float32Array(logits.length).fill(-Infinity);
  for (const id of ids.slice(0, k)) cut[id] = logits[id]!;
  return cut;
}

/** The model's own distribution, and those behind the stages that the session has switched on, in the sampler's order. */
function stagesOf(s: Session, vocabulary: number): readonly Stage[] {
  const { modes } = s.draw;
  const isOn = (mode: number): boolean => (modes & mode) !== 0;
  const [temp, k, topP, minP] = [s.f32('temp'), s.get('topK'), s.f32('topP'), s.f32('minP')];
  const stages: Stage[] = [{ name: 'model', isPenalised: false, keeps: vocabulary, temp: 1, cut: UNCUT }];
  const add = (name: Stage['name'], more: Partial<Stage>): unknown => stages.push({ ...stages.at(-1)!, name, ...more });
  if (isOn(SAMPLER_MODE.penalty)) add('penalty', { isPenalised: true });
  if (isOn(SAMPLER_MODE.greedy)) {
    add(temp <= 0 ? 'temperature' : 'top_k', { keeps: 1 });
    return stages;
  }
  if (temp !== 1) add('temperature', { temp });
  if (k > 0 && k < vocabulary) add('top_k', { keeps: k });
  const cut = { modes: modes & SAMPLER_MODE.topP, topP, minP };
  if (isOn(SAMPLER_MODE.topP)) add('top_p', { cut });
  if (isOn(SAMPLER_MODE.minP)) add('min_p', { cut: { ...cut, modes: cut.modes | SAMPLER_MODE.minP } });
  return stages;
}
