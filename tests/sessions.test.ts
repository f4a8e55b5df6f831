// Sessions side by side: whatever the order of arrival, the passes they share, who is preempted, swapped out or cancelled, each says what it
// says alone, to the bit, and is charged what it is charged alone. No admitted server misses a deadline, and every ledger agrees with every
// other after every segment.

import test from 'ava';
import { setImmediate } from 'node:timers/promises';
import {
  E,
  FAULT,
  FINISH,
  GGML_TYPE,
  isRefusal,
  LIMITS,
  PickRecord,
  QUOTA_SET,
  RowRecord,
  SCHED_KEEP,
  SERVER,
  SESSION_FLAG,
  SESSION_KIND,
  StepBlock,
  type RecordValue,
  type SchedOptions,
} from '../kernel/abi/index.ts';
import { dearestRun } from '../kernel/segments.ts';
import { random, soak } from './harness.ts';
import { Bench, PID, type Options, type Outcome } from './support/service.ts';
import { below, compare, freshSeen, oneOf, wishOf } from './support/wishes.ts';

const KEEP = {
  policy: SCHED_KEEP,
  boundPpm: SCHED_KEEP,
  segmentCycles: SCHED_KEEP,
  paceScale: SCHED_KEEP,
  paceAuto: SCHED_KEEP,
  batch: SCHED_KEEP,
};

function setScheduler(bench: Bench, options: Partial<RecordValue<typeof SchedOptions.fields>>): void {
  const refusal = bench.kernel.sessions.configure({ ...KEEP, ...options });
  if (refusal !== null) throw new Error(refusal.message);
}

for (const [name, request, schedules] of [
  ['fable-f16', { ctx: 128, pages: 14, sessions: 32 }, 2],
  ['fable-q4_0', { ctx: 96, pages: 120, sessions: 5, batch: 4 }, 1],
] as const)
  test(`32 sessions on ${name}, ${request.pages} pages: the same to the bit as each alone`, async t => {
    t.timeout(600_000);
    const next = random(name.length);
    const bench = new Bench();
    bench.load(name, request);
    const seen = freshSeen();
    for (let i = 0; i < (soak ? 20 : 1) * schedules; i++) {
      const mix = { wordsMax: 20, tokensMax: 30, users: 3, servers: i % 2 === 0 };
      const wishes = Array.from({ length: 32 }, () => wishOf(next, bench, mix));
      await compare(t, bench, next, wishes, seen);
    }
    const { swapOuts, swapIns, copies, prefixTokens, evictions } = bench.kernel.pool.figures();
    const { preemptions, passes } = bench.kernel.sessions.schedule();
    t.log({ ...seen, swapOuts, swapIns, copies, prefixTokens, evictions, preemptions, passes });
  });

// ── Schedules without arithmetic ─────────────────────────────────────────────────────────────────────────────────────────────────

test('schedules of the stub, which computes nothing: ledgers agree after every segment, no deadline is missed', async t => {
  t.timeout(3_600_000);
  const next = random(77);
  const bench = new Bench();
  const seen = freshSeen();
  for (let i = 0; i < (soak ? 400 : 12); i++) {
    const ctx = oneOf(next, [64, 128, 256]);
    const pages = Math.ceil(ctx / 32) + below(next, oneOf(next, [2, 8, 60]));
    bench.load('stub', { ctx, pages, sessions: 1 + below(next, 32), batch: 1 + below(next, 32) });
    const policy = next() < 0.7 ? 0 : 1 + below(next, 2);
    setScheduler(bench, { policy });
    for (let j = 0; j < 10; j++) {
      const mix = { wordsMax: 8, tokensMax: 40, users: 4, servers: true };
      const wishes = Array.from({ length: 1 + below(next, 32) }, () => wishOf(next, bench, mix));
      await compare(t, bench, next, wishes, seen);
    }
  }
  t.log(seen, bench.kernel.sessions.schedule());
});

// ── Admission ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a request is refused with: `code message`. */
function refusal(bench: Bench, text: string, options: Options, uid = 0): string {
  const r = bench.submit(text, options, uid);
  return r === null ? 'no time' : isRefusal(r) ? `${r.code} ${r.message}` : 'admitted';
}

