// Bounds of whole requests on whole machines: what is said before a request runs holds for what it is then charged, on every target and with
// every setting; forecasts agree with each other, and a price that is wrong is noticed.

import test, { type ExecutionContext } from 'ava';
import { readFileSync } from 'node:fs';
import { boot, type BootOptions } from '../boot/index.ts';
import type { Machine } from '../boot/machine.ts';
import {
  COST_COLUMNS,
  FINISH,
  isRefusal,
  LIMITS,
  PLAN_RECORD,
  SessionOptions,
  WcetOptions,
  type RecordValue,
  type Refusal,
  type SessionReport,
  type WcetReport,
} from '../kernel/abi/index.ts';
import { ACCOUNTS } from '../kernel/clock.ts';
import { SessionRecord } from '../kernel/session.ts';
import { TARGETS } from '../kernel/wcet/targets.ts';
import { soak } from './harness.ts';
import { makeRandom } from './support/arena.ts';
import { forget } from './support/service.ts';

const image = readFileSync('build/boot.cpio');
const power = (options: BootOptions = {}): Machine => boot({ image, strict: true, ...options });

type Settings = Partial<RecordValue<typeof SessionOptions.fields>>;
type Report = RecordValue<typeof SessionReport.fields>;
const DEFAULTS: Settings = { temp: 0.8, topK: 40, topP: 0.95, repeatPenalty: 1, rng: 0 };
const OWNER = 4711; // no process

/** The value of a result that must not be a refusal. */
function given<T>(value: T | Refusal): T {
  if (isRefusal(value)) throw new Error(value.message);
  return value;
}

function ok(machine: Machine, line: string): string {
  const { status, stdout, stderr } = machine.exec(line);
  if (status !== 0) throw new Error(`${line}: ${stderr}`);
  return stdout;
}

/** Submits a text; returns the session. */
function submit({ kernel, arena }: Machine, text: string, settings: Settings): number {
  const { lay, vfs, sessions } = kernel;
  const prompt = vfs.memfd('prompt');
  if (typeof prompt === 'number') throw new Error('no memfd');
  const bytes = new TextEncoder().encode(text);
  arena.u8.set(bytes, lay.dmaAt);
  prompt.write(lay.dmaAt, bytes.length);
  prompt.seek(0, 0);
  SessionOptions.write(arena.u8, lay.windowAt, { ...DEFAULTS, ...settings });
  const session = sessions.open({ pid: OWNER, uid: 0, groups: [] }, lay.windowAt, prompt);
  prompt.close();
  return given(session);
}

/** Runs a session to its end, reading its events. */
function finish({ kernel }: Machine, id: number): Report {
  const { sessions, lay, audit } = kernel;
  for (;;) {
    audit?.settle(); // the end is there when it is recorded
    const n = sessions.read(id, lay.windowAt, LIMITS.windowBytes);
    if (n === 0) break;
    if (n === null && !sessions.run()) throw new Error('nothing can run');
  }
  const report = sessions.report(id) as Report;
  sessions.close(id);
  return report;
}

