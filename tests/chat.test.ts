// Chat templates: what the device of the host writes for the shapes that models come with, what it refuses and how soon, and whole conversations
// through llminfer. The templates here are written in the standard shapes; expected prompts are written out by hand.

import test, { type ExecutionContext } from 'ava';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { boot } from '../boot/index.ts';
import type { Machine } from '../boot/machine.ts';
import { templateDevice } from '../boot/template.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { GGML_TYPE, LIMITS } from '../kernel/abi/index.ts';
import type { MetaInput } from './reference/gguf-writer.ts';
import { randomModel } from './reference/models.ts';
import { random } from './reference/random.ts';
import { bpeVocabulary, spmVocabulary } from './reference/vocabularies.ts';

const image = readFileSync('build/boot.cpio');

// ── The device ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const CHATML =
  "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const LLAMA2 = `{%- if messages[0]['role'] == 'system' %}
    {%- set loop_messages = messages[1:] %}
    {%- set system_message = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}
{%- else %}
    {%- set loop_messages = messages %}
    {%- set system_message = '' %}
{%- endif %}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate user/assistant') }}
    {%- endif %}
    {%- set content = system_message + message['content'] if loop.first else message['content'] %}
    {%- if message['role'] == 'user' %}
        {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + content.strip() + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}`;

const GEMMA = `{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}`;

const ZEPHYR = `{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}`;

const LLAMA3 = `{%- if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}
{%- macro header(role) %}{{ '<|start_header_id|>' ~ role ~ '<|end_header_id|>\\n\\n' }}{% endmacro %}
{{- bos_token }}
{%- set ns = namespace(turns=0) %}
{%- for message in messages %}
  {%- set ns.turns = ns.turns + 1 %}
  {{- header(message.role) }}
  {%- if message.role == 'system' %}{{ 'Today: ' ~ date_string ~ '\\n' }}{% endif %}
  {{- message.content | trim ~ '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ header('assistant') }}{% endif %}
{%- if tools %}{{ tools | tojson(indent=2) }}{{ ns.turns }}{% endif %}`;

const system = { role: 'system', content: 'Be brief.' };
const hello = { role: 'user', content: ' Hello? ' };
const hi = { role: 'assistant', content: 'Hi!' };
const bye = { role: 'user', content: 'Bye' };
const tokens = { bos_token: '<s>', eos_token: '</s>', add_generation_prompt: true };

const render = (template: string, more: Readonly<Record<string, unknown>> = {}) =>
  templateDevice.render(template, { ...tokens, messages: [hello], ...more }, 86400 * 59);

test('templates of the common shapes', t => {
  const messages = [system, hello, hi, bye];
  t.is(
    render(CHATML, { messages }),
    '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hello? <|im_end|>\n<|im_start|>assistant\nHi!<|im_end|>\n' +
      '<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n',
  );
  t.is(
    render(LLAMA2, { messages }),
    '<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hello? [/INST] Hi! </s><s>[INST] Bye [/INST]',
  );
  t.is(
    render(GEMMA, { messages: [hello, hi, bye] }),
    '<s><start_of_turn>user\nHello?<end_of_turn>\n<start_of_turn>model\nHi!<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n',
  );
  t.is(
    render(ZEPHYR, { messages: [system, hello] }),
    '<|system|>\nBe brief.</s>\n<|user|>\n Hello? </s>\n<|assistant|>\n',
  );
  t.is(
    render(LLAMA3, { messages: [system, bye], tools: [{ name: 'f', args: [1, true, null] }] }),
    '<s><|start_header_id|>system<|end_header_id|>\n\nToday: 01 Mar 1970\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>' +
      '<|start_header_id|>assistant<|end_header_id|>\n\n' +
      '[\n  {\n    "name": "f",\n    "args": [\n      1,\n      true,\n      null\n    ]\n  }\n]2',
  );
});

test('what templates are made of', t => {
  const cases: readonly [string, string][] = [
    ['{% for i in range(3) %}{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}', '0, 1, 2'],
    [
      '{% for i in range(5, 0, -2) %}{{ i }}{% else %}none{% endfor %}{% for x in [] %}{% else %}none{% endfor %}',
      '531none',
    ],
    ["{{ 'a' if messages | length > 1 else 'b' }}{{ messages[0].content.strip().split('l') | join('L') }}", 'bHeLLo?'],
    ["{{ 'abcabc'.replace('b', 'xx') }} {{ 'x' | replace('x', 'y') }} {{ 'a\nb' | indent(2) }}", 'axxcaxxc y a\n  b'],
    ['{% filter upper %}loud{% endfilter %}{% set x %}in{{ 1 }}{% endset %}{{ x }}', 'LOUDin1'],
    ['{% macro m() %}{{ kwargs.a }}{{ varargs[0] }}{% endmacro %}{{ m(1, a=2) }}', '21'],
    [
      '{{ [3, 1, 2] | sort | first }}{{ {"a": 1} | tojson }}{{ messages | map(attribute="role") | list }}',
      '1{"a": 1}["user"]',
    ],
    ['{% call f() %}x{% endcall %}'.replace('{%', '{% macro f() %}[{{ caller() }}]{% endmacro %}{%'), '[x]'],
    ["{%- generation -%} a {%- endgeneration %}{# }} {% #}{{ '}}' }}{{ '%}' }}", 'a}}%}'],
    ['{{ [] | first }}{{ nothing }}{{ nothing is defined }}', 'false'],
  ];
  for (const [template, text] of cases) t.is(render(template), text, template);
});

test('faults: one line each, with the line of the template', t => {
  const cases: readonly [string, number, RegExp][] = [
    ["\n\n{{ raise_exception('no ' + messages[0].role + '\nhere') }}", 3, /^the template refuses: no user here$/],
    ['a\n{% if x %}\nb', 2, /^the template ends inside a block$/],
    ['a\n{{ x }}\n{{ x y }}\n{{ z }}', 3, /^Expected closing expression token/],
    [
      '{% for x in messages %}\n{% if x %}\n{{ "a" | nonsense }}\n{% endif %}\n{% endfor %}',
      3,
      /^Unknown StringValue filter: nonsense$/,
    ],
    ['{{ "}}" }}\n{# {{ #}\n{% if true %}{% elif 1 %}{% else %}{% endif %}\n{{ nothing + 1 }}', 4, /undefined values$/],
    ['{{ a }}\n\n{{ ` }}\n', 3, /^Unexpected character: `$/],
    ['{{ a }}\n{{ "open', 2, /^Unexpected end of input$/],
    [
      '{% if 0 %}\n{% else %}\n{% for x in [1] %}\n{{ x }}\n{{ x.y.z }}\n{{ 1 + none }}{% endfor %}{% endif %}',
      6,
      /null/,
    ],
    ['{% unknown %}', 1, /^Unknown statement type: unknown$/],
    ['\n{{ range }}', 2, /^a function is used as a text$/],
    ["{{ 'x' ~ range }}", 1, /^a function is used as a text$/],
    ['{{ [range] }}', 1, /^a list or mapping holds data only$/],
    ['{{ 2 ** 0.5 }}', 1, /^\*\* is not computed$/],
    ['{{ strftime_now }}', 1, /function/],
  ];
  for (const [template, line, message] of cases) {
    const fault = render(template);
    if (typeof fault === 'string') {
      t.fail(`${template}: ${fault}`);
      continue;
    }
    t.is(fault.line, line, `${template}: ${fault.message}`);
    t.regex(fault.message, message, template);
  }
});

