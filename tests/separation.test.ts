// Two users on one machine: what root's prompts, answers and files leave behind, and what a hostile program of an ordinary user gets of it. As xv6's
// usertests, programs here misuse every call; beside them, everything the user may read is searched for what is not theirs, and two machines that
// differ in a secret alone must look the same.

import { readFileSync } from 'node:fs';
import process from 'node:process';
import test from 'ava';
import { boot, type BootOptions, type Machine } from '../boot/index.ts';
import {
  BLOCKED,
  E,
  IOCTL,
  O,
  SessionOptions,
  SIG,
  SYSCALLS,
  utf8Decode,
  utf8Encode,
  type CallName,
  type CallSpec,
  type Gate,
  type Sys,
} from '../kernel/abi/index.ts';
import { SessionRecord } from '../kernel/session.ts';
import { argumentBlock } from '../shell/lib/program.ts';
import { makeSys } from '../shell/lib/sys.ts';
import { programs } from '../shell/index.ts';
import { makeRandom } from './support/arena.ts';
import { ok } from './support/commands.ts';
import { Seat } from './support/seat.ts';

const soak = process.env['ARENA8_SOAK'] === '1';
const image = readFileSync('build/boot.cpio');
const power = (options: BootOptions = {}): Machine => boot({ strict: true, image, ...options });

/** Root's secret: words that stand nowhere else on the machine. */
const SECRET = 'xylographer';
const PROMPT = `Once the ${SECRET} went`;
const ROOTS = `llmctl submit --temp 0 -n 24 ${PROMPT}`;

// ── Hostile programs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Body = (sys: Sys, gate: Gate) => Generator<void, number, void>;

/** Makes `body` a program of the machine and runs it as `user`; its exit status. */
function attack(machine: Machine, body: Body, user = 'user'): number {
  const table = programs as Map<string, (gate: Gate) => Generator<void, number, void>>;
  table.set('hostile', gate => body(makeSys(gate), gate));
  ok(machine, "printf '#!arena8 hostile\\n' > /tmp/hostile; chmod 755 /tmp/hostile");
  return machine.exec(`su ${user} -c /tmp/hostile`).status;
}

const raw = (gate: Gate, nr: number, integers: readonly number[]): number => {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = integers;
  return gate.trap(nr, a, b, c, d, e, f);
};

/** True when `bytes` hold the text, or these token ids one after the other as u32. */
function holds(bytes: Uint8Array, text: string, ids: readonly number[] = []): boolean {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const pattern = Buffer.from(Uint32Array.from(ids).buffer);
  return buffer.includes(text) || (ids.length > 0 && buffer.includes(pattern));
}

/** Everything that the calls of a process answer when it gives them all its memory to write to. */
function* harvest(gate: Gate, sys: Sys, except: readonly CallName[] = []): Generator<void, Uint8Array, void> {
  const pieces: Uint8Array[] = [];
  const keep = (): void => void pieces.push(gate.memory.slice());
  const fd = yield* sys.open('/etc/motd', O.RDONLY, 0);
  const fds = new Uint8Array(8);
  yield* sys.pipe(fds);
  const targets = [fd, new DataView(fds.buffer).getUint32(0, true), 0];
  for (const [name, spec] of Object.entries(SYSCALLS) as [CallName, CallSpec][]) {
    if (spec.args.every(([, kind]) => kind !== 'out') || except.includes(name)) continue;
    for (const target of targets) {
      gate.memory.fill(0);
      const integers = spec.args.flatMap(([, kind]) =>
        kind === 'out'
          ? [gate.windowAt, gate.windowBytes]
          : kind === 'path' || kind === 'in'
            ? [gate.windowAt, 0]
            : [kind === 'fd' ? target : 0],
      );
      raw(gate, spec.nr, integers);
      keep();
    }
  }
  return Buffer.concat(pieces);
}

test('a process sees its own memory, and nothing in it that it has not put there or been told', t => {
  const machine = power();
  const id = Number(ok(machine, ROOTS));
  ok(
    machine,
    `llmctl summary > /dev/null; echo ${SECRET} > /root/note; cat /root/note; grep ${SECRET} /root/note | cat`,
  );
  let found: Uint8Array = new Uint8Array(0);
  let reach = 0;
  const status = attack(machine, function* (sys, gate) {
    reach = gate.memory.buffer.byteLength;
    const fresh = gate.memory.slice();
    found = Buffer.concat([fresh, yield* harvest(gate, sys)]);
    return fresh.every(byte => byte === 0) ? 0 : 1;
  });
  t.is(status, 0, 'memory is zeros in the beginning');
  t.is(reach, 16 * 1024, 'and the arena is not behind it');
  t.true(found.length > 100_000);
  t.false(holds(found, SECRET), 'no answer has more in it than the call wrote');
  t.true(id > 0);
});

