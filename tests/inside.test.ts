// A look into a step: what probs, attention and lens say is held against the logits that the step itself had, against softmax, the sampler and
// attention in f64, and against the f64 forward pass of random models of every architecture. Who looks from outside changes no byte; who looks
// by a call pays what the certificates say, sees nobody else's sessions, and makes no server late.

import { readFileSync } from 'node:fs';
import test from 'ava';
import { boot } from '../boot/index.ts';
import type { Machine } from '../boot/machine.ts';
import { Attention, Op, OP_BYTES } from '../drivers/engine/ops.ts';
import {
  GGML_TYPE,
  isRefusal,
  KV_PAGE,
  LIMITS,
  LOAD_DEFAULTS,
  O,
  PickRecord,
  PROBE_LAST,
  PROBES,
  RowRecord,
  SESSION_FLAG,
  SESSION_KIND,
  StepBlock,
  type AttentionAnswer,
  type LensAnswer,
  type ProbeAnswer,
  type ProbeWish,
  type ProbsAnswer,
} from '../kernel/abi/index.ts';

import { log2 } from '../kernel/log2.ts';
import { Forward } from './reference/forward.ts';
import { bytesOf, dequantize, roundF16 } from './reference/kernels.ts';
import { NAMES, randomConfig, randomModel, type Config } from './reference/models.ts';
import { random } from './reference/random.ts';
import { spmVocabulary } from './reference/vocabularies.ts';
import { ok } from './support/commands.ts';
import { Bench, type Options } from './support/service.ts';

const soak = process.env['ARENA8_SOAK'] === '1';

const LOOK: ProbeWish = { session: 0, what: 'probs', layer: 0, head: 0, top: 10 };

/** A look from outside, which must not be refused and must not change a byte of the arena. */
function look<T extends ProbeAnswer>(machine: Machine, wish: Partial<ProbeWish>): T {
  const before = Buffer.from(machine.arena.u8);
  const answer = machine.probe({ ...LOOK, ...wish });
  if (isRefusal(answer)) throw new Error(answer.message);
  if (Buffer.compare(before, machine.arena.u8) !== 0) throw new Error('the arena has changed');
  return JSON.parse(answer) as T;
}
const refused = (machine: Machine, wish: Partial<ProbeWish>): string => {
  const answer = machine.probe({ ...LOOK, ...wish });
  return isRefusal(answer) ? answer.message : `no refusal: ${answer}`;
};

/** The logits of every head that runs while nobody looks, by session and position. */
class Heads {
  readonly logits = new Map<string, Float32Array>();
  isOn = true;

  constructor({ service, machine }: Bench) {
    const { compute, lay, loader } = service;
    const { run } = compute;
    const { u8, f32 } = machine.arena;
    const heard = (stepAt: number, opAt: number): number => {
      const status = run(stepAt, opAt);
      const engine = loader.engine()!;
      if (!this.isOn || opAt !== engine.headAt) return status;
      for (let i = 0; i < StepBlock.read(u8, stepAt).picks; i++) {
        const { row } = PickRecord.read(u8, lay.picksAt + i * PickRecord.bytes);
        const { session, pos } = RowRecord.read(u8, lay.rowsAt + row * RowRecord.bytes);
        const from = (engine.logitsAt + i * engine.logitsStride) >> 2;
        this.logits.set(`${session} ${pos}`, f32.slice(from, from + engine.vocabulary.count));
      }
      return status;
    };
    Object.assign(compute, { run: heard });
  }

  of({ id, position }: ProbeAnswer): Float32Array {
    return this.logits.get(`${id} ${position}`) ?? new Float32Array(0);
  }
}

// ── In f64 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Ids, best first, ties by lower id. */
const ranked = (logits: ArrayLike<number>): number[] =>
  Array.from({ length: logits.length }, (_, i) => i).sort((a, b) => logits[b]! - logits[a]! || a - b);

