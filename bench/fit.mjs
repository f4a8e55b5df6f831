// The regression behind `npm run bench -- --calibrate`: a time as a sum of counts at prices none of which is negative. The squares are of
// relative errors, so that a short step weighs as much as a long one. What the measurements leave open is decided by a prior, the prices' usual
// proportions, from which they depart only as far as it pays (ridge regression, Hoerl and Kennard 1970).

/** How dear a departure from the prior is: 0.01 costs ten per cent of a price as much as one per cent of error in every step. */
export const RIDGE = 0.01;

const sum = list => list.reduce((a, b) => a + b, 0);
const dot = (a, b) => sum(a.map((x, i) => x * b[i]));

/**
 * Prices for which the counts come closest to the times.
 * @param {readonly { counts: readonly number[], time: number }[]} rows
 * @param {readonly number[]} prior proportions of the prices; a common factor is found first
 * @returns {number[]}
 */
export function fit(rows, prior, ridge = RIDGE) {
  const expected = rows.map(({ counts, time }) => dot(counts, prior) / time);
  const scale = sum(expected) / dot(expected, expected);
  const base = prior.map(p => p * scale);
  // Unknown: each price as a multiple of its base. Minimise the mean of (shares · multiples − 1)² + ridge × Σ (multiple − 1)².
  const shares = rows.map(({ counts, time }) => counts.map((n, j) => (n * base[j]) / time));
  const of = (j, l) => sum(shares.map(r => r[j] * r[l])) / rows.length + (j === l ? ridge : 0);
  const matrix = base.map((_, j) => base.map((__, l) => of(j, l)));
  const right = base.map((_, j) => sum(shares.map(r => r[j])) / rows.length + ridge);
  return descend(matrix, right).map((multiple, j) => multiple * base[j]);
}

/** x ≥ 0 with the least x·Mx − 2 r·x, coordinate by coordinate: M is symmetric and positive. */
function descend(matrix, right) {
  const x = right.map(() => 1);
  for (let turn = 0, moved = 1; moved > 1e-10 && turn < 100_000; turn++) {
    moved = 0;
    for (const [j, row] of matrix.entries()) {
      const next = row[j] === 0 ? 0 : Math.max(0, x[j] + (right[j] - dot(row, x)) / row[j]);
      moved = Math.max(moved, Math.abs(next - x[j]));
      x[j] = next;
    }
  }
  return x;
}

/** How far each prediction is from the measured time, as a share of it. */
const deviations = (rows, prices) => rows.map(({ counts, time }) => Math.abs(dot(counts, prices) / time - 1));

/** Median, nine of ten, and worst of deviations. */
function spread(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const at = share => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  return { median: at(0.5), ninety: at(0.9), worst: at(1) };
}

/** Of the rows every third is held out: it judges the fit. */
const HELD_OUT = 3;
const isHeldOut = (_, i) => i % HELD_OUT === HELD_OUT - 1;

/**
 * Prices fitted to two rows of three, and how well they predict: the rows they were fitted to, those held out, and, as prices fitted to all
 * rows of the other models would have done, models never seen.
 * @param {readonly { model: string, counts: readonly number[], time: number }[]} rows
 * @returns prices in whole thousandths; figures of spread() for all rows and by model
 */
export function assess(rows, prior) {
  const fitted = list => fit(list, prior).map(p => Math.round(p * 1000) / 1000);
  const prices = fitted(rows.filter((row, i) => !isHeldOut(row, i)));
  const off = deviations(rows, prices);
  const unseen = rows.map(() => 0);
  const names = [...new Set(rows.map(r => r.model))];
  for (const name of names) {
    const others = fitted(rows.filter(r => r.model !== name));
    for (const [i, row] of rows.entries()) if (row.model === name) [unseen[i]] = deviations([row], others);
  }
  const figures = indices => ({
    steps: indices.length,
    fitted: spread(indices.filter(i => !isHeldOut(null, i)).map(i => off[i])),
    heldOut: spread(indices.filter(i => isHeldOut(null, i)).map(i => off[i])),
    unseen: spread(indices.map(i => unseen[i])),
  });
  const indices = [...rows.keys()];
  return {
    prices,
    worst: Math.max(...off),
    all: figures(indices),
    models: names.map(model => ({ model, ...figures(indices.filter(i => rows[i].model === model)) })),
  };
}
