// What the machine does, as records of the audit log: each system call that changes or refuses something, and each request twice, when it is
// admitted and when it ends. Texts are not among them, only digests under a salt of the record's own, so that nobody can guess a short prompt.

import {
  ADAPTERS,
  errnoName,
  FINISH,
  ggmlTypeName,
  isRefusal,
  LIMITS,
  logitsSum,
  NO_SLACK,
  refuse,
  RNG,
  SERVER,
  SESSION_FLAG,
  SESSION_KIND,
  type Refusal,
  type SessionOptions,
} from '../abi/index.ts';
import { fromHex, joined, type AuditFields, type AuditOp } from '../../trust/index.ts';
import type { OpenFile } from '../../vfs/file.ts';
import { f32Text } from '../../vfs/fs-gguf.ts';
import { ROOT } from '../../vfs/permission.ts';
import { scalesOf } from '../adapters.ts';
import type { Arena } from '../arena.ts';
import type { Layout } from '../layout.ts';
import type { Loaded, Loader } from '../loader.ts';
import type { Quotas } from '../quota.ts';
import type { Ended, Journal, Request } from '../service.ts';
import type { Breach, Session, SessionTable } from '../session.ts';
import { panic } from '../panic.ts';
import { sealingBytes, type Sealer } from './content.ts';
import { AuditLog, FRAME_BYTES_MOST } from './log.ts';
import type { Recovered } from './recovery.ts';

type Options = ReturnType<typeof SessionOptions.read>;

export interface JournalParts {
  readonly arena: Arena;
  readonly lay: Layout;
  readonly loader: Loader;
  readonly quotas: Quotas;
  readonly table: SessionTable;
  /** What encrypts texts to a recipient. */
  readonly sealerOf: (recipient: string) => Sealer | Refusal;
  readonly sha256: () => { update(bytes: Uint8Array): unknown; digest(): Uint8Array };
}

/** What is kept of a live request until its end is recorded. */
interface Asked {
  readonly o: Options;
  readonly stops: readonly Uint8Array[];
  readonly submitted: number;
  readonly rngBegin: Uint8Array;
  readonly quotaBefore: readonly string[];
}

/** Records that a call may leave at most: four files of /etc that it is found to have changed, and its own. */
const CALL_RECORDS = 6;

const nameOf = (table: Readonly<Record<string, number>>, value: number): string =>
  Object.keys(table).find(name => table[name] === value) ?? `${value}`;

const NOTHING = new Uint8Array(0);

/** What a refusal says of itself. */
export function refusedFields({ errno, code, message }: Refusal): AuditFields {
  return { 'error.type': errnoName(errno), 'arena8.code': code, 'arena8.message': message };
}

export class AuditJournal implements Journal {
  private readonly asked = new WeakMap<Session, Asked>();
  /** What records say of the loaded model. */
  private model: { readonly loaded: Loaded; readonly fields: AuditFields } | null = null;
  /** Encrypts texts, where they are to be stored. */
  sealer: Sealer | null = null;

  constructor(
    readonly log: AuditLog,
    private readonly k: JournalParts,
  ) {}

  // ── System calls ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

  note(op: AuditOp, uid: number, fields: AuditFields): number {
    // Calls that leave records have passed the gate; what else is noted in a full ring cannot wait.
    if (this.log.room(this.k.table.live().length) < FRAME_BYTES_MOST) this.log.settle();
    return this.log.append(op, uid, [fields]);
  }

  /** What has been found at power-on: what was dropped, and the requests that the power cut has ended. */
  recovered({ dropped, open, recipient }: Recovered, size: number): void {
    const sealer = recipient === '' ? null : this.k.sealerOf(recipient);
    if (!isRefusal(sealer)) this.sealer = sealer;
    if (size === 0 && dropped.bytes === 0) return;
    this.note('recover', ROOT.euid, {
      'arena8.name': 'unacknowledged records',
      'arena8.value': `${dropped.records}`,
      'arena8.digest': dropped.digest,
    });
    for (const { submitted, uid, session } of open)
      this.note('fault', uid, {
        'arena8.code': 5002,
        'arena8.message': 'the machine was switched off before it ended',
        'arena8.submitted': submitted,
        'gen_ai.conversation.id': session,
        'gen_ai.response.finish_reasons': ['fault'],
      });
  }

  breached({ what, session, outputTokens, pos, charged, least, most }: Breach): void {
    this.note('breach', ROOT.euid, {
      'arena8.name': what,
      'arena8.value': `pos=${pos}`,
      'gen_ai.conversation.id': `${session}`,
      'gen_ai.usage.output_tokens': outputTokens,
      'arena8.cycles': charged,
      'arena8.cycles.least': least,
      'arena8.cycles.most': most,
    });
  }

