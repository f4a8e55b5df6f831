// A disk written plainly, cycle by cycle: a device that takes so many commands, whose latencies pass side by side, and one bus on which they
// transfer in the order they came. What drivers/block/queue.ts computes at submission must be what happens here.

export interface PlainRead {
  readonly at: number; // cycle of submission
  /** Of each attempt, the last one successful or not. */
  readonly attempts: readonly { readonly latency: number; readonly transfer: number }[];
}

interface Command {
  readonly index: number;
  attempt: number;
  latency: number; // cycles left
  transfer: number; // cycles left
}

/** The cycle at which each read is done. */
export function runPlainly(reads: readonly PlainRead[], depth: number): number[] {
  const done = reads.map(() => -1);
  const waiting = reads.map((_, i) => i);
  const inDevice: Command[] = [];
  const begin = (index: number, attempt: number): Command => ({ index, attempt, ...reads[index]!.attempts[attempt]! });
  for (let now = 0; done.includes(-1); now++) {
    // What takes no time ends before the cycle does, so that a device can end several commands at one moment.
    for (let moved = true; moved;) {
      moved = false;
      const next = waiting[0];
      if (next !== undefined && reads[next]!.at <= now && inDevice.length < depth) {
        inDevice.push(begin(waiting.shift()!, 0));
        moved = true;
      }
      const head = inDevice[0];
      if (head === undefined || head.latency > 0 || head.transfer > 0) continue;
      const again = head.attempt + 1;
      if (again < reads[head.index]!.attempts.length) inDevice[0] = begin(head.index, again);
      else {
        done[head.index] = now;
        inDevice.shift();
      }
      moved = true;
    }
    const head = inDevice[0];
    const onBus = head !== undefined && head.latency === 0 ? head : undefined;
    for (const command of inDevice) if (command.latency > 0) command.latency--;
    if (onBus !== undefined) onBus.transfer--;
  }
  return done;
}
