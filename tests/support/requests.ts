// Requests on a whole machine, held against what was said before they ran: every step against its bound, the request against its own and
// against the forecast, its cycles against the clock's accounts. Models, texts, settings and logits come from a seed; among them the extremes:
// settings at the ends of their ranges, prompts that fill the context, logits that are hardest on the sampler.

import { readFileSync } from 'node:fs';
import { boot } from '../../boot/index.ts';
import type { Machine } from '../../boot/machine.ts';
import {
  FINISH,
  GGML_TYPE,
  isRefusal,
  LIMITS,
  O,
  SESSION_KIND,
  SessionOptions,
  StepBlock,
  WcetOptions,
  type Compute,
  type Engine,
  type RecordValue,
  type SessionReport,
} from '../../kernel/abi/index.ts';
import { ACCOUNTS } from '../../kernel/clock.ts';
import type { PlanPrices } from '../../kernel/costs.ts';
import { LOAD_DEFAULTS } from '../../kernel/abi/index.ts';
import { drawOf } from '../../kernel/session.ts';
import type { Bound } from '../../kernel/wcet/price.ts';
import { kvTypeFor, randomConfig, randomModel } from '../reference/models.ts';
import { bpeVocabulary, randomText, spmVocabulary } from '../reference/vocabularies.ts';
import { forget } from './service.ts';

export type Settings = RecordValue<typeof SessionOptions.fields>;
export type Report = RecordValue<typeof SessionReport.fields>;
export type Next = () => number; // from 0 to 1

export const below = (next: Next, n: number): number => Math.floor(next() * n);
export const pick = <T>(next: Next, list: readonly T[]): T => list[below(next, list.length)]!;

// ── Models ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface RandomModel {
  readonly name: string;
  readonly file: Uint8Array;
  readonly ctx: number;
  readonly kvType: number;
}

const WIDE = 100;

/** A tiny transformer of any shape and weights, with a vocabulary that reads text, and a context to load it with. */
export function randomFile(next: Next): RandomModel {
  const architecture = pick(next, ['llama', 'gpt2', 'sis'] as const);
  let shape = randomConfig(architecture, next);
  while (shape.embedding > WIDE && next() < 0.8) shape = randomConfig(architecture, next); // most are quick to run
  const context = pick(next, [12, 24, 32, 48, 48, 130, 300]);
  const bpe = next() < 0.5;
  // An odd number, or one that fills the sampler's blocks; in one model of ten a vocabulary that the sampler feels.
  const vocabulary = next() < 0.1 ? 500 + below(next, 1500) : pick(next, [276, 288, 289, 304, 320, 383]);
  const config = { ...shape, context, vocabulary };
  const { file } = randomModel(config, next, (bpe ? bpeVocabulary : spmVocabulary)(vocabulary, next));
  const kvType = kvTypeFor(config, next);
  return { name: JSON.stringify(config), file, ctx: context - below(next, 4), kvType };
}

// ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a draw's price depends on. */
interface Stages {
  readonly greedy: boolean;
  readonly topK: number;
  readonly topP: boolean;
  readonly minP: boolean;
  readonly penalty: boolean;
}

export function randomStages(next: Next, vocabulary: number): Stages {
  const coin = (): boolean => next() < 0.5;
  const topK = pick(next, [
    0,
    0,
    1,
    2,
    5,
    40,
    40,
    127,
    128,
    129,
    vocabulary - 1,
    vocabulary,
    vocabulary + 1,
    2 ** 31 - 1,
  ]);
  return { greedy: next() < 0.15, topK, topP: coin(), minP: coin(), penalty: coin() };
}

function randomSettings(next: Next, s: Stages): Partial<Settings> {
  return {
    temp: s.greedy ? 0 : pick(next, [1e-30, 0.01, 0.1, 0.8, 0.8, 1, 2, 100]),
    topK: s.topK,
    topP: s.topP ? pick(next, [1e-38, 1e-6, 0.05, 0.5, 0.95, 0.95, 0.999999]) : 1,
    minP: s.minP ? pick(next, [1e-38, 1e-6, 0.05, 0.5, 1]) : 0,
    repeatPenalty: s.penalty ? pick(next, [0.001, 0.5, 1.1, 1.3, 100]) : 1,
    rng: below(next, 2),
    seed: below(next, 1000),
  };
}

/** Stages of the sampler in words. */
export function stagesOf({ temp, topK, topP, minP, repeatPenalty }: Settings, vocabulary: number): string {
  const cut = topP < 1 || minP > 0;
  const kept =
    temp <= 0 || topK === 1
      ? 'greedy'
      : topK === 0 || topK >= vocabulary
        ? 'all tokens'
        : topK <= 128
          ? 'top-k to 128'
          : 'top-k above 128';
  return [kept, ...(kept !== 'greedy' && cut ? ['cut off'] : []), ...(repeatPenalty === 1 ? [] : ['penalty'])].join(
    ', ',
  );
}

