// Disks: the queue against one simulated cycle by cycle; every kind of fault against what it says, and all of them against the bound; the
// figures of each model in code, manual and documents; the machine's counters and what its programs print of them; files of the host that are
// larger than 4 GiB, replaced, cut short.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import fc from 'fast-check';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { blockDriver } from '../drivers/block/index.ts';
import { DISK_MODELS } from '../drivers/block/models.ts';
import { Queue } from '../drivers/block/queue.ts';
import { directory } from '../boot/host-directory.ts';
import { boot as powerOn } from '../boot/index.ts';
import type { Machine } from '../boot/index.ts';
import { DISK_COLUMNS, DISK_FAULTS, E, isRefusal, LIMITS, O } from '../kernel/abi/index.ts';
import type { DiskFault, DiskRates, HostFile, ReadAnswer, Timing } from '../kernel/abi/index.ts';
import { Arena } from '../kernel/arena.ts';
import { Clock, ClockRecord } from '../kernel/clock.ts';
import { Disks, type Disk } from '../kernel/disks.ts';
import { TARGETS, transferCycles, type Target } from '../kernel/wcet/targets.ts';
import { parseFault } from '../shell/lib/disks.ts';
import { soak } from './harness.ts';
import { runPlainly, type PlainRead } from './support/plain-disk.ts';

const image = fs.readFileSync('build/boot.cpio');
const A72 = TARGETS.find(t => t.name === 'cortex-a72')!;
const EVERYWHERE = { from: 0, to: Number.MAX_SAFE_INTEGER };

const fault = (kind: DiskFault['kind'], more: Partial<DiskFault> = {}): DiskFault => ({
  kind,
  every: 1,
  next: 0,
  factor: 10,
  ...EVERYWHERE,
  ...more,
});

/** A device of `depth` commands whose figures are small numbers: at best 1 + 0.5 a byte, as a rule 4 + 1, at worst 9 + 3. */
const rates = (depth: number, sectorBytes = 1): DiskRates => ({
  latency: { least: 1, typical: 4, most: 9 },
  sectorBytes,
  queueDepth: depth,
  transfer: (bytes, kind) => ({ least: Math.floor(bytes / 2), typical: bytes, most: 3 * bytes })[kind],
});

/** The disks of a machine, with nothing around them. */
function bench(target: Target = A72): { disks: Disks; vda: Disk; clock: Clock } {
  const arena = new Arena(new ArrayBuffer(4096));
  const clock = new Clock(arena, arena.alloc(ClockRecord.bytes, 32), target.hz);
  const disks = new Disks(blockDriver, clock, () => target, ['/srv']);
  const vda = disks.find('vda');
  if (isRefusal(vda)) throw new Error(vda.message);
  return { disks, vda, clock };
}

// ── The queue ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('reads are done when a device and a bus, simulated cycle by cycle, are done with them', t => {
  const submissions = fc.array(fc.record({ after: fc.nat(30), bytes: fc.integer({ min: 1, max: 12 }) }), {
    minLength: 1,
    maxLength: 24,
  });
  const property = fc.property(
    submissions,
    fc.integer({ min: 1, max: 5 }),
    fc.integer({ min: 1, max: 3 }),
    (list, depth, every) => {
      const queue = new Queue();
      if (every > 1) queue.inject(fault('error', { every }));
      let now = 0;
      let attempt = 0;
      const plain: PlainRead[] = [];
      const answered: ReadAnswer[] = [];
      for (const { after, bytes } of list) {
        now += after;
        const attempts = [];
        for (let more = true; more;) {
          attempts.push({ latency: 4, transfer: bytes });
          more = every > 1 && ++attempt % every === 0 && attempts.length < 3;
        }
        plain.push({ at: now, attempts });
        answered.push(queue.submit(rates(depth), 3, now, 0, bytes));
      }
      t.deepEqual(
        answered.map(a => a.doneAt),
        runPlainly(plain, depth),
      );
      t.deepEqual(
        answered.map(a => a.attempts),
        plain.map(p => p.attempts.length),
      );
      t.true(answered.every((a, i) => a.beganAt === Math.max(plain[i]!.at, i === 0 ? 0 : answered[i - 1]!.doneAt)));
      t.is(queue.idleAt, answered.at(-1)!.doneAt);
    },
  );
  fc.assert(property, { seed: 1, numRuns: soak ? 20_000 : 500 });
});

