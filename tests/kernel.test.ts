// The kernel alone: a machine with programs, a compute device and an engine made for the tests. Each program misuses or uses some calls;
// what is checked is what Linux would answer, and that nothing is left behind.
import test from 'ava';
import { createHash } from 'node:crypto';
import { blockDriver } from '../drivers/block/index.ts';
import { layOutPool, layOutSlots } from '../drivers/engine/sessions.ts';
import * as abi from '../kernel/abi/index.ts';
import {
  BLOCKED,
  E,
  EVENT,
  FINISH,
  O,
  SIG,
  type Compute,
  type Engine,
  type EngineDriver,
  type Sys,
} from '../kernel/abi/index.ts';
import { Arena } from '../kernel/arena.ts';
import type { PlanPrices } from '../kernel/costs.ts';
import { demonstrationKey } from '../boot/log-key.ts';
import { Kernel } from '../kernel/kernel.ts';
import { findTarget, TARGETS } from '../kernel/wcet/targets.ts';
import { argumentBlock } from '../shell/lib/program.ts';
import { makeSys } from '../shell/lib/sys.ts';
import { writeCpio } from '../vfs/cpio.ts';
import { KIND } from '../kernel/abi/index.ts';

type Main = (sys: Sys, argv: readonly string[]) => Generator<void, number, void>;

const encode = (s: string): Uint8Array => new TextEncoder().encode(s);
const decode = (b: Uint8Array): string => new TextDecoder().decode(b);

const SEGMENT_CYCLES = 1000;
const exactly = (cycles: number): { most: number; least: number } => ({ most: cycles, least: cycles });
/** Every segment costs the same, drawing nothing. */
const fakePrices: PlanPrices = {
  ctx: 64,
  batch: 8,
  fill: () => {},
  bodyTokens: () => SEGMENT_CYCLES,
  bodyPosition: () => 0,
  headPicks: 1,
  headTokens: m => m * SEGMENT_CYCLES,
  passMost: (_n, positions) => SEGMENT_CYCLES + positions,
  headMost: m => m * SEGMENT_CYCLES,
  computed: () => SEGMENT_CYCLES,
  waits: () => [],
  predict: () => ({ cycles: SEGMENT_CYCLES, computed: SEGMENT_CYCLES, transfers: 0 }),
  charged: () => SEGMENT_CYCLES,
  segment: () => exactly(SEGMENT_CYCLES),
  step: (_n, _pos, draws) => exactly(draws ? 3 * SEGMENT_CYCLES : SEGMENT_CYCLES),
  draw: () => exactly(0),
  topK: () => exactly(0),
  kernel: () => exactly(0),
  ops: () => [],
  opsAt: () => [],
};

/** Token i of the fake model is the byte i; it answers with the alphabet, from the last prompt byte on. */
class FakeCompute implements Compute {
  readonly build = 'simd128';
  steps = 0;
  fault = 0;
  cycles = SEGMENT_CYCLES; // of a segment
  spent = 0; // by metered kernels
  constructor(private readonly arena: Arena) {}
  run(stepAt: number, opAt: number): number {
    const at = abi.StepBlock.at;
    const step = (field: number): number => this.arena.i32[(stepAt + field) >> 2]!;
    this.arena.u32[(stepAt + at.cycles) >> 2] = this.cycles % 2 ** 32;
    this.arena.u32[(stepAt + at.cycles + 4) >> 2] = Math.floor(this.cycles / 2 ** 32);
    if (opAt === 1) this.steps += step(at.n);
    if (opAt === 3) {
      const last = this.arena.u32[(step(at.historyAt) >> 2) + step(at.historyLength) - 1]!;
      this.arena.i32[(stepAt + at.next) >> 2] = last + 1;
    }
    if (opAt === 4) this.arena.f64[(stepAt + at.loss) >> 3] = 0.5;
    return this.fault;
  }
  /** Its segments have no records that could run one by one. */
  run_op(): number {
    throw new Error('the fake processor was to be held');
  }
  repack(): number {
    return -1;
  }
  dequantize(): number {
    return -1;
  }
  encode(): number {
    return -1;
  }
  top_k(): void {}
  take_spent(): number {
    const { spent } = this;
    this.spent = 0;
    return spent;
  }
  set_prices(): void {}
}

