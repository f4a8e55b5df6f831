// The differentiable operations of a transformer as plain functions of doubles, and their derivatives by central differences: what training's ops
// are compared with. Rows are arrays; nothing here is quick.

export type Row = readonly number[];
const sum = (list: Row): number => list.reduce((a, b) => a + b, 0);
const mean = (list: Row): number => sum(list) / list.length;
export const dot = (a: Row, b: Row): number => sum(a.map((x, i) => x * b[i]!));

export const sigmoid = (x: number): number => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));
export const silu = (x: number): number => x * sigmoid(x);
/** Tanh form: ½x (1 + tanh u) = x · sigmoid(2u). */
export const gelu = (x: number): number => x * sigmoid(2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3));

export function rmsNorm(x: Row, w: Row | null, eps: number): number[] {
  const scale = 1 / Math.sqrt(mean(x.map(v => v * v)) + eps);
  return x.map((v, i) => v * scale * (w?.[i] ?? 1));
}

export function layerNorm(x: Row, w: Row | null, b: Row | null, eps: number): number[] {
  const about = mean(x);
  const scale = 1 / Math.sqrt(mean(x.map(v => (v - about) ** 2)) + eps);
  return x.map((v, i) => (v - about) * scale * (w?.[i] ?? 1) + (b?.[i] ?? 0));
}

export function softMax(x: Row): number[] {
  const top = Math.max(...x);
  const powers = x.map(v => Math.exp(v - top));
  const all = sum(powers);
  return powers.map(v => v / all);
}

/** −ln p of one entry. */
export function crossEntropy(logits: Row, target: number): number {
  const top = Math.max(...logits);
  return Math.log(sum(logits.map(v => Math.exp(v - top)))) - (logits[target]! - top);
}

export interface Heads {
  readonly heads: number;
  readonly headsKv: number;
  readonly headDim: number;
  readonly scale: number;
}

/** Results of positions 0 … n − 1; each row is query, key and value side by side. */
export function causalAttention(rows: readonly Row[], { heads, headsKv, headDim, scale }: Heads): number[][] {
  const part = (row: Row, head: number): number[] => row.slice(head * headDim, (head + 1) * headDim);
  return rows.map((row, t) =>
    Array.from({ length: heads }, (_, h) => {
      const kv = Math.floor(h / (heads / headsKv));
      const past = rows.slice(0, t + 1);
      const p = softMax(past.map(other => dot(part(row, h), part(other, heads + kv)) * scale));
      const values = past.map(other => part(other, heads + headsKv + kv));
      return Array.from({ length: headDim }, (__, d) => sum(p.map((v, j) => v * values[j]![d]!)));
    }).flat(),
  );
}

/** The derivative of f at x along v, by a difference of fourth order. */
export function derivative(f: (x: Row) => number[], x: Row, v: Row, h = 1e-3): number[] {
  const at = (s: number): number[] => f(x.map((y, i) => y + s * h * v[i]!));
  const [a, b, c, d] = [at(2), at(1), at(-1), at(-2)];
  return a.map((y, i) => (8 * (b[i]! - c[i]!) - (y - d[i]!)) / (12 * h));
}

/** ‖got − want‖ / ‖want‖. */
export function relativeError(got: ArrayLike<number>, want: Row): number {
  const distance = Math.sqrt(sum(want.map((w, i) => (got[i]! - w) ** 2)));
  return distance / Math.sqrt(sum(want.map(w => w * w)));
}
