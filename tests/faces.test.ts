// The user's face of sessions: what llminfer, llmstream, llmctl and its short names, llmstats, top and the library say of requests that run side
// by side. Figures are held against each other wherever two of them tell of the same thing.

import test from 'ava';
import { readFileSync } from 'node:fs';
import { boot } from '../boot/index.ts';
import type { Machine } from '../boot/machine.ts';
import { KV_PAGE, SESSION_COLUMNS } from '../kernel/abi/index.ts';
import { parseMix, pagesEach } from '../shell/lib/mix.ts';
import { parseCycles } from '../shell/lib/model.ts';
import { json, ok, refused } from './support/commands.ts';
import { Seat } from './support/seat.ts';

const image = readFileSync('build/boot.cpio');
const powerOn = (): Machine => boot({ strict: true, image });

/** A machine with the small model: its steps are cheap on the host. */
function withModel(options = ''): Machine {
  const machine = powerOn();
  ok(machine, `llmctl load fable-q4_0 ${options}`);
  return machine;
}

/** Runs the machine until no session is live. */
function settle(machine: Machine): void {
  for (let i = 0; i < 1000; i++) {
    if (json(machine, 'llmstats --json')['sessions_active'] === 0) return;
    ok(machine, 'sleep 1');
  }
  throw new Error('sessions do not end');
}

// ── llminfer ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('promises on the command line: what is not one is refused before anything runs', t => {
  const machine = withModel();
  const infinite = 'a number of milliseconds, more than 0 and at most 86400000';
  const cases: readonly (readonly [string, string])[] = [
    ['--soft', '--soft needs --period or --deadline'],
    ['--budget 5ms', '--budget needs --period or --deadline'],
    ['--period 0', `--period '0' is not ${infinite}`],
    ['--period -1', `--period '-1' is not ${infinite}`],
    ['--deadline x', `--deadline 'x' is not ${infinite}`],
    ['--period 5 --budget 1.5', "--budget '1.5' is not a number of cycles, nor of milliseconds as in 2.5ms"],
    ['--period 5 --budget 0', "--budget '0' is not a number of cycles, nor of milliseconds as in 2.5ms"],
    ['--prio 32', "--prio '32' is not an integer from 0 to 31"],
    ['--timeout 0', "--timeout '0' is not an integer from 1 to 86400000"],
    ['--continue 0', "--continue '0' is not an integer from 1 to 4294967295"],
    ['--detach --json', '--detach and --json exclude each other: llminfer --attach ID --json'],
  ];
  for (const [options, message] of cases)
    for (const command of ['llminfer', 'llmstream', 'llmctl submit'])
      if (command === 'llminfer' || !options.startsWith('--detach'))
        refused(t, machine, `${command} ${options} Once`, 2, `${command.split(' ')[0]}: ${message}`);
  refused(t, machine, 'llminfer --attach 1 Once', 2, /^llminfer: --attach takes no PROMPT\n/);
  refused(t, machine, 'llminfer --attach x', 2, "llminfer: 'x' is not the id of a session");
  t.is(json(machine, 'llmstats --json')['sessions_total'], 0);
  t.is(parseCycles('2.5ms', 1.5e9), 3_750_000);
  t.is(parseCycles('25000', 1.5e9), 25_000);
  t.is(parseCycles('-1', 1.5e9), null);
});

