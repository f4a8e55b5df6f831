// Training as the kernel runs it: what is planned is what is taken, to the byte and the cycle; sessions beside it keep their deadlines and say what
// they say alone; the parameters come out the same whatever else the machine does; what cannot be is refused with what could; what fails leaves the
// parameters as they were.

import test from 'ava';
import { createHash } from 'node:crypto';
import {
  E,
  LIMITS,
  LOAD_DEFAULTS,
  QUOTA_SET,
  SCHED_KEEP,
  SERVER,
  TRAIN_BATCH,
  TRAIN_KEEP_ALL,
  TRAIN_STATE,
  TrainOptions,
  TrainState,
  TrainStep,
  type Gate,
  type Sys,
  type TrainMethod,
} from '../kernel/abi/index.ts';
import { TRAIN_SLOT } from '../kernel/sched.ts';
import { Chooser, isMisfit } from '../kernel/train/choice.ts';
import { rankUtilities } from '../kernel/train/utilities.ts';
import { makeSys } from '../shell/lib/sys.ts';
import { programs } from '../shell/index.ts';
import { random, soak } from './harness.ts';
import { ok } from './support/commands.ts';
import { PID, type Wish } from './support/service.ts';
import {
  given,
  optionsOf,
  refusedWith,
  STEP,
  TrainBench,
  type Options,
  type Sequences,
  type Step,
} from './support/train-bench.ts';
import { below, compare, freshSeen, wishOf, type Next } from './support/wishes.ts';

const KEEP = {
  policy: SCHED_KEEP,
  boundPpm: SCHED_KEEP,
  segmentCycles: SCHED_KEEP,
  paceScale: SCHED_KEEP,
  paceAuto: SCHED_KEEP,
  batch: SCHED_KEEP,
};
const ROOT = { pid: PID, uid: 0, groups: [] };
const METHODS: readonly TrainMethod[] = ['lora', 'fmea', 'nes', 'full'];
const LEAST = { ctx: 64, pages: 8 };

const TINY = '{"embedding": 32, "layers": 3, "heads": 4, "kv_heads": 2, "context": 128}';

/** Loads a model that can be trained so: whole only one of F32, with random weights. */
function load(bench: TrainBench, method: TrainMethod): void {
  if (method !== 'full') return bench.load('fable-f16', LEAST);
  ok(bench.machine, `echo '${TINY}' > /tmp/tiny.json; llmfinetune init /tmp/tiny.json /tmp/tiny.gguf`);
  const refusal = bench.kernel.loader.load('/tmp/tiny.gguf', { ...LOAD_DEFAULTS, ...LEAST });
  if (refusal !== null) throw new Error(refusal.message);
}

/** A bench with a model, of which a training has been opened. */
function trained(method: TrainMethod, more: Partial<Options> = {}, target?: string): TrainBench {
  const bench = new TrainBench(undefined, target);
  load(bench, method);
  bench.open(optionsOf(method, more));
  return bench;
}

const idsOf = (next: Next, n: number, vocabulary = 256): number[] =>
  Array.from({ length: n }, () => below(next, vocabulary));
const batchOf = (next: Next, sequences: number, n: number): Sequences =>
  Array.from({ length: sequences }, () => idsOf(next, n));

// ── What is planned ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

for (const method of METHODS)
  test(`${method}: what is planned is what is taken, in bytes and cycles`, t => {
    const bench = new TrainBench();
    load(bench, method);
    const { arena } = bench.machine;
    const o = optionsOf(method, { anchored: 1 });
    const [free, digest] = [arena.remaining(), bench.kernel.arenaDigest()];
    const plan = given(bench.trainer.plan(ROOT, o));
    t.is(bench.kernel.arenaDigest(), digest, 'a plan changes nothing');
    bench.open(o);
    t.is(arena.regions().find(r => r.name === 'train')!.bytes, plan.total!);
    t.is(free - arena.remaining(), plan.total!);
    const parts = Object.entries(plan).filter(([name]) => name.endsWith('Bytes'));
    t.is(
      parts.reduce((sum, [, bytes]) => sum + Number(bytes), 0),
      plan.total!,
    );
    // A full batch: sequences of a whole context, all of whose tokens count.
    const next = random(7);
    const full = bench.learn(batchOf(next, o.batch, o.ctx + 1), { directions: 1 });
    t.is(full.cyclesMost, plan.stepCycles!);
    t.is(full.targets, o.batch * o.ctx);
    // Whatever the batch: all but the way back of an update that is not taken back.
    const undo = full.cyclesMost - full.cycles;
    for (const kind of Object.values(TRAIN_BATCH))
      for (let i = 0; i < 3; i++) {
        const sequences = Array.from({ length: 1 + below(next, o.batch) }, () => idsOf(next, 2 + below(next, o.ctx)));
        const update = kind === TRAIN_BATCH.learn ? below(next, 2) : 0;
        const from = Math.min(...sequences.map(ids => below(next, ids.length - 1)));
        given(bench.give(sequences, { kind, update, directions: 1 + below(next, 3) }, from));
        const { cycles, cyclesMost, loss, targets } = bench.settle();
        t.is(cycles, cyclesMost - update * undo);
        t.true(loss > 0 && targets > 0);
      }
    bench.close();
    t.is(arena.remaining(), free);
  });

