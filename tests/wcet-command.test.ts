// What tells time before it is spent, on a whole machine: llmctl wcet, plan --cost and target, as text, JSON, page and budget. Its figures are
// held against each other and against runs; every key is documented; every misuse is told apart from a budget that is exceeded.

import test, { type ExecutionContext } from 'ava';
import { readFileSync } from 'node:fs';
import { boot } from '../boot/index.ts';
import type { Machine } from '../boot/machine.ts';
import { humanSize } from '../shell/lib/fmt.ts';
import { duration, layerNames, sumsBy, threeDigits } from '../shell/lib/forecast.ts';
import type { Cost } from '../shell/lib/forecast.ts';
import { json, ok } from './support/commands.ts';

const image = readFileSync('build/boot.cpio');
const TARGETS = ['cortex-a72', 'sifive-u74', 'cortex-m7', 'host'];

interface SumJson {
  readonly name: string;
  readonly most_cycles: number;
  readonly least_cycles: number;
  readonly share: number;
}
interface Wcet {
  readonly model: string;
  readonly target: string;
  readonly hz: number;
  readonly sound: boolean;
  readonly batch: number;
  readonly ctx: number;
  readonly most: Readonly<Record<string, number | null>>;
  readonly least: Readonly<Record<string, number | null>>;
  readonly decode_worst_pos: number;
  readonly arena_bytes: number;
  readonly layers: Readonly<Record<'prefill' | 'decode', readonly SumJson[]>>;
  readonly ops: Readonly<Record<'prefill' | 'decode', readonly SumJson[]>>;
  readonly targets: readonly {
    readonly target: string;
    readonly current: boolean;
    readonly first_token_ms: number | null;
    readonly tokens_per_second: number;
    readonly goals: Readonly<Record<string, string>>;
  }[];
}
interface Priced {
  readonly hz: number;
  readonly steps: readonly {
    readonly step: string;
    readonly tokens: number;
    readonly pos: number;
    readonly most_cycles: number;
    readonly least_cycles: number;
    readonly segments: readonly SumJson[];
    readonly ops: readonly (SumJson & {
      readonly compute_cycles: number;
      readonly memory_cycles: number;
      readonly overhead_cycles: number;
    })[];
  }[];
}
interface Run {
  readonly prompt_tokens: readonly number[];
  readonly tokens: readonly number[];
  readonly arena_peak_bytes: number;
  readonly cycles: number;
  readonly wcet_cycles: number;
  readonly bcet_cycles: number;
  readonly ttft_ns: number;
  readonly elapsed_ns: number;
}

function withModel(model: string): Machine {
  const machine = boot({ image, strict: true });
  ok(machine, `llmctl load ${model}`);
  return machine;
}

