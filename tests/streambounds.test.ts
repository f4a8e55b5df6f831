// Bounds of plans whose weights stream: the recurrence of kernel/wcet/stream.ts against a machine that is simulated event by event, with a disk
// that has a queue, buffers that are taken and given back, and passes that follow each other and read ahead. On random programs and times
// both come to the same cycle from a cold start; whatever the disk does between its limits, no pass takes longer than its bound.

import test from 'ava';
import { readFileSync } from 'node:fs';
import {
  ENGINE_REGIONS,
  FINISH,
  GGML_TYPE,
  isRefusal,
  PLAN_RECORD,
  SAMPLER_MODE,
  SERVER,
  SESSION_KIND,
  SessionOptions,
  StepBlock,
  type DiskTimes,
  type EngineBudget,
  type EngineOptions,
  type EnginePlace,
  type ModelImage,
  type PlanImage,
  type ReadTime,
} from '../kernel/abi/index.ts';
import { boot, type Machine } from '../boot/index.ts';
import { TransformerDriver } from '../drivers/engine/transformer/driver.ts';
import { Prices, type PlanSource } from '../kernel/wcet/price.ts';
import { Streamed, type Kind, type Piece, type Single } from '../kernel/wcet/stream.ts';
import { TARGETS, transferCycles, type Target } from '../kernel/wcet/targets.ts';
import { accepted, blockDevice, MODEL_AT, optionsOf, random, Rig, soak, type RigOptions } from './harness.ts';
import type { Report } from '../kernel/service.ts';
import { kvTypeFor, randomConfig, randomModel } from './reference/models.ts';
import { certificates, REGIONS } from './support/certified.ts';
import { ok } from './support/commands.ts';
import { shapeImage, type LlamaShape } from './support/shapes.ts';
import { piecesOf, Streamer } from './support/streamer.ts';

// ── A machine ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Command {
  readonly time: ReadTime;
  readonly issued: number;
  readonly done: () => void;
}

/** Events in order of time, then of their making. */
class Agenda {
  now = 0;
  private readonly events: { at: number; act: () => void }[] = [];

  at(time: number, act: () => void): void {
    let i = this.events.length;
    while (i > 0 && this.events[i - 1]!.at > time) i--;
    this.events.splice(i, 0, { at: time, act });
  }
  run(): void {
    for (let event; (event = this.events.shift()) !== undefined;) {
      this.now = event.at;
      event.act();
    }
  }
}

/** Answers commands one after the other; where it overlaps, the latency of those that wait goes by meanwhile. */
class Disk {
  private readonly queue: Command[] = [];
  private isBusy = false;

  constructor(
    private readonly agenda: Agenda,
    private readonly overlaps: boolean,
  ) {}

  submit(time: ReadTime, done: () => void): void {
    this.queue.push({ time, issued: this.agenda.now, done });
    this.serve();
  }

  private serve(): void {
    const command = this.isBusy ? undefined : this.queue.shift();
    if (command === undefined) return;
    this.isBusy = true;
    const { time, issued, done } = command;
    const since = this.overlaps ? issued : this.agenda.now;
    const begins = Math.max(this.agenda.now, since + time.latency);
    this.agenda.at(begins + time.transfer, () => {
      this.isBusy = false;
      done();
      this.serve();
    });
  }
}

/** A segment that is to run: what its pieces compute in this pass, its reads in order, and the rows it reads singly. */
interface Job {
  readonly pieces: readonly Piece[];
  readonly computing: readonly number[];
  readonly gathers: readonly number[]; // bytes of each
  /** Time that passes before it begins. */
  readonly idle: number;
}

const key = (job: number, piece: number): string => `${job} ${piece}`;

/**
 * Runs jobs in order. Reads of tiles are submitted in order, each as soon as its buffer is free, those of jobs to come too; single reads when
 * their job begins, behind those of its tiles that free buffers can take, and before any tile of a later job. Returns how long each job took.
 */