function softmax(logits: readonly number[], temp = 1): number[] {
  const most = Math.max(...logits);
  const masses = logits.map(x => Math.exp((x - most) / temp));
  const sum = masses.reduce((a, b) => a + b, 0);
  return masses.map(m => m / sum);
}
const entropyOf = (p: readonly number[]): number => p.reduce((sum, x) => sum - (x === 0 ? 0 : x * Math.log2(x)), 0);
const normal = (p: readonly number[]): number[] => {
  const sum = p.reduce((a, b) => a + b, 0);
  return p.map(x => x / sum);
};

/** The distribution behind each stage that is in force; `share`: what top-p has to leave at least, on the edge of which f32 may decide otherwise. */
function stagesOf(logits: Float32Array, history: readonly number[], o: Options): { name: string; p: number[] }[] {
  const { temp = 1, topK = 0, topP = 1, minP = 0, repeatPenalty = 1 } = o;
  let x = [...logits];
  const stages = [{ name: 'model', p: softmax(x) }];
  const add = (name: string, p: number[]): unknown => stages.push({ name, p });
  if (repeatPenalty !== 1) {
    for (const id of new Set(history)) x[id] = x[id]! >= 0 ? x[id]! / repeatPenalty : x[id]! * repeatPenalty;
    add('penalty', softmax(x));
  }
  const order = ranked(x);
  const keep = (k: number): void => {
    const kept = new Set(order.slice(0, k));
    x = x.map((v, id) => (kept.has(id) ? v : -Infinity));
  };
  if (temp <= 0 || topK === 1) {
    keep(1);
    add(temp <= 0 ? 'temperature' : 'top_k', softmax(x));
    return stages;
  }
  if (temp !== 1) add('temperature', softmax(x, temp));
  if (topK > 0 && topK < x.length) {
    keep(topK);
    add('top_k', softmax(x, temp));
  }
  let p = softmax(x, temp);
  if (topP < 1) {
    let sum = 0;
    const kept = new Set(
      order.filter(id => {
        const isIn = sum < topP;
        sum += p[id]!;
        return isIn;
      }),
    );
    p = normal(p.map((v, id) => (kept.has(id) ? v : 0)));
    add('top_p', p);
  }
  if (minP > 0) {
    const least = minP * Math.max(...p);
    p = normal(p.map(v => (v >= least ? v : 0)));
    add('min_p', p);
  }
  return stages;
}

const near = (a: number, b: number, relative: number, absolute = 1e-9): boolean =>
  Math.abs(a - b) <= absolute + relative * Math.max(Math.abs(a), Math.abs(b));

// ── The step's own ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

const SETTINGS: readonly Options[] = [
  { temp: 0.8, topK: 40, topP: 0.95, seed: 3 },
  { temp: 1, topK: 0, topP: 1, seed: 4 },
  { temp: 1.7, topK: 200, topP: 0.8, minP: 0.02, repeatPenalty: 1.3, seed: 5 },
  { temp: 0, repeatPenalty: 1.1 },
  { temp: 0.5, topK: 1, topP: 1 },
  { temp: 0.3, topK: 3, topP: 1, minP: 0.3, repeatPenalty: 0.7, seed: 6, rng: 1 },
  { temp: 1e-30, topK: 129, topP: 1e-6, minP: 1, repeatPenalty: 100, seed: 7 },
];