  // ── Room ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether a call can leave its records; a reason why it never will. Ends of live sessions have their room already. */
  gate(): boolean | Refusal {
    if (this.log.room(this.k.table.live().length) >= CALL_RECORDS * FRAME_BYTES_MOST) return true;
    if (this.log.stopped === null) return false;
    this.log.retry();
    return AuditLog.why(this.log.stopped);
  }

  admits(): Refusal | null {
    const { stopped } = this.log;
    if (stopped !== null) return AuditLog.why(stopped);
    const room = Math.max(0, this.log.room(this.k.table.live().length));
    const wanted = 2 * FRAME_BYTES_MOST; // its submission, and its end
    if (room >= wanted) return null;
    return refuse(
      'AGAIN',
      3002,
      `the audit ring has ${room} of ${LIMITS.auditRingBytes} bytes left until it is flushed, a request reserves ${wanted}`,
    );
  }

  // ── Requests ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  quotaOf(uid: number): readonly string[] {
    const q = this.k.quotas.get(uid);
    return [
      `tokens=${q.tokensUsed}/${q.tokensPerHour}`,
      `cycles=${q.cyclesUsed}/${q.cyclesPerHour}`,
      `kv=${q.kvBytesUsed}/${q.kvBytes}`,
      `sessions=${q.sessionsUsed}/${q.sessions}`,
    ];
  }

  submitted(s: Session, { o, stops }: Pick<Request, 'o' | 'stops'>, quotaBefore: readonly string[]): void {
    const salt = this.log.saltOf(this.log.next);
    const fields: AuditFields = {
      'gen_ai.conversation.id': `${s.id}`,
      'gen_ai.request.max_tokens': s.get('maxTokens'),
      'gen_ai.usage.input_tokens': s.idCount,
      'arena8.cycles.least': s.u64('bcetCycles'),
      'arena8.cycles.most': s.u64('wcetCycles'),
      'arena8.prompt.digest': this.digest(salt, this.idsOf(s.ids, s.idCount)),
    };
    const parts = [this.requestFields(o, stops, salt), fields];
    const submitted = this.log.append('submit', s.uid, parts, { hashed: 4 * s.idCount, when: 'soon' });
    const rngBegin = this.k.arena.u8.slice(s.rngAt, s.rngAt + 16);
    this.asked.set(s, { o, stops, submitted, rngBegin, quotaBefore });
  }

  refused(uid: number, { o, stops = [], ids, count = 0 }: Partial<Request>, refusal: Refusal): void {
    const salt = this.log.saltOf(this.log.next);
    const prompt = ids === undefined ? NOTHING : this.idsOf(ids, count);
    const texts = ids === undefined ? { fields: {}, hashed: 0 } : this.seal(salt, prompt, NOTHING, stops);
    const parts: readonly AuditFields[] = [
      this.modelFields(),
      o === undefined ? {} : this.requestFields(o, stops, salt),
      ids === undefined ? {} : { 'arena8.prompt.digest': this.digest(salt, prompt) },
      texts.fields,
      refusedFields(refusal),
      { 'gen_ai.usage.input_tokens': count, 'gen_ai.usage.output_tokens': 0 },
    ];
    this.log.append('reject', uid, parts, { hashed: texts.hashed });
  }

  ended(s: Session, { report: r, code, late, historyAt, message }: Ended): void {
    const known = this.asked.get(s);
    const salt = this.log.saltOf(this.log.next);
    const finish = FINISH[r.finish]!;
    const { u8 } = this.k.arena;
    const endOfPrompt = historyAt + 4 * s.idCount;
    const prompt = historyAt === 0 ? this.idsOf(s.ids, s.idCount) : u8.subarray(historyAt, endOfPrompt);
    const output = u8.subarray(endOfPrompt, endOfPrompt + (historyAt === 0 ? 0 : 4 * r.outputTokens));
    const texts = this.seal(salt, prompt, output, known?.stops ?? []);
    const fields: AuditFields = {
      'arena8.code': code,
      'gen_ai.conversation.id': `${s.id}`,
      'arena8.submitted': known?.submitted ?? 0,
      'gen_ai.request.max_tokens': s.get('maxTokens'),
      'gen_ai.usage.input_tokens': s.idCount,
      'arena8.cycles.least': r.bcetCycles,
      'arena8.cycles.most': r.wcetCycles,
      'arena8.prompt.digest': this.digest(salt, prompt),
      'gen_ai.response.finish_reasons': [finish],
      'gen_ai.usage.output_tokens': r.outputTokens,
      'arena8.output.digest': this.digest(salt, output),
      'arena8.logits.sum': logitsSum(r),
      'arena8.rng.begin': known?.rngBegin ?? new Uint8Array(16),
      'arena8.rng.end': u8.slice(s.rngAt, s.rngAt + 16),
      'arena8.cycles': r.cycles,
      'arena8.submitted_ns': r.submittedNs,
      'arena8.began_ns': r.beganNs,
      'arena8.first_token_ns': r.firstTokenNs,
      'arena8.late': late,
      'arena8.kv.peak_bytes': r.kvBytes,
      'arena8.arena.peak_bytes': r.arenaPeak,
      'arena8.quota.before': known?.quotaBefore ?? [],
      'arena8.quota.after': this.quotaOf(s.uid),
    };
    const parts: readonly AuditFields[] = [
      this.modelFields(),
      known === undefined ? {} : this.requestFields(known.o, known.stops, salt),
      fields,
      message === '' ? {} : { 'arena8.message': message },
      s.isScore ? { 'arena8.nll': s.nllSum } : {},
      r.slackNs === NO_SLACK ? {} : { 'arena8.slack_ns': r.slackNs },
      texts.fields,
    ];
    const ops: Readonly<Record<string, AuditOp>> = {
      cancel: 'cancel',
      timeout: 'timeout',
      quota: 'exhausted',
      fault: 'fault',
    };
    const op = ops[finish] ?? (s.isScore ? 'score' : s.has(SESSION_FLAG.stream) ? 'stream' : 'infer');
    s.endRecord = this.log.append(op, s.uid, parts, { hashed: texts.hashed });
    this.asked.delete(s);
  }

  /** `on KEY`, `off`: whether texts are stored from now on. */
  storeTexts(command: string, uid: number): Refusal | null {
    const [, key = ''] = /^on\s+(\S+)$/.exec(command) ?? [];
    if (key === '' && command !== 'off') return refuse('INVAL', 7001, `content '${command}': on KEY, or off`);
    const sealer = key === '' ? null : this.k.sealerOf(key);
    if (isRefusal(sealer)) return sealer;
    this.sealer = sealer;
    this.note('content', uid, { 'arena8.name': key === '' ? 'off' : 'on', 'arena8.value': key });
    return null;
  }

  /** Stores the texts of the request whose record is the next one, if they are to be: what the record says of that, and the work, as bytes hashed. */
  private seal(
    salt: Uint8Array,
    prompt: Uint8Array,
    output: Uint8Array,
    stops: readonly Uint8Array[],
  ): { readonly fields: AuditFields; readonly hashed: number } {
    const hashed = prompt.length + output.length;
    if (this.sealer === null) return { fields: {}, hashed };
    const piece = (id: number): Uint8Array => this.piece(id);
    const sealed = this.sealer.seal({ record: this.log.next, salt, prompt, output, stops, piece });
    if (sealed === null) return { fields: { 'arena8.content': 'too long' }, hashed };
    const { bytes, what } = sealed;
    const isStored = this.log.putContent(bytes) === null;
    return {
      fields: isStored
        ? { 'arena8.content': what, 'arena8.content.digest': this.digest(bytes, NOTHING) }
        : { 'arena8.content': 'failed' },
      hashed: hashed + sealingBytes(bytes.length),
    };
  }

  /** The bytes that a token of the loaded model stands for, special ones too. */
  private piece(id: number): Uint8Array {
    const { arena, lay, loader } = this.k;
    const bytes = loader.engine()?.vocabulary.piece(id, lay.dmaAt, LIMITS.dmaBytes, true) ?? 0;
    return arena.u8.slice(lay.dmaAt, lay.dmaAt + Math.max(0, bytes));
  }

  isAcknowledged(s: Session): boolean {
    return this.log.isAcknowledged(s.endRecord);
  }
  stopped(): Refusal | null {
    return this.log.stopped === null ? null : AuditLog.why(this.log.stopped);
  }
  flush(slack: () => number, idle: boolean): boolean {
    return this.log.flush(slack, idle);
  }
  nextEvent(): number | null {
    return this.log.nextEvent();
  }
  flushLeast(): number {
    return this.log.flushLeast;
  }

  // ── Fields ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The model that is loaded. */
  modelFields(): AuditFields {
    const loaded = this.k.loader.current();
    if (this.model?.loaded !== loaded) this.model = loaded === null ? null : { loaded, fields: fieldsOf(loaded) };
    return this.model?.fields ?? {};
  }

  /** As it was asked for. */
  private requestFields(o: Options, stops: readonly Uint8Array[], salt: Uint8Array): AuditFields {
    const flags = Object.entries(SESSION_FLAG).flatMap(([name, bit]) => ((o.flags & bit) === 0 ? [] : [name]));
    const isServer = o.server !== SERVER.none;
    return {
      'gen_ai.operation.name': o.kind === SESSION_KIND.score ? 'score' : 'text_completion',
      ...(o.parent === 0 ? {} : { 'arena8.parent': o.parent }),
      'gen_ai.request.max_tokens': o.maxTokens,
      'gen_ai.request.temperature': finite(o.temp),
      'gen_ai.request.top_k': o.topK,
      'gen_ai.request.top_p': finite(o.topP),
      'arena8.request.min_p': finite(o.minP),
      'arena8.request.repeat_penalty': finite(o.repeatPenalty),
      'gen_ai.request.seed': o.seed,
      'arena8.request.rng': nameOf(RNG, o.rng),
      'arena8.request.stops': stops.length,
      'arena8.request.logits': o.logitsK,
      'arena8.request.flags': flags,
      'arena8.request.priority': o.priority,
      'arena8.request.server': nameOf(SERVER, o.server),
      ...(isServer
        ? { 'arena8.request.period_ns': whole(o.periodNs), 'arena8.request.budget_cycles': whole(o.budgetCycles) }
        : {}),
      'arena8.request.deadline_ns': whole(o.deadlineNs),
      'arena8.request.timeout_ns': o.timeoutMs * 1e6,
      ...this.scalesFields(o),
      ...(stops.length === 0
        ? {}
        : { 'arena8.stops.digest': this.digest(salt, joined(...stops.map(s => joined(Uint8Array.of(s.length), s)))) }),
    };
  }

  /** Scales of adapters that are not the applied ones. */
  private scalesFields(o: Options): AuditFields {
    const count = this.k.loader.engine()?.options.adapters.length ?? 0;
    if (count === 0 || o.adapters === ADAPTERS.applied) return {};
    const isNone = o.adapters === ADAPTERS.none;
    const words = scalesOf(o, count).map(scale => (isNone ? '0' : f32Text(finite(scale))));
    return { 'arena8.request.scales': words };
  }

  private digest(salt: Uint8Array, bytes: Uint8Array): Uint8Array {
    const hash = this.k.sha256();
    hash.update(salt);
    hash.update(bytes);
    return Uint8Array.from(hash.digest());
  }

  /** `count` ids of a file in storage, through the buffer for transfers. */
  private idsOf(file: OpenFile, count: number): Uint8Array {
    const { dmaAt } = this.k.lay;
    const ids = new Uint8Array(4 * count);
    for (let at = 0; at < ids.length;) {
      const n = file.readAt(at, dmaAt, Math.min(LIMITS.dmaBytes, ids.length - at));
      if (n <= 0) panic(`token ids of a request cannot be read: ${n}`);
      ids.set(this.k.arena.u8.subarray(dmaAt, dmaAt + n), at);
      at += n;
    }
    return ids;
  }
}

