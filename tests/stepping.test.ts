// A processor that is held between the ops of a pass. The same command lines on a machine that is never stopped, and on ones that stop before
// every op, before every layer, behind every pass, or now and then: what is printed, every byte of the arena, the clock, the audit log and
// the events must be the same, and a stop must have been seen before every op that was executed.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { boot, type BootOptions } from '../boot/index.ts';
import type { Machine, StopAt } from '../boot/machine.ts';
import { PLAN_COLUMNS, PLAN_RECORD } from '../kernel/abi/index.ts';
import { Tty } from '../drivers/tty/tty.ts';
import { random } from './harness.ts';

const image = readFileSync('build/boot.cpio');

/** A machine that runs one script on its console, and what is counted meanwhile. */
interface Seat {
  readonly machine: Machine;
  readonly pid: number;
  /** All that was printed. */
  printed(): string;
  /** Records of plans that were executed. */
  records(): number;
}

function seat({ script, prepare }: Scene, more: Partial<BootOptions> = {}): Seat {
  let text = '';
  const decoder = new TextDecoder();
  const console = new Tty({
    interactive: false,
    output: bytes => {
      text += decoder.decode(bytes, { stream: true });
    },
  });
  const machine = boot({ image, strict: true, console, ...more });
  prepare?.(machine);
  const { arena } = machine;
  const { compute } = machine.kernel['hw'];
  const { run, run_op: runOp } = compute;
  let records = 0;
  Object.assign(compute, {
    run: (stepAt: number, opAt: number) => {
      for (let at = opAt; arena.i32[at >> 2] !== 0; at += PLAN_RECORD.bytes) records++;
      return run(stepAt, opAt);
    },
    run_op: (stepAt: number, opAt: number) => {
      records++;
      return runOp(stepAt, opAt);
    },
  });
  const pid = machine.start(['sh', '-c', script]);
  return { machine, pid, printed: () => text, records: () => records };
}

/** Runs it to its end; `at`: what is asked for, by how often it was. Returns how many there were. */
function drive({ machine, pid }: Seat, at: (times: number) => StopAt | null): number {
  let stops = 0;
  for (let times = 0; ; times++) {
    machine.stopAt = at(times);
    const state = machine.run(64);
    if (state === 'halted') throw new Error('the machine has halted');
    if (state === 'stopped') stops++;
    else if (machine.statusOf(pid) !== undefined) return stops;
    else if (state === 'idle') throw new Error('the script waits for something');
  }
}

/** What is asked for, by how often it was. */
const HOW: readonly (readonly [name: string, at: (times: number) => StopAt | null])[] = [
  ['op', () => 'op'],
  ['layer', () => 'layer'],
  ['token', () => 'token'],
  ['now and then', times => (['op', 'layer', 'token', null] as const)[Math.floor(4 * random(times)())]!],
];

/** All that a machine is, and what its programs were told. */
function stateOf({ machine, printed }: Seat): Record<string, unknown> {
  const { kernel } = machine;
  machine.stopAt = null;
  return {
    printed: printed(),
    arena: kernel.arenaDigest(),
    clock: kernel.clock.record(),
    head: kernel.audit?.head,
    state: machine.stateDigest(),
    trace: machine.traceSince(0),
    told: ['step', 'plan', 'interrupts', 'sessions', 'stream', 'sched', 'kv'].map(name => read(machine, name)),
  };
}

const read = (machine: Machine, name: string): string => {
  const bytes = machine.observe(`/proc/${name}`);
  if (typeof bytes === 'number') throw new Error(`/proc/${name}: errno ${-bytes}`);
  return new TextDecoder().decode(bytes);
};

// ── The same machine ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const ASK = 'llminfer --max-tokens 3';

/** What is done to the machine before its script. */
interface Scene {
  readonly script: string;
  readonly prepare?: (machine: Machine) => void;
  /** What the output must show, so that it is what the scene is about. */
  readonly shows: RegExp;
  /** A run ends before its last record, which the counter does not see. */
  readonly ends?: true;
}

