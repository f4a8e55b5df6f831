// Bounds of plans whose weights stream: the recurrence of kernel/wcet/stream.ts against a machine that is simulated event by event, with a disk
// that has a queue, buffers that are taken and given back, and passes that follow each other and read ahead. On random programs and times
// both come to the same cycle from a cold start; whatever the disk does between its limits, no pass takes longer than its bound.

import test from 'ava';
import type { DiskTimes, ReadTime } from '../kernel/abi/index.ts';
import { Streamed, type Kind, type Piece } from '../kernel/wcet/stream.ts';
import { random, soak } from './harness.ts';

// ── A machine ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Command {
  readonly time: ReadTime;
  readonly issued: number;
  readonly done: () => void;
}

/** Events in order of time, then of their making. */
class Agenda {
  now = 0;
  private readonly events: { at: number; act: () => void }[] = [];

  at(time: number, act: () => void): void {
    let i = this.events.length;
    while (i > 0 && this.events[i - 1]!.at > time) i--;
    this.events.splice(i, 0, { at: time, act });
  }
  run(): void {
    for (let event; (event = this.events.shift()) !== undefined;) {
      this.now = event.at;
      event.act();
    }
  }
}

/** Answers commands one after the other; where it overlaps, the latency of those that wait goes by meanwhile. */
class Disk {
  private readonly queue: Command[] = [];
  private isBusy = false;

  constructor(
    private readonly agenda: Agenda,
    private readonly overlaps: boolean,
  ) {}

  submit(time: ReadTime, done: () => void): void {
    this.queue.push({ time, issued: this.agenda.now, done });
    this.serve();
  }

  private serve(): void {
    const command = this.isBusy ? undefined : this.queue.shift();
    if (command === undefined) return;
    this.isBusy = true;
    const { time, issued, done } = command;
    const since = this.overlaps ? issued : this.agenda.now;
    const begins = Math.max(this.agenda.now, since + time.latency);
    this.agenda.at(begins + time.transfer, () => {
      this.isBusy = false;
      done();
      this.serve();
    });
  }
}

/** A segment that is to run: what its pieces compute in this pass, its reads in order, and the rows it reads singly. */
interface Job {
  readonly pieces: readonly Piece[];
  readonly computing: readonly number[];
  readonly gathers: readonly number[]; // bytes of each
  /** Time that passes before it begins. */
  readonly idle: number;
}

/**
 * Runs jobs in order. Reads of tiles are submitted in order, each as soon as its buffer is free, those of jobs to come too; single reads when
 * their job begins, behind those of its tiles that free buffers can take, and before any tile of a later job. Returns how long each job took.
 */
function simulate(jobs: readonly Job[], overlaps: boolean, times: (bytes: number) => ReadTime): number[] {
  const agenda = new Agenda();
  const disk = new Disk(agenda, overlaps);
  const tiles = jobs.flatMap(({ pieces }, job) =>
    pieces.flatMap((p, piece) => (p.bytes > 0 ? [{ job, piece, bufferAt: p.bufferAt, bytes: p.bytes }] : [])),
  );
  const key = (job: number, piece: number): string => `${job} ${piece}`;
  /** Uses of each buffer, in order: the one that may come next is first. */
  const uses = new Map<number, string[]>();
  for (const [job, { pieces }] of jobs.entries())
    for (const [piece, { bufferAt }] of pieces.entries())
      if (bufferAt !== 0) uses.set(bufferAt, [...(uses.get(bufferAt) ?? []), key(job, piece)]);
  const arrived = new Set<string>();
  const durations: number[] = [];
  let [submitted, job, piece, waiting, singles, begun] = [0, 0, 0, true, 0, 0];

  /** The first job whose single reads have not been submitted: no tile of a later one goes before them. */
  const gate = (from: number): number => jobs.findIndex((j, i) => i >= from && j.gathers.length > 0);
  const submit = (last: number): void => {
    for (; submitted < tiles.length; submitted++) {
      const tile = tiles[submitted]!;
      if (last >= 0 && tile.job > last) return;
      const name = key(tile.job, tile.piece);
      if (uses.get(tile.bufferAt)![0] !== name) return;
      disk.submit(times(tile.bytes), () => {
        arrived.add(name);
        proceed();
      });
    }
  };
  const begin = (): void => {
    begun = agenda.now;
    submit(job);
    for (const bytes of jobs[job]!.gathers) {
      singles++;
      disk.submit(times(bytes), () => {
        singles--;
        proceed();
      });
    }
    submit(gate(job + 1));
    waiting = false;
    proceed();
  };
  const proceed = (): void => {
    if (waiting || singles > 0) return;
    const { pieces, computing } = jobs[job]!;
    const p = pieces[piece]!;
    if (p.bytes > 0 && !arrived.has(key(job, piece))) return;
    waiting = true;
    agenda.at(agenda.now + computing[piece]!, () => {
      if (p.bufferAt !== 0) uses.get(p.bufferAt)!.shift();
      submit(gate(job + 1));
      piece++;
      waiting = false;
      if (piece < pieces.length) return proceed();
      durations.push(agenda.now - begun);
      waiting = true;
      [job, piece] = [job + 1, 0];
      if (job < jobs.length) agenda.at(agenda.now + jobs[job]!.idle, begin);
    });
  };
  agenda.at(jobs[0]!.idle, begin);
  // Reading ahead of the first job while the machine is idle would make its start a warm one.
  agenda.run();
  return durations;
}