test('a deadline is promised and kept, or refused with the time that can be', t => {
  const machine = withModel();
  const kept = json(machine, 'llminfer --json --deadline 2000 -n 8 Once upon a time');
  t.is(kept['finish_reason'], 'length');
  t.is(kept['deadline_ns'], 2e9);
  t.is(kept['server'], 'hard');
  t.true((kept['period_ns'] as number) <= 2e9);
  t.true((kept['elapsed_ns'] as number) <= (kept['response_bound_ns'] as number));
  t.true((kept['response_bound_ns'] as number) <= 2e9);
  t.true((kept['slack_ns'] as number) > 0);
  t.is(kept['deadline_misses'], 0);
  t.true((kept['cycles'] as number) <= (kept['budget_cycles'] as number));
  refused(
    t,
    machine,
    'llminfer --deadline 10 -n 64 Once',
    1,
    /^llminfer: E[A-Z]+ 3002 TooManyConcurrent: .*[0-9].*\n$/,
  );
  // What a refusal offers is taken, and a nanosecond less is not: on a machine that does nothing else the sum is exact.
  const [, offer] = /shortest deadline that would do is ([\d.]+) ms/.exec(
    machine.exec('llminfer --deadline 100 -n 30 Once').stderr,
  )!;
  const less = (Number(offer) - 1e-6).toFixed(6);
  refused(t, machine, `llminfer --deadline ${less} -n 30 Once`, 1, /shortest deadline/);
  t.is(json(machine, `llminfer --json --deadline ${offer} -n 30 Once`)['deadline_misses'], 0);

  const served = json(machine, 'llminfer --json --period 300 -n 6 Once');
  t.is(served['period_ns'], 3e8);
  t.true((served['elapsed_ns'] as number) <= (served['response_bound_ns'] as number));
  t.is(served['deadline_ns'], null);
  const alone = json(machine, 'llminfer --json -n 6 Once');
  t.deepEqual(alone['tokens'], served['tokens']);
  t.is(alone['server'], null);
  t.is(alone['response_bound_ns'], null);
  t.is(alone['slack_ns'], null);
  t.is(alone['user'], 'root');
  t.is(alone['kv_pages'], 1);
});

test('at a terminal the deadline and what was left of it stand behind the output', async t => {
  const seat = new Seat(100, 12);
  await seat.type(
    'llmctl load fable-q4_0 > /dev/null; clear; llminfer --deadline 1000 --temp 0 -n 4 Once upon a time\r',
  );
  seat.settle(3000);
  await seat.drawn();
  const screen = seat.screen().join('\n');
  t.regex(
    screen,
    /^llminfer: session \d+: 4 tokens in [\d.]+ s of virtual time: [\d,]+ cycles, bounds [\d,]+ and [\d,]+$/m,
  );
  const [, actual, slack] =
    /^\[LLM\]\[DEADLINE\] ok actual=(\d+)ns expected=1000000000ns slack=(\d+)ns$/m.exec(screen) ?? [];
  t.is(Number(actual) + Number(slack), 1e9);
});

test('a session that ends before its time says why, with what there is', t => {
  const machine = withModel();
  const r = machine.exec('llminfer --timeout 30 --temp 0 -n 400 Once');
  t.is(r.status, 1);
  t.true(r.stdout.length > 1);
  t.regex(r.stderr, /^llminfer: ETIMEDOUT 2004 InferenceTimeout: session 1 gave up after \d+ ms of virtual time\n$/);
  ok(machine, 'llmctl sched --policy fp');
  refused(t, machine, 'llminfer --deadline 5000 -n 2 Once', 1, /^llminfer: EAGAIN 3002 .*policy fp promises nothing/);
  ok(machine, 'llmctl quota user --tokens 20');
  refused(
    t,
    machine,
    "su user -c 'llminfer -n 30 Once'",
    1,
    /^llminfer: EDQUOT 3003 .*asked 30 tokens, 20 left until /,
  );
  ok(machine, "su user -c 'llmctl submit -n 4 Once'");
  t.regex(ok(machine, "su user -c 'llmctl profile'"), /^session [0-9]+, [A-Z]+, µs:\n/, 'their own they may look into');
});

test('what a server promises is waited for, longer than the usual time', t => {
  const machine = withModel();
  const r = json(machine, 'llminfer --json --period 2000 --temp 0 -n 30 Once');
  t.like(r, { finish_reason: 'length', deadline_misses: 0 });
  t.true(Number(r['elapsed_ns']) > 30e9 && Number(r['elapsed_ns']) <= Number(r['response_bound_ns']));
  const cut = machine.exec('llminfer --json --period 2000 --timeout 9000 --temp 0 -n 30 Once');
  t.is(JSON.parse(cut.stdout).finish_reason, 'timeout');
});

