// A processor that is held between the ops of a pass. The same command lines on a machine that is never stopped, and on ones that stop before
// every op, before every layer, behind every pass, or now and then: what is printed, every byte of the arena, the clock, the audit log and
// the events must be the same, and a stop must have been seen before every op that was executed.

import { readFileSync } from 'node:fs';
import test from 'ava';
import { boot } from '../boot/index.ts';
import type { Machine, StopAt } from '../boot/machine.ts';
import { PLAN_RECORD } from '../kernel/abi/index.ts';
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

function seat(script: string): Seat {
  let text = '';
  const decoder = new TextDecoder();
  const console = new Tty({
    interactive: false,
    output: bytes => {
      text += decoder.decode(bytes, { stream: true });
    },
  });
  const machine = boot({ image, strict: true, console, build: 'simd128' });
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

/** All that a machine is. */
function stateOf({ machine, printed }: Seat): Record<string, unknown> {
  const { kernel } = machine;
  machine.stopAt = null;
  return {
    printed: printed(),
    arena: kernel.arenaDigest(),
    clock: kernel.clock.record(),
    head: kernel.audit?.head,
    trace: machine.exec('cat /proc/interrupts /proc/trace; od -An -tx1 /dev/trace').stdout,
  };
}

const SCRIPTS: Readonly<Record<string, string>> = {
  'one request':
    'llmctl load fable-q4_0 --ctx 64; llminfer --seed 3 --max-tokens 4 "Once upon a time"; cat /proc/clock; llmstats',
};

for (const [name, script] of Object.entries(SCRIPTS))
  test(`${name}: stopped or not, the same machine`, t => {
    const whole = seat(script);
    t.is(
      drive(whole, () => null),
      0,
    );
    const expected = stateOf(whole);
    const records = whole.records();
    for (const [how, at] of HOW) {
      const stopped = seat(script);
      const stops = drive(stopped, at);
      t.is(stopped.records(), records, how);
      if (how === 'op') t.is(stops, records);
      t.log(`${how}: ${stops} stops, ${records} records`);
      t.deepEqual(stateOf(stopped), expected, how);
    }
  });
