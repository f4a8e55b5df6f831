// The training device as the kernel runs it: one training at a time of the loaded model, in a region of its own behind the model's, with a slot of its
// own in the scheduler. It is opened, given batches one after the other, read, written and closed; what it does between the passes of inference
// is in run.ts. Everything is checked before anything is taken, and what is refused has changed nothing.

import {
  isRefusal,
  KIND,
  LIMITS,
  refuse,
  SERVER,
  strerror,
  TRAIN_BATCH,
  TRAIN_COLUMNS,
  TRAIN_METHODS,
  TRAIN_SEQUENCE_WORDS,
  TRAIN_STATE,
  TRAIN_VECTORS,
  TrainStep,
  type Hasher,
  type Refusal,
  type Trainable,
  type TrainPlace,
  type TrainProgram,
  type TrainReport,
  type TrainState,
} from '../abi/index.ts';
import type { AuditFields } from '../../trust/index.ts';
import type { OpenFile } from '../../vfs/file.ts';
import { ROOT } from '../../vfs/permission.ts';
import type { Mark } from '../arena.ts';
import { refusedFields } from '../audit/journal.ts';
import type { TrainingPrices } from '../costs.ts';
import type { Loaded } from '../loader.ts';
import { TRAIN_SLOT, TRAINING } from '../sched.ts';
import type { Service } from '../service.ts';
import type { Caller, Submitter } from '../session.ts';
import type { MemoryRegion } from '../wcet/targets.ts';
import { transferCycles } from '../wcet/targets.ts';
import { checkpointWord, Chooser, idsMax, isMisfit, optionWords, ownPart, reportOf, TRAIN_PARTS } from './choice.ts';
import type { Arrangement, Options, OwnPart } from './choice.ts';
import { checkStep, cyclesOf } from './step.ts';
import { Run, type BatchBound, type Step } from './run.ts';

type Report = ReturnType<typeof TrainReport.read>;
type State = ReturnType<typeof TrainState.read>;

/** A training plan in memory, priced. */
interface Compiled {
  readonly own: OwnPart;
  readonly program: TrainProgram;
  readonly prices: TrainingPrices;
}

/** The server of a training: Q cycles every T. */
interface Server {
  readonly budget: number;
  readonly period: number;
}

/** A batch under way: what it was said to take, and what of that it has. */
interface Batch {
  readonly bound: BatchBound;
  cycles: number;
}

/** The training that is open. */
interface Training extends Compiled {
  readonly id: number;
  readonly by: Submitter;
  readonly loaded: Loaded;
  readonly options: Options;
  readonly arrangement: Arrangement;
  readonly mark: Mark;
  readonly run: Run;
  readonly server: Server | null;
  /** Of every batch that was learned from: its TrainStep, then its sequences as they were given. */
  readonly data: Hasher;
  batch: Batch | null;
  /** The scheduler knows it as runnable. */
  isAwake: boolean;
  /** Of the last batch that has ended. */
  last: Batch;
  cycles: number;
  tokens: number;
  slices: number;
  sliceMax: number;
}

/** A training plan that is there or would be, and where. */
interface Priceable extends ReturnType<typeof placeOf> {
  readonly word: (address: number) => number;
  readonly segments: TrainProgram['segments'];
  readonly logitsAt: number;
}

/** Where the parts of the train region lie that begins at `at`. */
function placeOf(a: Arrangement, at: number): TrainPlace & { readonly planAt: number; readonly own: OwnPart } {
  const planAt = at + TRAIN_PARTS.reduce((sum, part) => sum + (part === 'plan' ? 0 : a.budget[part]), 0);
  const own = ownPart(planAt + a.budget.plan, a.choice, a.batch);
  return { at, planAt, own, blockAt: own.blockAt, targetsAt: own.targetsAt };
}

/** What the processor is held for at most beside training, and the most that a slice takes. */
interface Limits {
  blocking(): number;
  readonly passMax: number;
  seen: number;
}