const SCENES: Readonly<Record<string, Scene>> = {
  'one request': {
    script: `llmctl load fable-q4_0 --ctx 64; ${ASK} --json --seed 3 --logits 5 --repeat-penalty 1.1 "Once upon a time"; cat /proc/step`,
    shows: /^state done$/m,
  },
  'a batch of sessions': {
    script: `llmctl load fable-q4_0 --ctx 64; for s in 1 2 3; do llmctl submit --seed $s -n $s Once upon a; done; ${ASK} --seed 9 Lily; cat /proc/sched`,
    shows: /^preemptions /m,
  },
  'servers and their deadlines': {
    script:
      'llmctl load fable-q4_0 --ctx 64; llmctl sched --segment-max 30ms > /dev/null; llmctl submit -n 8 Once;' +
      'llminfer --deadline 500 -n 3 Once upon; llminfer --json --period 100 --temp 0 -n 3 Once; llminfer --deadline 10 -n 3 Once',
    shows: /deadline_misses":0/,
  },
  'losses of a text': {
    script:
      'llmctl load fable-q4_0 --ctx 16; echo "Once upon a time there was a small dragon who lived in a cave" > /tmp/t; llmctl perplexity /tmp/t',
    shows: /perplexity/,
  },
  'weights that stream': {
    script: `llmctl load fable-q8_0 --ctx 64 --stream --pin 0 --tile 64K; ${ASK} --temp 0 Once & ${ASK} Lily; wait; cat /proc/stream`,
    shows: /^stalls [1-9]/m,
  },
  'a disk that fails in the middle of a pass': {
    script: `llmctl load fable-q8_0 --ctx 64 --stream --pin 0 --tile 64K; ${ASK} One; llmctl disk vda --fault gone; ${ASK} Two; llmctl disk vda --heal; ${ASK} Three`,
    shows: /is gone/,
  },
  'values that are no numbers': {
    script: `${ASK} Once upon; ${ASK} again`,
    prepare: poison,
    ends: true,
    shows: /fault/i,
  },
  'the stub': { script: `llmctl backend stub; ${ASK} --seed 1 Once upon; cat /proc/plan`, shows: /ECHO/ },
};

/** Loads a model, whose second layer will find no numbers in its keys. */
function poison(machine: Machine): void {
  machine.exec('llmctl load fable-q4_0 --ctx 64');
  const engine = machine.kernel.loader.engine()!;
  const rows = engine.ops();
  const i = rows.findIndex(({ name }) => name === 'blk.1.attn_norm.weight');
  const { word } = rows[i]!.operands.find(({ name }) => name === 'weights')!;
  const record = engine.bodyAt + i * PLAN_RECORD.bytes;
  const { arena } = machine;
  arena.f32[(arena.u32[(record + 4 * word) >> 2]! >> 2) + 5] = NaN;
}

for (const [name, scene] of Object.entries(SCENES))
  test(`${name}: held or not, the same machine`, t => {
    const whole = seat(scene);
    drive(whole, () => null);
    const expected = stateOf(whole);
    const records = whole.records();
    t.regex(whole.printed(), scene.shows);
    t.regex(read(whole.machine, 'step'), /^state (done|failed)$/m);
    for (const [how, at] of HOW.filter(([how]) => name === 'one request' || how === 'op' || how === 'now and then')) {
      const stopped = seat(scene);
      const stops = drive(stopped, at);
      if (how === 'op') t.is(stops, stopped.records());
      if (scene.ends !== true) t.is(stopped.records(), records, how);
      if (how === 'layer') t.true(stops > 0 && stops <= records, `${stops}`);
      if (how === 'token') t.is(stops, stopped.machine.kernel.sessions.passes);
      t.deepEqual(stateOf(stopped), expected, how);
    }
  });

// ── What is told ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** /proc/step, its operands apart. */
interface Told {
  readonly get: (key: string) => string;
  readonly figure: (key: string) => number;
  readonly places: readonly Place[];
}

interface Place {
  readonly shape: string;
  readonly at: number;
  readonly region: string;
  readonly what: string;
}

function told(machine: Machine): Told {
  const lines = read(machine, 'step').trimEnd().split('\n');
  const entries = new Map(lines.map(line => [line.split(' ', 1)[0]!, line.slice(line.indexOf(' ') + 1)]));
  const get = (key: string): string => entries.get(key) ?? '';
  const places = lines.flatMap((line): Place[] => {
    const [, shape = '', at, region = '', what = ''] = /^place \S+ (\S+) (\d+) (\S+) (.*)$/.exec(line) ?? [];
    return at === undefined ? [] : [{ shape, at: Number(at), region, what }];
  });
  return { get, figure: key => Number(get(key)), places };
}