test('whole sectors are read, wherever a read begins', t => {
  const one = (position: number, bytes: number): number =>
    new Queue().submit(rates(1, 512), 1, 0, position, bytes).doneAt - 4;
  t.deepEqual(
    [one(0, 1), one(0, 512), one(511, 1), one(511, 2), one(1, 512), one(1023, 514), one(2 ** 53 - 1024, 512)],
    [512, 512, 512, 1024, 1024, 1536, 512],
  );
});

// ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What becomes of reads of 8 bytes at 0, 8, 16 …, one after the other, with two retries: how long each took, and its status. */
function struck(f: DiskFault, count: number, sectorBytes = 1): string[] {
  const queue = new Queue();
  queue.inject(f);
  const all: string[] = [];
  let now = 0;
  for (let i = 0; i < count; i++) {
    const a = queue.submit(rates(1, sectorBytes), 3, now, i * 8, 8);
    all.push(
      `${a.doneAt - now}${a.status === 0 ? '' : a.status === -E.IO ? ' EIO' : ' ENODEV'}${a.attempts > 1 ? ` ${a.attempts}` : ''}`,
    );
    now = a.doneAt;
  }
  return all;
}

test('each kind of fault does what it says', t => {
  // Healthy: 4 + 8 cycles. At worst: 9 + 24, three times: 99.
  t.deepEqual(struck(fault('error', { every: 3 }), 4), ['12', '12', '24 2', '12']);
  t.deepEqual(struck(fault('error', { next: 4 }), 4), ['36 EIO 3', '24 2', '12', '12']);
  t.deepEqual(struck(fault('error', { from: 16, to: 20 }), 4), ['12', '12', '36 EIO 3', '12']);
  t.deepEqual(struck(fault('error', { from: 15, to: 16, every: 2 }), 4), ['12', '12', '24 2', '12']);
  t.deepEqual(struck(fault('short', { next: 1 }), 2), ['16 2', '12'], '4 + 4, then 4 + 4');
  t.deepEqual(struck(fault('short'), 1), ['19 EIO 3'], '4 + 4, 4 + 2, 4 + 1, and one byte is missing');
  t.deepEqual(struck(fault('short'), 2, 8), ['12', '12'], 'one sector comes whole');
  t.deepEqual(struck(fault('slow', { factor: 2, every: 2 }), 2), ['12', '24']);
  t.deepEqual(
    struck(fault('slow', { factor: 3, next: 1 }), 2),
    ['45 2', '12'],
    'a latency of 12 is given up after 9, with 24 for the bytes',
  );
  t.deepEqual(struck(fault('slow'), 1), ['99 EIO 3'], 'given up each time');
  t.deepEqual(struck(fault('worst', { every: 2 }), 3), ['12', '99 3', '12']);
  t.deepEqual(struck(fault('gone', { next: 2 }), 3), ['0 ENODEV', '0 ENODEV', '12']);

  const queue = new Queue();
  for (const f of [fault('error', { every: 2 }), fault('slow', { factor: 2 })]) queue.inject(f);
  t.is(queue.submit(rates(1), 1, 0, 0, 8).doneAt, 24);
  t.is(queue.submit(rates(1), 1, 24, 0, 8).status, -E.IO, 'faults strike side by side');
  t.is(queue.faults.length, 2);
  t.false(queue.isGone);
  queue.inject(fault('gone', { next: 1 }));
  t.true(queue.isGone);
  t.is(queue.submit(rates(1), 1, 48, 0, 8).status, -E.NODEV);
  t.false(queue.isGone);
  queue.heal();
  t.deepEqual([queue.faults.length, queue.submit(rates(1), 1, 48, 0, 8).doneAt], [0, 60]);
});

const kinds: readonly (keyof Timing)[] = ['least', 'typical', 'most'];