function simulate(jobs: readonly Job[], overlaps: boolean, times: (bytes: number) => ReadTime): number[] {
  const agenda = new Agenda();
  const disk = new Disk(agenda, overlaps);
  const tiles = jobs.flatMap(({ pieces }, job) =>
    pieces.flatMap((p, piece) => (p.bytes > 0 ? [{ job, piece, bufferAt: p.bufferAt, bytes: p.bytes }] : [])),
  );
  /** Uses of each buffer, in order: the one that may come next is first. */
  const uses = new Map<number, string[]>();
  for (const [job, { pieces }] of jobs.entries())
    for (const [piece, { bufferAt }] of pieces.entries())
      if (bufferAt !== 0) uses.set(bufferAt, [...(uses.get(bufferAt) ?? []), key(job, piece)]);
  const arrived = new Set<string>();
  const durations: number[] = [];
  let [submitted, job, piece, waiting, singles, begun] = [0, 0, 0, true, 0, 0];

  /** The first job whose single reads have not been submitted: no tile of a later one goes before them. */
  const gate = (from: number): number => jobs.findIndex((j, i) => i >= from && j.gathers.length > 0);
  const submit = (last: number): void => {
    for (; submitted < tiles.length; submitted++) {
      const tile = tiles[submitted]!;
      if (last >= 0 && tile.job > last) return;
      const name = key(tile.job, tile.piece);
      if (uses.get(tile.bufferAt)![0] !== name) return;
      disk.submit(times(tile.bytes), () => {
        arrived.add(name);
        proceed();
      });
    }
  };
  const begin = (): void => {
    begun = agenda.now;
    submit(job);
    for (const bytes of jobs[job]!.gathers) {
      singles++;
      disk.submit(times(bytes), () => {
        singles--;
        proceed();
      });
    }
    submit(gate(job + 1));
    waiting = false;
    proceed();
  };
  const proceed = (): void => {
    if (waiting || singles > 0) return;
    const { pieces, computing } = jobs[job]!;
    const p = pieces[piece]!;
    if (p.bytes > 0 && !arrived.has(key(job, piece))) return;
    waiting = true;
    agenda.at(agenda.now + computing[piece]!, () => {
      if (p.bufferAt !== 0) uses.get(p.bufferAt)!.shift();
      submit(gate(job + 1));
      piece++;
      waiting = false;
      if (piece < pieces.length) return proceed();
      durations.push(agenda.now - begun);
      waiting = true;
      [job, piece] = [job + 1, 0];
      if (job < jobs.length) agenda.at(agenda.now + jobs[job]!.idle, begin);
    });
  };
  agenda.at(jobs[0]!.idle, begin);
  agenda.run();
  return durations;
}

// ── Random programs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const next = random(2024);
const below = (n: number): number => Math.floor(next() * n);
const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
const BUFFER = 4096;
const ROWS = 4;

/** Rounds through the buffers, as engines do; or pieces without a read, reads into any buffer, pieces that use what another has read. */
function randomPieces(buffers: number, regular: boolean): Piece[] {
  const scale = pick([1, 100, 10_000]);
  const kinds = [...pick([[0], [0, 1], [0, 0, 0, 1, 2]])]; // reads, none, others' data
  let turn = 0;
  return Array.from({ length: 1 + below(24) }, (): Piece => {
    const [base, each] = [below(scale), below(scale)];
    const uneven = below(2) * below(scale);
    const tokens = (n: number): number => base + n * each + (n % 3) * uneven;
    const kind = pick(kinds);
    const bufferAt = BUFFER * (1 + (regular ? turn++ % buffers : below(buffers)));
    const weight = below(3) === 0 ? below(4) : 0;
    if (kind === 0) return { tokens, weight, bytes: 1 + below(1000), bufferAt };
    if (kind === 1) turn--;
    return { tokens, weight, bytes: 0, bufferAt: kind === 1 ? 0 : bufferAt };
  });
}

/** Times between which a disk answers reads of a size. */
interface Limits extends DiskTimes {
  /** Some time that is neither better than the least nor worse than the most. */
  any(bytes: number): ReadTime;
}

const between = (a: number, b: number): number => (next() < 0.3 ? b : next() < 0.3 ? a : a + below(b - a + 1));