/** Everything beneath / that the user can read, and the names of it. */
function* everything(
  sys: Sys,
  dir: string,
  take: (path: string, bytes: Uint8Array) => void,
): Generator<void, void, void> {
  const fd = yield* sys.open(dir, O.RDONLY | O.DIRECTORY, 0);
  if (fd < 0) return;
  const entries = new Uint8Array(16 * 1024);
  const names: [number, string][] = [];
  for (let n = 0; (n = yield* sys.readdir(fd, entries)) > 0;)
    for (let at = 0; at < n; at += 2 + entries[at + 1]!)
      names.push([entries[at]!, utf8Decode(entries, at + 2, at + 2 + entries[at + 1]!)]);
  yield* sys.close(fd);
  for (const [kind, name] of names) {
    if (name === '.' || name === '..') continue;
    const path = `${dir === '/' ? '' : dir}/${name}`;
    if (kind === 4) yield* everything(sys, path, take);
    // Devices without an end, the console (whose input is whoever's it is), and the models (megabytes of noise).
    else if (!/^\/dev\/(zero|full|u?random|tty|console.*)$|\.gguf$/.test(path)) yield* wholeFile(sys, path, take);
  }
}

function* wholeFile(
  sys: Sys,
  path: string,
  take: (path: string, bytes: Uint8Array) => void,
): Generator<void, void, void> {
  const fd = yield* sys.open(path, O.RDONLY, 0);
  if (fd < 0) return;
  const piece = new Uint8Array(16 * 1024);
  const pieces: Uint8Array[] = [];
  for (let n = 0; (n = yield* sys.read(fd, piece)) > 0;) pieces.push(piece.slice(0, n));
  yield* sys.close(fd);
  take(path, Buffer.concat(pieces));
}

