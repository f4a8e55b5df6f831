// `audit verify`: a whole log against a key, heads seen before and witnesses; the arithmetic is trust/verify.ts. The key must come from
// somebody other than the log: one that lies beside it proves that nobody else has changed it, and not whose it is; then it says so.

import { isRefusal, refuse, shown, utf8Decode } from '../../kernel/abi/index.ts';
import type { Refusal } from '../../kernel/abi/index.ts';
import { parseNoteKey, toBase64, verifyLog } from '../../trust/index.ts';
import type { NoteKey, VerifiedLog } from '../../trust/index.ts';
import { refused } from './audit-face.ts';
import type { Face, Run } from './audit-face.ts';
import { PUBLIC_KEY_FILE } from './audit-reader.ts';
import type { LogFiles, OpenLog } from './audit-reader.ts';
import { civilText } from './audit-record.ts';
import { jsonLine } from './fmt.ts';
import { grouped } from './model.ts';

export function* verifyWhole(face: Face, log: OpenLog, files: LogFiles): Run {
  const given = yield* logKey(face, files);
  if (isRefusal(given)) return yield* refused(face, given);
  const { key, isBeside } = given;
  if (isBeside)
    yield* face.err.print(
      `the key is the one beside the log, ${shown(key.name)}: that shows order and integrity, not whose log it is (--key)\n`,
    );
  const witnesses: NoteKey[] = [];
  for (const text of face.options.witness) {
    const witness = yield* keyFrom(face, text);
    if (isRefusal(witness)) return yield* refused(face, witness);
    witnesses.push(witness);
  }
  const seen: Uint8Array[] = [];
  for (const path of face.options.seen) {
    const bytes = yield* face.readFile(path);
    if (isRefusal(bytes)) return yield* refused(face, bytes);
    seen.push(bytes);
  }
  const verified = yield* verifyFiles(face, log, { key, witnesses, seen, ...(face.hash && { hash: face.hash }) });
  if (isRefusal(verified)) return yield* face.fail(`${log.place}: ${verified.message}`);
  yield* face.out.print(face.options.json ? verifiedJson(verified, key) : verifiedText(verified));
  return 0;
}

/** The log's key: the one that --key gives, or the one that lies beside the log. */
export function* logKey(
  face: Face,
  files: LogFiles,
): Generator<void, { readonly key: NoteKey; readonly isBeside: boolean } | Refusal, void> {
  if (face.options.key !== undefined) {
    const key = yield* keyFrom(face, face.options.key);
    return isRefusal(key) ? key : { key, isBeside: false };
  }
  const bytes = yield* files.read(PUBLIC_KEY_FILE);
  if (isRefusal(bytes)) return bytes;
  if (bytes === null) {
    const message = `${files.place}: whose log is it? --key VKEY gives its key, from somebody other than the log`;
    return refuse('INVAL', 0, message);
  }
  const key = parseNoteKey(utf8Decode(bytes));
  if (isRefusal(key)) return { ...key, message: `${files.place}/${PUBLIC_KEY_FILE}: ${key.message}` };
  return { key, isBeside: true };
}

/** A verifier key as it is, or in a file. */
export function* keyFrom(face: Face, text: string): Generator<void, NoteKey | Refusal, void> {
  if (/\+[0-9a-f]{8}\+/.test(text)) return parseNoteKey(text);
  const bytes = yield* face.readFile(text);
  if (isRefusal(bytes)) return bytes;
  const key = parseNoteKey(utf8Decode(bytes));
  return isRefusal(key) ? { ...key, message: `${text}: ${key.message}` } : key;
}

/** Gives verifyLog the files that it asks for. */
export function* verifyFiles(
  face: Face,
  log: OpenLog,
  trust: Parameters<typeof verifyLog>[1],
): Generator<void, VerifiedLog | Refusal, void> {
  const { tiled } = log;
  const paths = yield* tiled.paths();
  if (isRefusal(paths)) return paths;
  const steps = verifyLog(
    paths.filter(path => path !== PUBLIC_KEY_FILE),
    trust,
  );
  let done = 0;
  let step = steps.next();
  while (step.done !== true) {
    const bytes = yield* tiled.read(step.value);
    if (isRefusal(bytes)) return bytes;
    yield* face.progress(Math.min(++done, paths.length), paths.length);
    step = steps.next(bytes);
  }
  yield* face.progress(paths.length, paths.length);
  return step.value;
}

const plural = (n: number, one: string, many: string): string => `${grouped(n)} ${n === 1 ? one : many}`;

function verifiedText({ checkpoint, boots }: VerifiedLog): string {
  const { origin, size, root, witnessed } = checkpoint;
  const lines = [
    `ok: ${plural(size, 'record', 'records')} of ${origin}, ${plural(boots, 'power-on', 'power-ons')}, root ${toBase64(root)}`,
    ...witnessed.map(({ key, time }) => `seen by ${key.name} on ${civilText(time)}`),
  ];
  return lines.map(line => `${line}\n`).join('');
}

function verifiedJson({ checkpoint, boots }: VerifiedLog, key: NoteKey): string {
  const { origin, size, root, witnessed } = checkpoint;
  return jsonLine({
    ok: true,
    origin,
    size,
    root: toBase64(root),
    boots,
    key: key.name,
    witnesses: witnessed.map(w => ({ name: w.key.name, time: w.time })),
  });
}
