// What the log of a training says (log.jsonl of llmfinetune: a line of JSON for each update and each look at the held-out part), gathered into so
// many stretches as a chart has room for, and what follows from it: how fast it goes, and how long it will take. Pure functions of the text; a
// line that is none, or is only half written, is left out.

export interface Update {
  readonly step: number; // from 1
  readonly epoch: number;
  readonly loss: number; // nats a target, before the update
  readonly rate: number;
  readonly gradientNorm: number;
  readonly tokens: number;
  readonly elapsedNs: number; // of the machine's time, since the beginning
}

export interface Look {
  readonly step: number;
  readonly loss: number; // of the held-out part
}

export interface TrainingLog {
  readonly updates: readonly Update[];
  readonly looks: readonly Look[];
}

type Line = Readonly<Record<string, unknown>>;

function parseLine(line: string): Line | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Line) : null;
  } catch {
    return null;
  }
}

export function parseLog(text: string): TrainingLog {
  const updates: Update[] = [];
  const looks: Look[] = [];
  for (const line of text.split('\n')) {
    const value = parseLine(line);
    const of = (key: string): number => Number(value?.[key] ?? NaN);
    if (Number.isNaN(of('step'))) continue;
    if (!Number.isNaN(of('held_out_loss'))) looks.push({ step: of('step'), loss: of('held_out_loss') });
    else if (!Number.isNaN(of('loss')))
      updates.push({
        step: of('step'),
        epoch: of('epoch'),
        loss: of('loss'),
        rate: of('rate'),
        gradientNorm: of('gradient_norm'),
        tokens: of('tokens'),
        elapsedNs: of('elapsed_ns'),
      });
  }
  return { updates, looks };
}

/** Some updates that follow each other: the mean of their losses, at the last of them. */
export interface Stretch {
  readonly last: Update;
  readonly loss: number;
  readonly tokensPerSecond: number; // NaN where no time passed
  /** The newest look in it, or behind the beginning; null: none. */
  readonly heldOut: number | null;
}

/** The log as at most `most` stretches of equally many updates; the looks before the first update belong to the first. */
export function stretches({ updates, looks }: TrainingLog, most: number): Stretch[] {
  const length = Math.max(1, Math.ceil(updates.length / most));
  const found: Stretch[] = [];
  let look = 0;
  for (let from = 0; from < updates.length; from += length) {
    const part = updates.slice(from, from + length);
    const last = part.at(-1)!;
    const ns = last.elapsedNs - (updates[from - 1]?.elapsedNs ?? 0);
    let heldOut: number | null = null;
    for (; look < looks.length && looks[look]!.step <= last.step; look++) heldOut = looks[look]!.loss;
    found.push({
      last,
      loss: part.reduce((sum, u) => sum + u.loss, 0) / part.length,
      tokensPerSecond: ns > 0 ? (part.reduce((sum, u) => sum + u.tokens, 0) / ns) * 1e9 : NaN,
      heldOut,
    });
  }
  return found;
}

/** Nanoseconds of the machine's time that `steps` updates will still take, at the pace of those that were made; NaN before the first. */
export function leftNs({ updates }: TrainingLog, steps: number): number {
  const last = updates.at(-1);
  return last === undefined ? NaN : (Math.max(0, steps - last.step) * last.elapsedNs) / last.step;
}

/** What the run's own file says of it. */
export interface Run {
  readonly method: string;
  readonly steps: number; // all of them; 0: not known
  readonly state: string;
}

export function parseRun(text: string): Run {
  const run = parseLine(text);
  const part = (key: string): Line => (run?.[key] ?? {}) as Line;
  return {
    method: String(part('settings')['method'] ?? ''),
    steps: Number(part('course')['steps'] ?? 0) || 0,
    state: String(run?.['state'] ?? ''),
  };
}