class FakeEngine implements EngineDriver {
  readonly name = 'fake';
  constructor(private readonly ctx: number) {}
  private readonly shape = {
    name: 'fake',
    architecture: 'fake',
    tokenizer: 'fake',
    layers: 1,
    embedding: 1,
    heads: 1,
    headsKv: 1,
    feedForward: 1,
    vocabulary: 256,
    contextTrained: 0,
    parameters: 0,
    kvBytesPerToken: () => 4,
  };
  builtin(): abi.ModelImage {
    return {
      path: '',
      fileBytes: 0,
      version: 3,
      architecture: 'fake',
      keys: [],
      meta: () => undefined,
      typeOf: () => undefined,
      tensors: [],
      tensor: () => undefined,
      read: () => 0,
      dmaAt: 0,
      dmaBytes: 0,
    };
  }
  describe(): abi.ModelShape {
    return { ...this.shape, contextTrained: this.ctx };
  }
  order(): readonly string[] {
    return [];
  }
  budget(_image: abi.ModelImage, o: abi.EngineOptions): abi.EngineBudget {
    const session = o.sessions * layOutSlots(o, 0, 0).bytes;
    const kv = layOutPool(o, 4, 0).bytes;
    return { weights: 0, adapters: 0, stream: 0, tensors: 0, vocabulary: 32, kv, scratch: 4096, plan: 32, session };
  }
  load(_image: abi.ModelImage, options: abi.EngineOptions, _budget: abi.EngineBudget, place: abi.EnginePlace): Engine {
    let pending = 0;
    const vocabulary: abi.Vocabulary = {
      model: 'fake',
      count: 256,
      bytes: 32,
      bos: -1,
      eos: 122,
      addBos: false,
      addEos: false,
      isEnd: id => id === 122, // 'z'
      begin: () => (pending = 0),
      inputAt: () => place.scratchAt,
      inputBytes: () => (pending === 0 ? 4096 : 0),
      input: n => (pending = n),
      encode: outAt => {
        const n = pending;
        for (let i = 0; i < n; i++) memory.u32[(outAt >> 2) + i] = memory.u8[place.scratchAt + i]!;
        pending = 0;
        return n;
      },
      refusal: () => null,
      piece: (id, at) => {
        memory.u8[at] = id;
        return 1;
      },
    };
    return {
      name: 'fake',
      shape: this.describe(),
      options,
      vocabulary,
      bodyAt: 1,
      headAt: 2,
      sampleAt: 3,
      scoreAt: 4,
      logitsAt: place.scratchAt,
      logitsStride: 4 * vocabulary.count,
      stream: null,
      ...layOutPool(options, 4, place.kvAt),
      slots: layOutSlots(options, 0, place.sessionAt),
      begin: () => {},
      ops: () => [],
      tensors: () => [],
      inside: null,
      training: abi.refuse('NOSYS', 0, 'no training'),
      scalesAt: 0,
    };
  }
  plan(): abi.Refusal {
    return abi.refuse('NOSYS', 0, 'no plan');
  }
}
let memory: Arena;

interface Rig {
  kernel: Kernel;
  compute: FakeCompute;
  console: { typed: Uint8Array[]; interrupt: boolean };
  /** What programs wrote to fd 1 of the console. */
  output: () => string;
  log: string[];
  run: (main: Main, ...argv: string[]) => { status: number | undefined; output: string };
}