test('whatever a user can read holds nothing of a prompt, an answer, a file or a command line of others', t => {
  const machine = power();
  ok(machine, `mkdir -m 700 /root/x; echo ${SECRET} > /root/x/note; echo ${SECRET} > /tmp/note; chmod 600 /tmp/note`);
  const { tokens, text } = JSON.parse(ok(machine, `llminfer --keep --json --temp 0 -n 24 ${PROMPT}`)) as {
    tokens: number[];
    text: string;
  };
  const answer = text.slice(0, 12);
  ok(machine, `llminfer --temp 0 -n 60 ${PROMPT} > /dev/null & llmctl submit -n 4 ${PROMPT}`); // one runs, one waits
  machine.exec(`llminfer -n 4 --continue 99 ${PROMPT}; cat /root/${SECRET}; exec /nothing/${SECRET}`);
  const seen: string[] = [];
  const leaks: string[] = [];
  attack(machine, function* (sys) {
    yield* everything(sys, '/', (path, bytes) => {
      seen.push(path);
      if (holds(bytes, SECRET, tokens.slice(0, 3)) || holds(bytes, answer)) leaks.push(path);
    });
    return 0;
  });
  t.deepEqual(leaks, []);
  for (const path of [
    '/proc/ps',
    '/proc/kmsg',
    '/proc/sessions',
    '/proc/audit',
    '/dev/trace',
    '/proc/kv',
    '/etc/passwd',
  ])
    t.true(seen.includes(path), path);
  t.false(
    seen.some(path => /^(\/var)?\/audit\//.test(path)),
    'the audit log is for auditors',
  );
  for (const path of ['/dev/mem', '/dev/ram0', '/dev/ram1', '/dev/exec', '/etc/shadow', '/root/x/note', '/tmp/note'])
    t.false(seen.includes(path), path);
  // The same search by root finds it, so it can find.
  const roots: string[] = [];
  attack(
    machine,
    function* (sys) {
      for (const path of ['/proc/ps', '/root/x/note', '/dev/mem'])
        yield* wholeFile(sys, path, (_, bytes) => {
          if (holds(bytes, SECRET, tokens.slice(0, 3))) roots.push(path);
        });
      return 0;
    },
    'root',
  );
  t.deepEqual(roots, ['/proc/ps', '/root/x/note', '/dev/mem']);
});

test('why a program of others crashed is not told', t => {
  const machine = power();
  attack(
    machine,
    function* () {
      throw new Error(`cannot make sense of ${SECRET}`);
    },
    'root',
  );
  t.true(ok(machine, 'dmesg').includes(SECRET));
  t.false(ok(machine, 'su user -c dmesg').includes(SECRET));
});

// ── Sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a handle that is guessed, old, or of others opens nothing', t => {
  const machine = power();
  ok(machine, `${ROOTS}; sleep 1; ${ROOTS} > /dev/null`);
  let own = 0;
  const wrong: string[] = [];
  const status = attack(machine, function* (sys, gate) {
    const out = new Uint8Array(8192);
    const tries = (handle: number): (readonly [string, Generator<void, number, void>])[] => [
      ['read', sys.session_read(handle, out)],
      ['cancel', sys.session_cancel(handle)],
      ['report', sys.session_report(handle, out)],
      ['tokens', sys.session_tokens(handle, 0, out)],
      ['close', sys.session_close(handle)],
    ];
    const handles = [-1, 2 ** 31, NaN, 0.5, ...Array.from({ length: 32 * 6 }, (_, i) => i)];
    for (const handle of handles)
      for (const [name, call] of tries(handle)) {
        const r = yield* call;
        if (![-E.BADF, -E.ACCES, -E.INVAL].includes(r)) wrong.push(`${name} ${handle}: ${r}`);
      }
    for (let id = 0; id < 8; id++) if ((yield* sys.session_find(id)) !== -E.SRCH) wrong.push(`find ${id}`);
    // Its own: once closed, the handle stays dead when somebody else has the slot.
    const options = new Uint8Array(SessionOptions.bytes);
    SessionOptions.write(options, 0, { maxTokens: 2, repeatPenalty: 1, topP: 1 });
    const prompt = yield* sys.memfd('prompt');
    yield* sys.write(prompt, utf8Encode('Once'));
    yield* sys.lseek(prompt, 0, 0);
    own = yield* sys.session_open(options, prompt);
    if (own < 0) return 2;
    if ((yield* sys.session_close(own)) !== 0) return 3;
    for (const [name, call] of tries(own)) if ((yield* call) !== -E.BADF) wrong.push(`${name} of a closed one`);
    // Continuing those of others: as if they were not there.
    for (let parent = 1; parent < 4; parent++) {
      yield* sys.lseek(prompt, 0, 0);
      SessionOptions.write(options, 0, { maxTokens: 2, repeatPenalty: 1, topP: 1, parent });
      const r = yield* sys.session_open(options, prompt);
      if (r !== -E.SRCH && parent < 3) wrong.push(`continues ${parent}: ${r}`);
    }
    return gate.memory.length === 0 ? 1 : 0;
  });
  t.is(status, 0);
  t.deepEqual(wrong, []);
  t.is(ok(machine, 'llmctl poll 1 99').includes('n=24'), true, 'and root has lost nothing');
});

test('a beginning that another user has computed is not shared', t => {
  const machine = power();
  const prompt =
    'Once upon a time there was a little boat that sailed on a lake under the sun and the wind blew it far away from home';
  const run = (line: string): number => (JSON.parse(ok(machine, line)) as { shared_tokens: number }).shared_tokens;
  const infer = `llminfer --json --temp 0 -n 2 ${prompt}`;
  t.is(run(infer), 0);
  t.true(run(infer) > 20, 'root finds its own');
  t.is(run(`su user -c "${infer}"`), 0, 'user does not');
  t.true(run(`su user -c "${infer}"`) > 20);
});

test('what a session gets is zeros but for its own: slots and pages of others, pipes', t => {
  const machine = power();
  const { arena, kernel } = machine;
  const secret = JSON.parse(ok(machine, `llminfer --json --temp 0 -n 8 ${PROMPT}`)) as { tokens: number[] };
  const engine = kernel.loader.engine()!;
  const { at, bytes } = engine.slots;
  t.true(
    holds(arena.u8.subarray(at, at + bytes), SECRET, secret.tokens.slice(0, 3)),
    'the slot keeps what ended in it',
  );
  ok(machine, `echo ${SECRET} | cat`);
  const pipes = arena.regions().find(r => r.name === 'pipes')!;
  const pipeBytes = (): Uint8Array => arena.u8.subarray(pipes.startAt, pipes.startAt + pipes.bytes);
  t.true(holds(pipeBytes(), SECRET));
  let left: Uint8Array = new Uint8Array(0);
  attack(machine, function* (sys) {
    for (let i = 0; i < 8; i++) yield* sys.pipe(new Uint8Array(8));
    left = pipeBytes().slice();
    return 0;
  });
  t.false(holds(left, SECRET));
  ok(machine, 'su user -c "llminfer --temp 0 -n 2 Once"');
  t.false(holds(arena.u8.subarray(at, at + bytes), SECRET, secret.tokens.slice(0, 3)), 'until another session has it');
  const record = arena.u8.subarray(kernel.lay.sessionsAt, kernel.lay.sessionsAt + SessionRecord.bytes);
  t.false(holds(record, SECRET));
});

