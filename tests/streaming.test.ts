// Weights that stream, on whole machines: whatever the tiles, buffers, pins, disks and faults are, a streamed model says what the resident one
// says, to the bit of every logit; it takes exactly the memory that was planned, is charged what was said before it ran, and one pass over
// the file serves every session. Machines are strict: a charge outside its bound stops them.

import test, { type ExecutionContext } from 'ava';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import v8 from 'node:v8';
import { boot, type Machine } from '../boot/index.ts';
import {
  FAULT,
  isRefusal,
  PieceRecord,
  RESIDENCY,
  RowRecord,
  StepBlock,
  type Compute,
  type DiskFault,
  type Gather,
} from '../kernel/abi/index.ts';
import { Arena } from '../kernel/arena.ts';
import { Clock } from '../kernel/clock.ts';
import type { Disk } from '../kernel/disks.ts';
import { layFixed, type Layout } from '../kernel/layout.ts';
import { Processor } from '../kernel/step.ts';
import { Streams } from '../kernel/stream.ts';
import type { OpenFile } from '../vfs/file.ts';
import { accepted, random, Rig, soak } from './harness.ts';
import { json, ok, refused } from './support/commands.ts';
import { Bench } from './support/service.ts';
import { below, compare, freshSeen, wishOf } from './support/wishes.ts';

const SHARED = '../shared/models';
const image = readFileSync('build/boot.cpio');
const PROMPT = 'Once upon a time there was a small dragon who';

interface Answer {
  readonly tokens: readonly number[];
  readonly steps: readonly { readonly token: number; readonly top: readonly (readonly [number, number])[] }[];
  readonly cycles: number;
  readonly logits_sum: string;
  readonly wcet_cycles: number;
  readonly arena_peak_bytes: number;
  readonly finish_reason: string;
}

/** What a prompt is answered, with the largest logits of every step. */
const ask = (machine: Machine, tokens = 6): Answer =>
  json(
    machine,
    `llminfer --json --timeout 86400000 --seed 7 --max-tokens ${tokens} --logits 64 "${PROMPT}"`,
  ) as unknown as Answer;

const said = ({ tokens, steps, logits_sum: sum, finish_reason: finish }: Answer): unknown => ({
  tokens,
  steps,
  sum,
  finish,
});

/** Every session begins from nothing. */
const reload = (machine: Machine, command: string): string =>
  ok(machine, `llmctl unload 2> /dev/null; llmctl load ${command}`);

const figures = (machine: Machine): Readonly<Record<string, number>> =>
  Object.fromEntries(
    ok(machine, 'cat /proc/stream')
      .trimEnd()
      .split('\n')
      .map(line => [line.split(' ')[0]!, Number(line.split(' ')[1])]),
  );

function disk(machine: Machine, name = 'vda'): Disk {
  const found = machine.kernel.disks.find(name);
  if (isRefusal(found)) throw new Error(found.message);
  return found;
}

/** All streams, through buffers of 16 KiB. */
const STREAMED = { stream: RESIDENCY.streamed, tileBytes: 16_384, buffers: 2, pinBytes: 0 } as const;

const ALWAYS = { every: 1, next: 0, from: 0, to: Number.MAX_SAFE_INTEGER, factor: 1 } as const;
type Fault = Pick<DiskFault, 'kind'> & Partial<DiskFault>;

const inject = (on: Disk, fault: Fault): void => on.inject({ ...ALWAYS, ...fault });

// ── The hot path ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

type ReadAt = OpenFile['readAt'];

const GATHER = { tensor: '', fileAt: 0, unitBytes: 8, unitRows: 1, rows: 100, toAt: 0 } as const;