test('the lens behind the last layer is the step’s own logits, to the bit; chances and entropies are those of f64 softmax and sampler', t => {
  const bench = new Bench();
  const { machine, kernel } = bench;
  bench.load('fable-f16', { ctx: 128 });
  const heads = new Heads(bench);
  const texts = ['Once upon a time', 'The dog', 'A cat had a'];
  const options = (i: number): Options => ({ maxTokens: 10, ...SETTINGS[i]!, flags: SESSION_FLAG.detached });
  const handles = SETTINGS.map((_, i) => bench.accepted(texts[i % texts.length]!, options(i)));
  const before = (): string => JSON.stringify([kernel.arenaDigest(), kernel.clock.record(), kernel['log'].text(0)]);
  const seen = new Set<string>();
  let draws = 0;
  let worst = 0;
  while (bench.step()) {
    heads.isOn = false;
    const held = before();
    for (const [i, handle] of handles.entries()) {
      const { id } = bench.report(handle);
      if (isRefusal(machine.probe({ ...LOOK, session: id }))) continue; // no step yet
      const lens = look<LensAnswer>(machine, { session: id, what: 'lens', top: 8 });
      const own = heads.of(lens);
      if (own.length === 0 || seen.has(`${id} ${lens.position}`)) continue;
      seen.add(`${id} ${lens.position}`);
      draws++;
      const probs = look<ProbsAnswer>(machine, { session: id, top: 64 });
      t.is(probs.position, lens.position);
      const order = ranked(own);
      const p = softmax([...own]);
      const last = lens.layers.at(-1)!;
      t.deepEqual(last.top.map(x => [x.id, x.logit]), order.slice(0, 8).map(x => [x, own[x]])); // prettier-ignore
      t.deepEqual(probs.top.map(x => [x.id, x.logit]), order.slice(0, 64).map(x => [x, own[x]])); // prettier-ignore
      t.is(last.rank, order.indexOf(lens.next!.id) + 1);
      t.true(near(last.probability!, p[lens.next!.id]!, 1e-6));
      t.true(near(last.entropy, entropyOf(p), 1e-6));
      t.is(lens.layers.length, bench.engine.shape.layers + 1);
      // The sampler, stage by stage.
      const row = look<AttentionAnswer>(machine, { session: id, what: 'attention' }).row.map(token => token.id);
      const expected = stagesOf(own, row, options(i));
      t.deepEqual(probs.stages.map(s => s.stage), expected.map(s => s.name)); // prettier-ignore
      for (const [k, { name, p: chances }] of expected.entries()) {
        const stage = probs.stages[k]!;
        const what = `session ${id} position ${probs.position} ${name}`;
        const least = Math.max(...chances) * 2 ** -126; // the sampler's masses end there
        t.is(stage.tokens, chances.filter(x => x >= least).length, what);
        t.true(near(stage.entropy, entropyOf(chances), 1e-6, 1e-6), what);
        t.true(near(stage.probability!, chances[probs.next!.id]!, 2e-6), what);
        for (const { id: token, probabilities } of probs.top) {
          t.true(near(probabilities[k]!, chances[token]!, 2e-6), `${what}, token ${token}`);
          worst = Math.max(worst, Math.abs(probabilities[k]! - chances[token]!));
        }
        if (stage.tokens <= 64) {
          const sum = probs.top.reduce((all, { probabilities }) => all + probabilities[k]!, 0);
          if (name !== 'penalty' && !expected.some(e => e.name === 'penalty')) t.true(near(sum, 1, 1e-12), what);
        }
      }
      t.true(probs.stages.at(-1)!.probability! > 0, 'what was drawn could be drawn');
      t.true(probs.next!.drawn);
      for (const told of [lens, probs]) t.true(told.cycles > 0 && told.cycles <= told.cycles_most);
    }
    t.is(before(), held);
    heads.isOn = true;
  }
  t.log(`${draws} draws, the worst chance is off by ${worst.toExponential(1)}`);
  t.true(draws >= 50);
});