function refused(t: ExecutionContext, machine: Machine, line: string, message: string | RegExp, status = 2): void {
  const r = machine.exec(line);
  t.is(r.status, status, line);
  t.is(r.stdout, '', line);
  if (typeof message === 'string') t.is(r.stderr, `${message}\n`, line);
  else t.regex(r.stderr, message, line);
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

const cost = (layer: number, most: number, segment = 'body'): Cost =>
  ({ step: 'decode', segment, layer, most, least: 1, memory: 500, instructions: 2, loaded: 3, stored: 4 }) as Cost;

test('durations, figures, and sums by a key', t => {
  t.deepEqual(
    [0, 812, 3250, 41_700_000, 999_499, 999_600, 1_240_000_000, 12_400e9].map(ns => duration(ns, 1e9)),
    ['0 ns', '812 ns', '3.25 µs', '41.7 ms', '999 µs', '1.00 ms', '1.24 s', '12400 s'],
  );
  t.deepEqual([0, 0.01234, 1, 9.994, 9.996, 99.94, 99.96, 8123].map(threeDigits), [
    '0',
    '0.012',
    '1.00',
    '9.99',
    '10.0',
    '99.9',
    '100',
    '8123',
  ]);
  t.is(humanSize(3_561_792), '3.4M');
  const costs = [cost(-1, 10), ...Array.from({ length: 20 }, (_, i) => cost(i, 4)), cost(-1, 10, 'head')];
  t.deepEqual(
    sumsBy(costs, 'decode', layerNames(costs, 8)).map(s => [s.key, s.most, s.share]),
    [
      ['embedding', 10, 0.1],
      ...['0-2', '3-5', '6-8', '9-11', '12-14', '15-17'].map(layers => [`layers ${layers}`, 12, 0.12]),
      ['layers 18-19', 8, 0.08],
      ['head', 10, 0.1],
    ],
  );
  t.is(layerNames(costs, Infinity)(costs[3]!), 'layer 2');
  t.deepEqual(sumsBy(costs, 'prefill', layerNames(costs, 8)), []);
});

test('a run lies between the bounds that wcet gave before, on every target and for many settings', t => {
  const prompts = ['Once upon a time', 'The old man had a dog. He went to the park with it every day and'];
  const settings = ['', '--temp 0', '--top-k 0 --top-p 1', '--repeat-penalty 1.3 --min-p 0.05', '--temp 1.4 --top-k 5'];
  for (const model of ['fable-q4_0', 'fable-f16']) {
    const machine = withModel(model);
    for (const target of TARGETS) {
      ok(machine, `llmctl target ${target}`);
      for (const [i, setting] of settings.entries()) {
        const n = [1, 2, 9][i % 3]!;
        ok(machine, `llmctl load ${model}`); // nothing of the prompt is known yet
        const run = json<Run>(machine, `llminfer --json --seed ${i + 1} -n ${n} ${setting} ${prompts[i % 2]}`);
        const before = json<Wcet>(
          machine,
          `llmctl wcet --json --prompt ${run.prompt_tokens.length} --gen ${n} ${setting}`,
        );
        const where = `${model} ${target} ${setting}`;
        t.is(before.target, target);
        t.is(before.sound, target !== 'host');
        t.is(run.wcet_cycles, before.most['request_cycles']!, where);
        t.is(run.bcet_cycles, before.least['request_cycles']!, where);
        t.true(run.bcet_cycles <= run.cycles && run.cycles <= run.wcet_cycles, where);
        if (run.tokens.length === n) t.true(before.least['every_token_cycles']! <= run.cycles, where);
        t.true(run.ttft_ns > 0 && run.ttft_ns <= run.elapsed_ns, where);
        // Alone, and with no prefix to share, a session moves the clock by what it is charged, and by nothing less.
        t.true(run.elapsed_ns >= Math.floor((run.cycles / before.hz) * 1e9), where);
        t.is(run.arena_peak_bytes, before.arena_bytes, where);
      }
    }
  }
});

test('wcet --json: bounds in order, sums that add up, goals judged by them', t => {
  const machine = withModel('fable-f16');
  const w = json<Wcet>(machine, 'llmctl wcet --json');
  t.is(w.model, '/models/fable-f16.gguf');
  t.is(w.target, 'cortex-a72');
  t.true(Object.keys(w.most).every(key => Object.hasOwn(w.least, key)));
  for (const [key, most] of Object.entries(w.most)) {
    const least = w.least[key]!;
    if (most !== null && least !== null) t.true(least <= most && Number.isSafeInteger(most), key);
  }
  const { most } = w;
  t.is(w.decode_worst_pos, 94);
  t.true(most['decode_mean_cycles']! <= most['decode_step_cycles']!);
  t.true(most['decode_step_cycles']! < most['last_step_cycles']!);
  const decoded = most['request_cycles']! - most['prefill_cycles']!;
  t.is(Math.ceil(decoded / 63), most['decode_mean_cycles']!);
  for (const by of [w.layers, w.ops])
    for (const step of ['prefill', 'decode'] as const) t.true(Math.abs(sum(by[step].map(s => s.share)) - 1) < 1e-9);
  t.is(sum(w.layers.decode.map(s => s.most_cycles)), sum(w.ops.decode.map(s => s.most_cycles)));
  t.deepEqual(
    w.layers.decode.map(s => s.name),
    ['embedding', ...Array.from({ length: 6 }, (_, i) => `layer ${i}`), 'head', 'sample'],
  );

  t.deepEqual(
    w.targets.map(s => s.target),
    TARGETS,
  );
  t.deepEqual(
    w.targets.map(s => s.current),
    [true, false, false, false],
  );
  for (const { target, tokens_per_second: rate, first_token_ms: first, goals } of w.targets) {
    const own = json<Wcet>(machine, `llmctl wcet --json --target ${target}`);
    t.is(rate, own.hz / own.most['last_step_cycles']!);
    t.is(goals['tokens_per_second'], rate >= 10 ? 'stretch' : rate >= 5 ? 'met' : 'missed');
    const cycles = own.most['first_token_cycles'] ?? null;
    t.is(first, cycles === null ? null : (cycles / own.hz) * 1000);
    t.is(goals['context'], 'met');
    t.is(goals['memory'], 'met'); // by default the pool takes most of what is free
  }
});

const RESIDENCIES = ['--stream=off', '--stream --pin 300K --tile 16K'];

test('plan --cost: op by op, and their sum is the step that wcet tells', t => {
  const machine = withModel('fable-q4_0');
  for (const [residency, target] of RESIDENCIES.flatMap(r => TARGETS.map(target => [r, target] as const))) {
    ok(machine, `llmctl load fable-q4_0 ${residency}`);
    const asked = `--prompt 5 --gen 12 --target ${target} --repeat-penalty 1.1`;
    const { steps } = json<Priced>(machine, `llmctl plan --cost --json ${asked}`);
    const w = json<Wcet>(machine, `llmctl wcet --json ${asked}`);
    const [prefill, decode] = steps;
    t.deepEqual([prefill!.step, prefill!.tokens, prefill!.pos], ['prefill', 5, 0]);
    t.deepEqual([decode!.step, decode!.tokens, decode!.pos], ['decode', 1, 15]);
    // A prompt of one batch is one step; the dearest step is the last one.
    t.is(prefill!.most_cycles, w.most['prefill_cycles']!, target);
    t.is(decode!.most_cycles, w.most['decode_step_cycles']!, target);
    for (const step of steps) {
      t.is(sum(step.ops.map(op => op.most_cycles)), step.most_cycles);
      t.is(sum(step.segments.map(s => s.most_cycles)), step.most_cycles);
      for (const op of step.ops)
        t.true(Math.abs(op.compute_cycles + op.memory_cycles + op.overhead_cycles - op.most_cycles) <= step.tokens + 1);
    }
    const text = ok(machine, `llmctl plan --cost ${asked}`);
    t.is(text.split('\n').filter(line => /^ *[0-9.]+ %/.test(line)).length, sum(steps.map(s => s.ops.length + 4)));
    t.true(text.includes(`100.0 %  ${decode!.most_cycles.toLocaleString('en')}`), text.slice(-300));
    t.is(/ TILE /.test(text), residency !== RESIDENCIES[0]);
  }
  t.is(json<Priced>(machine, 'llmctl plan --cost --json --gen 1').steps.length, 1);
  t.is(json<Priced>(machine, 'llmctl plan --cost --json fable-f16 --ctx 128').steps.length, 2);
});

test('wcet of a file is what loading it and asking again tells', t => {
  const machine = withModel('fable-q4_0');
  const asked = '--json --prompt 40 --gen 8';
  const file = json<Wcet>(machine, `llmctl wcet ${asked} --model fable-f16 --ctx 256 --kv f32`);
  const again = json<Wcet>(machine, `llmctl wcet ${asked} --ctx 256 --kv f32`);
  t.is(again.model, '/models/fable-q4_0.gguf');
  t.is(again.ctx, 256);
  ok(machine, 'llmctl load fable-f16 --ctx 256 --kv f32');
  t.deepEqual(json<Wcet>(machine, `llmctl wcet ${asked}`), file);
});

test('wcet as text: one screen for every target, what is a fit says so', t => {
  const machine = withModel('fable-q8_0');
  for (const target of TARGETS) {
    const text = ok(machine, `llmctl wcet --target ${target} --prompt 300 --gen 200`);
    const lines = text.split('\n');
    t.true(
      lines.every(line => line.length <= 80),
      text,
    );
    t.true(lines.length <= 48, String(lines.length));
    t.is(text.includes('is a fit: these figures are expected, they bound nothing'), target === 'host');
    for (const name of TARGETS) t.regex(text, new RegExp(`^[* ] ${name} .*( -| \\+\\+?) `, 'm'));
  }
});

/** Elements of a page with their nesting checked; fails where a tag is not closed. */
function elements(t: ExecutionContext, page: string): string[] {
  const open: string[] = [];
  const names: string[] = [];
  for (const [, slash, name, rest] of page.matchAll(/<(\/?)([a-z0-9]+)([^>]*)>/g)) {
    if (slash === '/') t.is(open.pop(), name);
    else {
      names.push(name!);
      if (!rest!.endsWith('/')) open.push(name!);
    }
  }
  t.deepEqual(open, []);
  return names;
}

test('wcet --html: well-formed, self-contained, with what the tables of the terminal say', t => {
  const machine = withModel('fable-f16');
  t.is(ok(machine, 'llmctl wcet --html /tmp/page.html'), '');
  const page = ok(machine, 'cat /tmp/page.html');
  t.true(page.startsWith('<!doctype html>\n'));
  const names = elements(t, page);
  for (const name of ['html', 'title', 'h1', 'table', 'caption', 'style']) t.true(names.includes(name), name);
  t.false(names.some(name => ['script', 'link', 'img', 'iframe', 'object'].includes(name)));
  t.notRegex(page, /https?:|url\(|@import|\son[a-z]+=/);
  t.regex(page, /prefers-color-scheme: dark/);
  t.is(names.filter(n => n === 'caption').length, names.filter(n => n === 'table').length);
  const w = json<Wcet>(machine, 'llmctl wcet --json');
  t.true(page.includes(`<td>${w.most['request_cycles']!.toLocaleString('en')}</td>`));
  for (const target of TARGETS) t.regex(page, new RegExp(`<th scope="row">${target}( \\(|<)`));
  const rows = page.match(/<tr>.*<\/tr>/g)!;
  const ops = sum(json<Priced>(machine, 'llmctl plan --cost --json').steps.map(s => s.ops.length));
  t.true(rows.length > ops);
});

test('wcet --check: 0 when all is met, 1 when not, 2 when there is no answer', t => {
  const machine = withModel('fable-q4_0');
  const check = (budget: string, options = ''): { status: number; stdout: string; stderr: string } => {
    ok(machine, `echo '${budget}' > /tmp/budget`);
    return machine.exec(`llmctl wcet ${options} --check /tmp/budget`);
  };
  const w = json<Wcet>(machine, 'llmctl wcet --json');
  const request = w.most['request_cycles']!;
  t.deepEqual(check(`{"request_cycles": ${request}, "ctx": 512, "arena_bytes": ${w.arena_bytes}}`).status, 0);
  t.is(check(`{"request_cycles": ${request - 1}}`).status, 1);
  t.is(check('{"ctx": 513}').status, 1);
  t.is(check('{}').status, 0);
  const { stdout } = check('{"decode_step_ms": 1e9, "tokens_per_second": 1e9}');
  t.regex(
    stdout,
    /^decode_step_ms +[0-9.]+ +at most +1,000,000,000 +ok\ntokens_per_second +[0-9.]+ +at least +1,000,000,000 +exceeded\n$/,
  );
  const asJson = JSON.parse(check(`{"request_ns": ${2 ** 60}}`, '--json').stdout);
  t.deepEqual(asJson, {
    met: true,
    check: [{ key: 'request_ns', bound: (request * 1e9) / w.hz, limit: 2 ** 60, relation: 'at most', met: true }],
  });
  for (const key of Object.keys(w.most))
    for (const unit of ['cycles', 'ns', 'ms'])
      t.true(check(`{"${key.replace(/cycles$/, unit)}": 0}`).status === 1, key);
  for (const key of ['tokens_per_second', 'tokens_per_second_typical', 'kv_bytes'])
    t.not(check(`{"${key}": 1}`).status, 2);

  const wrong: [budget: string, message: string][] = [
    ['', "2:1: '{' expected"],
    ['[]', "1:1: '{' expected"],
    ['{"ctx" 1}', "1:8: ':' expected"],
    ['{"ctx": "1"}', '1:9: a number expected'],
    ['{"ctx": 1\n, ctx: 2}', '2:3: a key in quotes expected'],
    ['{"ctx": 1 "kv_bytes": 1}', "1:11: ',' or '}' expected"],
    ['{"ctx": 1, "ctx": 2}', "1:12: 'ctx' again"],
    ['{"ctx": 1} 2', '1:12: the end expected'],
    ['{"ctx": 1,\n  "memory": 2}', "2:3: unknown key 'memory'"],
  ];
  for (const [budget, message] of wrong) {
    const { status, stdout: printed, stderr } = check(budget);
    t.deepEqual([status, printed, stderr], [2, '', `llmctl: /tmp/budget:${message}\n`]);
  }
  refused(t, machine, 'llmctl wcet --check /nowhere', 'llmctl: /nowhere: No such file or directory');
  t.deepEqual(check('{"ctx": 1}', '--target host').status, 2);
  refused(
    t,
    machine,
    'llmctl wcet --target host --check /tmp/budget',
    'llmctl: --check: host is a fit, its figures bound nothing: no limit can be held against them',
  );
});

test('every misuse has its line', t => {
  const machine = withModel('fable-q4_0');
  const wrong: [line: string, message: string | RegExp][] = [
    ['wcet --prompt 0', "llmctl: --prompt '0' is not an integer from 1 to 2048"],
    ['wcet --gen x', /^llmctl: --gen 'x' is not an integer from 1 to \d+\n$/],
    ['wcet --target nix', "llmctl: --target 'nix' is not cortex-a72, sifive-u74, cortex-m7, host"],
    ["wcet --target ''", "llmctl: --target '' is not cortex-a72, sifive-u74, cortex-m7, host"],
    ['wcet --temp -1', "llmctl: --temp '-1' is not a number from 0 to 100"],
    ['wcet --top-k 1.5', /^llmctl: --top-k '1.5' is not an integer from 0 to \d+\n$/],
    ['wcet --top-p 0', "llmctl: --top-p '0' is not a number from 0 to 1, 0 excluded"],
    ['wcet --min-p 2', "llmctl: --min-p '2' is not a number from 0 to 1"],
    ['wcet --repeat-penalty 0', "llmctl: --repeat-penalty '0' is not a number from 0 to 100, 0 excluded"],
    ['wcet --ctx 0', /^llmctl: --ctx '0' is not an integer from 1 to \d+\n$/],
    ['wcet --kv q8', "llmctl: --kv 'q8' is not f32, f16, q8_0 or q4_0"],
    ['wcet --prompt 500', /ContextLengthExceeded: prompt 500 \+ generation 64 tokens > context 512; 12 would fit\n$/],
    ['wcet --model nowhere', /^llmctl: .*\/models\/nowhere.gguf.*\n$/],
    ['wcet --model fable-q8_0 --ctx 100000', /^llmctl: .*\n$/],
    ['wcet --html /tmp/x --json', /^llmctl: wcet: --html excludes --json and --check\nTry /],
    ['wcet --html /nowhere/x', 'llmctl: /nowhere/x: No such file or directory'],
    ['wcet fable-f16', /^llmctl: wcet: extra operand 'fable-f16'\nTry /],
    ['wcet --ops', /^llmctl: wcet takes no --ops\nTry /],
    ['plan --cost --ops', /^llmctl: plan: --ops and --cost exclude each other\nTry /],
    ['plan --cost --disk sd', /^llmctl: plan takes --disk and --all only without --cost\nTry /],
    ['plan --cost --all fable-f16', /^llmctl: plan takes --disk and --all only without --cost\nTry /],
    ['plan --gen 3', /^llmctl: plan takes --gen only with --cost\nTry /],
    ['plan --cost --prompt 0', "llmctl: --prompt '0' is not an integer from 1 to 2048"],
    ['load fable-f16 --target host', /^llmctl: load takes no --target\nTry /],
    ['target a b', /^llmctl: target: extra operand 'b'\nTry /],
  ];
  for (const [line, message] of wrong) refused(t, machine, `llmctl ${line}`, message);
  refused(t, machine, 'llmctl target nix', /no target 'nix': cortex-a72, sifive-u74, cortex-m7, host\n$/, 1);
  ok(machine, 'llmctl unload');
  refused(t, machine, 'llmctl wcet', /no model loaded/);
  refused(t, machine, 'llmctl plan --cost', /no model loaded/);
  t.is(json<Wcet>(machine, 'llmctl wcet --json --model fable-f16').model, '/models/fable-f16.gguf');
});

test('target: the list with the one in force, and switching', t => {
  const machine = boot({ image, strict: true });
  const list = ok(machine, 'llmctl target').trimEnd().split('\n');
  t.deepEqual(
    list.map(line => line.slice(0, 2)),
    ['* ', '  ', '  ', '  '],
  );
  t.deepEqual(
    list.map(line => line.slice(2).split(' ')[0]),
    TARGETS,
  );
  t.regex(ok(machine, 'llmctl target cortex-m7'), /^\* cortex-m7  480 MHz  Arm Cortex-M7 .*\n$/);
  const { target, targets } = json<{ target: string; targets: { name: string; hz: number; kind: string }[] }>(
    machine,
    'llmctl target --json',
  );
  t.is(target, 'cortex-m7');
  t.deepEqual(
    targets.map(s => s.kind),
    ['model', 'model', 'model', 'fit'],
  );
  t.regex(ok(machine, 'uptime'), /cycles at 480 MHz\n$/);
});

test('sleep, uptime, date and the log follow one clock, across a switch of target', t => {
  const machine = boot({ image, strict: true });
  const seconds = (): number => {
    const [, h, m, s] = /^up (\d+):(\d\d):(\d\d\.\d{6}) /.exec(ok(machine, 'uptime'))!;
    return Number(h) * 3600 + Number(m) * 60 + Number(s);
  };
  const dated = (): number => Date.parse(ok(machine, 'date').trim());
  for (const target of TARGETS) {
    const [up, date] = [seconds(), dated()];
    ok(machine, `llmctl target ${target}`);
    const stamp = Number(/^\[ *([0-9.]+)\] target: .*\n$/m.exec(ok(machine, 'dmesg | tail -n 1'))![1]);
    t.true(up <= stamp && stamp <= seconds(), target);
    ok(machine, 'sleep 3600');
    const passed = seconds() - up;
    t.true(passed >= 3600 && passed < 3601, `${target}: ${passed}`);
    t.true(Math.abs((dated() - date) / 1000 - passed) < 2, target);
    const accounts = ok(machine, 'cat /proc/clock')
      .trim()
      .split('\n')
      .map(line => Number(line.split(' ')[1]));
    t.is(sum(accounts.slice(0, -1)), accounts.at(-1)!);
  }
});

test('the stub engine has bounds too, and no file', t => {
  const machine = boot({ image, strict: true });
  ok(machine, 'llmctl backend stub');
  const w = json<Wcet>(machine, 'llmctl wcet --json');
  t.is(w.model, 'stub:echo');
  t.is(w.most['tokenize_cycles'], 0);
  refused(t, machine, 'llmctl wcet --ctx 100', 'llmctl: the loaded engine has no file to load otherwise');
});

/** Every key of a value, at any depth. */
const keys = (value: unknown): string[] =>
  Array.isArray(value)
    ? value.flatMap(keys)
    : value !== null && typeof value === 'object'
      ? Object.entries(value).flatMap(([key, inner]) => [key, ...keys(inner)])
      : [];

test('the manual names every key, and every key that a budget may have', t => {
  const machine = withModel('fable-q4_0');
  const page = ok(machine, 'man json');
  for (const line of ['wcet --json', 'plan --cost --json', 'target --json', 'wcet --json --check /tmp/budget']) {
    ok(machine, 'echo \'{"ctx": 1}\' > /tmp/budget');
    for (const key of new Set(keys(json(machine, `llmctl ${line}`))))
      t.regex(page, new RegExp(`\\b${key}\\b`), `${line}: ${key}`);
  }
  const budgets = ok(machine, 'man wcet');
  for (const key of Object.keys(json<Wcet>(machine, 'llmctl wcet --json').most))
    t.regex(budgets, new RegExp(`\\b${key.replace(/_cycles$/, '')}\\b`), key);
});
