// What the machine panel reads from the kernel, without a browser: its parsers on the texts of a real machine, whose figures must be those that the shell
// prints of the same moment, and on texts that are none.
import test from 'ava';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { boot } from '../boot/index.ts';
import type { Machine } from '../boot/machine.ts';
import { count, size, time } from '../boot/web/page/panel/format.ts';
import { parseArena, piecesOf, rowBytesOf } from '../boot/web/page/panel/parse-arena.ts';
import { parseAudit, parseHead, rootOf, splitOf, tilesOf, treeOf } from '../boot/web/page/panel/parse-audit.ts';
import type { TreeNode } from '../boot/web/page/panel/parse-audit.ts';
import { bySession, pageText, parsePages } from '../boot/web/page/panel/parse-pages.ts';
import { parseProbe, visible } from '../boot/web/page/panel/parse-probe.ts';
import type { AttentionAnswer, LensAnswer, ProbsAnswer } from '../kernel/abi/index.ts';
import { parsePlan, parseStep } from '../boot/web/page/panel/parse-step.ts';
import { modelFile, openCommand, parseTensors } from '../boot/web/page/panel/parse-tensors.ts';
import { figure, keyed, tabbed } from '../boot/web/page/panel/parse-text.ts';
import { buckets, parseTrace, Timeline } from '../boot/web/page/panel/parse-trace.ts';
import { leftNs, parseLog, parseRun, stretches } from '../boot/web/page/panel/parse-training.ts';
import { LIMITS } from '../kernel/abi/index.ts';
import { random } from './harness.ts';

/** A machine on which something has happened: sessions side by side, with and without a server, one ended. */
function lived(): Machine {
  const machine = boot({ image: readFileSync('build/boot.cpio') });
  for (const line of [
    'llmctl load fable-f16',
    'llminfer --max-tokens 8 Once upon a time',
    'llmctl submit --max-tokens 60 The cat sat on the mat and looked at the dog that sat there all day long in the sun and slept',
    'llmctl submit --max-tokens 60 The cat sat on the mat and looked at the dog that sat there all day long in the sun and slept',
    'llmctl submit --period 400 --max-tokens 12 The dog',
  ])
    if (machine.exec(line).status !== 0) throw new Error(line);
  return machine;
}
const machine = lived();
const text = (path: string): string => new TextDecoder().decode(machine.observe(path) as Uint8Array);
/** Before any test has let the machine go on. */
const [pagesText, kvText, sessionsText] = ['/proc/pages', '/proc/kv', '/proc/sessions'].map(text) as [
  string,
  string,
  string,
];
const plain = (n: number): string => String(n);

test('the arena: the regions of free -v, without a gap', t => {
  const arena = parseArena(text('/proc/arena'))!;
  const printed = machine.exec('free -v').stdout;
  for (const r of [...arena.regions, arena.total]) {
    const line = printed.split('\n').find(l => l.startsWith(`${r.name} `))!;
    t.deepEqual(line.split(/ +/), [r.name, ...[r.startAt, r.endAt, r.bytes, r.used, r.peak].map(plain)]);
  }
  let at = 0;
  for (const r of arena.regions) {
    t.is(r.startAt, at);
    at = r.endAt;
  }
  t.is(at, LIMITS.arenaBytes);
  t.is(parseArena(''), null);
  t.is(parseArena('no such file'), null);
});

test('a map in rows: pieces cover a stretch once, to the byte', t => {
  const next = random(1);
  for (let n = 0; n < 200; n++) {
    const bytes = 1 + Math.floor(next() * LIMITS.arenaBytes);
    const rowBytes = rowBytesOf(bytes, 16);
    t.true(rowBytes * 16 >= bytes && (rowBytes === 32 || rowBytes * 8 < bytes));
    const startAt = Math.floor(next() * bytes);
    const endAt = startAt + Math.floor(next() * (bytes - startAt)) + 1;
    let at = startAt;
    for (const { row, from, to } of piecesOf(startAt, endAt, 0, rowBytes)) {
      t.is(Math.round((row + from) * rowBytes), at);
      t.true(from < 1 && to <= 1 && from < to);
      at = Math.round((row + to) * rowBytes);
    }
    t.is(at, endAt);
  }
});

