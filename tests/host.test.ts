// The loop that turns a machine for a page, without a page: that Ctrl-C gets through whatever the machine and the page are doing, that a speed
// changes moments and nothing else, that keys are kept until they are wanted, and what is left of a machine that has halted.
import test from 'ava';
import { readFileSync } from 'node:fs';
import { boot } from '../boot/index.ts';
import { replay, sharedOptions, type Replayed, type Share } from '../boot/share.ts';
import type { News } from '../boot/web/protocol/messages.ts';
import { UNATTENDED } from '../boot/web/worker/host.ts';
import { UNSHOWN_MAX } from '../boot/web/worker/outflow.ts';
import { Watcher } from '../boot/web/worker/watcher.ts';
import { Sitter } from './support/ground.ts';

const LONG = 'llminfer --temp 0 --max-tokens 200 Once upon a time';

test('boots to a prompt, echoes, and is idle', t => {
  const sitter = new Sitter();
  t.is(sitter.host.kind, 'idle');
  t.regex(sitter.enter('echo hel""lo\r'), /hello\r\n/);
  t.is(sitter.host.kind, 'idle');
  t.is(sitter.ground.states.at(-1)!.run, 'idle');
});

test('Ctrl-C ends a flood that nobody has seen', t => {
  const sitter = new Sitter();
  sitter.type('while :; do echo a line that says nothing; done\r');
  sitter.until(() => sitter.ground.unshown > UNSHOWN_MAX);
  const { unshown } = sitter.ground;
  while (sitter.ground.tick());
  t.true(sitter.ground.unshown < unshown + 64 * 1024, 'the machine waits for somebody to read');
  const before = sitter.host.machine.nowNs();
  sitter.type('\x03');
  while (sitter.ground.tick());
  t.true(sitter.host.machine.nowNs() > before, 'it has turned for Ctrl-C');
  t.regex(sitter.ground.take(), /\^C[\s\S]*sis> $/);
  sitter.settle();
  t.regex(sitter.enter('echo still here\r'), /still here\r\n/);
});

test('Ctrl-C reaches a machine that is paused, and leaves it paused', t => {
  const sitter = new Sitter();
  sitter.type(`${LONG}\r`);
  sitter.until(() => sitter.ground.unshown > 300);
  sitter.host.speed({ mode: 'pause' });
  sitter.settle();
  t.is(sitter.host.kind, 'paused');
  const nowNs = sitter.host.machine.nowNs();
  sitter.settle();
  t.is(sitter.host.machine.nowNs(), nowNs, 'nothing turns');
  t.regex(sitter.enter('\x03'), /\^C[\s\S]*sis> $/);
  t.is(sitter.host.kind, 'paused');
  t.is(sitter.enter('echo lat""er\r'), '', 'no key is taken before it goes on');
  sitter.host.speed({ mode: 'run' });
  t.regex(sitter.settle(), /later\r\n/);
});

test('Ctrl-C reaches a machine that is held in the middle of a pass', t => {
  const sitter = new Sitter();
  sitter.host.step('op');
  sitter.type(`${LONG}\r`);
  sitter.settle();
  t.is(sitter.host.kind, 'held');
  for (let i = 0; i < 5; i++) {
    sitter.host.step('op');
    sitter.settle();
    t.is(sitter.host.kind, 'held');
  }
  t.regex(sitter.enter('\x03'), /\^C[\s\S]*sis> $/);
  t.is(sitter.host.kind, 'paused');
  sitter.host.speed({ mode: 'run' });
  t.regex(sitter.enter('echo still h""ere\r'), /still here\r\n/);
});

/** The digest after what is done to a machine, and what it wrote. */
function outcome(drive: (sitter: Sitter) => string): { text: string; digest: string; head: string } {
  const sitter = new Sitter({ seed: 9 });
  const text = drive(sitter);
  return { text, digest: sitter.host.machine.stateDigest(), head: sitter.host.machine.auditHead() };
}

const SHORT = 'llminfer --temp 0.8 --seed 3 --max-tokens 4 The cat\r';

test('every speed comes to the same bytes', t => {
  const plain = outcome(sitter => sitter.enter(SHORT));
  t.regex(plain.text, /sis> $/);
  const pace = outcome(sitter => {
    sitter.host.speed({ mode: 'pace', opsPerSecond: 1000 });
    return sitter.enter(SHORT);
  });
  t.deepEqual(pace, plain);
  for (const at of ['op', 'layer', 'token'] as const) {
    let steps = 0;
    const stepped = outcome(sitter => {
      sitter.host.step(at);
      let text = sitter.enter(SHORT);
      for (; sitter.host.kind !== 'idle'; steps++) {
        if (steps === 20) sitter.host.speed({ mode: 'run' });
        else sitter.host.step(at);
        text += sitter.settle();
      }
      return text;
    });
    t.deepEqual(stepped, plain, at);
    t.true(steps >= 4, `${at}: ${steps} steps`);
  }
});

