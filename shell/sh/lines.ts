// Lines from a person: the terminal's editor asked for one at a time, its Tab answered, its history kept, history expansion done.

import { E, LIMITS, READLINE, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { Manual } from '../lib/program.ts';
import { writeAll } from '../lib/stdio.ts';
import { builtins } from './builtins.ts';
import { complete } from './complete.ts';
import type { Completion, Names } from './complete.ts';
import type { Shell } from './exec.ts';
import { CommandHistory, expandHistory } from './history.ts';
import { reserved } from './parse.ts';

export type Line = { readonly text: string } | 'end' | 'interrupt';

export class LineReader {
  readonly #shell: Shell;
  readonly #manual: Manual;
  readonly #history: CommandHistory;
  readonly #answer = new Uint8Array(LIMITS.windowBytes);

  constructor(shell: Shell, manual: Manual) {
    this.#shell = shell;
    this.#manual = manual;
    this.#history = new CommandHistory(shell.sys, name => shell.get(name));
  }

  /** One line, history expanded; a line that is so changed is shown before it is returned. */
  *read(prompt: string): Generator<void, Line, void> {
    const { sys, fds } = this.#shell;
    yield* this.#history.refresh();
    for (;;) {
      const line = yield* this.#edit(prompt);
      if (typeof line === 'string') return line;
      const { text, error } = expandHistory(line.text, this.#history.entries);
      if (error === null && text === null) return line;
      yield* writeAll(sys, fds[2]!, utf8Encode(error === null ? `${text}\n` : `${this.#shell.name}: ${error}\n`));
      if (text !== null) return { text };
    }
  }

  /** Remembers a whole command, of however many lines. */
  *remember(command: string): Generator<void, void, void> {
    yield* this.#history.add(command);
  }

  *#edit(prompt: string): Generator<void, Line, void> {
    const { sys } = this.#shell;
    for (;;) {
      const n = yield* sys.readline(0, prompt, this.#answer);
      // A SIGINT that came while a command ran; one at the prompt is READLINE.interrupt.
      if (n === -E.INTR) continue;
      if (n <= 0 || this.#answer[0] === READLINE.end) return 'end';
      if (this.#answer[0] === READLINE.interrupt) return 'interrupt';
      const text = utf8Decode(this.#answer, 1, n);
      if (this.#answer[0] === READLINE.line) return { text };
      const completion = yield* complete(sys, text, this.#names(), this.#manual);
      yield* sys.complete(0, completion.back, completion.names.length, completionBlock(completion));
    }
  }

  #names(): Names {
    const shell = this.#shell;
    return {
      get: name => shell.get(name),
      variables: shell.variables.list().map(v => v.name),
      commands: [...reserved, ...builtins.keys(), ...shell.functions.keys(), ...shell.aliases.keys()],
      jobs: shell.jobs.list.map(job => ({ id: `%${job.id}`, text: job.text })),
    };
  }
}

/** What the complete call takes: the text, then as many names as the window holds. */
function completionBlock({ text, names }: Completion): Uint8Array {
  let block = `${text}\0`;
  for (const name of names) {
    if (block.length + name.length > LIMITS.windowBytes / 4) break;
    block += `${name.replaceAll('\0', '')}\0`;
  }
  return utf8Encode(block);
}
