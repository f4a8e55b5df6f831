// A witness of audit logs, as C2SP tlog-witness and tlog-cosignature have it: it remembers the newest head of each log that it has signed, and
// signs a newer one only when the log, gone over whole, continues that one. What is remembered is on disk before a signature leaves. Two of
// them with one memory at one time would undo that: a lock beside it keeps the second one out.

import fs from 'node:fs';
import { isRefusal, refuse, shown, utf8Decode, utf8Encode, type Refusal } from '../kernel/abi/index.ts';
import { refused, type Face, type Run } from '../shell/lib/audit-face.ts';
import { PUBLIC_KEY_FILE, type LogFiles, type OpenLog } from '../shell/lib/audit-reader.ts';
import { civilText } from '../shell/lib/audit-record.ts';
import { keyFrom, verifyFiles } from '../shell/lib/audit-verify.ts';
import { formatNoteKey, parseNoteKey, signatureLine, type NoteKey, type NoteSigner } from '../trust/index.ts';
import { reason } from './host-directory.ts';

/** What the witness remembers of a log. */
interface Memory {
  /** Its verifier key. */
  readonly key: string;
  /** The newest checkpoint that was signed. */
  readonly checkpoint: string;
}
/** By origin. */
type State = Readonly<Record<string, Memory>>;

export interface WitnessOptions {
  readonly signer: NoteSigner;
  /** File of what it remembers; it need not be there yet. */
  readonly state: string;
  /** The log's key as --log gives it. */
  readonly log: string | undefined;
  /** The host's clock, seconds since 1970. */
  readonly now: () => number;
}

/** Goes over the log and prints the line that signs its head; or says why it is not signed. */
export function* cosign(face: Face, log: OpenLog, files: LogFiles, options: WitnessOptions): Run {
  const lock = `${options.state}.lock`;
  try {
    fs.closeSync(fs.openSync(lock, 'wx'));
  } catch (error) {
    return yield* face.fail(`${lock}: ${reason(error)}: another witness is at work, or was cut off (then remove it)`);
  }
  try {
    return yield* cosignLocked(face, log, files, options);
  } finally {
    fs.rmSync(lock, { force: true });
  }
}

function* cosignLocked(face: Face, log: OpenLog, files: LogFiles, options: WitnessOptions): Run {
  const state = readState(options.state);
  if (isRefusal(state)) return yield* refused(face, state);
  const { origin, size } = log.checkpoint;
  const known = Object.hasOwn(state, origin) ? state[origin]! : null;
  const key = yield* keyOf(face, files, options.log, known);
  if (isRefusal(key)) return yield* refused(face, key);
  const seen = known === null ? [] : [utf8Encode(known.checkpoint)];
  const verified = yield* verifyFiles(face, log, { key, seen, ...(face.hash && { hash: face.hash }) });
  if (isRefusal(verified)) return yield* face.fail(`not signed: ${log.place}: ${verified.message}`);
  // The checkpoint was read twice: what is remembered must be what is signed, or a fork of it could be signed later.
  if (!log.head.startsWith(`${verified.checkpoint.text}\n`))
    return yield* face.fail(`not signed: ${log.place}: the log has changed meanwhile: try again`);
  const time = options.now();
  const line = signatureLine(verified.checkpoint.text, options.signer, time);
  const wrong = writeState(options.state, { ...state, [origin]: { key: formatNoteKey(key), checkpoint: log.head } });
  if (wrong !== null) return yield* refused(face, wrong);
  yield* face.out.print(line);
  yield* face.err.print(
    `${options.signer.key.name} has seen ${size} records of ${shown(origin)} on ${civilText(time)}; tell the log: llmctl audit witness cosign 'LINE'\n`,
  );
  return 0;
}

/** The key that the log must be signed with: the one remembered, the one given, or, the first time and said so, the one beside it. */
function* keyOf(
  face: Face,
  files: LogFiles,
  given: string | undefined,
  known: Memory | null,
): Generator<void, NoteKey | Refusal, void> {
  const wanted = given === undefined ? null : yield* keyFrom(face, given);
  if (isRefusal(wanted)) return wanted;
  if (known !== null) {
    if (wanted === null || formatNoteKey(wanted) === known.key) return parseNoteKey(known.key);
    return refuse('PROTO', 0, `--log is another key than the one remembered, ${known.key}`);
  }
  if (wanted !== null) return wanted;
  const bytes = yield* files.read(PUBLIC_KEY_FILE);
  if (isRefusal(bytes)) return bytes;
  if (bytes === null) return refuse('INVAL', 0, `${files.place}: not seen before: --log VKEY gives its key`);
  const key = parseNoteKey(utf8Decode(bytes));
  if (!isRefusal(key))
    yield* face.err.print(`not seen before: from now on its key is the one beside it, ${formatNoteKey(key)}\n`);
  return key;
}

// ── What it remembers ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function readState(file: string): State | Refusal {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    return refuse('IO', 0, `${file}: ${reason(error)}`);
  }
  try {
    const value = JSON.parse(text) as unknown;
    if (isState(value)) return value;
  } catch {
    // told below
  }
  return refuse('INVAL', 0, `${file}: not what a witness remembers`);
}

const isState = (value: unknown): value is State =>
  typeof value === 'object' &&
  value !== null &&
  Object.values(value).every(
    (memory: Partial<Memory> | null) => typeof memory?.key === 'string' && typeof memory.checkpoint === 'string',
  );

/** On disk when this returns, under its name all at once. */
function writeState(file: string, state: State): Refusal | null {
  const part = `${file}.part`;
  try {
    const fd = fs.openSync(part, 'w', 0o600);
    fs.writeSync(fd, `${JSON.stringify(state, null, 2)}\n`);
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    fs.renameSync(part, file);
    return null;
  } catch (error) {
    return refuse('IO', 0, `${file}: ${reason(error)}`);
  }
}
