// The audit ring: the last records of what the machine was asked and how it ended, 64 bytes each, in the arena. Prompt text is never
// stored. A panic prints the ring; /proc/audit shows it.

import { FINISH, layout, LIMITS, type ArenaView, type SessionReport } from './abi/index.ts';
import type { Clock } from './clock.ts';

const AuditRecord = layout({
  number: 'u64', // 0: empty slot
  op: 'u32', // OP
  session: 'u32',
  promptTokens: 'u32',
  outputTokens: 'u32',
  finish: 'u32',
  reserved: 'u32',
  cycles: 'u64',
  atNs: 'u64',
  text: 's16', // notes: their first characters
});
const OP = { note: 1, infer: 3 } as const;

type Report = ReturnType<typeof SessionReport.read>;

export class AuditRing {
  private count = 0;

  constructor(
    private readonly arena: ArenaView,
    private readonly at: number,
    private readonly clock: Clock,
  ) {}

  /** A load, unload or configuration change. */
  note(text: string): void {
    this.put({ op: OP.note, text });
  }

  /** A session ended. */
  session(r: Report): void {
    this.put({
      op: OP.infer,
      session: r.id,
      promptTokens: r.promptTokens,
      outputTokens: r.outputTokens,
      finish: r.finish,
      cycles: r.cycles,
    });
  }

  /** Newest first, one line each. */
  lines(): string[] {
    const out: string[] = [];
    for (let n = this.count; n > 0 && out.length < LIMITS.auditRecordsMax; n--) {
      const r = AuditRecord.read(this.arena.u8, this.slot(n));
      out.push(
        r.op === OP.infer
          ? `${r.number} op=${r.op} session=${r.session} prompt_len=${r.promptTokens} tokens=${r.outputTokens} finish=${FINISH[r.finish]} cycles=${r.cycles} ts_ns=${r.atNs}\n`
          : `${r.number} op=${r.op} ${r.text} ts_ns=${r.atNs}\n`,
      );
    }
    return out;
  }

  private put(record: Parameters<typeof AuditRecord.write>[2]): void {
    this.count++;
    AuditRecord.write(this.arena.u8, this.slot(this.count), {
      ...record,
      number: this.count,
      atNs: this.clock.nowNs(),
    });
  }
  private slot(number: number): number {
    return this.at + ((number - 1) % LIMITS.auditRecordsMax) * LIMITS.auditRecordBytes;
  }
}