function rig(programs: Record<string, Main>, options: { ctx?: number; strict?: boolean } = {}): Rig {
  const arena = new Arena(new ArrayBuffer(abi.LIMITS.arenaBytes));
  memory = arena;
  const compute = new FakeCompute(arena);
  const log: string[] = [];
  const written: string[] = [];
  const console = { typed: [] as Uint8Array[], interrupt: false };
  let main: Main = function* () {
    return 0;
  };
  const wrap =
    (m: () => Main): abi.Entry =>
    gate => {
      const sys = makeSys(gate);
      return (function* () {
        const block = new Uint8Array(4096);
        const n = yield* sys.getargs(block);
        const argv = decode(block.subarray(abi.SpawnHeader.bytes, n))
          .split('\0')
          .slice(0, abi.SpawnHeader.read(block, 0).argc);
        return yield* m()(sys, argv);
      })();
    };
  const table = new Map<string, abi.Entry>([['main', wrap(() => main)]]);
  for (const [name, m] of Object.entries(programs))
    table.set(
      name,
      wrap(() => m),
    );
  const files = [...table.keys()].map(name => ({
    name: `bin/${name}`,
    kind: KIND.file,
    mode: 0o755,
    data: encode(`#!arena8 ${name}\n`),
  }));
  const image = writeCpio([
    { name: 'bin', kind: KIND.dir, mode: 0o755, data: new Uint8Array(0) },
    { name: 'home', kind: KIND.dir, mode: 0o755, data: new Uint8Array(0) },
    ...files,
    { name: 'etc/motd', kind: KIND.file, mode: 0o644, data: encode('hello\n') },
    { name: 'bin/text', kind: KIND.file, mode: 0o755, data: encode('#!/bin/sh\n') },
    { name: 'bin/stale', kind: KIND.file, mode: 0o755, data: encode('#!arena8 gone\n') },
  ]);
  const rng = { seed: () => {}, next: () => 0 };
  const kernel = new Kernel({
    arena,
    compute,
    engines: [new FakeEngine(options.ctx ?? 64)],
    tokenizer: { budget: () => abi.refuse('NOSYS', 0, 'no'), load: () => abi.refuse('NOSYS', 0, 'no') },
    xor128: rng,
    lcg: rng,
    templates: { render: () => ({ line: 1, message: 'no templates' }) },
    sha256: () => createHash('sha256'),
    console: {
      interactive: false,
      columns: 80,
      rows: 24,
      read: (m, at, length) => {
        const b = console.typed.shift();
        if (b === undefined) return BLOCKED;
        m.set(b.subarray(0, length), at);
        return Math.min(b.length, length);
      },
      write: (m, at, length) => {
        written.push(decode(m.subarray(at, at + length)));
        return length;
      },
      readline: () => BLOCKED,
      complete: () => {},
      remember: () => {},
      takeSuspend: () => false,
      takeResize: () => false,
      takeInterrupt: () => {
        const i = console.interrupt;
        console.interrupt = false;
        return i;
      },
    },
    devices: new Map(),
    hostDirectories: [],
    block: blockDriver,
    diskModels: new Map(),
    image,
    programs: table,
    loadConstants: () => 0,
    buildDigest: '0'.repeat(64),
    version: 'test',
    seed: 42,
    targets: TARGETS,
    target: findTarget('cortex-a72')!,
    pricer: {
      plan: () => fakePrices,
      training: () => abi.refuse('NOTSUP', 0, 'no prices'),
      meterTable: () => new Uint32Array(2),
    },
    strict: options.strict ?? true,
    logKey: demonstrationKey(),
    log: line => log.push(line),
  });
  const output = (): string => written.join('');
  return {
    kernel,
    compute,
    console,
    output,
    log,
    run: (m, ...argv) => {
      main = m;
      written.length = 0;
      const pid = kernel.start('/bin/main', '/', argumentBlock(['main', ...argv], new Map(), [0, 1, 2]), [
        'console',
        'console',
        'console',
      ]);
      while (kernel.run(100) === 'busy');
      const status = kernel.statusOf(pid);
      kernel.reap(pid);
      return { status, output: output() };
    },
  };
}

function* print(sys: Sys, text: string): Generator<void, void, void> {
  yield* sys.write(1, encode(text));
}

test('spawn, wait, exit status, arguments', t => {
  const r = rig({
    *child(sys, argv) {
      yield* print(sys, `[${argv.join(',')}]`);
      return 7;
    },
  });
  const { status, output } = r.run(function* (sys) {
    const pid = yield* sys.spawn('/bin/child', argumentBlock(['child', 'a b', ''], new Map(), [-1, 1, -1]));
    const code = new Uint8Array(4);
    t.is(yield* sys.wait(pid, code, 0), pid);
    t.is(yield* sys.wait(-1, code, 0), -E.CHILD);
    return code[0]!;
  });
  t.is(status, 7);
  t.is(output, '[child,a b,]');
});

