// Conversations as the model commands hold them: messages with roles, which the kernel turns into a prompt by the model's chat template. The
// template never runs here: what comes back is text in a descriptor.

import { E, LIMITS, READLINE, SEEK, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';
import { openText } from './model.ts';
import type { TextSource } from './model.ts';
import { lastError } from './program.ts';
import type { Context } from './program.ts';
import { readAll, writeAll } from './stdio.ts';

export interface Message {
  readonly role: string;
  readonly content: unknown;
}

/** What a template is given beside the special tokens; the messages, and what else a file of them had (tools, switches). */
export interface Conversation {
  readonly messages: readonly Message[];
  readonly [variable: string]: unknown;
}

/** The options of a command that converses, as getopt leaves them. */
export const chatOptions = {
  chat: {
    help: "treat PROMPT as a turn of a conversation, written by the model's chat template; without PROMPT, converse",
  },
  system: { value: 'TEXT', help: 'with --chat: begin with this system message' },
  messages: {
    value: 'F',
    help: 'with --chat: earlier turns from F, a JSON list of {role, content}; an object with messages may hold more variables for the template',
  },
  template: { value: 'NAME', help: "with --chat: use the model's template of this name" },
  'template-file': { value: 'F', help: 'with --chat: use the template in F' },
} as const;

interface ChatValues {
  readonly chat: boolean;
  readonly system: string | undefined;
  readonly messages: string | undefined;
  readonly template: string | undefined;
  readonly 'template-file': string | undefined;
}
type Caller = Pick<Context, 'sys' | 'fail'>;

/** What is wrong with the options together, or null. */
export function chatError(given: ChatValues): string | null {
  const only = (['system', 'messages', 'template', 'template-file'] as const).find(name => given[name] !== undefined);
  if (!given.chat && only !== undefined) return `--${only} needs --chat`;
  if (given.template !== undefined && given['template-file'] !== undefined)
    return '--template and --template-file exclude each other';
  return null;
}

/** The conversation before the first turn: the system message, then the file's. Or an exit status, after a message. */
export function* openConversation(ctx: Caller, given: ChatValues): Generator<void, Conversation | number, void> {
  const system: Message[] = given.system === undefined ? [] : [{ role: 'system', content: given.system }];
  if (given.messages === undefined) return { messages: system, add_generation_prompt: true };
  const text = yield* readText(ctx.sys, given.messages, LIMITS.chatTextBytes);
  if (typeof text === 'number') return yield* ctx.fail(given.messages, -text);
  const file = parseConversation(text);
  if (file === null) return yield* ctx.fail(`${given.messages}: not a JSON list of messages, nor an object with one`);
  return { add_generation_prompt: true, ...file, messages: [...system, ...file.messages] };
}

function parseConversation(text: string): Conversation | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (Array.isArray(value)) return { messages: value as Message[] };
  const known = typeof value === 'object' && value !== null && 'messages' in value && Array.isArray(value.messages);
  return known ? (value as Conversation) : null;
}

/** The conversation with one more message. */
export const said = (c: Conversation, role: string, content: string): Conversation => ({
  ...c,
  messages: [...c.messages, { role, content }],
});

/** A turn's text from where it comes; or minus an exit status, after a message. */
export function* turnText(ctx: Caller, source: TextSource): Generator<void, string | number, void> {
  const fd = yield* openText(ctx, source);
  if (fd < 0) return fd;
  const bytes = yield* readAll(ctx.sys, fd, LIMITS.chatTextBytes);
  yield* ctx.sys.close(fd);
  return typeof bytes === 'number' ? -(yield* ctx.fail('PROMPT', -bytes)) : utf8Decode(bytes);
}

/** One line that a person types, without its newline; null at the end of input. Ctrl-C begins the line again. */
export function* typedTurn(sys: Sys): Generator<void, string | null, void> {
  const answer = new Uint8Array(LIMITS.windowBytes);
  for (;;) {
    const n = yield* sys.readline(0, '> ', answer);
    if (n === -E.INTR) continue;
    if (n <= 0 || answer[0] === READLINE.end) return null;
    const text = utf8Decode(answer, 1, n);
    if (answer[0] === READLINE.complete) yield* sys.complete(0, 0, 0, new Uint8Array(1));
    else if (answer[0] === READLINE.line && text.trim() !== '') return text;
  }
}

/** The prompt of a conversation: a descriptor at its beginning, and the text. Or an exit status, after a message. */
export function* chatPrompt(
  ctx: Caller,
  given: ChatValues,
  conversation: Conversation,
): Generator<void, { readonly fd: number; readonly text: string } | number, void> {
  const { sys } = ctx;
  const json = yield* sys.memfd('conversation');
  if (json < 0) return yield* ctx.fail(yield* lastError(sys, json));
  const wrote = yield* writeAll(sys, json, utf8Encode(JSON.stringify(conversation)));
  if (wrote < 0) return yield* ctx.fail(yield* lastError(sys, wrote));
  yield* sys.lseek(json, 0, SEEK.set);
  const fd = yield* sys.chat(given['template-file'] ?? '', given.template ?? '', json);
  yield* sys.close(json);
  if (fd < 0) {
    const path = given['template-file'];
    const why = yield* lastError(sys, fd);
    return yield* ctx.fail(path === undefined || why.includes(path) ? why : `${path}: ${why}`);
  }
  const bytes = yield* readAll(sys, fd, LIMITS.chatTextBytes);
  if (typeof bytes === 'number') return yield* ctx.fail(yield* lastError(sys, bytes));
  yield* sys.lseek(fd, 0, SEEK.set);
  return { fd, text: utf8Decode(bytes) };
}
