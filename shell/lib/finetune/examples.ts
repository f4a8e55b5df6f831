// Examples as people write them: pairs of prompt and completion, conversations, or plain text, read one at a time from a file of any size.
// What is no example is told with the number of its line, and spoils no other.

import { LIMITS, utf8Decode, utf8Valid } from '../../../kernel/abi/index.ts';
import type { Message } from '../chat.ts';
import type { Input } from '../stdio.ts';
import { JsonElements } from './json-elements.ts';
import { Lines } from './lines.ts';

/** Bytes of one example as JSON; of its texts there are LIMITS.chatTextBytes at most. */
export const EXAMPLE_BYTES_MAX = 512 * 1024;
export const SEPARATOR_DEFAULT = '<|endoftext|>';

export type DataFormat = 'json' | 'jsonl' | 'text';

export type Example =
  | { readonly kind: 'pair'; readonly prompt: string; readonly completion: string }
  | { readonly kind: 'chat'; readonly messages: readonly Message[] }
  /** A piece of a document; `last`: it ends here. */
  | { readonly kind: 'text'; readonly bytes: Uint8Array; readonly last: boolean };

/** An example, or what is wrong with it. */
export interface Found {
  readonly line: number;
  readonly example: Example | string;
}

export const formatOf = (path: string): DataFormat =>
  path.endsWith('.json') ? 'json' : path.endsWith('.jsonl') ? 'jsonl' : 'text';

/** Reads examples one after the other. */
export interface ExampleReader {
  /** What is wrong with the file as a whole, '' as long as nothing is. */
  readonly error: string;
  next(): Generator<void, Found | null, void>;
}

/** The examples of a file; `separator`: of plain text, the line between two documents. */
export function readExamples(
  input: Input,
  format: DataFormat,
  separator: string,
): { lines: Lines; reader: ExampleReader } {
  const lines = new Lines(input);
  const readers = { json: () => new JsonReader(lines), jsonl: () => new LineReader(lines) };
  return { lines, reader: format === 'text' ? new TextReader(lines, separator) : readers[format]() };
}

class LineReader implements ExampleReader {
  readonly error = '';
  constructor(private readonly lines: Lines) {}

  *next(): Generator<void, Found | null, void> {
    for (;;) {
      const line = yield* this.lines.whole(EXAMPLE_BYTES_MAX);
      if (line === null) return null;
      if (line.bytes !== null && line.bytes.every(byte => byte === 0x20 || byte === 0x09 || byte === 0x0d)) continue;
      return { line: line.number, example: parseExample(line.bytes) };
    }
  }
}

class JsonReader implements ExampleReader {
  private readonly elements: JsonElements;
  constructor(lines: Lines) {
    this.elements = new JsonElements(lines, 'examples', EXAMPLE_BYTES_MAX);
  }

  get error(): string {
    return this.elements.error;
  }

  *next(): Generator<void, Found | null, void> {
    const element = yield* this.elements.next();
    return element === null ? null : { line: element.line, example: parseExample(element.bytes) };
  }
}

/** Documents as pieces; the newline before a separator, and before the end of the file, belongs to none. */
class TextReader implements ExampleReader {
  readonly error = '';
  private held = false; // a newline that belongs to the document if it goes on
  private begun = false;
  private readonly separator: Uint8Array;

  constructor(
    private readonly lines: Lines,
    separator: string,
  ) {
    this.separator = Uint8Array.from(separator, c => c.charCodeAt(0));
  }

  *next(): Generator<void, Found | null, void> {
    const piece = yield* this.lines.next(this.separator.length + 1);
    if (piece === null) {
      if (!this.begun) return null;
      return this.ended(0);
    }
    const { number, bytes, first, last } = piece;
    if (first && last && same(bytes, this.separator)) return this.ended(number);
    const lead = this.held && first;
    this.held = last;
    this.begun = true;
    const text = new Uint8Array(bytes.length + (lead ? 1 : 0));
    if (lead) text[0] = 0x0a;
    text.set(bytes, lead ? 1 : 0);
    return { line: number, example: { kind: 'text', bytes: text, last: false } };
  }

  private ended(line: number): Found {
    this.held = this.begun = false;
    return { line, example: { kind: 'text', bytes: new Uint8Array(), last: true } };
  }
}

const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** The example that is written there as JSON, or what is wrong with it. */
export function parseExample(bytes: Uint8Array | null): Example | string {
  if (bytes === null) return `more than ${EXAMPLE_BYTES_MAX} bytes long`;
  if (!utf8Valid(bytes)) return 'not UTF-8';
  let value: unknown;
  try {
    value = JSON.parse(utf8Decode(bytes));
  } catch {
    return 'not JSON';
  }
  if (typeof value !== 'object' || value === null) return 'not an object';
  const { prompt, completion, messages, text } = value as Readonly<Record<string, unknown>>;
  if (Array.isArray(messages)) return conversation(messages);
  if (typeof text === 'string') return within(text, { kind: 'pair', prompt: '', completion: text });
  if (typeof prompt !== 'string' || typeof completion !== 'string')
    return 'no "prompt" and "completion", no "messages", no "text"';
  if (completion === '') return 'the completion is empty';
  return within(prompt + completion, { kind: 'pair', prompt, completion });
}

const within = (text: string, example: Example): Example | string =>
  text === ''
    ? 'the text is empty'
    : text.length > LIMITS.chatTextBytes
      ? `its text is ${text.length} characters long, ${LIMITS.chatTextBytes} at most`
      : example;

function conversation(messages: readonly unknown[]): Example | string {
  const known: Message[] = [];
  for (const message of messages) {
    if (typeof message !== 'object' || message === null) return 'a message is not an object';
    const { role, content } = message as Readonly<Record<string, unknown>>;
    if (typeof role !== 'string' || typeof content !== 'string') return 'a message has no "role" and "content"';
    known.push(message as Message);
  }
  return known.some(m => m.role === 'assistant') ? { kind: 'chat', messages: known } : 'no message of the assistant';
}