const NO_BATCH: Batch = { bound: { cycles: 0, undo: 0 }, cycles: 0 };

/** Longest slices in a budget whose period was not asked for. */
const SLICES = 10;

const NO_MODEL = refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');

const most = ({ cycles, undo }: BatchBound): number => cycles + undo;

export class Trainer {
  private open: Training | null = null;
  private lastId = 0;

  constructor(
    private readonly k: Service,
    private readonly limits: Limits,
  ) {}

  // ── What it would take ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What training with these options would take. Its plan is compiled beside the arena, priced and forgotten. */
  plan(by: Submitter, options: Options): Partial<Report> | Refusal {
    const { arena, loader } = this.k;
    const loaded = loader.current();
    if (loaded === null) return NO_MODEL;
    const denied = this.denied(by, options);
    if (denied !== null) return denied;
    const a = Chooser.choose(options, loaded.engine, arena.remaining());
    if (isRefusal(a)) return a;
    if (isMisfit(a)) return reportOf(a, arena.remaining());
    const place = placeOf(a, arena.usage().offset);
    const image = (loaded.engine.training as Trainable).plan(a.choice, place);
    if (isRefusal(image)) return image;
    const { words, planAt } = image;
    const prices = this.price(a, loaded, { ...place, ...image, word: address => words[(address - planAt) >> 2] ?? 0 });
    return isRefusal(prices) ? prices : { ...reportOf(a, arena.remaining()), ...cyclesOf(a, prices) };
  }

  /** Whoever may run a model may train beside it: a low-rank pair holds nothing of its weights. A copy of all of them does. */
  private denied(by: Submitter, { method }: Options): Refusal | null {
    const { loader, monitor } = this.k;
    const refusal = monitor.refusal(by, 'run', loader.source()) ?? loader.denies('execute');
    return refusal ?? (TRAIN_METHODS[method] === 'full' ? loader.denies('export') : null);
  }

  /** Prices of a plan; `word`: an i32 of it. */
  private price(a: Arrangement, { engine }: Loaded, plan: Priceable): TrainingPrices | Refusal {
    const { at, planAt, own, word, segments, logitsAt } = plan;
    const outside = this.k.loader.regionOf();
    // Vectors and activations are larger than caches and written as well as read, as keys and values are.
    const regionOf = (address: number): MemoryRegion =>
      address < at ? outside(address) : address >= planAt && address < own.stepAt ? 'plan' : 'kv';
    const { rowsAt, picksAt, stepAt } = own;
    const { ctx, picks } = a.choice;
    const vocabulary = engine.vocabulary.count;
    return this.k.costs.priceTraining({
      word,
      regionOf,
      vocabulary,
      logitsAt,
      rowsAt,
      picksAt,
      stepAt,
      ctx,
      picks,
      segments,
    });
  }

  /** Lays the region out from `at` on: first values, and the plan, priced. */
  private compile(a: Arrangement, loaded: Loaded, at: number): Compiled | Refusal {
    const { arena, costs } = this.k;
    const place = placeOf(a, at);
    const program = (loaded.engine.training as Trainable).load(a.choice, place);
    if (isRefusal(program)) return program;
    costs.settle();
    const prices = this.price(a, loaded, { ...place, ...program, word: address => arena.i32[address >> 2]! });
    return isRefusal(prices) ? prices : { own: place.own, program, prices };
  }

  // ── It begins and ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Begins a training; its handle. */
  begin(by: Submitter, options: Options): number | Refusal {
    const t = this.opened(by, options);
    const a = isRefusal(t) ? null : t.arrangement;
    const told = { 'arena8.name': 'open', 'arena8.train.options': optionWords(options, a) };
    this.note(by.uid, isRefusal(t) ? { ...told, ...refusedFields(t) } : told);
    return isRefusal(t) ? t : t.id;
  }

