// Logs as an export lays them out, made without a machine: realistic records from a seed, their tree and tiles, checkpoints signed with any key.
// Whoever has the key can make such a log; tests use that to be the forger.

import { createHash, createPrivateKey, sign } from 'node:crypto';
import { isRefusal, type Refusal } from '../../kernel/abi/index.ts';
import {
  canonical,
  formatCheckpoint,
  formatNoteKey,
  frame,
  joined,
  leafHash,
  noteSigner,
  signatureLine,
  tileHashes,
  tilePath,
  tilesOf,
  Tree,
  TILE_WIDTH,
} from '../../trust/index.ts';
import type { JsonObject, NoteSigner, NoteType, Sha256 } from '../../trust/index.ts';
import { makeRandom } from './arena.ts';

/** The files of a log under their paths. */
export type Files = ReadonlyMap<string, Uint8Array>;

export const nativeSha256: Sha256 = (...parts) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

/** A test's own mistake throws. */
export function sure<T>(value: T | Refusal): T {
  if (isRefusal(value)) throw new Error(value.message);
  return value;
}

/** A signer of notes whose secret is 32 times the same byte; the host signs, many times faster. */
export function makeSigner(name: string, byte: number, type?: NoteType): NoteSigner {
  const secret = new Uint8Array(32).fill(byte);
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), secret]); // RFC 8410
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  return { key: sure(noteSigner(name, secret, type)).key, sign: message => new Uint8Array(sign(null, message, key)) };
}

/** A note of this text with a line of each signer; witnesses say that they saw it one second after the other. */
export function signed(text: string, ...signers: NoteSigner[]): Uint8Array {
  const lines = signers.map((s, i) => signatureLine(text, s, 1_790_000_000 + i));
  return new Uint8Array(Buffer.from(`${text}\n${lines.join('')}`));
}

/** A list of records with its tree: everything that an export of its first `size` records is made of. */
export class TestLog {
  readonly records: readonly Uint8Array[];
  readonly tree: Tree;

  constructor(records: readonly Uint8Array[]) {
    this.records = records;
    this.tree = new Tree(undefined, nativeSha256);
    for (const record of records) this.tree.append(leafHash(record, nativeSha256));
  }

  /** The three lines of a checkpoint. */
  text(size: number, origin: string): string {
    return formatCheckpoint({ origin, size, root: this.tree.root(size) });
  }

  checkpoint(size: number, log: NoteSigner, ...witnesses: NoteSigner[]): Uint8Array {
    return signed(this.text(size, log.key.name), log, ...witnesses);
  }

  /** Bundles and tiles of the first `size` records. */
  tiles(size: number): Map<string, Uint8Array> {
    const files = new Map<string, Uint8Array>();
    for (const name of tilesOf(size)) {
      const { level, index, width } = name;
      const first = index * TILE_WIDTH;
      const bytes =
        level === 'entries'
          ? joined(...this.records.slice(first, first + width).map(frame))
          : tileHashes(this.tree, level, index, width);
      files.set(tilePath(name), bytes);
    }
    return files;
  }

  files(size: number, log: NoteSigner, ...witnesses: NoteSigner[]): Map<string, Uint8Array> {
    const pubkey = new Uint8Array(Buffer.from(`${formatNoteKey(log.key)}\n`));
    return this.tiles(size)
      .set('checkpoint', this.checkpoint(size, log, ...witnesses))
      .set('pubkey', pubkey);
  }
}

/** The bytes of a record. */
export const encoded = (record: JsonObject): Uint8Array => sure(canonical(record));

type Random = (n: number) => number;
const hex = (random: Random, bytes: number): string =>
  Array.from({ length: bytes }, () => random(256).toString(16).padStart(2, '0')).join('');

const idOf = (request: JsonObject): JsonObject => ({ 'gen_ai.conversation.id': request['gen_ai.conversation.id']! });

/** A day in the life of a machine: power-ons, a model, requests that come to their end, are refused or cut short. */
export function makeRecords(count: number, seed: number): Uint8Array[] {
  const random = makeRandom(Math.imul(seed + 1, 0x9e3779b1));
  const records: Uint8Array[] = [];
  const model = { 'gen_ai.provider.name': 'arena8', 'gen_ai.request.model': 'fable', 'arena8.engine': 'transformer' };
  const digests = { 'arena8.model.digest': hex(random, 32), 'arena8.plan.digest': hex(random, 32) };
  const waiting: { readonly number: number; readonly request: JsonObject }[] = [];
  let [power, timeNs, session] = [-1, 0, 0];
  const put = (op: string, user: 'root' | 'ada', code: number, fields: JsonObject): void => {
    timeNs += random(3_000_000);
    const stamp = { 'arena8.record': records.length, 'arena8.boot': power, 'arena8.time_ns': String(timeNs) };
    const who = { 'arena8.user': user, 'arena8.uid': user === 'root' ? 0 : 1000, 'arena8.code': code };
    records.push(encoded({ ...stamp, ...who, 'arena8.op': op, ...fields }));
  };
  const powerOn = (): void => {
    power++;
    [timeNs, session] = [1_000_000, 0];
    put('boot', 'root', 0, {
      'arena8.version': '0.1.0',
      'arena8.kernel.digest': hex(random, 32),
      'arena8.image.digest': hex(random, 32),
      'arena8.seed': random(2 ** 31),
      'arena8.target': 'cortex-a72',
      'arena8.disks': [],
    });
    for (const { number, request } of waiting.splice(0))
      // what was running is gone with the power
      put('fault', 'ada', 5002, { ...idOf(request), 'arena8.submitted': number, 'arena8.message': 'switched off' });
    put('load', 'root', 0, { ...model, ...digests, 'arena8.model.path': '/models/fable-f16.gguf' });
  };
  while (records.length < count) {
    const what = random(12);
    if (power < 0 || random(90) === 0) powerOn();
    else if (what < 5 && waiting.length < 32) {
      const request = {
        'gen_ai.conversation.id': String(++session),
        'gen_ai.operation.name': 'text_completion',
        'gen_ai.request.max_tokens': 1 + random(64),
        'gen_ai.request.temperature': Math.fround(random(20) / 10),
        'gen_ai.request.top_k': random(40),
        'gen_ai.request.seed': random(2 ** 31),
        'gen_ai.usage.input_tokens': 1 + random(20),
        'arena8.prompt.digest': hex(random, 32),
      };
      waiting.push({ number: records.length, request });
      put('submit', 'ada', 0, request);
    } else if (what < 10 && waiting.length > 0) {
      const { number, request } = waiting.splice(random(waiting.length), 1)[0]!;
      const op = ['infer', 'infer', 'stream', 'cancel', 'timeout'][random(5)]!;
      put(op, 'ada', op === 'timeout' ? 2004 : op === 'cancel' ? 2005 : 0, {
        ...model,
        ...digests,
        ...request,
        'arena8.submitted': number,
        'gen_ai.response.finish_reasons': [op === 'infer' ? 'length' : op],
        'gen_ai.usage.output_tokens': random(64),
        'arena8.output.digest': hex(random, 32),
        'arena8.logits.sum': hex(random, 16),
        'arena8.cycles': String(1_000_000 + random(2 ** 31)),
        'arena8.late': random(9) === 0,
      });
    } else if (what === 10)
      put('reject', 'ada', 3003, { 'error.type': 'EDQUOT', 'arena8.message': 'asked 512 tokens, 37 left — «später»' });
    else put('config', 'root', 0, { 'arena8.name': 'sched', 'arena8.value': ['edf', 'cbs', 'rr'][random(3)]! });
  }
  return records.slice(0, count);
}