test('requests are refused in the specified order, each with the number that would do', t => {
  const bench = new Bench();
  const { kernel } = bench;
  t.is(refusal(bench, 'a', {}).slice(0, 8), 'admitted');
  kernel.sessions.closeOwnedBy(PID);
  bench.load('stub', { ctx: 512, pages: 40, sessions: 32 });
  const set = QUOTA_SET.tokens;
  kernel.quotas.set({ uid: 7, set, tokensPerHour: 100, cyclesPerHour: 0, kvBytes: 0, sessions: 0 });
  const tooLong = 'a'.repeat(2049);
  const tooLongForContext = 'a'.repeat(500);
  const server = { server: SERVER.hard, periodNs: 1000 };

  // Each request is wrong in every way from its line on; the first counts.
  t.is(refusal(bench, tooLong, { maxTokens: 600, ...server, topP: 0 }, 7), '7001 top-p 0 is not in 0…1, 0 excluded');
  t.is(refusal(bench, '', { maxTokens: 600 }, 7), '4001 empty prompt after tokenization');
  t.is(refusal(bench, tooLong, { maxTokens: 600, ...server }, 7), '2002 prompt is 2049 tokens, 2048 at most');
  t.is(refusal(bench, tooLongForContext, { maxTokens: 600, ...server }, 7), '2002 max-tokens 600 asked, 512 at most');
  const open = Array.from({ length: 32 }, () => bench.accepted('a', { maxTokens: 1 }));
  t.is(refusal(bench, tooLongForContext, { maxTokens: 512, ...server }, 7), '3002 32 sessions are live, 32 at most');
  for (const handle of open) bench.finish(handle);
  t.is(
    refusal(bench, tooLongForContext, { maxTokens: 512, ...server }, 7),
    '3002 all 32 slots are taken by sessions that are still open; one must be closed',
  );
  for (const handle of open) kernel.sessions.close(handle);
  t.is(
    refusal(bench, tooLongForContext, { maxTokens: 512, ...server }, 7),
    '3003 user 7 asked 512 tokens, 100 left until 01:00:00, and 100 an hour',
  );
  kernel.budget.configure({ wcetCycles: 0, periodNs: 1e12, maxTokens: 50 });
  t.regex(
    refusal(bench, tooLongForContext, { maxTokens: 90, ...server }, 7),
    /^3003 90 tokens asked, 50 of the machine's 50 a period left until 00:16:40/,
  );
  t.is(
    refusal(bench, tooLongForContext, { maxTokens: 20, ...server }, 7),
    '2003 prompt 500 + generation 20 tokens > context 512; 12 would fit',
  );
  kernel.budget.configure({ wcetCycles: 0, periodNs: 0, maxTokens: 0 });
  t.regex(
    refusal(bench, 'a', { maxTokens: 20, ...server, budgetCycles: 10 }, 7),
    /^7001 a budget of 10 cycles: its dearest step takes \d+$/,
  );
  t.regex(
    refusal(bench, 'a', { maxTokens: 20, ...server }, 7),
    /^3002 \d+ cycles every 0\.001 ms are \d+ ppm; servers use 0 of 850000, 850000 left; the shortest period that would do is [\d.]+ ms$/,
  );
  t.regex(
    refusal(bench, 'a', { maxTokens: 20, server: SERVER.hard, periodNs: 1e10, deadlineNs: 1000 }, 7),
    /^3002 \d+ cycles every 10000000000 ns end it within \d+ ns, 1000 ns were asked$/,
  );
  const pages = { server: SERVER.hard, periodNs: 1e9, maxTokens: 130 };
  const kept = Array.from({ length: 6 }, () => bench.accepted('a'.repeat(62), pages)); // 6 pages each
  t.is(
    refusal(bench, 'a'.repeat(62), { ...pages, maxTokens: 512 - 62 }),
    '3001 16 pages are to be kept for it, 4 of 40 are left',
  );
  t.is(kernel.sched.figures().servers, 6);
  const q = kernel.quotas.get(7);
  t.like(q, { tokensReserved: 0, cyclesReserved: 0, kvBytesUsed: 0, sessionsUsed: 0 });
  for (const handle of kept) kernel.sessions.close(handle);
  t.is(kernel.sched.figures().usedPpm, 0);
  t.deepEqual(bench.kernel.pool.figures().free + bench.kernel.pool.figures().cached, 40);

  t.is(
    refusal(bench, 'a', { parent: 4711 }),
    '7001 no session 4711 to continue: it was closed, or its memory was wanted',
  );
  const queued = bench.accepted('a', {});
  t.is(
    refusal(bench, 'a', { parent: bench.report(queued).id }),
    `7001 session ${bench.report(queued).id} has not ended`,
  );
  t.regex(refusal(bench, 'a', { server: 3 }), /^7001 unknown server 3$/);
  t.regex(
    refusal(bench, 'a', { server: 1 }),
    /^7001 a server without a period, and without a deadline that could be one$/,
  );
  t.regex(refusal(bench, 'a', { priority: 32 }), /^7001 priority 32 is not in 0…31$/);
  t.regex(refusal(bench, 'a', { kind: 1, ...server }), /^7001 a text is scored by itself, and without a server$/);
});

