// The shortest way from one sequence of lines to another: Myers' O(ND) algorithm in its linear-space form ("An O(ND) Difference Algorithm
// and Its Variations", 1986). Two searches meet in the middle of a shortest edit script and split the problem in two. A search that passes
// the stated number of edits settles for the furthest point reached: the script is then still right, only not the shortest.

/** Lines `from` ≤ i < `to` of the old text became lines `start` ≤ j < `end` of the new; either may be empty. */
export interface Change {
  readonly from: number;
  readonly to: number;
  readonly start: number;
  readonly end: number;
}

/** Changes in order, never touching. Lines are numbers: equal lines have equal ones. */
export function changes(a: Int32Array, b: Int32Array, editsMax: number): Change[] {
  const marks = { a: new Uint8Array(a.length), b: new Uint8Array(b.length) };
  const keptA = withoutStrangers(a, b, marks.a);
  const keptB = withoutStrangers(b, a, marks.b);
  const search = new Search(pick(a, keptA), pick(b, keptB), editsMax);
  search.compare(0, keptA.length, 0, keptB.length);
  keptA.forEach((line, i) => (marks.a[line] = search.removed[i]!));
  keptB.forEach((line, i) => (marks.b[line] = search.added[i]!));
  const removed = gapsOf(marks.a);
  const added = gapsOf(marks.b);
  slide(a, removed, added);
  slide(b, added, removed);
  return collect(removed, added);
}

const pick = (lines: Int32Array, indices: readonly number[]): Int32Array => Int32Array.from(indices, i => lines[i]!);

/** Indices of the lines that the other text has too; the others are marked, no search need look at them. */
function withoutStrangers(lines: Int32Array, other: Int32Array, marks: Uint8Array): number[] {
  const known = new Set(other);
  const kept: number[] = [];
  lines.forEach((line, i) => {
    if (known.has(line)) kept.push(i);
    else marks[i] = 1;
  });
  return kept;
}

class Search {
  readonly removed: Uint8Array;
  readonly added: Uint8Array;
  private readonly a: Int32Array;
  private readonly b: Int32Array;
  private readonly editsMax: number;
  /** Furthest x on each diagonal x − y, forward and backward; index 0 is diagonal −(b.length + 1). */
  private readonly forward: Int32Array;
  private readonly backward: Int32Array;
  private readonly zero: number;

  constructor(a: Int32Array, b: Int32Array, editsMax: number) {
    this.a = a;
    this.b = b;
    this.editsMax = editsMax;
    this.removed = new Uint8Array(a.length);
    this.added = new Uint8Array(b.length);
    this.forward = new Int32Array(a.length + b.length + 3);
    this.backward = new Int32Array(a.length + b.length + 3);
    this.zero = b.length + 1;
  }

  /** Marks what changes between a[x0, x1) and b[y0, y1). The larger half is done in place of a call, so the stack stays shallow. */
  compare(left: number, right: number, top: number, bottom: number): void {
    const pending: [number, number, number, number][] = [[left, right, top, bottom]];
    for (let box; (box = pending.pop()) !== undefined;) {
      let [x0, x1, y0, y1] = box;
      while (x0 < x1 && y0 < y1 && this.a[x0] === this.b[y0]) {
        x0++;
        y0++;
      }
      while (x0 < x1 && y0 < y1 && this.a[x1 - 1] === this.b[y1 - 1]) {
        x1--;
        y1--;
      }
      if (x0 === x1) this.added.fill(1, y0, y1);
      else if (y0 === y1) this.removed.fill(1, x0, x1);
      else {
        const [x, y] = this.middle(x0, x1, y0, y1);
        pending.push([x, x1, y, y1], [x0, x, y0, y]);
      }
    }
  }

  /** A point on a shortest path through the box, found where the searches from both corners meet. */
  private middle(x0: number, x1: number, y0: number, y1: number): [x: number, y: number] {
    const { forward, backward, zero } = this;
    const low = x0 - y1; // the diagonals of the box
    const high = x1 - y0;
    const begin = x0 - y0;
    const end = x1 - y1;
    const odd = ((begin - end) & 1) !== 0;
    let [fMin, fMax, bMin, bMax] = [begin, begin, end, end];
    forward[zero + begin] = x0;
    backward[zero + end] = x1;
    for (let edits = 1; ; edits++) {
      if (fMin > low) forward[zero + --fMin - 1] = -1;
      else fMin++;
      if (fMax < high) forward[zero + ++fMax + 1] = -1;
      else fMax--;
      for (let d = fMax; d >= fMin; d -= 2) {
        const x = this.runForward(d, x1, y1);
        if (odd && bMin <= d && d <= bMax && backward[zero + d]! <= x) return [x, x - d];
      }
      if (bMin > low) backward[zero + --bMin - 1] = 0x7fffffff;
      else bMin++;
      if (bMax < high) backward[zero + ++bMax + 1] = 0x7fffffff;
      else bMax--;
      for (let d = bMax; d >= bMin; d -= 2) {
        const x = this.runBackward(d, x0, y0);
        if (!odd && fMin <= d && d <= fMax && x <= forward[zero + d]!) return [x, x - d];
      }
      if (edits >= this.editsMax) return this.furthest([fMin, fMax, bMin, bMax], [x0, x1, y0, y1]);
    }
  }