test('no read passes its bound, whatever is wrong; none is faster than its best; "worst" takes exactly the bound', t => {
  const faults = fc.array(
    fc.record({
      kind: fc.constantFrom(...DISK_FAULTS),
      every: fc.integer({ min: 1, max: 5 }),
      next: fc.nat(6),
      factor: fc.integer({ min: 1, max: 200 }),
      from: fc.constantFrom(0, 4000),
      to: fc.constantFrom(9000, Number.MAX_SAFE_INTEGER),
    }),
    { maxLength: 4 },
  );
  const reads = fc.array(fc.record({ after: fc.nat(3e6), position: fc.nat(20_000), bytes: fc.nat(300_000) }), {
    minLength: 1,
    maxLength: 20,
  });
  const property = fc.property(
    fc.constantFrom(null, ...DISK_MODELS),
    fc.constantFrom(...TARGETS),
    fc.nat(3),
    faults,
    reads,
    (model, target, retries, wrong, list) => {
      const { vda } = bench(target);
      vda.become(model);
      vda.retryUpTo(retries);
      for (const f of wrong) vda.inject(f);
      const times = vda.times(target);
      const worst =
        wrong.length === 1 &&
        wrong[0]!.kind === 'worst' &&
        wrong[0]!.every === 1 &&
        wrong[0]!.next === 0 &&
        wrong[0]!.from === 0 &&
        wrong[0]!.to > 1e6;
      let now = 0;
      const end = { least: 0, typical: 0, most: 0 };
      for (const { after, position, bytes } of list) {
        now += after;
        const { doneAt, status } = vda.submit(now, position, bytes);
        for (const kind of kinds) {
          const { latency, transfer } = times.read(bytes, kind);
          end[kind] = times.overlaps
            ? Math.max(end[kind], now + latency) + transfer
            : Math.max(end[kind], now) + latency + transfer;
        }
        t.true(doneAt <= end.most, `${times.name}: ${doneAt} > ${end.most}`);
        if (worst) t.is(doneAt, end.most);
        if (wrong.length === 0) t.true(status === 0 && doneAt <= end.typical && doneAt >= end.least);
        if (status !== -E.NODEV && wrong.every(f => f.kind !== 'gone'))
          t.true(doneAt >= now + times.read(0, 'least').latency);
      }
    },
  );
  fc.assert(property, { seed: 2, numRuns: soak ? 20_000 : 500 });
});

test('what llmctl disk --fault takes', t => {
  t.like(parseFault('error'), { fault: 0, every: 1, next: 0, ...EVERYWHERE });
  t.like(parseFault('slow,x=4,every=3,next=7,bytes=10-20'), {
    fault: 2,
    factor: 4,
    every: 3,
    next: 7,
    from: 10,
    to: 20,
  });
  t.like(parseFault('short,bytes=5-'), { from: 5, to: Number.MAX_SAFE_INTEGER });
  for (const wrong of [
    '',
    'none',
    'error,',
    'error,x=2',
    'error,every=0',
    'error,bytes=5',
    'error,bytes=5-4',
    'slow,x=-1',
    'error,every=3-4',
  ])
    t.is(typeof parseFault(wrong), 'string', wrong);
});

// ── Models ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const ns = (n: number): string => (n >= 1e6 ? `${n / 1e6} ms` : n >= 1000 ? `${n / 1000} us` : `${n} ns`);
/** Picoseconds a byte as MB/s, to the digits that a table has. */
const rate = (ps: number): string => String(Number((1e6 / ps).toPrecision(ps > 500_000 ? 5 : 4)));

