// /proc/plan and /proc/step: the ops of the loaded plan with what they cost, and the op that the processor is held before, or ran last, with what
// it works on. man proc has the keys.

import { PLAN_COLUMNS } from '../../../../kernel/abi/index.ts';
import { tabbed } from './parse-text.ts';

/** An op of the plan; cycles are of the pass that is held or ran last. */
export interface PlanOp {
  readonly index: number;
  /** body, head, sample or score. */
  readonly segment: string;
  readonly op: string;
  /** -1: of none. */
  readonly layer: number;
  readonly name: string;
  readonly most: number;
  readonly least: number;
  /** Of `most`, in cycles. */
  readonly compute: number;
  readonly memory: number;
  readonly overhead: number;
  readonly instructions: number;
  readonly loaded: number;
  readonly stored: number;
  /** All cells, as they stand. */
  readonly cells: readonly string[];
}

export function parsePlan(text: string): PlanOp[] {
  return tabbed(text).map(row => {
    const n = (key: string): number => Number(row[key]);
    return {
      index: n('index'),
      segment: row['segment']!,
      op: row['op']!,
      layer: n('layer'),
      name: row['name']!,
      most: n('most'),
      least: n('least'),
      compute: n('compute') / 1000,
      memory: n('memory') / 1000,
      overhead: n('overhead') / 1000,
      instructions: n('instructions'),
      loaded: n('loaded'),
      stored: n('stored'),
      cells: PLAN_COLUMNS.map(title => row[title] ?? ''),
    };
  });
}

/** What an op reads or writes. */
export interface Operand {
  readonly name: string;
  /** `f32[2][64]`. */
  readonly shape: string;
  /** In the arena; of keys and values in their pages, from a page's beginning. */
  readonly at: number;
  readonly region: string;
  /** A tensor or a buffer. */
  readonly what: string;
}

/** A session's row of the pass. */
export interface StepRow {
  readonly session: string;
  readonly position: string;
  readonly token: string;
}

export interface Step {
  /** held, done, failed, none or denied. */
  readonly state: string;
  /** Of denied. */
  readonly why: string;
  /** Into the plan; -1: nothing is known. */
  readonly index: number;
  readonly ops: number;
  /** Spent so far in this pass, its bound, and what is left. */
  readonly cycles: number;
  readonly bound: number;
  readonly left: number;
  readonly rows: readonly StepRow[];
  readonly places: readonly Operand[];
  /** Numbers of the record: `rows 64`. */
  readonly words: readonly (readonly [name: string, value: string])[];
}

export function parseStep(text: string): Step {
  const keys = new Map<string, string[]>();
  const places: Operand[] = [];
  const words: [string, string][] = [];
  for (const line of text.split('\n')) {
    const [key = '', ...rest] = line.trim().split(' ');
    if (key === 'place') {
      const [name = '', shape = '', at = '', region = '', ...what] = rest;
      places.push({ name, shape, at: Number(at), region, what: what.join(' ') });
    } else if (key === 'plane') {
      const [name = '', from = '', ...pages] = rest;
      places.push({
        name,
        shape: '-',
        at: Number(from),
        region: 'kv',
        what: `from there on in pages ${pages.join(' ')}`,
      });
    } else if (key === 'word') words.push([rest[0] ?? '', rest.slice(1).join(' ')]);
    else if (key !== '') keys.set(key, rest);
  }
  const list = (key: string): readonly string[] => keys.get(key) ?? [];
  const n = (key: string): number => Number(list(key)[0] ?? 'none');
  return {
    state: list('state')[0] ?? 'none',
    why: list('why').join(' '),
    index: Number(list('index')[0] ?? -1),
    ops: n('ops'),
    cycles: n('cycles'),
    bound: n('bound'),
    left: n('left'),
    rows: list('positions').map((position, i) => ({
      session: list('sessions')[i] ?? '',
      position,
      token: list('tokens')[i] ?? '',
    })),
    places,
    words,
  };
}
