// Re-execution: which kernel made a record is told by one digest, the same wherever it is bundled and made by strangers with sha256sum; a prompt
// goes in as the token ids that it was.

import test from 'ava';
import { execFileSync } from 'node:child_process';
import { createHash, generateKeyPairSync } from 'node:crypto';
import fs, { existsSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { replayWord } from '../boot/audit-replay.ts';
import { boot, BUILD_DIGEST, type Machine } from '../boot/index.ts';
import { demonstrationKey, parseLogKey } from '../boot/log-key.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { isRefusal } from '../kernel/abi/index.ts';
import { random, soak } from './harness.ts';
import { sealerOf } from '../kernel/audit/content.ts';
import {
  ageDecrypt,
  canonical,
  frame,
  joined,
  parseEntryBundle,
  parseIdentity,
  type JsonObject,
} from '../trust/index.ts';
import { BROWSERS, bundled, transcriptOf, type Site } from './support/browser.ts';
import {
  base64,
  BOOT,
  bytesOf,
  carried,
  IDENTITY,
  RECIPIENT,
  makeLog,
  mounted,
  replayed,
  type Carried,
} from './support/replaying.ts';
import { Bench, SESSION_FLAG } from './support/service.ts';
import { below, oneOf } from './support/wishes.ts';

const ok = (m: Machine, line: string): string => {
  const { status, stdout, stderr } = m.exec(line);
  if (status !== 0) throw new Error(`${line}: ${status}: ${stderr}`);
  return stdout;
};
const failed = (m: Machine, line: string): string => {
  const { status, stderr } = m.exec(line);
  if (status === 0) throw new Error(`${line}: did not fail`);
  return stderr;
};
const machine = (): Machine => boot({ image: readFileSync('build/boot.cpio'), strict: true });

function inScratch<T>(f: (directory: string) => T): T {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'arena8-replay-'));
  try {
    return f(scratch);
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

// ── The build ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('the digest of the build is what sha256sum says of the sources, the kernels and the certificates', async t => {
  const tools = (await import(new URL('../../tools/digest.mjs', import.meta.url).href)) as {
    readonly recipe: string;
    buildDigest(): string;
  };
  const byHand = execFileSync('bash', ['-c', tools.recipe], { encoding: 'utf8' }).split(' ')[0]!;
  t.is(tools.buildDigest(), byHand);
  t.is(BUILD_DIGEST, byHand);
  t.true(readFileSync('docs/AUDIT.md', 'utf8').includes(`    ${tools.recipe}\n`));
  const m = machine();
  t.regex(ok(m, 'cat /proc/version'), new RegExp(`^arena8 .*\nsha256 ${byHand}\n$`));
  t.true(ok(m, 'dmesg').includes(byHand));
});

// ── Token ids as a prompt ────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a prompt of token ids is the text that has them', t => {
  const m = machine();
  const ids = ok(m, 'llmctl tokenize --bos "Once upon a time"');
  const said = (line: string): Record<string, unknown> => JSON.parse(ok(m, line)) as Record<string, unknown>;
  const byText = said('llminfer --json --keep --seed 7 --max-tokens 12 Once upon a time');
  const byIds = said(`echo "${ids.trim()}" | llminfer --json --seed 7 --max-tokens 12 --ids -`);
  for (const key of ['prompt_tokens', 'tokens', 'text_b64', 'finish_reason', 'cycles', 'wcet_cycles', 'bcet_cycles'])
    t.deepEqual(byIds[key], byText[key], key);

  // Nothing is put before them, and behind a session they follow its last token.
  t.deepEqual(
    said('echo 578 503 > /tmp/ids; llminfer --json --max-tokens 1 --ids /tmp/ids')['prompt_tokens'],
    [578, 503],
  );
  const after = said(`llminfer --json --max-tokens 4 --continue ${String(byText['id'])} --ids /tmp/ids`);
  t.deepEqual(after['prompt_tokens'], [
    ...(byText['prompt_tokens'] as number[]),
    ...(byText['tokens'] as number[]),
    578,
    503,
  ]);
});