test('one byte less is refused with the sum and what would fit; in exactly that many it fits', t => {
  const bench = new TrainBench();
  bench.load('fable-f16', LEAST);
  const { arena } = bench.machine;
  const o = optionsOf('lora', { ctx: 32, checkpoint: 1, picks: 8 });
  const { total } = given(bench.trainer.plan(ROOT, o));
  const mark = arena.mark();
  arena.alloc(arena.remaining() - total! + LIMITS.arenaAlign, LIMITS.arenaAlign, 'vocabulary only');
  const refused = bench.trainer.begin(ROOT, o);
  const before = bench.kernel.arenaDigest();
  const message = refusedWith(refused);
  t.regex(
    message,
    new RegExp(`^training with context 32 takes ${total} bytes, ${total! - 32} are free: parameters \\d+ \\+ `),
  );
  const parts = /free: (.*?);/
    .exec(message)![1]!
    .split(' + ')
    .map(part => Number(part.split(' ')[1]));
  t.is(
    parts.reduce((a, b) => a + b, 0),
    total!,
  );
  const told = given(bench.trainer.plan(ROOT, o));
  t.is(told.fits, 0);
  t.is(told.message, message);
  t.is(bench.kernel.arenaDigest(), before);
  // What it says would fit does, and is the most that does.
  t.regex(message, new RegExp(`a context of ${told.ctxThatFits} fits`));
  t.is(given(bench.trainer.plan(ROOT, { ...o, ctx: told.ctxThatFits! })).fits, 1);
  t.is(given(bench.trainer.plan(ROOT, { ...o, ctx: told.ctxThatFits! + 1 })).fits, 0);
  t.is(given(bench.trainer.plan(ROOT, { ...o, checkpoint: told.checkpointThatFits! })).fits, 1);
  arena.release(mark);
  arena.alloc(arena.remaining() - total!, LIMITS.arenaAlign, 'vocabulary only');
  bench.open(o);
  t.is(arena.remaining(), 0);
  bench.learn([[1, 2, 3]]);
  bench.close();
});

test('what is left open is chosen: the first that fits of contexts, recomputations and rows of logits', t => {
  const bench = new TrainBench();
  bench.load('fable-f16', LEAST);
  const o = optionsOf('lora', { ctx: 0, batch: 1 });
  const seen: string[] = [];
  for (let free = 12_000_000; ; free -= 100_000) {
    const a = given(Chooser.choose(o, bench.engine, free));
    if (isMisfit(a)) {
      t.regex(a.message, /no context fits; fewer targets or a smaller rank take less/);
      break;
    }
    t.true(a.total <= free);
    const { ctx, checkpoint, picks } = a.choice;
    const what = `${ctx} ${checkpoint === TRAIN_KEEP_ALL ? 'all' : checkpoint} ${picks}`;
    if (seen.at(-1) !== what) seen.push(what);
  }
  t.log(seen.join(', '));
  t.is(seen[0], '128 all 32');
  // Of six layers every second's input is kept, and one more for the two that are computed again: 4 in all, as of every third's.
  t.true(seen.some(what => what.startsWith('128 2 ')));
  t.false(seen.some(what => / [3456] /.test(what)));
  const order = (what: string): number[] => {
    const [ctx, checkpoint, picks] = what.split(' ');
    return [-Number(ctx), checkpoint === 'all' ? 0 : Number(checkpoint), -Number(picks)];
  };
  for (const [i, what] of seen.slice(1).entries()) {
    const [a, b] = [order(seen[i]!), order(what)];
    const first = a.findIndex((x, j) => x !== b[j]);
    t.true(a[first]! < b[first]!, `${seen[i]} before ${what}`);
  }
});

test("rank utilities are the specification's", t => {
  const round = (list: readonly number[]): number[] => list.map(u => Math.round(u * 1e8) / 1e8);
  t.deepEqual(round(rankUtilities([4, 3, 2, 1])), [0.48042271, 0.01957729, -0.25, -0.25]);
  t.deepEqual(round(rankUtilities([1, 3, 9, 2])), [-0.25, 0.01957729, 0.48042271, -0.25]);
  t.deepEqual(rankUtilities([-5, 7]), [-0.5, 0.5]);
  const many = rankUtilities(Array.from({ length: 64 }, (_, i) => -i));
  t.true(Math.abs(many.reduce((a, b) => a + b, 0)) < 1e-12);
});

// ── Beside sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Schedules with a training beside them; alone, its batch is ended first and it gets no other. */
class Beside extends TrainBench {
  constructor(private readonly batch: () => readonly [Sequences, Partial<Step>]) {
    super();
  }
  override together(wishes: readonly Wish[]): ReturnType<TrainBench['together']> {
    this.feed = this.batch;
    const outcomes = super.together(wishes);
    this.feed = null;
    this.settle();
    return outcomes;
  }
}

