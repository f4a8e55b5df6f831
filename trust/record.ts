// What the audit log writes down: the operations that leave a record, and the attributes a record is made of. A record is one JSON object in
// canonical form (RFC 8785), its keys the attributes' names: those of OpenTelemetry's GenAI conventions where one exists, `arena8.…` elsewhere.
// This table is the only list of them: the kernel fills records from it, verifiers check against it, docs/AUDIT.md is held to it by a test.

/**
 * What was done, or was asked and refused. Every request for inference ends in exactly one record: infer (it came to its end), stream (the same,
 * of a stream), score, cancel, timeout, exhausted, fault or reject. `submit` is the admission before it.
 */
export const AUDIT_OPS = [
  'boot', // power-on: build, image, seed, target, disks
  'recover', // a log was found at power-on, and what of it was not acknowledged
  'load',
  'unload',
  'budget',
  'quota',
  'submit',
  'infer',
  'stream',
  'score',
  'cancel',
  'timeout',
  'exhausted', // its user's quota, or the machine's budget, cut it short
  'reject',
  'fault',
  'breach', // a charge outside its bounds
  'finetune',
  'hash',
  'sign',
  'verify',
  'key', // a trusted key was added or removed
  'policy', // what happens to models that nobody signed
  'register',
  'unregister',
  'swap',
  'rollback',
  'apply', // an adapter was put beside the model
  'detach', // adapters were taken away
  'attest',
  'login',
  'mount',
  'umount',
  'config', // target, scheduler, pace, disks, engines, rights
  'content', // storing texts was switched on or off
  'disclose', // the salt of a record was read
  'witness', // somebody else has signed a head of the log
] as const;
export type AuditOp = (typeof AUDIT_OPS)[number];

/** The specification's numbers of the operations it names (SIS §11). */
export const SIS_OP: Partial<Record<AuditOp, number>> = { load: 1, budget: 2, infer: 3, stream: 4 };

/**
 * How a value is written: `count` an integer, |n| < 2⁵³; `u64` one that is not negative, as a decimal string; `real` a finite number that f32 or
 * f64 holds; `text` and `words`, a list of short words, cut to what fits into `most` bytes; `hex` of `most` bytes.
 */
export type AttributeKind = 'count' | 'u64' | 'real' | 'flag' | 'text' | 'hex' | 'words';

/** Attributes that come together; see OP_GROUPS. */
export type AttributeGroup = 'all' | 'object' | 'machine' | 'model' | 'request' | 'end' | 'training';

export interface Attribute {
  readonly in: AttributeGroup;
  readonly kind: AttributeKind;
  /** Bytes: of text and words at most, as JSON has them between quotes or brackets (escapes and commas counted); of hex exactly. */
  readonly most?: number;
  readonly help: string;
}