test('a hostile template ends soon, stays small, and says why', t => {
  const deep = (open: string, middle: string, close: string, n: number): string =>
    open.repeat(n) + middle + close.repeat(n);
  const hostile: readonly [string, RegExp][] = [
    ['{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}', /steps/],
    ['{% for a in range(10 * 1000 * 1000 * 1000) %}{% endfor %}', /^range\(\) of 10000000000/],
    [
      "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
      /a text of more than/,
    ],
    ['{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}', /parts/],
    [
      '{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}',
      /parts|deep/,
    ],
    [
      '{% set ns = namespace(x=[1]) %}{% for i in range(600) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}',
      /nested more than 32/,
    ],
    ['{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}', /a namespace inside/],
    ['{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}', /data only/],
    ['{% set ns = namespace() %}{% set ms = namespace(n=ns) %}{{ ms }}', /data only/],
    ["{% set x = 'a' | indent(60000) %}{{ ('\n' ~ x) | indent(1000000000, true) }}", /too long/],
    [`{% set x = '${'a'.repeat(60000)}' %}{{ x.replace('a', x) }}`, /^replace makes/],
    [`{% set x = '${'a'.repeat(60000)}' %}{{ x | replace('', x) }}`, /^replace makes/],
    [`{% set x = '${'a'.repeat(60000)}' %}{% set r = x.replace %}{{ r('a', x) }}`, /^replace makes/],
    [`{% set x = '${'a'.repeat(60000)}' %}{{ range(9999) | list | join(x) }}`, /too long/],
    ['{{ [1] | tojson(indent=1000000000) }}', /too long/],
    ["{{ {'b': 1} | tojson(sort_keys=true) }}", /sort_keys/],
    [`{% set x = '${'a'.repeat(60000)}' %}{% for i in range(9999) %}{{ x }}{% endfor %}`, /writes more than/],
    [
      `{% set x = '${'a'.repeat(60000)}' %}{% for i in range(9999) %}{{ x.split('aaaa') | length }}{% endfor %}`,
      /steps/,
    ],
    [
      `{% set x = '${'a'.repeat(60000)}' %}{% for i in range(9999) %}{% if 'b' not in x and (x ~ 'b') not in x %}{% endif %}{% endfor %}`,
      /steps/,
    ],
    ['{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', /calls deep/],
    [`{{ ${deep('(', '1', ')', 20000)} }}`, /nested more than 100/],
    [`{{ ${deep('[', '1', ']', 101)} }}`, /nested more than 100/],
    [`{{ ${'not '.repeat(20000)} 1 }}`, /nested more than 100/],
    [`{{ ${'1 if 1 else '.repeat(9000)} 1 }}`, /nested more than 100/],
    [deep('{% if 1 %}', '', '{% endif %}', 5000), /nested more than 100/],
    [`{% if 0 %}${'{% elif 0 %}'.repeat(5000)}{% endif %}`, /nested more than 100/],
    [`{{ 'a' ${"~ 'a'".repeat(15000)} }}`, /a tag of more than/],
    [`{{ 'a' ${"~ 'a'".repeat(900)} }}`, /calls deep/],
    [`${' '.repeat(120000)}{{ 1 }}`, /blanks in a row/],
    [`{% for i in range(9999) %}{% macro m() %}${'{{ x }}'.repeat(9000)}{% endmacro %}{% endfor %}`, /steps/],
    ['{{ (namespace | string) }}', /function|filter/],
  ];
  for (const [template, message] of hostile) {
    const before = process.memoryUsage().heapUsed;
    const start = performance.now();
    const fault = render(template);
    const name = template.slice(0, 120);
    if (typeof fault === 'string') t.fail(`${name}: ${fault.length} characters`);
    else t.regex(fault.message, message, name);
    t.true(performance.now() - start < 5000, `${name}: ${performance.now() - start} ms`); // a watchdog: about 0.3 s at most
    t.true(process.memoryUsage().heapUsed - before < 200e6, name);
  }
  const nested = JSON.parse(deep('[', '1', ']', 5000)) as unknown;
  t.regex(
    String((render('{{ messages }}', { messages: nested }) as { message: string }).message),
    /nested more than 32/,
  );
});

// ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A small random model with a conversation's special tokens; `more`: its templates. */
function chatModel(
  vocabulary: 'spm' | 'bpe',
  special: readonly string[],
  more: Readonly<Record<string, MetaInput>>,
): Uint8Array {
  const next = random(11);
  const meta = vocabulary === 'spm' ? spmVocabulary(300, next) : bpeVocabulary(300, next);
  const strings = (meta['tokenizer.ggml.tokens'] as { strings: string[] }).strings;
  const types = (meta['tokenizer.ggml.token_type'] as { i32s: number[] }).i32s;
  const scores = meta['tokenizer.ggml.scores'] as { f32s: number[] } | undefined;
  const { file } = randomModel(
    {
      architecture: 'llama',
      layers: 1,
      heads: 2,
      headsKv: 1,
      headSize: 16,
      embedding: 32,
      feedForward: 64,
      vocabulary: strings.length + special.length,
      context: 400,
      epsilon: 1e-5,
      ropeDimensions: 16,
      ropeBase: 10000,
      learnedPositions: false,
      tied: false,
      biases: false,
      fusedQkv: false,
      vectorType: GGML_TYPE.F32,
      types: () => GGML_TYPE.F32,
    },
    next,
    {
      ...meta,
      'tokenizer.ggml.tokens': { strings: [...strings, ...special] },
      'tokenizer.ggml.token_type': { i32s: [...types, ...special.map(() => 3)] },
      ...(scores === undefined ? {} : { 'tokenizer.ggml.scores': { f32s: [...scores.f32s, ...special.map(() => 0)] } }),
      ...more,
    },
  );
  return file;
}

