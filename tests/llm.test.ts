// The model commands on a whole machine: what llminfer, llmctl and llmstats print, as text and as JSON, what they refuse and with which
// words. Figures are checked against an independent computation where there is one.

import test, { type ExecutionContext } from 'ava';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { boot } from '../boot/index.ts';
import type { Machine } from '../boot/machine.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { GGML_TYPE, KV_PAGE, LIMITS, logitsSum, PAGE_RECORD_BYTES } from '../kernel/abi/index.ts';
import { exp } from '../shell/lib/exp.ts';
import { grouped, parseDecimal, parseInteger } from '../shell/lib/model.ts';
import { consume, lanesOf } from './reference/xxh32.ts';
import { json, ok, refused } from './support/commands.ts';
import { ggufFile } from './support/gguf.ts';

const SHARED = '../shared';
const image = readFileSync('build/boot.cpio');

interface Inference {
  readonly id: number;
  readonly model: string;
  readonly prompt_tokens: readonly number[];
  readonly tokens: readonly number[];
  readonly text: string;
  readonly text_b64: string;
  readonly finish_reason: string;
  readonly arena_peak_bytes: number;
  readonly kv_bytes: number;
  readonly ctx: number;
  readonly kv_type: string;
  readonly seed: number;
  readonly steps?: readonly { readonly token: number; readonly top: readonly (readonly [number, number])[] }[];
}

/** A directory of the host, mounted at /host, for files that the commands are to read. */
function withFiles(
  t: ExecutionContext,
  files: Readonly<Record<string, string | Uint8Array>>,
  mounts: Record<string, string> = {},
): Machine {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-llm-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  for (const [name, data] of Object.entries(files)) writeFileSync(path.join(directory, name), data);
  return boot({ strict: true, image, mounts: { '/host': directory, ...mounts } });
}

/** A machine without the model that boot loads. */
function bare(machine = boot({ strict: true, image })): Machine {
  ok(machine, 'llmctl unload');
  return machine;
}

function withModel(model = 'fable-q4_0', options = ''): Machine {
  const machine = boot({ strict: true, image });
  ok(machine, `llmctl load ${model} ${options}`);
  return machine;
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

// ── The library beneath ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test('exp: within 1e-15 of the host, at the ends too', t => {
  let worst = 0;
  for (let x = -745; x <= 709.5; x += 0.0137) {
    const expected = Math.exp(x);
    if (expected > 1e-300) worst = Math.max(worst, Math.abs(exp(x) - expected) / expected);
  }
  t.true(worst < 1e-15, String(worst));
  t.is(exp(0), 1);
  t.is(exp(-800), 0);
  t.is(exp(710), Infinity);
  t.is(exp(-745), Math.exp(-745));
});

test('numbers and thousands', t => {
  t.deepEqual(['1', '-3', '+4', '1.0', '', 'x', '1e3', '99999999999999999'].map(parseInteger), [
    1,
    -3,
    4,
    null,
    null,
    null,
    null,
    null,
  ]);
  t.deepEqual(['.5', '1.', '-2e3', '0x10', 'Infinity', 'nan', '', '1e999'].map(parseDecimal), [
    0.5,
    1,
    -2000,
    null,
    null,
    null,
    null,
    null,
  ]);
  t.deepEqual([0, 999, 1000, 8388608].map(grouped), ['0', '999', '1,000', '8,388,608']);
});

// ── llminfer ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('llminfer: nothing loaded, nothing there, wrong command lines', t => {
  const machine = bare();
  refused(t, machine, 'llminfer hello', 1, 'llminfer: ENODEV 2001 NoModelLoaded: no model loaded: llmctl load FILE');
  refused(
    t,
    machine,
    'llminfer --model nothing hello',
    1,
    /^llminfer: ENOENT 1001 ModelNotFound: \/models\/nothing.gguf: No such file or directory\n$/,
  );
  refused(t, machine, 'llminfer --model /etc/hostname hello', 1, /^llminfer: .*\/etc\/hostname: .+\n$/);
  refused(t, machine, 'llminfer', 2, /^llminfer: missing PROMPT .*\n/);
  refused(t, machine, 'llminfer --file /etc/hostname hello', 2, /^llminfer: --file and PROMPT exclude each other\n/);
  refused(t, machine, 'llminfer --no-such x', 2, /unrecognized option '--no-such'/);
  const wrong: readonly (readonly [string, string])[] = [
    ['--max-tokens 0', "--max-tokens '0' is not an integer from 1 to 512"],
    ['--max-tokens 513', "--max-tokens '513' is not an integer from 1 to 512"],
    ['--max-tokens ten', "--max-tokens 'ten' is not an integer from 1 to 512"],
    ['--temp -0.1', "--temp '-0.1' is not a number from 0 to 100"],
    ['--temp hot', "--temp 'hot' is not a number from 0 to 100"],
    ['--top-k -1', "--top-k '-1' is not an integer from 0 to 1048576"],
    ['--top-p 0', "--top-p '0' is not a number from 0 to 1, 0 excluded"],
    ['--top-p 1.01', "--top-p '1.01' is not a number from 0 to 1, 0 excluded"],
    ['--min-p 2', "--min-p '2' is not a number from 0 to 1"],
    ['--repeat-penalty 0', "--repeat-penalty '0' is not a number from 0 to 100, 0 excluded"],
    ['--seed 1.5', "--seed '1.5' is not an integer from -2147483648 to 2147483647"],
    ['--json --logits 65', "--logits '65' is not an integer from 0 to 64"],
    ['--logits 3', '--logits 3 needs --json'],
    ['--rng dice', "--rng 'dice' is not xor128 or lcg"],
    ["--stop ''", "--stop '' is 0 bytes, 1 to 64 are allowed"],
    [`--stop ${'x'.repeat(65)}`, `--stop '${'x'.repeat(65)}' is 65 bytes, 1 to 64 are allowed`],
    ['--stop a '.repeat(9), '--stop given 9 times, 8 at most'],
  ];
  for (const [options, message] of wrong) refused(t, machine, `llminfer ${options} hello`, 2, `llminfer: ${message}`);
});