test('a follow-up continues its parent; a session that is closed has none', t => {
  const machine = withModel();
  const first = json(machine, 'llminfer --json --keep -n 5 --temp 0 Once upon a time');
  const id = first['id'] as number;
  const next = json(machine, `llminfer --json --continue ${id} -n 4 --temp 0 " One day"`);
  const seen = [...(first['prompt_tokens'] as number[]), ...(first['tokens'] as number[])];
  t.deepEqual((next['prompt_tokens'] as number[]).slice(0, seen.length), seen);
  t.is(next['parent'], id);
  t.true((next['shared_tokens'] as number) >= seen.length - 1, 'its keys and values were there');
  refused(t, machine, `llminfer --continue ${next['id']} Once`, 1, /^llminfer: ESRCH 7001 .*no session/);
  ok(machine, `llmctl cancel ${id}`);
  refused(t, machine, `llminfer --continue ${id} Once`, 1, /no session/);
});

// ── llmstream ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The text of a stream's chunks. */
function chunksOf(output: string): string[] {
  const unescape: Record<string, string> = { n: '\n', t: '\t', r: '\r', '\\': '\\' };
  return [...output.matchAll(/^\[LLM\]\[STREAM\] chunk: (.*)$/gm)].map(([, text]) =>
    text!.replace(/\\(.)/g, (_, c: string) => unescape[c]!),
  );
}

test('llmstream: chunks of N tokens, the last one shown however short, together the text', t => {
  const machine = withModel();
  const { text } = json<{ text: string }>(machine, 'llminfer --json -n 7 --seed 3 Once upon a time');
  for (const [chunk, count] of [
    [undefined, 4],
    [3, 3],
    [7, 1],
    [100, 1],
  ] as const) {
    const output = ok(
      machine,
      `llmstream -n 7 --seed 3 ${chunk === undefined ? '' : `--chunk ${chunk}`} Once upon a time`,
    );
    const chunks = chunksOf(output);
    t.is(chunks.length, count);
    t.is(chunks.join(''), text);
    t.regex(
      output,
      /\n\[LLM\]\[STREAM\] infer id=\d+ tokens=7 latency_us=\d+\n\[LLM\]\[DEADLINE\] ok actual=\d+ns expected=\d+ns slack=\d+ns\n$/,
    );
  }
  refused(t, machine, 'llmstream --chunk 0 Once', 2, "llmstream: --chunk '0' is not an integer from 1 to 512");
  ok(machine, 'llmctl backend stub');
  const bytes = ok(machine, 'llmstream -n 17 --chunk 1 "añb\\c日d"');
  t.is(chunksOf(bytes).join(''), '[STUB] añb\\c日d');
  t.false(bytes.includes('�'), 'characters are not cut');
});

test('a stream takes what the period budget has left', t => {
  const machine = withModel();
  ok(machine, 'llmctl budget --period-ns 1000000000000 --max-tokens-per-period 8');
  t.is(json<{ tokens: number[] }>(machine, 'llminfer --json -n 5 Once').tokens.length, 5);
  refused(t, machine, 'llminfer -n 4 Once', 1, /^llminfer: EDQUOT 3003 TokenBudgetExceeded: .*3.*/);
  const stream = machine.exec('llmstream -n 6 Once');
  t.is(stream.status, 1);
  t.regex(stream.stdout, /infer id=\d+ tokens=3 /);
  t.regex(
    stream.stderr,
    /^llmstream: EDQUOT 3003 TokenBudgetExceeded: session \d+ was cut after 3 tokens, the period budget of 8 is used up until \d\d:\d\d:\d\d(\.\d{3})?\n$/,
  );
});

test('a stream that ran out of time is a miss, as in the figures, whatever its server promised', t => {
  const machine = withModel();
  const stream = machine.exec('llmstream --timeout 500 --period 400 -n 60 Once');
  t.regex(stream.stderr, /^llmstream: ETIMEDOUT 2004 /);
  t.regex(stream.stdout, /^\[LLM\]\[DEADLINE\] miss actual=\d+ns expected=\d+ns slack=\d+ns$/m);
  t.is(json(machine, 'llmstats --json')['deadline_misses'], 1);
});

