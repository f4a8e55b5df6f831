// `llmfinetune diff`: two versions of a name held against each other by what they do to the base's matrices. What a version adds is D = alpha / rank · B ·
// A; norms (Frobenius) and the cosine of two such matrices come from products of their halves, r × r numbers, and D itself is never made:
// ⟨B₁A₁, B₂A₂⟩ = Σ_rs (B₁ᵀB₂)_rs (A₁A₂ᵀ)_rs. Sums are f64, in order of the rank, then of the extent.

import { jsonLine, table } from '../fmt.ts';
import { diffModels } from '../model-diff.ts';
import type { Context } from '../program.ts';
import { readAdapter } from './adapter-file.ts';
import type { Adapter, Pair } from './adapter-file.ts';
import { asVersion, findVersion, openPlace, readVersions } from './store.ts';
import type { Place, VersionRecord } from './store.ts';
import type { Run, commonOptions } from './verb.ts';

type Ctx = Context<typeof commonOptions>;

/** A matrix of the base, and what two versions do to it. */
interface Row {
  readonly name: string;
  readonly left: number | null; // norm of what is added; null where the version leaves it alone
  readonly right: number | null;
  readonly change: number; // norm of the difference
  readonly cosine: number | null; // null where one of them is 0
}

export function* diff(ctx: Ctx, [name = '', first = '', second]: readonly string[]): Run {
  const place = yield* openPlace(ctx, name, false);
  if (typeof place === 'number') return place;
  const all = yield* readVersions(ctx, place);
  if (typeof all === 'number') return all;
  const a = yield* findVersion(ctx, place, all, first);
  if (typeof a === 'number') return a;
  const b = yield* findVersion(ctx, place, all, second);
  if (typeof b === 'number') return b;
  if (a.kind !== b.kind) return yield* ctx.fail(`${name}: one version is an adapter, the other a whole model`);
  if (a.kind === 'model') {
    const found = yield* diffModels(ctx, [asVersion(place, a).path, asVersion(place, b).path]);
    return found > 1 ? 1 : 0;
  }
  const left = yield* load(ctx, place, a);
  if (typeof left === 'number') return left;
  const right = yield* load(ctx, place, b);
  if (typeof right === 'number') return right;
  const rows = compare(left, right);
  if (ctx.options.json) {
    const matrices = rows.map(r => ({
      name: r.name,
      left: r.left,
      right: r.right,
      change: r.change,
      cosine: r.cosine,
    }));
    yield* ctx.out.print(jsonLine({ name, left: a.version, right: b.version, equal: a.digest === b.digest, matrices }));
  } else yield* ctx.out.print(reportText(a, b, rows));
  return 0;
}

/** A version's adapter; or the status after a message. */
function* load(ctx: Ctx, place: Place, record: VersionRecord): Generator<void, Adapter | number, void> {
  const { path } = asVersion(place, record);
  const adapter = yield* readAdapter(ctx.sys, path);
  if (typeof adapter === 'number') return yield* ctx.failCall(path, -adapter);
  return typeof adapter === 'string' ? yield* ctx.fail(`${path}: ${adapter}`) : adapter;
}

/** A row for each matrix that either changes, the largest difference first. */
export function compare(left: Adapter, right: Adapter): Row[] {
  const names = [...new Set([...left.pairs, ...right.pairs].map(p => p.base))];
  const rows = names.map(name => {
    const [a, b] = [left, right].map(v => v.pairs.find(p => p.base === name));
    const [s, t] = [timesOf(left, a), timesOf(right, b)];
    const squareA = a === undefined ? 0 : s * s * inner(a, a);
    const squareB = b === undefined ? 0 : t * t * inner(b, b);
    const product = a === undefined || b === undefined ? 0 : s * t * inner(a, b);
    const norms = Math.sqrt(squareA * squareB);
    return {
      name,
      left: a === undefined ? null : Math.sqrt(squareA),
      right: b === undefined ? null : Math.sqrt(squareB),
      change: Math.sqrt(Math.max(0, squareA + squareB - 2 * product)),
      cosine: norms === 0 ? null : product / norms,
    };
  });
  return rows.sort((x, y) => y.change - x.change || (x.name < y.name ? -1 : 1));
}

const timesOf = ({ alpha }: Adapter, pair: Pair | undefined): number => (pair === undefined ? 0 : alpha / pair.rank);

/** ⟨B₁A₁, B₂A₂⟩; 0 where the two are of different shapes. */
function inner(p: Pair, q: Pair): number {
  if (p.inputs !== q.inputs || p.outputs !== q.outputs) return 0;
  let sum = 0;
  for (let r = 0; r < p.rank; r++)
    for (let s = 0; s < q.rank; s++) {
      let a = 0;
      for (let i = 0; i < p.inputs; i++) a += p.a[r * p.inputs + i]! * q.a[s * q.inputs + i]!;
      let b = 0;
      for (let o = 0; o < p.outputs; o++) b += p.b[o * p.rank + r]! * q.b[o * q.rank + s]!;
      sum += a * b;
    }
  return sum;
}

function reportText(a: VersionRecord, b: VersionRecord, rows: readonly Row[]): string {
  if (a.digest === b.digest) return `versions ${a.version} and ${b.version} have the same bytes\n`;
  const norm = (x: number | null): string => (x === null ? '-' : x.toPrecision(4));
  const total = (of: (r: Row) => number | null): string =>
    norm(Math.sqrt(rows.reduce((sum, r) => sum + (of(r) ?? 0) ** 2, 0)));
  return table(
    [
      ['MATRIX', `NORM v${a.version}`, `NORM v${b.version}`, 'CHANGE', 'COSINE'],
      ...rows.map(r => [
        r.name,
        norm(r.left),
        norm(r.right),
        norm(r.change),
        r.cosine === null ? '-' : r.cosine.toFixed(6),
      ]),
      ['all', total(r => r.left), total(r => r.right), total(r => r.change), ''],
    ],
    [false, true, true, true, true],
  );
}