test('llminfer --json: keys, defaults, and the same text streamed', t => {
  const machine = withModel();
  const r = json<Inference>(machine, 'llminfer --json Once upon a time');
  t.is(
    Object.keys(r).join(' '),
    'id model prompt_tokens tokens text text_b64 finish_reason arena_peak_bytes kv_bytes ctx kv_type seed ' +
      'cycles wcet_cycles bcet_cycles logits_sum ttft_ns elapsed_ns uid user parent shared_tokens priority server period_ns ' +
      'budget_cycles deadline_ns response_bound_ns slack_ns deadline_misses preemptions swap_ins kv_pages wait_ns',
  );
  t.is(r.model, '/models/fable-q4_0.gguf');
  t.deepEqual(r.prompt_tokens, [0, 578, 503, 259, 437]);
  t.is(r.tokens.length, 64);
  t.is(r.finish_reason, 'length');
  t.is(r.seed, 0);
  t.is(r.ctx, 512);
  t.is(r.kv_type, 'f16');
  // Whole pages of 32 positions for all but the token drawn last: layers × K and V × width × f16 each.
  t.is(r.kv_bytes, Math.ceil((r.prompt_tokens.length + r.tokens.length - 1) / 32) * 32 * 6 * 2 * 64 * 2);
  t.is(Buffer.from(r.text_b64, 'base64').toString(), r.text);
  const used = json<{ arena_used_bytes: number }>(machine, 'llmctl status --json').arena_used_bytes;
  t.true(r.arena_peak_bytes >= used && r.arena_peak_bytes <= LIMITS.arenaBytes);

  t.is(ok(machine, 'llminfer Once upon a time'), `${r.text}\n`);
  const explicit =
    '--temp 0.8 --top-k 40 --top-p 0.95 --min-p 0 --repeat-penalty 1 --max-tokens 64 --seed 0 --rng xor128';
  t.deepEqual(json<Inference>(machine, `llminfer --json ${explicit} "Once upon a time"`).tokens, r.tokens);
  const again = json<Inference>(boot({ strict: true, image }), 'llminfer --json --model fable-q4_0 Once upon a time');
  t.is(again.id, 1);
  t.deepEqual(again.tokens, r.tokens);
});

test('llminfer: seeds, generators and sampling options each change the draw, and repeat it', t => {
  const machine = withModel();
  const variants = ['--seed 5', '--seed 1', '--seed -1', '--seed 2147483647', '--seed 5 --rng lcg', '--temp 0'];
  variants.push('--seed 5 --top-k 2', '--seed 5 --repeat-penalty 1.5', '--seed 5 --min-p 0.3', '--seed 5 --temp 1.5');
  const texts = variants.map(v => {
    const r = json<Inference>(machine, `llminfer --json --max-tokens 60 ${v} The cat`);
    t.deepEqual(json<Inference>(machine, `llminfer --json --max-tokens 60 ${v} The cat`).tokens, r.tokens, v);
    return r.text;
  });
  t.is(new Set(texts).size, variants.length);
  t.is(json<Inference>(machine, 'llminfer --json --seed -7 --max-tokens 1 a').seed, -7);
  // seedrandom's xor128 makes of seed 0 the state whose every draw is 0: the likeliest token each time.
  t.deepEqual(
    json<Inference>(machine, 'llminfer --json --max-tokens 24 --seed 0 The cat').tokens,
    json<Inference>(machine, 'llminfer --json --max-tokens 24 --temp 0 The cat').tokens,
  );
  // top-k 1, a tiny top-p and a min-p of 1 each leave the most likely token only.
  const greedy = json<Inference>(machine, 'llminfer --json --max-tokens 24 --temp 0 The cat').tokens;
  for (const v of ['--top-k 1', '--top-p 1e-9', '--min-p 1'])
    t.deepEqual(json<Inference>(machine, `llminfer --json --max-tokens 24 --seed 5 ${v} The cat`).tokens, greedy, v);
});

test('llminfer --logits: unrounded f32 values, independent of sampling, best first', t => {
  const machine = withModel('fable-q8_0');
  const r = json<Inference>(machine, 'llminfer --json --temp 0 --logits 64 --max-tokens 12 The old man');
  t.is(r.steps?.length, r.tokens.length);
  for (const [i, step] of r.steps!.entries()) {
    t.is(r.tokens[i], step.token);
    t.is(step.top.length, 64);
    t.is(step.top[0]?.[0], step.token);
    for (const [k, [id, logit]] of step.top.entries()) {
      t.is(Math.fround(logit), logit);
      if (k === 0) continue;
      const [lastId, last] = step.top[k - 1]!;
      t.true(logit < last || (logit === last && id > lastId));
    }
  }
  const other = json<Inference>(
    machine,
    'llminfer --json --temp 2 --repeat-penalty 1.7 --top-k 5 --logits 64 --max-tokens 1 The old man',
  );
  t.deepEqual(other.steps![0]!.top, r.steps![0]!.top);
  t.is(json<Inference>(machine, 'llminfer --json --logits 0 --max-tokens 1 a').steps, undefined);
});

