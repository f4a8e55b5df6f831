// What is trained on, as a file: sequences of token ids as the training device reads them ({n, targets from, ids …}, u32 each), and beside it an
// index of them, so that any can be read without those before it. Made once from examples, by the model's own tokenizer.

import { ENCODE, LIMITS, SEEK, TRAIN_SEQUENCE_WORDS, utf8Decode, utf8Encode } from '../../../kernel/abi/index.ts';
import type { Sys } from '../../../kernel/abi/index.ts';
import type { Message } from '../chat.ts';
import { fstat } from '../files.ts';
import { lastError } from '../program.ts';
import type { Model } from '../model.ts';
import { CHUNK_BYTES, readAll, writeAll } from '../stdio.ts';
import type { Example } from './examples.ts';

/** Words of an entry of the index: where the sequence begins in the file (in words), its tokens, the first position whose following token counts. */
const ENTRY_WORDS = 3;

export interface Sequence {
  readonly at: number; // bytes from the file's beginning
  readonly tokens: number;
  readonly targets: number;
}

/** How many there are, and what had to be done to make them. */
export interface SequenceCounts {
  readonly sequences: number;
  readonly tokens: number;
  readonly targets: number;
  /** That were longer than a sequence may be: what was beyond does not count. */
  readonly cut: number;
}

/** Words that go to a descriptor, a window at a time. */
class WordWriter {
  written = 0;
  private readonly buffer = new Uint8Array(CHUNK_BYTES);
  private readonly view = new DataView(this.buffer.buffer);
  private filled = 0;

  constructor(
    private readonly sys: Sys,
    private readonly fd: number,
  ) {}

  /** 0, or -errno. */
  *write(words: ArrayLike<number>): Generator<void, number, void> {
    for (let i = 0; i < words.length; i++) {
      if (this.filled === CHUNK_BYTES) {
        const status = yield* this.flush();
        if (status < 0) return status;
      }
      this.view.setUint32(this.filled, words[i]!, true);
      this.filled += 4;
      this.written++;
    }
    return 0;
  }

  *flush(): Generator<void, number, void> {
    const status = yield* writeAll(this.sys, this.fd, this.buffer.subarray(0, this.filled));
    this.filled = 0;
    return status;
  }
}

/** Turns examples into sequences. Every method that fails leaves a sentence in `trouble`. */
export class SequenceMaker {
  /** What went wrong with the machine, not with an example. */
  trouble = '';
  private sequences = 0;
  private tokens = 0;
  private targets = 0;
  private cut = 0;
  private readonly data: WordWriter;
  private readonly index: WordWriter;
  private text = -1; // a file for what is to be tokenized
  private written = 0; // bytes of it
  private readonly bos: number; // ENCODE
  private readonly head: readonly number[]; // what every piece of a document begins with
  private sequence: number[];

  constructor(
    private readonly sys: Sys,
    private readonly model: Pick<Model, 'bos' | 'eos' | 'addBos'>,
    /** Tokens of a sequence at most. */
    private readonly most: number,
    private readonly masked: boolean,
    dataFd: number,
    indexFd: number,
  ) {
    this.data = new WordWriter(sys, dataFd);
    this.index = new WordWriter(sys, indexFd);
    this.bos = model.addBos !== 0 ? ENCODE.bos : 0;
    this.head = model.addBos !== 0 ? [model.bos] : [];
    this.sequence = [...this.head];
  }

  get counts(): SequenceCounts {
    const { sequences, tokens, targets, cut } = this;
    return { sequences, tokens, targets, cut };
  }

  /** The sequences of an example: '' or what is wrong with it. */
  *add(example: Example): Generator<void, string, void> {
    if (example.kind === 'text') return yield* this.addText(example.bytes, example.last);
    if (example.kind === 'chat') return yield* this.addTurns(example.messages);
    return yield* this.addPair(example.prompt, example.prompt + example.completion, 0, true);
  }

  /** Writes what is not written yet; false after `trouble`. */
  *finish(): Generator<void, boolean, void> {
    for (const file of [this.data, this.index]) yield* this.must(yield* file.flush());
    if (this.text >= 0) yield* this.sys.close(this.text);
    return this.trouble === '';
  }

