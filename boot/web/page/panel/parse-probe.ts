// What a look into a step tells (llmctl probs, attention, lens --json; man json): JSON, or, where there is nothing to look into, a refusal in
// words. Keys that a view needs and that are not there make the text a refusal too, so that no view draws half a figure.

export interface ProbeToken {
  readonly id: number;
  readonly text: string;
}

export interface Probe {
  readonly what: string;
  readonly id: number;
  readonly state: string;
  readonly position: number;
  readonly token: ProbeToken;
  /** null: there is none yet. drawn: by the sampler, else it is the prompt's. */
  readonly next: (ProbeToken & { readonly drawn: boolean }) | null;
}

export interface Probs extends Probe {
  readonly what: 'probs';
  readonly vocabulary: number;
  readonly stages: readonly {
    readonly stage: string;
    readonly tokens: number;
    /** Bits. */
    readonly entropy: number;
    /** Of next. */
    readonly probability: number | null;
  }[];
  /** Best first; a probability behind each stage. */
  readonly top: readonly (ProbeToken & { readonly logit: number; readonly probabilities: readonly number[] })[];
}

export interface Attention extends Probe {
  readonly what: 'attention';
  readonly layer: number;
  readonly head: number;
  readonly layers: number;
  readonly heads: number;
  readonly heads_kv: number;
  readonly head_kv: number;
  readonly row: readonly (ProbeToken & { readonly position: number; readonly weight: number })[];
}

export interface Lens extends Probe {
  readonly what: 'lens';
  readonly layers: readonly {
    /** -1: the embedding, before the first layer. */
    readonly layer: number;
    readonly entropy: number;
    /** Of next, from 1. */
    readonly rank: number | null;
    readonly probability: number | null;
    readonly top: readonly (ProbeToken & { readonly logit: number; readonly probability: number })[];
  }[];
}

const LISTS = { probs: 'top', attention: 'row', lens: 'layers' } as const;

/** The look, or the refusal that came in its place: one line. */
export function parseProbe<T extends Probs | Attention | Lens>(text: string, what: T['what']): T | string {
  let value: Partial<Record<string, unknown>>;
  try {
    value = JSON.parse(text) as typeof value;
  } catch {
    return text.trim();
  }
  if (typeof value !== 'object' || value === null) return text.trim();
  if (typeof value['refused'] === 'string') return value['refused'];
  return value['what'] === what && Array.isArray(value[LISTS[what]]) ? (value as unknown as T) : '';
}

/** A token's text where blanks and line ends are to be seen. */
export function visible(text: string): string {
  return text.replaceAll('\n', '⏎').replaceAll('\t', '⇥').replaceAll(' ', '␣');
}