/** A plan of tiles that compute nothing, from a disk that answers with one and the same object. */
function idle(
  tiles: number,
  gather: Omit<Gather, 'by'> = GATHER,
  readAt: ReadAt = (_position, _at, bytes) => bytes,
): { readonly streams: Streams; readonly processor: Processor; readonly arena: Arena; readonly lay: Layout } {
  const arena = new Arena(new ArrayBuffer(320 * 1024));
  const lay = layFixed(arena);
  const clock = new Clock(arena, lay.clockAt, 1e9);
  const piecesAt = arena.alloc(tiles * PieceRecord.bytes, 32);
  const buffers = [arena.alloc(64, 32), arena.alloc(64, 32)];
  for (let i = 0; i < tiles; i++)
    PieceRecord.write(arena.u8, piecesAt + i * PieceRecord.bytes, {
      opAt: 64,
      bufferAt: buffers[i % 2]!,
      bytes: 64,
      fileAt: i * 64,
    });
  const answer = { beganAt: 0, doneAt: 0, status: 0, attempts: 1, sectors: 1 };
  const submit = (now: number): typeof answer => {
    answer.doneAt = Math.max(answer.doneAt, now) + 3;
    return answer;
  };
  const file = { path: '', readAt } as unknown as OpenFile;
  const cyclesAt = (lay.stepAt + StepBlock.at.cycles) >> 2;
  const run = (): number => {
    arena.u32[cyclesAt]! += 5;
    return FAULT.none;
  };
  const streams = new Streams(arena, lay, clock);
  const processor = new Processor(arena, lay, clock, { run } as unknown as Compute, streams, () => -1);
  streams.attach(
    {
      bodyPiecesAt: piecesAt,
      bodyPieces: tiles - 3,
      headPiecesAt: piecesAt + (tiles - 3) * PieceRecord.bytes,
      headPieces: 3,
      gathers: [
        { ...gather, by: 'token' },
        { ...gather, by: 'position' },
      ],
      bodyBytes: (tiles - 3) * 64,
      headBytes: 3 * 64,
      pinnedBytes: 0,
    },
    { file, disk: { name: 'vda', submit, complaint: () => '' } },
  );
  return { streams, processor, arena, lay };
}

// The first test of the file: engines box numbers beyond 2³¹ in calls that they do not inline, of which whole machines make them think.
test('a pass that streams allocates nothing on the JavaScript heap', t => {
  const { streams, processor } = idle(103);
  const used = (): number => v8.getHeapStatistics().used_heap_size;
  const loop = (passes: number): void => {
    for (let i = 0; i < passes; i++) {
      streams.begin(2);
      for (const segment of ['body', 'head', 'head'] as const) {
        processor.begin(segment, 0, 4);
        processor.go();
      }
      streams.end();
    }
  };
  for (let i = 0; i < 40; i++) loop(50);
  let least = Infinity;
  for (let i = 0; i < 8; i++) {
    (globalThis as { gc?: () => void }).gc?.();
    used();
    const empty = -(used() - used());
    const before = used();
    loop(50);
    least = Math.min(least, used() - before - empty);
  }
  t.log(`${least} B over 50 passes of 106 tiles and 8 rows`);
  t.true(least <= 50, `${least} B: less than one a pass, so none`);
  t.regex(streams.text(), /^reads \d+\nbytes \d+\ngathers \d+\n/);
});

test('of a matrix whose rows are no multiple of four, interleaved by four, the last unit is as long as it is', t => {
  const found: number[][] = [];
  const gather = { ...GATHER, fileAt: 1000, unitBytes: 32, unitRows: 4, rows: 10 };
  const { streams, processor, arena, lay } = idle(8, gather, (position, _at, bytes) => {
    if (position >= 1000) found.push([position, bytes]);
    return position >= 1000 ? Math.min(bytes, 1080 - position) : bytes; // the file ends with its tenth row
  });
  const rows = [
    { token: 9, pos: 0 },
    { token: 7, pos: 8 },
    { token: 10, pos: 3 }, // no row of it
  ];
  for (const [i, row] of rows.entries())
    RowRecord.write(arena.u8, lay.rowsAt + i * RowRecord.bytes, { ...row, tableAt: 0, session: 1 });
  streams.begin(0);
  processor.begin('body', 0, rows.length);
  t.true(processor.go());
  t.is(processor.status, FAULT.none);
  const [first, second, last] = [
    [1000, 32],
    [1032, 32],
    [1064, 16],
  ];
  t.deepEqual(found, [last, second, first, last, first]);
  t.regex(streams.text(), /^gathers 5\ngatherBytes 128$/m);
});

// ── The same bits ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const FORMS = [
  '--pin 0',
  '--pin 0 --tile 64K',
  '--pin 0 --tile 20000 --buffers 3',
  '--pin 0 --tile 12K --buffers 7 --batch 16 --draws 1',
  '--pin 300K --tile 32K --batch 3',
  '--pin auto --tile 16K --buffers 4',
];

