// What things cost on the simulated processor: the target in force and what follows from it. Plans are priced when they are loaded and when
// the target changes; kernels that are no ops of a plan meter themselves at the prices of a table in the arena, and what they have spent is
// booked here; system calls, switches and transfers are booked at the target's figures. docs/WCET.md argues the prices.

import { LIMITS, refuse, type Compute, type Refusal } from './abi/index.ts';
import type { Arena } from './arena.ts';
import type { Clock } from './clock.ts';
import type { Disk, Disks } from './disks.ts';
import type { Layout } from './layout.ts';
import { panic } from './panic.ts';
import type { PlanSource, Prices } from './wcet/price.ts';
import type { TrainingSource, TrainPrices } from './wcet/train-price.ts';
import type { Target } from './wcet/targets.ts';

/** The most that take_spent answers: there may be more. */
const U32_MAX = 0xffffffff;

/** Prices on a target, as the certificates of the compiled kernels give them. */
export interface Pricer {
  plan(target: Target, plan: PlanSource): PlanPrices | Refusal;
  training(target: Target, source: TrainingSource): TrainingPrices | Refusal;
  /** What Compute.set_prices wants. */
  meterTable(target: Target): Uint32Array;
}
/** What is asked of a priced plan. */
export type PlanPrices = Pick<Prices, keyof Prices>;
export type TrainingPrices = Pick<TrainPrices, keyof TrainPrices>;

export class Costs {
  /** Transfers of the block device since power-on. */
  transfers = 0;
  private inForce: Target;

  constructor(
    private readonly arena: Arena,
    private readonly lay: Layout,
    private readonly clock: Clock,
    private readonly compute: Compute,
    private readonly pricer: Pricer,
    readonly targets: readonly Target[],
    target: Target,
    readonly disks: Disks,
  ) {
    this.inForce = target;
    this.writeMeterTable();
  }

  get target(): Target {
    return this.inForce;
  }

  /** The target of that name; '' is the one in force. */
  find(name: string): Target | Refusal {
    if (name === '') return this.inForce;
    return (
      this.targets.find(t => t.name === name) ??
      refuse('INVAL', 7001, `no target '${name}': ${this.targets.map(t => t.name).join(', ')}`)
    );
  }

  /** Another processor from now on. Prices of plans are the loader's to renew. */
  switchTo(target: Target): void {
    this.inForce = target;
    this.clock.switchTo(target.hz);
    this.writeMeterTable();
  }

  price(plan: PlanSource, target = this.inForce): PlanPrices | Refusal {
    return this.pricer.plan(target, plan);
  }

  /** The same of a training plan, on the target in force. */
  priceTraining(source: TrainingSource): TrainingPrices | Refusal {
    return this.pricer.training(this.inForce, source);
  }

  /** Books a system call; returns its cycles. */
  call(): number {
    const { syscallCycles } = this.inForce.overhead;
    this.clock.advance(syscallCycles, 'calls');
    return syscallCycles;
  }

  /** Books a switch to another process. */
  contextSwitch(): void {
    this.clock.advance(this.inForce.overhead.switchCycles, 'switches');
  }

  /** Books one transfer between storage and the arena, of bytes at `position` of a file: the machine waits for it. 0 or -errno. */
  transfer(bytes: number, disk: Disk = this.disks.memory, position = 0): number {
    const now = this.clock.cycles();
    const { doneAt, status } = disk.submit(now, position, bytes);
    this.transfers++;
    this.clock.advance(doneAt - now, 'transfers');
    return status;
  }

  /** Books a file that is read from its beginning to its end, its requests being submitted all at once. Refuses with the first that fails. */
  readThrough(bytes: number, disk: Disk): Refusal | null {
    const now = this.clock.cycles();
    let unread: Refusal | null = null;
    for (let at = 0; at < bytes && unread === null; at += disk.requestBytesMax) {
      const length = Math.min(bytes - at, disk.requestBytesMax);
      const { status } = disk.submit(now, at, length);
      this.transfers++;
      if (status < 0) unread = { errno: -status, code: 0, message: disk.complaint(status, length, at) };
    }
    this.clock.advance(Math.max(0, disk.idleAt() - now), 'transfers');
    return unread;
  }

  /** Books what a program reads: it waits where the disk has times of its own, and else finds its bytes in memory. 0 or -errno. */
  programRead(bytes: number, disk: Disk, position: number): number {
    return disk.isTimed
      ? this.transfer(bytes, disk, position)
      : disk.probe(this.clock.cycles(), position, bytes).status;
  }

  /** Waits until every disk is idle: what is on its way was promised at times that are about to change. */
  drain(): void {
    const idleAt = Math.max(...this.disks.list().map(disk => disk.idleAt()));
    this.clock.advance(Math.max(0, idleAt - this.clock.cycles()), 'transfers');
  }

  /** The most that a read from a disk takes when it is submitted now. */
  transferMost(bytes: number, disk: Disk): number {
    const { latency, transfer } = disk.times(this.inForce).read(bytes, 'most');
    return Math.max(0, disk.idleAt() - this.clock.cycles()) + latency + transfer;
  }

  /** Books what metered kernels have spent since the last time; returns it. */
  settle(): number {
    const all = this.takeSpent();
    this.clock.advance(all, 'kernels');
    return all;
  }

  /** The same for whoever books it: nobody else does any more. */
  takeSpent(): number {
    let all = 0;
    for (let taken = U32_MAX; taken === U32_MAX; all += taken) taken = this.compute.take_spent() >>> 0;
    return all;
  }

  private writeMeterTable(): void {
    const table = this.pricer.meterTable(this.inForce);
    if (table.byteLength > LIMITS.meterBytes)
      panic(`the price table of metered kernels takes ${table.byteLength} of ${LIMITS.meterBytes} bytes`);
    this.arena.u32.set(table, this.lay.pricesAt >> 2);
    this.compute.set_prices(this.lay.pricesAt);
  }
}