test('schedules of the stub with a training beside them: no server misses a deadline, ledgers agree after every segment', async t => {
  t.timeout(3_600_000);
  const next = random(5);
  const seen = freshSeen();
  const bench = new Beside(() => [[idsOf(next, 2 + below(next, 15), 128)], {}]);
  let [cycles, slices, misses] = [0, 0, 0];
  for (let i = 0; i < (soak ? 300 : 10); i++) {
    const ctx = 64;
    bench.load('stub', { ctx, pages: 2 + below(next, 30), sessions: 1 + below(next, 32), batch: 1 + below(next, 16) });
    bench.plain(below(next, 30));
    const sharePpm = below(next, 3) * 100_000;
    bench.open(optionsOf('lora', { sharePpm, batch: 1 }));
    for (let j = 0; j < 4; j++) {
      const mix = { wordsMax: 8, tokensMax: 40, users: 4, servers: true };
      const wishes = Array.from({ length: 1 + below(next, 24) }, () => wishOf(next, bench, mix));
      await compare(t, bench, next, wishes, seen);
    }
    const { state } = bench;
    cycles += state.cyclesTotal;
    slices += state.slices;
    misses += state.misses;
    bench.close();
  }
  t.true(seen.servers > 20 && slices > 1000);
  t.log({ ...seen, cycles, slices, misses });
});

test('sessions of a model beside a real training say what they say alone, and are charged what they are charged alone', async t => {
  t.timeout(600_000);
  const next = random(11);
  const bench = new Beside(() => [batchOf(next, 2, 8), {}]);
  bench.load('fable-f16', { ctx: 64, pages: 14, sessions: 8 });
  bench.open(optionsOf('lora', { sharePpm: 200_000 }));
  const seen = freshSeen();
  for (let i = 0; i < (soak ? 20 : 1); i++) {
    const mix = { wordsMax: 12, tokensMax: 12, users: 3, servers: true };
    await compare(
      t,
      bench,
      next,
      Array.from({ length: 8 }, () => wishOf(next, bench, mix)),
      seen,
    );
  }
  const { steps, slices, misses } = bench.state;
  t.true(steps > 0);
  t.log({ ...seen, steps, slices, misses });
});

test('it has its share while others want all, what nobody wants besides, and without a share nothing else', t => {
  const shares: number[] = [];
  for (const sharePpm of [0, 100_000, 300_000]) {
    const bench = new TrainBench();
    bench.load('fable-f16', LEAST);
    bench.plain(200); // short ops, and so a short period
    bench.open(optionsOf('lora', { sharePpm }));
    const next = random(3);
    bench.feed = () => [batchOf(next, 2, 17), {}];
    const { clock } = bench.kernel;
    // Sessions without a server that never wait.
    const handles = ['Once upon a time', 'The cat', 'A dog'].map(text =>
      bench.accepted(text, { maxTokens: 50, temp: 0 }),
    );
    const [from, had] = [clock.cycles(), bench.state.cyclesTotal];
    while (bench.service.table.live().length > 0) bench.step();
    shares.push((bench.state.cyclesTotal - had) / (clock.cycles() - from));
    t.true(handles.every(handle => bench.report(handle).outputTokens > 10));
    for (let i = 0; i < 20; i++) bench.step(); // the audit log is stored
    bench.transferred();
    const idle = clock.cycles();
    const then = bench.state.cyclesTotal;
    for (let i = 0; i < 20; i++) bench.step();
    t.is(bench.state.cyclesTotal - then, clock.cycles() - idle - bench.transferred(), 'all of the processor');
  }
  t.log(shares.map(share => share.toFixed(3)).join(' '));
  t.is(shares[0], 0);
  t.true(shares[1]! > 0.08 && shares[1]! < 0.14);
  t.true(shares[2]! > 0.27 && shares[2]! < 0.36);
});

test('servers and a training bear each other, or the later is refused with the numbers', t => {
  const bench = trained('lora');
  const { sched } = bench.kernel;
  t.is(sched.server(TRAIN_SLOT).kind, SERVER.soft);
  t.is(sched.figures().usedPpm, 100_000);
  const { stepMax } = bench.kernel.sessions.schedule();
  const periodNs = bench.kernel.clock.nsOf(Math.ceil(stepMax / 0.8));
  const refused = bench.submit('Once', { server: SERVER.hard, budgetCycles: stepMax, periodNs, maxTokens: 4 });
  t.regex(refusedWith(refused), /servers use 100000 of 850000, 750000 left/);
  bench.close();
  t.is(sched.figures().usedPpm, 0);
  // Servers whose deadlines leave no room for its longest op.
  bench.machine.kernel.sessions.configure({ ...KEEP, segmentCycles: stepMax });
  const tight = { server: SERVER.hard, budgetCycles: stepMax, maxTokens: 40 } as const;
  const opMax = given(bench.trainer.plan(ROOT, optionsOf('lora', { ctx: 64 }))).sliceMax!;
  const leastNs = bench.kernel.clock.nsOf(Math.ceil((stepMax + bench.kernel.sessions.schedule().segmentMax) * 1.05));
  bench.accepted('Once', { ...tight, periodNs: leastNs });
  t.true(opMax > stepMax * 1.1, `${opMax} ${stepMax}`);
  for (const sharePpm of [0, 50_000]) {
    const late = bench.trainer.begin(ROOT, optionsOf('lora', { ctx: 64, sharePpm }));
    t.regex(
      refusedWith(late),
      /a segment of .* would be too long for session \d+'s server|session \d+'s deadlines must bear a segment of/,
    );
  }
  t.is(bench.machine.arena.regions().at(-1)!.name, 'session');
});