  private runForward(d: number, x1: number, y1: number): number {
    const { a, b, forward, zero } = this;
    const below = forward[zero + d - 1]!;
    const above = forward[zero + d + 1]!;
    let x = below < above ? above : below + 1;
    while (x < x1 && x - d < y1 && a[x] === b[x - d]) x++;
    forward[zero + d] = x;
    return x;
  }

  private runBackward(d: number, x0: number, y0: number): number {
    const { a, b, backward, zero } = this;
    const below = backward[zero + d - 1]!;
    const above = backward[zero + d + 1]!;
    let x = below < above ? below : above - 1;
    while (x > x0 && x - d > y0 && a[x - 1] === b[x - d - 1]) x--;
    backward[zero + d] = x;
    return x;
  }

  /** The point that one of the searches got furthest to, inside the box. */
  private furthest(
    [fMin, fMax, bMin, bMax]: readonly [number, number, number, number],
    [x0, x1, y0, y1]: readonly [number, number, number, number],
  ): [x: number, y: number] {
    let best: [number, number] = [x0, y0];
    let gain = 0; // lines of both texts that the point leaves behind
    for (let d = fMax; d >= fMin; d -= 2) {
      const x = Math.min(this.forward[this.zero + d]!, x1, y1 + d);
      if (x + x - d - x0 - y0 > gain) [gain, best] = [x + x - d - x0 - y0, [x, x - d]];
    }
    for (let d = bMax; d >= bMin; d -= 2) {
      const x = Math.max(this.backward[this.zero + d]!, x0, y0 + d);
      if (x1 + y1 - x - x + d > gain) [gain, best] = [x1 + y1 - x - x + d, [x, x - d]];
    }
    return best;
  }
}

/** How many marked lines stand before each unmarked one, and after the last. Both texts have the same unmarked lines, so as many gaps. */
function gapsOf(marks: Uint8Array): number[] {
  const gaps = [0];
  for (const mark of marks) {
    if (mark === 1) gaps[gaps.length - 1]!++;
    else gaps.push(0);
  }
  return gaps;
}

/**
 * Moves each run of changed lines down as far as equal lines let it, so that runs which meet become one, but no further than where it last
 * stood beside a run of the other text: of all scripts of one length, the one that people find easiest to read.
 */
function slide(lines: Int32Array, gaps: number[], otherGaps: readonly number[]): void {
  let next = 0; // the line at which gap u begins
  for (let u = 0; u < gaps.length; u++) {
    if (gaps[u] === 0) {
      next++;
      continue;
    }
    let top = next; // the run is lines top … top + length − 1, in gap `at`
    let at = u;
    let length = 0;
    const join = (): number => {
      const joined = gaps[at]!;
      gaps[at] = 0;
      length += joined;
      return joined;
    };
    join();
    for (let before = 0; before !== length;) {
      before = length;
      while (top > 0 && lines[top - 1] === lines[top + length - 1]) {
        top--;
        at--;
        top -= join();
      }
      let beside = otherGaps[at]! > 0 ? at : -1;
      while (top + length < lines.length && lines[top] === lines[top + length]) {
        top++;
        at++;
        join();
        if (otherGaps[at]! > 0) beside = at;
      }
      if (before === length && beside >= 0) {
        top -= at - beside;
        at = beside;
      }
    }
    gaps[at] = length;
    next = top + length + 1;
    u = at;
  }
}

function collect(removed: readonly number[], added: readonly number[]): Change[] {
  const found: Change[] = [];
  let x = 0;
  let y = 0;
  removed.forEach((out, i) => {
    const into = added[i]!;
    if (out + into > 0) found.push({ from: x, to: x + out, start: y, end: y + into });
    x += out + 1;
    y += into + 1;
  });
  return found;
}