  private opened(by: Submitter, options: Options): Training | Refusal {
    const { arena, loader } = this.k;
    const loaded = loader.current();
    if (loaded === null) return NO_MODEL;
    const denied = this.busy() ?? this.denied(by, options);
    if (denied !== null) return denied;
    const a = Chooser.choose(options, loaded.engine, arena.remaining());
    if (isRefusal(a)) return a;
    if (isMisfit(a)) return refuse('NOMEM', 3001, a.message);
    const mark = arena.mark();
    const at = arena.alloc(a.total, LIMITS.arenaAlign, 'train');
    const compiled = this.compile(a, loaded, at);
    const server = isRefusal(compiled) ? compiled : this.admit(options, compiled.prices.sliceMax);
    if (isRefusal(compiled) || isRefusal(server)) {
      arena.release(mark);
      return isRefusal(compiled) ? compiled : (server as Refusal);
    }
    compiled.prices.fill(arena.u32);
    const { vocabulary } = loaded.engine;
    const run = new Run(arena, this.k.compute, compiled.own, a, compiled.program, compiled.prices, vocabulary.count);
    const figures = { batch: null, isAwake: false, last: NO_BATCH, cycles: 0, tokens: 0, slices: 0, sliceMax: 0 };
    const data = this.k.sha256();
    const id = ++this.lastId;
    this.open = { ...compiled, id, by, loaded, options, arrangement: a, mark, run, server, data, ...figures };
    return this.open;
  }

  /** A place in the scheduler; a refusal where what is admitted could not bear its longest op, or there is no such share left. */
  private admit(o: Options, sliceMax: number): Server | null | Refusal {
    const { clock, sched } = this.k;
    const blocking = Math.max(this.limits.blocking(), sliceMax);
    const who = { session: TRAINING, priority: 0, background: 1 } as const;
    if (o.sharePpm === 0) {
      const refusal = sched.segment(blocking);
      if (refusal === null) sched.addBestEffort(TRAIN_SLOT, who);
      return refusal;
    }
    const server = this.serverOf(o, sliceMax, blocking);
    if (isRefusal(server)) return server;
    return sched.admit(TRAIN_SLOT, { ...who, ...server, kind: SERVER.soft }, clock.cycles(), blocking) ?? server;
  }

  private serverOf({ sharePpm, periodNs }: Options, sliceMax: number, blocking: number): Server | Refusal {
    const { clock } = this.k;
    const shortest = Math.ceil((sliceMax / sharePpm) * 1e6) + 1;
    const own = Math.max(SLICES * shortest, Math.ceil((2 * blocking) / (1 - sharePpm / 1e6)));
    const period = periodNs === 0 ? own : clock.cyclesIn(periodNs);
    const budget = Math.floor((period / 1e6) * sharePpm);
    if (budget >= sliceMax) return { budget, period };
    return refuse(
      'INVAL',
      7001,
      `${sharePpm} ppm of ${clock.nsOf(period)} ns are ${budget} cycles, its longest op takes ${sliceMax}; a period of ${clock.nsOf(shortest)} ns would do`,
    );
  }

  /** Why no other model, processor or training may come: there is one. */
  busy(): Refusal | null {
    if (this.open === null) return null;
    const { id, by } = this.open;
    return refuse('BUSY', 3002, `training ${id} of user ${this.k.monitor.nameOf(by.uid)} is open`);
  }

  /** Ends it: its memory is free again. */
  end(t: Training): void {
    const { arena, sched } = this.k;
    if (t.batch !== null) this.settle(t, t.batch);
    this.note(t.by.uid, this.endFields(t));
    sched.remove(TRAIN_SLOT);
    this.open = null;
    sched.segment(this.limits.blocking());
    arena.release(t.mark);
  }

  /** A process ended: so does its training. */
  closeOwnedBy(pid: number): void {
    if (this.open?.by.pid === pid) this.end(this.open);
  }