test('llminfer: the prompt from words, a file, a pipe and standard input is the same prompt', t => {
  const machine = withFiles(t, { 'prompt.txt': 'Tom  had a dog', 'newline.txt': 'Tom\n', 'empty.txt': '' });
  ok(machine, 'llmctl load fable-q4_0');
  const tokens = (line: string): readonly number[] => json<Inference>(machine, line).prompt_tokens;
  const expected = tokens("llminfer --json --max-tokens 1 'Tom  had a dog'");
  t.deepEqual(tokens('llminfer --json --max-tokens 1 --file /host/prompt.txt'), expected);
  t.deepEqual(tokens('cat /host/prompt.txt | llminfer --json --max-tokens 1 -'), expected);
  t.deepEqual(tokens('llminfer --json --max-tokens 1 - < /host/prompt.txt'), expected);
  t.deepEqual(
    tokens('llminfer --json --max-tokens 1 --file /proc/version'),
    tokens('cat /proc/version | llminfer --json --max-tokens 1 -'),
  );
  t.notDeepEqual(
    tokens('llminfer --json --max-tokens 1 --file /host/newline.txt'),
    tokens('llminfer --json --max-tokens 1 Tom'),
  );
  t.deepEqual(
    tokens('llminfer --json --max-tokens 1 -- --json a'),
    tokens("llminfer --json --max-tokens 1 -- '--json a'"),
  );
  refused(t, machine, 'llminfer --file /host/none.txt', 1, 'llminfer: /host/none.txt: No such file or directory');
  refused(t, machine, 'llminfer --file /host', 1, /^llminfer: \/host: Is a directory\n$/);
});

test('llminfer --stop: the text ends before it, whichever of eight comes first', t => {
  const machine = withModel('fable-f16');
  const free = json<Inference>(machine, 'llminfer --json --temp 0 Once upon a time');
  t.true(free.text.includes('. '));
  const r = json<Inference>(machine, "llminfer --json --temp 0 --stop '. ' --stop qqq Once upon a time");
  t.is(r.finish_reason, 'stop');
  t.is(r.text, free.text.slice(0, free.text.indexOf('. ')));
  t.is(ok(machine, "llminfer --temp 0 --stop '. ' Once upon a time"), `${r.text}\n`);
  t.deepEqual(r.tokens, free.tokens.slice(0, r.tokens.length));
  const long = Array.from({ length: 8 }, (_, i) => `--stop ${String(i).repeat(64)}`).join(' ');
  t.is(json<Inference>(machine, `llminfer --json --temp 0 ${long} Once upon a time`).text, free.text);
});

test('llminfer: the context ends a generation, and what cannot fit is refused', t => {
  const machine = withModel('fable-q4_0', '--ctx 24');
  const r = json<Inference>(machine, 'llminfer --json --temp 0 Once upon a time');
  t.is(r.finish_reason, 'context');
  t.is(r.prompt_tokens.length + r.tokens.length, 24);
  refused(
    t,
    machine,
    'llminfer --max-tokens 20 Once upon a time',
    1,
    'llminfer: EOVERFLOW 2003 ContextLengthExceeded: prompt 5 + generation 20 tokens > context 24; 19 would fit',
  );
  t.is(json<Inference>(machine, 'llminfer --json --temp 0 --max-tokens 19 Once upon a time').finish_reason, 'length');
});

test('llminfer: an end token ends the text and is listed', t => {
  const machine = withModel('fable-q8_0');
  let ended: Inference | undefined;
  for (let seed = 0; seed < 12 && ended === undefined; seed++) {
    const r = json<Inference>(
      machine,
      `llminfer --json --max-tokens 400 --seed ${seed} "They all lived happily ever after."`,
    );
    if (r.finish_reason === 'eos') ended = r;
  }
  t.is(ended?.tokens.at(-1), 0, 'no seed reached an end token');
  t.false(ended?.text.includes('<|endoftext|>'));
});

test('llminfer: logits that are not numbers fault the session, and only that', t => {
  const model = readFileSync('images/models/fable-q4_0.gguf');
  const machine = withFiles(t, {});
  ok(machine, 'mkdir /mnt/m && mount -t gguf /models/fable-q4_0.gguf /mnt/m');
  const at = Number(ok(machine, 'cat /mnt/m/tensors/output_norm.weight/offset'));
  for (let i = 0; i < 128; i++) model.writeFloatLE(3e38, at + i * 4); // finite, as a file must be; its products are not
  const broken = withFiles(t, { 'broken.gguf': model });
  const r = broken.exec('llminfer --json --model /host/broken.gguf Once upon a time');
  t.is(r.status, 1);
  t.is((JSON.parse(r.stdout) as Inference).finish_reason, 'fault');
  t.is(r.stderr, 'llminfer: EIO 5002 BackendError: session 1 faulted\n');
  t.is(
    broken.exec('llmctl perplexity /etc/motd').stderr,
    'llmctl: EIO 5002 BackendError: /etc/motd: session 2 faulted\n',
  );
  t.is(json<{ faulted: number }>(broken, 'llmstats --json').faulted, 2);
  t.is(
    json<Inference>(broken, 'llminfer --json --model fable-q4_0 --max-tokens 3 Once upon a time').finish_reason,
    'length',
  );
});