test('spawn refuses: missing, not a program, a directory, a program that is not linked in', t => {
  const r = rig({});
  r.run(function* (sys) {
    const block = argumentBlock(['x'], new Map(), [-1, -1, -1]);
    t.is(yield* sys.spawn('/bin/none', block), -E.NOENT);
    t.is(yield* sys.spawn('/bin/text', block), -E.NOEXEC);
    t.is(yield* sys.spawn('/bin/stale', block), -E.NOEXEC);
    t.is(yield* sys.spawn('/etc/motd', block), -E.ACCES);
    t.is(yield* sys.spawn('/etc', block), -E.ACCES);
    t.is(yield* sys.spawn('/bin/main', argumentBlock(['x'], new Map(), [9, -1, -1])), -E.BADF);
    return 0;
  });
});

test('the window is the only memory a call may name', t => {
  const r = rig({});
  const gates: abi.Gate[] = [];
  r.run(function* () {
    return 0;
  });
  const calls = (r.kernel as unknown as { processes: { gate: (p: unknown) => abi.Gate } }).processes;
  gates.push(
    calls.gate({
      files: [],
      signals: new Map(),
      status: null,
      returned: null,
      stoppedBy: null,
      callsLeft: 9,
      lastError: {},
      trace: null,
      traceLines: '',
      cycles: 0,
    }),
  );
  const [gate] = gates;
  const nr = abi.SYSCALLS.getcwd.nr;
  t.is(gate!.trap(nr, 0, 16, 0, 0, 0, 0), -E.FAULT);
  t.is(gate!.trap(nr, gate!.windowAt - 1, 16, 0, 0, 0, 0), -E.FAULT);
  t.is(gate!.trap(nr, gate!.windowAt, gate!.windowBytes + 1, 0, 0, 0, 0), -E.FAULT);
  t.is(gate!.trap(nr, gate!.windowAt, -1, 0, 0, 0, 0), -E.FAULT);
  t.is(gate!.trap(nr, NaN, 4, 0, 0, 0, 0), -E.FAULT);
  t.is(gate!.trap(9999, 0, 0, 0, 0, 0, 0), -E.NOSYS);
});

test('descriptors: lowest free, EBADF, EMFILE, and none left over after a process ended', t => {
  const r = rig({});
  const { status } = r.run(function* (sys) {
    t.is(yield* sys.open('/etc/motd', O.RDONLY, 0), 3);
    t.is(yield* sys.open('/etc/motd', O.RDONLY, 0), 4);
    yield* sys.close(3);
    t.is(yield* sys.dup(4), 3);
    t.is(yield* sys.close(99), -E.BADF);
    t.is(yield* sys.read(98, new Uint8Array(4)), -E.BADF);
    let last = 0;
    while (last >= 0) last = yield* sys.open('/etc/motd', O.RDONLY, 0);
    t.is(last, -E.MFILE);
    return 0;
  });
  t.is(status, 0);
  t.is((r.kernel.vfs as unknown as { filesOpen: number }).filesOpen, 0);
});

test('a pipe streams through its ring; the reader sees the end; a writer without reader gets SIGPIPE', t => {
  const r = rig({
    *writer(sys) {
      const data = new Uint8Array(10_000).fill(65);
      for (let done = 0; done < data.length;) done += yield* sys.write(1, data.subarray(done));
      return 0;
    },
    *yes(sys) {
      for (;;) yield* sys.write(1, encode('y\n'));
    },
  });
  const { status } = r.run(function* (sys) {
    const fds = new Uint8Array(8);
    yield* sys.pipe(fds);
    const [reader, writer] = [fds[0]!, fds[4]!];
    yield* sys.spawn('/bin/writer', argumentBlock(['w'], new Map(), [-1, writer, -1]));
    yield* sys.close(writer);
    let total = 0;
    const buffer = new Uint8Array(4096);
    for (;;) {
      const n = yield* sys.read(reader, buffer);
      if (n <= 0) break;
      t.true(n <= abi.LIMITS.pipeBytes);
      total += n;
    }
    t.is(total, 10_000);
    yield* sys.close(reader);
    const code = new Uint8Array(4);
    yield* sys.wait(-1, code, 0);
    t.is(code[0], 0);

    yield* sys.pipe(fds);
    const pid = yield* sys.spawn('/bin/yes', argumentBlock(['y'], new Map(), [-1, fds[4]!, -1]));
    yield* sys.close(fds[4]!);
    yield* sys.read(fds[0]!, buffer);
    yield* sys.close(fds[0]!);
    yield* sys.wait(pid, code, 0);
    t.is(code[0], 128 + SIG.PIPE);
    return 0;
  });
  t.is(status, 0);
});