// ── Logits ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const WORD = new Uint32Array(1);
const FLOAT = new Float32Array(WORD.buffer);
const fromBits = (bits: number): number => ((WORD[0] = bits), FLOAT[0]!);

/** Logits in place of a model's: what bisections, tournaments and blocks like least. */
export const LOGITS: Readonly<Record<string, (row: Float32Array, next: Next) => void>> = {
  equal: (row, next) => row.fill(pick(next, [0, -0, 1, -7.5, 1e30])),
  ascending: (row, next) => {
    const step = pick(next, [1e-6, 0.01, 1, 50]);
    for (let i = 0; i < row.length; i++) row[i] = i * step;
  },
  descending: (row, next) => {
    const step = pick(next, [1e-6, 0.01, 1, 50]);
    for (let i = 0; i < row.length; i++) row[i] = -i * step;
  },
  'two values': (row, next) => {
    const share = pick(next, [0.01, 0.5, 0.99]);
    const gap = pick(next, [1e-6, 1, 1e30]);
    for (let i = 0; i < row.length; i++) row[i] = next() < share ? gap : 0;
  },
  'one apart': (row, next) => {
    row.fill(0);
    row[below(next, row.length)] = pick(next, [-1, 1e-6, 3, 1e30]);
  },
  neighbours: row => {
    for (let i = 0; i < row.length; i++) row[i] = fromBits(0x3f800000 + (i % 7));
  },
  'every exponent': (row, next) => {
    for (let i = 0; i < row.length; i++)
      row[i] = fromBits(((1 + below(next, 250)) << 23) | (next() < 0.5 ? 0 : 0x80000000));
  },
  'wide and random': (row, next) => {
    const spread = pick(next, [1e-3, 1, 20, 400]);
    for (let i = 0; i < row.length; i++) row[i] = (next() - 0.5) * spread;
  },
};

// ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Request {
  readonly text: string;
  readonly settings: Settings;
  /** Fills the logits of each draw; null: the model's own. */
  readonly logits: ((row: Float32Array) => void) | null;
  /** Cancelled when so many steps have run. */
  readonly cancelAfter: number;
}

const NEVER = Infinity;
export const DEFAULTS: Settings = {
  ...SessionOptions.read(new Uint8Array(SessionOptions.bytes), 0),
  temp: 0.8,
  topK: 40,
  topP: 0.95,
  repeatPenalty: 1,
};

/** A request of a machine's model, of any kind. `stages`: among which to choose. `top`: how many of the largest logits may be asked for. */
export function randomRequest(next: Next, ctx: number, stages: readonly Stages[], top: readonly number[]): Request {
  const score = next() < 0.04;
  const longest = score ? 2 * ctx : ctx;
  const words = next() < 0.06 ? 1 + below(next, longest) : 1 + below(next, 8);
  const settings = {
    ...DEFAULTS,
    ...randomSettings(next, pick(next, stages)),
    kind: score ? SESSION_KIND.score : SESSION_KIND.generate,
    maxTokens: pick(next, [1, 1, 2, 2, 3, 4, 5, next() < 0.1 ? 0 : 6]), // 0: as many as there is room for
    logitsK: next() < 0.2 ? pick(next, top) : 0,
  };
  const fill = next() < 0.4 ? pick(next, Object.values(LOGITS)) : null;
  return {
    text: randomText(words, next),
    settings,
    logits: fill === null ? null : row => fill(row, next),
    cancelAfter: next() < 0.01 ? below(next, 4) : NEVER,
  };
}

/** What a request cost, and what was said of it. */
export interface Outcome {
  readonly report: Report;
  readonly steps: number;
  /** It drew every token that it could. */
  readonly whole: boolean;
}

/** Stands between sessions and kernels while a request runs. */
export interface Observer {
  run(stepAt: number, opAt: number): number;
  top_k(logitsAt: number, n: number, k: number, outAt: number): void;
  take_spent(): number;
}

/** A request broke a promise. */
export class Broken extends Error {}

const OWNER = 4711; // no process
const MODEL_PATH = '/tmp/model.gguf';
const add = (a: Bound, b: Bound): Bound => ({ most: a.most + b.most, least: a.least + b.least });

/** A strict machine that requests are tried on. */
export class Subject {
  readonly machine: Machine;
  readonly kernels: Compute;
  /** When set, called in place of the kernels. */
  observer: Observer | null = null;
  /** Cycles that heads over several rows took less than one by one, which is what their sessions pay: of the last request. */
  saved = 0;
  private logits: Request['logits'] = null;

