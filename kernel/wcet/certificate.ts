// Certificates at work: what a kernel costs at given arguments, which bytes it may touch, and the file that carries certificates from the
// build to the kernel. In the file every expression and every atom is written once and referred to by its number. The blocks that metered
// kernels count travel with them.

import { isRefusal, refuse } from '../abi/index.ts';
import type { Refusal } from '../abi/index.ts';
import type { Certificate, Extent, Uncertified, Word } from './certify.ts';
import { PASSES, isCertificate } from './certify.ts';
import type { MeterBlock } from './meter.ts';
import { dependenceOf, depending } from './shape.ts';
import { ARGUMENT_MAX, ATOM, Poly, ZERO, evaluate } from './poly.ts';
import type { Atom, Term } from './poly.ts';
import { CLASSES } from './wasm.ts';

/** Instructions of each class (index into CLASSES) and bytes moved, at least and at most. */
export interface Counts {
  readonly least: readonly bigint[];
  readonly most: readonly bigint[];
}

/** Arena bytes from … to − 1; `moved`: how many are moved there in all; of a scattered operand, its first piece says how many. */
export interface Span {
  readonly store: boolean;
  readonly from: bigint;
  readonly to: bigint;
  readonly moved: bigint;
}

/** Reads an i32 word of the arena: what a certificate with `words` depends on beside arguments. */
export type WordReader = (address: number) => number;

/** The values of a certificate's unknowns, or why there are none. */
function unknownsAt(
  c: Certificate,
  args: readonly number[],
  passes: number,
  read: WordReader | null,
): bigint[] | Refusal {
  const values: bigint[] = args.map(BigInt);
  values[PASSES] = BigInt(passes);
  for (const w of c.words) {
    if (read === null) return refuse('INVAL', 9999, `${c.name}: its cost depends on words in memory`);
    const word = read(Number(evaluate(w.address, values)));
    if (w.value !== undefined && w.value !== word)
      return refuse('INVAL', 9999, `${c.name}: holds where word ${w.param} is ${w.value}, it is ${word}`);
    values[w.param] = BigInt(word);
  }
  const wrong = values.findIndex(v => v !== undefined && (v < 0n || v > ARGUMENT_MAX));
  return wrong < 0
    ? values
    : refuse('RANGE', 9999, `${c.name}: unknown ${wrong} is ${values[wrong]}, not in 0 … ${ARGUMENT_MAX}`);
}

function outsideDomain(c: Certificate, values: readonly bigint[], read: WordReader | null): Refusal | null {
  for (const g of c.domain) {
    const value = evaluate(g.value, values);
    if ((value < g.low || value > g.high) && evaluate(g.reach, values) !== 0n)
      return refuse(
        'RANGE',
        9999,
        `${c.name}: ${value} is not in ${g.low} … ${g.high}, outside the certificate's domain`,
      );
  }
  const words = c.words.map(w => [evaluate(w.address, values), 1n] as const);
  const tables = c.extents.flatMap(({ scatter }) =>
    scatter === null ? [] : [[evaluate(scatter.table, values), evaluate(scatter.pieces, values)] as const],
  );
  const stores = words.length + tables.length === 0 ? [] : spans(c, values, read).filter(s => s.store);
  for (const [address, n] of [...words, ...tables])
    if (stores.some(s => s.from < address + 4n * n && address < s.to))
      return refuse('RANGE', 9999, `${c.name}: overwrites what it reads at ${address}, on which its certificate rests`);
  return null;
}

function spans(c: Certificate, values: readonly bigint[], read: WordReader | null): Span[] {
  return c.extents
    .filter(x => evaluate(x.reach, values) !== 0n)
    .flatMap(x => {
      const [from, to] = [evaluate(x.from, values), evaluate(x.to, values)];
      const moved = evaluate(x.moved, values);
      return distances(x, values, read).map((d, i) => ({
        store: x.store,
        from: from + d,
        to: to + d,
        moved: i === 0 ? moved : 0n,
      }));
    })
    .filter(s => s.from < s.to);
}