// ── Attention ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A position's queries of every layer: the plan is run op by op over it, as the test wants it, and the arena is put back. */
function queriesOf(bench: Bench, id: number, pos: number): { op: number; q: Float32Array }[] {
  const { service, machine, engine } = bench;
  const { u8, i32, u32, f32 } = machine.arena;
  const { compute, lay, table } = service;
  const before = Buffer.from(u8);
  const { at, bytes, tableAt } = engine.slots;
  const historyAt = at + (table.byId(id)!.get('place') - 1) * bytes;
  const token = u32[(historyAt >> 2) + pos]!;
  RowRecord.write(u8, lay.rowsAt, { token, pos, tableAt: historyAt + tableAt, session: id });
  const { kvAt, options, vocabulary } = engine;
  const step = { rowsAt: lay.rowsAt, n: 1, kvAt, ctx: options.ctx, vocabulary: vocabulary.count };
  StepBlock.write(u8, lay.stepAt, step);
  const seen: { op: number; q: Float32Array }[] = [];
  for (let op = engine.bodyAt; i32[op >> 2] !== Op.END; op += OP_BYTES) {
    if (i32[op >> 2] === Op.ATTENTION) {
      const word = (w: Attention): number => i32[(op >> 2) + w]!;
      const from = word(Attention.qAt) >> 2;
      seen.push({ op, q: f32.slice(from, from + word(Attention.heads) * word(Attention.headDim)) });
    }
    compute.run_op(lay.stepAt, op);
  }
  u8.set(before);
  return seen;
}

for (const kv of ['F32', 'F16', 'Q8_0', 'Q4_0'] as const)
  test(`attention over a cache of ${kv} is soft_max(q K) in f64, from queries and pages`, t => {
    const bench = new Bench();
    const { machine, engine: { shape } } = bench; // prettier-ignore
    bench.load('fable-f16', { ctx: 96, kvType: GGML_TYPE[kv] });
    const handle = bench.accepted('Once upon a time there was a little girl. She liked to play outside with her dog and her cat. One day', {
      maxTokens: 40,
      seed: 9,
    }); // prettier-ignore
    const { id } = bench.report(handle);
    const s = bench.service.table.byId(id)!;
    while (s.get('pos') < 45) bench.step();
    const { u8, i32, u32, view } = machine.arena;
    const { kvAt, slots } = bench.engine;
    const tableAt = slots.at + (bench.service.table.byId(id)!.get('place') - 1) * slots.bytes + slots.tableAt;
    let [worst, rows] = [0, 0];
    for (const position of [0, 31, 32, 44])
      for (const [layer, { op, q }] of queriesOf(bench, id, position).entries())
        for (let head = 0; head < shape.heads; head++) {
          const word = (w: Attention): number => i32[(op >> 2) + w]!;
          const [headDim, headsKv] = [word(Attention.headDim), word(Attention.headsKv)];
          const group = shape.heads / headsKv;
          const scale = view.getFloat32(op + 4 * Attention.scale, true);
          const round = kv === 'F16' ? roundF16 : (x: number): number => x;
          const scores = Array.from({ length: position + 1 }, (_, p) => {
            const page = kvAt + u32[(tableAt >> 2) + Math.floor(p / KV_PAGE)]! + word(Attention.kPlaneAt);
            const row = page + (p % KV_PAGE) * bytesOf(GGML_TYPE[kv], headsKv * headDim);
            const key = dequantize(GGML_TYPE[kv], u8, row + bytesOf(GGML_TYPE[kv], Math.floor(head / group) * headDim), headDim); // prettier-ignore
            return scale * key.reduce((sum, x, i) => sum + x * round(q[head * headDim + i]!), 0);
          });
          const expected = softmax(scores);
          const told = look<AttentionAnswer>(machine, { what: 'attention', session: id, position, layer, head });
          t.is(told.head_kv, Math.floor(head / group));
          t.is(told.row.length, position + 1);
          const what = `layer ${layer} head ${head} position ${position}`;
          t.true(near(told.row.reduce((sum, x) => sum + x.weight, 0), 1, kv === 'F16' ? 1e-3 : 1e-6), what); // prettier-ignore
          for (const [p, { weight }] of told.row.entries()) {
            const allowed = kv === 'F16' ? [2 ** -11 + 1e-5, 2 ** -24] : [1e-5, 1e-9];
            t.true(near(weight, expected[p]!, allowed[0]!, allowed[1]!), `${what} ${p}: ${weight}, ${expected[p]}`);
            worst = Math.max(worst, Math.abs(weight - expected[p]!));
          }
          rows++;
        }
    t.log(`${rows} rows, the worst weight is off by ${worst.toExponential(1)}`);
  });

// ── Models of every architecture ─────────────────────────────────────────────────────────────────────────────────────────────────