test('sleep moves the clock, not the host; sleepers wake in order', t => {
  const r = rig({
    *late(sys) {
      yield* sys.sleep(2000);
      yield* print(sys, 'late ');
      return 0;
    },
    *soon(sys) {
      yield* sys.sleep(1000);
      yield* print(sys, 'soon ');
      return 0;
    },
  });
  const { output } = r.run(function* (sys) {
    for (const name of ['late', 'soon'])
      yield* sys.spawn(`/bin/${name}`, argumentBlock([name], new Map(), [-1, 1, -1]));
    const code = new Uint8Array(4);
    yield* sys.wait(-1, code, 0);
    yield* sys.wait(-1, code, 0);
    return 0;
  });
  t.is(output, 'soon late ');
  t.true(r.kernel.clock.nowNs() >= 2e9 && r.kernel.clock.nowNs() < 2.01e9);
});

test('Ctrl-C: ends what does not catch it (130), interrupts a blocked call of what does', t => {
  const r = rig({
    *sleeper(sys) {
      yield* sys.read(0, new Uint8Array(1));
      return 0;
    },
  });
  let pid = 0;
  const r1 = r.run(function* (sys) {
    yield* sys.signal(SIG.INT, 1);
    pid = yield* sys.spawn('/bin/sleeper', argumentBlock(['s'], new Map(), [0, 1, -1]));
    r.console.interrupt = true;
    const code = new Uint8Array(4);
    let got = yield* sys.wait(pid, code, 0);
    if (got === -E.INTR) got = yield* sys.wait(pid, code, 0);
    return code[0]!;
  });
  t.is(r1.status, 130);
});

test('strace prints each call as the table describes it', t => {
  const r = rig({
    *reader(sys) {
      const fd = yield* sys.open('/etc/motd', O.RDONLY, 0);
      yield* sys.read(fd, new Uint8Array(100));
      yield* sys.open('/nowhere', O.WRONLY | O.CREAT | O.EXCL | O.DIRECTORY, 0o644);
      return 0;
    },
  });
  const { output } = r.run(function* (sys) {
    yield* sys.spawn('/bin/reader', argumentBlock(['r'], new Map(), [0, 1, 2], 1));
    yield* sys.wait(-1, new Uint8Array(4), 0);
    return 0;
  });
  t.true(output.includes('open("/etc/motd", O_RDONLY, 0) = 3\n'), output);
  t.true(output.includes('read(3, "hello\\n", 100) = 6\n'), output);
  t.true(
    output.includes('open("/nowhere", O_WRONLY|O_CREAT|O_EXCL|O_DIRECTORY, 0644) = -1 EINVAL (Invalid argument)\n'),
    output,
  );
});

/** Submits a prompt and reads events to the end. */
function* infer(
  sys: Sys,
  prompt: string,
  options: Partial<abi.RecordValue<typeof abi.SessionOptions.fields>> & { stops?: string[] },
) {
  const record = new Uint8Array(abi.SessionOptions.bytes);
  abi.SessionOptions.write(record, 0, {
    temp: 0,
    topP: 1,
    repeatPenalty: 1,
    ...options,
    stopCount: options.stops?.length ?? 0,
  });
  let p = abi.SessionOptions.at.stopBytes;
  for (const s of options.stops ?? []) {
    const b = encode(s);
    record[p] = b.length;
    record.set(b, p + 1);
    p += 1 + b.length;
  }
  const fd = yield* sys.memfd('prompt');
  yield* sys.write(fd, encode(prompt));
  yield* sys.lseek(fd, 0, 0);
  const session = yield* sys.session_open(record, fd);
  yield* sys.close(fd);
  if (session < 0) return { id: session, text: '', finish: '', tokens: [] as number[] };
  const report = new Uint8Array(abi.SessionReport.bytes);
  yield* sys.session_report(session, report);
  const { id } = abi.SessionReport.read(report, 0);
  const buffer = new Uint8Array(2048);
  let text = '';
  const tokens: number[] = [];
  for (;;) {
    const n = yield* sys.session_read(session, buffer);
    if (n <= 0) return { id, text, finish: 'error', tokens };
    const e = abi.SessionEvent.read(buffer, 0);
    text += decode(buffer.subarray(abi.SessionEvent.bytes, abi.SessionEvent.bytes + e.pieceBytes));
    if (e.kind === EVENT.token) tokens.push(e.token);
    if (e.kind === EVENT.end) {
      yield* sys.session_close(session);
      return { id, text, finish: FINISH[e.token]!, tokens };
    }
  }
}