/** What /proc/clock says. */
function clock({ kernel }: Machine): Readonly<Record<(typeof ACCOUNTS)[number] | 'cycles', number>> {
  return kernel.clock.record();
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

function forecast(
  { kernel, arena }: Machine,
  options: Partial<RecordValue<typeof WcetOptions.fields>>,
  path = '',
): RecordValue<typeof WcetReport.fields> {
  WcetOptions.write(arena.u8, kernel.lay.windowAt, { ...sampler, prompt: 8, generate: 8, kvType: 1, ...options });
  return given(kernel.forecast.request(path, kernel.lay.windowAt));
}
const sampler = { temp: 0.8, topK: 40, topP: 0.95, repeatPenalty: 1 };

/** The rows of the priced plan, by column. */
function plan(
  { kernel, arena }: Machine,
  options: Partial<RecordValue<typeof WcetOptions.fields>>,
  path = '',
): Record<string, string>[] {
  const { lay } = kernel;
  WcetOptions.write(arena.u8, lay.windowAt, { ...sampler, prompt: 8, generate: 8, kvType: 1, ...options });
  const file = given(kernel.forecast.plan(path, lay.windowAt));
  let text = '';
  for (let n = 0; (n = file.read(lay.dmaAt, LIMITS.dmaBytes)) > 0;)
    text += new TextDecoder().decode(arena.u8.subarray(lay.dmaAt, lay.dmaAt + n));
  file.close();
  return text
    .trimEnd()
    .split('\n')
    .map(line => {
      const columns = line.split('\t');
      return Object.fromEntries(COST_COLUMNS.map((name, i) => [name, columns[i]!]));
    });
}

function randomSettings(random: (n: number) => number): Settings {
  return {
    maxTokens: 1 + random(12),
    seed: random(1000),
    temp: random(3) === 0 ? 0 : 0.1 + random(20) / 10,
    topK: [0, 1, 5, 40][random(4)]!,
    topP: random(2) === 0 ? 1 : 0.05 + random(90) / 100,
    minP: random(2) === 0 ? 0 : random(50) / 100,
    repeatPenalty: random(2) === 0 ? 1 : 0.5 + random(20) / 10,
    logitsK: random(3) === 0 ? random(LIMITS.topLogitsMax + 1) : 0,
  };
}

function holds(t: ExecutionContext, report: Report, what: string): void {
  t.not(FINISH[report.finish], 'fault', what);
  t.true(report.cycles <= report.wcetCycles, `${what}: ${report.cycles} > ${report.wcetCycles}`);
  t.true(report.cycles >= report.bcetCycles, `${what}: ${report.cycles} < ${report.bcetCycles}`);
  t.true(report.wcetCycles > 0 && report.wcetCycles < 2 ** 52, what);
}

// ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

for (const model of ['fable-f16', 'fable-q4_0'])
  for (const target of TARGETS)
    test(`${model} on ${target.name}: random requests stay within their bounds, step by step and as a whole`, t => {
      const random = makeRandom(model.length * 31 + target.name.length);
      const machine = power({ target: target.name });
      ok(machine, `llmctl load ${model}`);
      const words = 'once upon a time there was a little girl who had 3 dogs, Zoë & 42 cats!'.split(' ');
      for (let i = 0; i < 12; i++) {
        const text = Array.from({ length: 1 + random(30) }, () => words[random(words.length)]).join(' ');
        const settings = randomSettings(random);
        forget(machine);
        const before = clock(machine);
        const report = finish(machine, submit(machine, text, settings));
        const after = clock(machine);
        holds(t, report, `${model} ${target.name} ${JSON.stringify({ text, settings })}`);
        t.is(sum(ACCOUNTS.map(a => after[a])), after.cycles);
        t.true(after.plan - before.plan <= report.cycles, 'top_k is the session’s, but no op');
      }
    });

test('many random requests to the stub, which computes nothing: no bound is exceeded or undercut, on any target', t => {
  const requests = soak ? 1_000_000 : 2000;
  const random = makeRandom(2026);
  const machine = power();
  ok(machine, 'llmctl backend stub');
  const targets = TARGETS.filter(x => x.kind === 'model');
  let closest = 0; // charged, of what was said at most
  for (let i = 0; i < requests; i++) {
    if (i % 100 === 0) given(switchTarget(machine, targets[random(targets.length)]!.name));
    const report = finish(machine, submit(machine, 'word '.repeat(1 + random(20)), randomSettings(random)));
    if (report.cycles > report.wcetCycles || report.cycles < report.bcetCycles || FINISH[report.finish] === 'fault')
      t.fail(`request ${i}: ${report.cycles} cycles, bounds ${report.bcetCycles} to ${report.wcetCycles}`);
    if (FINISH[report.finish] === 'length') closest = Math.max(closest, report.cycles / report.wcetCycles);
  }
  t.log(`${requests} requests, the dearest took ${(100 * closest).toFixed(1)} % of its bound`);
  t.true(closest > 0.5);
});

test('a text that is scored stays within its bounds, over several chunks, and is charged the same twice', t => {
  const machine = power();
  ok(machine, 'llmctl load fable-q4_0 --ctx 48');
  const text = 'Tom had a dog and the dog had a ball. '.repeat(12);
  const first = finish(machine, submit(machine, text, { kind: 1 }));
  holds(t, first, 'score');
  const second = finish(machine, submit(machine, text, { kind: 1 }));
  t.is(second.cycles, first.cycles);
  t.is(FINISH[first.finish], 'length');
});

test('the context may end a request before its last token: the bound ends with it', t => {
  const machine = power();
  ok(machine, 'llmctl load fable-q4_0 --ctx 24');
  const report = finish(machine, submit(machine, 'Once upon a time', { temp: 0, topK: 1 }));
  t.is(FINISH[report.finish], 'context');
  holds(t, report, 'context');
});

test('cancelled before its first token a session may cost less than its request; after it, no', t => {
  const machine = power();
  const queued = submit(machine, 'Once upon a time', { maxTokens: 3 });
  const other = submit(machine, 'The cat', { maxTokens: 3 });
  machine.kernel.sessions.cancel(other);
  t.is((machine.kernel.sessions.report(other) as Report).cycles, 0);
  machine.kernel.sessions.run();
  machine.kernel.sessions.cancel(queued);
  const report = finish(machine, queued);
  t.is(FINISH[report.finish], 'cancel');
  if (report.outputTokens > 0) holds(t, report, 'cancelled');
});

test('tokens and text do not depend on the target; cycles do', t => {
  const outputs = TARGETS.map(({ name }) => {
    const machine = power({ target: name });
    const text = ok(machine, 'llminfer --max-tokens 8 --seed 5 Once upon a time');
    return { text, plan: clock(machine).plan };
  });
  t.is(new Set(outputs.map(o => o.text)).size, 1);
  t.is(new Set(outputs.map(o => o.plan)).size, TARGETS.length);
});

// ── Forecasts ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a forecast bounds the request that it speaks of, part by part', t => {
  const machine = power();
  const prompt = 'Once upon a time there was a little dog';
  const id = submit(machine, prompt, { maxTokens: 20 });
  const { promptTokens, wcetCycles, bcetCycles } = machine.kernel.sessions.report(id) as Report;
  finish(machine, id);
  const w = forecast(machine, { prompt: promptTokens, generate: 20, promptBytes: prompt.length });
  t.is(w.requestMax, wcetCycles);
  t.is(w.requestMin, bcetCycles);
  t.true(Math.abs(w.requestMax - w.prefillMax - 19 * w.decodeMeanMax) < 19, 'the mean is a whole number');
  t.true(w.requestMin > 0);
  t.true(w.decodeMax >= w.decodeMin && w.decodeMax <= w.contextMax && w.drawMax >= w.drawMin);
  t.true(w.requestMin <= w.fullMin && w.fullMin <= w.requestMax);
  t.true(w.tokenizeMax >= w.tokenizeMin && w.transferMax > w.transferMin && w.callsMax > w.callsMin);
  t.is(w.arenaBytes, machine.arena.usage().offset);
  t.is(w.sound, 1);
});

