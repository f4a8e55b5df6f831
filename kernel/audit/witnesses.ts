// Witnesses: others who sign heads of the log when they have seen that each continues the one before (C2SP tlog-witness, tlog-cosignature). Whom
// the machine trusts is said in the log itself; their signatures lie beside it, in /var/audit/cosignatures: the size of the head, then the line.

import { isRefusal, refuse, utf8Encode, type Refusal } from '../abi/index.ts';
import { formatNoteKey, NOTE_TYPE, openNote, parseNoteKey, type NoteKey } from '../../trust/index.ts';

/** Heads that may still be signed: a witness answers some flushes after it was asked. */
const HEADS_KEPT = 64;
const WITNESSES_MOST = 15; // beside the log's own signature, as many as a note may have

export interface Head {
  readonly size: number;
  /** Signed by the log. */
  readonly note: string;
}

/** A signature that was taken. */
export interface Cosigned {
  readonly witness: NoteKey;
  readonly size: number;
  readonly time: number;
  readonly line: string;
}

export class Witnesses {
  private readonly trusted: NoteKey[] = [];
  private readonly heads: Head[] = [];
  /** By the size of the head, its witnesses' newest lines by their keys: no more than a note may have. */
  private readonly lines = new Map<number, Map<NoteKey, Cosigned>>();

  /** As the commands of ctl have them. */
  settings(): readonly string[] {
    return this.trusted.map(key => `witness ${formatNoteKey(key)}`);
  }

  trust(line: string): NoteKey | Refusal {
    const key = parseNoteKey(line);
    if (isRefusal(key)) return key;
    if (key.type !== NOTE_TYPE.cosignature)
      return refuse(
        'INVAL',
        0,
        `${key.name} is the key of a log, not of a witness (type ${key.type}, not ${NOTE_TYPE.cosignature})`,
      );
    if (this.trusted.some(k => formatNoteKey(k) === formatNoteKey(key)))
      return refuse('EXIST', 0, `${key.name} is a trusted witness already`);
    if (this.trusted.length >= WITNESSES_MOST) return refuse('NOSPC', 0, `${WITNESSES_MOST} witnesses at most`);
    this.trusted.push(key);
    return key;
  }

  /** A new head, which nobody has signed yet. */
  add(head: Head): void {
    this.heads.push(head);
    if (this.heads.length > HEADS_KEPT) this.lines.delete(this.heads.shift()!.size);
  }

  /** A signature line of a trusted witness over one of the last heads. */
  cosign(line: string): Cosigned | Refusal {
    const whole = `${line.trim()}\n`;
    let wrong: Refusal = refuse('INVAL', 0, 'there is no head to sign yet');
    for (const { size, note } of this.heads.toReversed()) {
      const signed = openNote(utf8Encode(textOf(note) + whole), this.trusted);
      if (isRefusal(signed)) {
        wrong = signed;
        continue;
      }
      const [{ key, time } = { key: null, time: null }] = signed.signed;
      if (key === null || time === null) continue;
      const known = this.lines.get(size) ?? new Map<NoteKey, Cosigned>();
      const last = known.get(key)?.time ?? -1;
      if (time <= last) return refuse('EXIST', 0, `${key.name} has signed this head already, at ${last}`);
      const cosigned = { witness: key, size, time, line: whole };
      this.lines.set(size, known.set(key, cosigned));
      return cosigned;
    }
    return { ...wrong, message: `not a signature of a trusted witness over one of the last heads: ${wrong.message}` };
  }

  /** A head's note with what has been signed of it. */
  signed({ size, note }: Head): string {
    return note + Array.from(this.lines.get(size)?.values() ?? [], ({ line }) => line).join('');
  }
}

/** The text of a note and the blank line behind it: signatures follow. */
const textOf = (note: string): string => note.slice(0, note.lastIndexOf('\n\n') + 2);
