// What was typed since power-on, as a link carries it: lines of text, each given when everything in the machine waits. What ended a program at a
// moment of its own (Ctrl-C, Ctrl-Z), or is no text (Ctrl-D, arrows), no link can carry: the command it was meant for is left out, whole.

import type { Heard } from '../../../drivers/tty/tty.ts';

interface Line {
  readonly prompt: string | null; // null: input of a program
  readonly text: string;
}

/** What a terminal obeys instead of showing it. */
const CONTROL = /\p{Cc}/u;

export class Typed {
  #lines: Line[] = [];
  #leftOut = 0;

  readonly hear = (heard: Heard): void => {
    if (heard.is === 'signal') {
      if (heard.prompt === null || heard.prompt !== this.#shellPrompt) this.#abandon();
      return;
    }
    const prompt = heard.is === 'line' ? heard.prompt : null;
    const lines = heard.text.split('\n');
    for (const text of lines) this.#lines.push({ prompt, text });
    if (lines.some(text => CONTROL.test(text))) this.#abandon();
  };

  get commands(): readonly string[] {
    return this.#lines.map(line => line.text);
  }

  /** Commands that no link can carry. */
  get leftOut(): number {
    return this.#leftOut;
  }

  /** The first prompt of all is the shell's; a command may go on behind others. */
  get #shellPrompt(): string | undefined {
    return this.#lines[0]?.prompt ?? undefined;
  }

  /** The last command goes, with everything that was typed for it. */
  #abandon(): void {
    const at = this.#lines.findLastIndex(line => line.prompt !== null && line.prompt === this.#shellPrompt);
    if (at < 0) return;
    this.#lines.length = at;
    this.#leftOut++;
  }
}