  /** A prompt and what follows it, `whole` being both: the tokens from the first on in which the two differ count. */
  private *addPair(prompt: string, whole: string, flags: number, ends: boolean): Generator<void, string, void> {
    const all = yield* this.encode(whole, flags | this.bos);
    if (all === null) return '';
    const before = this.masked && prompt !== '' ? yield* this.encode(prompt, flags | this.bos) : null;
    const end = ends && this.model.eos >= 0 ? [this.model.eos] : [];
    const total = all.total + end.length;
    const ids = [...all.ids, ...end].slice(0, this.most);
    const from = before === null ? 0 : Math.max(0, common(before.ids, all.ids) - 1);
    if (ids.length - 1 - from < 1)
      return before === null
        ? 'a single token'
        : `its prompt alone has ${before.total} tokens, a sequence ${this.most} at most`;
    if (total > this.most) this.cut++;
    yield* this.write(ids, from);
    return '';
  }

  /** A conversation as the model's chat template writes it: a sequence for each turn of the assistant, which alone counts. */
  private *addTurns(messages: readonly Message[]): Generator<void, string, void> {
    for (const [i, message] of messages.entries()) {
      if (message.role !== 'assistant') continue;
      const before = yield* this.render({ messages: messages.slice(0, i), add_generation_prompt: true });
      const whole = yield* this.render({ messages: messages.slice(0, i + 1), add_generation_prompt: false });
      if (!before.ok) return before.text;
      if (!whole.ok) return whole.text;
      if (!whole.text.startsWith(before.text))
        return `the template writes message ${i + 1} anew, not behind those before it`;
      const wrong = yield* this.addPair(before.text, whole.text, ENCODE.special, false);
      if (wrong !== '' || this.trouble !== '') return wrong;
    }
    return '';
  }

  private *render(conversation: object): Generator<void, { readonly ok: boolean; readonly text: string }, void> {
    const { sys } = this;
    if (!(yield* this.fill(utf8Encode(JSON.stringify(conversation))))) return { ok: false, text: '' };
    const fd = yield* sys.chat('', '', this.text);
    if (fd < 0) return { ok: false, text: yield* lastError(sys, fd) };
    const bytes = yield* readAll(sys, fd, LIMITS.chatTextBytes);
    yield* sys.close(fd);
    return typeof bytes === 'number'
      ? { ok: false, text: yield* lastError(sys, bytes) }
      : { ok: true, text: utf8Decode(bytes) };
  }

  // ── Plain text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Collects a document; at its end it becomes as many sequences as it takes, each token but the first being a target once. */
  private *addText(bytes: Uint8Array, last: boolean): Generator<void, string, void> {
    if (bytes.length > 0) {
      if (this.written === 0 && !(yield* this.empty())) return '';
      if (!(yield* this.must(yield* writeAll(this.sys, this.text, bytes)))) return '';
      this.written += bytes.length;
    }
    if (!last || this.written === 0) return '';
    this.written = 0;
    yield* this.sys.lseek(this.text, 0, SEEK.set);
    const fd = yield* this.sys.tokenize('', this.text, 0);
    if (!(yield* this.must(fd))) return '';
    yield* this.cutUp(fd);
    yield* this.sys.close(fd);
    return '';
  }

  private *cutUp(fd: number): Generator<void, void, void> {
    const buffer = new Uint8Array(CHUNK_BYTES);
    for (let n: number; (n = yield* this.sys.read(fd, buffer)) !== 0;) {
      if (!(yield* this.must(n))) return;
      const view = new DataView(buffer.buffer, 0, n);
      for (let at = 0; at < n; at += 4) yield* this.append(view.getUint32(at, true));
    }
    if (this.model.eos >= 0) yield* this.append(this.model.eos);
    if (this.sequence.length > 1) yield* this.write(this.sequence, 0);
    this.sequence = [...this.head];
  }

  /** The next token of a document. A sequence that is full goes; the next begins with BOS as in inference, or with this one's last token. */
  private *append(id: number): Generator<void, void, void> {
    this.sequence.push(id);
    if (this.sequence.length < this.most) return;
    yield* this.write(this.sequence, 0);
    this.sequence = this.head.length > 0 ? [...this.head] : [id];
  }