test('ids that the vocabulary has not, and bytes that are none, are refused with the number', t => {
  const m = machine();
  const vocabulary = Number(/"vocabulary":([0-9]+)/.exec(ok(m, 'llmctl info --json'))![1]);
  t.is(
    failed(m, `echo 0 578 ${vocabulary} > /tmp/ids; llminfer --ids /tmp/ids`),
    `llminfer: EINVAL 4002 InvalidTokenId: token 2 is ${vocabulary}, the vocabulary has ${vocabulary}\n`,
  );
  t.is(
    failed(m, 'echo "" > /tmp/ids; llminfer --ids /tmp/ids').split(': ').at(-1),
    'empty prompt after tokenization\n',
  );
  t.is(failed(m, 'echo 1 x > /tmp/ids; llminfer --ids /tmp/ids'), "llminfer: /tmp/ids: 'x' is not a token id\n");
  t.regex(failed(m, 'llminfer --ids /tmp/ids Once'), /^llminfer: --ids and PROMPT exclude each other\n/);
  t.regex(failed(m, 'llminfer --ids /tmp/ids --chat Once'), /^llminfer: --ids and --chat exclude each other\n/);
});

test('ids are read in pieces, and none may be cut', t => {
  const bench = new Bench();
  const refusal = (bytes: string): string => {
    const r = bench.submit(bytes, { flags: SESSION_FLAG.ids });
    return isRefusal(r) ? `${r.code} ${r.message}` : `${r}`;
  };
  const zeros = (ids: number): string => '\0'.repeat(4 * ids);
  t.is(refusal(zeros(5000)), '2002 prompt is 5000 tokens, 2048 at most'); // 20,000 B: two pieces
  t.is(refusal(`${zeros(5000)}\0`), '4001 20001 bytes are no list of token ids of 4 bytes each');
  t.is(refusal(`${zeros(4500)}\0\0\x01\0`), '4002 token 4500 is 65536, the vocabulary has 1024');
});

// ── Records run again ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const image = readFileSync('build/boot.cpio');
const made = (() => {
  let files: Carried | null = null;
  return (): Carried => {
    if (files !== null) return files;
    const m = boot({ ...BOOT, image, strict: true });
    makeLog(m);
    return (files = carried(m));
  };
})();
const other = (files: Carried): Machine => boot({ image, strict: true, mounts: mounted(files) });

/** What is said of the records of an operation: `agrees`, or why not. */
const saidOf = (lines: readonly Readonly<Record<string, unknown>>[], op: string): unknown[] =>
  lines.filter(line => line['op'] === op).map(line => line['reason'] ?? line['result']);

test('everything that can become of a request is run again by another machine, and agrees', t => {
  const m = other(made());
  const before = ok(m, 'llmctl info; llmctl target; llmctl disk --json | cut -d, -f1-8');
  const lines = replayed(m);
  t.is(ok(m, 'llmctl info; llmctl target; llmctl disk --json | cut -d, -f1-8'), before, 'and it is what it was');
  const said = (op: string): unknown[] => saidOf(lines, op);
  t.deepEqual(new Set([...said('infer'), ...said('score'), ...said('stream')]), new Set(['agrees']));
  t.is(said('infer').length, 7 + 1 + 32 + 1 + 1);
  t.deepEqual([said('score'), said('cancel')], [['agrees'], ['agrees']]);
  t.deepEqual([said('timeout'), said('exhausted'), said('fault')], [['agrees', 'agrees'], ['agrees'], ['agrees']]);
  t.deepEqual(said('reject'), ['it was refused: nothing was run']);
  t.deepEqual(lines.at(-1), { requests: 49, agree: 48, differ: 0, skipped: 1 });
  t.regex(
    ok(
      m,
      'mkdir /tmp/log; cp -r /mnt/log/checkpoint /mnt/log/tile /tmp/log; llmctl audit verify /tmp/log --key /audit/pubkey',
    ),
    /^ok: /,
    'each of these endings names the admission that it ends',
  );
});