test('tensors lie in the weights region, and the command of each opens it', t => {
  const weights = parseArena(text('/proc/arena'))!.regions.find(r => r.name === 'weights')!;
  const tensors = parseTensors(text('/proc/tensors'));
  t.is(tensors.length, 56);
  for (const { at, bytes } of tensors) t.true(at >= weights.startAt && at + bytes <= weights.endAt);
  t.is(tensors.find(x => x.name === 'blk.3.ffn_up.weight')!.layer, 3);
  t.is(tensors[0]!.layer, -1);
  for (const name of [tensors[0]!.name, tensors.at(-1)!.name]) {
    const { status, stdout } = machine.exec(openCommand(modelFile(machine.exec('cat /proc/models').stdout), name));
    t.is(status, 0);
    t.regex(stdout, /^count .*\n(.*\n)*histogram /);
  }
  t.is(
    openCommand(modelFile('A /b c /home/user/a b.gguf llama ctx=512 kv=F16 sha256=00\n'), "it's/a"),
    `mkdir -p '/mnt/a b'; [ -d '/mnt/a b/tensors' ] || mount -t gguf '/home/user/a b.gguf' '/mnt/a b'; cat '/mnt/a b/tensors/it'\\''s%2Fa/stats'`,
  );
});

test('pages: counted, they are what /proc/kv says; each session has as many as /proc/sessions says', t => {
  const pages = parsePages(pagesText);
  const kv = keyed(kvText);
  const of = (state: string): number => pages.filter(p => p.state === state).length;
  t.is(pages.filter(p => p.page >= 0).length, figure(kv, 'total'));
  for (const state of ['free', 'cached', 'shared', 'swapped']) t.is(of(state), figure(kv, state), state);
  const sessions = bySession(pages);
  const running = tabbed(sessionsText).filter(row => ['PREFILL', 'DECODE'].includes(row['state']!));
  t.true(running.length > 0);
  for (const row of running) t.is(sessions.get(Number(row['id']))!.length, Number(row['pages']));
  for (const list of sessions.values())
    t.deepEqual(
      list.map(p => p.first),
      list.map((_, i) => i * 32),
    );
  t.is(
    pageText({ page: 3, state: 'shared', sessions: [1, 2], first: 32, positions: 5, at: 0, cells: [] }),
    'Page 3: shared by sessions 1, 2, from position 32, 5 of 32 positions filled.',
  );
});

test('the trace: counted by kind it is /proc/trace, and what each session drew is what it reports', t => {
  const { bytes } = machine.traceSince(0);
  const timeline = new Timeline();
  const events = parseTrace(bytes);
  // In batches, as they come.
  for (let i = 0; i < events.length; i += 7) timeline.add(events.slice(i, i + 7));
  const printed = keyed(machine.exec('cat /proc/trace').stdout);
  t.is(timeline.events, figure(printed, 'events'));
  for (const [kind, n] of timeline.counts) t.is(n, figure(printed, kind), kind);
  for (const row of tabbed(text('/proc/sessions')))
    t.is(timeline.lanes.get(Number(row['id']))!.tokens, Number(row['outputTokens']));
  for (const lane of timeline.lanes.values())
    for (const span of lane.spans) t.true(span.toNs >= span.fromNs, `${lane.session} ${span.kind}`);
  const first = timeline.lanes.get(1)!;
  t.is(first.finish, 'length');
  t.is(first.tokens, 8);
  t.true(first.spans.every(s => s.toNs < Infinity));
  t.is(timeline.passes.length, figure(printed, 'pass'));
  t.is(timeline.tokens.length, figure(printed, 'token'));
  t.deepEqual(parseTrace(new Uint8Array(31)), []);
});

test('charts: every token is in one stretch, and stretches are as few as asked', t => {
  const timeline = new Timeline();
  timeline.add(parseTrace(machine.traceSince(0).bytes));
  const { tokens } = timeline;
  for (const most of [3, 17, 60, 1000]) {
    const b = buckets(tokens, timeline.lastNs, most);
    t.true(b.times.length <= most);
    t.is(Math.round(b.perSecond.reduce((sum, n) => sum + n, 0) * (b.widthNs / 1e9)), tokens.length);
    t.is(b.first.filter(x => x !== null).length <= 4, true);
  }
  const waits = tokens.filter(x => !x.isFirst).map(x => x.waitNs / 1e6);
  const [all] = [buckets(tokens, timeline.lastNs, 1)];
  t.is(all.longest[0], Math.max(...waits));
});

