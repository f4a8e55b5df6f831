// Adapters of the loaded model as the kernel keeps them: what a load is asked for, the scales that sessions use them with, and the page of /proc that
// lists them. An adapter belongs to a load as its options do, and is applied or taken away by loading again; its scales belong to sessions, which
// keep them for as long as they live. Beginnings that were computed with other scales are other beginnings: each set of scales has a root of its own.

import {
  ADAPTER_COLUMNS,
  ADAPTERS,
  LIMITS,
  NO_ADAPTER,
  refuse,
  shown,
  type AdapterUse,
  type ModelImage,
  type RecordValue,
  type Refusal,
  type SessionOptions,
} from './abi/index.ts';
import { f32Text } from '../vfs/fs-gguf.ts';
import { alignUp } from './arena.ts';

type Options = RecordValue<typeof SessionOptions.fields>;

/** An adapter that a load is asked for; `digest`: only a file with that SHA-256, '' = any. */
export type AdapterWish = Pick<AdapterUse, 'name' | 'path' | 'digest' | 'scale'>;

const SCALES = ['scale0', 'scale1', 'scale2', 'scale3'] as const satisfies readonly (keyof Options)[];
export type Scales = Pick<Options, (typeof SCALES)[number]>;

/** What an adapter may be called, so that command lines and records can hold it; its name, or why not. */
export function checkName(name: string): string | Refusal {
  const most = LIMITS.adapterNameBytes;
  if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name) && name.length <= most && name !== NO_ADAPTER) return name;
  return refuse(
    'INVAL',
    7001,
    `adapter name ${shown(name)}: a name has 1 to ${most} letters, digits and . _ -, and is not ${NO_ADAPTER}`,
  );
}

/** What an adapter from that file is called where nobody says otherwise. */
export const nameOf = (path: string): string | Refusal =>
  checkName(path.slice(path.lastIndexOf('/') + 1).replace(/\.gguf$/, ''));

// ── Scales of sessions ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export const scalesOf = (o: Scales, count: number): readonly number[] => SCALES.slice(0, count).map(name => o[name]);

/** Whether what a request says of adapters can be had. */
export function checkScales(o: Options, applied: readonly AdapterUse[]): Refusal | null {
  const bad = (text: string): Refusal => refuse('INVAL', 7001, text);
  if (o.adapters > ADAPTERS.given) return bad(`unknown choice of adapters ${o.adapters}`);
  if (o.adapters !== ADAPTERS.given) return null;
  for (const [i, name] of SCALES.entries()) {
    const scale = o[name];
    if (!Number.isFinite(scale)) return bad(`scale ${scale} of adapter ${i} is no finite number`);
    if (i >= applied.length && scale !== 0)
      return bad(
        `scale ${scale} of adapter ${i}: ${applied.length === 0 ? 'none is' : `${applied.length} are`} applied`,
      );
  }
  return null;
}

/**
 * A request that passed checkScales() with the scales that its session will use: `given` where they are not those applied. Who continues another
 * session and says nothing goes on with that one's.
 */
export function withScales(o: Options, applied: readonly AdapterUse[], parent: Scales | null): Options {
  const own = applied.map(({ scale }) => scale);
  const chosen: Record<number, readonly number[]> = {
    [ADAPTERS.applied]: parent === null ? own : scalesOf(parent, applied.length),
    [ADAPTERS.none]: [],
    [ADAPTERS.given]: scalesOf(o, applied.length),
  };
  const scales = SCALES.map((_, i) => chosen[o.adapters]?.[i] || 0); // −0 is 0
  const [scale0, scale1, scale2, scale3] = scales as [number, number, number, number];
  const isApplied = applied.every(({ scale }, i) => scale === scales[i]);
  const adapters = isApplied ? ADAPTERS.applied : ADAPTERS.given;
  return { ...o, adapters, scale0, scale1, scale2, scale3 };
}

/**
 * Numbers for sets of scales, as pages know them: equal numbers, equal scales. 0: nothing is changed. Of others the latest are remembered; a number
 * that was forgotten never comes back, so that what was computed under it is not found again, and grows old.
 */
export class Roots {
  private readonly known = new Map<string, number>();
  private last = 0;

  of(scales: readonly number[]): number {
    if (scales.every(scale => scale === 0)) return 0;
    const key = scales.join(' ');
    const root = this.known.get(key) ?? --this.last;
    this.known.delete(key);
    this.known.set(key, root);
    if (this.known.size > LIMITS.scaleSetsMax) this.known.delete(this.known.keys().next().value!);
    return root;
  }
}

// ── What is told of them ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** /proc/adapters. */
export function adaptersText(applied: readonly AdapterUse[]): string {
  const rows = applied.map(({ name, path, digest, scale, image }) => {
    const words = { name, path, digest, scale: f32Text(scale), ...factsOf(image) };
    return ADAPTER_COLUMNS.map(column => words[column]).join('\t');
  });
  return [ADAPTER_COLUMNS.join('\t'), ...rows].map(line => `${line}\n`).join('');
}

/** Of a file that the engine has taken: its largest rank, how many matrices it changes, and what its factors take. */
function factsOf(image: ModelImage): Record<'rank' | 'alpha' | 'matrices' | 'bytes', string> {
  const ranks = image.tensors.map(t => (t.name.endsWith('.lora_a') ? (t.shape[1] ?? 1) : 0));
  const bytes = image.tensors.map(t => alignUp(4 * t.shape.reduce((product, n) => product * n, 1), LIMITS.arenaAlign));
  return {
    rank: `${Math.max(...ranks)}`,
    alpha: f32Text(Number(image.meta('adapter.lora.alpha') ?? 0)),
    matrices: `${image.tensors.length / 2}`,
    bytes: `${bytes.reduce((sum, n) => sum + n, 0)}`,
  };
}