// ── llmctl ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('submit, poll, cancel: a session that nobody waits for', t => {
  const machine = withModel();
  const { text } = json<{ text: string }>(machine, 'llminfer --json -n 10 --seed 5 Once upon a time');
  const id = Number(ok(machine, 'llmctl submit -n 10 --seed 5 Once upon a time'));
  t.is(id, 2);
  settle(machine);
  const polled: string[] = [];
  let done = false;
  for (const [max, n] of [
    ['', 4],
    ['5', 5],
    ['100', 1],
  ] as const) {
    const p = json<{ tokens: number[]; text: string; done: boolean; prompt_length: number }>(
      machine,
      `llmctl poll ${id} ${max} --json`,
    );
    t.is(p.tokens.length, n);
    t.is(p.prompt_length, 5);
    t.false(done);
    ({ done } = p);
    polled.push(p.text);
  }
  t.true(done);
  t.is(polled.join(''), text);
  t.is(ok(machine, `llmctl poll ${id}`), `[LLM][POLL] id=2 n=0 done=1 plen=5 model=/models/fable-q4_0.gguf\n`);
  t.is(
    ok(machine, 'llmsummary').replace(/ts_ns=\d+/, 'ts_ns=T'),
    '[LLM][SESSIONS] count=1\n[LLM][SESS] id=2 tokens=10 consumed=10 done=1 ts_ns=T model=/models/fable-q4_0.gguf\n',
  );
  t.is(ok(machine, 'llmcancel 2'), 'session 2 forgotten\n');
  t.is(ok(machine, 'llmctl summary'), '[LLM][SESSIONS] count=0\n');
  refused(t, machine, 'llmctl poll 2', 1, /^llmctl: .*2/);
  refused(t, machine, 'llmpoll', 1, 'llmctl: you have no session');

  const hog = Number(ok(machine, 'llmctl submit -n 300 Once'));
  t.is(ok(machine, `llmctl cancel`), `session ${hog} cancelled\n`);
  settle(machine);
  t.is(json(machine, `llmctl poll ${hog} --json`)['finish_reason'], 'cancel');
  t.regex(ok(machine, 'llmpoll 500'), new RegExp(`^\\[LLM\\]\\[POLL\\] id=${hog} n=\\d+ done=1 `));
});

test('llminfer --detach and --attach: the same output as in one piece', t => {
  const machine = withModel();
  const whole = json(machine, 'llminfer --json -n 9 --seed 8 The cat');
  const id = Number(ok(machine, 'llminfer --detach -n 9 --seed 8 The cat'));
  const again = json(machine, `llminfer --attach ${id} --json`);
  for (const key of ['text', 'tokens', 'prompt_tokens', 'finish_reason', 'cycles', 'wcet_cycles'])
    t.deepEqual(again[key], whole[key], key);
  refused(t, machine, `llminfer --attach ${id}`, 1, /^llminfer: /);
});

test('a session whose reader is stopped holds its slot; who waits for it gives up in time, and the machine goes on', t => {
  const machine = withModel('--ctx 64 --sessions 1');
  const hold = 'llminfer -n 60 Once > /dev/null & holder=$!; sleep 0.1; kill -STOP $holder';
  const r = machine.exec(`${hold}; llminfer -n 5 Then; echo $?; kill -CONT $holder; wait $holder; echo $?`);
  t.is(r.stdout, '\n1\n0\n');
  t.regex(r.stderr, /^llminfer: ETIMEDOUT 2004 InferenceTimeout: session 2 gave up after 30000 ms/);
  const slept = machine.exec(`${hold}; sleep 100; llmctl sessions --json; kill -9 $holder`);
  t.regex(slept.stdout, /"id":3,"state":"(DONE|TIMEOUT)"/);
});

test('a session that somebody else has closed: its reader says so', t => {
  const machine = withModel();
  const text = '/usr/share/man/intro.md';
  for (const command of ['llminfer -n 60 Once', 'llmstream -n 60 Once', `llmctl perplexity ${text}`]) {
    const close = 'llmctl cancel; sleep 1; llmctl cancel';
    const r = machine.exec(`${command} > /dev/null & p=$!; sleep 0.3; kill -STOP $p; ${close}; kill -CONT $p; wait $p`);
    t.is(r.status, 1, command);
    t.regex(r.stderr, /^llm[a-z]+: the session was closed by somebody else before its end was read$/m, command);
  }
});