test('Ctrl-C ends an inference at the next token: what is there stays, status 130', t => {
  const chunks: Uint8Array[] = [];
  const console = new Tty({ interactive: true, output: bytes => void chunks.push(bytes.slice()) });
  const machine = boot({ strict: true, image, console });
  const text = (): string => Buffer.concat(chunks).toString();
  const pid = machine.start([
    'llminfer',
    '--model',
    'fable-q4_0',
    '--max-tokens',
    '400',
    '--temp',
    '0.9',
    'Once upon a time',
  ]);
  t.true(pid > 0);
  while (text().length < 150 && machine.statusOf(pid) === undefined) machine.run(1);
  t.is(machine.statusOf(pid), undefined);
  t.regex(text(), /^llminfer: loaded .* from \/models\/fable-q4_0.gguf, context 512 f16\r?\n/);
  const before = text().length;
  machine.interrupt();
  machine.run(1000);
  t.is(machine.statusOf(pid), 130);
  t.true(text().endsWith('\n'));
  const [more = '', summary] = text().slice(before).split('llminfer: ');
  t.true(more.length < 40);
  t.regex(
    summary!,
    /^session 1: \d+ tokens in \d\.\d\d s of virtual time: [\d,]+ cycles, bounds [\d,]+ and [\d,]+\r\n\[LLM\]\[DEADLINE\] ok .*\r\n$/,
  );
  t.is(json<{ cancelled: number }>(machine, 'llmstats --json').cancelled, 1);

  // The same for a measurement, which tells a person how far it is.
  const second = machine.start(['llmctl', 'perplexity', '/usr/share/man/json.md']);
  while (!text().includes('\r ') && machine.statusOf(second) === undefined) machine.run(1);
  t.regex(text(), /\r [0-9,]+ tokens, perplexity [0-9.]+ $/);
  machine.interrupt();
  machine.run(1000);
  t.is(machine.statusOf(second), 130);
});

// ── llmctl ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface PlanJson {
  readonly file: string;
  readonly fits: boolean;
  readonly ctx: number;
  readonly kv_type: string;
  readonly batch: number;
  readonly sessions: number;
  readonly pages: number;
  readonly page_bytes: number;
  readonly slot_bytes: number;
  readonly regions: Readonly<Record<string, number>>;
  readonly total_bytes: number;
  readonly capacity_bytes: number;
  readonly kv_bytes_per_token: number;
  readonly parameters: number;
  readonly over_bytes?: number;
  readonly would_fit?: { readonly ctx: number | null; readonly type: string | null };
  readonly message?: string;
}