function put(machine: Machine, path: string, file: Uint8Array): void {
  const { vfs, lay } = machine.kernel;
  const to = vfs.open('/', path, O.CREAT | O.TRUNC | O.WRONLY, 0o644);
  if (typeof to === 'number') throw new Error(`${path}: ${to}`);
  for (let at = 0; at < file.length; at += LIMITS.dmaBytes) {
    const piece = file.subarray(at, at + LIMITS.dmaBytes);
    machine.arena.u8.set(piece, lay.dmaAt);
    to.write(lay.dmaAt, piece.length);
  }
  to.close();
}

for (const architecture of NAMES)
  test(`${architecture}: every layer’s lens and every head’s row agree with the f64 forward pass`, t => {
    const next = random(6007 * (1 + NAMES.indexOf(architecture)));
    const bench = new Bench();
    const { machine } = bench;
    let [worst, rows] = [0, 0];
    for (let m = 0; m < (soak ? 40 : 3); m++) {
      const vocabulary = 280;
      const shape = randomConfig(architecture, next);
      const config: Config = {
        ...shape,
        vocabulary,
        context: 40,
        vectorType: GGML_TYPE.F32,
        types: () => GGML_TYPE.F32,
      };
      const model = randomModel(config, next, spmVocabulary(vocabulary, next));
      put(machine, '/tmp/model.gguf', model.file);
      const request = { ...LOAD_DEFAULTS, ctx: 40, kvType: GGML_TYPE.F32, sessions: 1, batch: 4 };
      const refusal = bench.kernel.loader.load('/tmp/model.gguf', request);
      if (refusal !== null) throw new Error(refusal.message);
      const handle = bench.accepted('te ta to', { maxTokens: 5, temp: 1, seed: m, flags: SESSION_FLAG.detached });
      const { report } = bench.finish(handle);
      const last = look<AttentionAnswer>(machine, { what: 'attention' });
      t.is(last.state, 'DONE');
      t.is(last.id, report.id);
      const forward = new Forward(model, GGML_TYPE.F32);
      for (const { id, position } of last.row) {
        forward.next(id);
        const lens = look<LensAnswer>(machine, { what: 'lens', top: 5, position });
        for (const [i, { layer, top }] of lens.layers.entries()) {
          const said = forward.said(forward.residuals[i]!);
          const scale = said.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
          t.is(layer, i - 1);
          for (const { id: token, logit } of top) {
            worst = Math.max(worst, Math.abs(logit - said[token]!) / scale);
            t.true(Math.abs(logit - said[token]!) <= 2e-4 * scale, `model ${m} position ${position} layer ${layer}`);
          }
        }
        for (let layer = 0; layer < config.layers; layer++)
          for (let head = 0; head < config.heads; head++) {
            const { row } = look<AttentionAnswer>(machine, { what: 'attention', position, layer, head });
            const expected = forward.weights[layer]![head]!;
            const what = `model ${m} position ${position} layer ${layer} head ${head}`;
            t.true(
              row.every(({ weight }, p) => near(weight, expected[p]!, 0, 1e-4)),
              what,
            );
            rows++;
          }
      }
      bench.kernel.sessions.close(handle);
    }
    t.log(`${rows} rows of attention; the worst logit is off by ${worst.toExponential(1)} of the largest`);
  });

// ── From outside, and by a call ──────────────────────────────────────────────────────────────────────────────────────────────────

const image = readFileSync('build/boot.cpio');
const WISHES: readonly Partial<ProbeWish>[] = [
  { what: 'probs' },
  { what: 'attention', layer: 3, head: 2 },
  { what: 'lens', top: 3 },
];