const chatml = chatModel('bpe', ['<|im_start|>', '<|im_end|>'], {
  'tokenizer.chat_template': { string: CHATML },
  'tokenizer.chat_template.shout': { string: '{{ messages[-1].content | upper }}' },
  'tokenizer.ggml.eot_token_id': { u32: 301 },
});
const IM_START = 300;
const IM_END = 301;
const llama2 = chatModel('spm', [], { 'tokenizer.chat_template': { string: LLAMA2 } });

function machineWith(
  t: ExecutionContext,
  files: Readonly<Record<string, string | Uint8Array>>,
  console?: Tty,
): Machine {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-chat-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  for (const [name, data] of Object.entries(files)) writeFileSync(path.join(directory, name), data);
  return boot({ strict: true, image, mounts: { '/host': directory }, ...(console === undefined ? {} : { console }) });
}

interface Turn {
  readonly prompt: string;
  readonly prompt_tokens: readonly number[];
  readonly tokens: readonly number[];
  readonly text: string;
  readonly finish_reason: string;
}
function ask(machine: Machine, options: string): Turn {
  const { status, stdout, stderr } = machine.exec(`llminfer --chat --json --max-tokens 8 ${options}`);
  if (status !== 0 || stderr !== '') throw new Error(`${options}: ${stderr}`);
  return JSON.parse(stdout) as Turn;
}

const PROMPT = '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nte ta<|im_end|>\n<|im_start|>assistant\n';

test('llminfer --chat: what the template writes becomes ids, special tokens too', t => {
  const machine = machineWith(t, {
    'chatml.gguf': chatml,
    prompt: PROMPT,
    'turns.json': JSON.stringify([hello, hi, bye]),
    'object.json': JSON.stringify({ messages: [hello], add_generation_prompt: false, extra: 'x' }),
    'own.jinja': '{{ messages | length }}{{ extra }}{{ bos_token }}',
  });
  t.is(machine.exec('llmctl load /host/chatml.gguf').status, 0);
  const turn = ask(machine, '--system "Be brief." "te ta"');
  t.is(turn.prompt, PROMPT);
  t.is(turn.prompt_tokens.filter(id => id === IM_START).length, 3);
  t.is(turn.prompt_tokens.filter(id => id === IM_END).length, 2);
  t.is(turn.prompt_tokens[0], IM_START);
  const from = ask(machine, '--messages /host/turns.json');
  t.is(from.prompt.split('<|im_start|>').length, 5);
  t.is(ask(machine, '--messages /host/turns.json more').prompt.split('<|im_start|>').length, 6);
  t.is(ask(machine, '--template shout loud').prompt, 'LOUD');
  t.is(ask(machine, '--template-file /host/own.jinja --messages /host/object.json').prompt, '1x<|endoftext|>');
  t.is(machine.exec('echo " te " | llminfer --chat --json --max-tokens 1 --template shout -').status, 0);
  t.is(machine.exec('llminfer --chat --max-tokens 4 te').stdout.endsWith('\n'), true);

  // The same bytes without the template, special tokens parsed, are the same request.
  const plain = JSON.parse(machine.exec('llminfer --json --special --max-tokens 8 --file /host/prompt').stdout) as Turn;
  t.deepEqual(plain.prompt_tokens, turn.prompt_tokens);
  t.deepEqual(plain.tokens, turn.tokens);
  t.false('prompt' in plain);
});

test('BOS is not doubled; an end-of-turn token ends the turn', t => {
  const machine = machineWith(t, { 'llama2.gguf': llama2, 'chatml.gguf': chatml });
  t.is(machine.exec('llmctl load /host/llama2.gguf').status, 0);
  const turn = ask(machine, '--system Short. hi');
  t.is(turn.prompt, '[INST] <<SYS>>\nShort.\n<</SYS>>\n\nhi [/INST]');
  t.deepEqual(
    turn.prompt_tokens.flatMap((id, i) => (id === 1 ? [i] : [])),
    [0],
  );
  t.is(machine.exec('llmctl load /host/chatml.gguf').status, 0);
  let ended: Turn | undefined;
  for (let seed = 1; seed < 60 && ended === undefined; seed++) {
    const answer = ask(machine, `--seed ${seed} --temp 2 --top-k 0 --top-p 1 --max-tokens 64 te`);
    if (answer.finish_reason === 'eos' && answer.tokens.at(-1) === IM_END) ended = answer;
  }
  t.truthy(ended);
  t.notRegex(ended?.text ?? '', /im_end/);
});