test('figures of models are ordered, and those that man disk and docs/DISKS.md print', t => {
  const squeezed = (file: string): string[] =>
    fs
      .readFileSync(file, 'utf8')
      .split('\n')
      .map(line => line.replaceAll(/[|,]/g, ' ').trim().replaceAll(/ +/g, ' '));
  const manual = squeezed('images/root/usr/share/man/disk.md');
  const document = squeezed('docs/DISKS.md');
  for (const m of DISK_MODELS) {
    const { least, typical, most } = m.latencyNs;
    t.true(
      least <= typical && typical <= most && m.bytePs.least <= m.bytePs.typical && m.bytePs.typical <= m.bytePs.most,
    );
    t.true(m.source.length > 20 && m.why.length > 20);
    const near = (text: string | undefined): void => {
      const numbers = text?.match(/[\d.]+/g)?.map(Number) ?? [];
      const wanted = [least, typical, most].map(n => Number(ns(n).split(' ')[0]));
      t.deepEqual(numbers.slice(0, 3), wanted, m.name);
      const rates = [m.bytePs.least, m.bytePs.typical, m.bytePs.most];
      rates.forEach((ps, i) =>
        t.true(Math.abs(1e6 / ps / numbers[3 + i]! - 1) < 0.003 + 0.5 / ps, `${m.name}: ${rate(ps)} MB/s`),
      );
    };
    const inManual = manual.find(l => l.startsWith(`${m.name} ${ns(least)} ${ns(typical)} ${ns(most)} `));
    near(inManual?.slice(m.name.length));
    t.regex(inManual ?? '', new RegExp(` ${m.sectorBytes} ${m.retries}$`));
    const inDocument = document.find(l => l.startsWith(`${m.name} ${ns(least)} ${ns(typical)} ${ns(most)} `));
    near(inDocument?.slice(m.name.length));
    t.regex(inDocument ?? '', new RegExp(` ${m.queueDepth} ${m.sectorBytes} ${m.retries}$`));
  }
});

test('times on a target: nanoseconds and bytes a second in its cycles; default is its own block device', t => {
  const { disks, vda } = bench();
  const nvme = disks.timesOf('nvme', A72);
  if (isRefusal(nvme)) return t.fail(nvme.message);
  // 262,144 bytes from anywhere are 513 sectors: 262,656 bytes at 295 ps are 77,483,520 ps, 116,225.28 cycles of 1.5 GHz; 70 us are 105,000.
  t.deepEqual(nvme.read(262_144, 'typical'), { latency: 105_000, transfer: 116_226 });
  // At best they are aligned: 253 ps a byte, 99,483 cycles. At worst 1000 ps, 393,984 cycles, and once more with 5 ms.
  t.deepEqual(nvme.read(262_144, 'least'), { latency: 15_000, transfer: 99_483 });
  t.deepEqual(nvme.read(262_144, 'most'), { latency: 7_500_000, transfer: 393_984 + 7_500_000 + 393_984 });
  t.true(nvme.overlaps);
  for (const target of TARGETS)
    for (const bytes of [0, 1, 511, 512, 4096, 2_658_976]) {
      const { upper, lower } = transferCycles(target, bytes);
      const times = vda.times(target);
      for (const [kind, cycles] of [
        ['least', lower],
        ['typical', upper],
        ['most', upper],
      ] as const) {
        const { latency, transfer } = times.read(bytes, kind);
        t.is(latency + transfer, cycles);
      }
      t.false(times.overlaps);
    }
  t.true(isRefusal(disks.timesOf('tape', A72)));
  t.true(isRefusal(disks.find('sda')));
});

test('counters: reads when they are done, waits behind others, what is in flight by now', t => {
  const { vda, clock } = bench();
  vda.become(DISK_MODELS.find(m => m.name === 'ram')!); // 1,500 cycles, then 250 ps: 0.375 a byte
  const [first, second] = [vda.submit(0, 0, 4096), vda.submit(0, 4096, 4096)];
  t.deepEqual([first.doneAt, second.beganAt, second.doneAt], [3036, 3036, 6072]);
  t.like(vda.counters(), { reads: 0, inFlight: 2, busyNs: 0 });
  clock.advance(1518, 'idle');
  t.like(vda.counters(), { reads: 0, inFlight: 2, busyNs: 1012, readNs: 2024 });
  clock.advance(3036, 'idle');
  t.like(vda.counters(), { reads: 1, bytes: 4096, moved: 4096, inFlight: 1, busyNs: 3036, waits: 0 });
  clock.advance(1e6, 'idle');
  t.like(vda.counters(), {
    reads: 2,
    bytes: 8192,
    inFlight: 0,
    busyNs: 4048,
    readNs: 6072,
    waits: 1,
    waitNs: 2024,
    errors: 0,
  });
});

// ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function said(m: Machine, command: string): string {
  const { stdout, stderr } = m.exec(command);
  return stdout + stderr;
}
interface Row {
  readonly [key: string]: unknown;
  readonly reads: number;
}
const diskOf = (m: Machine, name: string): Row => JSON.parse(m.exec(`llmctl disk --json ${name}`).stdout) as Row;