// ── The same bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

const hex = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const DATA: readonly Sequences[] = Array.from({ length: 6 }, (_, i) => batchOf(random(100 + i), 2, 9 + (i % 3)));
const stepOf = (i: number): Partial<Step> => ({
  seedLow: i,
  update: i % 3 === 1 ? 0 : 1,
  clip: 2,
  tokens: 30,
  anchor: 0.01,
  decay: 0.01,
});
const ANCHORED = { anchored: 1 } as const;

/** Digests of parameters, moments and gradients, and the losses, after all batches. */
function outcomeOf(bench: TrainBench, from = 0): string[] {
  const losses = DATA.slice(from).map((sequences, i) => {
    const { loss, gradientNorm, distance } = bench.learn(sequences, stepOf(from + i));
    return [loss, gradientNorm, distance].join();
  });
  return [...losses, ...(['parameters', 'first', 'second', 'gradients'] as const).map(v => hex(bench.vector(v)))];
}

for (const method of METHODS)
  test(`${method}: the same parameters to the bit, preempted after every op, on other targets, beside sessions, resumed`, t => {
    t.timeout(600_000);
    const bench = trained(method, ANCHORED);
    const plain = outcomeOf(bench);
    t.is(bench.state.steps, 4);
    bench.close();
    bench.open(optionsOf(method, { ...ANCHORED, sharePpm: 0 }));
    // A slice may take one op and no more.
    Object.assign(bench.trainer, { limits: { blocking: () => 0, passMax: 0, seen: 0 } });
    t.deepEqual(outcomeOf(bench), plain);
    t.true(bench.state.slices > 1000 && bench.state.sliceMax > 0);
    const other = trained(method, ANCHORED, method === 'lora' ? 'cortex-m7' : 'sifive-u74');
    const sessions = [1, 2, 3].map(seed => other.accepted('Once upon a time', { maxTokens: 20, seed }));
    t.deepEqual(outcomeOf(other), plain);
    t.true(sessions.every(handle => other.report(handle).outputTokens > 0));
    // Cut off behind the third batch, and gone on with on another machine.
    const first = trained(method, ANCHORED);
    for (const i of [0, 1, 2]) first.learn(DATA[i]!, stepOf(i));
    const second = trained(method, {
      ...ANCHORED,
      seed: 7,
      checkpoint: method === 'lora' || method === 'full' ? 2 : 0,
      picks: 3,
    });
    for (const v of ['parameters', 'first', 'second', 'anchor', 'gradients'] as const) second.put(v, first.vector(v));
    t.is(second.resume(first.state.steps), null);
    t.deepEqual(outcomeOf(second, 3), plain.slice(3));
  });

test('ranked: utilities weigh in place of losses, and the parameters move by them', t => {
  const bench = trained('nes');
  const before = hex(bench.vector('parameters'));
  const { gradientNorm } = bench.learn(DATA[0]!, { ranked: 1, directions: 4 });
  t.true(gradientNorm > 0);
  t.not(hex(bench.vector('parameters')), before);
});

// ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('an update that leads nowhere is taken back, and ends the training', t => {
  for (const optimizer of [0, 1]) {
    const bench = trained('lora', { optimizer });
    bench.learn(DATA[0]!);
    const before = hex(bench.vector('parameters'));
    const state = bench.learn(DATA[1]!, { rate: 3e38, decay: 3e38 });
    t.is(TRAIN_STATE[state.state], 'faulted');
    t.is(state.message, 'the update leads to values that are not finite');
    t.is(state.steps, 1);
    t.is(state.cycles, state.cyclesMost, 'the way back too');
    t.is(hex(bench.vector('parameters')), before);
    t.regex(refusedWith(bench.give(DATA[2]!)), /^training \d+ has failed: the update leads to/);
    bench.close();
  }
});

for (const method of METHODS)
  test(`${method}: a loss or a gradient that is no number ends the batch before its update`, t => {
    for (const [vector, why] of [
      ['parameters', /^the loss is not finite in (loss|score) of sequence 1$/],
      ['gradients', /^the gradient is not finite in measure$/],
    ] as const) {
      const bench = trained(method);
      const values = bench.vector(vector);
      new Uint32Array(values.buffer).fill(0x7fc00000);
      bench.put(vector, values);
      const before = hex(bench.vector('parameters'));
      const state = bench.learn(DATA[0]!);
      t.is(TRAIN_STATE[state.state], 'faulted');
      t.regex(state.message, why);
      t.is(state.steps, 0);
      t.true(state.cycles <= state.cyclesMost);
      t.is(hex(bench.vector('parameters')), before);
      t.is(given(bench.service.quotas.get(0)).cyclesReserved, 0);
      bench.close();
    }
  });

