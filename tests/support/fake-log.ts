// A log for tests of what people see of it: the kernel's face of one (AuditView) over records that a test wrote, its hashes, notes and
// proofs made with node:crypto and a few lines after RFC 6962 and C2SP's texts, so that what reads them is not checked against itself.

import { createHash, createPrivateKey, createPublicKey, hkdfSync, sign, type KeyObject } from 'node:crypto';
import { refuse, type Refusal } from '../../kernel/abi/index.ts';
import type { AuditView } from '../../vfs/fs-audit.ts';

type Value = string | number | boolean | readonly string[];
export type Fields = Readonly<Record<string, Value>>;

const sha256 = (...parts: readonly Uint8Array[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** RFC 6962 §2.1 over leaf hashes [begin, end). */
function treeHash(leaves: readonly Buffer[], begin = 0, end = leaves.length): Buffer {
  if (begin === end) return sha256();
  if (end - begin === 1) return leaves[begin]!;
  const middle = begin + halfOf(end - begin);
  return sha256(Buffer.of(1), treeHash(leaves, begin, middle), treeHash(leaves, middle, end));
}
const halfOf = (n: number): number => 2 ** (Math.ceil(Math.log2(n)) - 1);

/** RFC 6962 §2.1.1. */
function inclusion(leaves: readonly Buffer[], n: number, begin = 0, end = leaves.length): Buffer[] {
  if (end - begin === 1) return [];
  const middle = begin + halfOf(end - begin);
  return n < middle
    ? [...inclusion(leaves, n, begin, middle), treeHash(leaves, middle, end)]
    : [...inclusion(leaves, n, middle, end), treeHash(leaves, begin, middle)];
}

/** An Ed25519 key from a name, always the same. */
export function keyOf(name: string): KeyObject {
  const seed = Buffer.from(hkdfSync('sha256', name, '', 'key of a test', 32));
  const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
  return createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
}

const rawPublic = (key: KeyObject): Buffer =>
  createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32);

/** The four bytes that name a key in a note; `type` 1: Ed25519, 4: a witness's cosignatures. */
const keyId = (name: string, key: KeyObject, type: number): Buffer =>
  sha256(Buffer.from(`${name}\n`), Buffer.of(type), rawPublic(key)).subarray(0, 4);

/** A note verifier key, `NAME+ID+KEY`. */
export const verifierKey = (name: string, key: KeyObject, type = 1): string =>
  `${name}+${keyId(name, key, type).toString('hex')}+${Buffer.concat([Buffer.of(type), rawPublic(key)]).toString('base64')}`;

const signatureLine = (name: string, id: Uint8Array, signature: Uint8Array): string =>
  `— ${name} ${Buffer.concat([id, signature]).toString('base64')}\n`;

/** A witness's line under a checkpoint, at `time` in seconds since 1970. */
export function cosign(body: string, name: string, key: KeyObject, time: number): string {
  const stamp = Buffer.alloc(8);
  stamp.writeBigUInt64BE(BigInt(time));
  const signature = sign(null, Buffer.from(`cosignature/v1\ntime ${time}\n${body}`), key);
  return signatureLine(name, keyId(name, key, 4), Buffer.concat([stamp, signature]));
}

/** Canonical JSON of one flat object: what RFC 8785 asks for beyond JSON.stringify is the order of its names. */
export const canonicalOf = (fields: Fields): Uint8Array =>
  Buffer.from(JSON.stringify(Object.fromEntries(Object.entries(fields).toSorted(([a], [b]) => (a < b ? -1 : 1)))));

export class FakeLog implements AuditView {
  readonly records: Uint8Array[] = [];
  readonly leaves: Buffer[] = [];
  /** Commands that ctl took, and who wrote them. */
  readonly commands: { readonly command: string; readonly uid: number }[] = [];
  /** Whose salts were read by whom. */
  readonly disclosed: { readonly number: number; readonly uid: number }[] = [];
  /** Lines of witnesses under the head. */
  cosignatures = '';
  inForce = 'content off\n';

  constructor(
    readonly name = 'example.com/log',
    readonly key = keyOf('log'),
  ) {}

  append(fields: Fields): this {
    const record = canonicalOf({ 'arena8.record': this.records.length, 'arena8.boot': 0, ...fields });
    this.records.push(record);
    this.leaves.push(sha256(Buffer.of(0), record));
    return this;
  }

  /** Origin, size and root of the first `size` records, before the signatures. */
  body(size = this.size()): string {
    return `${this.name}\n${size}\n${treeHash(this.leaves, 0, size).toString('base64')}\n`;
  }
  checkpoint(size = this.size()): string {
    const body = this.body(size);
    return `${body}\n${signatureLine(this.name, keyId(this.name, this.key, 1), sign(null, Buffer.from(body), this.key))}`;
  }

  size(): number {
    return this.records.length;
  }
  expected(): number {
    return this.size();
  }
  record(number: number): Uint8Array | null {
    return this.records[number] ?? null;
  }
  proof(number: number): string | null {
    if (number >= this.size()) return null;
    const hashes = inclusion(this.leaves, number).map(hash => `${hash.toString('base64')}\n`);
    return `c2sp.org/tlog-proof@v1\nindex ${number}\n${hashes.join('')}\n${this.head()}`;
  }
  salt(number: number, uid: number): string | null {
    this.disclosed.push({ number, uid });
    return `${sha256(Buffer.from(`salt ${number}`)).toString('hex')}\n`;
  }
  content(number: number): Uint8Array | null {
    return this.contents().includes(number) ? Buffer.from(`age-encryption.org/v1 of ${number}`) : null;
  }
  contents(): readonly number[] {
    return this.records.map((_, n) => n).filter(n => n % 3 === 2);
  }
  head(): string {
    return this.checkpoint() + this.cosignatures;
  }
  publicKey(): string {
    return `${verifierKey(this.name, this.key)}\n`;
  }
  /** The files of an export, by their paths. */
  files(): ReadonlyMap<string, Uint8Array> {
    const files = new Map<string, Uint8Array>([
      ['checkpoint', Buffer.from(this.head())],
      ['pubkey', Buffer.from(this.publicKey())],
    ]);
    for (let level = -1; level <= 0 || 256 ** level <= this.size(); level++) {
      const hashes = Math.floor(this.size() / 256 ** Math.max(0, level));
      for (let index = 0; index * 256 < hashes; index++) {
        const width = Math.min(256, hashes - index * 256);
        const name = `${String(index).padStart(3, '0')}${width < 256 ? `.p/${width}` : ''}`; // of a log below 256,000
        files.set(`tile/${level < 0 ? 'entries' : level}/${name}`, this.tile(level, index, width)!);
      }
    }
    return files;
  }
  tile(level: number, index: number, width: number): Uint8Array | null {
    const span = 256 ** Math.max(0, level);
    if ((index * 256 + width) * span > this.size()) return null;
    const from = index * 256;
    if (level >= 0)
      return Buffer.concat(
        Array.from({ length: width }, (_, i) => treeHash(this.leaves, (from + i) * span, (from + i + 1) * span)),
      );
    return Buffer.concat(
      this.records.slice(from, from + width).flatMap(record => {
        const length = Buffer.alloc(2);
        length.writeUInt16BE(record.length);
        return [length, record];
      }),
    );
  }
  settings(): string {
    return this.inForce;
  }
  control(command: string, uid: number): Refusal | null {
    if (command.includes('bad')) return refuse('INVAL', 0, `no command '${command}'`);
    this.commands.push({ command, uid });
    return null;
  }
}
