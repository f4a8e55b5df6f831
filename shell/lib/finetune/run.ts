// A training as the store keeps it: run.json says everything that decides what it computes, and what has become of it. Whether it is under way
// is asked of the machine: a process of that number, begun at that time, since this power-on.

import { E, LIMITS, O, utf8Decode, utf8Encode } from '../../../kernel/abi/index.ts';
import { join, readText } from '../files.ts';
import { times } from '../fmt.ts';
import { processTable } from '../processes.ts';
import type { Context } from '../program.ts';
import { writeAll } from '../stdio.ts';
import type { Course } from './loop.ts';
import { writeFile } from './model-file.ts';
import type { Settings } from './options.ts';
import type { Prepared } from './prepare.ts';
import type { Place } from './store.ts';

type Caller = Pick<Context, 'sys' | 'fail' | 'failCall'>;

/** running: its process is there, or the power went; stopped: by a signal; failed: its batch faulted or was refused; done: a version came of it. */
export type RunState = 'running' | 'stopped' | 'failed' | 'done';

export interface Run {
  readonly format: typeof FORMAT;
  readonly state: RunState;
  readonly reason: string; // of failed
  readonly model: { readonly path: string; readonly name: string; readonly digest: string };
  readonly data: Prepared & { readonly path: string };
  /** With all choices made that the plan made. */
  readonly settings: Settings;
  readonly course: Course;
  readonly parameters: number;
  readonly begun: number; // seconds since 1970
  readonly process: { readonly pid: number; readonly startNs: number; readonly bootEpoch: number };
}

const FORMAT = 'arena8-run-1';

/** Files of a run beside those that Place names. */
export const dataPath = (place: Place): string => join(place.directory, 'data');
export const indexPath = (place: Place): string => join(place.directory, 'data.index');
/** Parameters of the best step. */
export const bestPath = (place: Place, step: number): string => join(place.directory, `best.${step}`);

/** This process, as a run names it. */
export function* thisProcess(ctx: Caller): Generator<void, Run['process'], void> {
  const { sys } = ctx;
  const pid = yield* sys.getpid();
  const rows = yield* processTable(sys);
  const row = typeof rows === 'number' ? undefined : rows.find(r => r.pid === pid);
  return { pid, startNs: row?.startNs ?? 0, bootEpoch: (yield* times(sys)).bootEpochSeconds };
}

/** Where whoever watches from outside finds the training that began last: one line, the directory it is kept in. */
const LAST_PATH = '/tmp/llmfinetune';

/** Says there that this is the one. Where the file is another user's, that user's stays announced. */
export function* announce({ sys }: Pick<Caller, 'sys'>, { directory }: Place): Generator<void, void, void> {
  const here = new Uint8Array(LIMITS.pathBytes);
  const n = yield* sys.getcwd(here);
  const path = directory.startsWith('/') ? directory : join(utf8Decode(here, 0, Math.max(0, n)), directory);
  const fd = yield* sys.open(LAST_PATH, O.WRONLY | O.CREAT | O.TRUNC, 0o644);
  if (fd < 0) return;
  yield* writeAll(sys, fd, utf8Encode(`${path}\n`));
  yield* sys.close(fd);
}

/** Whether the process of a run is there. */
export function* isUnderWay(ctx: Caller, run: Run): Generator<void, boolean, void> {
  const { pid, startNs, bootEpoch } = run.process;
  // Machines begin alike: after a power cut this very process may have the number and the time of the one that was.
  if (run.state !== 'running' || pid === (yield* ctx.sys.getpid())) return false;
  const { bootEpochSeconds } = yield* times(ctx.sys);
  const rows = yield* processTable(ctx.sys);
  if (typeof rows === 'number' || bootEpoch !== bootEpochSeconds) return false;
  return rows.some(
    r => r.pid === pid && r.startNs === startNs && r.stat[0] !== 'Z' && /\bllmfinetune\b/.test(r.command),
  );
}

/** The run of a place, null where there is none; or the status after a message. */
export function* readRun(ctx: Caller, place: Place): Generator<void, Run | null | number, void> {
  const text = yield* readText(ctx.sys, place.runPath);
  if (text === -E.NOENT) return null;
  if (typeof text === 'number') return yield* ctx.failCall(place.runPath, -text);
  try {
    const run = JSON.parse(text) as Run | null;
    if (run?.format === FORMAT) return run;
  } catch {
    // Told below, as what has another format is.
  }
  return yield* ctx.fail(`${place.runPath}: not the record of a training`);
}

/** Writes the run of a place: 0, or the status after a message. */
export function* writeRun(ctx: Caller, place: Place, run: Omit<Run, 'format'>): Generator<void, number, void> {
  const text = `${JSON.stringify({ format: FORMAT, ...run } satisfies Run)}\n`;
  const status = yield* writeFile(ctx.sys, place.runPath, utf8Encode(text));
  return status < 0 ? yield* ctx.failCall(place.runPath, -status) : 0;
}