test('no update takes the parameters further than distanceMax; from then on they stay', t => {
  const bench = trained('lora', ANCHORED);
  const { distance } = bench.learn(DATA[0]!);
  t.true(distance > 0);
  const distanceMax = 2.5 * distance;
  let before = hex(bench.vector('parameters'));
  for (let i = 1; bench.state.frozen === 0; i++) {
    before = hex(bench.vector('parameters'));
    bench.learn(DATA[i % DATA.length]!, { distanceMax });
    t.true(i < 20);
  }
  const { steps } = bench.state;
  t.is(hex(bench.vector('parameters')), before);
  const state = bench.learn(DATA[0]!, { distanceMax });
  t.is(state.steps, steps);
  t.true(state.distance <= distanceMax && state.gradientNorm > 0);
  t.true(bench.vector('gradients').every(byte => byte === 0));
  t.is(hex(bench.vector('parameters')), before);
  // A training that goes on with this state is frozen too.
  const kept = bench.vector('parameters');
  bench.close();
  bench.open(optionsOf('lora', ANCHORED));
  bench.put('parameters', kept);
  bench.resume(steps, 1);
  t.is(bench.learn(DATA[1]!).steps, steps);
  t.is(hex(bench.vector('parameters')), before);
});

// ── What is refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('options that are none are refused one by one, and nothing has changed', t => {
  const bench = new TrainBench();
  bench.kernel.loader.unload();
  t.is(refusedWith(bench.trainer.begin(ROOT, optionsOf('lora'))), 'no model loaded: llmctl load FILE');
  bench.load('stub');
  t.is(refusedWith(bench.trainer.begin(ROOT, optionsOf('lora'))), 'the stub engine has no weights to train');
  bench.load('fable-f16', LEAST);
  const free = bench.machine.arena.remaining();
  for (const [wrong, message] of [
    [{ method: 4 }, 'no method 4: lora, fmea, nes, full'],
    [{ targets: 0 }, 'targets 0: bits 1 to 255'],
    [{ targets: 256 }, 'targets 256: bits 1 to 255'],
    [{ rank: 0 }, 'rank 0 asked, 1 to 256'],
    [{ rank: 257 }, 'rank 257 asked, 1 to 256'],
    [{ alpha: 0 }, 'alpha 0 is no number above 0'],
    [{ alpha: NaN }, 'alpha NaN is no number above 0'],
    [{ ctx: 513 }, 'a context of 513 tokens, the model has 512'],
    [{ batch: 0 }, '0 sequences a batch, 1 to 64'],
    [{ batch: 65 }, '65 sequences a batch, 1 to 64'],
    [{ optimizer: 2 }, 'no optimizer 2: adam, sgd'],
    [{ anchored: 2 }, 'anchored 2: 0 or 1'],
    [{ checkpoint: 7 }, 'a checkpoint every 7 layers, the model has 6'],
    [{ picks: 33 }, '33 rows of logits at once, 32 at most'],
    [{ sharePpm: 850_001 }, 'a share of 850001 ppm, 850000 at most'],
    [
      { periodNs: 1000 },
      /^100000 ppm of 1000 ns are \d+ cycles, its longest op takes \d+; a period of \d+ ns would do$/,
    ],
  ] as const) {
    const r = bench.trainer.begin(ROOT, optionsOf('lora', wrong));
    if (typeof message === 'string') t.is(refusedWith(r), message);
    else t.regex(refusedWith(r), message);
  }
  t.is(bench.machine.arena.remaining(), free);
  t.is(bench.trainer.text(0), '');
});

test('batches that are none are refused, and the next one is taken', t => {
  const bench = trained('lora');
  for (const [words, message] of [
    [[], 'the batch has no sequence'],
    [[0, 0], 'sequence 1: 0 ids; 2 at least'],
    [[1, 0, 5], 'sequence 1: 1 ids; 2 at least'],
    [[18, 0, ...idsOf(random(1), 18)], 'sequence 1: 18 ids; 17 at most, one behind the context'],
    [[3, 2, 1, 2, 3], 'sequence 1: none of its 3 ids is a target behind position 2'],
    [[3, 0, 1, 2, 3, 4], 'sequence 2: 0 ids; 2 at least'],
    [[3, 0, 1, 2, 3, 4, 0, 1], 'sequence 2: 4 ids, 1 are there'],
    [[3, 0, 1, 2, 1024], 'sequence 1: token 1024, the vocabulary has 1024'],
    [[2, 0, 1, 1, 2, 0, 1, 1, 2, 0, 1, 1], 'the batch has more than 2 sequences'],
    [idsOf(random(1), 39), 'the batch has more than 2 sequences of 17 ids'],
  ] as const)
    t.is(refusedWith(bench.giveWords(words)), message);
  t.is(refusedWith(bench.giveWords([2, 0, 1, 1], {}, [7])), '17 bytes are no words of 4 bytes each');
  for (const [step, message] of [
    [{ kind: 3 }, 'no kind of batch 3'],
    [{ kind: 1 }, 'a batch that is only measured changes nothing'],
    [{ update: 2 }, 'update 2: 0 or 1'],
    [{ ranked: 1 }, 'rank utilities are of nes, not of lora'],
    [{ rate: NaN }, 'rate NaN is no number from 0 on'],
    [{ rate: -1 }, 'rate -1 is no number from 0 on'],
    [{ beta1: 1 }, 'beta1 1 is not in 0…1, 1 excluded'],
    [{ epsilon: 0 }, 'adam divides by epsilon where a gradient is 0: above 0'],
    [{ anchor: 1 }, 'what the parameters were at first is not kept: open it anchored'],
    [{ distanceMax: 1 }, 'what the parameters were at first is not kept: open it anchored'],
  ] as const)
    t.is(refusedWith(bench.give(DATA[0]!, step)), message);
  t.is(bench.state.cyclesTotal, 0);
  t.is(bench.learn(DATA[0]!).steps, 1);
  bench.close();
  bench.open(optionsOf('nes'));
  t.is(refusedWith(bench.give(DATA[0]!, { directions: 0 })), '0 directions, 1 to 64');
  t.is(refusedWith(bench.give(DATA[0]!, { sigma: 0 })), 'sigma 0 is no number above 0');
});