test('every request has its entry in the audit ring, refused and cancelled ones too', t => {
  const bench = new Bench();
  bench.load('stub', { ctx: 64 });
  const entries = (): string[] => bench.kernel.audit!.lines(0).filter((l: string) => l.includes('op=3'));
  const before = entries().length;
  bench.finish(bench.accepted('one', { maxTokens: 2 }, 5));
  t.not(refusal(bench, 'two', { maxTokens: 600 }, 5), 'admitted');
  const cancelled = bench.accepted('three', { maxTokens: 9 }, 6);
  bench.kernel.sessions.cancel(cancelled);
  bench.finish(bench.accepted('four', { maxTokens: 9, timeoutMs: 1 }, 6));
  t.not(refusal(bench, 'five', { maxTokens: 2, topP: 7 }, 6), 'admitted');
  const lines = entries().slice(0, 5);
  t.is(entries().length - before, 5);
  t.regex(lines[4]!, /op=3 prompt_len=3 tokens=2 .* status=1 .* what=infer user=5 code=0 session=\d+ finish=length /);
  t.regex(lines[3]!, /op=3 prompt_len=3 tokens=0 .* status=2 .* what=reject user=5 code=2002 /);
  t.regex(lines[2]!, /op=3 prompt_len=5 tokens=0 .* status=1 .* what=cancel user=6 code=2005 /);
  t.regex(lines[1]!, / what=timeout user=6 code=2004 /);
  t.regex(lines[0]!, /op=3 prompt_len=0 tokens=0 .* status=2 .* what=reject user=6 code=7001 /);
  // Users see their own, and what concerns all.
  t.deepEqual(
    bench.kernel.audit!.lines(5).filter((l: string) => l.includes('op=3')),
    [lines[3], lines[4]],
  );
});

// ── Whose sessions ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('users see sessions of their own, the superuser all; old handles find nothing', t => {
  const { sessions } = new Bench().kernel;
  const bench = new Bench();
  bench.load('stub', { ctx: 64 });
  const { kernel } = bench;
  const [ada, bob, root] = [
    { pid: 1, uid: 1000 },
    { pid: 2, uid: 1001 },
    { pid: 3, uid: 0 },
  ];
  const handle = bench.accepted('secret', { maxTokens: 3 }, ada.uid);
  const { id } = bench.report(handle);
  const at = kernel.lay.windowAt;
  for (const caller of [ada, root]) {
    t.is(kernel.sessions.find(id, caller), handle);
    t.is((kernel.sessions.report(handle, caller) as { id: number }).id, id);
  }
  t.is(kernel.sessions.find(id, bob), -E.SRCH);
  t.is(kernel.sessions.report(handle, bob), -E.ACCES);
  t.is(kernel.sessions.read(handle, at, 1000, bob), -E.ACCES);
  t.is(kernel.sessions.tokens(handle, 0, at, 1000, bob), -E.ACCES);
  t.is(kernel.sessions.cancel(handle, bob), -E.ACCES);
  t.is(kernel.sessions.close(handle, bob), -E.ACCES);
  t.is(kernel.sessions.list(bob.uid).split('\n').length, 2);
  t.is(kernel.sessions.list(ada.uid).split('\n').length, 3);
  t.regex(refusal(bench, 'x', { parent: id }, bob.uid), /^7001 no session/);
  bench.finish(handle);
  t.is(kernel.sessions.close(handle, ada), 0);
  t.is(kernel.sessions.report(handle, ada), -E.BADF);
  const next = bench.accepted('again', {}, ada.uid);
  t.not(next, handle); // the same slot, another generation
  t.is(next % 32, handle % 32);
  t.is(kernel.sessions.read(handle, at, 1000, ada), -E.BADF);
  for (const bad of [-1, 0, 1, 2 ** 31 - 1]) t.is(kernel.sessions.close(bad, ada), -E.BADF);
  t.is(sessions.close(-5, root), -E.BADF);
});

