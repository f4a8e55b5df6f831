// The audit log as a re-execution reads it: records by their attributes, and what lies beside them, salts and encrypted texts. Nothing is
// verified here: `llmctl audit verify` does that.

import { isRefusal, utf8Decode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import type { AttributeName, JsonObject } from '../../trust/index.ts';
import { machineFiles } from './audit-machine.ts';
import { noSuchRecord, openLog, readRecord } from './audit-reader.ts';
import type { LogFiles, OpenLog } from './audit-reader.ts';

/** A record as it was written. What stands in it nobody has vouched for. */
export class Said {
  /** The first attribute that was asked for and is not there, or is of another kind; '' where all were. */
  missing = '';

  constructor(readonly value: JsonObject) {}

  has(name: AttributeName): boolean {
    return this.value[name] !== undefined;
  }
  /** A number, of kinds `count`, `u64` and `real`. */
  number(name: AttributeName, otherwise?: number): number {
    const value = this.value[name];
    const n = typeof value === 'string' && /^[0-9]{1,16}$/.test(value) ? Number(value) : value;
    return typeof n === 'number' ? n : this.otherwise(name, otherwise, 0);
  }
  text(name: AttributeName, otherwise?: string): string {
    const value = this.value[name];
    return typeof value === 'string' ? value : this.otherwise(name, otherwise, '');
  }
  words(name: AttributeName): readonly string[] {
    const value = this.value[name];
    return Array.isArray(value) ? value.map(String) : [];
  }
  /** As it stands in the record, for people; '' where it does not. */
  shown(name: AttributeName): string {
    const value = this.value[name];
    return value === undefined ? '' : Array.isArray(value) ? value.join(' ') : String(value);
  }

  private otherwise<T>(name: AttributeName, otherwise: T | undefined, zero: T): T {
    if (otherwise !== undefined) return otherwise;
    if (this.missing === '') this.missing = name;
    return zero;
  }
}

export class ReplayLog {
  private constructor(
    private readonly files: LogFiles,
    private readonly log: OpenLog,
  ) {}

  /** The log in a directory, or what is wrong with it. */
  static *open(sys: Sys, directory: string): Generator<void, ReplayLog | string, void> {
    const files = machineFiles(sys, directory);
    const log = yield* openLog(files);
    return isRefusal(log) ? log.message : new ReplayLog(files, log);
  }

  /** Records that its newest checkpoint covers. */
  get size(): number {
    return this.log.checkpoint.size;
  }

  /** Record `number`, or why it cannot be had. */
  *record(number: number): Generator<void, Said | string, void> {
    if (number >= this.size) return noSuchRecord(number, this.size);
    const read = yield* readRecord(this.log, number);
    return isRefusal(read) ? read.message : new Said(read.record);
  }

  /** The salt of a record's digests in hexadecimal digits, where it may be read; null where it cannot. */
  *salt(number: number): Generator<void, string | null, void> {
    const bytes = yield* this.files.read(`salt/${number}`);
    return bytes === null || isRefusal(bytes) ? null : utf8Decode(bytes).trim();
  }

  /** The encrypted texts of a request; null where they are not stored. */
  *content(number: number): Generator<void, Uint8Array | null, void> {
    for (const name of [String(number), String(number).padStart(16, '0')]) {
      const bytes = yield* this.files.read(`content/${name}`);
      if (bytes !== null && !isRefusal(bytes)) return bytes;
    }
    return null;
  }
}
