// The audit ring: the last records of what the machine was asked and how it ended, 64 bytes each, in the arena. Prompt text is never
// stored. A panic prints the ring; /proc/audit shows it.

import { FINISH, layout, LIMITS, type ArenaView, type Refusal, type SessionReport } from './abi/index.ts';
import type { Clock } from './clock.ts';
import type { Breach } from './session.ts';

const AuditRecord = layout({
  number: 'u64', // 0: empty slot
  op: 'u32', // OP
  session: 'u32',
  promptTokens: 'u32',
  outputTokens: 'u32',
  finish: 'u32',
  status: 'u32', // STATUS
  cycles: 'u64',
  atNs: 'u64',
  text: 's16', // notes: their first characters; refusals: their code
});
/** A charge outside its bounds, in the same slots. */
const BreachRecord = layout({
  number: 'u64',
  op: 'u32',
  session: 'u32',
  outputTokens: 'u32',
  pos: 'u32',
  charged: 'u64',
  least: 'u64',
  most: 'u64',
  atNs: 'u64',
  what: 's8', // step, session
});
const OP = { note: 1, infer: 3, breach: 4 } as const;
/** How a request ended, as the specification's §11 counts it. */
const STATUS = { ok: 1, rejected: 2, late: 4 } as const;

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
      status: FINISH[r.finish] === 'timeout' ? STATUS.late : STATUS.ok,
      cycles: r.cycles,
    });
  }

  /** A request was refused: it has no session and drew nothing. `promptTokens`: 0 when it was refused before they were counted. */
  refused(promptTokens: number, refusal: Refusal): void {
    this.put({ op: OP.infer, promptTokens, status: STATUS.rejected, text: `${refusal.code}` });
  }

  /** What a session was charged lies outside its bounds. */
  breach(b: Breach): void {
    this.count++;
    BreachRecord.write(this.arena.u8, this.slot(this.count), {
      ...b,
      number: this.count,
      op: OP.breach,
      atNs: this.clock.nowNs(),
    });
  }

  /** Newest first, one line each. */
  lines(): string[] {
    const out: string[] = [];
    for (let n = this.count; n > 0 && out.length < LIMITS.auditRecordsMax; n--) out.push(this.line(this.slot(n)));
    return out;
  }

  private line(at: number): string {
    const r = AuditRecord.read(this.arena.u8, at);
    const head = `${r.number} op=${r.op}`;
    if (r.op === OP.note) return `${head} ${r.text} ts_ns=${r.atNs}\n`;
    if (r.op === OP.infer && r.status === STATUS.rejected)
      return `${head} session=0 prompt_len=${r.promptTokens} tokens=0 status=${r.status} code=${r.text} ts_ns=${r.atNs}\n`;
    if (r.op === OP.infer)
      return `${head} session=${r.session} prompt_len=${r.promptTokens} tokens=${r.outputTokens} finish=${FINISH[r.finish]} status=${r.status} cycles=${r.cycles} ts_ns=${r.atNs}\n`;
    const b = BreachRecord.read(this.arena.u8, at);
    return `${head} session=${b.session} ${b.what} pos=${b.pos} tokens=${b.outputTokens} charged=${b.charged} least=${b.least} most=${b.most} ts_ns=${b.atNs}\n`;
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
