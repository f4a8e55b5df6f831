// `audit prove N`: why a record is in the log, as a file that others' programs check (C2SP tlog-proof v1). The proof goes to standard output,
// what it shows and how to check it without us to standard error, so that `prove N > N.tlog-proof` is the proof alone.

import { isRefusal, utf8Decode } from '../../kernel/abi/index.ts';
import { leafHash, parseNoteKey, toBase64, toHex, openProof } from '../../trust/index.ts';
import { recordNumber, refused } from './audit-face.ts';
import type { Face, Run } from './audit-face.ts';
import { AUDIT_DIRECTORY } from './audit-machine.ts';
import { PUBLIC_KEY_FILE } from './audit-reader.ts';
import type { LogFiles, OpenLog } from './audit-reader.ts';
import { jsonLine, wrap } from './fmt.ts';
import { screenWidth } from './program.ts';

export function* prove(face: Face, log: OpenLog, files: LogFiles, [word = '']: readonly string[]): Run {
  const found = yield* recordNumber(face, log, word);
  if ('status' in found) return found.status;
  const { number } = found;
  const record = yield* log.record(number);
  const proof = yield* files.read(`proof/${number}`);
  const key = yield* files.read(PUBLIC_KEY_FILE);
  for (const part of [record, proof, key]) if (isRefusal(part)) return yield* refused(face, part);
  if (!(record instanceof Uint8Array && proof instanceof Uint8Array && key instanceof Uint8Array))
    return yield* face.fail(`${log.place}: no proof of record ${number}`);
  const noteKey = parseNoteKey(utf8Decode(key));
  if (isRefusal(noteKey)) return yield* refused(face, noteKey);
  const verified = openProof(proof, record, noteKey);
  if (isRefusal(verified)) return yield* refused(face, verified);
  const { origin, size, root } = verified.checkpoint;
  const leaf = leafHash(record);
  if (face.options.json) {
    const facts = { record: number, leaf: toHex(leaf), origin, size, root: toBase64(root), proof: utf8Decode(proof) };
    yield* face.out.print(jsonLine(facts));
    return 0;
  }
  yield* face.out.write(proof);
  yield* face.err.print(wordsOf(number, toHex(leaf), verified.checkpoint));
  return 0;
}

function wordsOf(
  number: number,
  leaf: string,
  { origin, size, root }: { readonly origin: string; readonly size: number; readonly root: Uint8Array },
): string {
  const paragraphs = [
    `This shows that the bytes of record ${number} (llmctl audit show ${number} --json, without the newline; leaf hash ${leaf}) are number ${number} of the ${size} records under the root ${toBase64(root)}, which the key of ${origin} has signed. No other record can have that place under that root.`,
    "It does not show when: the clock is the machine's own. A witness that cosigns the checkpoint does (llmctl audit witness). Nor that others are shown the same log: compare checkpoints (llmctl audit verify --seen).",
    `To check it without arena8: save the proof, the record, and the key that somebody other than the log gives you (else ${AUDIT_DIRECTORY}/${PUBLIC_KEY_FILE}). Go's golang.org/x/mod/sumdb does it: note.Open the text behind the proof's empty line with the key; tlog.RecordHash the record; tlog.CheckRecord with the hashes of the proof, and size and root of the checkpoint.`,
  ];
  return paragraphs.map(text => `\n${wrap(text, screenWidth)}`).join('');
}