test('sessions end for the stated reasons', t => {
  const r = rig({}, { ctx: 64 });
  const { status } = r.run(function* (sys) {
    t.is((yield* infer(sys, 'a', {})).id, -E.NODEV);
    const name = new Uint8Array(32);
    t.is(yield* sys.backend('fake', name), 4);
    t.like(yield* infer(sys, 'a', { maxTokens: 3 }), { text: 'bcd', finish: 'length', tokens: [98, 99, 100] });
    t.like(yield* infer(sys, 'w', { maxTokens: 9 }), { text: 'xy', finish: 'eos', tokens: [120, 121, 122] });
    t.like(yield* infer(sys, 'a', { maxTokens: 9, stops: ['ef', 'd!'] }), {
      text: 'bcd',
      finish: 'stop',
      tokens: [98, 99, 100, 101, 102],
    });
    t.like(yield* infer(sys, 'a', { maxTokens: 4, stops: ['ex'] }), { text: 'bcde', finish: 'length' });
    t.is((yield* infer(sys, 'a'.repeat(60), { maxTokens: 5 })).id, -E.OVERFLOW);
    t.like(yield* infer(sys, 'a'.repeat(60), { maxTokens: 4 }), { text: 'bcde', finish: 'length' });
    t.like(yield* infer(sys, 'a'.repeat(60), {}), { text: 'bcde', finish: 'context' });
    t.is((yield* infer(sys, 'a'.repeat(64), {})).id, -E.OVERFLOW);
    t.is((yield* infer(sys, '', {})).id, -E.INVAL);
    t.is((yield* infer(sys, 'a', { temp: -1 })).id, -E.INVAL);
    t.is((yield* infer(sys, 'a', { temp: NaN })).id, -E.INVAL);
    t.is((yield* infer(sys, 'a', { topP: 0 })).id, -E.INVAL);
    t.is((yield* infer(sys, 'a', { maxTokens: 513 })).id, -E.INVAL);
    return 0;
  });
  t.is(status, 0);
});

test('a fault of one session ends it, not the machine', t => {
  const r = rig({});
  r.run(function* (sys) {
    yield* sys.backend('fake', new Uint8Array(32));
    r.compute.fault = abi.FAULT.nan;
    t.like(yield* infer(sys, 'a', { maxTokens: 3 }), { finish: 'fault' });
    r.compute.fault = 0;
    t.like(yield* infer(sys, 'a', { maxTokens: 3 }), { text: 'bcd', finish: 'length' });
    return 0;
  });
});

test('32 sessions queue in order; the 33rd is refused; ids are never reused; a dead owner frees its sessions', t => {
  const r = rig({
    *hog(sys) {
      const fd = yield* sys.memfd('p');
      yield* sys.write(fd, encode('a'));
      const record = new Uint8Array(abi.SessionOptions.bytes);
      abi.SessionOptions.write(record, 0, { topP: 1, repeatPenalty: 1, maxTokens: 2 });
      let last = 0;
      for (let i = 0; i < 33; i++) {
        yield* sys.lseek(fd, 0, 0);
        last = yield* sys.session_open(record, fd);
      }
      t.is(last, -E.AGAIN);
      return 0;
    },
  });
  r.run(function* (sys) {
    yield* sys.backend('fake', new Uint8Array(32));
    yield* sys.spawn('/bin/hog', argumentBlock(['hog'], new Map(), [-1, -1, -1]));
    yield* sys.wait(-1, new Uint8Array(4), 0);
    const again = yield* infer(sys, 'a', { maxTokens: 1 });
    t.is(again.id, 33);
    t.is(again.finish, 'length');
    return 0;
  });
});

