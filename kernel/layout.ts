// The arena's fixed part, from address 0 up: what exists whether or not a model is loaded. The model region follows it and is re-planned
// under mark/release; nothing here ever moves. docs/MEMORY.md draws it and a test holds the drawing to this.

import { LIMITS, PickRecord, RowRecord, SamplerRecord, StepBlock } from './abi/index.ts';
import { alignUp, type Arena } from './arena.ts';
import { RingState } from './audit/ring.ts';
import { BUDGET_BYTES } from './budget.ts';
import { ClockRecord } from './clock.ts';
import { PACE_BYTES } from './pace.ts';
import { panic } from './panic.ts';
import { QUOTA_BYTES } from './quota.ts';
import { SAMPLES_BYTES } from './samples.ts';
import { SCHED_BYTES } from './sched.ts';
import { SessionRecord } from './session.ts';

/** Addresses of the fixed part. */
export interface Layout {
  readonly constantsAt: number; // Unicode classes
  readonly clockAt: number; // ClockRecord
  readonly stepAt: number; // StepBlock
  readonly rowsAt: number; // batchMax × RowRecord: the rows of the pass
  readonly picksAt: number; // batchMax × PickRecord: those of them whose logits are wanted
  readonly randomAt: number; // 16 bytes: state of /dev/random
  readonly samplerAt: number; // SamplerRecord of the running session
  readonly topAt: number; // top logits of the last step: topLogitsMax × {u32 id, f32 logit}
  readonly sessionsAt: number; // sessionsMax × SessionRecord
  readonly schedAt: number; // the scheduler's servers
  readonly quotasAt: number; // users' quotas
  readonly budgetAt: number; // the period budget
  readonly paceAt: number;
  readonly samplesAt: number; // of first tokens, steps, slack and jitter, SAMPLES_BYTES each
  readonly pricesAt: number; // u32 prices of the metered kernels' stretches, in thousandths of a cycle
  readonly auditAt: number; // RingState, and the ring of auditRingBytes behind it
  readonly windowAt: number; // system-call window
  readonly dmaAt: number; // storage transfers
  readonly pipesAt: number; // pipesMax × pipeBytes
  readonly fixedBytes: number;
}

export function layFixed(arena: Arena): Layout {
  const take = (region: string, bytes: number): number => {
    const at = arena.alloc(alignUp(bytes, LIMITS.arenaAlign), LIMITS.arenaAlign, region);
    return at < 0 ? panic(`the fixed part does not fit: ${region} ${bytes} B`) : at;
  };
  take('null', LIMITS.nullBytes);
  const constantsAt = take('constants', LIMITS.constantsBytes);
  const clockAt = take('tables', ClockRecord.bytes);
  const stepAt = take('tables', StepBlock.bytes);
  const rowsAt = take('tables', LIMITS.batchMax * RowRecord.bytes); // 32 × 16 B = 512 B
  const picksAt = take('tables', LIMITS.batchMax * PickRecord.bytes); // 32 × 8 B = 256 B
  const randomAt = take('tables', 16);
  const samplerAt = take('tables', SamplerRecord.bytes);
  const topAt = take('tables', LIMITS.topLogitsMax * 8); // 64 × 8 B = 512 B
  const sessionsAt = take('tables', LIMITS.sessionsMax * SessionRecord.bytes); // 32 × 344 B = 11,008 B
  const schedAt = take('tables', SCHED_BYTES); // 32 × 64 B = 2 KiB
  const quotasAt = take('tables', QUOTA_BYTES);
  const budgetAt = take('tables', BUDGET_BYTES);
  const paceAt = take('tables', PACE_BYTES);
  const samplesAt = take('tables', 4 * SAMPLES_BYTES); // 4 × 520 B = 2,080 B
  const pricesAt = take('prices', LIMITS.meterBytes);
  const auditAt = take('audit', RingState.bytes + LIMITS.auditRingBytes);
  const windowAt = take('window', LIMITS.windowBytes);
  const dmaAt = take('dma', LIMITS.dmaBytes);
  const pipesAt = take('pipes', LIMITS.pipesMax * LIMITS.pipeBytes); // 8 × 2 KiB = 16 KiB
  return {
    constantsAt,
    clockAt,
    stepAt,
    rowsAt,
    picksAt,
    randomAt,
    samplerAt,
    topAt,
    sessionsAt,
    schedAt,
    quotasAt,
    budgetAt,
    paceAt,
    samplesAt,
    auditAt,
    pricesAt,
    windowAt,
    dmaAt,
    pipesAt,
    fixedBytes: arena.usage().offset,
  };
}
