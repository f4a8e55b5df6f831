// The lines that the editor recalls, oldest first: bounded in number and in bytes, given by whoever asks for lines. Searching is
// incremental, as in Emacs and bash: it starts where the last match was, goes through the line shown and then on through its neighbours,
// and passes over lines that look the same as the one shown.

import { LIMITS, utf8Length } from '../../kernel/abi/index.ts';

export interface Match {
  /** Index of the line; `lines.length`: the line being edited. */
  readonly line: number;
  /** Where in it the text was found. */
  readonly at: number;
}

export class History {
  #lines: string[] = [];
  #bytes = 0;

  get length(): number {
    return this.#lines.length;
  }

  line(i: number): string | undefined {
    return this.#lines[i];
  }

  /** Appends lines; of all that there are then the last `keep` stay, and no more than the limits allow. */
  append(lines: readonly string[], keep: number): void {
    for (const line of lines) {
      this.#lines.push(line);
      this.#bytes += utf8Length(line);
    }
    const most = Math.min(keep, LIMITS.historyLines);
    let drop = Math.max(0, this.#lines.length - most);
    for (let i = 0; i < drop; i++) this.#bytes -= utf8Length(this.#lines[i]!);
    for (; this.#bytes > LIMITS.historyBytes; drop++) this.#bytes -= utf8Length(this.#lines[drop]!);
    if (drop > 0) this.#lines = this.#lines.slice(drop);
  }

  /** The nearest line with `query` from a match on, backwards or forwards; `shown` is the text that the line of `from` has now. */
  search(query: string, from: Match, shown: string, draft: string, backwards: boolean): Match | null {
    const step = backwards ? -1 : 1;
    const here = backwards ? lastIndex(shown, query, from.at) : index(shown, query, from.at);
    if (here >= 0) return { line: from.line, at: here };
    for (let i = from.line + step; i >= 0 && i <= this.length; i += step) {
      const text = this.#lines[i] ?? draft;
      const at = backwards ? text.lastIndexOf(query) : text.indexOf(query);
      if (at >= 0 && text !== shown) return { line: i, at };
    }
    return null;
  }
}

// Both of JavaScript's searches clamp a place outside of the text; here there is nothing to be found from there.
const index = (text: string, query: string, from: number): number =>
  from > text.length ? -1 : text.indexOf(query, from);
const lastIndex = (text: string, query: string, from: number): number =>
  from < 0 ? -1 : text.lastIndexOf(query, from);

/** The last word of a command line, blanks inside quotes included; '' when there is none. */
export function lastWord(line: string): string {
  return line.match(/(?:\\[^]|'[^']*'?|"(?:\\[^]|[^"\\])*"?|[^\s'"\\]|\\$)+/g)?.at(-1) ?? '';
}