function fieldsOf(loaded: Loaded): AuditFields {
  const { engine, path, digest, planDigest } = loaded;
  return {
    'gen_ai.provider.name': 'arena8',
    'gen_ai.request.model': engine.shape.name,
    'arena8.model.path': path,
    ...(digest === '' ? {} : { 'arena8.model.digest': bytesOf(digest) }),
    'arena8.engine': engine.name,
    'arena8.plan.digest': bytesOf(planDigest),
    'arena8.load': loadWords(loaded),
    ...(engine.options.adapters.length === 0
      ? {}
      : { 'arena8.adapters': engine.options.adapters.map(a => `${a.name}:${a.digest}:${f32Text(a.scale)}`) }),
  };
}

/** Options of the load as the plan has them. */
function loadWords({ engine: { options: o } }: Loaded): readonly string[] {
  const words = [
    `ctx=${o.ctx}`,
    `kv=${(ggmlTypeName(o.kvType) ?? `${o.kvType}`).toLowerCase()}`,
    `batch=${o.batch}`,
    `sessions=${o.sessions}`,
    `pages=${o.pages}`,
    `draws=${o.draws}`,
  ];
  return o.tileBytes === 0 ? words : [...words, `tile=${o.tileBytes}`, `buffers=${o.buffers}`, `pin=${o.pinBytes}`];
}

/** What a refused request asked for may be no number at all, or none that is exact. */
const finite = (x: number): number => (Number.isFinite(x) ? x : -1);
const whole = (n: number): number => Math.min(n, Number.MAX_SAFE_INTEGER);

const bytesOf = (hex: string): Uint8Array => fromHex(hex) ?? new Uint8Array(32);

/** A machine without a log. */
export const SILENT: Journal = {
  note: () => -1,
  submitted: () => {},
  refused: () => {},
  ended: () => {},
  breached: () => {},
  quotaOf: () => [],
  modelFields: () => ({}),
  gate: () => true,
  admits: () => null,
  isAcknowledged: () => true,
  stopped: () => null,
  flush: () => false,
  nextEvent: () => null,
  flushLeast: () => 0,
};