test('the audit log: records in order, and the root of the head hashed again from the tiles', async t => {
  const lines = parseAudit(text('/proc/audit'));
  const head = parseHead(text('/audit/head'))!;
  const printed = machine.exec('llmctl audit head').stdout;
  t.true(printed.includes(head.root) && head.size > 0);
  t.deepEqual(
    lines.map(l => l.record),
    lines.map((_, i) => lines[0]!.record - i),
  );
  t.is(lines.at(-1)!.what, 'boot');
  t.is(lines.find(l => l.what === 'load')!.fields.get('value'), 'package 1 version 1, signed by arena8');
  const hashes: Uint8Array[] = [];
  for (const { path } of tilesOf(head.size)) {
    const tile = machine.observe(path) as Uint8Array;
    for (let i = 0; i < tile.length; i += 32) hashes.push(tile.slice(i, i + 32));
  }
  const root = await rootOf(
    hashes,
    hashes.map(() => 1),
    sha256,
  );
  t.is(Buffer.from(root).toString('base64'), head.root);
  t.is(parseHead(''), null);
});

const sha256 = async (bytes: Uint8Array): Promise<Uint8Array> => createHash('sha256').update(bytes).digest();
const leavesOf = (node: TreeNode): TreeNode[] => (node.children === null ? [node] : node.children.flatMap(leavesOf));

/** RFC 6962 §2.1, written down once more. */
function rootAfterRfc(leaves: readonly Uint8Array[]): Buffer {
  if (leaves.length === 1) return Buffer.from(leaves[0]!);
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  const [left, right] = [rootAfterRfc(leaves.slice(0, k)), rootAfterRfc(leaves.slice(k))];
  return createHash('sha256')
    .update(Buffer.from([1]))
    .update(left)
    .update(right)
    .digest();
}

test('trees of any size: leaves in order, closed subtrees whole, and roots from tiles of two levels', async t => {
  for (const n of [1, 2, 3, 7, 8, 17, 255, 256, 257, 600, 1024]) {
    let at = 0;
    for (const node of leavesOf(treeOf(n, n - 16))) {
      t.is(node.from, at);
      t.is(node.leaves & (node.leaves - 1), 0);
      t.true(node.leaves === 1 || node.from + node.leaves <= n - 16);
      at += node.leaves;
    }
    t.is(at, n);
    if (n > 1) t.true(splitOf(n) < n && splitOf(n) * 2 >= n);
    const leaves = Array.from({ length: n }, (_, i) => createHash('sha256').update(String(i)).digest());
    const hashes: Uint8Array[] = [];
    const counts: number[] = [];
    for (const { level } of tilesOf(n)) {
      const full = Math.floor(n / 256);
      if (level === 1) for (let i = 0; i < full; i++) hashes.push(rootAfterRfc(leaves.slice(256 * i, 256 * i + 256)));
      else hashes.push(...leaves.slice(256 * full));
      while (counts.length < hashes.length) counts.push(256 ** level);
    }
    t.deepEqual(Buffer.from(await rootOf(hashes, counts, sha256)), rootAfterRfc(leaves));
  }
});