  // ── Below ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The ids of a text, as many as a sequence holds, and how many there are; null after `trouble`. */
  private *encode(
    text: string,
    flags: number,
  ): Generator<void, { readonly ids: Uint32Array; readonly total: number } | null, void> {
    const { sys } = this;
    if (!(yield* this.fill(utf8Encode(text)))) return null;
    const fd = yield* sys.tokenize('', this.text, flags);
    if (!(yield* this.must(fd))) return null;
    const st = yield* fstat(sys, fd);
    const total = typeof st === 'number' ? 0 : st.size / 4;
    const ids = new Uint32Array(Math.min(this.most, total));
    const bytes = new Uint8Array(ids.buffer);
    for (let at = 0; at < bytes.length;) {
      const n = yield* sys.read(fd, bytes.subarray(at));
      if (n <= 0) {
        yield* this.must(n);
        break;
      }
      at += n;
    }
    yield* sys.close(fd);
    return { ids, total };
  }

  /** The text file emptied, and these bytes in it. */
  private *fill(bytes: Uint8Array): Generator<void, boolean, void> {
    if (!(yield* this.empty())) return false;
    if (!(yield* this.must(yield* writeAll(this.sys, this.text, bytes)))) return false;
    yield* this.sys.lseek(this.text, 0, SEEK.set);
    return true;
  }

  private *empty(): Generator<void, boolean, void> {
    if (this.text < 0) this.text = yield* this.sys.memfd('examples');
    if (!(yield* this.must(this.text))) return false;
    yield* this.sys.ftruncate(this.text, 0);
    yield* this.sys.lseek(this.text, 0, SEEK.set);
    return true;
  }

  private *write(ids: readonly number[], from: number): Generator<void, boolean, void> {
    const at = this.data.written;
    const wrote = yield* this.data.write([ids.length, from]);
    if (!(yield* this.must(wrote < 0 ? wrote : yield* this.data.write(ids)))) return false;
    if (!(yield* this.must(yield* this.index.write([at, ids.length, from])))) return false;
    this.sequences++;
    this.tokens += ids.length;
    this.targets += ids.length - 1 - from;
    return true;
  }

  /** False, with the kernel's sentence in `trouble`, for a call that failed. */
  private *must(result: number): Generator<void, boolean, void> {
    if (result < 0 && this.trouble === '') this.trouble = yield* lastError(this.sys, result);
    return this.trouble === '';
  }
}

/** How many of the first are the same. */
function common(a: Uint32Array, b: Uint32Array): number {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n++;
  return n;
}

/** The sequences of a file with its index, read one at a time. */
export class Sequences {
  private readonly entry = new Uint8Array(ENTRY_WORDS * 4);
  private readonly buffer = new Uint8Array(CHUNK_BYTES);

  constructor(
    private readonly sys: Sys,
    private readonly dataFd: number,
    private readonly indexFd: number,
  ) {}

  /** Where sequence `i` is; or -errno. */
  *find(i: number): Generator<void, Sequence | number, void> {
    yield* this.sys.lseek(this.indexFd, i * this.entry.length, SEEK.set);
    const n = yield* this.sys.read(this.indexFd, this.entry);
    if (n < 0) return n;
    const view = new DataView(this.entry.buffer);
    const tokens = view.getUint32(4, true);
    return { at: view.getUint32(0, true) * 4, tokens, targets: tokens - 1 - view.getUint32(8, true) };
  }

  /** Appends a sequence as the device reads it to `fd`: 0, or -errno. */
  *copy(sequence: Sequence, fd: number): Generator<void, number, void> {
    yield* this.sys.lseek(this.dataFd, sequence.at, SEEK.set);
    for (let left = (TRAIN_SEQUENCE_WORDS + sequence.tokens) * 4; left > 0;) {
      const n = yield* this.sys.read(this.dataFd, this.buffer.subarray(0, Math.min(left, CHUNK_BYTES)));
      if (n <= 0) return n;
      const status = yield* writeAll(this.sys, fd, this.buffer.subarray(0, n));
      if (status < 0) return status;
      left -= n;
    }
    return 0;
  }
}