/** How far each piece of an extent lies from its beginning, by what its table holds. */
function distances({ scatter }: Extent, values: readonly bigint[], read: WordReader | null): bigint[] {
  if (scatter === null) return [0n];
  const table = Number(evaluate(scatter.table, values));
  const pieces = Number(evaluate(scatter.pieces, values));
  return Array.from({ length: pieces }, (_, i) => BigInt(read === null ? 0 : read(table + 4 * i)));
}

/** What the kernel costs at these arguments, one for each parameter; a refusal where the certificate does not hold. */
export function countsAt(
  c: Certificate,
  args: readonly number[],
  read: WordReader | null = null,
  passes = 0,
): Counts | Refusal {
  const values = unknownsAt(c, args, passes, read);
  if (isRefusal(values)) return values;
  try {
    return outsideDomain(c, values, read) ?? counts(c, values);
  } catch (e) {
    return refuse('RANGE', 9999, `${c.name}: ${e instanceof RangeError ? e.message : 'no value'}`);
  }
}

function counts(c: Certificate, values: readonly bigint[]): Counts {
  const least = c.least.map(p => evaluate(p, values));
  return { least, most: c.most.map((p, i) => (p === c.least[i] ? (least[i] ?? 0n) : evaluate(p, values))) };
}

/** The bytes the kernel may read and write at these arguments. */
export function spansAt(
  c: Certificate,
  args: readonly number[],
  read: WordReader | null = null,
  passes = 0,
): Span[] | Refusal {
  const values = unknownsAt(c, args, passes, read);
  return isRefusal(values) ? values : (outsideDomain(c, values, read) ?? spans(c, values, read));
}

/** The name of an op's certificate: `op:MUL_MAT`. */
export const opCertificate = (op: string): string => `op:${op}`;
const isOpCertificate = (name: string): boolean => name.startsWith(opCertificate(''));

// ── The file ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const VERSION = 4;

type AtomRow = readonly [kind: Atom['kind'], ...numbers: number[]];
type PolyRow = readonly (readonly [coef: string | number, ...atoms: number[]])[];
type WordRow = readonly [param: number, address: number, value?: number];
interface KernelRow {
  readonly name: string;
  readonly index: number;
  readonly reason?: string;
  readonly params?: number;
  readonly counts?: readonly (readonly [cls: number, least: number, most: number])[];
  readonly domain?: readonly (readonly [reach: number, value: number, low: string, high: string])[];
  readonly extents?: readonly (readonly [
    store: 0 | 1,
    reach: number,
    from: number,
    to: number,
    moved: number,
    run: number,
    width: number,
    ...scatter: number[], // table and pieces, or nothing
  ])[];
  readonly strays?: readonly (readonly [store: 0 | 1, moved: number, run: number, width: number])[];
  readonly loops?: number;
  readonly words?: readonly WordRow[];
  readonly dependence?: readonly [
    pointers: readonly number[],
    operands: readonly (readonly number[])[],
    counted: readonly number[],
  ];
}
/** A block's access, then class and count in turn. */
type BlockRow = readonly [access: MeterBlock['access'], ...counts: number[]];
export interface CertificateFile {
  readonly version: number;
  readonly build: string; // simd128, relaxed
  readonly classes: readonly string[];
  readonly atoms: readonly AtomRow[];
  readonly expressions: readonly PolyRow[];
  readonly kernels: readonly KernelRow[];
  readonly meter: readonly BlockRow[]; // by number
}

