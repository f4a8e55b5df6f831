// The reference in PyTorch (tests/outside/lora_reference.py): what it is asked and what it answers, and whether it can be asked at all.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import type { OPTIMIZERS, TrainTarget } from '../../kernel/abi/index.ts';

const PYTHON = '/usr/bin/python3';
export const TORCH = '/usr/lib/python3/dist-packages/torch';
export const haveTorch = existsSync(TORCH) && existsSync(PYTHON);
/** A test that needs it is declared, or skipped by name; where CI=true it fails instead. */
export const wantsTorch = haveTorch || process.env['CI'] === 'true';

/** The first position whose following token counts, and the ids. */
export type TorchSequence = readonly [from: number, ids: readonly number[]];

export interface TorchRequest {
  readonly model: string;
  readonly method?: 'lora' | 'full';
  readonly dtype?: 'f32' | 'f64';
  readonly targets?: readonly TrainTarget[];
  readonly rank?: number;
  readonly alpha?: number;
  readonly seed?: number;
  readonly optimizer?: (typeof OPTIMIZERS)[number];
  readonly beta1?: number;
  readonly beta2?: number;
  readonly epsilon?: number;
  readonly decay?: number;
  readonly clip?: number;
  readonly anchor?: number;
  readonly steps?: readonly { readonly rate: number; readonly sequences: readonly TorchSequence[] }[];
  readonly held?: readonly TorchSequence[];
  readonly logits?: readonly (readonly number[])[];
}

export interface TorchAnswer {
  readonly losses: readonly number[]; // nats a target, of each step before its update
  readonly norms: readonly number[];
  readonly held: readonly [before: number, after: number];
  readonly parameters: number;
  readonly seconds: readonly number[];
  readonly logits: readonly (readonly (readonly number[])[])[];
}

/** Asks it; throws with what Python said where it failed. */
export function torch(request: TorchRequest): TorchAnswer {
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-torch-'));
  try {
    const file = path.join(directory, 'request.json');
    writeFileSync(file, JSON.stringify(request));
    const { status, stdout, stderr } = spawnSync(PYTHON, ['tests/outside/lora_reference.py', file], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
    if (status !== 0) throw new Error(`the reference in PyTorch: ${stderr}`);
    return JSON.parse(stdout) as TorchAnswer;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