function randomDisk(): Limits {
  const latency = below(pick([2, 50, 5000]));
  const byte = pick([0, 1, 7, 30]);
  const [spread, retries] = [1 + 3 * next(), below(3)];
  const factor = { least: 1, typical: 1 + (spread - 1) * next(), most: spread };
  const read = (bytes: number, kind: Kind): ReadTime => {
    const by = (cycles: number): number => (kind === 'least' ? Math.floor(cycles) : Math.ceil(cycles * factor[kind]));
    const once = { latency: by(latency * (1 + (bytes % 3))), transfer: by(bytes * byte) };
    if (kind !== 'most') return once;
    return { ...once, transfer: once.transfer + retries * (once.latency + once.transfer) };
  };
  const any = (bytes: number): ReadTime => {
    const [least, most] = [read(bytes, 'least'), read(bytes, 'most')];
    return { latency: between(least.latency, most.latency), transfer: between(least.transfer, most.transfer) };
  };
  return { name: 'random', overlaps: next() < 0.5, read, any };
}

interface Program {
  readonly body: readonly Piece[];
  readonly head: readonly Piece[];
  readonly singles: readonly Single[];
  readonly disk: Limits;
  readonly bodyTimes: Streamed;
  readonly headTimes: Streamed;
}

function randomProgram(): Program {
  const buffers = 1 + below(4);
  const regular = next() < 0.7;
  const [body, head] = [randomPieces(buffers, regular), randomPieces(buffers, regular)];
  const singles = Array.from({ length: below(3) }, (): Single => {
    const bytes = 1 + below(100);
    return { least: bytes, most: bytes };
  });
  const disk = randomDisk();
  const places = Array.from({ length: buffers }, (_, i) => BUFFER * (i + 1));
  const bodyTimes = new Streamed(body, places, singles, disk);
  const headTimes = new Streamed(head, places, [], disk);
  return { body, head, singles, disk, bodyTimes, headTimes };
}

const jobOf = (pieces: readonly Piece[], n: number, units: number, singles: readonly Single[], idle = 0): Job => ({
  pieces,
  computing: pieces.map(p => p.tokens(n) + p.weight * units),
  gathers: singles.flatMap(({ most }) => Array<number>(n).fill(most)),
  idle,
});
const KINDS = ['least', 'typical', 'most'] as const;
const PROGRAMS = soak ? 100_000 : 4000;

test('from a cold start the recurrence and the machine come to the same cycle', t => {
  for (let i = 0; i < PROGRAMS; i++) {
    const p = randomProgram();
    const kind = pick(KINDS);
    const [n, units] = [1 + below(ROWS), below(2) * below(10_000)];
    const read = (bytes: number): ReadTime => p.disk.read(bytes, kind);
    const [body] = simulate([jobOf(p.body, n, units, p.singles)], p.disk.overlaps, read);
    const [head] = simulate([jobOf(p.head, n, 0, [])], p.disk.overlaps, read);
    const said = [p.bodyTimes.cycles(kind, n, units), p.headTimes.cycles(kind, n, 0)];
    if (body !== said[0] || head !== said[1])
      return t.fail(`program ${i}: ${body} and ${head} cycles, ${said[0]} and ${said[1]} were said`);
    const stalls = p.bodyTimes.stalls(kind, n, units).reduce((a, b) => a + b, 0);
    const computing = jobOf(p.body, n, units, []).computing.reduce((a, b) => a + b, 0);
    if (computing + stalls !== body) return t.fail(`program ${i}: stalls of ${stalls} and ${computing} of ${body}`);
  }
  return t.pass();
});

test('what was asked before does not change an answer; answers grow with positions, rows and times', t => {
  for (let i = 0; i < PROGRAMS / 10; i++) {
    const { body, singles, disk } = randomProgram();
    const places = [1, 2, 3, 4].map(x => BUFFER * x);
    const fresh = (): Streamed => new Streamed(body, places, singles, disk);
    const asked = fresh();
    const answers = new Map<string, number>();
    for (let q = 0; q < 40; q++) {
      const [kind, n, units] = [pick(KINDS), 1 + below(2), below(pick([10, 1000, 100_000]))];
      const cycles = asked.cycles(kind, n, units);
      answers.set(`${kind} ${n} ${units}`, cycles);
      if (cycles !== fresh().cycles(kind, n, units)) return t.fail(`program ${i}: ${kind}, ${n} rows, ${units} units`);
    }
    for (const [question, cycles] of answers) {
      const [kind, n, units] = question.split(' ') as [Kind, string, string];
      const more = asked.cycles(kind, Number(n), Number(units) + 1);
      const worse = asked.cycles(kind === 'least' ? 'typical' : 'most', Number(n), Number(units));
      if (more < cycles || worse < cycles) return t.fail(`program ${i}: ${question}`);
    }
  }
  return t.pass();
});