  /** The training of that handle, if the caller may use it. */
  own(handle: number, caller: Caller): Training | Refusal {
    const t = this.open;
    if (t === null || t.id !== handle) return refuse('BADF', 0, `no training ${handle} is open`);
    if (caller.uid === ROOT.euid || caller.uid === t.by.uid) return t;
    return refuse('ACCES', 0, `training ${handle} is another user's`);
  }

  // ── Batches ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What giving a batch takes at most: its bytes from storage. */
  givingMax(t: Training, file: OpenFile): number {
    const { kind, size } = file.stat();
    const bytes = kind === KIND.file ? Math.min(Math.max(0, size - file.position), t.own.batchBytes + 4) : 0;
    return transferCycles(this.k.costs.target, bytes).upper;
  }

  /** Checks a batch, and begins it: how many targets it has. */
  give(t: Training, file: OpenFile, s: Step): number | Refusal {
    if (t.batch !== null) return refuse('BUSY', 3002, `a batch of training ${t.id} is under way`);
    if (t.run.fault !== '') return refuse('IO', 5002, `training ${t.id} has failed: ${t.run.fault}`);
    const bad = checkStep(s, t.arrangement, t.program);
    if (bad !== null) return bad;
    const words = this.read(t, file);
    if (isRefusal(words)) return words;
    const sequences = this.check(t, words);
    if (isRefusal(sequences)) return sequences;
    const bound = t.run.bound(s, sequences);
    const over = this.k.quotas.admit(t.by.uid, { tokens: 0, cycles: most(bound), kvBytes: 0 });
    if (over !== null) return over;
    if (s.kind === TRAIN_BATCH.learn) this.remember(t, s, words);
    t.batch = { bound, cycles: 0 };
    t.run.begin(s, sequences);
    t.tokens += t.run.outcome.tokens;
    if (!t.run.isBusy) this.settle(t, t.batch); // a plan without ops
    return t.run.outcome.targets;
  }

  /** The batch's words from its descriptor into the region: how many. */
  private read({ own, arrangement: { choice, batch } }: Training, file: OpenFile): number | Refusal {
    const { arena, costs, lay } = this.k;
    if (file.stat().kind !== KIND.file) return refuse('INVAL', 0, 'a batch is read from a regular file');
    let bytes = 0;
    for (let n; (n = file.read(lay.dmaAt, LIMITS.dmaBytes)) !== 0; bytes += n) {
      if (n < 0) return refuse('IO', 0, `cannot read the batch: ${strerror(n)}`);
      if (bytes + n > own.batchBytes)
        return refuse('TOOBIG', 7001, `the batch has more than ${batch} sequences of ${idsMax(choice.ctx)} ids`);
      arena.u8.copyWithin(own.batchAt + bytes, lay.dmaAt, lay.dmaAt + n);
    }
    costs.transfer(bytes);
    return (bytes & 3) === 0 ? bytes >> 2 : refuse('INVAL', 7001, `${bytes} bytes are no words of 4 bytes each`);
  }

  /** Sequences in that many words: how many. */
  private check({ own, arrangement: { choice, batch }, loaded }: Training, words: number): number | Refusal {
    const { u32 } = this.k.arena;
    const { count } = loaded.engine.vocabulary;
    const bad = (sequence: number, text: string): Refusal => refuse('INVAL', 7001, `sequence ${sequence}: ${text}`);
    const [first, end] = [own.batchAt >> 2, (own.batchAt >> 2) + words];
    let sequences = 0;
    for (let at = first; at < end;) {
      const n = at + 1 < end ? u32[at]! : 0;
      const from = u32[at + 1]!;
      sequences++;
      if (sequences > batch) return refuse('TOOBIG', 7001, `the batch has more than ${batch} sequences`);
      if (n < 2) return bad(sequences, `${n} ids; 2 at least`);
      if (n > idsMax(choice.ctx))
        return bad(sequences, `${n} ids; ${idsMax(choice.ctx)} at most, one behind the context`);
      if (from > n - 2) return bad(sequences, `none of its ${n} ids is a target behind position ${from}`);
      at += TRAIN_SEQUENCE_WORDS;
      if (at + n > end) return bad(sequences, `${n} ids, ${end - at} are there`);
      for (const last = at + n; at < last; at++)
        if (u32[at]! >= count)
          return refuse('INVAL', 4002, `sequence ${sequences}: token ${u32[at]!}, the vocabulary has ${count}`);
    }
    return sequences === 0 ? refuse('INVAL', 7001, 'the batch has no sequence') : sequences;
  }

