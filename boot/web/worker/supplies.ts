// What a machine in a browser is made of: what was fetched for it, kept for the next power-on, and programs that come when they are first run.

import type { BootOptions } from '../../machine.ts';
import { lateParts } from './demand.ts';
import { fetchAll, type Fetched, type Progress } from './fetched.ts';
import { sha256 } from './sha256.ts';

export type Supplies = Pick<BootOptions, 'parts' | 'image' | 'sha256'>;

let fetching: Promise<Fetched> | null = null;

/** Throws when something cannot be fetched; the next call tries again. */
export async function supplies(progress: Progress): Promise<Supplies> {
  const begun = globalThis.arena8Fetching;
  globalThis.arena8Fetching = undefined;
  fetching ??= begun?.(progress) ?? fetchAll(progress);
  try {
    const { build, kernels, certificates, image } = await fetching;
    return { parts: { kernels: { [build]: kernels }, certificates, ...lateParts }, image, sha256 };
  } catch (error) {
    fetching = null;
    throw error;
  }
}
