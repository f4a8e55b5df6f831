// `audit prove N`: why a record is in the log, as a file that others' programs check (C2SP tlog-proof v1). The proof goes to standard output,
// what it shows and how to check it without us to standard error, so that `prove N > N.tlog-proof` is the proof alone.

import { isRefusal, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { Refusal } from '../../kernel/abi/index.ts';
import { formatProof, leafHash, openProof, toBase64, toHex } from '../../trust/index.ts';
import { recordNumber, refused } from './audit-face.ts';
import type { Face, Run } from './audit-face.ts';
import { PUBLIC_KEY_FILE } from './audit-reader.ts';
import type { LogFiles, OpenLog } from './audit-reader.ts';
import { logKey } from './audit-verify.ts';
import { jsonLine, wrap } from './fmt.ts';
import { screenWidth } from './program.ts';

export function* prove(face: Face, log: OpenLog, files: LogFiles, [word = '']: readonly string[]): Run {
  const found = yield* recordNumber(face, log, word);
  if ('status' in found) return found.status;
  const { number } = found;
  const given = yield* logKey(face, files);
  if (isRefusal(given)) return yield* refused(face, given);
  const record = yield* log.record(number);
  if (isRefusal(record)) return yield* refused(face, record);
  const proof = yield* proofOf(log, files, number);
  if (isRefusal(proof)) return yield* refused(face, proof);
  const verified = openProof(proof, record, given.key);
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

/** The kernel's own proof where it shows one; else one made from the tree. */
function* proofOf(log: OpenLog, files: LogFiles, number: number): Generator<void, Uint8Array | Refusal, void> {
  const made = yield* files.read(`proof/${number}`);
  if (made !== null) return made;
  const tree = yield* log.tree();
  const hashes = isRefusal(tree) ? tree : tree.inclusion(number, log.checkpoint.size);
  return isRefusal(hashes) ? hashes : utf8Encode(formatProof({ index: number, hashes, checkpoint: log.head }));
}

function wordsOf(
  number: number,
  leaf: string,
  { origin, size, root }: { readonly origin: string; readonly size: number; readonly root: Uint8Array },
): string {
  const paragraphs = [
    `This shows that the bytes of record ${number} (audit show ${number} --json, without the newline; leaf hash ${leaf}) are number ${number} of the ${size} records under the root ${toBase64(root)}, which the key of ${origin} has signed. No other record can have that place under that root.`,
    "It does not show when: the clock is the machine's own. A witness that cosigns the checkpoint does (llmctl audit witness). Nor that others are shown the same log: compare checkpoints (llmctl audit verify --seen).",
    `To check it without arena8: save the proof, the record, and the key that somebody other than the log gives you (else the log's own, /audit/${PUBLIC_KEY_FILE}). Go's golang.org/x/mod/sumdb does it: note.Open the text behind the proof's empty line with the key; tlog.RecordHash the record; tlog.CheckRecord with the hashes of the proof, and size and root of the checkpoint.`,
  ];
  return paragraphs.map(text => `\n${wrap(text, screenWidth)}`).join('');
}
