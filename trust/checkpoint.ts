// What a log says about itself: its size and root in a signed note (C2SP tlog-checkpoint), with the witnesses' signatures that came to it,
// and everything that shows one record to be in the log, in one file (tlog-proof v1).

import { isRefusal, shown, utf8Decode, utf8Encode, utf8Valid } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import { HASH_BYTES, fromBase64, malformed, toBase64, unproven } from './bytes.ts';
import { NOTE_BYTES_MOST, openNote } from './note.ts';
import type { NoteKey } from './note.ts';
import { PROOF_HASHES_MOST, leafHash, verifyInclusion } from './tree.ts';

/** A tree head. */
export interface Checkpoint {
  /** Identifies the log; its key has the same name. */
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
}

export function formatCheckpoint({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${toBase64(root)}\n`;
}

/** Further lines are refused: this log has none, and nobody could audit them. */
export function parseCheckpoint(text: string): Checkpoint | Refusal {
  const [origin = '', size = '', root64 = '', ...end] = text.split('\n');
  const root = fromBase64(root64);
  if (origin === '') return malformed('checkpoint, line 1: no origin');
  const count = decimal(size);
  if (count === null) return malformed('checkpoint, line 2: not a size');
  if (root === null || root.length !== HASH_BYTES) return malformed('checkpoint, line 3: not a root hash');
  if (end.length !== 1 || end[0] !== '') return malformed('checkpoint, line 4: there are three lines');
  return { origin, size: count, root };
}

/** A checkpoint that `log` has signed, with the witnesses among `witnesses` that signed it too. */
export interface OpenedCheckpoint extends Checkpoint {
  /** The signed lines. */
  readonly text: string;
  readonly witnessed: readonly { readonly key: NoteKey; readonly time: number }[];
}

export function openCheckpoint(
  bytes: Uint8Array,
  log: NoteKey,
  witnesses: readonly NoteKey[] = [],
): OpenedCheckpoint | Refusal {
  const note = openNote(bytes, [log, ...witnesses]);
  if (isRefusal(note)) return note;
  if (!note.signed.some(s => s.key === log)) return unproven(`checkpoint: not signed by ${shown(log.name)}`);
  const checkpoint = parseCheckpoint(note.text);
  if (isRefusal(checkpoint)) return checkpoint;
  if (checkpoint.origin !== log.name)
    return unproven(`checkpoint: of ${shown(checkpoint.origin)}, not of ${shown(log.name)}`);
  const witnessed = note.signed.flatMap(({ key, time }) => (time === null ? [] : [{ key, time }]));
  return { ...checkpoint, text: note.text, witnessed };
}

const PROOF_HEADER = 'c2sp.org/tlog-proof@v1';

/** Everything that shows one record to be in a log. */
export interface RecordProof {
  readonly index: number;
  readonly hashes: readonly Uint8Array[];
  /** The signed note. */
  readonly checkpoint: string;
}

export function formatProof({ index, hashes, checkpoint }: RecordProof): string {
  return [PROOF_HEADER, `index ${index}`, ...hashes.map(toBase64), '', checkpoint].join('\n');
}

/** A line of extra data is passed over: nothing vouches for it. */
export function parseProof(bytes: Uint8Array): RecordProof | Refusal {
  if (bytes.length > 2 * NOTE_BYTES_MOST) return malformed(`proof of ${bytes.length} bytes`);
  if (!utf8Valid(bytes)) return malformed('proof: not UTF-8');
  const all = utf8Decode(bytes);
  const blank = all.indexOf('\n\n');
  if (blank < 0) return malformed('proof: no blank line before a checkpoint');
  const lines = all.slice(0, blank).split('\n');
  if (lines[0] !== PROOF_HEADER) return malformed(`proof, line 1: not ${PROOF_HEADER}`);
  const at = lines[1]?.startsWith('extra ') ? 2 : 1;
  if (at === 2 && fromBase64(lines[1]!.slice(6)) === null) return malformed('proof, line 2: not base64');
  const index = lines[at]?.startsWith('index ') ? decimal(lines[at].slice(6)) : null;
  if (index === null) return malformed(`proof, line ${at + 1}: not an index`);
  const hashes: Uint8Array[] = [];
  for (const [i, line] of lines.slice(at + 1).entries()) {
    const hash = fromBase64(line);
    if (hash === null || hash.length !== HASH_BYTES || i >= PROOF_HASHES_MOST)
      return malformed(`proof, line ${at + 2 + i}: not a hash, or one too many`);
    hashes.push(hash);
  }
  return { index, hashes, checkpoint: all.slice(blank + 2) };
}

/** The number of `record` in the log of `log`, and the checkpoint that has it, when the proof shows it. */
export function openProof(
  bytes: Uint8Array,
  record: Uint8Array,
  log: NoteKey,
  witnesses: readonly NoteKey[] = [],
): { readonly index: number; readonly checkpoint: OpenedCheckpoint } | Refusal {
  const proof = parseProof(bytes);
  if (isRefusal(proof)) return proof;
  const checkpoint = openCheckpoint(utf8Encode(proof.checkpoint), log, witnesses);
  if (isRefusal(checkpoint)) return checkpoint;
  const { index, hashes } = proof;
  return verifyInclusion(leafHash(record), index, checkpoint.size, checkpoint.root, hashes) ?? { index, checkpoint };
}

/** A number as C2SP writes it, without leading zeros; null when it is not, or passes 2⁵³. */
function decimal(text: string): number | null {
  const n = /^(0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(n) ? n : null;
}
