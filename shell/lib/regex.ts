// POSIX regular expressions, basic and extended, with GNU's \+ \? \| \w \W \s \S \b \B \< \>. An expression becomes a small program that is
// run as Thompson's automaton in Pike's form: all states at once, each with the place where its match began, so that time is bounded by
// states times characters and no pattern stalls. Matches are leftmost, then longest. A back-reference leaves regular languages: such
// expressions are searched with backtracking, up to a stated number of steps.

import { LIMITS } from '../../kernel/abi/index.ts';
import { parseRegex } from './regex-parse.ts';
import type { Assertion, CharacterSet, Node, Syntax } from './regex-parse.ts';

export type { Syntax } from './regex-parse.ts';

/** Characters `start` ≤ i < `end`. */
export interface Match {
  readonly start: number;
  readonly end: number;
}

export interface Flags {
  readonly ignoreCase: boolean;
  /** What matches must stand between characters that are not part of words. */
  readonly word: boolean;
  /** What matches must be the whole line. */
  readonly line: boolean;
}

/** The expression ready to match, or a message. A newline separates alternatives, as in grep's pattern lists. */
export function compileRegex(pattern: string, syntax: Syntax, flags: Flags): Regex | string {
  const alternatives: Node[] = [];
  for (const one of pattern.split('\n')) {
    const node = parseRegex(one, syntax, flags.ignoreCase);
    if (typeof node === 'string') return node;
    alternatives.push(node);
  }
  let node: Node = alternatives.length === 1 ? alternatives[0]! : { kind: 'either', nodes: alternatives };
  const around = (before: Assertion, after: Assertion): Node => ({
    kind: 'sequence',
    nodes: [{ kind: 'assertion', assertion: before }, node, { kind: 'assertion', assertion: after }],
  });
  if (flags.word) node = around('noWordBefore', 'noWordAfter');
  if (flags.line) node = around('lineStart', 'lineEnd');
  if (statesOf(node) > LIMITS.regexStates) return 'Regular expression too big';
  const code: Instruction[] = [];
  emit(node, code);
  code.push({ op: 'match' });
  return new Regex(code, flags.ignoreCase);
}

/** Code points of a text. */
export const codePoints = (text: string): Int32Array => Int32Array.from(text, c => c.codePointAt(0)!);

type Instruction =
  | { readonly op: 'set'; readonly set: CharacterSet }
  | { readonly op: 'split'; first: number; second: number }
  | { readonly op: 'jump'; to: number }
  | { readonly op: 'assert'; readonly assertion: Assertion }
  | { readonly op: 'save'; readonly slot: number }
  | { readonly op: 'same'; readonly group: number }
  | { readonly op: 'match' };

/** Instructions that a node takes, repetitions written out. */
function statesOf(node: Node): number {
  switch (node.kind) {
    case 'set':
    case 'assertion':
    case 'same':
      return 1;
    case 'sequence':
      return node.nodes.reduce((sum, n) => sum + statesOf(n), 0);
    case 'either':
      return node.nodes.reduce((sum, n) => sum + statesOf(n) + 2, 0);
    case 'group':
      return statesOf(node.node) + 2;
    case 'repeat':
      return (statesOf(node.node) + 2) * Math.max(1, node.min, node.max === Infinity ? node.min + 1 : node.max);
  }
}

function emit(node: Node, code: Instruction[]): void {
  switch (node.kind) {
    case 'set':
      code.push({ op: 'set', set: node.set });
      return;
    case 'assertion':
      code.push({ op: 'assert', assertion: node.assertion });
      return;
    case 'same':
      code.push({ op: 'same', group: node.group });
      return;
    case 'sequence':
      for (const n of node.nodes) emit(n, code);
      return;
    case 'group':
      code.push({ op: 'save', slot: 2 * node.index });
      emit(node.node, code);
      code.push({ op: 'save', slot: 2 * node.index + 1 });
      return;
    case 'either':
      return emitEither(node.nodes, code);
    case 'repeat':
      return emitRepeat(node, code);
  }
}

function emitEither(nodes: readonly Node[], code: Instruction[]): void {
  const jumps: { to: number }[] = [];
  nodes.forEach((n, i) => {
    const last = i === nodes.length - 1;
    const split = { op: 'split' as const, first: code.length + 1, second: 0 };
    if (!last) code.push(split);
    emit(n, code);
    if (last) return;
    const jump = { op: 'jump' as const, to: 0 };
    code.push(jump);
    jumps.push(jump);
    split.second = code.length;
  });
  for (const jump of jumps) jump.to = code.length;
}

