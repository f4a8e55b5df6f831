// The stub engine (SIS §8): no weights, no arithmetic, the same plan, executor and session path as a model. When a session begins it
// prepares a reply from the prompt; its head segment then makes each row of logits point at the next byte of its session's reply. Two forms: `echo`
// answers `[STUB] PROMPT ...`, `word` wraps the prompt's words in ⟨ ⟩. It lets the kernel be tested where only counting matters.

import { isRefusal, refuse, utf8Encode } from '../../../kernel/abi/index.ts';
import type {
  ArenaView,
  Engine,
  EngineBudget,
  EngineDriver,
  EngineOptions,
  EnginePlace,
  ModelImage,
  ModelShape,
  PlanImage,
  Refusal,
  SessionSlots,
} from '../../../kernel/abi/index.ts';
import { alignUp } from '../memory.ts';
import { Op, Reply } from '../ops.ts';
import { emitDraws, Plan } from '../plan.ts';
import type { Place, PlanSink, Segments } from '../plan.ts';
import { layOutPool, layOutSlots } from '../sessions.ts';
import { logitsBytes } from '../sizes.ts';
import { ByteVocabulary, FIRST_BYTE } from './vocabulary.ts';

const FORMS = ['echo', 'word'] as const;
type Form = (typeof FORMS)[number];

const WORK_BYTES = 4096; // text on its way through the byte vocabulary
const ID_BYTES = 4;

export class StubDriver implements EngineDriver {
  readonly name = 'stub';
  private readonly vocabulary: ByteVocabulary;

  constructor(private readonly arena: ArenaView) {
    this.vocabulary = new ByteVocabulary(arena);
  }

  /** An image without a file: only its name says which form it is. */
  builtin(form: string): ModelImage | Refusal {
    const name = FORMS.find(f => f === (form === '' ? FORMS[0] : form));
    if (name === undefined) return refuse('INVAL', 7001, `the stub has no form '${form}': ${FORMS.join(', ')}`);
    return {
      path: '',
      fileBytes: 0,
      version: 0,
      architecture: this.name,
      keys: ['general.name'],
      tensors: [],
      dmaAt: 0,
      dmaBytes: 0,
      meta: key => (key === 'general.name' ? name : undefined),
      typeOf: key => (key === 'general.name' ? 8 : undefined),
      tensor: () => undefined,
      read: () => 0,
    };
  }

  describe(image: ModelImage): ModelShape | Refusal {
    const form = formOf(image);
    if (isRefusal(form)) return form;
    return {
      name: form,
      architecture: this.name,
      tokenizer: this.vocabulary.model,
      vocabulary: this.vocabulary.count,
      layers: 0,
      embedding: 0,
      heads: 0,
      headsKv: 0,
      feedForward: 0,
      contextTrained: 0,
      parameters: 0,
      kvBytesPerToken: () => ID_BYTES,
    };
  }

  order(): readonly string[] {
    return [];
  }

  /** Its pool is kept as a model's is and never read: what the kernel does with pages can be tried where nothing is computed. */
  budget(image: ModelImage, options: EngineOptions): EngineBudget | Refusal {
    const form = formOf(image);
    if (isRefusal(form)) return form;
    return {
      weights: 0,
      adapters: 0,
      stream: 0,
      tensors: 0,
      vocabulary: 0,
      kv: layOutPool(options, ID_BYTES, 0).bytes,
      scratch: alignUp(Math.max(options.draws * logitsBytes(this.vocabulary.count), WORK_BYTES)),
      plan: this.planAt({ planAt: 0, scratchAt: 0 }, options).endAt(),
      session: options.sessions * slotsAt(0, options).bytes,
    };
  }

  load(image: ModelImage, options: EngineOptions, _budget: EngineBudget, place: EnginePlace): Engine | Refusal {
    const form = formOf(image);
    if (isRefusal(form)) return form;
    const shape = this.describe(image);
    if (isRefusal(shape)) return shape;
    const plan = this.planAt(place, options);
    const { kvAt, pageBytes, pageRecordsAt } = layOutPool(options, ID_BYTES, place.kvAt);
    const slots = slotsAt(place.sessionAt, options);
    return {
      name: this.name,
      shape,
      options,
      vocabulary: this.vocabulary,
      ...plan.load(this.arena),
      logitsAt: place.scratchAt,
      logitsStride: logitsBytes(this.vocabulary.count),
      kvAt,
      pageBytes,
      pageRecordsAt,
      slots,
      begin: (slotAt, promptTokens, maxTokens) => {
        const reply = new ReplyWriter(this.arena.u32, (slotAt + slots.stateAt) >> 2, options.ctx);
        if (form === 'echo') this.echo(reply, slotAt >> 2, promptTokens);
        else this.words(reply, slotAt >> 2, promptTokens, maxTokens);
        reply.finish(this.vocabulary.eos, promptTokens);
      },
      ops: () => plan.rows(),
      tensors: () => [],
      inside: null,
      training: refuse('NOTSUP', 0, 'the stub engine has no weights to train'),
      scalesAt: 0,
    };
  }