test('llmctl plan says what load takes, to the byte', t => {
  const machine = boot({ strict: true, image });
  for (const [model, options] of [
    ['fable-f16', ''],
    ['fable-q8_0', '--ctx 100 --kv f32'],
    ['/models/fable-q4_0.gguf', '--kv f16 --ctx 512'],
    ['fable-q4_0', '--batch 32 --sessions 3 --pages 40'],
    ['fable-q8_0', '--pages 2 --batch 1'],
  ] as const) {
    const plan = json<PlanJson>(machine, `llmctl plan --json ${options} ${model}`);
    t.deepEqual(Object.keys(plan.regions), [
      'fixed',
      'weights',
      'adapters',
      'stream',
      'tensors',
      'vocabulary',
      'kv',
      'scratch',
      'plan',
      'session',
    ]);
    t.true(plan.fits);
    t.is(plan.would_fit, undefined);
    t.is(sum(Object.values(plan.regions)), plan.total_bytes);
    t.is(plan.capacity_bytes, LIMITS.arenaBytes);
    t.is(plan.page_bytes, KV_PAGE * plan.kv_bytes_per_token);
    t.is(plan.regions['kv'], plan.pages * (plan.page_bytes + PAGE_RECORD_BYTES));
    t.is(plan.regions['session'], plan.sessions * plan.slot_bytes);
    t.is(plan.parameters, 1_312_384);
    const loaded = json<Record<string, unknown>>(machine, `llmctl load --json ${options} ${model}`);
    t.is(loaded['total_bytes'], plan.total_bytes);
    t.is(json<{ arena_used_bytes: number }>(machine, 'llmctl status --json').arena_used_bytes, plan.total_bytes);
    t.is(loaded['path'], plan.file);
    t.deepEqual(json<PlanJson>(machine, 'llmctl plan --json').regions, plan.regions);
  }
  const text = ok(machine, 'llmctl plan fable-f16');
  t.regex(text, /^\/models\/fable-f16.gguf\nfixed +[0-9,]+ +[0-9.]+ %  the machine itself\nweights /);
  t.regex(
    text,
    /\n\[#+W+.*\.*\]\nfits: [0-9,]+ bytes to spare at context 512\nat once: \d+ sessions of 512 tokens, or 32 of \d+; .* at most \d+\n$/,
  );
  t.is(/\n\[(.*)\]\n/.exec(text)?.[1]?.length, 64);
});

test('llmctl load: rows, sessions and pages as asked, or the number that would do', t => {
  const machine = boot({ strict: true, image });
  const planned = (options: string): PlanJson => json<PlanJson>(machine, `llmctl plan --json ${options} fable-q4_0`);
  t.like(planned('--batch 32 --sessions 1 --pages 16'), { ctx: 512, batch: 32, sessions: 1, pages: 16 });
  t.like(planned('--pages 2'), { ctx: 64, pages: 2, sessions: 32 }, 'a context that the pages hold');
  // By default the pool takes three quarters of what would be free without it, to the page.
  const p = planned('--ctx 512');
  const page = p.page_bytes + PAGE_RECORD_BYTES;
  const free = p.capacity_bytes - p.total_bytes + p.pages * page;
  t.is(p.pages, Math.floor((0.75 * free) / page));
  t.is(planned('--sessions 2 --ctx 100').pages, 8, 'and no more than the sessions can use');

  const tooMany = machine.exec('llmctl plan --json --stream=off --pages 1000 fable-q4_0');
  t.is(tooMany.status, 1);
  const refusal = JSON.parse(tooMany.stdout) as PlanJson;
  const most = Number(/would fit: pages (\d+)$/.exec(refusal.message ?? '')?.[1]);
  t.true(planned(`--pages ${most}`).fits);
  t.is(machine.exec(`llmctl plan --stream=off --pages ${most + 1} fable-q4_0`).status, 1);
  for (const [options, message] of [
    ['--batch 33', /^llmctl: --batch '33' is not an integer from 1 to 32\n$/],
    ['--sessions 0', /^llmctl: --sessions '0' is not an integer from 1 to 32\n$/],
    ['--pages x', /^llmctl: --pages 'x' is not an integer from 1 to \d+\n$/],
    ['--pages 15 --ctx 481', /EINVAL 2003 .*pages 15 asked, one context of 481 takes 16, of 32 positions each\n$/],
  ] as const) {
    const { status, stderr } = machine.exec(`llmctl load ${options} fable-q4_0`);
    t.not(status, 0);
    t.regex(stderr, message);
  }
});

test("llmctl: the specification's reference configuration, resident, is refused with its sum, and nothing is allocated; it streams", t => {
  const width = 384;
  const feedForward = 1536;
  const layers = 6;
  const names = Array.from({ length: 32_000 }, (_, i) =>
    i < 3 ? ['<unk>', '<s>', '</s>'][i]! : i < 259 ? byteName(i - 3) : `\u2581w${i}`,
  );
  let offset = 0;
  const tensor = (
    name: string,
    type: number,
    ...shape: number[]
  ): { name: string; type: number; shape: number[]; offset: number } => {
    const at = offset;
    const values = shape.reduce((a, b) => a * b, 1);
    offset += Math.ceil((type === GGML_TYPE.F32 ? values * 4 : (values / 32) * 18) / 32) * 32;
    return { name, type, shape, offset: at };
  };
  const { F32, Q4_0 } = GGML_TYPE;
  const tensors = [
    tensor('token_embd.weight', Q4_0, width, names.length),
    tensor('output_norm.weight', F32, width),
    ...Array.from({ length: layers }, (_, i) => [
      tensor(`blk.${i}.attn_norm.weight`, F32, width),
      tensor(`blk.${i}.ffn_norm.weight`, F32, width),
      ...['q', 'k', 'v', 'output'].map(part => tensor(`blk.${i}.attn_${part}.weight`, Q4_0, width, width)),
      tensor(`blk.${i}.ffn_gate.weight`, Q4_0, width, feedForward),
      tensor(`blk.${i}.ffn_up.weight`, Q4_0, width, feedForward),
      tensor(`blk.${i}.ffn_down.weight`, Q4_0, feedForward, width),
    ]).flat(),
  ];
  const head = ggufFile({
    keys: [
      ['general.architecture', ['string', 'llama']],
      ['general.name', ['string', 'reference']],
      ['llama.block_count', ['u32', layers]],
      ['llama.context_length', ['u32', 512]],
      ['llama.embedding_length', ['u32', width]],
      ['llama.feed_forward_length', ['u32', feedForward]],
      ['llama.attention.head_count', ['u32', 6]],
      ['llama.attention.layer_norm_rms_epsilon', ['f32', 1e-5]],
      ['tokenizer.ggml.model', ['string', 'llama']],
      ['tokenizer.ggml.tokens', ['array', 'string', names]],
      ['tokenizer.ggml.scores', ['array', 'f32', names.map((_, i) => -i)]],
      ['tokenizer.ggml.token_type', ['array', 'i32', names.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1))]],
      ['tokenizer.ggml.bos_token_id', ['u32', 1]],
      ['tokenizer.ggml.eos_token_id', ['u32', 2]],
    ],
    tensors,
  });
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-llm-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const file = path.join(directory, 'reference.gguf');
  writeFileSync(file, head);
  truncateSync(file, head.length + offset); // the weights are a hole in the file

  const machine = boot({ strict: true, image, mounts: { '/host': { path: directory, readOnly: true } } });
  ok(machine, 'llmctl load fable-q4_0');
  const before = ok(machine, 'cat /proc/arena');
  const planned = machine.exec('llmctl plan --stream=off --json /host/reference.gguf');
  t.is(planned.status, 1);
  t.is(planned.stderr, '');
  const plan = JSON.parse(planned.stdout) as PlanJson;
  t.false(plan.fits);
  t.is(sum(Object.values(plan.regions)), plan.total_bytes);
  t.is(plan.over_bytes, plan.total_bytes - LIMITS.arenaBytes);
  t.true(plan.over_bytes! > 0);
  t.deepEqual(plan.would_fit, { ctx: null, type: null });
  t.true(plan.message!.startsWith(`need=${plan.total_bytes} have=8388608 over=${plan.over_bytes} `));
  refused(
    t,
    machine,
    'llmctl load --stream=off /host/reference.gguf',
    1,
    `llmctl: ENOMEM 1003 ModelTooLarge: /host/reference.gguf: ${plan.message}`,
  );
  const streamed = json<PlanJson & { tile_bytes: number }>(machine, 'llmctl plan --json /host/reference.gguf');
  t.true(streamed.fits && streamed.tile_bytes > 0);
  const shown = machine.exec('llmctl plan --stream=off /host/reference.gguf');
  t.is(shown.status, 1);
  t.regex(shown.stdout, /\n\[.{64}\].*\ndoes not fit: need=/);
  t.is(ok(machine, 'cat /proc/arena'), before);
  t.is(json<{ model: string }>(machine, 'llmctl status --json').model, '/models/fable-q4_0.gguf');
});

const byteName = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