test('what llminfer --chat refuses', t => {
  const machine = machineWith(t, {
    'chatml.gguf': chatml,
    'bad.jinja': 'a\n{{ b',
    'long.jinja': 'x'.repeat(LIMITS.chatTemplateBytes + 1),
    'much.jinja': "{{ 'x' * 3 }}",
    'role.json': '[{"content": "x"}]',
    'text.json': 'hello',
    'long.txt': 'long '.repeat(20000),
  });
  const refused = (options: string, status: number, message: string | RegExp): void => {
    const r = machine.exec(`llminfer ${options}`);
    t.is(r.status, status, options);
    t.is(r.stdout, '', options);
    if (typeof message === 'string') t.is(r.stderr, `llminfer: ${message}\n`, options);
    else t.regex(r.stderr, message, options);
    t.notRegex(r.stderr, /Error:|\bat \w+|undefined/, options);
  };
  refused('--chat hi', 1, 'EINVAL 6002 MetadataMissing: /models/fable-f16.gguf: no tokenizer.chat_template');
  machine.exec('llmctl load /host/chatml.gguf');
  refused(
    '--chat --template loud hi',
    1,
    'EINVAL 6002 MetadataMissing: /host/chatml.gguf: no tokenizer.chat_template.loud; it has templates named shout',
  );
  refused(
    '--chat --template-file /host/bad.jinja hi',
    1,
    'EINVAL 7001 InvalidConfig: /host/bad.jinja, line 2: Unexpected end of input',
  );
  refused(
    '--chat --template-file /host/much.jinja hi',
    1,
    /^llminfer: EINVAL 7001 InvalidConfig: \/host\/much.jinja, line 1: Unknown operator/,
  );
  refused(
    '--chat --template-file /host/long.jinja hi',
    1,
    /^llminfer: E2BIG 2002 PromptTooLong: \/host\/long.jinja is more than 131072 bytes long\n$/,
  );
  refused('--chat --template-file /host/none hi', 1, 'No such file or directory'.replace(/^/, '/host/none: '));
  refused(
    '--chat --messages /host/role.json hi',
    1,
    'EINVAL 7001 InvalidConfig: the conversation has no role in message 1',
  );
  refused(
    '--chat --messages /host/text.json hi',
    1,
    '/host/text.json: not a JSON list of messages, nor an object with one',
  );
  refused('--chat --file /host/long.txt', 1, /File too large/);
  refused('--chat', 2, /^llminfer: missing PROMPT/);
  refused('--system x hi', 2, /^llminfer: --system needs --chat\n/);
  refused('--chat --template a --template-file b hi', 2, /exclude each other/);
  machine.exec('llmctl backend stub');
  refused('--chat hi', 1, 'EINVAL 6002 MetadataMissing: the stub engine has no file');
  machine.exec('llmctl unload');
  refused('--chat hi', 1, 'ENODEV 2001 NoModelLoaded: no model loaded: llmctl load FILE');
});

test('a conversation at the terminal: every answer is part of the next prompt', t => {
  const chunks: Uint8Array[] = [];
  const console = new Tty({ interactive: true, output: bytes => void chunks.push(bytes.slice()) });
  const machine = machineWith(t, { 'chatml.gguf': chatml }, console);
  machine.exec('llmctl load /host/chatml.gguf');
  const pid = machine.start(['llminfer', '--chat', '--json', '--max-tokens', '4', '--system', 'S']);
  const settle = (): void => {
    for (let i = 0; i < 500 && machine.run(64) !== 'idle'; i++);
  };
  const type = (text: string): void => {
    console.feed(Buffer.from(text));
    settle();
  };
  settle();
  type('one\r');
  type('\r'); // an empty line is no turn
  type('half\x03'); // nor is one that was given up
  type('two\r');
  t.is(machine.statusOf(pid), undefined);
  type('\x04');
  t.is(machine.statusOf(pid), 0);
  const shown = Buffer.concat(chunks).toString();
  const turns = [...shown.matchAll(/^\{.*\}\r?$/gm)].map(m => JSON.parse(m[0]) as Turn);
  t.is(turns.length, 2, shown);
  const [first, second] = turns as [Turn, Turn];
  t.is(first.prompt, '<|im_start|>system\nS<|im_end|>\n<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n');
  t.is(
    second.prompt,
    `${first.prompt}${first.text}<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n`,
  );
});