test('a program waits for its disk: dd tells the rate that the model gives', t => {
  const m = powerOn({ strict: true, image, disks: { vda: 'qspi' } });
  const cycles = (): number => m.kernel.clock.cycles();
  const before = cycles();
  t.is(m.exec('head -c 16384 /models/fable-q4_0.gguf > /dev/null').status, 0);
  t.true(cycles() - before > 16384 * 15.038 * 1.5, '16 KiB at 66.5 MB/s');
  t.regex(m.exec('llmctl disk vda').stdout, /\nrate +66\.5 MB\/s; at best 66\.5 MB\/s, at worst 52 MB\/s\n/);
  const told = m.exec('dd if=/models/fable-q4_0.gguf of=/dev/null bs=16K').stderr;
  const seconds = Number(/copied, ([\d.]+) s/.exec(told)?.[1]);
  // 774,816 bytes at 15,038 ps and 48 latencies of 1 us, and calls.
  t.true(seconds > 0.0116996 && seconds < 0.0119, told);
  t.like(diskOf(m, 'vda'), { model: 'qspi', errors: 0, retried: 0, writes: 0, read_only: false });
});

test('a machine whose disks are default keeps the times of one that knows no disks', t => {
  const m = powerOn({ strict: true, image });
  const before = m.kernel.clock.cycles();
  m.exec('true');
  const one = m.kernel.clock.cycles() - before;
  m.exec('cat /models/fable-f16.gguf > /dev/null');
  const calls = 2 * Math.ceil(2_658_976 / 16384) + 20;
  t.true(m.kernel.clock.cycles() - before - 2 * one < calls * A72.overhead.syscallCycles * 3);
  const { reads } = diskOf(m, 'vda');
  t.true(reads > 163);
  t.like(diskOf(m, 'vda'), { busy_ns: diskOf(m, 'vda')['busy_ns'], errors: 0, waits: 0 });
});

test('errors: one line that says what and where, and nothing is lost', t => {
  const m = powerOn({ strict: true, image, disks: { vda: 'emmc' } });
  const sum = m.exec('sha256sum /models/fable-q4_0.gguf').stdout;
  const words = m.exec('llminfer --temp 0 -n 8 Once').stdout;
  t.is(m.exec('llmctl disk vda --fault error,every=3').status, 0);
  t.is(said(m, 'sha256sum /models/fable-q4_0.gguf'), sum, 'retried');
  t.true((diskOf(m, 'vda')['retried'] as number) > 10);
  m.exec('llmctl disk vda --retries 0 --heal --fault error,next=1');
  t.is(said(m, 'cat /etc/motd'), 'cat: /etc/motd: I/O error reading 47 bytes at 0\n');
  t.is(said(m, 'cat /etc/motd'), fs.readFileSync('images/root/etc/motd', 'utf8'));
  m.exec('llmctl disk vda --fault error,next=1,bytes=100000-');
  const copy = m.exec(
    'dd if=/models/fable-q4_0.gguf bs=4096 conv=noerror,sync status=none | head -c 774816 | cmp -l - /models/fable-q4_0.gguf | wc -l',
  );
  t.true(Number(copy.stdout) > 100 && Number(copy.stdout) <= 4096, copy.stderr);
  t.is(copy.stderr, "dd: error reading '/models/fable-q4_0.gguf': I/O error reading 4096 bytes at 98304\n");
  for (const [wrong, line] of [
    ['error,bytes=0-0', 'I/O error reading 16384 bytes at 0'],
    ['error,bytes=500000-500000', 'I/O error reading 774816 bytes at 0'],
    ['gone', 'disk vda is gone, reading 16384 bytes at 0'],
  ] as const) {
    t.is(m.exec(`llmctl disk vda --heal --fault ${wrong}`).status, 0);
    t.is(said(m, 'llmctl load fable-q4_0'), `llmctl: /models/fable-q4_0.gguf: ${line}\n`);
    t.is(m.exec('llmctl disk vda --heal').status, 0);
    t.is(said(m, 'llminfer --temp 0 -n 8 Once'), words, 'the model that was there still answers');
  }
  m.exec('llmctl disk vda --fault gone,next=1');
  t.is(said(m, 'echo x > /tmp/x'), 'echo: write error: No such device\n');
  t.is(said(m, 'cat /etc/motd'), 'cat: /etc/motd: disk vda is gone, reading 47 bytes at 0\n');
  t.is(said(m, 'echo x > /tmp/x; cat /tmp/x'), 'x\n', 'it is back');
  t.true((diskOf(m, 'vda')['writes'] as number) > 0);
});