/** Stops a script before every op; `each` looks. */
function look(scene: Scene, each: (machine: Machine) => void): void {
  const { machine, pid } = seat(scene);
  machine.stopAt = 'op';
  while (machine.statusOf(pid) === undefined) {
    const state = machine.run(64);
    if (state === 'stopped') each(machine);
    else if (state !== 'busy' && machine.statusOf(pid) === undefined) throw new Error(`the script: ${state}`);
  }
}

const STREAMING = 'llmctl load fable-q8_0 --ctx 64 --stream --pin 0 --tile 64K';
const LOOKED: Readonly<Record<string, Scene>> = {
  resident: {
    script: `llmctl load fable-q4_0 --ctx 64; for s in 1 2; do llmctl submit --seed $s -n 3 Once upon a; done; ${ASK} Lily`,
    shows: /./,
  },
  streaming: { script: `${STREAMING}; ${ASK} --seed 4 Once upon`, shows: /./ },
};

for (const [name, scene] of Object.entries(LOOKED))
  test(`${name}: every op is charged what was said of it, and a pass no more than its bound`, t => {
    /** Of the pass at hand: what its ops have been charged, and what the last one is to be. */
    let pass = -1;
    let charged = 0;
    let most = 0;
    let least = 0;
    const checkLast = (now: number): void => {
      const spent = now - charged;
      t.true(spent <= most && spent >= least, `${spent}, said ${least} to ${most}`);
    };
    look(scene, machine => {
      const { kernel } = machine;
      const step = told(machine);
      const now = kernel.clock.record().plan + kernel['processor'].unbooked;
      if (pass >= 0) checkLast(now);
      const isNew = kernel.sessions.passes !== pass;
      if (isNew) t.is(step.get('segment'), 'body');
      if (isNew) t.is(step.get('index'), '0');
      pass = kernel.sessions.passes;
      charged = now;
      most = step.figure('most');
      least = step.get('op') === 'SAMPLE' ? 1 : most; // it counts for itself
      t.is(step.get('state'), 'held');
      t.is(step.figure('left'), step.figure('bound') - step.figure('cycles'));
      t.true(step.figure('left') >= most, `${step.get('left')} left, ${step.get('op')} takes ${most}`);
      t.is(step.figure('compute') + step.figure('memory') + step.figure('overhead'), 1000 * most);
      t.is(step.figure('clock'), kernel.clock.cycles() + kernel['processor'].unbooked);
      const line = read(machine, 'plan').split('\n')[1 + step.figure('index')];
      t.is(line, PLAN_COLUMNS.map(step.get).join('\t'));
    });
    t.true(pass >= 2);
  });

/** Bytes of a shape like Q4_0[128][64]; null where it has none. */
function bytesOf(shape: string): number | null {
  const [type = '', ...sizes] = shape.replaceAll(']', '').split('[');
  const values = sizes.reduce((n, size) => n * Number(size), 1);
  if (type.startsWith('activations:')) return (values / 32) * 112;
  const block = { f32: [1, 4], u32: [1, 4], F32: [1, 4], F16: [1, 2], Q4_0: [32, 18], Q8_0: [32, 34] }[type];
  return block === undefined ? null : (values / block[0]!) * block[1]!;
}

for (const [name, scene] of Object.entries(LOOKED))
  test(`${name}: operands are what lies there`, t => {
    const kinds = new Set<string>();
    look(scene, machine => {
      const step = told(machine);
      if (kinds.has(`${step.get('op')} ${step.get('name')}`)) return;
      kinds.add(`${step.get('op')} ${step.get('name')}`);
      const regions = machine.arena.regions();
      const tensors = machine.kernel.loader.engine()!.tensors();
      for (const { shape, at, region, what } of step.places) {
        const bytes = bytesOf(shape);
        const home = regions.find(r => r.name.replace(' ', '-') === region)!;
        t.true(
          at >= home.startAt && at + (bytes ?? 1) <= home.startAt + home.bytes,
          `${what} ${shape} ${at} ${region}`,
        );
        const tensor = tensors.find(each => each.name === what);
        if (tensor === undefined || tensor.at === 0) continue;
        t.deepEqual([at, bytes], [tensor.at, tensor.bytes], `${what} ${shape}`);
        t.deepEqual(shape.match(/\d+(?=\])/g)!.map(Number), [...tensor.shape].reverse(), what);
      }
    });
    t.true(kinds.size > 40, `${kinds.size}`);
  });

