// The adapter store: a directory a name, with the versions of what was trained under that name, its runs and its checkpoint. What is in it
// appears by a temporary file and a rename, so that a power cut leaves the old or the new.

import { E } from '../../../kernel/abi/index.ts';
import type { TrainMethod, TrainTensor } from '../../../kernel/abi/index.ts';
import { join } from '../files.ts';
import type { Json } from '../fmt.ts';
import type { Context } from '../program.ts';

/** Options of all verbs that say where the store is. */
export const storeOptions = {
  store: { value: 'DIR', help: 'the adapter store (default: $LLM_ADAPTERS, or /var/sis/adapters)' },
} as const;

const STORE_DIRECTORY = '/var/sis/adapters';
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

type Caller = Pick<Context, 'sys' | 'env' | 'fail' | 'failCall'> & {
  readonly options: { readonly store: string | undefined };
};

/** Where the store is: --store, $LLM_ADAPTERS, or the place of the specification (§15). */
export const storeDirectory = (ctx: Pick<Caller, 'env' | 'options'>): string =>
  ctx.options.store ?? ctx.env.get('LLM_ADAPTERS') ?? STORE_DIRECTORY;

/** What a name has in the store. Each of the files may be missing. */
export interface Place {
  readonly name: string;
  readonly directory: string;
  /** The run that began last: its manifest, one line of JSON. */
  readonly runPath: string;
  /** Its log, a line of JSON a step. */
  readonly logPath: string;
  /** Parameters and moments as they were at the step that the run's manifest names. */
  readonly checkpointPath: string;
}

/** The place of `name`, its directories made with `create`; or the status after a message. */
export function* openPlace(ctx: Caller, name: string, create: boolean): Generator<void, Place | number, void> {
  if (!NAME.test(name)) return yield* ctx.fail(`'${name}' is not a name: letters, digits, '.', '_', '-', 64 at most`);
  const directory = join(storeDirectory(ctx), name);
  if (create) {
    for (let slash = directory.indexOf('/', 1); slash >= 0; slash = directory.indexOf('/', slash + 1))
      yield* ctx.sys.mkdir(directory.slice(0, slash), 0o755);
    const made = yield* ctx.sys.mkdir(directory, 0o755);
    if (made < 0 && made !== -E.EXIST) return (yield* ctx.failCall(directory, -made)) || 1;
  }
  return {
    name,
    directory,
    runPath: join(directory, 'run.json'),
    logPath: join(directory, 'log.jsonl'),
    checkpointPath: join(directory, 'checkpoint'),
  };
}

/** What a training says of itself in versions.json: model digest, data digest, options, seed, losses. */
export type Manifest = Readonly<Record<string, Json>>;

export interface Version {
  readonly number: number; // from 1
  readonly id: string; // the first 12 hexadecimal digits of the digest
  readonly digest: string; // SHA-256 of the file
  readonly path: string;
  readonly bytes: number;
}

/**
 * Makes the file at `source` the next version of the place's name (it is moved, or copied where it is on another file system); its bytes being
 * those of a version already there, it is that version. Or the status after a message.
 */
export declare function commit(
  ctx: Caller,
  place: Place,
  source: string,
  manifest: Manifest,
): Generator<void, Version | number, void>;

/** What was trained, as the file that is written of it says. */
export interface Trained {
  readonly method: TrainMethod;
  readonly name: string;
  /** Path of the base model: architecture and name are read from it; of full, everything but the trained tensors. */
  readonly base: string;
  readonly alpha: number; // not of full
  readonly tensors: readonly TrainTensor[];
}

/** Reads f32 values of the parameter vector from a byte on into a buffer: bytes read, or -errno. */
export type ReadValues = (from: number, buffer: Uint8Array) => Generator<void, number, void>;

/** Writes what was trained to `path`: a GGUF adapter (F32), of full a whole model. Bytes of the file, or minus the status after a message. */
export declare function writeTrained(
  ctx: Caller,
  path: string,
  trained: Trained,
  values: ReadValues,
): Generator<void, number, void>;
