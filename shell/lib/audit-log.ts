// The audit log as programs read it: a directory that holds a checkpoint and tiles (C2SP tlog-tiles), be it /audit or what was exported from
// there; salts and encrypted texts lie beside them where they are to be had. Nothing is verified here: `llmctl audit verify` does that.

import { isRefusal, strerror, utf8Decode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { parseEntryBundle, parseCanonical, parseCheckpoint, parseNote, tilePath, TILE_WIDTH } from '../../trust/index.ts';
import type { AttributeName, JsonObject } from '../../trust/index.ts';
import { readFile } from './files.ts';

/** Where a machine shows its own. */
export const AUDIT_DIRECTORY = '/audit';

/** A record as it was written: attributes by name. What stands in them nobody has vouched for. */
export class LogRecord {
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
    return typeof n === 'number' ? n : this.otherwise(name, otherwise);
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

  private otherwise<T>(name: AttributeName, otherwise: T | undefined, zero: T = 0 as T): T {
    if (otherwise !== undefined) return otherwise;
    if (this.missing === '') this.missing = name;
    return zero;
  }
}

export class LogReader {
  /** Records that the checkpoint covers. */
  readonly size: number;
  private bundle: readonly Uint8Array[] = [];
  private bundleIndex = -1;

  private constructor(
    private readonly sys: Sys,
    readonly directory: string,
    size: number,
  ) {
    this.size = size;
  }

  /** Its newest checkpoint says how much there is; or what is wrong. */
  static *open(sys: Sys, directory: string): Generator<void, LogReader | string, void> {
    const path = `${directory}/checkpoint`;
    const bytes = yield* readFile(sys, path);
    if (typeof bytes === 'number') return `${path}: ${strerror(bytes)}`;
    const note = parseNote(bytes);
    const checkpoint = isRefusal(note) ? note : parseCheckpoint(note.text);
    return isRefusal(checkpoint) ? `${path}: ${checkpoint.message}` : new LogReader(sys, directory, checkpoint.size);
  }

  /** Record `number`, or why it cannot be had. Records that follow each other are read by the bundle. */
  *record(number: number): Generator<void, LogRecord | string, void> {
    if (number >= this.size) return `no record ${number}: the log has ${this.size}`;
    const index = Math.floor(number / TILE_WIDTH);
    if (index !== this.bundleIndex) {
      const width = Math.min(TILE_WIDTH, this.size - index * TILE_WIDTH);
      const path = `${this.directory}/${tilePath({ level: 'entries', index, width })}`;
      const bytes = yield* readFile(this.sys, path, Infinity);
      if (typeof bytes === 'number') return `${path}: ${strerror(bytes)}`;
      const bundle = parseEntryBundle(bytes, width);
      if (isRefusal(bundle)) return `${path}: ${bundle.message}`;
      this.bundle = bundle;
      this.bundleIndex = index;
    }
    const parsed = parseCanonical(this.bundle[number % TILE_WIDTH]!);
    if (isRefusal(parsed)) return `record ${number}: ${parsed.message}`;
    const { value } = parsed;
    return value !== null && typeof value === 'object' && !Array.isArray(value)
      ? new LogRecord(value as JsonObject)
      : `record ${number} is no object`;
  }

  /** The salt of a record's digests in hexadecimal digits, where it may be read; null where it cannot. */
  *salt(number: number): Generator<void, string | null, void> {
    const bytes = yield* readFile(this.sys, `${this.directory}/salt/${number}`);
    return typeof bytes === 'number' ? null : utf8Decode(bytes).trim();
  }

  /** The encrypted texts of a request; null where they are not stored. */
  *content(number: number): Generator<void, Uint8Array | null, void> {
    const bytes = yield* readFile(this.sys, `${this.directory}/content/${number}`);
    return typeof bytes === 'number' ? null : bytes;
  }
}