test('others see no step of a session that is not theirs, nor what a package hides', t => {
  const { machine, pid } = seat({
    script: `llmctl load fable-q4_0 --ctx 64; llmctl submit -n 3 Once; sleep 9`,
    shows: /./,
  });
  drive({ machine, pid, printed: () => '', records: () => 0 }, () => null);
  t.regex(machine.exec('cat /proc/step').stdout, /^state done\n[^]*\nsessions 1\n/);
  t.is(machine.exec('su user -c "cat /proc/step"').stdout, '');
  const plan = machine.exec('su user -c "cat /proc/plan"').stdout.split('\n');
  t.is(plan[0], PLAN_COLUMNS.join('\t'));
  t.is(plan.length, 2 + told(machine).figure('ops'));
  t.is(machine.exec('llmctl probs > /dev/null; cat /proc/step').stdout, 'state none\n');
  t.is(machine.exec('llmctl unload; cat /proc/step /proc/plan').stdout, '');
});

// ── In the middle of a pass ──────────────────────────────────────────────────────────────────────────────────────────────────────

const LONG: Scene = {
  script: `llmctl load fable-q4_0 --ctx 64; llminfer -n 20 Once upon a time; echo status $?`,
  shows: /./,
};

test('Ctrl-C in the middle of a pass comes behind it', t => {
  /** Interrupted behind the fourth pass, or in the middle of it. */
  const interrupted = (at: StopAt, stops: number): Record<string, unknown> => {
    const s = seat(LONG);
    s.machine.stopAt = at;
    while (s.machine.kernel.sessions.passes < 3) s.machine.run(64);
    for (let i = 0; i < stops; i++) t.is(s.machine.run(64), 'stopped');
    s.machine.interrupt();
    s.machine.stopAt = null;
    drive(s, () => null);
    t.notRegex(s.printed(), /status/);
    return stateOf(s);
  };
  const expected = interrupted('token', 1);
  for (const stops of [1, 2, 60, 110]) t.deepEqual(interrupted('op', stops), expected, `${stops}`);
});

test('power that goes in the middle of a pass: the log is whole, and says that the request was cut off', t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-stepping-'));
  try {
    const mounts = { '/var/audit': directory };
    const s = seat(LONG, { mounts });
    s.machine.stopAt = 'op';
    while (s.machine.kernel.sessions.passes < 3) s.machine.run(64);
    for (let i = 0; i < 50; i++) t.is(s.machine.run(64), 'stopped');
    s.machine.powerOff();
    t.is(s.machine.run(64), 'halted');
    const lines: string[] = [];
    const next = boot({ image, mounts, log: line => lines.push(line) });
    t.true(
      lines.some(line => / 0 dropped, 1 requests cut off/.test(line)),
      lines.join('\n'),
    );
    t.is(next.exec(`llmctl load fable-q4_0 --ctx 64 > /dev/null; ${ASK} --temp 0 Once upon`).status, 0);
    next.powerOff();
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a panic in the middle of a pass is the panic of a machine that was never held', t => {
  /** The log of a machine whose processor breaks at its 300th record. */
  const panicked = (at: StopAt | null): readonly string[] => {
    const log: string[] = [];
    const s = seat(LONG, { log: line => log.push(line) });
    const { arena, kernel } = s.machine;
    const { compute } = kernel['hw'];
    const { run_op: runOp } = compute;
    let records = 0;
    Object.assign(compute, {
      run(stepAt: number, opAt: number): number {
        let status = 0;
        for (; arena.i32[opAt >> 2] !== 0 && status === 0; opAt += PLAN_RECORD.bytes)
          status = compute.run_op(stepAt, opAt);
        return status;
      },
      run_op(stepAt: number, opAt: number): number {
        if (++records === 300) throw new Error('the processor is broken');
        return runOp(stepAt, opAt);
      },
    });
    s.machine.stopAt = at;
    let state;
    do state = s.machine.run(64);
    while (state !== 'halted');
    t.is(s.machine.run(64), 'halted');
    return [...log.filter(line => !line.startsWith('    at ')), kernel.arenaDigest()]; // without the host's own stack
  };
  const expected = panicked(null);
  t.true(expected.some(line => line.includes('the processor is broken')));
  for (const at of ['op', 'layer', 'token'] as const) t.deepEqual(panicked(at), expected, at);
});