test('a program that breaks ends with 139, gives back what it held, and the machine goes on', t => {
  const r = rig({
    *broken(sys) {
      yield* sys.open('/etc/motd', O.RDONLY, 0);
      throw new RangeError('out of its depth');
    },
  });
  const { status, output } = r.run(function* (sys) {
    const code = new Uint8Array(4);
    const pid = yield* sys.spawn('/bin/broken', argumentBlock(['broken'], new Map(), [0, 1, 2]));
    t.is(yield* sys.wait(pid, code, 0), pid);
    yield* print(sys, 'on it goes');
    return code[0]!;
  });
  t.deepEqual([status, output], [139, 'on it goes']);
  t.regex(r.log.at(-1)!, /\] broken\[\d+\]: crashed: out of its depth$/);
});

test('a kernel bug halts the machine with tick, seed, session and audit', t => {
  const r = rig({});
  r.run(function* (sys) {
    yield* sys.backend('fake', new Uint8Array(32));
    yield* infer(sys, 'a', { maxTokens: 1 });
    r.compute.run = () => {
      throw new Error('boom');
    };
    yield* infer(sys, 'a', { maxTokens: 1 });
    return 0;
  });
  t.is(r.kernel.run(1), 'halted');
  const screen = r.log.join('\n');
  for (const part of [
    'kernel panic: boom',
    'seed 42',
    'session 2',
    'op=3 prompt_len=1 tokens=1 ',
    ' session=1 finish=length ',
  ])
    t.true(screen.includes(part), screen);
});

// ── Time and its bounds ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `account cycles` lines of /proc/clock. */
function* accounts(sys: Sys): Generator<void, Record<string, number>, void> {
  const text = yield* readAll(sys, '/proc/clock');
  return Object.fromEntries(
    text
      .trimEnd()
      .split('\n')
      .map(line => line.split(' '))
      .map(([name, cycles]) => [name!, Number(cycles)]),
  );
}

function* readAll(sys: Sys, path: string): Generator<void, string, void> {
  const fd = yield* sys.open(path, O.RDONLY, 0);
  const buffer = new Uint8Array(4096);
  let text = '';
  for (let n = 0; (n = yield* sys.read(fd, buffer)) > 0;) text += decode(buffer.subarray(0, n));
  yield* sys.close(fd);
  return text;
}

test('/proc/clock: every cycle is booked, each kind of cost to its account', t => {
  const r = rig({});
  const { status } = r.run(function* (sys) {
    yield* sys.backend('fake', new Uint8Array(32));
    const before = yield* accounts(sys);
    yield* infer(sys, 'abc', { maxTokens: 4 });
    r.compute.spent = 777;
    yield* infer(sys, 'abc', { maxTokens: 1 });
    yield* sys.sleep(5);
    const after = yield* accounts(sys);
    const spent = (name: string): number => after[name]! - before[name]!;
    t.deepEqual(Object.keys(after), [
      'plan',
      'kernels',
      'calls',
      'switches',
      'transfers',
      'stalls',
      'audit',
      'idle',
      'total',
    ]);
    t.is(spent('plan'), 5 * 3 * SEGMENT_CYCLES);
    t.is(spent('kernels'), 777);
    t.is(spent('calls') % findTarget('cortex-a72')!.overhead.syscallCycles, 0);
    t.true(spent('audit') > 0);
    // 5 ms of sleep, and the log's disk is waited for up to three times: for the load and two requests.
    t.true(spent('idle') > 0 && spent('idle') <= 7_500_000 + 3 * 2_000_000);
    t.true(spent('transfers') > 0 && spent('switches') > 0);
    const { total = 0, ...rest } = after;
    t.is(
      Object.values(rest).reduce((a, b) => a + b, 0),
      total,
    );
    return 0;
  });
  t.is(status, 0);
  t.is(r.kernel.run(1), 'idle');
});

