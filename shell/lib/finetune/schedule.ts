// Learning rates over the steps of a training: a rise, then a constant, a line or half a cosine down to zero. Everything in plain double
// arithmetic: Math.cos differs between JavaScript engines in its last digit, and rates are part of what makes a training's bytes.

export const SCHEDULES = ['constant', 'linear', 'cosine'] as const;
export type ScheduleName = (typeof SCHEDULES)[number];

export interface Schedule {
  readonly name: ScheduleName;
  readonly rate: number; // at its highest
  readonly warmup: number; // steps that it rises over
  readonly steps: number; // all of them
}

/** The rate of step `step`, from 0; the first of a warm-up has a part of it already, the last step of a fall is still above zero. */
export function rateAt(s: Schedule, step: number): number {
  if (step < s.warmup) return (s.rate * (step + 1)) / s.warmup;
  const done = (step - s.warmup) / Math.max(1, s.steps - s.warmup);
  if (s.name === 'linear') return s.rate * (1 - done);
  if (s.name === 'cosine') return s.rate * 0.5 * (1 + cosine(done));
  return s.rate;
}

const TERMS = 12; // (π/2)²⁵ / 25! < 1e-20

/** cos(π t) for t from 0 to 1, as -sin(π (t - 1/2)) by its Taylor series. */
function cosine(t: number): number {
  const x = Math.PI * (t - 0.5);
  let sum = 1;
  for (let i = TERMS; i >= 1; i--) sum = 1 - ((x * x) / (2 * i * (2 * i + 1))) * sum;
  return -x * sum;
}