  constructor(build: 'simd128' | 'relaxed', target = '') {
    const image = readFileSync('build/boot.cpio');
    this.machine = boot({ image, build, strict: true, ...(target === '' ? {} : { target }) });
    const { compute } = this.machine.kernel['hw'];
    this.kernels = { ...compute };
    const between: Observer = {
      run: (stepAt, opAt) => {
        if (this.logits !== null && opAt === this.engine.sampleAt) this.logits(this.row());
        if (opAt === this.engine.headAt) this.head(StepBlock.read(this.machine.arena.u8, stepAt).picks);
        return (this.observer ?? this.kernels).run(stepAt, opAt);
      },
      top_k: (...args) => (this.observer ?? this.kernels).top_k(...args),
      take_spent: () => (this.observer ?? this.kernels).take_spent(),
    };
    Object.assign(compute, between);
  }

  get engine(): Engine {
    const engine = this.machine.kernel.loader.engine();
    if (engine === null) throw new Error('no model');
    return engine;
  }
  get prices(): PlanPrices {
    return this.machine.kernel.loader.prices();
  }

  private head(picks: number): void {
    const less = picks * this.prices.headTokens(1) - this.prices.headTokens(picks);
    if (less < 0) throw new Broken(`a head over ${picks} rows takes ${-less} cycles more than one by one`);
    this.saved += less;
  }

  private row(): Float32Array {
    const { arena, kernel } = this.machine;
    const { logitsAt, vocabulary } = StepBlock.read(arena.u8, kernel.lay.stepAt);
    return arena.f32.subarray(logitsAt >> 2, (logitsAt >> 2) + vocabulary);
  }

  load({ file, ctx, kvType }: RandomModel): void {
    const { kernel, arena } = this.machine;
    const { vfs, lay } = kernel;
    const to = vfs.open('/', MODEL_PATH, O.CREAT | O.TRUNC | O.WRONLY, 0o644);
    if (typeof to === 'number') throw new Error(`${MODEL_PATH}: ${to}`);
    for (let at = 0; at < file.length; at += LIMITS.dmaBytes) {
      const piece = file.subarray(at, at + LIMITS.dmaBytes);
      arena.u8.set(piece, lay.dmaAt);
      to.write(lay.dmaAt, piece.length);
    }
    to.close();
    this.loadFile(MODEL_PATH, ctx, kvType);
  }

  loadFile(path: string, ctx: number, kvType: number): void {
    const refusal = this.machine.kernel.loader.load(path, { ...LOAD_DEFAULTS, ctx, kvType });
    if (refusal !== null) throw new Error(refusal.message);
  }

  /** The stub, in one of its forms. */
  builtin(form: string): void {
    const refusal = this.machine.kernel.loader.loadBuiltin('stub', form);
    if (refusal !== null) throw new Error(refusal.message);
  }

  switchTarget(name: string): void {
    const refusal = this.machine.kernel.switchTarget(name);
    if (refusal !== null) throw new Error(refusal.message);
  }

  /** Runs a request to its end. Null: it was refused, having no room in the context, or no token. Throws Broken when a promise is. */
  request(r: Request): Outcome | null {
    forget(this.machine);
    const id = this.open(r);
    if (id === null) return null;
    this.logits = r.logits;
    this.saved = 0;
    try {
      return r.settings.kind === SESSION_KIND.score ? this.score(id) : this.generate(id, r);
    } finally {
      this.logits = null;
      this.machine.kernel.sessions.close(id);
    }
  }

  private open({ text, settings }: Request): number | null {
    const { kernel, arena } = this.machine;
    const { lay, vfs, sessions } = kernel;
    const prompt = vfs.memfd('prompt');
    if (typeof prompt === 'number') throw new Error(`no file for the prompt: ${prompt}`);
    const bytes = new TextEncoder().encode(text);
    arena.u8.set(bytes, lay.dmaAt);
    prompt.write(lay.dmaAt, bytes.length);
    prompt.seek(0, 0);
    SessionOptions.write(arena.u8, lay.windowAt, settings);
    const id = sessions.open({ pid: OWNER, uid: 0, groups: [] }, lay.windowAt, prompt);
    prompt.close();
    if (!isRefusal(id)) return id;
    if ([2002, 2003, 4001].includes(id.code)) return null;
    throw new Error(id.message);
  }

  private score(id: number): Outcome {
    const before = this.spent();
    let steps = 0;
    while (!this.ended(id)) {
      this.step();
      steps++;
    }
    const report = this.settled(id, before);
    // Nothing of it depends on data.
    if (report.cycles !== report.wcetCycles)
      throw new Broken(`${report.cycles} cycles, ${report.wcetCycles} were said`);
    return { report, steps, whole: true };
  }