test('a prefix is shared with sessions of the same user only, and costs both the same', t => {
  const bench = new Bench();
  bench.load('fable-f16', { ctx: 128 });
  const text = 'Once upon a time there was a little girl named Lily who had a dog and a cat and a bird in a tree';
  const options = { maxTokens: 12, seed: 3 };
  const alone = bench.alone(text, options, 1);
  const { cycles: before } = bench.kernel.clock.record();
  const again = bench.finish(bench.accepted(text, options, 1));
  const took = bench.kernel.clock.record().cycles - before;
  const other = bench.finish(bench.accepted(text, options, 2));
  const { tokens, text: said, cycles } = alone;
  t.like(again, { tokens, text: said, cycles });
  t.like(other, { tokens, text: said, cycles });
  t.is(again.report.sharedTokens, alone.report.promptTokens - 1);
  t.is(other.report.sharedTokens, 0);
  t.true(took < cycles / 2, 'the prompt was not computed again');
});

// ── Follow-ups ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Ids that a session has read and said. */
function historyOf({ kernel, machine }: Bench, handle: number): number[] {
  const at = kernel.lay.windowAt;
  const bytes = kernel.sessions.tokens(handle, 0, at, LIMITS.windowBytes);
  return [...machine.arena.u32.subarray(at >> 2, (at + bytes) >> 2)];
}

test('a follow-up reads what the session before has read and said: as one prompt would, with its keys and values', t => {
  const bench = new Bench();
  bench.load('stub', { ctx: 256 });
  const first = bench.accepted('tell me ', { maxTokens: 10, seed: 1 }, 1);
  const said = bench.finish(first);
  const text = 'tell me ' + Buffer.from(said.text, 'base64').toString();
  const parent = bench.report(first).id;
  const second = bench.accepted('more', { maxTokens: 20, seed: 2, parent }, 1);
  t.is(bench.report(second).parent, parent);
  const follow = bench.finish(second);
  const { tokens, cycles } = bench.alone(`${text}more`, { maxTokens: 20, seed: 2 }, 1);
  t.like(follow, { tokens, cycles });
  t.is(
    follow.report.sharedTokens,
    said.report.promptTokens + said.report.outputTokens - 1,
    'all but the token drawn last was there',
  );
});

test('a follow-up on a model: the same bits whether keys and values are still there or not, behind the end of a story too', t => {
  const bench = new Bench();
  bench.load('fable-f16', { ctx: 256 });
  const tell = (forgets: boolean): { history: number[]; outcome: Outcome } => {
    bench.forget();
    const first = bench.accepted('Once upon a time', { maxTokens: 20, temp: 0 }, 1);
    bench.finish(first);
    const { kernel } = bench;
    const { id } = bench.report(first);
    if (forgets) bench.forget();
    const second = bench.accepted(' Then the dog', { maxTokens: 16, temp: 0.7, seed: 9, parent: id }, 1);
    const outcome = bench.finish(second);
    const [before, history] = [historyOf(bench, first), historyOf(bench, second)];
    t.deepEqual(history.slice(0, before.length), before);
    for (const handle of [first, second]) kernel.sessions.close(handle);
    return { history, outcome };
  };
  const [kept, forgotten] = [tell(false), tell(true)];
  t.deepEqual(kept.history, forgotten.history);
  const { tokens, cycles } = forgotten.outcome;
  t.like(kept.outcome, { tokens, cycles });
  t.true(kept.outcome.report.sharedTokens > 20);
  t.is(forgotten.outcome.report.sharedTokens, 0);
});