test('while a training is open no other model, processor or training comes; its end gives everything back', t => {
  const bench = trained('lora');
  const { kernel } = bench;
  const free = bench.machine.arena.remaining();
  given(bench.give(DATA[0]!));
  bench.step();
  t.is(refusedWith(bench.trainer.begin(ROOT, optionsOf('lora'))), 'training 1 of user root is open');
  t.is(refusedWith(kernel.switchTarget('sifive-u74')), 'training 1 of user root is open');
  for (const command of [
    'llmctl load /models/fable-q8_0.gguf',
    'llmctl unload',
    'llmctl target sifive-u74',
    'llmctl backend stub',
  ]) {
    const { status, stderr } = bench.machine.exec(command);
    t.not(status, 0);
    t.regex(stderr, /training 1 of user root is open/);
  }
  bench.settle();
  given(bench.give(DATA[1]!));
  t.regex(refusedWith(bench.give(DATA[1]!)), /a batch of training 1 is under way/);
  t.regex(
    refusedWith(bench.trainer.vector(given(bench.trainer.own(1, ROOT)), 0)),
    /a batch of training 1 is under way/,
  );
  t.true(given(bench.service.quotas.get(0)).cyclesReserved > 0);
  bench.close(); // in the middle of a batch
  t.is(given(bench.service.quotas.get(0)).cyclesReserved, 0);
  t.true(bench.machine.arena.remaining() > free);
  t.is(bench.trainer.text(0), '');
  t.is(ok(bench.machine, 'llmctl unload; echo $?'), '0\n');
});