for (const [model, forms] of [
  ['fable-f16', FORMS.slice(1, 3)],
  ['fable-q8_0', FORMS.slice(0, 4)],
  ['fable-q4_0', FORMS],
] as const)
  test(`${model}: streamed is resident, to the bit, in exactly the memory that was planned`, t => {
    const machine = boot({ strict: true, image });
    reload(machine, `${model} --stream=off`);
    const resident = said(ask(machine));
    t.is(ok(machine, 'cat /proc/stream'), '');
    for (const form of forms) {
      const planned = json<{ total_bytes: number; tiles: number }>(
        machine,
        `llmctl plan ${model} --json --stream ${form}`,
      );
      reload(machine, `${model} --stream ${form}`);
      const answer = ask(machine);
      t.deepEqual(said(answer), resident, form);
      t.is(answer.arena_peak_bytes, planned.total_bytes, form);
      t.is(json<{ arena_used_bytes: number }>(machine, 'llmctl status --json').arena_used_bytes, planned.total_bytes);
      t.true(answer.cycles <= answer.wcet_cycles);
      t.is(figures(machine)['errors'], 0);
    }
  });

/** Models of other types, and with other orders of addition: rows that are no multiples of eight. */
const OTHERS = soak
  ? [
      'f32',
      'bf16',
      'q4_1',
      'q5_0',
      'q5_1',
      'q2_k',
      'q3_k_s',
      'q4_k_s',
      'q5_k_s',
      'q6_k',
      'iq4_nl',
      'iq4_xs',
      'tq1_0',
      'tq2_0',
    ]
  : ['q4_1', 'q5_0', 'q4_k_s', 'q6_k', 'iq4_nl'];

(existsSync(SHARED) ? test : test.skip)('super-blocks and other types: streamed is resident, to the bit', async t => {
  t.timeout(600_000);
  const machine = boot({ strict: true, image, mounts: { '/mnt': SHARED } });
  for (const type of OTHERS) {
    const file = `/mnt/synthKQ-${type}.gguf`;
    reload(machine, `${file} --stream=off --ctx 64 --batch 4`);
    const resident = said(ask(machine, 3));
    for (const form of soak ? FORMS : ['--pin 0 --tile 40000', '--pin 400K --tile 64K --buffers 3']) {
      reload(machine, `${file} --ctx 64 --stream ${form}`);
      t.deepEqual(said(ask(machine, 3)), resident, `${type} ${form}`);
    }
    await setImmediate();
  }
});

test('a text is scored to the same loss', t => {
  const machine = boot({ strict: true, image });
  const text = '/usr/share/labs/shell.md';
  reload(machine, 'fable-q4_0 --stream=off --ctx 64');
  const resident = ok(machine, `head -c 900 ${text} | llmctl perplexity --json -`);
  for (const form of ['--pin 0 --tile 20000', '--pin 200K --draws 1 --batch 5', '--pin 0 --draws 3 --batch 8']) {
    reload(machine, `fable-q4_0 --ctx 64 --stream ${form}`);
    t.is(ok(machine, `head -c 900 ${text} | llmctl perplexity --json -`), resident, form);
  }
});

// ── Disks ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('disks and faults that are survived change when things happen, and nothing else', t => {
  const machine = boot({ strict: true, image });
  reload(machine, 'fable-q4_0 --stream=off');
  const resident = said(ask(machine));
  const vda = disk(machine);
  for (const model of ['default', 'nvme', 'emmc', 'sd', 'qspi', 'ram']) {
    ok(machine, `llmctl unload 2> /dev/null; llmctl disk vda --model ${model} --heal`);
    const retries = vda.retries;
    let healthy = 0;
    for (const [name, fault] of [
      ['healthy', null],
      ['worst', { kind: 'worst' }],
      ['slow', { kind: 'slow', factor: 1.5, every: 3 }],
      ['errors', retries > 0 ? { kind: 'error', every: 2 } : null],
      ['short', retries > 0 ? { kind: 'short', every: 2 } : null],
    ] as const satisfies readonly (readonly [string, Fault | null])[]) {
      vda.heal();
      reload(machine, 'fable-q4_0 --stream --pin 0 --tile 16K --buffers 3');
      if (name === 'slow' && ['default', 'qspi', 'ram'].includes(model)) continue; // hardly slower is failed
      if (fault !== null) inject(vda, fault);
      const answer = ask(machine);
      t.deepEqual(said(answer), resident, `${model} ${name}`);
      healthy ||= answer.cycles;
      t.is(answer.cycles, healthy, `${model} ${name}: a session is charged as on a disk in good health`);
    }
  }
});