/** The log with some of its records rewritten: nobody signed that, which is for `audit verify` to say. */
function forged(files: Carried, change: (record: JsonObject, number: number) => JsonObject): Carried {
  const path = Object.keys(files).find(name => name.startsWith('tile/entries/'))!;
  const records = parseEntryBundle(bytesOf(files[path]!), Number(path.split('/').at(-1)));
  if (isRefusal(records)) throw new Error(records.message);
  const changed = records.map((bytes, number) => {
    const record = canonical(change(JSON.parse(Buffer.from(bytes).toString('utf8')) as JsonObject, number));
    if (isRefusal(record)) throw new Error(record.message);
    return frame(record);
  });
  return { ...files, [path]: base64(joined(...changed)) };
}

/** In which figures a record differs once `change` has been made to it: the first of an operation, of `infer` the first that draws. */
function differing(change: JsonObject, of = 'infer'): unknown {
  let number = -1;
  const files = forged(made(), (record, n) => {
    if (number >= 0 || record['arena8.op'] !== of || (of === 'infer' && record['gen_ai.request.seed'] === 0))
      return record;
    number = n;
    return { ...record, ...change };
  });
  const [line] = replayed(other(files), String(number));
  const checks = line!['checks'] as { readonly what: string; readonly agrees: boolean | null }[];
  return line!['reason'] ?? checks.filter(c => c.agrees === false).map(c => c.what);
}

test('what a record says that did not happen is named', t => {
  t.deepEqual(differing({ 'arena8.logits.sum': '00'.repeat(16) }), ['logits']);
  t.deepEqual(differing({ 'arena8.cycles': '1' }), ['cycles']);
  t.deepEqual(differing({ 'arena8.cycles.most': '1' }), ['most cycles']);
  t.deepEqual(differing({ 'arena8.rng.end': '00'.repeat(16) }), ['generator at last']);
  t.deepEqual(differing({ 'arena8.output.digest': '00'.repeat(32) }), ['output']);
  t.deepEqual(differing({ 'arena8.prompt.digest': '00'.repeat(32) }), ['prompt']);
  t.deepEqual(differing({ 'arena8.plan.digest': '00'.repeat(32) }), ['plan']);
  t.deepEqual(differing({ 'gen_ai.response.finish_reasons': ['eos'] }), ['finish']);
  t.deepEqual(differing({ 'arena8.nll': 1 }, 'score'), ['loss']);
  // Drawn with another seed or setting, every token may be another one
  const all = differing({ 'gen_ai.request.seed': 1, 'gen_ai.request.temperature': 5 }) as string[];
  t.deepEqual(all, ['generator at first', 'logits', 'generator at last', 'cycles', 'output']);
  // Cut off before its first token, or by a quota behind its last: charged less than that took, or more than the whole may
  t.deepEqual(differing({ 'arena8.cycles': '1' }, 'exhausted'), ['cycles']);
  t.deepEqual(differing({ 'arena8.cycles': '9007199254740991' }, 'exhausted'), ['cycles']);
  t.deepEqual(differing({ 'arena8.output.digest': '00'.repeat(32) }, 'fault'), ['output']);
  // Cut off after fewer tokens than it drew
  t.deepEqual(differing({ 'gen_ai.usage.output_tokens': 3 }, 'cancel'), [
    'logits',
    'generator at last',
    'cycles',
    'output',
  ]);
});