test('a machine that is held before every op, or now and then, and looked into there, ends as one that nobody looked into', t => {
  const script =
    'llmctl load fable-q4_0 --ctx 64; llmctl submit --seed 5 -n 3 "The dog"; llminfer --seed 6 --max-tokens 4 A cat; llmctl poll 1 9';
  const run = (at: 'op' | 'layer' | 'token' | null): { machine: Machine; looks: number; said: Set<string> } => {
    const machine = boot({ image, strict: true });
    const pid = machine.start(['sh', '-c', script]);
    const said = new Set<string>();
    let looks = 0;
    for (let i = 0; machine.statusOf(pid) === undefined; i++) {
      machine.stopAt = at;
      const state = machine.run(64);
      if (state !== 'stopped') continue;
      // Once in a while: an op is looked at in a thousandth of a second, and there are thousands of them.
      if (at === 'op' && i % 23 !== 0) continue;
      for (const wish of WISHES.flatMap(w => [1, 2].map(session => ({ ...LOOK, ...w, session })))) {
        const answer = machine.probe(wish);
        if (isRefusal(answer)) continue;
        looks++;
        if ((JSON.parse(answer) as ProbeAnswer).next?.drawn === true) said.add(answer.replace(/"state":"\w+"/, '')); // not yet drawn: it will be
      }
    }
    return { machine, looks, said };
  };
  const quiet = run(null);
  const behind = run('token');
  for (const at of ['op', 'layer'] as const) {
    const { machine, looks, said } = run(at);
    t.is(machine.stateDigest(), quiet.machine.stateDigest(), at);
    t.true(looks > said.size, 'the same is said of a step as long as it is the last');
    t.deepEqual([...said].filter(line => !behind.said.has(line)), [], at); // prettier-ignore
    t.log(`${at}: ${looks} looks, ${said.size} answers`);
  }
  t.is(behind.machine.stateDigest(), quiet.machine.stateDigest());
});

test('llmctl prints what is seen from outside, and is charged what that says, within its bound', t => {
  const machine = boot({ image, strict: true });
  ok(machine, 'llmctl load fable-f16 --ctx 128');
  ok(machine, 'llmctl submit --seed 3 --max-tokens 9 "Once upon a time"; sleep 3');
  const spent = (): number => {
    const record = machine.kernel.clock.record();
    return record.plan + record.kernels;
  };
  const asked: readonly (readonly [string, Partial<ProbeWish>])[] = [
    ['probs', { what: 'probs' }],
    ['probs 1 --top 3 --at 2', { what: 'probs', top: 3, position: 2 }],
    ['attention', { what: 'attention' }],
    ['attention last --layer 4 --head 3 --at 5', { what: 'attention', layer: 4, head: 3, position: 5 }],
    ['lens', { what: 'lens' }],
    ['lens --top 64', { what: 'lens', top: 64 }],
  ];
  const page = readFileSync('images/root/usr/share/man/json.md', 'utf8');
  const section = page.slice(page.indexOf('llmctl probs|'), page.indexOf('llmctl sched --json'));
  for (const [line, wish] of asked) {
    const told = look(machine, wish);
    const before = spent();
    const printed = ok(machine, `llmctl ${line} --json`);
    t.deepEqual(JSON.parse(printed), told, line);
    t.is(spent() - before, told.cycles, line);
    t.true(told.cycles <= told.cycles_most, line);
    for (const key of printed.matchAll(/"([a-z_]+)":/g)) t.regex(section, new RegExp(`\\b${key[1]}\\b`), line);
  }
  // The same as tables.
  t.regex(
    ok(machine, 'llmctl probs --top 2'),
    /^session 1, DONE, position 12: ".*", then ".*", drawn\nSTAGE +TOKENS +ENTROPY +".*"\nmodel +1024 /,
  );
  t.is(ok(machine, 'llmctl attention --at 6').split('\n').length, 3 + 7 + 1);
  t.is(ok(machine, 'llmctl lens').split('\n').length, 2 + 7 + 1);
  const lines = ok(machine, 'llmctl lens --last 3 --json').trim().split('\n');
  t.deepEqual(lines.map(line => (JSON.parse(line) as ProbeAnswer).position), [10, 11, 12]); // prettier-ignore
  const columns = ok(machine, 'llmctl lens --last 3').split('\n');
  t.regex(columns[0]!, /^ +POSITION +10 +11 +12$/);
  t.is(columns.length, 2 + 7 + 1 + 1);
});

