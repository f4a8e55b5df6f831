// What is known of a request beside its record: the prompt, the stop strings, the salt of its digests. It is given on the command line or in a
// file, or stands in the texts that the log stored encrypted, for whoever has the secret key. A record alone tells none of it.

import { ENCODE, isRefusal, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import { ageDecrypt, parseCanonical, parseIdentity } from '../../trust/index.ts';
import type { SecretKey } from '../../trust/index.ts';
import type { ReplayLog, Said } from './replay-log.ts';
import type { ReplayContext } from './replay-options.ts';
import { readFile } from './files.ts';
import { idsOf, loadedModel, openBytes, parseIds } from './model.ts';
import { lastError } from './program.ts';
import { isScored } from './replay-run.ts';
import { readAll } from './stdio.ts';

/** Of one request. The prompt is token ids, or a text that has yet to be tokenized. */
export interface Known {
  readonly prompt: readonly number[] | Uint8Array;
  /** null: not known. */
  readonly stops: readonly Uint8Array[] | null;
  /** Hexadecimal digits; null: not disclosed. */
  readonly salt: string | null;
}

type Disclosed = Partial<Known>;

export class Knowledge {
  private constructor(
    private readonly ctx: ReplayContext,
    /** For the record that the command line names. */
    private readonly given: Disclosed,
    private readonly disclosed: ReadonlyMap<number, Disclosed>,
    /** Opens stored texts. */
    private readonly identity: SecretKey | null,
  ) {}

  /** From the options of a command line; or an exit status, after a message. */
  static *gather(ctx: ReplayContext): Generator<void, Knowledge | number, void> {
    const { prompt, file, ids, salt, stop, disclosed, all } = ctx.options;
    const prompts = [prompt, file, ids].filter(option => option !== undefined);
    if (prompts.length > 1) return yield* ctx.usage('replay: --prompt, --file and --ids exclude each other');
    if (all && (prompts.length > 0 || salt !== undefined || stop.length > 0))
      return yield* ctx.usage('replay: --all takes prompts, salts and stop strings of many records by --disclosed');
    if (salt !== undefined && !isSalt(salt))
      return yield* ctx.usage(`replay: --salt '${salt}' is not 64 hexadecimal digits`);
    let given: Disclosed = {
      ...(prompt === undefined ? {} : { prompt: utf8Encode(prompt) }),
      ...(salt === undefined ? {} : { salt }),
      ...(stop.length === 0 ? {} : { stops: stop.map(utf8Encode) }),
    };
    for (const name of [file, ids].filter(n => n !== undefined)) {
      const bytes = yield* name === '-' ? readAll(ctx.sys, 0, Infinity) : readFile(ctx.sys, name, Infinity);
      if (typeof bytes === 'number') return yield* ctx.fail(name, -bytes);
      const numbers = name === ids ? parseIds(utf8Decode(bytes)) : bytes;
      if (typeof numbers === 'string') return yield* ctx.fail(`${name}: ${numbers}`);
      given = { ...given, prompt: numbers };
    }
    const known = disclosed === undefined ? new Map<number, Disclosed>() : yield* readDisclosed(ctx, disclosed);
    if (typeof known === 'number') return known;
    const identity = ctx.options.identity === undefined ? null : yield* readIdentity(ctx, ctx.options.identity);
    return typeof identity === 'number' ? identity : new Knowledge(ctx, given, known, identity);
  }

  /** Of record `number` of a log; or why its prompt is not known. */
  *of(log: ReplayLog, number: number, record: Said): Generator<void, Known | string, void> {
    const stored = yield* this.stored(log, number);
    if (typeof stored === 'string') return stored;
    const known: Disclosed = { ...stored, ...this.disclosed.get(number), ...this.given };
    if (known.prompt === undefined) return this.unknown(record);
    const salt = known.salt ?? (yield* log.salt(number));
    const unstopped = record.number('arena8.request.stops', 0) === 0;
    return { prompt: known.prompt, salt, stops: known.stops ?? (unstopped ? [] : null) };
  }

  /** What the log has stored of a request, decrypted; nothing without a key to do that. Or what is wrong with it. */
  private *stored(log: ReplayLog, number: number): Generator<void, Disclosed | string, void> {
    if (this.identity === null) return {};
    const file = yield* log.content(number);
    if (file === null) return {};
    const plain = ageDecrypt(file, this.identity);
    if (isRefusal(plain)) return `its stored texts cannot be opened: ${plain.message}`;
    const json = parseCanonical(plain);
    const entry = isRefusal(json) ? null : disclosedOf(json.value);
    if (entry === null || entry.record !== number) return 'its stored texts are those of another record';
    return entry.known;
  }

  private unknown(record: Said): string {
    if (!record.has('arena8.content.digest')) return 'its prompt is not known';
    return this.identity === null
      ? 'its prompt is not known: it is stored, encrypted, and --identity opens it'
      : 'its prompt is not known: its stored texts are not there';
  }

  /** The prompt's ids, as the loaded model's vocabulary has them; or why there are none. */
  *idsOf(record: Said, { prompt }: Known): Generator<void, readonly number[] | string, void> {
    const { ctx } = this;
    if (!(prompt instanceof Uint8Array)) return prompt;
    const parent = record.number('arena8.parent', 0);
    if (parent !== 0) return `it continues session ${parent}: its prompt is known by all its token ids only`;
    const model = yield* loadedModel(ctx.sys);
    const begins = typeof model !== 'number' && model.addBos !== 0 && !isScored(record);
    const special = record.words('arena8.request.flags').includes('special');
    const text = yield* openBytes(ctx, prompt);
    if (text < 0) return 'there is no memory for its prompt';
    const fd = yield* ctx.sys.tokenize('', text, (begins ? ENCODE.bos : 0) | (special ? ENCODE.special : 0));
    yield* ctx.sys.close(text);
    if (fd < 0) return `its prompt: ${yield* lastError(ctx.sys, fd)}`;
    const bytes = yield* readAll(ctx.sys, fd, Infinity);
    yield* ctx.sys.close(fd);
    return typeof bytes === 'number' ? 'its token ids cannot be read' : idsOf(bytes);
  }
}

const isSalt = (text: string): boolean => /^[0-9a-f]{64}$/.test(text);

/** A file of JSON objects, one a line; or an exit status, after a message. */
function* readDisclosed(ctx: ReplayContext, path: string): Generator<void, Map<number, Disclosed> | number, void> {
  const bytes = yield* path === '-' ? readAll(ctx.sys, 0, Infinity) : readFile(ctx.sys, path, Infinity);
  if (typeof bytes === 'number') return yield* ctx.fail(path, -bytes);
  const known = new Map<number, Disclosed>();
  for (const [i, line] of utf8Decode(bytes).split('\n').entries()) {
    if (line.trim() === '') continue;
    const entry = disclosedOf(parsedLine(line));
    if (entry === null) return yield* ctx.fail(`${path}:${i + 1}: not a JSON object with the number of a record`);
    known.set(entry.record, { ...known.get(entry.record), ...entry.known });
  }
  return known;
}

/** The JSON of a line; null where it is none. */
function parsedLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

/** The secret key of an age identity file; or an exit status, after a message. */
function* readIdentity(ctx: ReplayContext, path: string): Generator<void, SecretKey | number, void> {
  const bytes = yield* path === '-' ? readAll(ctx.sys, 0, Infinity) : readFile(ctx.sys, path);
  if (typeof bytes === 'number') return yield* ctx.fail(path, -bytes);
  const identity = parseIdentity(utf8Decode(bytes));
  return isRefusal(identity) ? yield* ctx.fail(`${path}: ${identity.message}`) : identity;
}

/** `{"record":7,"salt":"…","prompt":"Once","stops":["."]}`; null for what is none. */
function disclosedOf(value: unknown): { readonly record: number; readonly known: Disclosed } | null {
  if (value === null || typeof value !== 'object') return null;
  const { record, salt, prompt, prompt_ids: ids, stops } = value as Readonly<Record<string, unknown>>;
  if (!Number.isSafeInteger(record)) return null;
  return {
    record: record as number,
    known: {
      ...(typeof salt === 'string' && isSalt(salt) ? { salt } : {}),
      ...(typeof prompt === 'string' ? { prompt: utf8Encode(prompt) } : {}),
      ...(Array.isArray(ids) ? { prompt: ids.map(Number) } : {}), // rather than the text
      ...(Array.isArray(stops) ? { stops: stops.map(stop => utf8Encode(String(stop))) } : {}),
    },
  };
}