test('a training belongs to a user, counts against the quota, and ends with its process', t => {
  const bench = trained('lora');
  bench.close();
  const ada = { pid: 77, uid: 1000, groups: [] };
  const { quotas } = bench.service;
  bench.handle = given(bench.trainer.begin(ada, optionsOf('lora')));
  t.regex(refusedWith(bench.trainer.own(bench.handle, { pid: 1, uid: 1001 })), /another user's/);
  t.regex(refusedWith(bench.trainer.own(bench.handle + 1, ada)), /no training \d+ is open/);
  const { cycles } = bench.learn(DATA[0]!);
  t.is(quotas.get(1000).cyclesUsed, cycles);
  quotas.set({
    uid: 1000,
    set: QUOTA_SET.cycles,
    tokensPerHour: 0,
    cyclesPerHour: 2 * cycles,
    kvBytes: 0,
    sessions: 0,
  });
  t.regex(
    refusedWith(bench.give(DATA[0]!)),
    new RegExp(`^user user asked \\d+ cycles, ${cycles} left until 01:00:00$`),
  );
  bench.kernel.sessions.closeOwnedBy(77);
  t.regex(refusedWith(bench.trainer.own(bench.handle, ada)), /no training/);
  t.is(bench.machine.arena.regions().at(-1)!.name, 'session');
});

// ── As programs have it ──────────────────────────────────────────────────────────────────────────────────────────────────────────

type Body = (sys: Sys, gate: Gate) => Generator<void, number, void>;

/** Runs `body` as a program of the machine; its exit status. */
function run(bench: TrainBench, body: Body, user = 'root'): number {
  const table = programs as Map<string, (gate: Gate) => Generator<void, number, void>>;
  table.set('trainer', gate => body(makeSys(gate), gate));
  ok(bench.machine, "printf '#!arena8 trainer\\n' > /tmp/trainer; chmod 755 /tmp/trainer");
  return bench.machine.exec(`su ${user} -c /tmp/trainer`).status;
}

const record = <T>(layout: { bytes: number; write(m: Uint8Array, at: number, v: T): void }, value: T): Uint8Array => {
  const bytes = new Uint8Array(layout.bytes);
  layout.write(bytes, 0, value);
  return bytes;
};

/** A descriptor of a batch. */
function* batchFile(sys: Sys, sequences: Sequences): Generator<void, number, void> {
  const fd = yield* sys.memfd('batch');
  yield* sys.write(fd, new Uint8Array(Uint32Array.from(sequences.flatMap(ids => [ids.length, 0, ...ids])).buffer));
  yield* sys.lseek(fd, 0, 0);
  return fd;
}

test('a program trains: opens, gives, waits, reads, writes, closes', t => {
  const bench = new TrainBench();
  bench.load('fable-f16', LEAST);
  let parameters = new Uint8Array(0);
  const answers: (number | string)[] = [];
  const status = run(bench, function* (sys) {
    const handle = yield* sys.train_open(record(TrainOptions, optionsOf('lora')));
    const state = new Uint8Array(TrainState.bytes);
    for (const sequences of DATA) {
      const fd = yield* batchFile(sys, sequences);
      answers.push(yield* sys.train_batch(handle, fd, record(TrainStep, STEP)));
      yield* sys.close(fd);
      answers.push(yield* sys.train_wait(handle, state, 0), yield* sys.train_wait(handle, state, 1));
      answers.push(yield* sys.train_wait(handle, state, -1));
    }
    answers.push(TrainState.read(state, 0).steps);
    const bytes: number[] = [];
    const piece = new Uint8Array(4096);
    for (let n; (n = yield* sys.train_read(handle, 0, bytes.length, piece)) > 0;) bytes.push(...piece.subarray(0, n));
    parameters = Uint8Array.from(bytes);
    answers.push(yield* sys.train_write(handle, 0, 4, parameters.subarray(4, 100)));
    answers.push(yield* sys.train_close(handle), yield* sys.train_wait(handle, state, 0));
    return 0;
  });
  t.is(status, 0);
  t.deepEqual(
    answers.slice(0, 4 * DATA.length),
    DATA.flatMap(sequences => [sequences.reduce((n, ids) => n + ids.length - 1, 0), 0, 0, 1]),
  );
  t.deepEqual(answers.slice(4 * DATA.length), [DATA.length, 96, 0, -E.BADF]);
  const beside = trained('lora', { sharePpm: 0 });
  for (const sequences of DATA) beside.learn(sequences);
  t.is(hex(parameters), hex(beside.vector('parameters')));
});

test('every call of training misused ends in an errno', t => {
  const bench = new TrainBench();
  bench.load('fable-f16', LEAST);
  const wrong: [string, number, number][] = [];
  run(bench, function* (sys) {
    const [options, step] = [record(TrainOptions, optionsOf('lora')), record(TrainStep, STEP)];
    const state = new Uint8Array(TrainState.bytes);
    const short = new Uint8Array(4);
    const fd = yield* batchFile(sys, DATA[0]!);
    function* is(what: string, call: Generator<void, number, void>, wanted: number): Generator<void, void, void> {
      const r = yield* call;
      if (r !== wanted) wrong.push([what, r, wanted]);
    }
    for (const handle of [0, 1, -1, 2 ** 40]) {
      yield* is('batch of none', sys.train_batch(handle, fd, step), -E.BADF);
      yield* is('wait for none', sys.train_wait(handle, state, -1), -E.BADF);
      yield* is('read of none', sys.train_read(handle, 0, 0, short), -E.BADF);
      yield* is('write of none', sys.train_write(handle, 0, 0, short), -E.BADF);
      yield* is('steps of none', sys.train_steps(handle, 1, 0), -E.BADF);
      yield* is('close of none', sys.train_close(handle), -E.BADF);
    }
    yield* is('short options', sys.train_open(short), -E.INVAL);
    yield* is('short options', sys.train_plan(short, new Uint8Array(4096)), -E.INVAL);
    yield* is('short report', sys.train_plan(options, short), -E.RANGE);
    const handle = yield* sys.train_open(options);
    yield* is('second', sys.train_open(options), -E.BUSY);
    yield* is('no descriptor', sys.train_batch(handle, 31, step), -E.BADF);
    yield* is('short step', sys.train_batch(handle, fd, short), -E.INVAL);
    yield* is('short state', sys.train_wait(handle, short, 0), -E.RANGE);
    yield* is('nothing to wait for', sys.train_wait(handle, state, -1), 1);
    yield* is('no such vector', sys.train_read(handle, 5, 0, short), -E.INVAL);
    yield* is('no anchor kept', sys.train_read(handle, 3, 0, short), -E.INVAL);
    yield* is('before its beginning', sys.train_read(handle, 0, -4, short), -E.INVAL);
    yield* is('behind its end', sys.train_read(handle, 0, 2 ** 40, short), 0);
    yield* is('behind its end', sys.train_write(handle, 0, 2 ** 40, short), 0);
    yield* is('negative updates', sys.train_steps(handle, -1, 0), -E.INVAL);
    yield* is('half frozen', sys.train_steps(handle, 1, 2), -E.INVAL);
    const directory = yield* sys.open('/tmp', 0, 0);
    yield* is('a directory', sys.train_batch(handle, directory, step), -E.INVAL);
    const ends = new Uint8Array(8);
    yield* sys.pipe(ends);
    yield* is('a pipe', sys.train_batch(handle, new DataView(ends.buffer).getInt32(0, true), step), -E.INVAL);
    yield* sys.train_batch(handle, fd, step);
    yield* is('a batch beside another', sys.train_batch(handle, fd, step), -E.BUSY);
    yield* is('read beside a batch', sys.train_read(handle, 0, 0, short), -E.BUSY);
    yield* is('write beside a batch', sys.train_write(handle, 0, 0, short), -E.BUSY);
    yield* is('steps beside a batch', sys.train_steps(handle, 1, 0), -E.BUSY);
    return 0; // and it ends with its batch under way
  });
  t.deepEqual(wrong, []);
  t.is(bench.trainer.text(0), '');
  let others = 0;
  bench.open(optionsOf('lora'));
  run(
    bench,
    function* (sys) {
      others = yield* sys.train_close(bench.handle);
      return 0;
    },
    'user',
  );
  t.is(others, -E.ACCES);
});

test('/proc/training, /proc/traintensors and the audit log say what there is and was', t => {
  const bench = trained('lora', { sharePpm: 100_000 });
  const { machine } = bench;
  bench.learn(DATA[0]!);
  const figures = new Map(
    ok(machine, 'cat /proc/training')
      .trimEnd()
      .split('\n')
      .map(line => line.split(' ') as [string, string]),
  );
  t.is(ok(machine, "su user -c 'cat /proc/training'"), 'uid 0\n');
  t.is(figures.get('state'), 'idle');
  t.is(figures.get('matrices'), 'q,v');
  t.is(figures.get('steps'), '1');
  t.is(figures.get('cycles'), `${bench.state.cycles}`);
  const [head, ...rows] = ok(machine, 'cat /proc/traintensors').trimEnd().split('\n');
  t.is(head, 'name\tcolumns\trows\tfrom\tcount');
  t.is(rows.length, 24);
  t.is(rows[0], 'blk.0.attn_q.weight.lora_a\t128\t2\t0\t256');
  const parameters = hex(bench.vector('parameters'));
  const { cycles, loss } = bench.state;
  bench.close();
  t.is(ok(machine, 'cat /proc/training /proc/traintensors'), '');
  const entries = ok(machine, 'llmctl audit --json 2>/dev/null || cat /audit/entries.jsonl')
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>)
    .filter(entry => entry['arena8.op'] === 'finetune');
  const [opened, closed] = entries;
  t.is(entries.length, 2);
  t.is(opened!['arena8.name'], 'open');
  t.is(closed!['arena8.name'], 'close');
  t.is(closed!['arena8.train.parameters.digest'], parameters);
  t.is(closed!['arena8.train.cycles'], `${cycles}`);
  t.is(closed!['arena8.train.loss'], loss);
  t.deepEqual(closed!['arena8.train.options'], opened!['arena8.train.options']);
});