test('steps: the plan costs what its ops cost, and an op held in the middle of a pass is told whole', t => {
  const held = lived();
  held.stopAt = 'op';
  for (let n = 0; n < 5; n++) while (held.run(1) !== 'stopped');
  const read = (path: string): string => new TextDecoder().decode(held.observe(path) as Uint8Array);
  const plan = parsePlan(read('/proc/plan'));
  const step = parseStep(read('/proc/step'));
  t.is(step.state, 'held');
  t.is(step.ops, plan.length);
  t.is(step.left, step.bound - step.cycles);
  const op = plan[step.index]!;
  t.true(read('/proc/step').includes(`\nop ${op.op}\nlayer ${op.layer}\nname ${op.name}\n`));
  t.true(step.places.length > 0 && step.rows.length > 0);
  t.true(step.rows.every(r => /^\d+$/.test(r.position) && /^\d+$/.test(r.token) && Number(r.session) > 0));
  for (const { least, most, compute, memory, overhead } of plan) {
    t.true(least <= most);
    t.true(Math.abs(compute + memory + overhead - most) <= 2, `${most}`);
  }
  t.deepEqual(parsePlan(''), []);
  t.is(parseStep('').state, 'none');
  t.is(parseStep('state denied\nwhy it must not be inspected\n').why, 'it must not be inspected');
  const at = parseStep('state held\nindex 2\nplane kPlane 4096 3 7\nword rows 64\n');
  t.deepEqual(at.places, [{ name: 'kPlane', shape: '-', at: 4096, region: 'kv', what: 'from there on in pages 3 7' }]);
  t.deepEqual(at.words, [['rows', '64']]);
});

test('looks into a step: what the machine tells, or its refusal in words', t => {
  const looked = lived();
  const look = (what: 'probs' | 'attention' | 'lens'): string => {
    const told = looked.probe({ session: 0, what, layer: 1, head: 2, top: 4 });
    return typeof told === 'string' ? told : JSON.stringify({ refused: told.message });
  };
  const probs = parseProbe<ProbsAnswer>(look('probs'), 'probs') as ProbsAnswer;
  t.is(probs.top.length, 4);
  for (const { probabilities } of probs.top) t.is(probabilities.length, probs.stages.length);
  const attention = parseProbe<AttentionAnswer>(look('attention'), 'attention') as AttentionAnswer;
  t.is(attention.row.length, attention.position + 1);
  const lens = parseProbe<LensAnswer>(look('lens'), 'lens') as LensAnswer;
  t.is(lens.layers.length, attention.layers + 1);
  t.is(parseProbe<LensAnswer>(look('probs'), 'lens'), '', 'another look is none');
  t.is(parseProbe<LensAnswer>('{"refused":"no session"}', 'lens'), 'no session');
  t.is(parseProbe<LensAnswer>('', 'lens'), '');
  t.is(visible(' a\n'), '␣a⏎');
});

test('figures as people read them', t => {
  t.deepEqual([0, 999, 1000, 2628096, NaN].map(count), ['0', '999', '1,000', '2,628,096', '–']);
  t.deepEqual([64, 8192, 2628096].map(size), ['64 B', '8.00 KiB', '2.51 MiB']);
  t.deepEqual([999, 1500, 26080000, 1.5e9].map(time), ['999 ns', '1.50 µs', '26.1 ms', '1.50 s']);
});

test('a training: its log in stretches, however long it is and wherever it ends', t => {
  const update = (step: number): string =>
    JSON.stringify({
      step,
      epoch: 1,
      loss: 8 - step,
      rate: 0.01,
      gradient_norm: 1,
      tokens: 50,
      elapsed_ns: step * 1e9,
    });
  const look = (step: number): string => JSON.stringify({ step, held_out_loss: 4 - step / 8, targets: 9 });
  const lines = [look(0), ...[1, 2, 3, 4, 5].map(update), look(5), update(6)];
  const log = parseLog(`${lines.join('\n')}\n{"step":7,"epo`);
  t.is(log.updates.length, 6);
  t.deepEqual(
    log.looks.map(l => l.step),
    [0, 5],
  );
  t.deepEqual(
    stretches(log, 3).map(s => [s.last.step, s.loss, s.tokensPerSecond, s.heldOut]),
    [
      [2, 6.5, 50, 4],
      [4, 4.5, 50, null],
      [6, 2.5, 50, 3.375],
    ],
  );
  t.is(stretches(log, 100).length, 6);
  t.is(leftNs(log, 10), 4e9);
  t.is(leftNs(parseLog(''), 10), NaN);
  t.deepEqual(parseLog('no such file\n[1]\nnull\n{"step":1}'), { updates: [], looks: [] });
  t.deepEqual(parseRun('{"settings":{"method":"nes"},"course":{"steps":12},"state":"running"}\n'), {
    method: 'nes',
    steps: 12,
    state: 'running',
  });
  t.deepEqual(parseRun(''), { method: '', steps: 0, state: '' });
});