test('llmctl load, info, status, unload, models, backend', t => {
  const machine = bare();
  t.like(json<object>(machine, 'llmctl status --json'), {
    engine: 'none',
    model: null,
    ctx: null,
    kv_type: null,
    sessions_active: 0,
    sessions_queued: 0,
    capacity_bytes: LIMITS.arenaBytes,
  });
  refused(t, machine, 'llmctl info', 1, 'llmctl: ENODEV 2001 NoModelLoaded: no model loaded: llmctl load FILE');
  refused(t, machine, 'llmctl unload', 1, /^llmctl: ENODEV 2001 NoModelLoaded: no model loaded/);
  refused(
    t,
    machine,
    'llmctl load none',
    1,
    'llmctl: ENOENT 1001 ModelNotFound: /models/none.gguf: No such file or directory',
  );
  refused(t, machine, 'llmctl load --ctx 0 fable-f16', 2, "llmctl: --ctx '0' is not an integer from 1 to 131072");
  refused(t, machine, 'llmctl load --kv q8 fable-f16', 2, "llmctl: --kv 'q8' is not f32, f16, q8_0 or q4_0");
  refused(
    t,
    machine,
    'llmctl load --ctx 513 fable-f16',
    1,
    /^llmctl: EINVAL 2003 .*context 513 asked, the model was made for 512\n$/,
  );
  refused(t, machine, 'llmctl', 2, /^llmctl: missing command\n/);
  refused(t, machine, 'llmctl fly', 2, /^llmctl: unknown command 'fly'\n/);
  refused(t, machine, 'llmctl status --ops', 2, /^llmctl: status takes no --ops\n/);
  refused(t, machine, 'llmctl load', 2, /^llmctl: load: missing operand/);
  refused(t, machine, 'llmctl info x', 2, /^llmctl: info: extra operand 'x'/);

  const lines = ok(machine, 'cd /models; llmctl load fable-f16.gguf; cd').split('\n');
  t.is(lines.length, 3);
  t.regex(lines[0]!, /^loaded fable.*: llama, 1,312,384 parameters, .*F16/);
  t.regex(
    lines[1]!,
    /^context 512 f16, 32 sessions, [0-9]+ pages; fixed [0-9,]+ \+ weights [0-9,]+ \+ .* = [0-9,]+ of 8,388,608 bytes$/,
  );
  const info = json<Record<string, unknown>>(machine, 'llmctl info --json');
  t.like(info, {
    path: '/models/fable-f16.gguf',
    engine: 'transformer',
    architecture: 'llama',
    parameters: 1_312_384,
    layers: 6,
    embedding: 128,
    heads: 4,
    heads_kv: 2,
    feed_forward: 384,
    vocabulary: 1024,
    context_trained: 512,
    ctx: 512,
    kv_type: 'f16',
    bos: 0,
    eos: 0,
    add_bos: true,
    file_bytes: 2_658_976,
    digest: '1f178a93dfcfefccf5ac0e5e7fd0ed369ca81d6e25f4e30763307e5e3d73dc06',
  });
  t.is(ok(machine, 'llmctl info').split('\n').length, Object.keys(info).length + 1);
  t.regex(
    ok(machine, 'llmctl status'),
    /^engine    transformer\nmodel     .*\ncontext   512 tokens, f16\nsessions  0 active, 0 queued\narena     /,
  );
  const { models } = json<{ models: { name: string; fits: boolean }[] }>(machine, 'llmctl models --json');
  t.deepEqual(
    models.map(m => [m.name, m.fits]),
    [
      ['fable-f16', true],
      ['fable-q4_0', true],
      ['fable-q8_0', true],
    ],
  );
  t.is(ok(machine, 'llmctl list'), 'Registry: []\n');

  t.is(ok(machine, 'llmctl backend'), 'transformer /models/fable-f16.gguf\n');
  t.deepEqual(json(machine, 'llmctl backend --json stub'), { engine: 'stub', model: 'stub:echo' });
  t.is(ok(machine, 'llminfer --temp 0 hello there'), '[STUB] hello there ...\n');
  ok(machine, 'llmctl backend stub:word');
  t.is(ok(machine, 'llminfer --temp 0 Hello, World'), '⟨hello?⟩ ⟨world⟩\n');
  const stub = json<Inference>(machine, 'llminfer --json --temp 0 hi');
  t.is(stub.model, 'stub:word');
  t.is(stub.finish_reason, 'eos');
  refused(t, machine, 'llmctl plan', 1, 'llmctl: the loaded engine has no file to plan');
  refused(t, machine, 'llmctl backend abacus', 1, /^llmctl: EINVAL 7001 InvalidConfig: no engine 'abacus'/);
  t.is(ok(machine, 'llmctl backend transformer'), 'transformer /models/fable-f16.gguf\n');

  const ops = json<{ ops: { segment: string; op: string }[] }>(machine, 'llmctl plan --ops --json').ops;
  t.true(ops.length > 50);
  t.true(ops.every(o => o.segment !== '' && o.op !== ''));
  t.is(ok(machine, 'llmctl plan --ops').split('\n').length, ops.length + 1);
  t.is(ok(machine, 'llmctl unload'), '');
  t.is(json<{ engine: string }>(machine, 'llmctl status --json').engine, 'none');
});