test('rows of several sessions take no longer together than one session after the other, where no op does', t => {
  for (let i = 0; i < PROGRAMS; i++) {
    const p = randomProgram();
    const kind = pick(KINDS);
    const [a, b, u, v] = [1 + below(2), 1 + below(2), below(1000), below(1000)];
    if (p.body.some(piece => piece.tokens(a + b) > piece.tokens(a) + piece.tokens(b))) continue;
    const both = p.bodyTimes.cycles(kind, a + b, u + v);
    const sum = p.bodyTimes.cycles(kind, a, u) + p.bodyTimes.cycles(kind, b, v);
    if (both > sum) return t.fail(`program ${i}: ${both} cycles together, ${sum} one after the other`);
  }
  return t.pass();
});

const idle = (): number => (next() < 0.3 ? below(pick([10, 1000, 100_000])) : 0);

/** Passes one after the other, of any rows, with a head or several, and time between them in which reads go on. */
function randomJobs(p: Program): { jobs: Job[]; bounds: { most: number; least: number }[] } {
  const jobs: Job[] = [];
  const bounds: { most: number; least: number }[] = [];
  for (let pass = 0; pass < 5; pass++) {
    const [n, units] = [1 + below(ROWS), below(1000)];
    jobs.push(jobOf(p.body, n, units, p.singles, idle()));
    const computing = (job: Job): number => job.computing.reduce((a, b) => a + b, 0);
    const least = Math.max(computing(jobs.at(-1)!), p.bodyTimes.transfers('least', n, true));
    bounds.push({ most: p.bodyTimes.cycles('most', n, units), least });
    for (let heads = below(3); heads > 0; heads--) {
      const m = 1 + below(2);
      jobs.push(jobOf(p.head, m, 0, []));
      const headLeast = Math.max(computing(jobs.at(-1)!), p.headTimes.transfers('least', m, true));
      bounds.push({ most: p.headTimes.cycles('most', m, 0), least: headLeast });
    }
  }
  return { jobs, bounds };
}

for (const [title, worst] of [
  ['whatever the disk does between its limits, no pass leaves its bounds', false],
  ['with worst-case answers throughout, no pass leaves its bounds', true],
] as const)
  test(title, t => {
    for (let i = 0; i < PROGRAMS; i++) {
      const p = randomProgram();
      const { jobs, bounds } = randomJobs(p);
      const read = (bytes: number): ReadTime => (worst ? p.disk.read(bytes, 'most') : p.disk.any(bytes));
      for (const [job, cycles] of simulate(jobs, p.disk.overlaps, read).entries()) {
        const { most, least } = bounds[job]!;
        if (cycles > most || cycles < least)
          return t.fail(`program ${i}, job ${job}: ${cycles} cycles, ${least} to ${most} were said`);
      }
    }
    return t.pass();
  });

// ── Plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const rig = new Rig('simd128');
const driver = new TransformerDriver({ ...rig, tokenizer: rig.bareTokenizer });
type Segments = Pick<PlanImage, 'bodyAt' | 'headAt' | 'sampleAt' | 'scoreAt' | 'logitsAt' | 'stream'>;

/** A plan in memory, as the kernel hands it to the pricer. */
interface Planned extends Segments {
  readonly options: EngineOptions;
  readonly budget: EngineBudget;
  readonly place: EnginePlace;
  readonly u8: Uint8Array;
  readonly originAt: number;
  readonly vocabulary: number;
}

/** The plan alone, nothing being loaded. */
function planned(image: ModelImage, asked: RigOptions): Planned {
  const options = optionsOf(asked);
  const budget = accepted(driver.budget(image, options));
  const place: Record<string, number> = {};
  let at = MODEL_AT;
  for (const region of ENGINE_REGIONS) {
    place[`${region}At`] = at;
    at += Math.ceil(budget[region] / 32) * 32;
  }
  const located = place as unknown as EnginePlace;
  const plan = accepted(driver.plan(image, options, budget, located));
  const u8 = new Uint8Array(plan.words.buffer);
  const vocabulary = image.tensor('token_embd.weight')!.shape[1]!;
  return { ...plan, options, budget, place: located, u8, originAt: located.planAt, vocabulary };
}