test('llmctl disk: for the superuser, between sessions; refusals change nothing', t => {
  const m = powerOn({ strict: true, image });
  t.is(said(m, 'llmctl disk tape'), "llmctl: no disk 'tape': ram0, ram1, vda\n");
  t.is(said(m, 'llmctl disk tape --heal'), "llmctl: no disk 'tape': ram0, ram1, vda\n");
  t.is(
    said(m, 'llmctl disk ram1 --model sd'),
    'llmctl: EINVAL 7001 InvalidConfig: disk ram1 is memory of the machine, and stays as it is\n',
  );
  t.regex(
    said(m, 'llmctl disk vda --model tape'),
    /no disk model 'tape': default, nvme, emmc, sd, sd-spi, qspi, ram\n$/,
  );
  t.regex(said(m, 'llmctl disk vda --model sd --retries 17'), /retries 17 asked, 16 at most/);
  t.like(diskOf(m, 'vda'), { model: 'default', retries: 0 });
  t.regex(said(m, 'llmctl disk vda --fault hole'), /^llmctl: --fault: no fault 'hole'/);
  t.regex(said(m, 'llmctl disk --heal'), /^llmctl: disk: whose\?/);
  t.is(m.exec("su user -c 'llmctl disk vda --heal'").status, 1);
  t.is(m.exec("su user -c 'llmctl disk vda'").status, 0);
  t.like(m.exec('llmctl submit -n 100 Once > /dev/null; llmctl disk vda --model sd'), { status: 1 });
  t.is(
    m.exec('llmctl disk vda --fault slow,x=3,every=2 --fault error,bytes=1-2').status,
    0,
    'faults may come at any time',
  );
  t.like(diskOf(m, 'vda'), { model: 'default', faults: ['slow,x=3,every=2', 'error,bytes=1-2'] });
  t.throws(() => powerOn({ image, disks: { vdz: 'sd' } }), { message: /^no disk 'vdz'/ });
  t.throws(() => powerOn({ image, disks: { vda: 'tape' } }), { message: /^no disk model 'tape'/ });
  t.throws(() => powerOn({ image, disks: { ram0: 'sd' } }), { message: /memory of the machine/ });
});