  plan(image: ModelImage, options: EngineOptions, _budget: EngineBudget, place: EnginePlace): PlanImage | Refusal {
    const form = formOf(image);
    if (isRefusal(form)) return form;
    return { ...this.planAt(place, options).image(place.planAt), logitsAt: place.scratchAt };
  }

  private planAt({ planAt, scratchAt }: Pick<EnginePlace, 'planAt' | 'scratchAt'>, options: EngineOptions): Plan {
    return new Plan(sink => this.compile(sink, { name: 'logits', at: scratchAt }, options), planAt, options);
  }

  private compile(sink: PlanSink, logits: Place, options: EngineOptions): Segments {
    const { count } = this.vocabulary;
    const { tableAt, stateAt } = slotsAt(0, options);
    const bodyAt = sink.segment('body'); // nothing to compute: the reply depends on the position alone
    sink.emit(Op.END, {});
    const headAt = sink.segment('head');
    const row = { dstAt: logits, n: count, stride: logitsBytes(count) / 4, replyAt: stateAt - tableAt };
    sink.emit(Op.ECHO, row, { head: true });
    sink.emit(Op.END, {});
    return { bodyAt, headAt, ...emitDraws(sink, { sums: false }) };
  }

  private echo(reply: ReplyWriter, prompt: number, promptTokens: number): void {
    reply.text('[STUB] ');
    for (let i = 0; i < promptTokens; i++) {
      const id = this.arena.u32[prompt + i]!;
      if (id >= FIRST_BYTE) reply.byte(id - FIRST_BYTE);
    }
    reply.text(' ...');
  }

  private words(reply: ReplyWriter, prompt: number, promptTokens: number, wordsMax: number): void {
    let words = 0;
    let inside = false;
    for (let i = 0; i < promptTokens; i++) {
      const byte = this.arena.u32[prompt + i]! - FIRST_BYTE; // special ids are negative: they separate words as spaces do
      if (byte <= 0x20) {
        if (inside) reply.text('\u27e9');
        inside = false;
        continue;
      }
      if (!inside) {
        if (words === wordsMax) return;
        if (words > 0) reply.text(' ');
        reply.text('\u27e8');
        words++;
        inside = true;
      }
      reply.byte(wordByte(byte));
    }
    if (inside) reply.text('\u27e9');
  }
}

/** Letters in lower case, digits as they are, anything else `?`. */
function wordByte(byte: number): number {
  if (byte >= 0x41 && byte <= 0x5a) return byte + 0x20;
  const alphanumeric = (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39);
  return alphanumeric ? byte : 0x3f;
}

/** The reply is a session's state: at most one id for every position. */
function slotsAt(at: number, options: EngineOptions): SessionSlots {
  return layOutSlots(options, (Reply.ids + options.ctx) * ID_BYTES, at);
}

function formOf(image: ModelImage): Form | Refusal {
  const name = image.architecture === 'stub' ? image.meta('general.name') : undefined;
  return (
    FORMS.find(f => f === name) ??
    refuse('NOEXEC', 1002, `the stub engine runs no files (architecture "${image.architecture}")`)
  );
}

/** Fills the Reply record that the ECHO op reads, up to one id per position of the context. */
class ReplyWriter {
  private count = 0;

  constructor(
    private readonly u32: Uint32Array,
    private readonly reply: number, // index of the record's first word
    private readonly idsMax: number,
  ) {}

  byte(byte: number): void {
    if (this.count < this.idsMax) this.u32[this.reply + Reply.ids + this.count++] = FIRST_BYTE + byte;
  }

  text(text: string): void {
    for (const byte of utf8Encode(text)) this.byte(byte);
  }

  finish(end: number, promptTokens: number): void {
    this.u32[this.reply + Reply.count] = this.count;
    this.u32[this.reply + Reply.end] = end;
    this.u32[this.reply + Reply.prompt] = promptTokens;
  }
}