function pricesOf(p: Planned, target: Target, disk: DiskTimes): Prices {
  const view = new DataView(p.u8.buffer, p.u8.byteOffset);
  const source: PlanSource = {
    ...p,
    word: at => view.getInt32(at - p.originAt, true),
    regionOf: at => REGIONS[ENGINE_REGIONS.find(r => at < p.place[`${r}At`] + p.budget[r]) ?? 'session'],
    ctx: p.options.ctx,
    batch: p.options.batch,
    draws: p.options.draws,
    stream: p.stream === null ? null : { program: p.stream, disk },
    kvAt: p.place.kvAt,
    historyAt: p.place.sessionAt,
    rowsAt: rig.get('rowsAt'),
    picksAt: rig.get('picksAt'),
    stepAt: rig.stepAt,
    samplerAt: rig.stepAt + StepBlock.bytes,
  };
  return accepted(Prices.of(certificates, target, source));
}

/** The pieces of a segment with what each computes over `n` rows from `pos` on, op by op. */
function jobAt(p: Planned, prices: Prices, segment: 'body' | 'head', n: number, pos: number): Job {
  const ops = prices.ops(segment, n, pos).map(op => op.most);
  const records = piecesOf(p.u8, p.stream!, segment, p.originAt);
  let op = 0;
  const computing = records.map(({ opAt }) => {
    let sum = 0;
    for (let at = opAt; new DataView(p.u8.buffer).getInt32(at - p.originAt, true) !== 0; at += PLAN_RECORD.bytes)
      sum += ops[op++]!;
    return sum;
  });
  const pieces = records.map(r => ({ tokens: () => 0, weight: 0, bytes: r.bytes, bufferAt: r.bufferAt }));
  const gathers = segment === 'head' ? [] : p.stream!.gathers.flatMap(g => Array<number>(n).fill(g.unitBytes));
  return { pieces, computing, gathers, idle: 0 };
}

/** A target's own block device, and kinds of storage like those of drivers/block. */
const ownDisk = (target: Target): DiskTimes => ({
  name: 'default',
  overlaps: false,
  read: (bytes, kind) => {
    const of = (n: number): number => transferCycles(target, n)[kind === 'least' ? 'lower' : 'upper'];
    return { latency: of(0), transfer: of(bytes) - of(0) };
  },
});
const nvme = ({ hz }: Target): DiskTimes => ({
  name: 'nvme',
  overlaps: true,
  read: (bytes, kind) => {
    const [latencyUs, perByteNs] = { least: [10, 0.25], typical: [80, 0.3], most: [5000, 1] }[kind] as [number, number];
    const [latency, transfer] = [Math.ceil((latencyUs * hz) / 1e6), Math.ceil((bytes * perByteNs * hz) / 1e9)];
    return { latency, transfer: kind === 'most' ? 2 * transfer + latency : transfer };
  },
});
const DISKS = [ownDisk, nvme];
const MODELS = TARGETS.filter(target => target.kind === 'model');