test('/proc/disks, /proc/diskstats, iostat and lsblk tell the same', t => {
  const root = temporary(t);
  fs.writeFileSync(path.join(root, 'data'), new Uint8Array(100_000));
  const m = powerOn({
    strict: true,
    image,
    mounts: { '/mnt/a b': { path: root, readOnly: true } },
    disks: { vdb: 'sd' },
  });
  m.exec("cat '/mnt/a b/data' > /dev/null");
  const disk = diskOf(m, 'vdb');
  // Seven reads: 16,384 bytes six times, 1,696 the last; 600 us each.
  t.like(disk, {
    model: 'sd',
    mounts: ['/mnt/a b'],
    read_only: true,
    bytes: null,
    reads: 7,
    bytes_read: 100_000,
    bytes_moved: 6 * 16384 + 2048,
  });
  const [titles, ...rows] = m.exec('cat /proc/disks').stdout.trimEnd().split('\n');
  t.deepEqual(titles!.split('\t'), [...DISK_COLUMNS]);
  t.deepEqual(
    rows.map(r => r.split('\t')[0]),
    ['ram0', 'ram1', 'vda', 'vdb'],
  );
  const stats = m.exec('grep vdb /proc/diskstats').stdout.trim().split(/ +/);
  t.is(stats.length, 20);
  const busyMs = Math.floor((disk['busy_ns'] as number) / 1e6);
  t.deepEqual(stats.slice(0, 13), [
    '254',
    '16',
    'vdb',
    '7',
    '0',
    '196',
    String(busyMs),
    '0',
    '0',
    '0',
    '0',
    '0',
    String(busyMs),
  ]);
  t.regex(m.exec('lsblk').stdout, /^vdb +254:16 +- +1 disk sd +\/mnt\/a b$/m);
  t.regex(
    m.exec('lsblk -J').stdout,
    /"name":"vdb","maj:min":"254:16","size":null,"ro":true,"type":"disk","model":"sd","mountpoints":\["\/mnt\/a b"\]/,
  );
  const report = JSON.parse(m.exec('iostat -j vdb').stdout) as {
    seconds: number;
    disks: Record<string, number>[];
    cpu: Record<string, number>;
  };
  const { seconds, cpu } = report;
  t.like(report.disks[0]!, { reads: 7, read_bytes: 6 * 16384 + 2048, retries: 0, errors: 0 });
  t.true(Math.abs(report.disks[0]!['utilisation']! * seconds * 1e9 - (disk['busy_ns'] as number)) < 1);
  t.true(Math.abs(Object.values(cpu).reduce((a, b) => a + b, 0) - 100) < 1e-9);
  t.regex(
    m.exec('iostat -dk vdb').stdout,
    /^Device +tps +kB_read\/s +kB_wrtn\/s +kB_read +kB_wrtn\nvdb +[\d.]+ +[\d.]+ +0\.00 +98\.00 +0\.00\n$/,
  );
  t.regex(m.exec('iostat -m').stdout, /^avg-cpu: +%user %system %iowait +%idle\n +[\d. ]+\n\nDevice +tps +MB_read\/s/);
  const three = m
    .exec(`(sleep 1; cat '/mnt/a b/data' > /dev/null) & iostat -dxy /dev/vdb 2 1; wait`)
    .stdout.split('\n');
  t.is(three.filter(l => l.startsWith('Device')).length, 1, '-y leaves the first report out');
  t.regex(three[1]!, /^vdb +3\.50 +49\.00 +0\.\d+ +0\.00 +14\.00 /);
  t.is(
    m
      .exec('iostat -dz vdb 1 2')
      .stdout.split('\n')
      .filter(l => l.startsWith('vdb')).length,
    1,
    '-z: nothing in the second',
  );
  t.is(m.exec('iostat -c -d').stdout.replace(/[\d.]/g, ''), m.exec('iostat').stdout.replace(/[\d.]/g, ''));
  t.is(said(m, 'iostat hda'), "iostat: no disk 'hda': ram0, ram1, vda, vdb\n");
  t.is(m.exec('iostat 0').status, 1);
  t.is(m.exec('iostat 1 2 3').status, 1);
});

test('while servers run a program waits for its disk only when there is time for the worst', t => {
  const m = powerOn({ strict: true, image, disks: { vda: 'nvme' } });
  m.exec('llmctl disk vda --fault slow,x=40,every=3');
  t.is(m.exec('llmctl submit --period 400 --temp 0 -n 12 Once upon a time').status, 0);
  const r = m.exec('for i in 1 2 3 4 5 6; do cat /etc/motd; done > /dev/null; sleep 4; llmctl status | grep DET');
  t.regex(r.stdout, /deadline_misses=0/);
  t.true(diskOf(m, 'vda').reads >= 6);
});

test('weights stream from every kind of disk, faulty or not, and give the same text within their bounds', t => {
  const m = powerOn({ strict: true, image, disks: { vda: 'sd' } });
  const ask = 'llminfer --timeout 3600000 --temp 0 -n 6 Once upon a time';
  t.is(m.exec('llmctl load fable-q4_0').status, 0);
  const text = m.exec(ask).stdout;
  t.is(m.exec('llmctl load fable-q4_0 --stream=on --tile 32K --pin 0').status, 0);
  const before = diskOf(m, 'vda').reads;
  for (const change of [
    '--heal',
    '--fault worst',
    '--heal --model ram', // what the card still had on its way was slower than anything of this
    '--fault error,every=1000 --retries 1',
    '--model nvme',
    '--heal --fault slow,x=3,every=4',
    '--heal --fault short,every=5',
    '--heal --model emmc --fault worst',
    '--heal --model default',
  ]) {
    t.is(m.exec(`llmctl disk vda ${change}`).status, 0, change);
    t.is(said(m, ask), text, change);
  }
  t.is(m.exec('llmctl disk vda --model sd-spi --fault worst; llmctl target cortex-m7').status, 0);
  t.is(said(m, ask), text, 'another processor');
  t.true(diskOf(m, 'vda').reads > before + 9 * 6 * 20);
  t.is(m.exec('llmctl disk vda --heal --fault gone').status, 0);
  t.regex(said(m, ask), /faulted: \/models\/fable-q4_0\.gguf: disk vda is gone, reading \d+ bytes at \d+\n$/);
  t.is(m.exec('llmctl disk vda --heal --model ram').status, 0);
  t.is(said(m, ask), text, 'and back');
});