test('what stands in scratch, in free pages and in slots before a session begins has no part in what it draws', t => {
  const figures = (poison: number | null): Record<string, unknown> => {
    const machine = power();
    ok(machine, `llminfer --temp 0 -n 4 ${PROMPT}`); // everything has been used once
    const { arena, kernel } = machine;
    const { slots, kvAt, pageBytes, options } = kernel.loader.engine()!;
    const named = arena.regions().filter(r => ['scratch', 'dma', 'window', 'pipes'].includes(r.name));
    const places = [
      ...named.map(r => [r.startAt, r.bytes] as const),
      [kvAt, pageBytes * options.pages] as const, // their records lie behind
      [slots.at, slots.bytes * options.sessions] as const,
    ];
    if (poison !== null) for (const [at, bytes] of places) arena.u8.fill(poison, at, at + bytes);
    const line = 'llminfer --json --temp 0.9 --top-k 5 --seed 3 --repeat-penalty 1.2 -n 40 --logits 4 Once upon a time';
    return JSON.parse(ok(machine, `su user -c "${line}"`)) as Record<string, unknown>;
  };
  const clean = figures(null);
  t.is((clean['tokens'] as number[]).length, 40);
  for (const byte of [0xff, 0x7f, 0x3c]) t.deepEqual(figures(byte), clean, `0x${byte.toString(16)}`); // NaN, large, near 1
});

// ── Misuse ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Integers that a program has no business with, beside some that it has. */
const ODD = [
  0,
  1,
  -1,
  2,
  3,
  7,
  31,
  32,
  255,
  4096,
  65536,
  -4096,
  2 ** 31 - 1,
  -(2 ** 31),
  2 ** 32,
  2 ** 53,
  0.5,
  NaN,
  Infinity,
  -Infinity,
];

test('calls with any integers in them end in an errno, not in the kernel, and tell nothing', t => {
  const machine = power();
  ok(machine, `${ROOTS}; echo ${SECRET} > /root/note; cat /root/note`);
  const calls = Object.entries(SYSCALLS) as [CallName, CallSpec][];
  const rounds = soak ? 400 : 8;
  let tries = 0;
  let leaks = 0;
  for (let seed = 1; seed <= rounds; seed++) {
    const random = makeRandom(seed);
    const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
    attack(machine, function* (_, gate) {
      for (let i = 0; i < 2000; i++) {
        if (gate.mustYield()) yield;
        const [name, spec] = pick(calls);
        if (['exit', 'exec', 'kill'].includes(name)) continue; // they end it, and have tests of their own
        const place = (): number => gate.windowAt + pick([0, 0, 1, 100, gate.windowBytes, gate.windowBytes - 4, -1]);
        const integers = spec.args.flatMap(([, kind]) => {
          const wide = ['path', 'in', 'out'].includes(kind);
          if (!wide) return [pick(ODD)];
          return random(8) === 0 ? [pick(ODD), pick(ODD)] : [place(), pick([0, 1, 4, 64, 512, 4096, ...ODD])];
        });
        utf8Encode(pick(['/root/note', '/etc/shadow', '../../root', 'user', '/models/fable-q4_0.gguf'])).forEach(
          (byte, at) => {
            gate.memory[at] = byte;
          },
        );
        tries++;
        const r = raw(gate, spec.nr, integers);
        if (r === BLOCKED) yield;
        if (holds(gate.memory, SECRET)) leaks++;
      }
      return 0;
    });
  }
  t.is(leaks, 0);
  t.log(`${tries} calls`);
  t.is(ok(machine, 'cat /root/note; ls -l /root/note | cut -c1-10'), `${SECRET}\n-rw-r--r--\n`);
  t.is(ok(machine, 'llmctl poll 1 99 | head -c 30; id -u').slice(-2), '0\n');
});