test('what cannot be run again is said with its reason', t => {
  t.is(differing({ 'arena8.load': ['ctx=x'] }), 'it says of its load: ctx=x');
  t.is(
    differing({ 'arena8.load': ['ctx=512', 'kv=f16', 'batch=99', 'sessions=1', 'pages=16', 'draws=1'] }),
    'EINVAL 7001 InvalidConfig: /models/fable-f16.gguf: batch 99 asked, 32 rows at most',
  );
  t.is(
    differing({ 'arena8.model.digest': 'ab'.repeat(32) }),
    `no model with the digest ${'ab'.repeat(8)}…: /models/fable-f16.gguf has the digest 1f178a93dfcfefcc…`,
  );
  t.is(
    differing({ 'arena8.model.digest': 'ab'.repeat(32), 'arena8.model.path': '/models/gone.gguf' }),
    `no model with the digest ${'ab'.repeat(8)}…: /models/gone.gguf is not there`,
  );
  t.is(differing({ 'gen_ai.request.max_tokens': 'many' }), 'it does not say gen_ai.request.max_tokens');

  const elsewhere = forged(made(), record =>
    record['arena8.op'] === 'boot' ? { ...record, 'arena8.kernel.digest': 'cd'.repeat(32) } : record,
  );
  t.deepEqual(saidOf(replayed(other(elsewhere)), 'cancel'), [
    `another kernel made it: build ${'cd'.repeat(8)}…, this is ${BUILD_DIGEST.slice(0, 16)}…`,
  ]);

  // Another model under the path of the recorded one; the same model under another path is found.
  const m = other(made());
  ok(m, 'mv /models/fable-q4_0.gguf /models/other.gguf');
  t.deepEqual(new Set(saidOf(replayed(m), 'score')), new Set(['agrees']));
  ok(m, 'rm /models/other.gguf; cp /models/fable-q8_0.gguf /models/fable-q4_0.gguf');
  t.regex(
    String(saidOf(replayed(m), 'score')),
    /^no model with the digest 2c1a6d57655866d0…: \/models\/fable-q4_0.gguf has/,
  );
});

test('the 32 of the batch were there at once', t => {
  const path = Object.keys(made()).find(name => name.startsWith('tile/entries/'))!;
  const records = parseEntryBundle(bytesOf(made()[path]!), Number(path.split('/').at(-1)));
  if (isRefusal(records)) return t.fail(records.message);
  const spans = records
    .map(bytes => JSON.parse(Buffer.from(bytes).toString('utf8')) as JsonObject)
    .filter(r => r['gen_ai.request.max_tokens'] === 24 && r['arena8.op'] === 'infer')
    .map(r => [Number(r['arena8.began_ns']), Number(r['arena8.time_ns'])] as const);
  t.is(spans.length, 32);
  const atOnce = Math.max(...spans.map(([at]) => spans.filter(([from, to]) => from <= at && at < to).length));
  t.true(atOnce >= 16, `${atOnce} at once`);
  return undefined;
});

test('random requests, many at once, on models of all kinds: all are run again to the same', t => {
  t.timeout(3_600_000);
  const next = random(2026);
  const m = boot({ image, strict: true, disks: { vda: 'nvme' } });
  ok(m, `llmctl audit content on ${RECIPIENT}`);
  for (let round = 0; round < (soak ? 60 : 3); round++) {
    const model = oneOf(next, ['fable-f16', 'fable-q8_0', 'fable-q4_0']);
    const stream = oneOf(next, ['', '', '--stream --tile 32K --pin 64K']);
    const kv = oneOf(next, ['f32', 'f16', 'q8_0', 'q4_0']);
    const batch = 1 + below(next, 16);
    ok(m, `llmctl target ${oneOf(next, ['cortex-a72', 'sifive-u74', 'cortex-m7'])}`);
    ok(m, `llmctl load ${model} --ctx ${oneOf(next, [64, 128])} --kv ${kv} --batch ${batch} ${stream}`);
    const ids = Array.from({ length: 1 + below(next, 8) }, () => {
      const options = [
        `--seed ${below(next, 1000)} --temp ${oneOf(next, [0, 0.5, 0.8, 2])} --max-tokens ${1 + below(next, 12)}`,
        `--top-k ${oneOf(next, [0, 1, 20])} --top-p ${oneOf(next, [1, 0.9])} --min-p ${oneOf(next, [0, 0.05])}`,
        `--repeat-penalty ${oneOf(next, [1, 1.3])} --rng ${oneOf(next, ['xor128', 'lcg'])}`,
        oneOf(next, ['', '--stop a', '--timeout 60']),
      ];
      const words = Array.from({ length: 1 + below(next, 12) }, () => oneOf(next, ['Tom', 'Lily', 'the', 'dog', '.']));
      return ok(m, `llmctl submit ${options.join(' ')} ${words.join(' ')}`).trim();
    });
    for (const id of ids) m.exec(`llminfer --attach ${id}`);
  }
  const lines = replayed(other(carried(m)));
  const wrong = lines.filter(line => line['op'] !== undefined && line['result'] !== 'agrees');
  t.deepEqual(wrong, []);
  t.log(JSON.stringify(lines.at(-1)));
});