  private remember({ data, own }: Training, s: Step, words: number): void {
    const record = new Uint8Array(TrainStep.bytes);
    TrainStep.write(record, 0, s);
    data.update(record);
    data.update(this.k.arena.u8.slice(own.batchAt, own.batchAt + 4 * words));
  }

  // ── Slices ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Tells the scheduler whether it has ops to run. */
  rouse(): void {
    const t = this.open;
    if (t === null || t.isAwake === (t.batch !== null)) return;
    t.isAwake = t.batch !== null;
    if (t.isAwake) this.k.sched.wake(TRAIN_SLOT, this.k.clock.cycles());
    else this.k.sched.sleep(TRAIN_SLOT);
  }

  /** What its next op takes. */
  get next(): number {
    return this.open?.run.next ?? 0;
  }
  /** The longest op of the training that is open: servers must bear it. */
  get opMax(): number {
    return this.open?.prices.sliceMax ?? 0;
  }

  /** hot: ops until the next one would pass what a pass takes at most, or what is left of the server's budget; at least one. */
  slice(): void {
    const t = this.open!;
    const { clock, sched, trace } = this.k;
    const fromNs = clock.nowNs();
    const left = t.server === null ? Infinity : sched.remaining(TRAIN_SLOT);
    const cycles = t.run.slice(Math.min(this.limits.passMax, left));
    clock.advance(cycles, 'plan');
    sched.charge(TRAIN_SLOT, cycles, clock.cycles());
    this.limits.seen = Math.max(this.limits.seen, cycles);
    t.batch!.cycles += cycles;
    t.cycles += cycles;
    t.slices++;
    t.sliceMax = Math.max(t.sliceMax, cycles);
    trace.emit('train', 0, t.id, t.run.steps, clock.nowNs() - fromNs);
    if (!t.run.isBusy) this.settle(t, t.batch!);
  }

  /** A batch has ended: what it took is charged to its user, and held against what was said. */
  private settle(t: Training, batch: Batch): void {
    const { bound, cycles } = batch;
    const reserved = { tokens: 0, cycles: most(bound), kvBytes: 0 };
    this.k.quotas.settle(t.by.uid, reserved, { tokens: 0, cycles });
    t.batch = null;
    t.last = batch;
    const isWhole = !t.run.isBusy && t.run.fault === '' && !t.run.frozen;
    const least = isWhole ? bound.cycles : 0;
    if (cycles > most(bound) || cycles < least) {
      const pass = { session: 0, outputTokens: 0, pos: 0, charged: cycles };
      this.k.breached({ what: 'training', ...pass, most: most(bound), least });
    }
  }