export function encodeCertificates(
  build: string,
  results: readonly (Certificate | Uncertified)[],
  blocks: readonly MeterBlock[] = [],
): CertificateFile {
  const atoms: AtomRow[] = [];
  const expressions: PolyRow[] = [];
  const atomNumbers = new Map<string, number>();
  const numbers = new Map<string, number>();
  const atom = (a: Atom): number => {
    const known = atomNumbers.get(a.key);
    if (known !== undefined) return known;
    const row = atomRow(a);
    atoms.push(row);
    atomNumbers.set(a.key, atoms.length - 1);
    return atoms.length - 1;
  };
  const atomRow = (a: Atom): AtomRow => {
    switch (a.kind) {
      case 'param':
        return [a.kind, a.index];
      case 'floor':
        return [a.kind, expression(a.of), expression(a.by)];
      case 'sum':
        return [a.kind, a.id, expression(a.count), expression(a.of)];
      case 'entry':
      case 'max':
      case 'negative':
      case 'zero':
        return [a.kind, expression(a.of)];
      default:
        return [a.kind, a.id];
    }
  };
  const expression = (p: Poly): number => {
    const known = numbers.get(p.key);
    if (known !== undefined) return known;
    const row: PolyRow = [...p.terms.values()].map(t => [
      t.coef >= -(1n << 52n) && t.coef <= 1n << 52n ? Number(t.coef) : `${t.coef}`,
      ...t.atoms.map(atom),
    ]);
    expressions.push(row);
    numbers.set(p.key, expressions.length - 1);
    return expressions.length - 1;
  };
  const wordRow = (w: Word): WordRow => {
    const address = expression(w.address);
    return w.value === undefined ? [w.param, address] : [w.param, address, w.value];
  };
  const kernels = results.map((c): KernelRow => {
    if (!isCertificate(c)) return c;
    const { pointers, operands, counted } = dependenceOf(c);
    return {
      name: c.name,
      index: c.index,
      params: c.params,
      counts: c.most.flatMap((most, cls) =>
        most.terms.size === 0 ? [] : [[cls, expression(c.least[cls] ?? ZERO), expression(most)] as const],
      ),
      domain: c.domain.map(g => [expression(g.reach), expression(g.value), `${g.low}`, `${g.high}`]),
      extents: c.extents.map(x => [
        x.store ? 1 : 0,
        expression(x.reach),
        expression(x.from),
        expression(x.to),
        expression(x.moved),
        expression(x.run),
        x.width,
        ...(x.scatter === null ? [] : [x.scatter.table, x.scatter.pieces].map(expression)),
      ]),
      strays: c.strays.map(x => [x.store ? 1 : 0, expression(x.moved), expression(x.run), x.width]),
      loops: c.loops,
      words: c.words.map(wordRow),
      dependence: [[...pointers], operands, [...counted]],
    };
  });
  const meter = blocks.map((b): BlockRow => [b.access, ...b.counts.flatMap((n, cls) => (n === 0 ? [] : [cls, n]))]);
  return { version: VERSION, build, classes: CLASSES, atoms, expressions, kernels, meter };
}

const unreadable = (file: CertificateFile): Refusal | null =>
  file.version === VERSION && file.classes.join() === CLASSES.join()
    ? null
    : refuse(
        'PROTO',
        9999,
        `certificates of version ${file.version} for ${file.classes.length} classes: this kernel reads version ${VERSION}`,
      );

/** The blocks that metered kernels count, by number. */
export function decodeBlocks(file: CertificateFile): MeterBlock[] | Refusal {
  const none = CLASSES.map(() => 0);
  return (
    unreadable(file) ??
    file.meter.map(([access, ...pairs]) => {
      const counts = none.slice();
      for (let i = 0; i < pairs.length; i += 2) counts[pairs[i] ?? 0] = pairs[i + 1] ?? 0;
      return { access, counts };
    })
  );
}

/** Certificates by name, decoded when asked for. */
export class Certificates {
  readonly #rows: ReadonlyMap<string, KernelRow>;
  readonly #decode: (row: KernelRow) => Certificate | Uncertified;
  readonly #decoded = new Map<string, Certificate | Refusal>();
  /** What metered kernels count, by number. */
  readonly blocks: readonly MeterBlock[];

  private constructor(file: CertificateFile, blocks: readonly MeterBlock[]) {
    this.#rows = new Map(file.kernels.map(k => [k.name, k]));
    this.#decode = decoder(file);
    this.blocks = blocks;
  }
  static of(file: CertificateFile): Certificates | Refusal {
    const blocks = decodeBlocks(file);
    return isRefusal(blocks) ? blocks : new Certificates(file, blocks);
  }