test('random models: executed, charged and bounded as the machine would come to it', t => {
  let streamed = 0;
  for (let m = 0; m < (soak ? 300 : 24); m++) {
    const config = randomConfig(pick(['llama', 'gpt2', 'qwen2', 'gemma'] as const), next);
    const { file } = randomModel(config, next);
    const image = accepted(rig.image(file));
    const tileBytes = Math.ceil(pick([1000, 3000, 8000, 20_000]) * (0.5 + next()));
    const pinBytes = pick([0, 0, 0.3, 0.7]) * file.length;
    const batch = 1 + below(8);
    const sizes = {
      ctx: 20,
      batch,
      draws: 1 + below(batch),
      tileBytes,
      buffers: 2 + below(3),
      pinBytes: Math.floor(pinBytes),
    };
    const options = { ...sizes, kvType: kvTypeFor(config, next) };
    const loaded = rig.load(driver, image, options);
    if (isRefusal(loaded)) continue; // a group of rows is larger than a tile
    const { engine, budget, place } = loaded;
    const p: Planned = {
      ...engine,
      budget,
      place,
      u8: rig.arena.u8,
      originAt: 0,
      vocabulary: engine.vocabulary.count,
    };
    const target = pick(TARGETS);
    const disk = next() < 0.5 ? randomDisk() : pick(DISKS)(target);
    const prices = pricesOf(p, target, disk);
    prices.fill(rig.arena.u32);
    const streamer = new Streamer(rig, engine, blockDevice(rig, file).read);
    const n = 1 + below(options.batch);
    const pos = below(options.ctx - n + 1);
    streamer.expect(['body', 'head']);
    rig.put(
      engine,
      Array.from({ length: n }, (_, i) => ({ slot: 0, pos: pos + i, id: below(config.vocabulary) })),
    );
    const charge = (): number => {
      const { cycles } = rig.step();
      rig.arena.f64[(rig.stepAt + StepBlock.at.cycles) >> 3] = 0;
      return cycles;
    };
    charge();
    streamer.run('body');
    const body = charge();
    const picks = 1 + below(Math.min(n, options.draws));
    rig.pick(Array.from({ length: picks }, () => below(n)));
    streamer.run('head');
    t.is(body, prices.computed('body', n, pos));
    t.is(charge(), prices.headTokens(picks));

    const positions = body - prices.bodyTokens(n);
    for (const [segment, rows] of [
      ['body', n],
      ['head', picks],
    ] as const) {
      const job = jobAt(p, prices, segment, rows, pos);
      const took = (kind: Kind): number => simulate([job], disk.overlaps, bytes => disk.read(bytes, kind))[0]!;
      const most = segment === 'body' ? prices.passMost(n, positions) : prices.headMost(picks);
      t.is(most, took('most'));
      t.is(prices.charged(segment, rows, pos), took('typical'));
      const bound = prices.segment(segment, rows, pos);
      t.is(bound.most, most);
      t.true(bound.least <= prices.charged(segment, rows, pos) && bound.least >= 0);
      const waits = prices.waits(segment, rows, pos);
      t.is(waits.reduce((sum, w) => sum + w.most, 0) + prices.computed(segment, rows, pos), most);
    }
    streamed += p.stream!.bodyPieces + p.stream!.headPieces;
  }
  t.log(`${streamed} pieces`);
  t.true(streamed > 100);
});

// ── Tightness ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const SMOL: LlamaShape = {
  width: 576,
  layers: 30,
  heads: 9,
  headsKv: 3,
  feedForward: 1536,
  vocabulary: 49152,
  context: 2048,
  type: 'Q4_0',
};
const KIB = 1024;
const GREEDY = { modes: SAMPLER_MODE.greedy, topK: 0 };

/** Steps of one token, body and head, one after the other with worst-case answers: how much of their bounds the last of them took. */
function tightness(p: Planned, prices: Prices, disk: DiskTimes, pos: number): number {
  const pass = [jobAt(p, prices, 'body', 1, pos), jobAt(p, prices, 'head', 1, pos)];
  const took = simulate([...pass, ...pass, ...pass], disk.overlaps, bytes => disk.read(bytes, 'most'));
  const bound = prices.segment('body', 1, pos).most + prices.segment('head', 1, pos).most;
  return bound / (took[4]! + took[5]!);
}

for (const [name, image, stream] of [
  [
    'SmolLM-135M in Q4_0',
    () => shapeImage(rig, SMOL),
    { ctx: 256, batch: 32, draws: 1, tileBytes: 256 * KIB, buffers: 2 },
  ],
  [
    'SmolLM-135M in Q8_0',
    () => shapeImage(rig, { ...SMOL, type: 'Q8_0' }),
    { ctx: 256, batch: 32, draws: 1, tileBytes: 256 * KIB, buffers: 2 },
  ],
  [
    'fable-q8_0',
    () => accepted(rig.image('images/models/fable-q8_0.gguf')),
    { ctx: 256, batch: 8, draws: 1, tileBytes: 16 * KIB, buffers: 2 },
  ],
] as const)
  test(`${name}, streamed: no bound is 1.05 times what the worst disk makes of it`, t => {
    const p = planned(image(), { kvType: GGML_TYPE.F16, ...stream });
    for (const target of MODELS)
      for (const disk of DISKS.map(of => of(target))) {
        const prices = pricesOf(p, target, disk);
        const ratios = [0, 100, 255].map(pos => tightness(p, prices, disk, pos));
        const { cycles, computed, transfers } = prices.predict(128, GREEDY);
        const said = [
          `bound / worst ${Math.max(...ratios).toFixed(4)}`,
          `${(target.hz / cycles).toFixed(3)} tokens/s`,
          `stalls ${((100 * (cycles - computed)) / cycles).toFixed(1)} %`,
          `disk busy ${((100 * transfers) / cycles).toFixed(1)} %`,
        ];
        t.log(`${target.name}, ${disk.name}: ${said.join(', ')}`);
        t.true(ratios.every(x => x >= 1 && x <= 1.05));
      }
  });