// prettier-ignore
export const ATTRIBUTES = {
  // Every record
  'arena8.record': { in: 'all', kind: 'count', help: 'number of the record in the log, from 0' },
  'arena8.op': { in: 'all', kind: 'text', most: 12, help: 'what was done: one of the operations' },
  'arena8.boot': { in: 'all', kind: 'count', help: 'how many times the machine had been switched on with this log before' },
  'arena8.time_ns': { in: 'all', kind: 'u64', help: "the machine's clock since power-on: order, not a date" },
  'arena8.user': { in: 'all', kind: 'text', most: 32, help: "the effective user's name" },
  'arena8.uid': { in: 'all', kind: 'count', help: 'the effective user' },
  'arena8.code': { in: 'all', kind: 'count', help: "the specification's four-digit code; 0: nothing went wrong" },
  'error.type': { in: 'all', kind: 'text', most: 16, help: 'name of the errno that it was refused with' },
  'arena8.message': { in: 'all', kind: 'text', most: 160, help: 'why it was refused or failed' },
  // What was acted on
  'arena8.path': { in: 'object', kind: 'text', most: 128, help: 'file or directory' },
  'arena8.name': { in: 'object', kind: 'text', most: 64, help: 'of a setting, key, user or mount' },
  'arena8.value': { in: 'object', kind: 'text', most: 160, help: 'what it is set to' },
  'arena8.digest': { in: 'object', kind: 'hex', most: 32, help: 'SHA-256 of the file acted on, or of what was dropped' },
  // The machine
  'arena8.version': { in: 'machine', kind: 'text', most: 32, help: 'of arena8' },
  'arena8.kernel.digest': { in: 'machine', kind: 'hex', most: 32, help: 'SHA-256 of the sources and kernels this build is made of' },
  'arena8.image.digest': { in: 'machine', kind: 'hex', most: 32, help: 'SHA-256 of the boot image' },
  'arena8.seed': { in: 'machine', kind: 'count', help: "seed of the machine's /dev/random" },
  'arena8.target': { in: 'machine', kind: 'text', most: 16, help: 'the simulated processor' },
  'arena8.disks': { in: 'machine', kind: 'words', most: 160, help: 'kinds of storage that are not the default, NAME=MODEL' },
  // The model
  'gen_ai.provider.name': { in: 'model', kind: 'text', most: 8, help: 'arena8' },
  'gen_ai.request.model': { in: 'model', kind: 'text', most: 64, help: 'name of the model' },
  'arena8.model.path': { in: 'model', kind: 'text', most: 128, help: 'file it was loaded from; empty: an engine of its own' },
  'arena8.model.digest': { in: 'model', kind: 'hex', most: 32, help: 'SHA-256 of the file' },
  'arena8.engine': { in: 'model', kind: 'text', most: 16, help: 'engine that ran it' },
  'arena8.plan.digest': { in: 'model', kind: 'hex', most: 32, help: "SHA-256 of the plan, its prices left out" },
  'arena8.load': { in: 'model', kind: 'words', most: 224, help: 'options of the load, NAME=VALUE, as the plan has them' },
  'arena8.adapters': { in: 'model', kind: 'words', most: 460, help: 'adapters beside it, NAME:DIGEST:SCALE: SHA-256 of the file, scale of requests that say no other' },
  // The request
  'gen_ai.operation.name': { in: 'request', kind: 'text', most: 16, help: 'text_completion, or score' },
  'gen_ai.conversation.id': { in: 'request', kind: 'text', most: 16, help: 'number of the session since power-on' },
  'arena8.parent': { in: 'request', kind: 'count', help: 'session that it continues' },
  'arena8.submitted': { in: 'request', kind: 'count', help: 'number of its submit record' },
  'gen_ai.request.max_tokens': { in: 'request', kind: 'count', help: 'tokens that may be drawn' },
  'gen_ai.request.temperature': { in: 'request', kind: 'real', help: '0: the greatest logit' },
  'gen_ai.request.top_k': { in: 'request', kind: 'count', help: '0: off' },
  'gen_ai.request.top_p': { in: 'request', kind: 'real', help: '1: off' },
  'arena8.request.min_p': { in: 'request', kind: 'real', help: '0: off' },
  'arena8.request.repeat_penalty': { in: 'request', kind: 'real', help: '1: off' },
  'gen_ai.request.seed': { in: 'request', kind: 'count', help: 'seed of its random draws' },
  'arena8.request.rng': { in: 'request', kind: 'text', most: 8, help: 'generator: xor128 or lcg' },
  'arena8.request.stops': { in: 'request', kind: 'count', help: 'stop strings' },
  'arena8.request.logits': { in: 'request', kind: 'count', help: 'largest logits shown with each token' },
  'arena8.request.flags': { in: 'request', kind: 'words', most: 48, help: 'special, detached, paced, stream, ids' },
  'arena8.request.priority': { in: 'request', kind: 'count', help: 'of the fixed-priority policy' },
  'arena8.request.server': { in: 'request', kind: 'text', most: 8, help: 'none, hard or soft' },
  'arena8.request.period_ns': { in: 'request', kind: 'u64', help: 'of the server' },
  'arena8.request.budget_cycles': { in: 'request', kind: 'u64', help: 'of the server, each period' },
  'arena8.request.deadline_ns': { in: 'request', kind: 'u64', help: 'after submission; 0: none' },
  'arena8.request.timeout_ns': { in: 'request', kind: 'u64', help: 'after submission; 0: none' },
  'arena8.request.scales': { in: 'request', kind: 'words', most: 72, help: 'of the adapters, where they are not the ones applied' },
  'gen_ai.usage.input_tokens': { in: 'request', kind: 'count', help: 'tokens of the prompt' },
  'arena8.cycles.least': { in: 'request', kind: 'u64', help: 'lower bound, said before' },
  'arena8.cycles.most': { in: 'request', kind: 'u64', help: 'upper bound, said before' },
  'arena8.prompt.digest': { in: 'request', kind: 'hex', most: 32, help: "SHA-256 of the record's salt and the prompt's token ids, u32 little-endian" },
  'arena8.stops.digest': { in: 'request', kind: 'hex', most: 32, help: 'the same of the stop strings, as SessionOptions holds them' },
  // Its end
  'gen_ai.response.finish_reasons': { in: 'end', kind: 'words', most: 16, help: 'why it ended' },
  'gen_ai.usage.output_tokens': { in: 'end', kind: 'count', help: 'tokens drawn' },
  'arena8.output.digest': { in: 'end', kind: 'hex', most: 32, help: "SHA-256 of the record's salt and the ids of the output" },
  'arena8.logits.sum': { in: 'end', kind: 'hex', most: 16, help: 'running checksum of every row of logits that was drawn from or scored' },
  'arena8.nll': { in: 'end', kind: 'real', help: 'sum of losses of a scored text' },
  'arena8.rng.begin': { in: 'end', kind: 'hex', most: 16, help: "the generator's state when it was submitted" },
  'arena8.rng.end': { in: 'end', kind: 'hex', most: 16, help: 'and at its end' },
  'arena8.cycles': { in: 'end', kind: 'u64', help: 'charged, as if alone' },
  'arena8.submitted_ns': { in: 'end', kind: 'u64', help: "the machine's clock at submission" },
  'arena8.began_ns': { in: 'end', kind: 'u64', help: 'when it left the queue; 0: never' },
  'arena8.first_token_ns': { in: 'end', kind: 'u64', help: 'when its first token was drawn; 0: never' },
  'arena8.late': { in: 'end', kind: 'flag', help: 'it missed a deadline' },
  'arena8.slack_ns': { in: 'end', kind: 'u64', help: 'least time left at the end of a job of its server' },
  'arena8.kv.peak_bytes': { in: 'end', kind: 'u64', help: 'keys and values it held at most' },
  'arena8.arena.peak_bytes': { in: 'end', kind: 'u64', help: "the machine's memory at most while it was there" },
  'arena8.quota.before': { in: 'end', kind: 'words', most: 192, help: "its user's quota at submission: tokens=USED/LIMIT and cycles=…, kv=…, sessions=…" },
  'arena8.quota.after': { in: 'end', kind: 'words', most: 192, help: 'and when it had ended' },
  'arena8.content': { in: 'end', kind: 'text', most: 8, help: 'of its texts, where they are to be stored: all, ids (token ids alone), too long, failed' },
  'arena8.content.digest': { in: 'end', kind: 'hex', most: 32, help: 'SHA-256 of the encrypted texts, where they are stored' },
  // A training
  'arena8.train.options': { in: 'training', kind: 'words', most: 256, help: 'what was asked for, NAME=VALUE; with all choices made, where it was opened' },
  'arena8.train.parameters.digest': { in: 'training', kind: 'hex', most: 32, help: 'SHA-256 of the trained parameters at its end, f32 little-endian' },
  'arena8.train.data.digest': { in: 'training', kind: 'hex', most: 32, help: 'SHA-256 of all batches that it learned from: of each TrainStep, then the sequences' },
  'arena8.train.steps': { in: 'training', kind: 'count', help: 'updates' },
  'arena8.train.tokens': { in: 'training', kind: 'u64', help: 'rows of sequences that were given to it' },
  'arena8.train.cycles': { in: 'training', kind: 'u64', help: 'that it took' },
  'arena8.train.loss': { in: 'training', kind: 'real', help: 'of its last batch: sum of -ln p of its targets' },
} as const satisfies Record<string, Attribute>;
export type AttributeName = keyof typeof ATTRIBUTES;