test('what is one user’s is nothing to another', t => {
  const machine = withModel();
  const id = Number(ok(machine, 'llmctl submit -n 4 Once'));
  settle(machine);
  for (const command of [
    `llmctl poll ${id}`,
    `llmctl cancel ${id}`,
    `llminfer --attach ${id}`,
    `llmctl profile ${id}`,
  ]) {
    const r = machine.exec(`su user -c '${command}'`);
    t.not(r.status, 0, command);
    t.is(r.stdout, '', command);
  }
  t.is(ok(machine, `su user -c 'llmctl sessions'`).split('\n').length, 2, 'titles only');
  const own = Number(ok(machine, `su user -c 'llmctl submit -n 4 Once'`));
  settle(machine);
  t.is(json(machine, `llmctl poll ${own} --json`)['done'], true, 'the superuser sees all');
});

test('llmctl sessions, /proc/sessions and llmstats tell the same', t => {
  const machine = withModel();
  for (const seed of [1, 2, 3]) ok(machine, `llmctl submit -n 12 --seed ${seed} Once upon a time`);
  settle(machine);
  const [titles, ...rows] = ok(machine, 'cat /proc/sessions').trimEnd().split('\n');
  t.deepEqual(titles!.split('\t'), [...SESSION_COLUMNS]);
  const { sessions } = json<{ sessions: Record<string, unknown>[] }>(machine, 'llmctl sessions --json');
  t.is(rows.length, 3);
  for (const [i, row] of rows.entries()) {
    const cells = Object.fromEntries(row.split('\t').map((cell, k) => [SESSION_COLUMNS[k]!, cell]));
    const s = sessions[i]!;
    t.is(String(s['id']), cells['id']!);
    t.is(s['state'], cells['state']);
    t.is(String(s['output_length']), cells['outputTokens']!);
    t.is(String(s['cycles']), cells['cycles']!);
    t.is(s['state'], 'DONE');
  }
  const stats = json(machine, 'llmstats --json');
  t.is(stats['sessions_total'], 3);
  t.is(stats['output_tokens'], 36);
  t.is(
    Number(stats['cycles_total']),
    sessions.reduce((sum, s) => sum + (s['cycles'] as number), 0),
  );
  t.true((stats['rows'] as number) > (stats['passes'] as number), 'passes were shared');
  t.true(Number(stats['saved_cycles']) > 0);
  t.is((stats['users'] as Record<string, unknown>[]).length, 1);
  t.is((stats['users'] as Record<string, unknown>[])[0]!['tokens_used'], 36);
  const table = ok(machine, 'llmctl sessions').trimEnd().split('\n');
  t.regex(table[0]!, /^ID +USER +STATE +END +PROMPT +OUTPUT +SERVER +DEADLINE +SLACK +PAGES +CYCLES$/);
  t.is(table.length, 4);
  const top = ok(machine, 'top -b');
  t.regex(top, /^Sessions: 3 total, 0 running, 0 queued, 3 ended$/m);
  t.regex(top, /^ID +USER +STATE /m);
});

test('llmstats, /proc, the trace and JSON count the same', t => {
  const machine = withModel();
  for (const seed of [1, 2, 3, 4, 5]) ok(machine, `llmctl submit -n ${4 + seed} --seed ${seed} Once upon a time`);
  settle(machine);
  ok(machine, 'llmctl submit --period 1000 -n 3 The cat');
  machine.exec('llminfer --deadline 1 Once');
  settle(machine);
  const stats = json<Record<string, number>>(machine, 'llmstats --json');
  const { counts, dropped } = json<{ counts: Record<string, number>; dropped: number }>(
    machine,
    'llmctl trace --json /tmp/trace',
  );
  t.is(dropped, 0);
  const told = Object.fromEntries(
    ok(machine, 'cat /proc/trace')
      .trimEnd()
      .split('\n')
      .map(line => line.split(' ')),
  );
  for (const [kind, n] of Object.entries(counts)) t.is(Number(told[kind]), n, kind);
  t.is(counts['submit']!, stats['sessions_total']!);
  t.is(counts['end']!, stats['sessions_total']!);
  t.is(counts['reject']!, stats['rejects']!);
  t.is(counts['token']!, stats['output_tokens']!);
  t.is(counts['pass']!, stats['passes']!);
  t.is(counts['preempt'] ?? 0, stats['preemptions']!);
  t.is(counts['admit']!, stats['servers_accepted']!);
  const { sessions } = json<{ sessions: Record<string, number>[] }>(machine, 'llmctl sessions --json');
  const sum = (key: string): number => sessions.reduce((total, s) => total + s[key]!, 0);
  t.is(sum('output_length'), stats['output_tokens']!);
  t.is(sum('prompt_length'), stats['prompt_tokens']!);
  t.is(sum('shared_tokens'), stats['prefix_tokens']!);
  t.is(sum('cycles'), Number(stats['cycles_total']));
  const rows = sessions.map(s => json<Record<string, number>>(machine, `llmctl profile ${s['id']} --json`)['rows']!);
  t.is(
    rows.reduce((a, b) => a + b, 0),
    stats['rows']!,
  );
  t.is(json<{ tokens_used: number }>(machine, 'llmctl quota root --json').tokens_used, stats['output_tokens']!);
  t.is(json(machine, 'llmctl sched --json')['passes'], stats['passes']);
});