test('whoever may read the log can run it again, where the stage is set already; others cannot', t => {
  const m = machine();
  ok(m, 'llminfer --seed 7 --max-tokens 4 Once upon');
  const again = 'llmctl audit replay 3 --prompt "Once upon"';
  t.regex(ok(m, `su auditor -c '${again}'`), /record 3: infer agrees\n$/);
  t.regex(failed(m, `su user -c '${again}'`), /Permission denied/);
  ok(m, 'llmctl target sifive-u74');
  t.regex(failed(m, `su auditor -c '${again}'`), /not run again: target cortex-a72: /);
});

test('Ctrl-C ends it, and the machine is what it was', t => {
  let shown = '';
  const console = new Tty({
    interactive: true,
    output: bytes => {
      shown += Buffer.from(bytes).toString('utf8');
    },
  });
  const m = boot({ image, strict: true, console, mounts: mounted(made()) });
  const words = ['--all', '--log', '/mnt/log', '--identity', '/mnt/log/identity'];
  const pid = m.start(['llmctl', 'audit', 'replay', ...words]);
  while (!shown.includes('score agrees')) m.run(1);
  m.interrupt();
  while (m.statusOf(pid) === undefined) m.run(1);
  t.is(m.statusOf(pid), 130);
  t.regex(shown, /\r\[=+> *\] +[0-9]+ % {2}[0-9]+ of [0-9]+ records /);
  t.regex(ok(m, 'llmctl info'), /^path +\/models\/fable-f16.gguf$/m);
});

// ── Stored texts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const digestOf = (...parts: readonly (Uint8Array | string)[]): string => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
};

test('texts are stored for the auditor alone, and the record says how', t => {
  const m = machine();
  const stored = (): string => ok(m, 'ls /audit/content');
  ok(m, 'llminfer --max-tokens 2 Once');
  t.is(stored(), '', 'off by default');
  t.regex(failed(m, 'llmctl audit content on age1x'), /not an age recipient/);
  ok(m, `llmctl audit content on ${RECIPIENT}`);
  const said = JSON.parse(ok(m, 'llminfer --json --seed 3 --max-tokens 5 --stop zz Once upon')) as JsonObject;
  m.exec('llminfer --max-tokens 512 Refused');
  ok(m, 'llmctl audit content off; llminfer --max-tokens 2 Once');
  const [ended, refused] = stored().trim().split('\n').map(Number);
  t.is(stored(), `${ended}\n${refused}\n`);

  const file = m.exec(`cat /audit/content/${ended}`).stdoutBytes;
  const record = JSON.parse(ok(m, `cat /audit/record/${ended}`)) as JsonObject;
  t.is(record['arena8.content'], 'all');
  t.is(record['arena8.content.digest'], digestOf(file));
  const identity = parseIdentity(IDENTITY);
  if (isRefusal(identity)) return t.fail(identity.message);
  const plain = ageDecrypt(file, identity);
  if (isRefusal(plain)) return t.fail(plain.message);
  const texts = JSON.parse(Buffer.from(plain).toString('utf8')) as JsonObject;
  t.deepEqual(texts, {
    record: ended!,
    salt: ok(m, `cat /audit/salt/${ended}`).trim(),
    prompt_ids: said['prompt_tokens']!,
    output_ids: said['tokens']!,
    prompt: '<|endoftext|>Once upon',
    output: said['text']!,
    stops: ['zz'],
  });
  const ids = Uint32Array.from(texts['output_ids'] as number[]);
  t.is(record['arena8.output.digest'], digestOf(Buffer.from(String(texts['salt']), 'hex'), new Uint8Array(ids.buffer)));
  t.is((JSON.parse(ok(m, `cat /audit/record/${refused}`)) as JsonObject)['arena8.op'], 'reject');
  return undefined;
});