// ── The whole machine ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const OWNER = { pid: 4711, uid: 0, groups: [] }; // no process
const bootImage = readFileSync('build/boot.cpio');
const power = (): Machine => boot({ image: bootImage, strict: true });

/** Submits a prompt; a refusal is an error. */
function submit(machine: Machine, prompt: string, settings: Partial<ReturnType<typeof SessionOptions.read>>): number {
  const { arena } = machine;
  const { lay, vfs, sessions } = machine.kernel;
  const file = vfs.memfd('prompt');
  if (typeof file === 'number') throw new Error(`no file for the prompt: ${file}`);
  const bytes = new TextEncoder().encode(prompt);
  arena.u8.set(bytes, lay.dmaAt);
  file.write(lay.dmaAt, bytes.length);
  file.seek(0, 0);
  const defaults = SessionOptions.read(new Uint8Array(SessionOptions.bytes), 0);
  SessionOptions.write(arena.u8, lay.windowAt, { ...defaults, topP: 1, repeatPenalty: 1, timeoutMs: 1e9, ...settings });
  const id = sessions.open(OWNER, lay.windowAt, file);
  file.close();
  return accepted(id);
}

/** Runs until all of them have ended. Returns what the clock booked in each pass. */
function runAll(machine: Machine, ids: readonly number[]): number[] {
  const { sessions, clock, lay, audit } = machine.kernel;
  const took: number[] = [];
  const ended = (id: number): boolean => {
    audit?.settle(); // an end is there when it is recorded
    let n: number | null;
    while ((n = sessions.read(id, lay.windowAt, 4096)) !== null && n !== 0);
    return n === 0;
  };
  while (!ids.map(ended).every(Boolean)) {
    const from = clock.cycles();
    if (!sessions.run()) {
      const event = sessions.nextEvent();
      if (event === null) throw new Error('nothing can run');
      clock.advance(Math.max(1, event - clock.cycles()), 'idle');
    }
    took.push(clock.cycles() - from);
  }
  return took;
}
const reportOf = (machine: Machine, id: number): Report => machine.kernel.sessions.report(id) as Report;

const STORAGE = ['default', 'nvme', 'emmc', 'sd', 'qspi', 'ram'];
const FORMS = [
  '--pin 0 --tile 16K',
  '--pin 0 --tile 8K --buffers 3 --batch 5',
  '--pin 300K --tile 32K --draws 3',
  '--pin 690K --tile 64K --buffers 7 --draws 1',
];
const FAULTS = [
  [],
  ['worst'],
  ['slow,x=3'],
  ['slow,x=1000,every=5'],
  ['error,every=7'],
  ['short,every=3', 'slow,x=2,every=2'],
];

test('sessions side by side on strict machines: any storage, any fault, no charge and no pass beyond its bound', t => {
  const machine = power();
  const { kernel } = machine;
  let [ran, faulted, fewest] = [0, 0, Infinity];
  for (let i = 0; i < (soak ? 400 : 24); i++) {
    const model = pick(['fable-q4_0', 'fable-q8_0', 'fable-f16']);
    ok(machine, `llmctl target ${pick(MODELS).name}`);
    ok(machine, `llmctl disk vda --heal --model ${pick(STORAGE)} --retries ${below(4)}`);
    ok(machine, `llmctl load ${model} --stream --ctx 96 ${FORMS[i % FORMS.length]!}`);
    for (const fault of pick(FAULTS)) ok(machine, `llmctl disk vda --fault ${fault}`);
    const ids = Array.from({ length: 1 + below(6) }, () => {
      const score = next() < 0.1;
      return submit(machine, 'the dragon sat down '.repeat(1 + below(4)), {
        kind: score ? SESSION_KIND.score : SESSION_KIND.generate,
        maxTokens: score ? 0 : 1 + below(6),
        temp: 0.8,
        topK: pick([0, 1, 40]),
        seed: below(100),
        logitsK: next() < 0.2 ? 5 : 0,
      });
    });
    runAll(machine, ids);
    for (const id of ids) {
      const { cycles, wcetCycles, bcetCycles, finish } = reportOf(machine, id);
      const fault = finish === FINISH.indexOf('fault');
      if (fault) faulted++;
      else fewest = Math.min(fewest, wcetCycles / cycles);
      if (cycles > wcetCycles || (!fault && cycles < bcetCycles))
        return t.fail(`${model}: ${cycles} cycles, ${bcetCycles} to ${wcetCycles} were said`);
      kernel.sessions.close(id);
      ran++;
    }
    ok(machine, 'llmctl disk vda --heal');
  }
  t.log(`${ran} sessions, ${faulted} ended by the disk; bound / charged at least ${fewest.toFixed(3)}`);
  return t.pass();
});