test('a better disk, larger tiles and more that is pinned make tokens come sooner; the plan says so before', t => {
  const machine = boot({ strict: true, image });
  const speed = (options: string): number => {
    const { speeds } = json<{ speeds: { tokens_per_second: number }[] }>(
      machine,
      `llmctl plan fable-q8_0 --json --stream ${options}`,
    );
    return speeds[0]!.tokens_per_second;
  };
  t.true(speed('--pin 0 --disk nvme') > speed('--pin 0 --disk sd'));
  t.true(speed('--pin 0 --disk sd --tile 64K') > speed('--pin 0 --disk sd --tile 8K'));
  t.true(speed('--pin 1M --disk sd-spi') > speed('--pin 0 --disk sd-spi'));
  const all = json<{ speeds: { target: string; disk: string }[] }>(
    machine,
    'llmctl plan fable-q4_0 --json --stream --pin 0 --all',
  );
  t.is(new Set(all.speeds.map(s => `${s.target} ${s.disk}`)).size, all.speeds.length);
  t.true(all.speeds.length >= 12);
  // What is foretold of a token is what a token takes, once the first tiles are there.
  for (const model of ['default', 'nvme', 'sd']) {
    ok(machine, `llmctl unload 2> /dev/null; llmctl disk vda --model ${model}`);
    reload(machine, 'fable-q4_0 --stream --pin 0 --tile 32K --ctx 64');
    const [{ token_cycles: told, position }] = json<{ speeds: [{ token_cycles: number; position: number }] }>(
      machine,
      'llmctl plan --json',
    ).speeds;
    const before = machine.kernel.clock.cycles();
    const { tokens } = ask(machine, position - 4);
    const each = (machine.kernel.clock.cycles() - before) / tokens.length;
    t.true(each > told * 0.5 && each < told * 3, `${model}: ${each} cycles a token, ${told} foretold`);
  }
});

// ── Faults that are not ──────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Line {
  readonly id: number;
  readonly state: string;
}
const states = (machine: Machine): string[] =>
  json<{ sessions: Line[] }>(machine, 'llmctl sessions --json').sessions.map(s => s.state);

test('a read that fails beyond its retries ends the session whose turn it was; the others go on', t => {
  const machine = boot({ strict: true, image });
  reload(machine, 'fable-q4_0 --stream --pin 0 --tile 16K');
  const clean = said(ask(machine));
  for (let i = 0; i < 4; i++) ok(machine, `llmctl submit --seed 7 --max-tokens 6 "${PROMPT}"`);
  inject(disk(machine), { kind: 'error', next: 1, from: 300_000 });
  while (machine.kernel.sessions.active() > 0) machine.run(1);
  const all = states(machine);
  t.is(all.filter(state => state === 'FAULTED').length, 1, all.join());
  t.is(all.filter(state => state === 'DONE').length, 3, all.join());
  t.is(figures(machine)['errors'], 1);
  t.deepEqual(said(ask(machine)), clean, 'and new ones come');
});

test('whoever was in the same pass says what it would have said', async t => {
  const bench = new Bench();
  bench.load('fable-q4_0', { ...STREAMED, ctx: 96, batch: 8, draws: 2, sessions: 6 });
  const wishes = Array.from({ length: 5 }, (_, i) => ({
    text: `A dragon and ${i} princes went to the`,
    options: { maxTokens: 9, seed: i, timeoutMs: 3_600_000 },
    uid: 0,
    at: 0,
    cancelAfter: Infinity,
    readEvery: 1,
  }));
  const gather = bench.engine.stream!.gathers[0]!;
  const places: readonly (readonly [string, number, number])[] = [
    ['a tile of the body', 300_000, 2],
    ['the body, later', 650_000, 11],
    // The output matrix is that of the embeddings: a row that no prompt names.
    ['a tile of the head', gather.fileAt + 1019 * gather.unitBytes, 3],
    ['the first tile, read ahead', bench.engine.stream!.bodyPieces > 0 ? firstTile(bench) : 0, 5],
  ];
  for (const [what, at, every] of places) {
    bench.forget();
    inject(disk(bench.machine), { kind: 'error', next: 1, every, from: at, to: at });
    const outcomes = bench.together(wishes);
    disk(bench.machine).heal();
    const faulted = outcomes.filter(o => o?.finish === 'fault').length;
    t.true(faulted <= 1, `${what}: ${faulted} ended`);
    if (!what.includes('ahead')) t.is(faulted, 1, what);
    for (const [i, together] of outcomes.entries()) {
      const { text, options } = wishes[i]!;
      const { tokens, tops, cycles } = bench.alone(text, options);
      if (together!.finish !== 'fault') t.like(together, { tokens, tops, cycles }, `${what}: session ${i}`);
      else t.deepEqual(together!.tokens, tokens.slice(0, together!.tokens.length), what);
    }
    await setImmediate();
  }
});