const hasAge = existsSync('/usr/bin/age');
const withAge = hasAge || process.env['CI'] === 'true' ? test : test.skip;

withAge("Debian's age opens what a record's texts were stored as", t => {
  inScratch(scratch => {
    const identity = path.join(scratch, 'key');
    fs.writeFileSync(identity, `${IDENTITY}\n`);
    const files = Object.entries(made()).filter(([name]) => name.startsWith('content/'));
    for (const [name, text] of files.slice(0, 3)) {
      const plain = execFileSync('/usr/bin/age', ['-d', '-i', identity], { input: bytesOf(text) });
      t.is(`content/${String((JSON.parse(plain.toString('utf8')) as JsonObject)['record'])}`, name);
    }
  });
});

test('texts that are too long leave their ids, and ids that are too long leave nothing', t => {
  const sealer = sealerOf(RECIPIENT, demonstrationKey());
  if (isRefusal(sealer)) return t.fail(sealer.message);
  const texts = (ids: number, pieceBytes: number): Parameters<typeof sealer.seal>[0] => ({
    record: 7,
    salt: new Uint8Array(32),
    prompt: new Uint8Array(4 * ids),
    output: new Uint8Array(0),
    stops: [],
    piece: () => new Uint8Array(pieceBytes).fill(0x61),
  });
  t.is(sealer.seal(texts(2048, 8))?.what, 'all');
  t.is(sealer.seal(texts(2048, 1024))?.what, 'ids');
  t.is(sealer.seal(texts(20_000, 4))?.what, 'ids');
  t.is(sealer.seal(texts(40_000, 4)), null);
  const bytes = (): Uint8Array => sealer.seal(texts(9, 3))!.bytes;
  t.deepEqual(bytes(), bytes(), 'the same every time');
  return undefined;
});

test('servers miss no deadline while texts are sealed', t => {
  const m = machine();
  ok(m, `llmctl load fable-q4_0 --ctx 128; llmctl sched --segment-max 60ms; llmctl audit content on ${RECIPIENT}`);
  ok(m, 'llminfer --json --period 120 --max-tokens 60 --seed 2 Tom > /tmp/served &');
  for (let i = 1; i <= 6; i++) ok(m, `llminfer --seed ${i} --max-tokens 6 Lily`);
  ok(m, 'wait');
  const served = JSON.parse(ok(m, 'cat /tmp/served')) as JsonObject;
  t.like(served, { finish_reason: 'length', server: 'hard', deadline_misses: 0 });
  t.is(ok(m, 'ls /audit/content').trim().split('\n').length, 7);
});

// ── The host's word ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What `arena8 audit replay WORDS` prints, and its status. */
function word(...words: readonly string[]): { status: number; stdout: string; stderr: string } {
  const text = { 1: '', 2: '' };
  const write = (fd: 1 | 2, bytes: Uint8Array): void => {
    text[fd] += Buffer.from(bytes).toString('utf8');
  };
  const status = replayWord([...words, '--image', 'build/boot.cpio'], { write, watched: false });
  return { status, stdout: text[1], stderr: text[2] };
}

