// What a look into a step tells: the JSON that `llmctl probs`, `attention` and `lens` print with --json, and that Machine.probe gives; man json
// has the keys in words. The kernel writes it, the shell and the panel read it.

import type { PROBES } from './records.ts';

export interface ProbeToken {
  readonly id: number;
  readonly text: string;
}

export interface ProbeAnswer {
  readonly what: (typeof PROBES)[number];
  readonly id: number;
  readonly state: string;
  readonly position: number;
  readonly token: ProbeToken;
  /** null: there is none yet. drawn: by the sampler, else it is the prompt's. */
  readonly next: (ProbeToken & { readonly drawn: boolean }) | null;
  readonly cycles: number;
  readonly cycles_most: number;
}

export interface ProbsAnswer extends ProbeAnswer {
  readonly what: 'probs';
  readonly vocabulary: number;
  readonly sampler: Readonly<Record<'temp' | 'top_k' | 'top_p' | 'min_p' | 'repeat_penalty', number>>;
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

export interface AttentionAnswer extends ProbeAnswer {
  readonly what: 'attention';
  readonly layer: number;
  readonly head: number;
  readonly layers: number;
  readonly heads: number;
  readonly heads_kv: number;
  readonly head_kv: number;
  /** Bits. */
  readonly entropy: number;
  readonly row: readonly (ProbeToken & { readonly position: number; readonly weight: number })[];
}

export interface LensAnswer extends ProbeAnswer {
  readonly what: 'lens';
  readonly vocabulary: number;
  readonly layers: readonly {
    /** -1: the embedding, before the first layer. */
    readonly layer: number;
    /** Bits. */
    readonly entropy: number;
    /** Of next, from 1. */
    readonly rank: number | null;
    readonly probability: number | null;
    readonly top: readonly (ProbeToken & { readonly logit: number; readonly probability: number })[];
  }[];
}