test('a pace is so many ops a second', t => {
  for (const opsPerSecond of [1, 10, 1000]) {
    const sitter = new Sitter();
    let ops = 0;
    const { machine } = sitter.host;
    const run = machine.run.bind(machine);
    machine.run = slices => {
      const state = run(slices);
      if (state === 'stopped') ops++;
      return state;
    };
    sitter.host.speed({ mode: 'pace', opsPerSecond });
    sitter.type(`${LONG}\r`);
    sitter.until(() => ops > 0);
    const from = { ops, ms: sitter.ground.now };
    sitter.until(() => sitter.ground.now > from.ms + 20_000);
    const rate = (ops - from.ops) / ((sitter.ground.now - from.ms) / 1000);
    t.true(Math.abs(rate / opsPerSecond - 1) < 0.06, `${opsPerSecond} ops/s: ${rate}`);
    // Nobody waits a second for Ctrl-C.
    const { now } = sitter.ground;
    sitter.type('\x03');
    sitter.until(() => sitter.host.kind === 'idle');
    t.true(sitter.ground.now - now < 500);
  }
});

test('keys typed ahead are taken in order, however many', t => {
  const sitter = new Sitter();
  sitter.type('cat > /tmp/long\r');
  const lines = Array.from({ length: 12_000 }, (_, i) => `line number ${i}\r`).join('');
  t.true(lines.length > 150_000, 'more than the terminal queues');
  sitter.type(lines);
  sitter.type('\x04');
  sitter.type('wc -l /tmp/long\r');
  t.regex(sitter.settle(), /12000 \/tmp\/long\r\n/);
  sitter.type('sleep 1; cat > /tmp/never\r');
  sitter.type(lines);
  t.regex(sitter.enter('\x03echo nothing el""se\r'), /nothing else\r\n/);
  t.is(sitter.host.machine.observe('/tmp/never'), -2, 'Ctrl-C drops what was typed before it');
});

test("programs that draw by themselves are shown in real time, and the last key is the shell's again", t => {
  const sitter = new Sitter();
  sitter.type('top\r');
  const { machine } = sitter.host;
  sitter.until(() => sitter.host.tty.raw);
  const from = { ms: sitter.ground.now, ns: machine.nowNs() };
  sitter.until(() => sitter.ground.now > from.ms + 10_000);
  const seconds = (machine.nowNs() - from.ns) / 1e9;
  t.true(seconds > 9 && seconds < 13, `${seconds} s in 10`);
  sitter.type('q');
  sitter.settle();
  t.is(sitter.host.kind, 'idle');
  t.false(sitter.host.tty.raw);
});

test('the shell ends: the machine is off, another begins', t => {
  const sitter = new Sitter();
  t.regex(sitter.enter('exit\r'), /exit/);
  t.is(sitter.host.kind, 'off');
  t.is(sitter.ground.states.at(-1)!.run, 'off');
  t.is(sitter.enter('echo anybody\r'), '');
  t.regex(new Sitter().boot, /sis> $/);
});

test('switching off while a pass is held closes the log as any switching off does', t => {
  const sitter = new Sitter();
  sitter.host.step('op');
  sitter.enter(`${LONG}\r`);
  t.is(sitter.host.kind, 'held');
  sitter.host.powerOff();
  t.is(sitter.host.kind, 'off');
  t.notThrows(() => sitter.host.powerOff());
});

test('a machine that halts says why, and stands', t => {
  const sitter = new Sitter();
  const { machine } = sitter.host;
  const { vfs } = machine.kernel;
  sitter.settle();
  const { resolve } = vfs;
  vfs.resolve = () => {
    throw new Error('a table of the kernel is wrong');
  };
  const text = sitter.enter('ls\r');
  vfs.resolve = resolve;
  t.regex(text, /kernel panic: a table of the kernel is wrong/);
  t.regex(text, /machine halted; the same seed and input reach this point again/);
  t.is(sitter.host.kind, 'halted');
  t.is(sitter.ground.states.at(-1)!.run, 'halted');
  t.true(machine.observe('/etc/hostname') instanceof Uint8Array, 'its files can be saved');
});

test('what was shared is typed before anybody else may, and comes to the digest of Node', t => {
  const share: Share = {
    seed: 4,
    target: 'sifive-u74',
    columns: 60,
    rows: 20,
    commands: [
      'cat /home/note',
      'llminfer --max-tokens 6 --seed 2 A dog',
      'top',
      'q',
      'for i in 1 2',
      'do echo $i; done',
    ],
    files: [{ path: '/home/note', bytes: new TextEncoder().encode('from afar\n') }],
    digest: '',
    build: '',
  };
  const options = sharedOptions(share, () => {});
  const machine = boot({ ...options, image: readFileSync('build/boot.cpio') });
  const rounds = replay(machine, options.console, share);
  let step = rounds.next();
  while (step.done !== true) step = rounds.next();
  const { digest, head } = step.value as Replayed;

  const sitter = new Sitter({ seed: share.seed, target: share.target }, share.columns, share.rows, share);
  t.regex(sitter.boot, /from afar/);
  t.is(sitter.digestAtPrompt, digest);
  t.is(sitter.headAtPrompt, head);
  t.deepEqual([sitter.host.tty.columns, sitter.host.tty.rows], [100, 30], 'the terminal has its own size afterwards');
  t.regex(sitter.boot, /ahead\r\n/, 'keys typed meanwhile come behind');
});