test('target: asks, switches, refuses what it does not know, and while a session runs; time goes on', t => {
  const r = rig({});
  const { status } = r.run(function* (sys) {
    const name = new Uint8Array(32);
    const asked = function* (): Generator<void, string, void> {
      return decode(name.subarray(0, yield* sys.target('', name)));
    };
    const error = function* (): Generator<void, string, void> {
      const record = new Uint8Array(abi.LastError.bytes);
      yield* sys.last_error(record);
      return abi.LastError.read(record, 0).message;
    };
    const times = function* (): Generator<void, abi.RecordValue<typeof abi.Times.fields>, void> {
      const record = new Uint8Array(abi.Times.bytes);
      yield* sys.times(record);
      return abi.Times.read(record, 0);
    };
    t.is(yield* asked(), 'cortex-a72');
    t.is(yield* sys.target('pentium', name), -E.INVAL);
    t.is(yield* error(), "no target 'pentium': cortex-a72, sifive-u74, cortex-m7, host");
    t.is(yield* sys.target('', new Uint8Array(3)), -E.RANGE);

    const before = yield* times();
    t.is(yield* sys.target('cortex-m7', name), 'cortex-m7'.length);
    const after = yield* times();
    t.is(after.hz, 480_000_000);
    t.true(after.nowNs >= before.nowNs && after.nowNs < before.nowNs + 10_000);
    t.true(after.cycles > before.cycles);
    t.regex(
      yield* readAll(sys, '/proc/targets'),
      /^- cortex-a72 1500000000 model .*\n- sifive.*\n\* cortex-m7 480000000 model/,
    );

    yield* sys.sleep(1000);
    const slept = (yield* times()).nowNs - after.nowNs;
    t.true(slept >= 1e9 && slept < 1.001e9, `${slept} ns`);

    yield* sys.backend('fake', name);
    const record = new Uint8Array(abi.SessionOptions.bytes);
    abi.SessionOptions.write(record, 0, { topP: 1, repeatPenalty: 1, maxTokens: 3 });
    const fd = yield* sys.memfd('p');
    yield* sys.write(fd, encode('a'));
    yield* sys.lseek(fd, 0, 0);
    const id = yield* sys.session_open(record, fd);
    t.is(yield* sys.target('cortex-a72', name), -E.BUSY);
    t.regex(yield* error(), /^1 sessions? (is|are) running on cortex-m7/);
    yield* sys.session_close(id);
    t.is(yield* sys.target('host', name), 'host'.length);
    return 0;
  });
  t.is(status, 0);
});

for (const [how, cycles] of [
  ['more', SEGMENT_CYCLES + 1],
  ['less', SEGMENT_CYCLES - 1],
  ['more than 2³² more', SEGMENT_CYCLES + 2 ** 33],
] as const) {
  test(`a step that costs ${how} than its bounds: one session faults, and audit says why`, t => {
    const r = rig({}, { strict: false });
    r.run(function* (sys) {
      yield* sys.backend('fake', new Uint8Array(32));
      r.compute.cycles = cycles;
      t.like(yield* infer(sys, 'ab', { maxTokens: 3 }), { finish: 'fault' });
      r.compute.cycles = SEGMENT_CYCLES;
      t.like(yield* infer(sys, 'a', { maxTokens: 3 }), { text: 'bcd', finish: 'length' });
      const text = yield* readAll(sys, '/proc/audit');
      t.regex(
        text,
        new RegExp(
          `op=breach prompt_len=0 tokens=0 wcet_cycles=1000 .* session=1 cycles=${cycles} least=1000 name=body value=pos=0$`,
          'm',
        ),
      );
      t.regex(text, /op=3 prompt_len=2 tokens=0 .* session=1 finish=fault /);
      return 0;
    });
    t.is(r.kernel.run(1), 'idle');
  });

  test(`a step that costs ${how} than its bounds: a strict machine halts`, t => {
    const r = rig({}, { strict: true });
    r.run(function* (sys) {
      yield* sys.backend('fake', new Uint8Array(32));
      r.compute.cycles = cycles;
      yield* infer(sys, 'ab', { maxTokens: 3 });
      return 0;
    });
    t.is(r.kernel.run(1), 'halted');
    const text = `kernel panic: session 1, body at position 0, 0 tokens drawn: charged ${cycles} cycles, bounds 1000 to 1000`;
    t.true(r.log.join('\n').includes(text), r.log.join('\n'));
  });
}