test('arena8 audit replay: an exported log, with stored texts', t => {
  inScratch(scratch => {
    for (const [name, text] of Object.entries(made())) {
      fs.mkdirSync(path.dirname(path.join(scratch, name)), { recursive: true });
      fs.writeFileSync(path.join(scratch, name), bytesOf(text));
    }
    const identity = path.join(scratch, 'key');
    fs.writeFileSync(identity, `# an auditor's\n${IDENTITY}\n`);
    const all = word(scratch, '--all', '--identity', identity);
    t.is(all.stderr, '');
    t.is(all.stdout.split('\n').at(-2), '49 requests: 48 agree, 0 differ, 1 not run again');
    t.is(all.status, 0);
    const one = word(scratch, '4', '--identity', identity);
    t.regex(one.stdout, /\nlogits +agrees\n[^]*\nrecord 4: infer agrees\n$/);
    t.deepEqual(word(scratch, '4'), {
      status: 1,
      stdout: '',
      stderr:
        'llmctl: record 4: infer not run again: its prompt is not known: it is stored, encrypted, and --identity opens it\n',
    });
    // Salts of a log that is signed with everybody's key everybody knows.
    const salted = word(scratch, '4', '--prompt', 'Once upon a time there was a little girl');
    t.regex(salted.stdout, /^prompt +agrees\n/m);
    t.is(word(scratch, '4', '--prompt', 'Once upon').status, 1);
    // A text is tokenized as the request had it: with special tokens, or as what is scored. A continued one has no text of its own.
    const given = (number: string, text: string): string =>
      word(scratch, number, '--identity', identity, '--prompt', text).stdout.split('\n').at(-2) ?? '';
    t.is(given('12', '<|endoftext|>Hello'), 'record 12: infer agrees');
    t.regex(
      word(scratch, '14', '--identity', identity, '--prompt', ' and then').stderr,
      /: it continues session 3: its prompt is known by all its token ids only\n$/,
    );
    const scored = path.join(scratch, 'scored');
    fs.writeFileSync(
      scored,
      fs.readFileSync('images/root/usr/share/labs/budget.md', 'utf8').split('\n').slice(0, 6).join('\n'),
    );
    fs.appendFileSync(scored, '\n');
    t.regex(
      word(scratch, '17', '--identity', identity, '--file', scored).stdout,
      /\nloss +agrees\n[^]*score agrees\n$/,
    );
  });
});