/** Where the body's first tile begins in the file. */
function firstTile({ machine, engine }: Bench): number {
  const { bodyPiecesAt, bodyPieces } = engine.stream!;
  const pieces = Array.from({ length: bodyPieces }, (_, i) =>
    PieceRecord.read(machine.arena.u8, bodyPiecesAt + i * PieceRecord.bytes),
  );
  return pieces.find(p => p.bytes > 0)!.fileAt;
}

test('a stream that the period budget cuts short: what was read for its head is dropped, and nothing else changes', t => {
  const machine = boot({ strict: true, image });
  reload(machine, 'fable-q4_0 --stream --pin 0 --tile 16K');
  const clean = said(ask(machine));
  ok(machine, 'llmctl budget --period 1000000 --max-tokens-per-period 3');
  t.is(machine.exec('llmstream -n 10 "Once upon a time"').status, 1);
  t.true(figures(machine)['dropped']! > 0);
  ok(machine, 'llmctl budget --period 1 --max-tokens-per-period 1000');
  t.deepEqual(said(ask(machine)), clean);
});

test('the report of a session says which read has failed', t => {
  const machine = boot({ strict: true, image });
  reload(machine, 'fable-q4_0 --stream --pin 0 --tile 16K');
  inject(disk(machine), { kind: 'error' });
  const r = machine.exec(`llminfer "${PROMPT}"`);
  t.is(r.status, 1);
  t.regex(
    r.stderr,
    /^llminfer: EIO 6001 GgufParseError: session \d+ faulted: \/models\/fable-q4_0\.gguf: I\/O error reading \d+ bytes at \d+\n$/,
  );
  t.regex(machine.exec('echo hello | llmctl perplexity -').stderr, /^llmctl: EIO 6001 .*: -: session \d+ faulted: /);
  disk(machine).heal();
  t.is(machine.exec(`llminfer -n 3 "${PROMPT}"`).status, 0);
});

test('a row of the embeddings that cannot be read ends only the session whose token it is', t => {
  const machine = boot({ strict: true, image });
  reload(machine, 'fable-q4_0 --stream --pin 0 --tile 16K');
  const { file, id } = rowOf(machine, ' dragon');
  const { kernel } = machine;
  ok(machine, `llmctl submit --max-tokens 4 "Once upon a time there was a girl"`);
  ok(machine, `llmctl submit --max-tokens 4 "A dragon"`);
  inject(disk(machine), { kind: 'error', from: file, to: file + 71 });
  while (kernel.sessions.active() > 0) machine.run(1);
  t.deepEqual(states(machine), ['DONE', 'FAULTED'], `token ${id}`);
});

/** Where the row of a token's embedding lies in the loaded model's file. */
function rowOf(machine: Machine, word: string): { file: number; id: number } {
  const { tokens } = json<{ tokens: number[] }>(machine, `llmctl tokenize --json "A${word}"`);
  const id = tokens.at(-1)!;
  const gather = machine.kernel.loader.engine()!.stream!.gathers[0]!;
  return { file: gather.fileAt + Math.floor(id / gather.unitRows) * gather.unitBytes, id };
}

test('a disk that is gone ends who needs it; when it is back, new sessions run', t => {
  const machine = boot({ strict: true, image });
  reload(machine, 'fable-q4_0 --stream --pin 0 --tile 16K');
  const clean = said(ask(machine));
  ok(machine, `llmctl submit --max-tokens 40 "${PROMPT}"`);
  for (let i = 0; i < 6; i++) machine.run(1);
  ok(machine, 'llmctl disk vda --fault gone');
  while (machine.kernel.sessions.active() > 0) machine.run(1);
  t.deepEqual(states(machine).slice(-1), ['FAULTED']);
  const polled = machine.exec('llmctl poll last 64');
  t.is(polled.status, 1);
  t.regex(polled.stdout, /^\[LLM\]\[POLL\] id=\d+ n=\d+ done=1 /);
  t.regex(
    polled.stderr,
    /^llmctl: EIO 6001 \w+: session \d+ faulted: .*: disk vda is gone, reading \d+ bytes at \d+\n$/,
  );
  const r = machine.exec(`llminfer "${PROMPT}"`);
  t.regex(r.stderr, /session \d+ faulted: .*: disk vda is gone, reading \d+ bytes at \d+\n$/);
  ok(machine, 'llmctl disk vda --heal');
  t.deepEqual(said(ask(machine)), clean);
});

