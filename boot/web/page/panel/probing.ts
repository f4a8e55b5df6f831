// What the views of a step's inside have in common: which session is looked into, and how it is told which step that is.

import type { AttentionAnswer, LensAnswer, ProbeAnswer, ProbsAnswer } from '../../../../kernel/abi/index.ts';
import { el } from '../dom.ts';
import { setText } from './dom.ts';
import { parseProbe, visible } from './parse-probe.ts';
import { tabbed } from './parse-text.ts';
import type { Seen } from './view.ts';

/** Makes a session that stays when it has ended, so that there is a step to look into. */
const SUBMIT = 'llmctl submit Once upon a time';
const HINT = `The session of an llminfer is closed when it ends: watch this view while one runs, or type ${SUBMIT}, whose session stays.`;

/** The looks that a view has been told: the newest, which stays to be seen when the session that it was taken of is gone. */
export class Looks<T extends ProbsAnswer | AttentionAnswer | LensAnswer> {
  /** Which step is shown, and, when it is over, why. */
  readonly element = el('p', { class: 'sum' });
  private drawn = '';
  private machine = -1;
  private why = '';

  constructor(
    private readonly what: T['what'],
    private readonly draw: (look: T) => void,
  ) {}

  /** The step that is shown is of a session that can no longer be looked into. */
  get isOver(): boolean {
    return this.why !== '' && this.drawn !== '';
  }

  /** What to type: the view's own command while it would show something. */
  command(own: string): string {
    return this.why === '' ? own : SUBMIT;
  }

  /** Draws what is new. Returns what to type to see something, or '' where there is something to see. */
  update({ probe, machine }: Seen): string {
    if (machine !== this.machine) this.drawn = this.why = '';
    this.machine = machine;
    const look = parseProbe<T>(probe, this.what);
    if (typeof look === 'string') return this.refused(look);
    this.why = '';
    setText(this.element, stepText(look));
    if (probe !== this.drawn) this.draw(look);
    this.drawn = probe;
    return '';
  }

  /** '' = no answer yet: what is shown stays as it is until there is one. */
  private refused(why: string): string {
    this.why = why || this.why;
    if (this.drawn === '') return this.why === '' ? 'Looking …' : `No look: ${this.why}. ${HINT}`;
    if (why === '') return '';
    setText(this.element, `Last look: ${stepText(parseProbe<T>(this.drawn, this.what) as T)} Now ${why}.`);
    return '';
  }
}

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

  enable(isEnabled: boolean): void {
    this.select.disabled = !isEnabled;
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
export function stepText({ id, position, token, next }: ProbeAnswer): string {
  const behind =
    next === null
      ? 'nothing is drawn yet'
      : `then “${visible(next.text)}”${next.drawn ? ', drawn' : ', of the prompt'}`;
  return `Session ${id}, position ${position}: “${visible(token.text)}”, ${behind}.`;
}