test("arena8 audit replay: a machine's own store, with the log's key", t => {
  inScratch(scratch => {
    const key = path.join(scratch, 'key.pem');
    const store = path.join(scratch, 'store');
    fs.mkdirSync(store);
    const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' });
    fs.writeFileSync(key, pem);
    const logKey = parseLogKey(String(pem), 'example.org/log');
    if (isRefusal(logKey)) throw new Error(logKey.message);
    const m = boot({ image, logKey, target: 'cortex-m7', mounts: { '/var/audit': store } });
    ok(
      m,
      'llmctl load fable-q4_0; llminfer --seed 7 --max-tokens 5 Tom and Lily; llminfer --seed 8 --stop " " --max-tokens 9 Tom',
    );
    const numbers = ok(m, 'llmctl audit list --op infer --json').trim().split('\n');
    const [first, second] = numbers.map(line => Number((JSON.parse(line) as JsonObject)['arena8.record']));

    // Without a salt only digests stay uncompared.
    const unsalted = word(store, `${first}`, '--prompt', 'Tom and Lily');
    t.regex(unsalted.stdout, /^prompt +not compared: its salt is not disclosed\n[^]*\nlogits +agrees\n/m);
    t.is(unsalted.status, 0);
    t.regex(word(store, `${first}`, '--log-key', key, '--prompt', 'Tom and Lily').stdout, /\noutput +agrees\n/);
    t.regex(word(store, `${first}`, '--log-key', key, '--prompt', 'Tom and Bob').stdout, /DIFFERS in prompt\n$/);
    t.regex(word(store, `${second}`, '--log-key', key, '--prompt', 'Tom', '--stop', ' ').stdout, /\nfinish +agrees\n/);
    t.regex(
      word(store, `${second}`, '--log-key', key, '--prompt', 'Tom', '--stop', 'x').stdout,
      /DIFFERS in stop strings\n$/,
    );
    t.regex(
      word(store, `${second}`, '--log-key', key, '--prompt', 'Tom').stdout,
      /\nfinish +not compared: its stop strings are not given\n[^]*agrees\n$/,
    );
    const other = path.join(scratch, 'other.pem');
    fs.writeFileSync(other, generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const wrong = word(store, `${first}`, '--log-key', other, '--prompt', 'Tom and Lily');
    t.regex(
      wrong.stderr,
      /^arena8 audit replay: .*other\.pem: not the key of .*store: note: not signed by a known key\n$/,
    );
    t.is(wrong.status, 1);
    const disclosed = path.join(scratch, 'known');
    fs.writeFileSync(
      disclosed,
      `{"record":${first},"prompt":"Tom and Lily"}\n\n{"record":${second},"prompt":"Tom","stops":[" "]}\n`,
    );
    const all = word(store, '--all', '--json', '--log-key', key, '--disclosed', disclosed);
    t.is(all.stdout.trim().split('\n').at(-1), '{"requests":2,"agree":2,"differ":0,"skipped":0}');

    // The log goes on with another power-on, on another processor and disk.
    const next = boot({ image, logKey, target: 'sifive-u74', disks: { vda: 'emmc' }, mounts: { '/var/audit': store } });
    ok(next, 'llmctl load fable-q4_0 --ctx 64 --stream --tile 32K; llminfer --seed 9 --max-tokens 3 Lily');
    const third = Number(
      (JSON.parse(ok(next, 'llmctl audit list --op infer --last 1 --json')) as JsonObject)['arena8.record'],
    );
    fs.appendFileSync(disclosed, `{"record":${third},"prompt":"Lily"}\n`);
    t.is(
      word(store, '--all', '--log-key', key, '--disclosed', disclosed).stdout,
      [first, second, third].map(n => `record ${n}: infer agrees\n`).join('') +
        '3 requests: 3 agree, 0 differ, 0 not run again\n',
    );
  });
});

test('arena8 audit replay: what is wrong is said', t => {
  inScratch(scratch => {
    t.deepEqual(word(), {
      status: 2,
      stdout: '',
      stderr: "arena8 audit replay: DIR and N, or --all\nTry 'arena8 audit replay --help'\n",
    });
    t.is(word('--help').status, 0);
    t.is(word(scratch, '--all', '7').status, 2);
    t.regex(word(scratch, '--all').stderr, /: no audit log: /);
    t.regex(word(path.join(scratch, 'none'), '1').stderr, /none/);
    fs.writeFileSync(path.join(scratch, 'checkpoint'), 'x\n');
    t.regex(word(scratch, '1').stderr, /checkpoint: /);
  });
});

// ── Other hosts ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const PAGE = `
import { Machine, bestBuild } from './boot/machine.ts';
import { PARTS } from './boot/parts.ts';
import { BUILD_DIGEST } from './boot/version.ts';
import { BOOT, carried, makeLog, mounted, replayed } from './tests/support/replaying.ts';
const run = async () => {
  const image = new Uint8Array(await (await fetch('/boot.cpio')).arrayBuffer());
  const theirs = await (await fetch('/log.json')).json();
  const build = bestBuild();
  const lines = replayed(new Machine({ parts: PARTS, image, build, strict: true, mounts: mounted(theirs) }));
  const own = new Machine({ parts: PARTS, ...BOOT, image, build, strict: true });
  makeLog(own);
  return { digest: BUILD_DIGEST, lines, files: carried(own) };
};
globalThis.transcript = run().catch(e => ({ error: String(e && e.stack || e) }));
`;

interface Transcript {
  readonly error?: string;
  readonly digest: string;
  readonly lines: ReturnType<typeof replayed>;
  readonly files: Carried;
}

for (const [name, file] of BROWSERS) {
  const here = existsSync(file);
  const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
  declare(`${file} runs again what Node recorded, and Node what it did`, async t => {
    t.timeout(120_000);
    if (!here) return t.fail(`${file} is missing`);
    const site: Site = new Map([
      ['/page.js', ['text/javascript', await bundled(PAGE)]],
      ['/boot.cpio', ['application/octet-stream', image]],
      ['/log.json', ['application/json', JSON.stringify(made())]],
    ]);
    const page = (await transcriptOf(t, name, file, site)) as Transcript;
    t.is(page.error, undefined);
    t.is(page.digest, BUILD_DIGEST);
    t.deepEqual(page.lines, replayed(other(made())), 'what it says of a log of Node');
    t.deepEqual(page.files, made(), 'its own log, checkpoint and encrypted texts, byte for byte');
    t.deepEqual(replayed(other(page.files)), page.lines, 'what Node says of its log');
    return undefined;
  });
}