/** A directory of the host with the model in it, mounted at /host: its disk is vdb. */
function hosted(t: ExecutionContext): { readonly machine: Machine; readonly file: string } {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-stream-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const file = path.join(directory, 'm.gguf');
  writeFileSync(file, readFileSync('images/models/fable-q4_0.gguf'));
  return { machine: boot({ strict: true, image, mounts: { '/host': directory }, disks: { vdb: 'nvme' } }), file };
}

test('a file that is cut short meanwhile ends who needs the rest; one that is removed is read on', t => {
  const { machine, file } = hosted(t);
  reload(machine, '/host/m.gguf --stream --pin 0 --tile 16K');
  const clean = said(ask(machine));
  const whole = readFileSync(file);
  truncateSync(file, 500_000);
  t.regex(
    machine.exec(`llminfer "${PROMPT}"`).stderr,
    /faulted: \/host\/m\.gguf: I\/O error reading \d+ bytes at \d+\n$/,
  );
  writeFileSync(file, whole);
  t.deepEqual(said(ask(machine)), clean, 'whole again');
  rmSync(file);
  t.deepEqual(said(ask(machine)), clean, 'the open file stays');
  refused(t, machine, 'llmctl load /host/m.gguf', 1, /^llmctl: ENOENT 1001 /);
  t.deepEqual(said(ask(machine)), clean, 'and so does the model');
});

// ── Loading ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Inside {
  readonly vfs: { readonly filesOpen: number };
}

test('loaded, replaced, refused, unloaded and loaded again: the file is open while its weights stream, and only then', t => {
  const { machine, file } = hosted(t);
  const bad = readFileSync(file);
  const { tensors } = accepted(new Rig('simd128').image(bad));
  bad.writeUInt16LE(0x7c00, tensors.find(tensor => tensor.name === 'blk.3.ffn_up.weight')!.fileAt); // a scale that is infinite
  writeFileSync(path.join(path.dirname(file), 'bad.gguf'), bad);
  const open = (): number => (machine.kernel as unknown as Inside).vfs.filesOpen;
  ok(machine, 'llmctl unload');
  const none = open();
  for (let i = 0; i < 3; i++) {
    ok(machine, 'llmctl load /host/m.gguf --stream --pin 0 --tile 16K');
    t.is(open(), none + 1);
    t.not(machine.exec('umount /host').status, 0, 'its disk is in use');
    const first = said(ask(machine));
    ok(machine, 'llmctl load /host/m.gguf --stream --pin 100K --tile 32K');
    t.is(open(), none + 1);
    t.deepEqual(said(ask(machine)), first);
    // A load that is refused late: the previous model streams on.
    t.is(machine.exec('llmctl load fable-f16 --stream --pin 0 --pages 1000').status, 1);
    t.is(machine.exec('llmctl load /etc/motd').status, 1);
    t.regex(machine.exec('llmctl load /host/bad.gguf').stderr, /ENOEXEC 1002 .* values in rows .* are not finite\n$/);
    t.deepEqual(said(ask(machine)), first);
    ok(machine, 'llmctl load fable-q8_0 --stream=off');
    t.is(open(), none);
    ok(machine, 'llmctl unload');
    t.is(open(), none);
  }
  ok(machine, 'umount /host');
});