test('beside a server a look waits for its time, and nobody is late', t => {
  const machine = boot({ image, strict: true });
  ok(machine, 'llmctl load fable-q4_0 --ctx 128');
  ok(machine, 'llmctl submit --period 4000 --max-tokens 30 "Once upon a time"');
  ok(machine, 'sleep 20');
  for (const what of PROBES) {
    const told = JSON.parse(ok(machine, `llmctl ${what} --json`)) as ProbeAnswer;
    t.is(told.state, 'DECODE', what);
    t.true(told.cycles > 0);
  }
  ok(machine, 'llmctl poll last 99 > /dev/null; sleep 300');
  // Many thin layers below a wide head: a server leaves time for a step, not for all those heads. They are had when it has ended.
  const next = random(5);
  const vocabulary = 2000;
  const shape = { ...randomConfig('llama', next), layers: 24, heads: 2, headsKv: 1, headSize: 16, ropeDimensions: 16 };
  const config = { ...shape, embedding: 32, feedForward: 32, vocabulary, context: 64, types: () => GGML_TYPE.F32 };
  put(machine, '/tmp/model.gguf', randomModel(config, next, spmVocabulary(vocabulary, next)).file);
  ok(machine, 'llmctl load /tmp/model.gguf --ctx 64 --batch 1');
  const least = /shortest period that would do is ([\d.]+) ms/.exec(
    machine.exec('llmctl submit --period 0.001 te').stderr,
  );
  ok(machine, `llmctl submit --temp 1.5 --period ${Math.ceil(Number(least?.[1]))} --max-tokens 30 te; sleep 0.05`);
  t.regex((JSON.parse(ok(machine, 'llmctl probs --json')) as ProbeAnswer).state, /PREFILL|DECODE/);
  t.is((JSON.parse(ok(machine, 'llmctl lens --json')) as ProbeAnswer).state, 'DONE');
  const status = JSON.parse(ok(machine, 'llmctl status --json')) as {
    deadline_misses: number;
    sessions_active: number;
  };
  t.is(status.deadline_misses, 0);
  t.is(status.sessions_active, 0);
});

// ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('who may look: a user into sessions of their own, the superuser into all', t => {
  const bench = new Bench();
  bench.load('fable-q4_0', { ctx: 64 });
  const own = bench.accepted('The dog', { maxTokens: 4, temp: 0, flags: SESSION_FLAG.detached }, 1000);
  const other = bench.accepted('A cat', { maxTokens: 4, temp: 0, flags: SESSION_FLAG.detached }, 1001);
  for (const handle of [own, other]) bench.finish(handle);
  const ask = (handle: number, uid: number): string => {
    const options = { what: 0, layer: 0, head: 0, top: 1, position: PROBE_LAST };
    const r = bench.kernel.sessions.look(handle, options, { pid: 1, uid });
    if (typeof r === 'number') return `errno ${-r}`;
    if (isRefusal(r)) return r.message;
    const { answer } = r.take();
    return isRefusal(answer) ? answer.message : `session ${(JSON.parse(answer) as ProbeAnswer).id}`;
  };
  const [mine, theirs] = [own, other].map(handle => `session ${bench.report(handle).id}`) as [string, string];
  t.is(ask(own, 1000), mine);
  t.is(ask(0, 1000), mine);
  t.is(ask(0, 1001), theirs);
  t.is(ask(other, 1000), 'errno 13');
  t.is(ask(other, 0), theirs);
  t.is(ask(0, 0), theirs);
  t.is(ask(0, 1002), 'no session that is still there has taken a step');
  t.is(ask(99, 0), 'errno 9');
});