type ValueOf<K extends AttributeKind> = K extends 'count' | 'u64' | 'real'
  ? number
  : K extends 'flag'
    ? boolean
    : K extends 'hex'
      ? Uint8Array
      : K extends 'words'
        ? readonly string[]
        : string;

/** What an operation has to say; the log adds number, boot and time. */
export type AuditFields = { readonly [A in AttributeName]?: ValueOf<(typeof ATTRIBUTES)[A]['kind']> };

// ── Sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How a request ends: in exactly one record of one of these operations. */
const ENDINGS: ReadonlySet<AuditOp> = new Set<AuditOp>([
  'infer',
  'stream',
  'score',
  'cancel',
  'timeout',
  'exhausted',
  'reject',
  'fault',
]);
export const isEnding = (op: AuditOp): boolean => ENDINGS.has(op);

/** The attributes that a record of an operation may have. */
export function groupsOf(op: AuditOp): readonly AttributeGroup[] {
  if (isEnding(op)) return ['all', 'model', 'request', 'end'];
  if (op === 'submit') return ['all', 'request'];
  if (op === 'breach') return ['all', 'object', 'request', 'end'];
  if (op === 'finetune') return ['all', 'object', 'model', 'training'];
  if (op === 'boot' || op === 'attest') return ['all', 'object', 'machine'];
  return ['all', 'object', 'model'];
}

/** Bytes of the longest value of each kind that has no length of its own: 2⁵³ − 1 with a sign, the same in quotes, −1.7976931348623157e+308, false. */
const VALUE_BYTES = { count: 17, u64: 18, real: 24, flag: 5 } as const;

function valueBytesMost({ kind, most = 0 }: Attribute): number {
  if (kind === 'hex') return 2 * most + 2;
  return kind === 'text' || kind === 'words' ? most + 2 : VALUE_BYTES[kind];
}

/** Bytes of the longest record of an operation: every attribute that it may have at its longest, `"name":value`, commas and braces. */
export function recordBytesMost(op: AuditOp): number {
  const groups = groupsOf(op);
  const own = Object.entries<Attribute>(ATTRIBUTES).filter(([, a]) => groups.includes(a.in));
  return 1 + own.reduce((bytes, [name, a]) => bytes + name.length + 4 + valueBytesMost(a), 0);
}
