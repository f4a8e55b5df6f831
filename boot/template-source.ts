// Where the parts of a chat template stand: Jinja's parser keeps no positions, and a fault without its line is of no use to whoever wrote the
// template. The tags are found once more in the source and matched, in order, with the tokens and with the statements of the program.

import { parse, tokenize } from '@huggingface/jinja';
import { LIMITS } from '../kernel/abi/index.ts';

export type Token = ReturnType<typeof tokenize>[number];
export type Program = ReturnType<typeof parse>;
export type Statement = Program['body'][number];

/** What is wrong with a template, or with what it did. */
export class TemplateError extends Error {
  constructor(
    message: string,
    readonly line?: number,
  ) {
    super(message);
  }
}

export interface ParsedTemplate {
  readonly program: Program;
  readonly tokens: number;
  /** Lines of the statements, from 1. */
  readonly lines: ReadonlyMap<Statement, number>;
}

/** The template as a program; throws a TemplateError with the line of what is wrong. */
export function parseTemplate(source: string): ParsedTemplate {
  checkBlanks(source);
  const tags = tagsOf(source);
  const tokens = lex(source, tags);
  const lineAt = linesOf(tokens, tags);
  checkNesting(tokens, lineAt);
  let program: Program;
  try {
    program = parse([...tokens]);
  } catch (error) {
    throw new TemplateError(messageOf(error, 'the template ends inside a block'), lineAt(furthestToken(tokens)));
  }
  return { program, tokens: tokens.length, lines: statementLines(program, tokens, lineAt) };
}

/** Jinja's own sentence; what the JavaScript engine says instead of one differs between engines and is replaced by `otherwise`. */
export function messageOf(error: unknown, otherwise: string): string {
  if (!(error instanceof Error) || error instanceof TypeError || error instanceof RangeError) return otherwise;
  return error.message.replace(/^Parser Error: /, '').replace(/\.$/, '');
}

// ── Tags ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Tag {
  readonly line: number;
  readonly end: number; // offset behind it
}

/** The tags as the lexer will find them, in order; transformers' `generation` tags, which it drops, left out. */
function tagsOf(source: string): Tag[] {
  const tags: Tag[] = [];
  let line = 1;
  let counted = 0;
  for (let at = nextTag(source, 0); at >= 0; at = nextTag(source, tags.at(-1)?.end ?? counted)) {
    for (; counted < at; counted++) if (source.charCodeAt(counted) === 10) line++;
    const end = tagEnd(source, at);
    tags.push({ line, end });
  }
  return tags.filter((tag, i) => {
    const from = nextTag(source, tags[i - 1]?.end ?? 0);
    return !/^\{%-?\s*(?:end)?generation\s*-?%\}$/.test(source.slice(from, tag.end));
  });
}

function nextTag(source: string, from: number): number {
  for (let at = source.indexOf('{', from); at >= 0; at = source.indexOf('{', at + 1))
    if ('{%#'.includes(source[at + 1] ?? ' ')) return at;
  return -1;
}

/** Behind the tag that begins at `at`: closers inside strings, and `}}` inside of a mapping, do not count. */
function tagEnd(source: string, at: number): number {
  if (source[at + 1] === '#') {
    const close = source.indexOf('#}', at + 2);
    return close < 0 ? source.length : close + 2;
  }
  let braces = 0;
  for (let i = at + 2; i < source.length; i++) {
    const c = source[i]!;
    if (c === "'" || c === '"') {
      for (i++; i < source.length && source[i] !== c; i++) if (source[i] === '\\') i++;
    } else if (source.startsWith('%}', i)) return i + 2;
    else if (source.startsWith('-}}', i)) return i + 3;
    else if (source.startsWith('}}', i) && braces <= 0) return i + 2;
    else if (c === '{') braces++;
    else if (c === '}') braces--;
  }
  return source.length;
}

/** A long run of blanks takes the lexer's expressions the square of its length. */
function checkBlanks(source: string): void {
  let run = 0;
  let line = 1;
  for (const c of source) {
    if (c === '\n') line++;
    run = /\s/.test(c) ? run + 1 : 0;
    if (run > LIMITS.chatBlanksMax) throw new TemplateError(`more than ${LIMITS.chatBlanksMax} blanks in a row`, line);
  }
}

// ── Tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function lex(source: string, tags: readonly Tag[]): Token[] {
  const lexed = (text: string): Token[] => tokenize(text, { lstrip_blocks: true, trim_blocks: true });
  try {
    return lexed(source);
  } catch (error) {
    // The first tag that cannot be read: the shortest part of the template, up to the end of a tag, that cannot.
    let [low, high] = [0, tags.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      try {
        lexed(source.slice(0, tags[middle]!.end));
        low = middle + 1;
      } catch {
        high = middle;
      }
    }
    throw new TemplateError(messageOf(error, 'a tag cannot be read'), tags[low]?.line ?? 1);
  }
}

const opensTag = (token: Token): boolean =>
  token.type === 'OpenStatement' || token.type === 'OpenExpression' || token.type === 'Comment';

/** The line of the tag that a token is in, or follows. */
function linesOf(tokens: readonly Token[], tags: readonly Tag[]): (index: number) => number {
  const lines: number[] = [];
  let tag = -1;
  for (const token of tokens) {
    if (opensTag(token)) tag++;
    lines.push(tags[Math.min(Math.max(0, tag), tags.length - 1)]?.line ?? 1);
  }
  return index => lines[Math.min(index, lines.length - 1)] ?? 1;
}

/** How far the parser comes: the last token it looks at before it gives up. */
function furthestToken(tokens: readonly Token[]): number {
  let furthest = 0;
  const watched = new Proxy([...tokens], {
    get(target, key, receiver) {
      if (typeof key === 'string' && /^[0-9]+$/.test(key)) furthest = Math.max(furthest, Number(key));
      return Reflect.get(target, key, receiver);
    },
  });
  try {
    parse(watched);
  } catch {
    // it does, at `furthest`
  }
  return furthest;
}

const BLOCKS = ['if', 'for', 'macro', 'call', 'filter'];
const PREFIXES = ['not', 'if', 'else'];

/** The parser calls itself for what stands inside of something else, and how deep a host may do that differs between hosts. */
function checkNesting(tokens: readonly Token[], lineAt: (index: number) => number): void {
  const blocks: number[] = []; // open blocks, each with its `elif`s
  let open = 0; // their sum
  let inTag = 0;
  let brackets = 0;
  let prefixes = 0;
  tokens.forEach((token, i) => {
    if (opensTag(token) || token.type === 'Text') inTag = brackets = prefixes = 0;
    inTag++;
    if (tokens[i - 1]?.type === 'OpenStatement') {
      if (BLOCKS.includes(token.value)) blocks.push(1);
      else if (token.value === 'elif' && blocks.length > 0) blocks[blocks.length - 1]!++;
      else if (token.value.startsWith('end')) open -= blocks.pop() ?? 0;
      if (BLOCKS.includes(token.value) || token.value === 'elif') open++;
    } else if (/^Open(Paren|SquareBracket|CurlyBracket)$/.test(token.type)) brackets++;
    else if (/^Close(Paren|SquareBracket|CurlyBracket)$/.test(token.type)) brackets--;
    else if (token.type === 'UnaryOperator' || token.value === '**' || PREFIXES.includes(token.value)) prefixes++;
    if (open + brackets + prefixes > LIMITS.chatNestingMax)
      throw new TemplateError(`nested more than ${LIMITS.chatNestingMax} deep`, lineAt(i));
    if (inTag > LIMITS.chatTagTokensMax)
      throw new TemplateError(`a tag of more than ${LIMITS.chatTagTokensMax} words`, lineAt(i));
  });
}

// ── Statements ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Tags that stand for no statement of their own; `elif` does, for an `if` inside of the `else`. */
const CONTINUATIONS = ['else', 'endif', 'endfor', 'endset', 'endmacro', 'endcall', 'endfilter'];

/** The statements in the order of the source, each with the next tag or text that begins one. */
function statementLines(
  program: Program,
  tokens: readonly Token[],
  lineAt: (index: number) => number,
): ReadonlyMap<Statement, number> {
  const lines = new Map<Statement, number>();
  let next = 0;
  const begins = (i: number): boolean =>
    tokens[i]!.type === 'Text' || (opensTag(tokens[i]!) && !CONTINUATIONS.includes(tokens[i + 1]?.value ?? ''));
  const walk = (block: readonly Statement[]): void => {
    for (const statement of block) {
      while (next < tokens.length && !begins(next)) next++;
      lines.set(statement, lineAt(next++));
      for (const inner of blocksOf(statement)) walk(inner);
    }
  };
  walk(program.body);
  return lines;
}

/** The blocks of a statement, in the order of the source. */
export function blocksOf(statement: Statement): Statement[][] {
  const parts = statement as Statement & Record<string, unknown>;
  return ['body', 'alternate', 'defaultBlock'].map(name => parts[name]).filter(Array.isArray);
}