test('detached sessions outlive their process, are evicted oldest first, and go with their model', t => {
  const bench = new Bench();
  bench.load('stub', { ctx: 64, sessions: 2 });
  const { kernel } = bench;
  const submit = (text: string, flags: number): number => {
    const handle = bench.submit(text, { maxTokens: 3, flags }, 1, 77);
    if (handle === null || isRefusal(handle)) throw new Error('refused');
    return handle;
  };
  const first = submit('first', SESSION_FLAG.detached);
  while (bench.step());
  const second = submit('second', SESSION_FLAG.detached);
  const attached = submit('third', 0);
  kernel.sessions.closeOwnedBy(77);
  t.is(kernel.sessions.report(attached), -E.BADF);
  while (bench.step());
  t.is(FINISH[bench.report(first).finish], 'length');
  t.is(FINISH[bench.report(second).finish], 'length');
  bench.finish(bench.accepted('wants a slot', {}, 2));
  t.is(kernel.sessions.report(first), -E.BADF);
  t.is(bench.finish(second).tokens.length, 3); // read long after its end
  bench.load('stub', { ctx: 64 });
  t.is(bench.submit('x', { parent: 2 }) === null, false);
  t.is(kernel.sessions.report(second), -E.BADF);
});

test('who came after another in the same slot was not preempted by anybody; the longest segment is that of this model', t => {
  const bench = new Bench();
  bench.load('stub', { ctx: 64 });
  for (let i = 0; i < 3; i++) t.is(bench.alone('one after the other', { maxTokens: 8 }).report.preemptions, 0);
  t.is(bench.kernel.sessions.schedule().preemptions, 0);
  t.true(bench.kernel.sessions.schedule().segmentSeen > 0);
  bench.load('stub', { ctx: 32 });
  t.is(bench.kernel.sessions.schedule().segmentSeen, 0);
});

test('a budget of one dearest step is enough, and the dearest rows are found wherever they stand', t => {
  const bench = new Bench();
  bench.load('fable-q8_0', { ctx: 96, kvType: GGML_TYPE.Q4_0 });
  const options = { maxTokens: 59, temp: 0, timeoutMs: 3_600_000, server: SERVER.hard, periodNs: 2e9 };
  const { tokens, report } = bench.alone('Once upon a time', options); // 5 tokens
  t.is(report.promptTokens + tokens.length, 64);
  t.true(report.endedNs - report.beganNs <= report.responseNs);
  const { stepMax, segmentMax } = bench.kernel.sessions.schedule();
  const costs = Array.from({ length: 96 }, (_, pos) => bench.kernel.loader.prices().bodyPosition(pos));
  t.true(stepMax > Math.max(...costs) && segmentMax >= stepMax);
  // Where a block of keys is full a row may cost less than the one before: the last rows need not be the dearest.
  const next = random(62);
  for (let round = 0; round < 200; round++) {
    const [to, n] = [1 + Math.floor(40 * next()), 1 + Math.floor(12 * next())];
    const cost = Array.from({ length: to }, () => Math.floor(1000 * next()));
    const runs = cost.map((_, from) => cost.slice(from, from + n).reduce((a, x) => a + x, 0));
    t.is(
      dearestRun(to, n, pos => cost[pos]!),
      Math.max(...runs),
    );
  }
});

test('figures count what sessions that run have so far', t => {
  const bench = new Bench();
  bench.load('stub', { ctx: 64 });
  const handle = bench.accepted('one two', { maxTokens: 8 });
  while (bench.report(handle).outputTokens < 3) bench.step();
  const { promptTokens, outputTokens, cycles } = bench.report(handle);
  const stats = bench.kernel.sessions.stats();
  t.deepEqual([stats.promptTokens, stats.outputTokens, stats.cyclesTotal], [promptTokens, outputTokens, cycles]);
});

// ── Figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('figures of the service, of reports, quotas, the trace and the clock are the same', async t => {
  const next = random(5);
  const bench = new Bench();
  bench.load('stub', { ctx: 128, pages: 20 });
  const { kernel } = bench;
  const clockBefore = kernel.clock.record();
  const wishes = Array.from({ length: 40 }, () =>
    wishOf(next, bench, { wordsMax: 8, tokensMax: 40, users: 3, servers: true }),
  );
  const outcomes = bench.together(wishes);
  const ended = outcomes.filter(o => o !== null);
  const stats = kernel.sessions.stats();
  const sum = (of: (o: Outcome) => number): number => ended.reduce((n, o) => n + of(o), 0);
  t.is(stats.sessionsTotal, ended.length);
  t.is(stats.rejects, outcomes.length - ended.length);
  t.is(
    stats.outputTokens,
    sum(o => o.tokens.length),
  );
  t.is(
    stats.promptTokens,
    sum(o => o.report.promptTokens),
  );
  t.is(
    stats.cyclesTotal,
    sum(o => o.cycles),
  );
  t.is(stats.cancelled, ended.filter(o => o.finish === 'cancel').length);
  t.is(stats.sessionsActive + stats.queueDepth, 0);
  t.is(stats.prefixTokens, kernel.pool.figures().prefixTokens);
  t.is(stats.pagesFree + stats.pagesCached, stats.pagesTotal);
  t.is(
    sum(o => o.report.swapIns),
    stats.swapIns,
  );
  const quotas = [1, 2, 3].map(uid => kernel.quotas.get(uid));
  t.is(
    quotas.reduce((n, q) => n + q.tokensUsed, 0),
    stats.outputTokens,
  );
  t.is(
    quotas.reduce((n, q) => n + q.cyclesUsed, 0),
    stats.cyclesTotal,
  );
  const events = kernel['trace'].counts();
  t.is(events.submit, stats.sessionsTotal);
  t.is(events.end, stats.sessionsTotal);
  t.is(events.reject, stats.rejects);
  t.is(events.token, stats.outputTokens);
  t.is(events.pass, stats.passes);
  t.is(events.preempt, kernel.sessions.schedule().preemptions);
  t.is(events['swap-out'], stats.swapOuts);
  t.is(events['swap-in'], stats.swapIns);
  t.is(events.copy, stats.copies);
  t.is(
    events.miss,
    stats.deadlineMisses + kernel.sched.figures().misses - ended.filter(o => o.finish === 'timeout').length,
  );
  const clock = kernel.clock.record();
  const spent = clock.plan + clock.kernels - clockBefore.plan - clockBefore.kernels;
  t.is(stats.savedCycles, Math.max(0, stats.cyclesTotal - spent));
  await setImmediate();
});

test('what a mix takes is exact: with its pages nobody waits or is swapped, and with one less the last promise is refused', t => {
  const next = random(11);
  const bench = new Bench();
  const pagesOf = ([prompt, generate]: readonly [number, number]): number => Math.ceil((prompt + generate - 1) / 32);
  for (let i = 0; i < (soak ? 200 : 15); i++) {
    const sizes = Array.from(
      { length: 2 + below(next, 12) },
      () => [1 + below(next, 90), 2 + below(next, 60)] as const,
    );
    const pages = Math.max(6, sizes.reduce((n, size) => n + pagesOf(size), 0)); // prettier-ignore
    const text = (j: number): string => String.fromCharCode(65 + j).repeat(sizes[j]![0]);
    const server = { server: SERVER.hard, periodNs: 1e12 };

    bench.load('stub', { ctx: 160, pages, sessions: 32 });
    const before = bench.kernel.pool.figures().swapOuts;
    const live = sizes.map(([, maxTokens], j) => bench.accepted(text(j), { maxTokens }));
    while (bench.step()) {
      t.is(bench.kernel.sessions.queueDepth(), 0);
      t.false(bench.service.table.live().some(s => s.isSuspended));
    }
    t.is(bench.kernel.pool.figures().swapOuts, before);
    for (const handle of live) bench.kernel.sessions.close(handle);

    const promised = sizes.map(([, maxTokens], j) => bench.accepted(text(j), { maxTokens, ...server }));
    for (const handle of promised) bench.kernel.sessions.close(handle);
    if (sizes.reduce((n, size) => n + pagesOf(size), 0) - 1 < 5) continue;
    bench.load('stub', { ctx: 160, pages: pages - 1, sessions: 32 });
    const answers = sizes.map(([, maxTokens], j) => refusal(bench, text(j), { maxTokens, ...server }));
    const last = pagesOf(sizes.at(-1)!);
    t.deepEqual(
      answers.slice(0, -1),
      sizes.slice(1).map(() => 'admitted'),
    );
    t.is(
      answers.at(-1),
      `3001 ${last} ${last === 1 ? 'page is' : 'pages are'} to be kept for it, ${last - 1} of ${pages - 1} are left`,
    );
    bench.kernel.sessions.closeOwnedBy(PID);
  }
});

