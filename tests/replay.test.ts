// Re-execution: which kernel made a record is told by one digest, the same wherever it is bundled and made by strangers with sha256sum; a prompt
// goes in as the token ids that it was.

import test from 'ava';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { boot, BUILD_DIGEST, type Machine } from '../boot/index.ts';
import { isRefusal } from '../kernel/abi/index.ts';
import { Bench, SESSION_FLAG } from './support/service.ts';

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

// ── The build ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('the digest of the build is what sha256sum says of the sources, the kernels and the certificates', async t => {
  const tools = (await import(new URL('../../tools/digest.mjs', import.meta.url).href)) as {
    readonly recipe: string;
    buildDigest(): string;
  };
  const byHand = execFileSync('bash', ['-c', tools.recipe], { encoding: 'utf8' }).split(' ')[0]!;
  t.is(tools.buildDigest(), byHand);
  t.is(BUILD_DIGEST, byHand);
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