test('the forecast for a file is that of the same file loaded, on every target', t => {
  const machine = power();
  for (const target of ['', ...TARGETS.map(x => x.name)]) {
    const path = '/models/fable-q4_0.gguf';
    ok(machine, 'llmctl load fable-f16');
    const options = { prompt: 30, generate: 20, ctx: 128, target };
    const unloaded = [forecast(machine, options, path), plan(machine, options, path)];
    ok(machine, 'llmctl load fable-q4_0 --ctx 128');
    t.deepEqual([forecast(machine, options), plan(machine, options)], unloaded, target);
  }
});

test('the priced plan adds up to the steps of the forecast', t => {
  const machine = power();
  for (const { prompt, generate } of [
    { prompt: 40, generate: 10 },
    { prompt: 3, generate: 2 },
  ]) {
    const w = forecast(machine, { prompt, generate });
    const rows = plan(machine, { prompt, generate });
    const decode = rows.filter(r => r['step'] === 'decode');
    t.is(sum(decode.map(r => Number(r['most']))), w.decodeMax);
    t.is(w.decodeWorstPos, prompt + generate - 2);
    for (const r of rows) {
      const milli = Number(r['compute']) + Number(r['memory']) + Number(r['overhead']);
      t.is(milli, 1000 * Number(r['most']), JSON.stringify(r));
      t.true(Number(r['least']) <= Number(r['most']));
    }
    t.deepEqual(
      [...new Set(rows.map(r => `${r['step']} ${r['segment']}`))],
      ['prefill body', 'prefill head', 'prefill sample', 'decode body', 'decode head', 'decode sample'],
    );
    t.true(rows.some(r => r['name'] === 'blk.0.attn_q.weight' && r['layer'] === '0'));
  }
});

test('forecasts refuse what cannot be', t => {
  const machine = power();
  const refused = (options: Parameters<typeof forecast>[1], path = ''): string =>
    t.throws(() => forecast(machine, options, path)).message;
  t.regex(refused({ prompt: 0 }), /a prompt has one token at least/);
  t.regex(refused({ generate: 0 }), /0 tokens to generate, 1 to 512/);
  t.regex(refused({ prompt: 510, generate: 9 }), /prompt 510 \+ generation 9 tokens > context 512/);
  t.regex(refused({ target: 'z80' }), /no target 'z80': cortex-a72, sifive-u74, cortex-m7, host/);
  t.regex(refused({}, '/models/none.gguf'), /none.gguf/);
  t.regex(refused({ ctx: 4096 }, '/models/fable-f16.gguf'), /context 4096 asked/);
  ok(machine, 'llmctl unload');
  t.regex(refused({}), /no model loaded/);
  t.is(forecast(machine, {}, '/models/fable-f16.gguf').model, 'fable');
});