// ── Other ways to run ────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('whose values are not finite is found among several in a pass: one session faults, the others say what they say alone', t => {
  const bench = new Bench();
  bench.load('fable-f16', { ctx: 128 });
  const texts = ['Once upon a time', 'The dog', 'A cat had', 'In the park'];
  const options = { maxTokens: 8, temp: 0 };
  const alone = texts.map(text => bench.alone(text, options));
  bench.forget();
  const live = texts.map(text => bench.accepted(text, options));
  const sick = bench.report(live[2]!).id;
  const { compute, lay } = bench.service;
  const { run } = compute;
  // A pass with a row of that session behind its prompt is not finite.
  const spoilt = (stepAt: number, opAt: number): number => {
    const { u32, i32 } = bench.machine.arena;
    const rows = i32[(stepAt + StepBlock.at.n) >> 2]!;
    const row = Array.from({ length: rows }, (_, i) => (lay.rowsAt + i * RowRecord.bytes) >> 2).findIndex(
      r => u32[r + 3] === sick && u32[r + 1]! > 5,
    );
    if (opAt !== bench.engine.bodyAt || row < 0) return run(stepAt, opAt);
    i32[(stepAt + StepBlock.at.failed) >> 2] = row;
    return FAULT.nan;
  };
  Object.assign(compute, { run: spoilt });
  const outcomes = live.map(handle => bench.finish(handle));
  Object.assign(compute, { run });
  t.deepEqual(outcomes.map(o => o.finish), ['length', 'length', 'fault', 'length']); // prettier-ignore
  for (const i of [0, 1, 3]) t.like(outcomes[i]!, { tokens: alone[i]!.tokens, cycles: alone[i]!.cycles });
  t.deepEqual(outcomes[2]!.tokens, alone[2]!.tokens.slice(0, outcomes[2]!.tokens.length));
  bench.check();
});

test('whose logits are not finite is found among those of one head: one session faults, the others say what they say alone', t => {
  const bench = new Bench();
  bench.load('fable-f16', { ctx: 128 });
  const text = `${'Once upon a time there was a little girl named Lily. '.repeat(4)}`;
  const wishes = [
    ...['Once upon a time', 'The dog', 'A cat had'].map(prompt => ({ prompt, options: { maxTokens: 8, logitsK: 3 } })),
    { prompt: text, options: { kind: SESSION_KIND.score, maxTokens: 1 } },
    { prompt: `The ${text}`, options: { kind: SESSION_KIND.score, maxTokens: 1 } },
  ];
  const alone = wishes.map(({ prompt, options }) => bench.alone(prompt, options));
  for (const sick of [1, 4]) {
    bench.forget();
    const live = wishes.map(({ prompt, options }) => bench.accepted(prompt, options));
    const { id } = bench.report(live[sick]!);
    const { compute, lay } = bench.service;
    const { run } = compute;
    let shared = 0;
    // Behind position 6 the logits of that session's rows are not finite.
    const spoilt = (stepAt: number, opAt: number): number => {
      const status = run(stepAt, opAt);
      if (opAt !== bench.engine.headAt) return status;
      const { u8 } = bench.machine.arena;
      const picks = StepBlock.read(u8, stepAt).picks;
      for (let i = 0; i < picks; i++) {
        const { row } = PickRecord.read(u8, lay.picksAt + i * PickRecord.bytes);
        const { session, pos } = RowRecord.read(u8, lay.rowsAt + row * RowRecord.bytes);
        if (session === id && pos > 6)
          PickRecord.write(u8, lay.picksAt + i * PickRecord.bytes, { row, fault: FAULT.nan });
        if (session === id && pos > 6 && picks > 1) shared++;
      }
      return status;
    };
    Object.assign(compute, { run: spoilt });
    const outcomes = live.map(handle => bench.finish(handle));
    Object.assign(compute, { run });
    t.true(shared > 0, 'it was not alone');
    for (const [i, { finish, tokens, text: said, tops, cycles }] of outcomes.entries())
      if (i !== sick)
        t.like(
          { tokens, text: said, tops, cycles },
          { tokens: alone[i]!.tokens, text: alone[i]!.text, tops: alone[i]!.tops, cycles: alone[i]!.cycles },
        );
      else t.is(finish, 'fault');
    t.deepEqual(outcomes[sick]!.tokens, alone[sick]!.tokens.slice(0, outcomes[sick]!.tokens.length));
    bench.check();
    for (const handle of live) bench.kernel.sessions.close(handle);
  }
});

