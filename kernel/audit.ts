// The audit ring: the last records of what the machine was asked and how it ended, 64 bytes each, in the arena. Prompt text is never
// stored. A panic prints the ring; /proc/audit shows it.

import { FINISH, layout, LIMITS, type ArenaView, type Refusal, type SessionReport } from './abi/index.ts';
import type { AuditFields, AuditOp } from '../trust/index.ts';
import { ROOT } from '../vfs/permission.ts';
import type { Clock } from './clock.ts';
import type { Breach } from './session.ts';

const NoteRecord = layout({
  number: 'u64', // 0: empty slot
  op: 'u32', // OP
  reserved: 'u32',
  atNs: 'u64',
  text: 's40', // its first characters
});
/** A request, admitted or not. */
const InferRecord = layout({
  number: 'u64',
  op: 'u32',
  session: 'u32', // 0: refused
  uid: 'u32',
  promptTokens: 'u32',
  outputTokens: 'u32',
  finish: 'u32',
  status: 'u32', // STATUS
  code: 'u32', // of the specification; 0: nothing went wrong
  cycles: 'u64',
  atNs: 'u64',
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
  note(op: AuditOp, fields: AuditFields): void {
    const said = ['arena8.path', 'arena8.name', 'arena8.value', 'arena8.message'] as const;
    const text = [op, ...said.map(name => fields[name] ?? '').filter(s => s !== '')].join(' ');
    NoteRecord.write(this.arena.u8, this.next(), { ...this.stamp(), op: OP.note, text });
  }

  /** A session ended; `late`: not when it was to. */
  session(r: Report, code: number, late: boolean): void {
    const { id: session, uid, promptTokens, outputTokens, finish, cycles } = r;
    const status = STATUS.ok | (late ? STATUS.late : 0);
    const record = { session, uid, promptTokens, outputTokens, finish, cycles, code, status };
    InferRecord.write(this.arena.u8, this.next(), { ...this.stamp(), ...record, op: OP.infer });
  }

  /** A request was refused: it has no session and drew nothing. `promptTokens`: 0 when it was refused before they were counted. */
  refused(uid: number, promptTokens: number, { code }: Refusal): void {
    const record = { uid, promptTokens, code, status: STATUS.rejected };
    InferRecord.write(this.arena.u8, this.next(), { ...this.stamp(), ...record, op: OP.infer });
  }

  /** What a session was charged lies outside its bounds. */
  breach(b: Breach): void {
    BreachRecord.write(this.arena.u8, this.next(), { ...b, ...this.stamp(), op: OP.breach });
  }

  /** Newest first, one line each, as a user sees them: the requests of others are the superuser's to read. */
  lines(uid: number): string[] {
    const out: string[] = [];
    for (let n = this.count; n > 0 && n > this.count - LIMITS.auditRecordsMax; n--) {
      const at = this.slot(n);
      const r = InferRecord.read(this.arena.u8, at);
      const isOthers = r.op === OP.breach || (r.op === OP.infer && r.uid !== uid);
      if (uid === ROOT.euid || !isOthers) out.push(this.line(at, r));
    }
    return out;
  }

  private line(at: number, r: ReturnType<typeof InferRecord.read>): string {
    const head = `${r.number} op=${r.op}`;
    if (r.op === OP.note) {
      const { text, atNs } = NoteRecord.read(this.arena.u8, at);
      return `${head} ${text} ts_ns=${atNs}\n`;
    }
    if (r.op === OP.infer) {
      const finish = FINISH[r.finish] || 'reject';
      return (
        `${head} session=${r.session} prompt_len=${r.promptTokens} tokens=${r.outputTokens} finish=${finish} ` +
        `user=${r.uid} status=${r.status} code=${r.code} cycles=${r.cycles} ts_ns=${r.atNs}\n`
      );
    }
    const b = BreachRecord.read(this.arena.u8, at);
    return `${head} session=${b.session} ${b.what} pos=${b.pos} tokens=${b.outputTokens} charged=${b.charged} least=${b.least} most=${b.most} ts_ns=${b.atNs}\n`;
  }

  /** The place of the next record; what was there is gone. */
  private next(): number {
    const at = this.slot(++this.count);
    this.arena.u8.fill(0, at, at + LIMITS.auditRecordBytes);
    return at;
  }
  private stamp(): { readonly number: number; readonly atNs: number } {
    return { number: this.count, atNs: this.clock.nowNs() };
  }
  private slot(number: number): number {
    return this.at + ((number - 1) % LIMITS.auditRecordsMax) * LIMITS.auditRecordBytes;
  }
}