// ── Random programs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

const next = random(2024);
const below = (n: number): number => Math.floor(next() * n);
const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
const BUFFER = 4096;
const ROWS = 4;

/** Rounds through the buffers, as engines do; or pieces without a read, reads into any buffer, pieces that use what another has read. */
function randomPieces(buffers: number, regular: boolean): Piece[] {
  const scale = pick([1, 100, 10_000]);
  const kinds = [...pick([[0], [0, 1], [0, 0, 0, 1, 2]])]; // reads, none, others' data
  let turn = 0;
  return Array.from({ length: 1 + below(24) }, (): Piece => {
    const [base, each] = [below(scale), below(scale)];
    const uneven = below(2) * below(scale);
    const tokens = (n: number): number => base + n * each + (n % 3) * uneven;
    const kind = pick(kinds);
    const bufferAt = BUFFER * (1 + (regular ? turn++ % buffers : below(buffers)));
    const weight = below(3) === 0 ? below(4) : 0;
    if (kind === 0) return { tokens, weight, bytes: 1 + below(1000), bufferAt };
    if (kind === 1) turn--;
    return { tokens, weight, bytes: 0, bufferAt: kind === 1 ? 0 : bufferAt };
  });
}

/** Times between which a disk answers reads of a size. */
interface Limits extends DiskTimes {
  /** Some time that is neither better than the least nor worse than the most. */
  any(bytes: number): ReadTime;
}

function randomDisk(): Limits {
  const latency = below(pick([2, 50, 5000]));
  const byte = pick([0, 1, 7, 30]);
  const [spread, retries] = [1 + 3 * next(), below(3)];
  const factor = { least: 1, typical: 1 + (spread - 1) * next(), most: spread };
  const read = (bytes: number, kind: Kind): ReadTime => {
    const by = (cycles: number): number => (kind === 'least' ? Math.floor(cycles) : Math.ceil(cycles * factor[kind]));
    const once = { latency: by(latency), transfer: by(bytes * byte) };
    if (kind !== 'most') return once;
    return { ...once, transfer: once.transfer + retries * (once.latency + once.transfer) };
  };
  const any = (bytes: number): ReadTime => {
    const [least, most] = [read(bytes, 'least'), read(bytes, 'most')];
    const between = (a: number, b: number): number => (next() < 0.3 ? b : next() < 0.3 ? a : a + below(b - a + 1));
    return { latency: between(least.latency, most.latency), transfer: between(least.transfer, most.transfer) };
  };
  return { name: 'random', overlaps: next() < 0.5, read, any };
}

interface Program {
  readonly body: readonly Piece[];
  readonly head: readonly Piece[];
  readonly singles: readonly number[];
  readonly disk: Limits;
  readonly bodyTimes: Streamed;
  readonly headTimes: Streamed;
}

function randomProgram(): Program {
  const buffers = 1 + below(4);
  const regular = next() < 0.7;
  const [body, head] = [randomPieces(buffers, regular), randomPieces(buffers, regular)];
  const singles = Array.from({ length: below(3) }, () => 1 + below(100));
  const disk = randomDisk();
  const places = Array.from({ length: buffers }, (_, i) => BUFFER * (i + 1));
  const bodyTimes = new Streamed(body, places, singles, disk);
  const headTimes = new Streamed(head, places, [], disk);
  return { body, head, singles, disk, bodyTimes, headTimes };
}

const jobOf = (pieces: readonly Piece[], n: number, units: number, singles: readonly number[], idle = 0): Job => ({
  pieces,
  computing: pieces.map(p => p.tokens(n) + p.weight * units),
  gathers: singles.flatMap(bytes => Array.from({ length: n }, () => bytes)),
  idle,
});
const KINDS = ['least', 'typical', 'most'] as const;
const PROGRAMS = soak ? 100_000 : 4000;