test('a program that has become another one, or has ended, calls no more', t => {
  const machine = power();
  let after: number[] = [];
  let uid = 0;
  attack(machine, function* (sys, gate) {
    yield* sys.getpid();
    const nr = SYSCALLS;
    const path = utf8Encode('/bin/su');
    const block = argumentBlock(['su', 'root'], new Map(), [-1, -1, -1]);
    gate.memory.set(path);
    gate.memory.set(block, 100);
    const at = gate.windowAt;
    after = [
      gate.trap(nr.exec.nr, at, path.length, at + 100, block.length, 0, 0), // it has root's rights now
      gate.trap(nr.geteuid.nr, 0, 0, 0, 0, 0, 0), // and this is not it
      gate.trap(nr.setuid.nr, 0, 0, 0, 0, 0, 0),
      gate.trap(nr.open.nr, at, path.length, 0, 0, 0, 0),
    ];
    yield;
    return 0;
  });
  t.deepEqual(after, [BLOCKED, BLOCKED, BLOCKED, BLOCKED]);
  attack(machine, function* (sys, gate) {
    uid = yield* sys.geteuid();
    after = [gate.trap(SYSCALLS.exit.nr, 3, 0, 0, 0, 0, 0), gate.trap(SYSCALLS.getpid.nr, 0, 0, 0, 0, 0, 0)];
    for (let i = 0; i < 99; i++) after.push(gate.trap(SYSCALLS.getuid.nr, 0, 0, 0, 0, 0, 0));
    yield;
    return 0;
  });
  t.is(uid, 1000);
  t.true(after.every(r => r === BLOCKED));
  let served = 0;
  attack(machine, function* (_, gate) {
    while (gate.trap(SYSCALLS.getuid.nr, 0, 0, 0, 0, 0, 0) !== BLOCKED && served < 1000) served++;
    yield;
    return 0;
  });
  t.is(served, 64, 'a quantum, and no call more before it yields');
});