test('a request dearer than the machine allows is a miss, and said to be one', t => {
  const machine = withModel();
  ok(machine, 'llmctl budget --wcet-cycles 1500000');
  const output = ok(machine, 'llmstream -n 3 Once');
  t.regex(output, /^\[LLM\]\[DEADLINE\] miss actual=\d+ns expected=1000000ns slack=-\d+ns$/m);
  t.is(json(machine, 'llmstats --json')['deadline_misses'], 1);
});

test('llmctl profile: the parts add up to the whole, and to what the report says', t => {
  const machine = withModel();
  for (const seed of [1, 2, 3]) ok(machine, `llmctl submit -n 10 --seed ${seed} Once upon a time, in ${seed} lands`);
  settle(machine);
  for (const id of [1, 2, 3]) {
    const p = json<Record<string, number>>(machine, `llmctl profile ${id} --json`);
    const parts = ['queue', 'prefill', 'decode', 'sampler', 'swap', 'waiting'].map(name => p[`${name}_ns`]!);
    t.is(
      parts.reduce((sum, ns) => sum + ns, 0),
      p['elapsed_ns']!,
    );
    t.true(parts.every(ns => ns >= 0));
    t.true(p['sampler_ns']! > 0 && p['prefill_ns']! > 0 && p['decode_ns']! > 0);
    t.is(p['is_complete'], true as never);
    t.is(p['saved_cycles']!, p['cycles']! - p['spent_cycles']!);
  }
  const { sessions } = json<{ sessions: Record<string, unknown>[] }>(machine, 'llmctl sessions --json');
  const { elapsed_ns, queue_ns } = json(machine, 'llmctl profile 3 --json');
  t.is(queue_ns, sessions[2]!['wait_ns']);
  const [ended, submitted] = ['endedNs', 'submittedNs'].map(name => {
    const [titles, , , row] = ok(machine, 'cat /proc/sessions')
      .split('\n')
      .map(line => line.split('\t'));
    return Number(row![titles!.indexOf(name)]);
  });
  t.is(elapsed_ns, ended! - submitted!);
  const spent = [1, 2, 3].map(id => json(machine, `llmctl profile ${id} --json`)['saved_cycles'] as number);
  const saved = Number(json(machine, 'llmstats --json')['saved_cycles']);
  t.true(Math.abs(spent.reduce((a, b) => a + b, 0) - saved) < 100, 'shares of passes, in rounded nanoseconds');
});