test('another kind of storage under a loaded model: its bounds, and what servers must bear, are others from then on', t => {
  const machine = power();
  ok(machine, 'llmctl load fable-q4_0 --stream --pin 0 --tile 16K --ctx 96');
  const figures = (): { step: number; segment: number } => ({
    step: machine.kernel.loader.prices().step(1, 95, true, GREEDY, 96).most,
    segment: machine.kernel.sessions.schedule().segmentMax,
  });
  const before = figures();
  ok(machine, 'llmctl disk vda --model sd');
  const slow = figures();
  t.true(slow.step > 10 * before.step && slow.segment > 10 * before.segment);
  ok(machine, 'llmctl disk vda --retries 0');
  t.true(figures().step < slow.step && figures().segment < slow.segment);
  ok(machine, 'llmctl disk vda --model default');
  t.deepEqual(figures(), before);
});

test('servers beside others, on the worst disk there is: no deadline is missed', t => {
  const machine = power();
  for (const storage of ['default', 'nvme', 'qspi']) {
    ok(machine, `llmctl disk vda --heal --model ${storage}`);
    ok(machine, 'llmctl load fable-q4_0 --stream --pin 0 --tile 16K --ctx 96');
    ok(machine, 'llmctl disk vda --fault worst');
    const prices = machine.kernel.loader.prices();
    const step = prices.step(1, 95, true, GREEDY, 96).most;
    const period = machine.kernel.clock.nsOf(12 * step + 40 * machine.kernel.sessions.schedule().segmentMax);
    const server = { server: SERVER.soft, periodNs: period, maxTokens: 8 };
    const ids = [
      submit(machine, 'once upon', server),
      submit(machine, 'a dragon said', server),
      ...Array.from({ length: 4 }, () => submit(machine, 'and the knight was not afraid', { maxTokens: 8 })),
    ];
    runAll(machine, ids);
    for (const id of ids) {
      const { misses, cycles, wcetCycles, finish } = reportOf(machine, id);
      t.is(misses, 0);
      t.true(cycles <= wcetCycles && FINISH[finish] !== 'fault');
      machine.kernel.sessions.close(id);
    }
  }
});

for (const model of ['fable-q4_0', 'fable-f16'])
  test(`${model}, streamed by a strict machine: passes with worst-case answers take 0.95 of their bounds and more`, t => {
    const machine = power();
    for (const storage of STORAGE) {
      ok(machine, `llmctl disk vda --heal --model ${storage}`);
      ok(machine, `llmctl load ${model} --stream --pin 0 --tile 16K --ctx 128`);
      ok(machine, 'llmctl disk vda --fault worst');
      const prices = machine.kernel.loader.prices();
      const id = submit(machine, 'once upon', { maxTokens: 20, temp: 0 });
      const prompt = reportOf(machine, id).promptTokens;
      const took = runAll(machine, [id]).filter(cycles => cycles > 0);
      machine.kernel.sessions.close(id);
      // The first pass has begun cold; behind the prompt there is a pass a token.
      const ratios = took
        .slice(1)
        .map((cycles, i) => cycles / prices.step(1, prompt + i, true, GREEDY, prompt + i + 1).most);
      t.is(ratios.length, 19);
      t.log(`${storage}: ${Math.min(...ratios).toFixed(4)} to ${Math.max(...ratios).toFixed(4)} of their bounds`);
      t.true(ratios.every(ratio => ratio >= 0.95 && ratio <= 1));
    }
  });