// ── Files of the host ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function temporary(t: ExecutionContext): string {
  const root = fs.mkdtempSync(path.join(tmpdir(), 'arena8-disks-'));
  t.teardown(() => fs.rmSync(root, { recursive: true, force: true }));
  return root;
}

function opened(file: HostFile | number): HostFile {
  if (typeof file === 'number') throw new Error(`errno ${-file}`);
  return file;
}

test('a file of the host beyond 4 GiB is read by position', t => {
  const root = temporary(t);
  const fd = fs.openSync(path.join(root, 'large'), 'w');
  const marks = [0, 2 ** 31 - 2, 2 ** 32 - 2, 2 ** 32 + 50, 5 * 2 ** 30, 2 ** 42 + 3];
  for (const at of marks) fs.writeSync(fd, `at ${at}`, at);
  fs.closeSync(fd);
  const file = opened(directory(root, true).open('large', O.RDONLY));
  const bytes = new Uint8Array(64);
  for (const at of marks) {
    const text = `at ${at}`;
    t.is(file.read(at, bytes, 8, text.length), text.length);
    t.is(Buffer.from(bytes.subarray(8, 8 + text.length)).toString(), text);
  }
  t.is(file.read(2 ** 53 - 64, bytes, 0, 64), 0, 'behind the end there is nothing');
  file.close();

  const m = powerOn({ strict: true, image, mounts: { '/h': root }, disks: { vdb: 'nvme' } });
  const opening = m.kernel.vfs.open('/', '/h/large', O.RDONLY, 0);
  if (typeof opening === 'number') return t.fail();
  t.is(opening.stat().size, 2 ** 42 + 3 + `at ${2 ** 42 + 3}`.length);
  t.is(opening.readAt(2 ** 42 + 3, LIMITS.nullBytes, 4), 4);
  t.is(m.kernel.disks.of(opening).name, 'vdb');
  t.is(said(m, `dd if=/h/large bs=1 skip=${2 ** 32 + 50} count=13 status=none`), 'at 4294967346');
  t.is(said(m, `printf end | dd of=/h/far bs=1 seek=${2 ** 33} status=none; tail -c 3 /h/far`), 'end');
  opening.close();
});

test('a file that the host replaces stays the one that was opened; one that it cuts short ends there', t => {
  const root = temporary(t);
  const name = path.join(root, 'f');
  fs.writeFileSync(name, 'a'.repeat(1000));
  const d = directory(root, false);
  const file = opened(d.open('f', O.RDWR));
  const bytes = new Uint8Array(100);
  fs.writeFileSync(path.join(root, 'g'), 'b'.repeat(1000));
  fs.renameSync(path.join(root, 'g'), name);
  t.is(file.read(900, bytes, 0, 100), 100);
  t.true(
    bytes.every(b => b === 0x61),
    'the old one',
  );
  t.is(file.write(0, Uint8Array.of(0x63), 0, 1), 1);
  t.is(fs.readFileSync(name, 'utf8'), 'b'.repeat(1000), 'it is not the new one that is written to');
  file.close();
  const again = opened(d.open('f', O.RDONLY));
  fs.truncateSync(name, 950);
  t.is(again.read(900, bytes, 0, 100), 50);
  t.true(bytes.subarray(0, 50).every(b => b === 0x62));
  t.is(again.read(950, bytes, 0, 100), 0);
  fs.rmSync(name);
  t.is(again.read(0, bytes, 0, 100), 100, 'a removed one is there as long as it is open');
  again.close();
  t.is(d.open('f', O.RDONLY), -E.NOENT);
});