test('llmctl tokenize and detokenize: exact ids, exact bytes', t => {
  const every = Uint8Array.from({ length: 256 }, (_, i) => i);
  const machine = bare(withFiles(t, { 'every.bin': every, 'text.txt': 'Tom\n' }));
  refused(t, machine, 'llmctl tokenize hello', 1, /^llmctl: ENODEV 2001 NoModelLoaded: /);
  const once = [578, 503, 259, 437];
  t.deepEqual(json(machine, 'llmctl tokenize --json --vocab fable-f16 Once upon a time'), { tokens: once });
  ok(machine, 'llmctl load fable-f16');
  t.deepEqual(json(machine, 'llmctl tokenize --json Once upon a time'), { tokens: once });
  t.deepEqual(json(machine, 'llmctl tokenize --json --bos "Once upon a time"'), { tokens: [0, ...once] });
  t.deepEqual(json(machine, "llmctl tokenize --json ''"), { tokens: [] });
  t.is(ok(machine, 'llmctl tokenize Once upon a time'), `${once.join(' ')}\n`);
  t.is(ok(machine, 'llmctl tokenize -v Once upon a time').split('\n')[1], '    503  " upon"');
  t.deepEqual(json(machine, "llmctl tokenize --json --special '<|endoftext|>'"), { tokens: [0] });
  const plain = json<{ tokens: number[] }>(machine, "llmctl tokenize --json '<|endoftext|>'").tokens;
  t.true(plain.length > 1 && !plain.includes(0));
  t.deepEqual(
    json(machine, 'llmctl tokenize --json --file /host/text.txt'),
    json(machine, 'llmctl tokenize --json - < /host/text.txt'),
  );

  const { tokens } = json<{ tokens: number[] }>(machine, 'llmctl tokenize --json --file /host/every.bin');
  const back = json<{ text: string; text_b64: string }>(machine, `llmctl detokenize --json ${tokens.join(' ')}`);
  t.deepEqual(new Uint8Array(Buffer.from(back.text_b64, 'base64')), every);
  t.deepEqual(
    new Uint8Array(machine.exec('llmctl tokenize --file /host/every.bin | llmctl detokenize -').stdoutBytes),
    every,
  );
  t.is(ok(machine, `llmctl detokenize ${once.join(' ')}`), 'Once upon a time');
  t.is(ok(machine, 'llmctl detokenize 0'), '');
  t.is(ok(machine, 'llmctl detokenize --special 0'), '<|endoftext|>');
  refused(t, machine, 'llmctl detokenize 1024', 1, 'llmctl: EINVAL 4002 InvalidTokenId: token 1024 is not in 0…1023');
  refused(t, machine, 'llmctl detokenize one', 2, "llmctl: 'one' is not a token id");
  refused(t, machine, 'llmctl tokenize -v --vocab fable-f16 a', 2, /^llmctl: tokenize: --pieces shows/);
});

interface Perplexity {
  readonly tokens: number;
  readonly nll: number;
  readonly perplexity: number;
  readonly logits_sum: string;
}

test('llmctl perplexity: every chunk is scored but for its first token', t => {
  const story = 'Once upon a time, there was a little girl named Lily. She loved to play outside.';
  const machine = bare(withFiles(t, { 'story.txt': story, 'one.txt': 'a', 'empty.txt': '' }));
  refused(t, machine, 'llmctl perplexity /host/story.txt', 1, /^llmctl: ENODEV 2001 NoModelLoaded: /);
  ok(machine, 'llmctl load fable-f16');
  const { tokens } = json<{ tokens: number[] }>(machine, 'llmctl tokenize --json --file /host/story.txt');
  const whole = json<Perplexity>(machine, 'llmctl perplexity --json /host/story.txt');
  t.deepEqual(Object.keys(whole), ['tokens', 'nll', 'perplexity', 'logits_sum']);
  t.is(whole.tokens, tokens.length - 1);
  t.true(Math.abs(whole.perplexity - Math.exp(whole.nll)) < 1e-12 * whole.perplexity);
  t.true(whole.perplexity > 1.5 && whole.perplexity < 20, String(whole.perplexity));
  t.deepEqual(json(machine, 'llmctl perplexity --json - < /host/story.txt'), whole);
  t.is(
    ok(machine, 'llmctl perplexity /host/story.txt'),
    `perplexity ${whole.perplexity.toFixed(4)} over ${whole.tokens} tokens (${whole.nll.toFixed(4)} nats a token)\n`,
  );
  ok(machine, 'llmctl load --ctx 9 fable-f16'); // chunks of eight
  t.is(
    json<Perplexity>(machine, 'llmctl perplexity --json /host/story.txt').tokens,
    tokens.length - Math.ceil(tokens.length / 8),
  );
  refused(t, machine, 'llmctl perplexity /host/one.txt', 1, 'llmctl: /host/one.txt: a single token: nothing to score');
  refused(t, machine, 'llmctl perplexity /host/empty.txt', 1, /^llmctl: .*empty/);
  refused(t, machine, 'llmctl perplexity /host/none.txt', 1, 'llmctl: /host/none.txt: No such file or directory');
});

const vector = `${SHARED}/vectors/logits/stories260K-f32.kvf32`;
const testVector = existsSync(`${vector}.json`) ? test : test.skip;

testVector('a vocabulary that puts a space before a text takes it away again', t => {
  const machine = boot({ strict: true, image, mounts: { '/shared': `${SHARED}/models` } });
  ok(machine, 'llmctl load /shared/stories260K-f32.gguf');
  for (const words of ['Hello  world', ' Hello', '  ', 'wörld', '<s>'])
    t.is(ok(machine, `llmctl tokenize '${words}' | llmctl detokenize -`), words);
});

testVector("llmctl perplexity equals the loss in llama.cpp's logits", t => {
  const { n_vocab, runs } = JSON.parse(readFileSync(`${vector}.json`, 'utf8')) as {
    n_vocab: number;
    runs: { prompt: string; tokens: number[]; greedy: number[]; text: string }[];
  };
  const { prompt, tokens, greedy, text } = runs[0]!;
  const raw = readFileSync(`${vector}.run0.logits.f32`);
  const logits = new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length));
  const ids = [...tokens, ...greedy];
  const machine = withFiles(
    t,
    { 'story.txt': Buffer.from(prompt + text, 'latin1') },
    { '/shared': `${SHARED}/models` },
  );
  ok(machine, 'llmctl load --kv f32 /shared/stories260K-f32.gguf');
  t.deepEqual(json(machine, 'llmctl tokenize --json --bos --file /host/story.txt'), { tokens: ids });
  let loss = 0;
  for (let i = 2; i < ids.length; i++) {
    const row = logits.subarray((i - 1) * n_vocab, i * n_vocab); // row i − 1 predicts token i
    const max = Math.max(...row);
    loss += Math.log(row.reduce((total, x) => total + Math.exp(x - max), 0)) + max - row[ids[i]!]!;
  }
  const r = json<Perplexity>(machine, 'llmctl perplexity --json /host/story.txt');
  t.is(r.tokens, ids.length - 2);
  t.true(Math.abs(r.nll - loss / r.tokens) < 1e-5, `${r.nll} ${loss / r.tokens}`);
  // Its checksum is that of llama.cpp's rows, to the bit: all but the first, whose token is the text's first, and the last.
  const scored = logits.slice(n_vocab, (ids.length - 1) * n_vocab);
  const [logits0, logits1, logits2, logits3] = consume(lanesOf(0), new Uint8Array(scored.buffer));
  t.is(r.logits_sum, Buffer.from(logitsSum({ logits0, logits1, logits2, logits3 })).toString('hex'));
});