test('llmstats --watch and top show what goes on, and give the terminal back', async t => {
  const seat = new Seat(110, 24);
  const type = async (line: string, milliseconds: number): Promise<void> => {
    await seat.type(line);
    seat.settle(milliseconds);
    await seat.drawn();
  };
  await type('llmctl load fable-q4_0 > /dev/null; clear\r', 3000);
  // A server waits for its next period most of the time: so does the machine.
  await type('llmctl submit -n 20 --period 300 Once; llmstats --watch 0.2\r', 500);
  const sessions = (): string => seat.screen().find(row => row.startsWith('sessions ')) ?? '';
  t.regex(seat.screen()[0]!, /^\[LLM\] queue_depth_max=/);
  t.regex(sessions(), /^sessions +1 +1 active, 0 queued$/);
  t.regex(seat.screen().join('\n'), /^pages +\d+ +\d+ free/m);
  await type('', 7000);
  t.regex(sessions(), /^sessions +1 +0 active, 0 queued$/);
  await type('q', 10);
  await type('clear; llmctl submit -n 100 --period 300 Once; top -d 0.5\r', 1000);
  const screen = seat.screen();
  t.regex(screen[5]!, /^Sessions: 2 total, 1 running, 0 queued, 1 ended$/);
  const title = screen.findIndex(row => row.startsWith('ID USER STATE'));
  t.true(title > screen.findIndex(row => /^ *PID /.test(row)));
  t.regex(seat.attributed(title, 'Inverse'), /^ID USER/);
  t.regex(screen[title + 1]!, /^ 2 root (PREFILL|DECODE) +- +2 +\d+ [\d.]+ms\/300ms +- /);
  t.regex(screen[title + 2]!, /^ 1 root DONE +length +2 +20 +[\d.]+ms\/300ms +- /);
  await type('S', 10);
  t.is(
    seat.screen().findIndex(row => /PID/.test(row)),
    -1,
  );
  await type('q', 10);
  t.regex(seat.screen().at(-1)!, /^sis> ▮$/);
  await type('clear; llmstats --watch x; llmstats --watch | cat\r', 100);
  t.regex(
    seat.screen().join('\n'),
    /llmstats: --watch 'x' is not a number of seconds[^]*llmstats: standard output is not a terminal/,
  );
});

// ── What fits ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a mix is read, and its pages counted', t => {
  t.deepEqual(parseMix('8x64+64, 300+100'), [
    { sessions: 8, prompt: 64, generate: 64 },
    { sessions: 1, prompt: 300, generate: 100 },
  ]);
  for (const bad of ['', '8x64', '0x1+1', '8x0+1', '8x1+0', '-1x1+1', 'x1+1'])
    t.is(typeof parseMix(bad), 'string', bad);
  t.is(pagesEach({ sessions: 1, prompt: 1, generate: KV_PAGE }), 1, 'the last token drawn has no keys and values');
  t.is(pagesEach({ sessions: 1, prompt: 2, generate: KV_PAGE }), 2);
});

/** A prompt of so many tokens, a BOS included; `word` makes it unlike others. */
const promptOf = (word: string, tokens: number): string => `${word}${' the'.repeat(tokens - 2)}`;

test('what llmctl plan --mix says of a mix is what the machine does with it', t => {
  const machine = withModel();
  const { pages } = json<{ pages: { total: number } }>(machine, 'llmstats --json');
  const whole = 16; // pages of 400 + 97 − 1 positions
  const full = Math.floor(pages.total / whole);
  const rest = pages.total - full * whole;
  t.is(
    ok(machine, `llmctl plan --mix "${full}x400+97"`).trimEnd().split('\n').at(-1),
    `fits: ${rest} pages and ${32 - full} sessions to spare`,
  );

  // Servers take their pages when they are admitted: as many as were said are, and not one more.
  for (const mix of [
    `${full - 1}x400+97 ${Math.floor((whole + rest) / 4)}x100+20 1x60+${32 * 3}`,
    `${full + 1}x400+97`,
    '33x2+4',
    `3x400+97 ${pages.total}x60+4`,
  ]) {
    const said = JSON.parse(machine.exec(`llmctl plan --json --mix "${mix}"`).stdout) as {
      mix_fits: boolean;
      mix_sessions: number;
      sessions_that_fit: number;
    };
    const groups = parseMix(mix);
    if (typeof groups === 'string') throw new Error(groups);
    const wanted = groups.flatMap(g => Array.from({ length: g.sessions }, () => g));
    t.is(said.mix_sessions, wanted.length);
    let admitted = 0;
    for (const { prompt, generate } of wanted) {
      const r = machine.exec(
        `llmctl submit --period 100000 --timeout 200000 -n ${generate} "${promptOf('a', prompt)}"`,
      );
      if (r.status !== 0) {
        t.regex(r.stderr, /^llmctl: (ENOMEM 3001|EAGAIN 3002) .*\d/);
        break;
      }
      admitted++;
    }
    t.is(admitted, said.sessions_that_fit, mix);
    t.is(said.mix_fits, admitted === wanted.length);
    const { sessions } = json<{ sessions: { id: number }[] }>(machine, 'llmctl sessions --json');
    for (const command of ['cancel', 'cancel']) for (const { id } of sessions) machine.exec(`llmctl ${command} ${id}`);
  }
});

