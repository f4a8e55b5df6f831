// Conversations: a list of messages becomes a prompt by the chat template in the model's file, or one given instead. The template is filled in
// by a device of the host, within limits; the kernel brings it the texts, as any transfer is brought, and keeps what comes back as a file.

import {
  isRefusal,
  LIMITS,
  refuse,
  strerror,
  utf8Decode,
  utf8Encode,
  type ModelImage,
  type Refusal,
  type TemplateDevice,
  type Vocabulary,
} from './abi/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { Vfs } from '../vfs/vfs.ts';
import type { Arena } from './arena.ts';
import type { Clock } from './clock.ts';
import type { Costs } from './costs.ts';
import type { Layout } from './layout.ts';
import type { Loader } from './loader.ts';
import { panic } from './panic.ts';

const KEY = 'tokenizer.chat_template';

/** A template and what it is called in messages. */
interface Template {
  readonly text: string;
  readonly from: string;
}

export class Chat {
  /** The loaded model's template that was used last: conversations use the same one for every turn. */
  private cached: (Template & { readonly generation: number; readonly name: string }) | null = null;

  constructor(
    private readonly arena: Arena,
    private readonly lay: Layout,
    private readonly clock: Clock,
    private readonly costs: Costs,
    private readonly vfs: Vfs,
    private readonly loader: Loader,
    private readonly device: TemplateDevice,
  ) {}

  /**
   * The prompt as an anonymous file. `given`: a template in place of the model's, with its path; `name`: '' or one of the model's named
   * templates. The text of BOS at its beginning is left out where the tokenizer puts a BOS itself.
   */
  prompt(
    given: { readonly file: OpenFile; readonly path: string } | null,
    name: string,
    conversation: OpenFile,
  ): OpenFile | Refusal {
    const engine = this.loader.engine();
    if (engine === null) return refuse('NODEV', 2001, 'no model loaded: llmctl load FILE');
    const template = given === null ? this.ofModel(name) : this.ofFile(given.file, given.path);
    if (isRefusal(template)) return template;
    const json = this.read(conversation, LIMITS.chatTextBytes, 'the conversation');
    if (isRefusal(json)) return json;
    const variables = variablesOf(json);
    if (isRefusal(variables)) return variables;
    const { vocabulary } = engine;
    const bos = this.tokenText(vocabulary, vocabulary.bos);
    const tokens = { bos_token: bos, eos_token: this.tokenText(vocabulary, vocabulary.eos) };
    const seconds = Math.floor(this.clock.nowNs() / 1e9);
    const text = this.device.render(template.text, { ...tokens, ...variables }, seconds);
    if (typeof text !== 'string') return refuse('INVAL', 7001, `${template.from}, line ${text.line}: ${text.message}`);
    return this.keep(vocabulary.addBos && bos !== '' && text.startsWith(bos) ? text.slice(bos.length) : text);
  }

  private ofModel(name: string): Template | Refusal {
    const { generation } = this.loader;
    if (this.cached?.generation === generation && this.cached.name === name) return this.cached;
    const template = this.loader.inspect(image => modelTemplate(image, name));
    if (!isRefusal(template)) {
      this.cached = { ...template, generation, name };
      this.costs.transfer(template.text.length);
    }
    return template;
  }

  private ofFile(file: OpenFile, path: string): Template | Refusal {
    const text = this.read(file, LIMITS.chatTemplateBytes, path);
    return isRefusal(text) ? text : { text, from: path };
  }

  /** Everything a file still holds, as text. */
  private read(file: OpenFile, limit: number, what: string): string | Refusal {
    const { dmaAt } = this.lay;
    const bytes = new Uint8Array(limit);
    let length = 0;
    for (;;) {
      const n = file.read(dmaAt, LIMITS.dmaBytes);
      if (n < 0) return refuse('IO', 0, `${what}: ${strerror(n)}`);
      if (n === 0) break;
      if (length + n > limit) return refuse('TOOBIG', 2002, `${what} is more than ${limit} bytes long`);
      bytes.set(this.arena.u8.subarray(dmaAt, dmaAt + n), length);
      length += n;
    }
    this.costs.transfer(length);
    return utf8Decode(bytes, 0, length);
  }

  private keep(text: string): OpenFile | Refusal {
    const bytes = utf8Encode(text);
    if (bytes.length > LIMITS.chatTextBytes)
      return refuse('TOOBIG', 2002, `the prompt would be ${bytes.length} bytes long, ${LIMITS.chatTextBytes} at most`);
    const file = this.vfs.memfd('chat');
    if (typeof file === 'number') return refuse('NFILE', 0, `no file for the prompt: ${strerror(file)}`);
    const { dmaAt } = this.lay;
    for (let at = 0; at < bytes.length; at += LIMITS.dmaBytes) {
      const piece = bytes.subarray(at, at + LIMITS.dmaBytes);
      this.arena.u8.set(piece, dmaAt);
      if (file.write(dmaAt, piece.length) !== piece.length) {
        file.close();
        return refuse('NOSPC', 0, `no room in memory storage for a prompt of ${bytes.length} bytes`);
      }
    }
    this.costs.transfer(bytes.length);
    file.seek(0, 0);
    return file;
  }

  private tokenText(vocabulary: Vocabulary, id: number): string {
    if (id < 0) return '';
    const { dmaAt } = this.lay;
    const bytes = vocabulary.piece(id, dmaAt, LIMITS.dmaBytes, true);
    if (bytes < 0) panic(`token ${id} of the vocabulary has no text`);
    return utf8Decode(this.arena.u8, dmaAt, dmaAt + bytes);
  }
}

function modelTemplate(image: ModelImage, name: string): Template | Refusal {
  const key = name === '' ? KEY : `${KEY}.${name}`;
  const text = image.meta(key);
  if (text === undefined) {
    const named = image.keys.filter(k => k.startsWith(`${KEY}.`)).map(k => k.slice(KEY.length + 1));
    const others = named.length === 0 ? '' : `; it has templates named ${named.join(', ')}`;
    return refuse('INVAL', 6002, `no ${key}${others}`);
  }
  if (typeof text !== 'string') return refuse('INVAL', 1002, `${key} is not a string`);
  if (utf8Encode(text).length > LIMITS.chatTemplateBytes)
    return refuse('TOOBIG', 2002, `${key} is more than ${LIMITS.chatTemplateBytes} bytes long`);
  return { text, from: `${image.path}: ${key}` };
}

const isRecord = (v: unknown): v is Readonly<Record<string, unknown>> =>
  typeof v === 'object' && v !== null && !Array.isArray(v);

/** The template's variables: the conversation is an object with `messages`, or just the list of them. */
function variablesOf(json: string): Readonly<Record<string, unknown>> | Refusal {
  const bad = (what: string): Refusal => refuse('INVAL', 7001, `the conversation ${what}`);
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return bad('is not JSON');
  }
  const variables = Array.isArray(value) ? { messages: value as unknown } : value;
  if (!isRecord(variables) || !Array.isArray(variables['messages'])) return bad('has no list of messages');
  const wrong = (variables['messages'] as unknown[]).findIndex(m => !isRecord(m) || typeof m['role'] !== 'string');
  return wrong < 0 ? variables : bad(`has no role in message ${wrong + 1}`);
}