function emitRepeat({ node, min, max }: Extract<Node, { kind: 'repeat' }>, code: Instruction[]): void {
  for (let i = 0; i < min; i++) emit(node, code);
  if (max === Infinity) {
    const at = code.length;
    const split = { op: 'split' as const, first: at + 1, second: 0 };
    code.push(split);
    emit(node, code);
    code.push({ op: 'jump', to: at });
    split.second = code.length;
    return;
  }
  const splits: { second: number }[] = [];
  for (let i = min; i < max; i++) {
    const split = { op: 'split' as const, first: code.length + 1, second: 0 };
    code.push(split);
    splits.push(split);
    emit(node, code);
  }
  for (const split of splits) split.second = code.length;
}

/** States of the automaton at one place: program counters, and where the match of each began, earliest first. */
class States {
  count = 0;
  readonly at: Int32Array;
  readonly began: Int32Array;

  constructor(size: number) {
    this.at = new Int32Array(size);
    this.began = new Int32Array(size);
  }
}

export class Regex {
  /** The last search gave up: a back-reference took LIMITS.regexSteps. It found nothing then. */
  exceeded = false;
  private readonly code: readonly Instruction[];
  private readonly ignoreCase: boolean;
  private readonly refers: boolean;
  /** ASCII characters that a match can begin with; null when it can be empty, or begins with others. */
  private readonly first: Uint8Array | null;
  private readonly seen: Int32Array; // by program counter: stamp of the place it was last added at
  private stamp = 0;
  private now: States;
  private next: States;
  private readonly stack: Int32Array;

  constructor(code: readonly Instruction[], ignoreCase: boolean) {
    this.code = code;
    this.ignoreCase = ignoreCase;
    this.refers = code.some(i => i.op === 'same');
    this.seen = new Int32Array(code.length);
    this.stack = new Int32Array(2 * code.length + 2);
    this.now = new States(code.length);
    this.next = new States(code.length);
    this.first = this.firstCharacters();
  }

  test(text: string): boolean {
    return this.find(codePoints(text), 0) !== null;
  }

  /** Every match in a text, empty ones too, as indices of its UTF-16 units. */
  matchesIn(text: string): [start: number, end: number][] {
    const codes = codePoints(text);
    const units = new Int32Array(codes.length + 1);
    codes.forEach((code, i) => (units[i + 1] = units[i]! + (code > 0xffff ? 2 : 1)));
    const found: [number, number][] = [];
    let match: Match | null;
    for (let from = 0; from <= codes.length && (match = this.find(codes, from)) !== null;) {
      found.push([units[match.start]!, units[match.end]!]);
      from = Math.max(match.end, match.start + 1);
    }
    return found;
  }

  /** The leftmost match that begins at `from` or later, the longest of those; null when there is none. */
  find(chars: Int32Array, from: number): Match | null {
    this.exceeded = false;
    if (this.refers) return this.search(chars, from);
    let start = -1;
    let end = -1;
    this.now.count = 0;
    this.stamp++;
    for (let p = from; ; p++) {
      if (start < 0) {
        if (this.now.count === 0) {
          while (this.first !== null && p < chars.length && chars[p]! < 128 && this.first[chars[p]!] === 0) p++;
          this.stamp++; // states that led nowhere at the last place may lead somewhere here
        }
        this.add(this.now, 0, p, p, chars);
      }
      const { now, next } = this;
      next.count = 0;
      this.stamp++;
      for (let i = 0; i < now.count; i++) {
        const began = now.began[i]!;
        if (start >= 0 && began > start) break;
        const instruction = this.code[now.at[i]!]!;
        if (instruction.op === 'match') [start, end] = [began, p];
        else if (instruction.op === 'set' && p < chars.length && instruction.set.has(chars[p]!)) {
          this.add(next, now.at[i]! + 1, p + 1, began, chars);
        }
      }
      this.now = next;
      this.next = now;
      if (p >= chars.length || (start >= 0 && next.count === 0)) break;
    }
    return start < 0 ? null : { start, end };
  }