// ── Records and policies ─────────────────────────────────────────────────────────────────────────────────────────────────────────

test('records of sessions are the same with a training beside them, but for numbers, times and salts', t => {
  const [alone, beside] = [new TrainBench(), trained('lora')];
  alone.load('fable-f16', LEAST);
  beside.feed = () => [DATA[0]!, {}];
  const own = /record|boot|time|_ns|digest|submitted|peak_bytes|quota|late/;
  const recordsOf = (bench: TrainBench): unknown[] => {
    for (const seed of [1, 2]) {
      bench.forget();
      bench.finish(bench.accepted('Once upon a time', { maxTokens: 12, seed, temp: 1 }));
    }
    return ok(bench.machine, 'llmctl audit --json')
      .trimEnd()
      .split('\n')
      .map(line => Object.entries(JSON.parse(line) as Record<string, unknown>))
      .map(entries => Object.fromEntries(entries.filter(([name]) => !own.test(name))))
      .filter(record => record['arena8.op'] === 'infer');
  };
  const records = recordsOf(alone);
  t.is(records.length, 2);
  t.deepEqual(recordsOf(beside), records);
  t.true(beside.state.steps > 0);
});

test('under fixed priorities a training is the least urgent of all, in round robin it has its turn', t => {
  const shares = [1, 2].map(policy => {
    const bench = new TrainBench();
    bench.load('fable-f16', LEAST);
    bench.kernel.sessions.configure({ ...KEEP, policy });
    bench.open(optionsOf('lora', { sharePpm: 0 }));
    bench.feed = () => [DATA[0]!, {}];
    const handle = bench.accepted('Once upon a time', { maxTokens: 30, priority: 31, temp: 0 });
    const from = bench.kernel.clock.cycles();
    while (bench.report(handle).endedNs === 0) bench.step();
    return bench.state.cyclesTotal / (bench.kernel.clock.cycles() - from);
  });
  t.log(shares.map(share => share.toFixed(3)).join(' '));
  t.is(shares[0], 0);
  t.true(shares[1]! > 0.3 && shares[1]! < 0.95);
});

test('a processor that is held in passes runs slices in one go, to the same bytes', t => {
  const outcomes = (['op', null] as const).map(stopAt => {
    const bench = trained('lora');
    given(bench.give(DATA[0]!));
    const handle = bench.accepted('Once upon a time', { maxTokens: 4, temp: 0 });
    bench.kernel.stopAt = stopAt;
    let stops = 0;
    while (bench.isBusy || bench.report(handle).endedNs === 0) if (bench.kernel.run(1) === 'stopped') stops++;
    t.is(stops > 0, stopAt !== null);
    return [
      bench.finish(handle).tokens,
      hex(bench.vector('parameters')),
      bench.state.cycles,
      bench.kernel.clock.cycles(),
    ];
  });
  t.deepEqual(outcomes[0], outcomes[1]);
});