test('what cannot be looked into is refused with the reason', t => {
  const bench = new Bench();
  const { machine, kernel } = bench;
  kernel.loader.unload();
  t.is(refused(machine, {}), 'no model loaded: llmctl load FILE');
  bench.load('fable-q4_0', { ctx: 64, pages: 4, sessions: 4 });
  t.is(refused(machine, {}), 'no session that is still there has taken a step');
  const options = { maxTokens: 55, temp: 0, flags: SESSION_FLAG.detached };
  const handle = bench.accepted('The dog', options);
  const { id } = bench.report(handle);
  t.is(refused(machine, { session: id }), `session ${id} has no history: it never began`);
  while (bench.report(handle).outputTokens < 3) bench.step();
  const last = look(machine, {}).position;
  t.is(refused(machine, { session: id + 1 }), `no session ${id + 1}: it was closed, or its memory was wanted`);
  for (const position of [-1, last + 1, 0.5, NaN])
    t.is(refused(machine, { position }), `position ${position}: session ${id} has computed 0 to ${last}`);
  for (const top of [0, 65, -1, 1.5]) t.is(refused(machine, { top }), `${top} tokens, 1 to 64 can be shown`);
  const what = 'attention';
  for (const layer of [-1, 6]) t.is(refused(machine, { what, layer }), `layer ${layer}: the model has 0 to 5`);
  for (const head of [4, 1e9]) t.is(refused(machine, { what, head }), `head ${head}: a layer has 0 to 3`);
  t.is(refused(machine, { what: 'all' as 'lens' }), "no look 'all': probs, attention, lens");
  // Sessions that are in each other's way: pages go to the swap device, and those of the first one that has ended to others.
  const handles = ['A cat', 'In the park'].map(text => bench.accepted(text, options));
  const seen = new Set<string>();
  while (bench.step()) {
    for (const h of [handle, ...handles]) {
      const r = machine.probe({ ...LOOK, session: bench.report(h).id });
      if (isRefusal(r)) seen.add(r.message.replace(/\d+/g, 'N'));
    }
  }
  t.deepEqual([...seen].sort(), [
    'N of the N pages of session N are on the swap device',
    'session N has ended, and of its N positions N are still in the pool',
  ]);
  bench.load('fable-q4_0', { ctx: 64, stream: 2 });
  t.is(refused(machine, {}), 'the weights of the loaded model stream, and a look needs all of them in the arena');
});

test('a text that is scored can be looked into while it is; an engine without layers has chances', t => {
  const bench = new Bench();
  const { machine } = bench;
  bench.load('fable-q4_0', { ctx: 64 });
  const text = 'Once upon a time there was a little girl named Lily. She liked to play with her dog.';
  const handle = bench.accepted(text, { kind: SESSION_KIND.score, maxTokens: 1 });
  bench.step();
  const lens = look<LensAnswer>(machine, { what: 'lens' });
  t.false(lens.next!.drawn);
  t.is(lens.layers.at(-1)!.rank! >= 1, true);
  bench.finish(handle);
  t.regex(
    refused(machine, {}),
    /^session \d+ has no step to look into: none was taken yet, or its pages were given up$/,
  );
  bench.kernel.sessions.close(handle);

  bench.load('stub');
  const echo = bench.accepted('ab', { maxTokens: 6, temp: 0, flags: SESSION_FLAG.detached });
  bench.finish(echo);
  const probs = look<ProbsAnswer>(machine, { top: 1 });
  t.is(probs.top[0]!.id, probs.next!.id);
  for (const what of ['lens', 'attention'] as const) t.is(refused(machine, { what }), 'the stub engine has no layers');
});

test('log2 is that of the engine, within its last digits', t => {
  const next = random(3);
  let worst = 0;
  for (let i = 0; i < 20000; i++) {
    const x = next() * 2 ** Math.floor(next() * 2000 - 1000);
    const expected = Math.log2(x);
    worst = Math.max(worst, Math.abs(log2(x) - expected) / Math.max(1e-3, Math.abs(expected)));
  }
  for (const x of [1, 2, 0.5, 1024, 2 ** -1074, 2 ** 1023]) t.is(log2(x), Math.log2(x));
  t.true(worst < 1e-13, String(worst));
});
