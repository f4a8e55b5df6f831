// Two users on one machine: what root's prompts, answers and files leave behind, and what a hostile program of an ordinary user gets of it. As xv6's
// usertests, programs here misuse every call; beside them, everything the user may read is searched for what is not theirs, and two machines that
// differ in a secret alone must look the same.

import { readFileSync } from 'node:fs';
import process from 'node:process';
import test from 'ava';
import type { ExecutionContext } from 'ava';
import { boot, type BootOptions, type Machine } from '../boot/index.ts';
import {
  BLOCKED,
  E,
  O,
  SessionOptions,
  SIG,
  SYSCALLS,
  utf8Decode,
  utf8Encode,
  type CallName,
  type CallSpec,
  type Entry,
  type Gate,
  type Sys,
} from '../kernel/abi/index.ts';
import { SessionRecord } from '../kernel/session.ts';
import { argumentBlock } from '../shell/lib/program.ts';
import { makeSys } from '../shell/lib/sys.ts';
import { programs } from '../shell/index.ts';
import { makeRandom } from './support/arena.ts';
import { ok } from './support/commands.ts';

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
function* harvest(gate: Gate, sys: Sys): Generator<void, Uint8Array, void> {
  const pieces: Uint8Array[] = [];
  const keep = (): void => void pieces.push(gate.memory.slice());
  const fd = yield* sys.open('/etc/motd', O.RDONLY, 0);
  const fds = new Uint8Array(8);
  yield* sys.pipe(fds);
  const targets = [fd, new DataView(fds.buffer).getUint32(0, true), 0];
  for (const [, spec] of Object.entries(SYSCALLS) as [CallName, CallSpec][]) {
    if (spec.args.every(([, kind]) => kind !== 'out')) continue;
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
    // eslint-disable-next-line require-yield
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
        if (r !== -E.BADF && r !== -E.ACCES) wrong.push(`${name} ${handle}: ${r}`);
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

// ── Noninterference ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** All that a user can see, the calls' answers too, while root's requests run and after they have ended. */
function view(prompt: string): string[] {
  const machine = power();
  ok(machine, `llmctl submit --temp 0 -n 40 "${prompt}"; llmctl submit --temp 0.7 --seed 5 -n 9 "${prompt}"`);
  ok(machine, `echo "${prompt}" > /root/note; grep -c . /root/note`);
  const seen: string[] = [];
  for (let round = 0; round < 2; round++) {
    attack(machine, function* (sys, gate) {
      yield* everything(sys, '/', (path, bytes) => seen.push(`${path}: ${Buffer.from(bytes).toString('latin1')}`));
      seen.push(Buffer.from(yield* harvest(gate, sys)).toString('base64'));
      return 0;
    });
    ok(machine, 'sleep 30');
  }
  return seen;
}

test('two machines that differ in a prompt alone look the same to others', t => {
  const one = view('The big dog sat in the sun and was glad');
  const other = view('The red cat ran to the sea and was lost');
  t.is(one.length, other.length);
  const differing = one.filter((text, i) => text !== other[i]).map(text => text.slice(0, 300));
  t.deepEqual(differing, []);
});