test('llmctl load and plan: residency as asked, by what fits, or the number that would have fitted', t => {
  const machine = boot({ strict: true, image });
  const planned = (options: string): Readonly<Record<string, number>> => json(machine, `llmctl plan --json ${options}`);
  t.like(planned('fable-f16'), { tile_bytes: 0, tiles: 0, streamed_bytes: 0, pinned_bytes: 0 });
  t.like(
    planned('fable-f16 --pages 150'),
    { tile_bytes: 262_144, buffers: 2, batch: 32 },
    'auto: it does not fit otherwise',
  );
  const f16 = planned('fable-f16 --stream --tile 100000 --buffers 5 --pin 123456 --draws 3 --batch 4');
  t.like(f16, { tile_bytes: 100_000, buffers: 5, draws: 3, batch: 4 });
  t.true(f16['pinned_bytes']! > 60_000 && f16['pinned_bytes']! <= 123_456);
  t.is(planned('fable-q4_0 --stream')['tiles'], 0, 'all of it is pinned');
  for (const [options, status, message] of [
    ['--stream=never', 2, /^llmctl: --stream 'never' is not on, off or auto\n$/],
    ['--stream=off --tile 4K', 2, /^llmctl: --stream=off excludes --tile, --buffers and --pin\n$/],
    ['--tile 0', 2, /^llmctl: --tile '0' is not a size from 1 to 4194304\n$/],
    ['--tile 5M', 2, /^llmctl: --tile '5M' is not a size from 1 to 4194304\n$/],
    ['--buffers 1', 2, /^llmctl: --buffers '1' is not an integer from 2 to 16\n$/],
    ['--pin 9M', 2, /^llmctl: --pin '9M' is not auto, nor a size up to 8388608\n$/],
    ['--draws 0', 2, /^llmctl: --draws '0' is not an integer from 1 to 32\n$/],
    ['--draws 9 --batch 8', 1, /EINVAL 7001 .*draws 9 asked, a pass has 8 rows at most\n$/],
    ['--tile 512', 1, /EINVAL 7001 .*tiles of 512 bytes: \d+ rows of blk\.0\.\S+ take \d+\n$/],
  ] as const)
    refused(t, machine, `llmctl load fable-q8_0 ${options}`, status, message);
  // One byte less is refused, with a number that fits.
  const most = 8_388_608;
  for (const [what, request] of [
    ['pinned bytes', `fable-f16 --stream --ctx 512 --pages 120 --pin ${most}`],
    ['pages', 'fable-f16 --stream --pin 0 --pages 1000'],
    ['tiles of', 'fable-f16 --stream --pin 0 --tile 4M --buffers 16 --pages 125 --draws 1'],
    ['buffers', 'fable-f16 --stream --pin 0 --tile 4M --buffers 16 --pages 125 --draws 1'],
  ] as const) {
    const r = machine.exec(`llmctl load ${request}`);
    t.is(r.status, 1, request);
    const n = Number(new RegExp(`would fit: .*${what} (\\d+)`).exec(r.stderr)?.[1]);
    t.true(n > 0, `${request}: ${r.stderr}`);
    const option = { 'pinned bytes': '--pin', pages: '--pages', 'tiles of': '--tile', buffers: '--buffers' }[what];
    t.is(machine.exec(`llmctl plan ${request} ${option} ${n}`).status, 0, `${request} ${option} ${n}`);
  }
});

test('llmctl pin: what stays is listed, and loaded again with another size', t => {
  const machine = boot({ strict: true, image });
  interface Pins {
    readonly streams: boolean;
    readonly pinned_bytes: number;
    readonly streamed_bytes: number;
    readonly pinned: readonly { readonly name: string; readonly bytes: number }[];
  }
  const pins = (): Pins => json(machine, 'llmctl pin --json');
  reload(machine, 'fable-q4_0 --stream=off');
  t.like(pins(), { streams: false, pinned: [] });
  const first = said(ask(machine));
  for (const size of ['0', '100K', '300K', 'auto']) {
    ok(machine, `llmctl pin ${size}`);
    const now = pins();
    t.true(now.streams);
    t.is(
      now.pinned.reduce((sum, m) => sum + m.bytes, 0),
      now.pinned_bytes,
      size,
    );
    t.is(now.streamed_bytes === 0, size === 'auto');
    t.deepEqual(said(ask(machine)), first, size);
  }
  refused(t, machine, 'llmctl pin x', 2, "llmctl: 'x' is not auto, nor a size up to 8388608");
  ok(machine, 'llmctl backend stub');
  refused(t, machine, 'llmctl pin 4K', 1, 'llmctl: the loaded engine has no file: it has no weights to pin');
});

// ── Sessions side by side ────────────────────────────────────────────────────────────────────────────────────────────────────────

