// Random sets of periodic tasks and an exact test of them that shares nothing with the scheduler: the processor demand criterion (Baruah,
// Howell and Rosier 1990) with the blocking of segments that are not preempted (Jeffay, Stanat and Martel 1991; George, Rivierre and Spuri 1996).

export interface Task {
  readonly budget: number; // Q, units of work a period
  readonly period: number; // T, also its deadline
  readonly step: number; // the longest of its steps
}

const HYPERPERIOD = 240;
const PERIODS = [2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 24, 30, 40, 48, 60, 80, 120, 240].filter(
  t => HYPERPERIOD % t === 0,
);

/** One to six tasks whose periods divide 240, their utilisation drawn between 0.3 and 1, and the longest segment of anybody. */
export function randomTasks(next: () => number): { tasks: Task[]; segment: number } {
  const whole = (least: number, most: number): number => least + Math.floor(next() * (most - least + 1));
  const segment = next() < 0.3 ? 1 : whole(1, 8);
  const shares = Array.from({ length: whole(1, 6) }, () => 0.05 + next());
  const total = 0.3 + 0.7 * next();
  const scale = total / shares.reduce((a, b) => a + b, 0);
  const tasks = shares.map(share => {
    const period = PERIODS[whole(segment < 3 ? 0 : 4, PERIODS.length - 1)]!;
    const budget = Math.max(1, Math.floor(share * scale * period));
    return { budget, period, step: whole(1, Math.min(budget, segment)) };
  });
  return { tasks, segment };
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

export function hyperperiodOf(tasks: readonly Task[]): number {
  return tasks.reduce((l, { period }) => (l / gcd(l, period)) * period, 1);
}

/**
 * Whether every deadline is met, whenever jobs of these tasks arrive and whatever segment is in progress then: for each absolute deadline D
 * up to the hyperperiod, the work that arrives and is due by D, and of the one segment that began before, all but the cycle in which it began,
 * fit into D. Later deadlines repeat these, as the utilisation is at most 1.
 */
export function meetsDemand(tasks: readonly Task[], segment: number): boolean {
  const end = hyperperiodOf(tasks);
  if (tasks.reduce((sum, { budget, period }) => sum + budget * (end / period), 0) > end) return false;
  for (let deadline = 1; deadline <= end; deadline++) {
    let demand = 0;
    for (const { budget, period } of tasks) demand += Math.floor(deadline / period) * budget;
    if (demand > 0 && demand + segment - 1 > deadline && tasks.some(({ period }) => deadline % period === 0))
      return false;
  }
  return true;
}