test('from a cold start the recurrence and the machine come to the same cycle', t => {
  for (let i = 0; i < PROGRAMS; i++) {
    const p = randomProgram();
    const kind = pick(KINDS);
    const [n, units] = [1 + below(ROWS), below(2) * below(10_000)];
    const read = (bytes: number): ReadTime => p.disk.read(bytes, kind);
    const [body] = simulate([jobOf(p.body, n, units, p.singles)], p.disk.overlaps, read);
    const [head] = simulate([jobOf(p.head, n, 0, [])], p.disk.overlaps, read);
    const said = [p.bodyTimes.cycles(kind, n, units), p.headTimes.cycles(kind, n, 0)];
    if (body !== said[0] || head !== said[1])
      return t.fail(`program ${i}: ${body} and ${head} cycles, ${said[0]} and ${said[1]} were said`);
    const stalls = p.bodyTimes.stalls(kind, n, units).reduce((a, b) => a + b, 0);
    const computing = jobOf(p.body, n, units, []).computing.reduce((a, b) => a + b, 0);
    if (computing + stalls !== body) return t.fail(`program ${i}: stalls of ${stalls} and ${computing} of ${body}`);
  }
  return t.pass();
});

test('what was asked before does not change an answer; answers grow with positions, rows and times', t => {
  for (let i = 0; i < PROGRAMS / 10; i++) {
    const { body, singles, disk } = randomProgram();
    const places = [1, 2, 3, 4].map(x => BUFFER * x);
    const fresh = (): Streamed => new Streamed(body, places, singles, disk);
    const asked = fresh();
    const answers = new Map<string, number>();
    for (let q = 0; q < 40; q++) {
      const [kind, n, units] = [pick(KINDS), 1 + below(2), below(pick([10, 1000, 100_000]))];
      const cycles = asked.cycles(kind, n, units);
      answers.set(`${kind} ${n} ${units}`, cycles);
      if (cycles !== fresh().cycles(kind, n, units)) return t.fail(`program ${i}: ${kind}, ${n} rows, ${units} units`);
    }
    for (const [question, cycles] of answers) {
      const [kind, n, units] = question.split(' ') as [Kind, string, string];
      const more = asked.cycles(kind, Number(n), Number(units) + 1);
      const worse = asked.cycles(kind === 'least' ? 'typical' : 'most', Number(n), Number(units));
      if (more < cycles || worse < cycles) return t.fail(`program ${i}: ${question}`);
    }
  }
  return t.pass();
});

test('rows of several sessions take no longer together than one session after the other, where no op does', t => {
  for (let i = 0; i < PROGRAMS; i++) {
    const p = randomProgram();
    const kind = pick(KINDS);
    const [a, b, u, v] = [1 + below(2), 1 + below(2), below(1000), below(1000)];
    if (p.body.some(piece => piece.tokens(a + b) > piece.tokens(a) + piece.tokens(b))) continue;
    const both = p.bodyTimes.cycles(kind, a + b, u + v);
    const sum = p.bodyTimes.cycles(kind, a, u) + p.bodyTimes.cycles(kind, b, v);
    if (both > sum) return t.fail(`program ${i}: ${both} cycles together, ${sum} one after the other`);
  }
  return t.pass();
});

/** Passes one after the other, of any rows, with a head or several, and time between them in which reads go on. */
function randomJobs(p: Program): { jobs: Job[]; bounds: { most: number; least: number }[] } {
  const jobs: Job[] = [];
  const bounds: { most: number; least: number }[] = [];
  const idle = (): number => (next() < 0.3 ? below(pick([10, 1000, 100_000])) : 0);
  for (let pass = 0; pass < 5; pass++) {
    const [n, units] = [1 + below(ROWS), below(1000)];
    jobs.push(jobOf(p.body, n, units, p.singles, idle()));
    const computing = (job: Job): number => job.computing.reduce((a, b) => a + b, 0);
    const least = Math.max(computing(jobs.at(-1)!), p.bodyTimes.transfers('least', n, true));
    bounds.push({ most: p.bodyTimes.cycles('most', n, units), least });
    for (let heads = below(3); heads > 0; heads--) {
      const m = 1 + below(2);
      jobs.push(jobOf(p.head, m, 0, []));
      const headLeast = Math.max(computing(jobs.at(-1)!), p.headTimes.transfers('least', m, true));
      bounds.push({ most: p.headTimes.cycles('most', m, 0), least: headLeast });
    }
  }
  return { jobs, bounds };
}

for (const [title, worst] of [
  ['whatever the disk does between its limits, no pass leaves its bounds', false],
  ['with worst-case answers throughout, no pass leaves its bounds', true],
] as const)
  test(title, t => {
    for (let i = 0; i < PROGRAMS; i++) {
      const p = randomProgram();
      const { jobs, bounds } = randomJobs(p);
      const read = (bytes: number): ReadTime => (worst ? p.disk.read(bytes, 'most') : p.disk.any(bytes));
      for (const [job, cycles] of simulate(jobs, p.disk.overlaps, read).entries()) {
        const { most, least } = bounds[job]!;
        if (cycles > most || cycles < least)
          return t.fail(`program ${i}, job ${job}: ${cycles} cycles, ${least} to ${most} were said`);
      }
    }
    return t.pass();
  });