  private generate(id: number, { settings, cancelAfter }: Request): Outcome {
    const { sessions } = this.machine.kernel;
    const { batch, ctx } = this.engine.options;
    const draw = drawOf(settings);
    const top = settings.logitsK === 0 ? { most: 0, least: 0 } : this.prices.topK(settings.logitsK);
    const { promptTokens, wcetCycles, bcetCycles } = sessions.report(id) as Report;
    const tokensMax = Math.min(settings.maxTokens === 0 ? 64 : settings.maxTokens, ctx - promptTokens);
    this.forecast(settings, promptTokens, tokensMax, { most: wcetCycles, least: bcetCycles });

    const before = this.spent();
    let sum: Bound = { most: 0, least: 0 };
    let [pos, steps, charged] = [0, 0, 0];
    for (; !this.ended(id); steps++) {
      if (steps === cancelAfter) sessions.cancel(id);
      const n = pos < promptTokens ? Math.min(batch, promptTokens - pos) : 1;
      const draws = pos + n >= promptTokens;
      const bound = add(
        draws ? this.prices.step(n, pos, true, draw, pos + n) : this.prices.segment('body', n, pos),
        draws ? top : { most: 0, least: 0 },
      );
      this.step();
      const now = sessions.report(id) as Report;
      const step = now.cycles - charged;
      charged = now.cycles;
      if (step === 0 && ['cancel', 'timeout'].includes(FINISH[now.finish]!)) continue;
      if (step > bound.most || step < bound.least)
        throw new Broken(`step at ${pos}: ${step} cycles, ${bound.least} to ${bound.most} were said`);
      pos += n;
      sum = add(sum, bound);
    }
    const report = this.settled(id, before);
    const finish = FINISH[report.finish]!;
    const whole = finish === 'length' || finish === 'context';
    if (whole && (report.outputTokens !== tokensMax || sum.most !== wcetCycles))
      throw new Broken(
        `${report.outputTokens} of ${tokensMax} tokens; steps up to ${sum.most}, ${wcetCycles} were said`,
      );
    return { report, steps, whole };
  }

  /** What `llmctl wcet` says is what the session says. */
  private forecast(settings: Settings, prompt: number, generate: number, session: Bound): void {
    const { kernel, arena } = this.machine;
    const { temp, topK, topP, minP, repeatPenalty } = settings;
    const options = { temp, topK, topP, minP, repeatPenalty, prompt, generate, promptBytes: 1, kvType: GGML_TYPE.F16 };
    WcetOptions.write(arena.u8, kernel.lay.windowAt, options);
    const said = kernel.forecast.request('', kernel.lay.windowAt);
    if (isRefusal(said)) throw new Broken(said.message);
    const top = settings.logitsK === 0 ? 0 : this.prices.topK(settings.logitsK).most * generate;
    if (said.requestMax + top !== session.most || (top === 0 && said.requestMin !== session.least))
      throw new Broken(
        `forecast ${said.requestMin} to ${said.requestMax}, session ${session.least} to ${session.most}`,
      );
  }

  private step(): void {
    if (!this.machine.kernel.sessions.run()) throw new Broken('nothing can run');
  }

  /** Takes a session's events; true behind its last, which is there when it is recorded. */
  private ended(id: number): boolean {
    const { sessions, lay, audit } = this.machine.kernel;
    audit?.settle();
    let n: number | null;
    while ((n = sessions.read(id, lay.windowAt, LIMITS.windowBytes)) !== null && n !== 0);
    return n === 0;
  }

  /** What the clock has booked to kernels. */
  private spent(): number {
    const record = this.machine.kernel.clock.record();
    const sum = ACCOUNTS.reduce((total, account) => total + record[account], 0);
    if (sum !== record.cycles) throw new Broken(`the clock shows ${record.cycles}, its accounts ${sum}`);
    return record.plan + record.kernels;
  }

  /** The report of a session that has ended, its sum checked. */
  private settled(id: number, before: number): Report {
    const report = this.machine.kernel.sessions.report(id) as Report;
    const { cycles, wcetCycles, bcetCycles, finish, outputTokens } = report;
    const spent = this.spent() - before;
    if (spent + this.saved !== cycles)
      throw new Broken(`the session has ${cycles} cycles, the clock booked ${spent} and ${this.saved} less`);
    if (FINISH[finish] === 'fault') throw new Broken('the session faulted');
    const least = outputTokens > 0 || FINISH[finish] === 'length' ? bcetCycles : 0;
    if (cycles > wcetCycles || cycles < least)
      throw new Broken(`${cycles} cycles, ${bcetCycles} to ${wcetCycles} were said`);
    return report;
  }
}