test('one pass over the weights serves all sessions: reads are passes times tiles', t => {
  const machine = boot({ strict: true, image });
  reload(machine, 'fable-q4_0 --stream --pin 0 --tile 16K --draws 32');
  const { tiles, draws } = json<{ tiles: number; draws: number }>(machine, 'llmctl info --json');
  t.is(draws, 32);
  const stats = (): { passes: number; rows: number } => json(machine, 'llmstats --json');
  for (let i = 0; i < 8; i++) ok(machine, `llmctl submit --seed ${i} --max-tokens 5 "A dragon ${i}"`);
  while (machine.kernel.sessions.active() > 0) machine.run(1);
  const { passes, rows } = stats();
  const { reads, waiting, gathers, dropped } = figures(machine);
  t.true(rows > 1.5 * passes, `${rows} rows in ${passes} passes`);
  // Every pass drew: all tiles of body and head once, and the next body's first ones are there already.
  t.is(reads! - waiting! - dropped!, passes * tiles);
  t.is(gathers, rows);
});

for (const [name, request, modelName, faults] of [
  [
    'fable-q4_0',
    { ctx: 128, pages: 5, sessions: 32, batch: 4, tileBytes: 16_384, buffers: 2, draws: 3 },
    'default',
    [],
  ],
  [
    'fable-q8_0',
    { ctx: 96, pages: 60, sessions: 5, batch: 4, tileBytes: 40_000, buffers: 5, pinBytes: 400_000 },
    'sd',
    ['worst', 'error'],
  ],
  [
    'fable-q4_0',
    { ctx: 128, pages: 8, sessions: 8, batch: 4, tileBytes: 30_000, buffers: 3, pinBytes: 0 },
    'nvme',
    ['slow', 'short'],
  ],
] as const)
  test(`sessions on ${name} streaming from ${modelName}: preempted, swapped and cancelled, the same to the bit as each alone`, async t => {
    t.timeout(600_000);
    const next = random(name.length + modelName.length);
    const bench = new Bench();
    const vda = disk(bench.machine);
    const model = bench.kernel.disks.model(modelName);
    if (isRefusal(model)) throw new Error(model.message);
    vda.become(model);
    bench.load(name, { stream: RESIDENCY.streamed, pinBytes: 0, ...request });
    for (const kind of faults) inject(vda, { kind, every: 2 + below(next, 5), factor: 1.3 });
    const seen = freshSeen();
    for (let i = 0; i < (soak ? 10 : 1); i++) {
      const mix = { wordsMax: 14, tokensMax: 16, users: 3, servers: true };
      const wishes = Array.from({ length: soak ? 32 : 12 }, () => {
        const wish = wishOf(next, bench, mix);
        return { ...wish, options: { ...wish.options, timeoutMs: 3_600_000 } };
      });
      await compare(t, bench, next, wishes, seen);
    }
    const { swapOuts, preemptions } = { ...bench.kernel.pool.figures(), ...bench.kernel.sessions.schedule() };
    t.log({ ...seen, swapOuts, preemptions }, bench.kernel.streams.text().replaceAll('\n', ', '));
  });

// ── Time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

for (const modelName of ['default', 'nvme', 'emmc', 'sd', 'sd-spi', 'qspi', 'ram'])
  test(`time on ${modelName}: the first pass takes what is charged, and later ones what is foretold`, t => {
    const bench = new Bench();
    const { kernel } = bench;
    const model = kernel.disks.model(modelName);
    if (isRefusal(model)) throw new Error(model.message);
    disk(bench.machine).become(model);
    bench.load('fable-q4_0', {
      stream: RESIDENCY.streamed,
      tileBytes: 20_000,
      buffers: 3,
      pinBytes: 100_000,
      batch: 8,
      draws: 1,
    });
    const prices = kernel.loader.prices();
    const spent = (): number => {
      const { plan, stalls } = kernel.clock.record();
      return plan + stalls;
    };
    const handle = bench.accepted('once upon a time there was a girl who had three dogs', {
      maxTokens: 60,
      timeoutMs: 3_600_000,
    });
    const first = spent();
    bench.step();
    // Of n bytes a charge counts as many sectors as they can touch.
    const [took, charged] = [spent() - first, prices.charged('body', 8, 0)];
    if (modelName === 'default') t.is(took, charged);
    else t.true(took <= charged && took > charged * 0.97, `${took} cycles, ${charged} charged`);
    while (bench.report(handle).outputTokens < 20) bench.step();
    const { promptTokens, outputTokens } = bench.report(handle);
    const before = spent();
    for (let i = 0; i < 4; i++) bench.step();
    const each = (spent() - before) / 4;
    const told = prices.predict(promptTokens + outputTokens + 1, { modes: 4, topK: 40 }).cycles;
    t.true(Math.abs(each / told - 1) < 0.03, `${each} cycles a token, ${told} foretold`);
    kernel.sessions.close(handle);
  });