// ── llmstats and the manual ──────────────────────────────────────────────────────────────────────────────────────────────────────

test("llmstats: the specification's line, a table, JSON", t => {
  const machine = withModel();
  const keys = (
    'sessions_total sessions_active queue_depth queue_depth_max prompt_tokens output_tokens cancelled ' +
    'faulted deadline_misses rejects last_latency_ns last_first_token_ns cycles_total'
  ).split(' ');
  const zero = json<Record<string, number | string>>(machine, 'llmstats --json');
  t.deepEqual(Object.keys(zero).slice(0, keys.length), keys);
  t.true(keys.every(key => Number(zero[key]) === 0));
  ok(machine, 'llminfer --max-tokens 7 Once upon a time');
  t.is(machine.exec('llminfer --max-tokens 512 Once upon a time').status, 1);
  const after = json<Record<string, number | string>>(machine, 'llmstats --json');
  t.like(after, { sessions_total: 1, sessions_active: 0, prompt_tokens: 5, output_tokens: 7, rejects: 1 });
  t.true(Number(after['last_latency_ns']) > Number(after['last_first_token_ns']));
  t.regex(after['cycles_total'] as string, /^[1-9][0-9]+$/);
  const lines = ok(machine, 'llmstats').split('\n');
  t.regex(lines[0]!, /^\[LLM\] queue_depth_max=[01] total_tokens=7 deadline_misses=0 last_latency_us=[0-9]+$/);
  t.true(lines.length <= 24, 'a screenful');
  refused(t, machine, 'llmstats x', 2, /^llmstats: extra operand 'x'/);
});

test('the manual lists every key that --json prints', t => {
  const machine = withModel();
  const page = ok(machine, 'man json');
  t.true(page.split('\n').every(line => line.length <= 80));
  const commands = [
    'llminfer --json --logits 1 --max-tokens 1 a',
    'llmctl plan --json',
    'llmctl load --json fable-q4_0',
    'llmctl status --json',
    'llmctl info --json',
    'llmctl backend --json',
    'llmctl tokenize --json a',
    'llmctl detokenize --json 5',
    'llmctl models --json',
    'llmctl wcet --json',
    'llmctl plan --cost --json',
    'llmctl target --json',
    'llmctl sched --json',
    'llmctl pace --json',
    'llmctl budget --json',
    'llmctl quota --json user',
    'llmstats --json',
    'llmctl submit --json a',
    'llmctl poll --json',
    'llmctl sessions --json',
    'llmctl summary --json',
    'llmctl profile --json',
    'llmctl plan --mix 1+1 --json',
    'llmctl cancel --json',
  ];
  for (const command of commands)
    for (const key of Object.keys(json<object>(machine, command)))
      t.regex(page, new RegExp(`\\b${key}\\b`), `${command}: ${key}`);
  for (const name of ['llminfer', 'llmstream', 'llmctl', 'llmpoll', 'llmcancel', 'llmsummary', 'llmstats']) {
    t.regex(ok(machine, `man ${name}`), new RegExp(`^NAME\\n    ${name} - `));
    t.regex(ok(machine, `${name} --help`), new RegExp(`^Usage: ${name} `));
  }
});

// ── Labs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A lab's commands with the output shown under each: `...` in a line stands for any text, alone for any lines. */
function labCommands(text: string): { command: string; shown: string[] }[] {
  const found: { command: string; shown: string[] }[] = [];
  let open = false;
  for (const line of text.split('\n')) {
    if (line.startsWith('    $ ')) {
      found.push({ command: line.slice(6), shown: [] });
      open = true;
    } else if (open && line.startsWith('    ')) found.at(-1)!.shown.push(line.slice(4));
    else open = false;
  }
  return found;
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

function outputPattern(shown: readonly string[]): RegExp {
  const lines = shown.map(line => (line === '...' ? '(.*\\n)*' : `${line.split('...').map(escaped).join('.*')}\\n`));
  return new RegExp(`^${lines.join('')}$`);
}

for (const lab of [
  'inference',
  'sampling',
  'budget',
  'tokenizer',
  'chat',
  'backend',
  'wcet',
  'quantize',
  'finetune',
  'prelink',
  'quotas',
  'separation',
  'trace',
  'pages',
  'disks',
  'kv',
  'sessions',
  'deadlines',
  'scheduler',
  'streaming',
  'trust',
  'audit',
  'replay',
  'stepping',
  'sharing',
  'adapters',
  'page',
])
  test(`lab ${lab}: what it tells to type gives what it tells to see`, t => {
    const text = readFileSync(`images/root/usr/share/labs/${lab}.md`, 'utf8');
    const commands = labCommands(text);
    t.true(commands.length >= 5);
    const machine = boot({ strict: true, image });
    t.is(ok(machine, `cat /usr/share/labs/${lab}.md`), text);
    for (const { command, shown } of commands) t.regex(ok(machine, command), outputPattern(shown), command);
  });