test('a mix that does not fit is told how to load the model so that it does', t => {
  const machine = withModel();
  for (const [given, mix, load] of [
    ['--pages 64', '13x100+100', ''],
    ['--sessions 8', '20x10+10', '--sessions 20'],
    ['--ctx 128', '2x200+50', '--ctx 250'],
  ] as const) {
    const command = `llmctl plan fable-q4_0 ${given} --mix "${mix}"`;
    const { status, stdout } = machine.exec(command);
    t.is(status, 1);
    t.regex(stdout, /^does not fit: .*\d/m);
    const [, options] = /^all fit after llmctl load FILE ?(.*)$/m.exec(stdout) ?? [];
    t.is(options, load);
    const planned = json<{ mix_fits: boolean; pages: number }>(
      machine,
      `llmctl plan fable-q4_0 ${options} --json --mix "${mix}"`,
    );
    t.true(planned.mix_fits);
  }
  const { load_that_fits, reasons } = JSON.parse(machine.exec('llmctl plan --json --mix 40x4+4').stdout);
  t.is(load_that_fits, null);
  t.deepEqual(reasons, ['40 sessions, 32 at once']);
});

test('sessions of a mix that fits never wait for pages; of one page more somebody does', t => {
  for (const more of [0, 1]) {
    const machine = withModel('--pages 80');
    const { pages } = json<{ pages: { total: number } }>(machine, 'llmstats --json');
    t.is(pages.total % 8, 0);
    // 225 + 24 − 1 positions are 8 pages, all taken by the end of the prompt; 257 + 15 − 1 are 9.
    const lengths = Array.from({ length: pages.total / 8 }, (_, i): [number, number] =>
      i < more ? [257, 15] : [225, 24],
    );
    const mix = lengths.map(([prompt, drawn]) => `${prompt}+${drawn}`).join(' ');
    t.is(machine.exec(`llmctl plan --mix "${mix}"`).status, more);
    for (const [i, [prompt, drawn]] of lengths.entries())
      ok(machine, `llmctl submit -n ${drawn} "${promptOf('abcdefghijklmnopqrstuvwxyz'[i]!, prompt)}"`);
    settle(machine);
    const { pages: after } = json<{ pages: Record<string, number> }>(machine, 'llmstats --json');
    t.is(after['swap_outs']! > 0, more > 0);
  }
});

// ── The library ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('the library infers, alone and side by side, and a refusal is an answer', t => {
  const machine = withModel();
  const one = machine.infer("Once upon a time, it's", { maxTokens: 6, temp: 0 });
  t.is(one.error, null);
  t.is(one.tokens.length, 6);
  t.is(one.finishReason, 'length');
  t.is(one.report?.['id'], one.id);
  const prompts = ['Once upon a time', 'The cat', 'Tom had a dog'];
  const alone = prompts.map(p => machine.infer(p, { maxTokens: 8, seed: 4 }).text);
  const asked = prompts.map(p => machine.submit(p, { maxTokens: 8, seed: 4 }));
  t.deepEqual(
    asked.map(s => machine.wait(s).text),
    alone,
  );
  const kept = machine.infer('Once', { maxTokens: 3, keep: true });
  t.is(machine.infer(' Then', { maxTokens: 3, continue: kept.id }).report?.['parent'], kept.id);
  const late = machine.infer('Once', { maxTokens: 64, deadlineMs: 10 });
  t.is(late.id, 0);
  t.is(late.code, 3002);
  t.regex(late.error!, /^E[A-Z]+ 3002 TooManyConcurrent: /);
  t.is(late.report, null);
  t.is(machine.wait(machine.submit('Once', { maxTokens: 600 })).status, 2);

  machine.configureBudget({ periodNs: 1e12, maxTokens: 4 });
  t.is(machine.infer('Once', { maxTokens: 5 }).code, 3003);
  t.is(machine.infer('Once', { maxTokens: 4 }).tokens.length, 4);
  t.is(machine.stats()['policy'], 'edf');
  t.throws(() => machine.configureBudget({ periodNs: -1 }), { message: /period-ns/ });
});