  /** Adds a state and those that it leads to without a character. The earliest match to reach a state keeps it. */
  private add(states: States, pc: number, p: number, began: number, chars: Int32Array): void {
    const { stack, seen, stamp } = this;
    let depth = 0;
    stack[depth++] = pc;
    while (depth > 0) {
      const at = stack[--depth]!;
      if (seen[at] === stamp) continue;
      seen[at] = stamp;
      const instruction = this.code[at]!;
      if (instruction.op === 'split') {
        stack[depth++] = instruction.second;
        stack[depth++] = instruction.first;
      } else if (instruction.op === 'jump') stack[depth++] = instruction.to;
      else if (instruction.op === 'save') stack[depth++] = at + 1;
      else if (instruction.op === 'assert') {
        if (holds(instruction.assertion, chars, p)) stack[depth++] = at + 1;
      } else {
        states.at[states.count] = at;
        states.began[states.count++] = began;
      }
    }
  }

  private firstCharacters(): Uint8Array | null {
    const first = new Uint8Array(128);
    const visited = new Set<number>();
    const pending = [0];
    for (let at; (at = pending.pop()) !== undefined;) {
      if (visited.has(at)) continue;
      visited.add(at);
      const instruction = this.code[at]!;
      if (instruction.op === 'match' || instruction.op === 'same') return null;
      if (instruction.op === 'set') {
        for (let c = 0; c < 128; c++) if (instruction.set.has(c)) first[c] = 1;
      } else if (instruction.op === 'split') pending.push(instruction.first, instruction.second);
      else pending.push(instruction.op === 'jump' ? instruction.to : at + 1);
    }
    return first;
  }

  // ── Back-references ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  private search(chars: Int32Array, from: number): Match | null {
    let steps = LIMITS.regexSteps;
    for (let start = from; start <= chars.length; start++) {
      let end = -1;
      const visited = new Set<string>();
      const pending: [pc: number, p: number, groups: readonly number[]][] = [[0, start, []]];
      for (let state; (state = pending.pop()) !== undefined;) {
        const [pc, p, groups] = state;
        const key = `${pc},${p},${groups.join()}`;
        if (visited.has(key)) continue;
        visited.add(key);
        if (--steps < 0) {
          this.exceeded = true;
          return null;
        }
        const instruction = this.code[pc]!;
        if (instruction.op === 'match') end = Math.max(end, p);
        else if (instruction.op === 'split')
          pending.push([instruction.second, p, groups], [instruction.first, p, groups]);
        else if (instruction.op === 'jump') pending.push([instruction.to, p, groups]);
        else {
          const after = this.step(instruction, chars, p, groups);
          if (after >= 0)
            pending.push([pc + 1, after, instruction.op === 'save' ? withSlot(groups, instruction.slot, p) : groups]);
        }
      }
      if (end >= 0) return { start, end };
    }
    return null;
  }

  /** The place after an instruction that goes on at the next one; -1 when it does not match. */
  private step(instruction: Instruction, chars: Int32Array, p: number, groups: readonly number[]): number {
    if (instruction.op === 'save') return p;
    if (instruction.op === 'assert') return holds(instruction.assertion, chars, p) ? p : -1;
    if (instruction.op === 'set') return p < chars.length && instruction.set.has(chars[p]!) ? p + 1 : -1;
    if (instruction.op !== 'same') return -1;
    const from = groups[2 * instruction.group] ?? -1;
    const length = (groups[2 * instruction.group + 1] ?? -1) - from;
    if (from < 0 || length < 0 || p + length > chars.length) return -1;
    for (let i = 0; i < length; i++) {
      const [a, b] = [chars[from + i]!, chars[p + i]!];
      if (a !== b && !(this.ignoreCase && foldCode(a) === foldCode(b))) return -1;
    }
    return p + length;
  }
}

function withSlot(groups: readonly number[], slot: number, p: number): number[] {
  const changed = Array.from({ length: Math.max(groups.length, slot + 1) }, (_, i) => groups[i] ?? -1);
  changed[slot] = p;
  return changed;
}

const foldCode = (code: number): number => String.fromCodePoint(code).toUpperCase().toLowerCase().codePointAt(0)!;

const isWord = (code: number | undefined): boolean =>
  code !== undefined && /^[\p{L}\p{N}_]$/u.test(String.fromCodePoint(code));

function holds(assertion: Assertion, chars: Int32Array, p: number): boolean {
  if (assertion === 'lineStart') return p === 0;
  if (assertion === 'lineEnd') return p === chars.length;
  const before = isWord(chars[p - 1]);
  const after = isWord(chars[p]);
  switch (assertion) {
    case 'noWordBefore':
      return !before;
    case 'noWordAfter':
      return !after;
    case 'wordStart':
      return !before && after;
    case 'wordEnd':
      return before && !after;
    case 'wordEdge':
      return before !== after;
    case 'noWordEdge':
      return before === after;
  }
}