  /** The certificate of a plan's op. */
  op(code: number): Certificate | Refusal {
    for (const [name, row] of this.#rows)
      if (isOpCertificate(name) && row.words?.[0]?.[2] === code) return this.get(name); // the first word is the op code
    return refuse('NOTSUP', 9999, `no certificate for op ${code}`);
  }

  get(name: string): Certificate | Refusal {
    const known = this.#decoded.get(name);
    if (known !== undefined) return known;
    const row = this.#rows.get(name);
    const c = row === undefined ? { reason: 'there is none' } : this.#decode(row);
    const found = 'reason' in c ? refuse('NOTSUP', 9999, `no certificate for ${name}: ${c.reason}`) : c;
    this.#decoded.set(name, found);
    return found;
  }
}

/** The inverse of encodeCertificates. */
export function decodeCertificates(file: CertificateFile): (Certificate | Uncertified)[] | Refusal {
  return unreadable(file) ?? file.kernels.map(decoder(file));
}

function decoder(file: CertificateFile): (row: KernelRow) => Certificate | Uncertified {
  const atoms: (Atom | undefined)[] = file.atoms.map(() => undefined);
  const polys: (Poly | undefined)[] = file.expressions.map(() => undefined);
  const expression = (n: number): Poly => {
    const known = polys[n];
    if (known !== undefined) return known;
    const p = new Poly({ without: zero => termsWithout(file.expressions[n] ?? [], zero) });
    polys[n] = p;
    return p;
  };
  const termsWithout = (row: PolyRow, zero: (a: Atom) => boolean): Term[] => {
    const terms: Term[] = [];
    rows: for (const term of row) {
      const factors: Atom[] = [];
      for (let i = 1; i < term.length; i++) {
        const a = atom(term[i] as number);
        if (zero(a)) continue rows;
        factors.push(a);
      }
      terms.push({ coef: BigInt(term[0]), atoms: factors });
    }
    return terms;
  };
  const atom = (n: number): Atom => {
    const known = atoms[n];
    if (known !== undefined) return known;
    const [kind, x = 0, y = 0, z = 0] = file.atoms[n] ?? ['param'];
    const a =
      kind === 'floor'
        ? ATOM.floor(expression(x), expression(y))
        : kind === 'sum'
          ? ATOM.sum(x, expression(y), expression(z))
          : kind === 'entry' || kind === 'max' || kind === 'negative' || kind === 'zero'
            ? ATOM[kind](expression(x))
            : ATOM[kind](x);
    atoms[n] = a;
    return a;
  };
  return (k): Certificate | Uncertified => {
    if (k.reason !== undefined) return { name: k.name, index: k.index, reason: k.reason };
    const side = (which: 1 | 2): Poly[] => {
      const all = CLASSES.map(() => ZERO);
      for (const row of k.counts ?? []) all[row[0]] = expression(row[which]);
      return all;
    };
    const [pointers = [], operands = [], counted = []] = k.dependence ?? [];
    return depending(
      { pointers: new Set(pointers), operands, counted: new Set(counted) },
      {
        name: k.name,
        index: k.index,
        params: k.params ?? 0,
        least: side(1),
        most: side(2),
        domain: (k.domain ?? []).map(([reach, value, low, high]) => ({
          reach: expression(reach),
          value: expression(value),
          low: BigInt(low),
          high: BigInt(high),
        })),
        extents: (k.extents ?? []).map(([store, reach, from, to, moved, run, width, table, pieces]) => ({
          store: store === 1,
          reach: expression(reach),
          from: expression(from),
          to: expression(to),
          moved: expression(moved),
          run: expression(run),
          width,
          scatter:
            table === undefined || pieces === undefined
              ? null
              : { table: expression(table), pieces: expression(pieces) },
        })),
        strays: (k.strays ?? []).map(([store, moved, run, width]) => ({
          store: store === 1,
          moved: expression(moved),
          run: expression(run),
          width,
        })),
        loops: k.loops ?? 0,
        words: (k.words ?? []).map(([param, address, value]) => ({
          param,
          address: expression(address),
          ...(value === undefined ? {} : { value }),
        })),
      },
    );
  };
}