// ── Targets ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('switching the target and back leaves the machine’s prices as they were', t => {
  const machine = power();
  const rows = (): string => Buffer.from(planRegion(machine)).toString('base64');
  const [first, request] = [rows(), forecast(machine, {})];
  given(switchTarget(machine, 'sifive-u74'));
  t.not(rows(), first);
  const slow = finish(machine, submit(machine, 'Once', { maxTokens: 2 }));
  holds(t, slow, 'after the switch');
  given(switchTarget(machine, 'cortex-a72'));
  t.is(rows(), first);
  t.deepEqual(forecast(machine, {}), request);
});

test('host: a calibration is an input with a digest; without one its figures say what they are', t => {
  const w = forecast(power(), { target: 'host' });
  t.is(w.sound, 0);
  t.regex(w.title, /not calibrated/);
  t.throws(() => power({ calibration: '{}' }), { message: /^calibration: / });
  t.throws(() => power({ target: 'z80' }), { message: "no target 'z80': cortex-a72, sifive-u74, cortex-m7, host" });
});

// ── Prices gone wrong ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** One op of the body a cycle dearer, or all of them for nothing. */
function spoil({ arena, kernel }: Machine, how: 'dearer' | 'cheaper'): void {
  const { bodyAt, options } = kernel.loader.engine()!;
  for (let at = bodyAt; arena.i32[at >> 2] !== 0; at += PLAN_RECORD.bytes) {
    const row = arena.u32[(at >> 2) + PLAN_RECORD.tokens]! >> 2;
    for (let n = 1; n <= options.batch; n++) {
      if (how === 'cheaper') arena.u32[row + 2 * n] = 0;
      else if (at === bodyAt) arena.u32[row + 2 * n]! += 1;
    }
  }
}

for (const how of ['dearer', 'cheaper'] as const)
  test(`a plan that is ${how} than its bounds: the session faults with an audit record, a strict machine panics`, t => {
    const lax = power({ strict: false });
    spoil(lax, how);
    t.is(FINISH[finish(lax, submit(lax, 'Once upon a time', { maxTokens: 3 })).finish], 'fault');
    t.regex(
      ok(lax, 'cat /proc/audit'),
      /op=breach .* tokens=0 wcet_cycles=\d+ .* session=1 cycles=\d+ least=\d+ name=body value=pos=0$/m,
    );
    ok(lax, 'llmctl load fable-f16');
    t.is(FINISH[finish(lax, submit(lax, 'Once', { maxTokens: 1 })).finish], 'length');

    const strict = power();
    spoil(strict, how);
    const id = submit(strict, 'Once upon a time', { maxTokens: 3 });
    t.throws(() => finish(strict, id), {
      message: /^session 1, body at position 0, 0 tokens drawn: charged \d+ cycles, bounds \d+ to \d+$/,
    });
  });

for (const [field, value] of [
  ['wcetCycles', 1],
  ['bcetCycles', 2 ** 40],
] as const)
  test(`a session outside its ${field} faults at its end, a strict machine panics`, t => {
    for (const strict of [false, true]) {
      const machine = power({ strict });
      const id = submit(machine, 'Once', { maxTokens: 2 });
      const { arena, kernel } = machine;
      const word = (kernel.lay.sessionsAt + SessionRecord.at[field]) >> 2;
      arena.u32[word] = value % 2 ** 32;
      arena.u32[word + 1] = Math.floor(value / 2 ** 32);
      if (strict)
        t.throws(() => finish(machine, id), { message: /^session 1, session at position \d+, 2 tokens drawn/ });
      else {
        t.is(FINISH[finish(machine, id).finish], 'fault');
        t.regex(
          ok(machine, 'cat /proc/audit'),
          /op=breach .* tokens=2 .* session=1 cycles=\d+ least=\d+ name=session value=pos=\d+$/m,
        );
      }
    }
  });

function planRegion({ arena }: Machine): Uint8Array {
  const region = arena.regions().find(r => r.name === 'plan')!;
  return arena.u8.slice(region.startAt, region.startAt + region.bytes);
}

function switchTarget({ kernel }: Machine, name: string): Refusal | 0 {
  return kernel.switchTarget(name) ?? 0;
}