test('however many rows a head takes at once, sessions say, measure and are charged the same', t => {
  const texts = ['Once upon a time', 'The dog', 'A cat had', 'In the park'];
  const long = 'Once upon a time there was a little girl named Lily. '.repeat(6);
  const outcomes = [1, 3, 8, 32].map(draws => {
    const bench = new Bench();
    bench.load('fable-q4_0', { ctx: 128, batch: 32, draws });
    let [heads, picks] = [0, 0];
    const { compute } = bench.service;
    const { run } = compute;
    const counted = (stepAt: number, opAt: number): number => {
      const step = StepBlock.read(bench.machine.arena.u8, stepAt);
      if (opAt === bench.engine.headAt) [heads, picks] = [heads + 1, picks + step.picks];
      return run(stepAt, opAt);
    };
    Object.assign(compute, { run: counted });
    const live = texts.map(text => bench.accepted(text, { maxTokens: 12, logitsK: 2 }));
    live.push(bench.accepted(long, { kind: SESSION_KIND.score, maxTokens: 1 }));
    const all = live.map(handle => bench.finish(handle));
    const alone = all.map(({ tokens, text, tops, finish, cycles }) => ({ tokens, text, tops, finish, cycles }));
    return { draws, alone, picks, perHead: picks / heads };
  });
  for (const { draws, alone, picks, perHead } of outcomes) {
    t.deepEqual(alone, outcomes[0]!.alone, `${draws} at once`);
    t.is(picks, outcomes[0]!.picks);
    t.true(perHead <= draws);
  }
  const rates = outcomes.map(o => o.perHead);
  t.log(rates.map((rate, i) => `${outcomes[i]!.draws}: ${rate.toFixed(2)} rows a head`).join(', '));
  t.is(rates[0], 1);
  t.true(rates[1]! > 1.5 && rates[2]! > rates[1]! && rates[3]! > rates[2]!);
});

test('a paced session draws no faster than its pace; the clock jumps when nobody else runs', t => {
  const bench = new Bench();
  bench.load('stub', { ctx: 64 });
  const { clock } = bench.kernel;
  const from = clock.nowNs();
  const handle = bench.accepted('hello', { maxTokens: 8, temp: 0, flags: SESSION_FLAG.paced });
  const { wcetCycles } = bench.report(handle);
  const delay = Math.floor(clock.nsOf(wcetCycles) / 8);
  const { tokens, cycles } = bench.finish(handle);
  t.is(tokens.length, 8);
  t.true(clock.nowNs() - from >= 7 * delay);
  t.is(cycles, bench.alone('hello', { maxTokens: 8, temp: 0 }).cycles);
});

test('the period budget: whole requests are refused, a stream is cut', t => {
  const bench = new Bench();
  bench.load('stub', { ctx: 64 });
  const { budget, clock } = bench.kernel;
  budget.configure({ wcetCycles: 0, periodNs: 1e9, maxTokens: 8 });
  const start = clock.nowNs();
  const at = (ns: number): void => clock.jumpTo(clock.cyclesAt(start + ns));
  const infer = (maxTokens: number, flags = 0): string => {
    const handle = bench.submit('hello there', { maxTokens, temp: 0, flags });
    if (handle === null || isRefusal(handle)) return 'refused';
    const { finish, tokens } = bench.finish(handle);
    bench.kernel.sessions.close(handle);
    return `${tokens.length} ${finish}`;
  };
  t.is(infer(5), '5 length');
  at(0.5e9);
  t.is(infer(4), 'refused');
  at(0.6e9);
  t.is(infer(6, SESSION_FLAG.stream), '3 quota');
  at(1.1e9);
  t.is(infer(8), '8 length');
  t.is(budget.record().rejects, 2);
});

test('one greedy session cannot keep others from their share: equal sessions get equal cycles', t => {
  const bench = new Bench();
  bench.load('stub', { ctx: 512, batch: 1, sessions: 32 });
  const hog = bench.accepted('h'.repeat(400), { maxTokens: 100, temp: 0 });
  const equal = Array.from({ length: 8 }, (_, i) => bench.accepted(`equal ${i}`, { maxTokens: 60, temp: 0, topK: 1 }));
  while (bench.kernel.sessions.active() === 9) bench.step();
  const shares = equal.map(handle => bench.report(handle).cycles);
  const jain = shares.reduce((a, b) => a + b, 0) ** 2 / (8 * shares.reduce((a, b) => a + b * b, 0));
  t.true(jain >= 0.99, String(jain));
  t.true(bench.report(hog).cycles <= 1.5 * Math.max(...shares));
});
