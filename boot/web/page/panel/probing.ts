// What the views of a step's inside have in common: which session is looked into, and how it is told which step that is.

import { el } from '../dom.ts';
import { setText } from './dom.ts';
import { tabbed } from './parse-text.ts';
import { visible, type Probe } from './parse-probe.ts';

/** What to type where no step has been taken. */
export const NO_STEP =
  'No step to look into: type llmctl load fable-f16, then llmctl submit Once upon a time — a session stays while it is not closed.';

/** A choice between numbers. Calls back when another is chosen. */
export class Choice {
  readonly element: HTMLLabelElement;
  private readonly select: HTMLSelectElement;
  private texts = '';

  constructor(title: string, changed: () => void) {
    this.select = el('select', { onchange: changed });
    this.element = el('label', { class: 'choice' }, `${title} `, this.select);
  }

  get value(): number {
    return Number(this.select.value || 0);
  }

  set(options: readonly (readonly [value: number, text: string])[]): void {
    const texts = options.map(o => o.join(' ')).join('\n');
    if (texts === this.texts) return;
    this.texts = texts;
    const { value } = this;
    this.select.replaceChildren(...options.map(([v, text]) => el('option', { value: v, selected: v === value }, text)));
  }
}

/** `last step` and every session that /proc/sessions has. */
export function sessionOptions(sessions: string): [number, string][] {
  return [
    [0, 'last step'],
    ...tabbed(sessions).map((row): [number, string] => [
      Number(row['id']),
      `${row['id']}, ${row['state']?.toLowerCase()}`,
    ]),
  ];
}

/** `numbers` from 0 as options. */
export const upTo = (n: number): [number, string][] => Array.from({ length: n }, (_, i) => [i, String(i)]);

/** Which step this is: `Session 2 at position 12: “␣upon” → “␣a” drawn`. */
export function stepText({ id, position, token, next }: Probe): string {
  const behind =
    next === null
      ? 'nothing is drawn yet'
      : `then “${visible(next.text)}”${next.drawn ? ', drawn' : ', of the prompt'}`;
  return `Session ${id}, position ${position}: “${visible(token.text)}”, ${behind}.`;
}

export function stepLine(): { readonly element: HTMLElement; set(probe: Probe): void } {
  const element = el('p', { class: 'sum' });
  return { element, set: probe => setText(element, stepText(probe)) };
}