  // ── Its state ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  state(t: Training): State {
    const { run, server } = t;
    const batch = t.batch ?? t.last;
    const state = t.batch !== null ? 'busy' : run.fault === '' ? 'idle' : 'faulted';
    const whole = most(batch.bound);
    return {
      state: TRAIN_STATE.indexOf(state),
      id: t.id,
      steps: run.steps,
      frozen: Number(run.frozen),
      ...run.outcome,
      cycles: batch.cycles,
      cyclesMost: whole,
      cyclesTotal: t.cycles,
      tokensTotal: t.tokens,
      slices: t.slices,
      sliceMax: t.sliceMax,
      misses: server === null ? 0 : this.k.sched.server(TRAIN_SLOT).misses,
      progressPpm: t.batch === null ? 1e6 : Math.floor((batch.cycles / whole) * 1e6),
      message: run.fault,
    };
  }

  /** Where a vector of its state lies, between batches; a refusal where the method keeps none. */
  vector(t: Training, index: number): { readonly at: number; readonly bytes: number } | Refusal {
    const { program } = t;
    const name = TRAIN_VECTORS[index];
    if (name === undefined) return refuse('INVAL', 7001, `no vector ${index}: ${TRAIN_VECTORS.join(', ')}`);
    if (t.batch !== null) return refuse('BUSY', 3002, `a batch of training ${t.id} is under way`);
    const at = program[`${name}At`];
    if (at === 0) return refuse('INVAL', 7001, `this training keeps no vector '${name}'`);
    return { at, bytes: 4 * program.parameters };
  }

  /** So many updates were made before, and whether the last one froze it. */
  resume(t: Training, steps: number, frozen: number): Refusal | null {
    if (t.batch !== null) return refuse('BUSY', 3002, `a batch of training ${t.id} is under way`);
    if (steps < 0 || steps > 0xffffffff) return refuse('INVAL', 7001, `${steps} updates`);
    if (frozen !== 0 && frozen !== 1) return refuse('INVAL', 7001, `frozen ${frozen}: 0 or 1`);
    t.run.steps = steps;
    t.run.frozen = frozen === 1;
    return null;
  }

  /** /proc/training as a user sees it: a line a figure; empty when none is open. Losses tell of texts: of another's only whose it is. */
  text(uid: number): string {
    const t = this.open;
    if (t === null) return '';
    if (uid !== ROOT.euid && uid !== t.by.uid) return `uid ${t.by.uid}\n`;
    const { choice } = t.arrangement;
    const { state, ...figures } = this.state(t);
    const { targets: trained, ...chosen } = choice;
    const lines = {
      ...chosen,
      matrices: trained.join(',') || '-',
      batch: t.arrangement.batch,
      checkpoint: checkpointWord(choice.checkpoint),
      parameters: t.arrangement.parameters,
      total: t.arrangement.total,
      uid: t.by.uid,
      pid: t.by.pid,
      budget: t.server?.budget ?? 0,
      period: t.server?.period ?? 0,
      ...figures,
      state: TRAIN_STATE[state],
    };
    return Object.entries(lines)
      .map(([name, value]) => `${name} ${value}\n`)
      .join('');
  }

  /** /proc/traintensors: TRAIN_COLUMNS, then a line a trained tensor; empty when none is open. */
  tensorsText(): string {
    if (this.open === null) return '';
    const rows = this.open.program.tensors.map(t => [t.name, t.columns, t.rows, t.from, t.columns * t.rows]);
    return [TRAIN_COLUMNS, ...rows].map(row => `${row.join('\t')}\n`).join('');
  }

  // ── The audit log ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private note(uid: number, fields: AuditFields): void {
    const { journal } = this.k;
    journal.note('finetune', uid, { ...journal.modelFields(), ...fields });
  }

  private endFields(t: Training): AuditFields {
    const { run, program } = t;
    const parameters = this.k.sha256();
    const { parametersAt: at } = program;
    parameters.update(this.k.arena.u8.slice(at, at + 4 * program.parameters));
    const { loss } = run.outcome;
    const failed = run.fault === '' ? {} : { 'arena8.code': 5002, 'arena8.message': run.fault };
    return {
      'arena8.name': 'close',
      'arena8.train.options': optionWords(t.options, t.arrangement),
      'arena8.train.parameters.digest': Uint8Array.from(parameters.digest()),
      'arena8.train.data.digest': Uint8Array.from(t.data.digest()),
      'arena8.train.steps': run.steps,
      'arena8.train.tokens': t.tokens,
      'arena8.train.cycles': t.cycles,
      ...(Number.isFinite(loss) ? { 'arena8.train.loss': loss } : {}),
      ...failed,
    };
  }
}