test('what was typed is there for a link, but for what no link can carry', t => {
  const sitter = new Sitter();
  sitter.enter('echo on""e\r');
  sitter.enter('ech\ttwo\r');
  sitter.enter("echo 'th\r");
  sitter.enter("ree'\r");
  sitter.enter('cat > /tmp/x\r');
  sitter.enter('gone\r\x04');
  sitter.enter("echo 'half\r");
  sitter.enter('of it\x03');
  sitter.enter('dropped at the prompt\x03');
  sitter.type('sleep 1000; while :; do :; done\r');
  sitter.until(() => sitter.host.machine.nowNs() > 1000e9);
  sitter.enter('\x03');
  sitter.enter('read line\r');
  sitter.enter('an answer\r');
  t.deepEqual(sitter.host.typed.commands, ['echo on""e', 'echo two', "echo 'th", "ree'", 'read line', 'an answer']);
  t.is(sitter.host.typed.leftOut, 3);
});

test('a pass that takes long lets others in between its layers, and comes to the same bytes', t => {
  const drive = (passMs: number) => {
    let pieces = 0;
    const come = outcome(sitter => {
      const { machine } = sitter.host;
      const run = machine.run.bind(machine);
      machine.run = slices => {
        const state = run(slices);
        sitter.ground.pass(state === 'stopped' ? passMs / 4 : passMs);
        if (state === 'stopped') pieces++;
        return state;
      };
      return sitter.enter(SHORT);
    });
    return { come, pieces };
  };
  const [quick, slow] = [drive(1), drive(400)];
  t.is(quick.pieces, 0);
  t.true(slow.pieces > 8, `${slow.pieces} stops`);
  t.deepEqual(slow.come, quick.come);
});

test('what is watched is told as it changes, no more often than was asked, and nobody in the machine notices', t => {
  const plain = outcome(sitter => sitter.enter(SHORT));
  const seen: { ms: number; files: Readonly<Record<string, string>>; bytes: number; probe: string | null }[] = [];
  let watched: Watcher;
  const come = outcome(sitter => {
    const { ground, host } = sitter;
    const tell = (news: News): void => {
      if (news.news === 'seen')
        seen.push({ ms: ground.now, files: news.files, bytes: news.trace?.length ?? 0, probe: news.probe });
    };
    watched = new Watcher({ ...ground, tell }, () => host.machine);
    sitter.attend({ ...UNATTENDED, moved: () => watched.moved() });
    watched.set({
      paths: ['/proc/arena', '/proc/sessions', '/nowhere'],
      trace: true,
      probe: { session: 0, what: 'probs', layer: 0, head: 0, top: 3 },
      everyMs: 40,
    });
    return sitter.enter(SHORT);
  });
  t.deepEqual(come, plain);
  t.is(seen[0]!.files['/nowhere'], '', 'all of it is told once');
  t.true(seen.length > 1);
  for (const [i, { ms, files }] of seen.entries()) {
    if (i === 0) continue;
    t.true(ms - seen[i - 1]!.ms >= 40);
    t.false('/nowhere' in files, 'what has not changed is not told again');
  }
  t.true(seen.some(s => s.bytes > 0));
  t.regex(seen.findLast(s => s.probe !== null)!.probe!, /^\{/);
});

test('a program that had the screen gives it back when the machine halts, and what the kernel said can be read', t => {
  const sitter = new Sitter();
  sitter.type('top\r');
  sitter.until(() => sitter.host.tty.raw);
  const { vfs } = sitter.host.machine.kernel;
  vfs.resolve = () => {
    throw new Error('a table of the kernel is wrong');
  };
  const text = sitter.settle();
  t.is(sitter.host.kind, 'halted');
  const [, after] = text.split(`\x1b[?1049l`);
  t.regex(after!, /kernel panic: a table of the kernel is wrong[\s\S]*machine halted/);
});

test('what the machine waits for outside, it waits for whatever is typed', t => {
  const sitter = new Sitter();
  let release = (): void => {};
  let rounds = 0;
  sitter.attend({
    ...UNATTENDED,
    holdUp: () => (++rounds === 2 ? new Promise(resolve => (release = resolve)) : null),
  });
  sitter.type('echo on""e\r');
  sitter.settle();
  t.is(rounds, 2);
  sitter.type('\x03');
  sitter.host.speed({ mode: 'pause' });
  sitter.host.speed({ mode: 'run' });
  sitter.settle();
  t.is(rounds, 2);
  release();
  return new Promise<void>(resolve => setImmediate(resolve)).then(() => {
    sitter.settle();
    t.true(rounds > 2);
    t.is(sitter.host.kind, 'idle');
  });
});