test('a set-user-ID program that is traced by others has no rights of its own', t => {
  const machine = power();
  const { stderr } = machine.exec("su user -c 'strace su user -c id'");
  t.regex(stderr, /open\("\/etc\/shadow", .*\) = -1 EACCES/);
  t.regex(stderr, /setgroups\(.*\) = -1 EPERM|auth_failed\("user"\) = -1 EPERM/);
  t.false(stderr.includes('user::0'));
  t.regex(machine.exec('strace su user -c id').stderr, /read\([0-9]+, "root:\*:0/, 'root sees all');
  t.is(ok(machine, `su user -c 'su user -c "id -u"'`).trim(), '1000', 'untraced it works');
});

// ── Processes and the terminal ───────────────────────────────────────────────────────────────────────────────────────────────────

test('others are not signalled, waited for, or put into a group', t => {
  const machine = power();
  ok(machine, 'sleep 1000 & sleep 2000 &');
  const wrong: string[] = [];
  attack(machine, function* (sys) {
    const self = yield* sys.getpid();
    for (let pid = 1; pid < self + 4; pid++) {
      if (pid === self) continue;
      const parents = pid === (yield* sys.getppid()) || pid === self - 1 || pid === self - 2; // su and its shell: the user's own
      for (const signal of [0, SIG.KILL, SIG.STOP, SIG.CONT, SIG.TSTP]) {
        if (parents) continue;
        for (const to of pid === 1 ? [pid] : [pid, -pid]) {
          // group 1 is everybody's here
          const r = yield* sys.kill(to, signal);
          if (r !== -E.PERM && r !== -E.SRCH) wrong.push(`kill ${to} ${signal}: ${r}`);
        }
      }
      const code = new Uint8Array(4);
      if ((yield* sys.wait(pid, code, 1)) !== -E.CHILD) wrong.push(`wait ${pid}`);
      if ((yield* sys.setpgid(pid, self)) !== -E.SRCH) wrong.push(`setpgid ${pid}`);
    }
    // Into the group of root's shell, whose signals would then be sent for it.
    if ((yield* sys.setpgid(0, 1)) !== -E.PERM) wrong.push('joins a group of others');
    return 0;
  });
  t.deepEqual(wrong, []);
  t.is(ok(machine, "ps -e -o comm | grep -c '^sleep'").trim(), '2', 'both live');
});

test('what one user has left running does not get the keys of the next', async t => {
  const seat = new Seat();
  const table = programs as Map<string, (gate: Gate) => Generator<void, number, void>>;
  const tries: number[] = [];
  let pid = 0;
  table.set('thief', gate =>
    (function* (sys: Sys): Generator<void, number, void> {
      yield* sys.signal(SIG.TTIN, 2);
      yield* sys.signal(SIG.USR1, 1);
      pid = yield* sys.getpid();
      const ends = new Uint8Array(8);
      yield* sys.pipe(ends);
      const [end = 0, keys] = [new DataView(ends.buffer).getUint32(0, true), new Uint8Array(64)];
      yield* sys.read(end, keys); // nobody writes: until a signal comes
      const fd = yield* sys.open('/dev/tty', O.RDONLY, 0);
      tries.push(yield* sys.tcsetpgrp(fd, pid), yield* sys.read(fd, keys), yield* sys.poll(fd, 0));
      tries.push(yield* sys.ioctl(fd, IOCTL.raw, 0), yield* sys.remember(fd, 9, utf8Encode('rm -rf /\0')));
      tries.push(yield* sys.complete(fd, 0, 1, utf8Encode('rm -rf /\0')));
      return 0;
    })(makeSys(gate)),
  );
  await seat.type("printf '#!arena8 thief\\n' > /tmp/thief; chmod 755 /tmp/thief\r");
  await seat.type('su user\r', '/tmp/thief &\r', 'exit\r');
  t.true(pid > 0);
  await seat.type(`sh -c 'sleep 9; kill -USR1 ${pid}' & passwd user\r`, 'correct horse\r', 'correct horse\r');
  t.deepEqual(tries, [-E.PERM, -E.IO, -E.IO, -E.IO, -E.IO, -E.IO]);
  t.true(seat.screen().includes('passwd: password of user changed'));
  t.false(seat.screen().join().includes('horse'), 'nor does the screen show them');
});

test('how far a request of others is, and how long the last one took, is not told', t => {
  const machine = power();
  const stats = (line: string): Record<string, number> => JSON.parse(ok(machine, line)) as Record<string, number>;
  ok(machine, `llminfer --temp 0 -n 8 ${PROMPT} > /dev/null; llmctl submit --temp 0 -n 60 ${PROMPT} > /dev/null`);
  ok(machine, 'llmctl poll 2 4 > /dev/null; sleep 1');
  const [roots, others] = [stats('llmstats --json'), stats('su user -c "llmstats --json"')];
  t.true(roots['output_tokens']! > 8);
  t.is(others['output_tokens'], 8, 'of those that run nothing');
  t.true(roots['last_latency_ns']! > 0);
  t.is(others['last_latency_ns'], 0);
  ok(machine, 'su user -c "llminfer --temp 0 -n 2 Once" > /dev/null');
  t.true(stats('su user -c "llmstats --json"')['last_latency_ns']! > 0, 'their own is');
});

// ── Noninterference ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Calls that tell the time, or how much the machine does: they differ where one prompt takes longer than another. */
const FIGURES: readonly CallName[] = ['times', 'llm_stats', 'sched', 'budget', 'quota', 'stat', 'lstat', 'fstat'];

/** What a user can see while root's request runs and after it has ended, numbers left out; and the numbers. */
function view(prompt: string): { readonly words: string[]; readonly calls: string[]; readonly figures: string } {
  const machine = power();
  ok(machine, `llmctl submit --temp 0 -n 40 "${prompt}"; echo "${prompt}" > /root/note; cat /root/note`);
  const words: string[] = [];
  const calls: string[] = [];
  let figures = '';
  for (let round = 0; round < 2; round++) {
    attack(machine, function* (sys, gate) {
      yield* everything(sys, '/', (path, bytes) => {
        const text = Buffer.from(bytes).toString('latin1');
        if (path === '/dev/trace') return; // numbers only
        words.push(`${path}: ${text.replace(/[0-9.]+/g, '#')}`);
        figures += text;
      });
      calls.push(Buffer.from(yield* harvest(gate, sys, FIGURES)).toString('latin1'));
      return 0;
    });
    ok(machine, 'sleep 30');
  }
  return { words, calls, figures };
}

test('two machines that differ in a prompt alone look the same to others, but for how long things take', t => {
  const one = view('The big dog sat in the sun and was glad');
  const other = view('One red cat ran to the sea and was lost');
  t.deepEqual(one.words, other.words);
  t.deepEqual(one.calls, other.calls);
  t.log(one.figures === other.figures ? 'figures too' : 'figures differ: how much the machine works is no secret');
});
