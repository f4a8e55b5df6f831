// The row of keys that a telephone's keyboard lacks. They act without taking the focus from the terminal, so that the keyboard stays open.

import { button } from './dom.ts';

/** What the row does with the terminal. */
export interface KeyTarget {
  readonly input: (data: string) => void;
  readonly focus: () => void;
  /** Programs may ask for other codes of the arrows (DECCKM). */
  readonly applicationArrows: () => boolean;
}

const KEYS: readonly (readonly [text: string, name: string, data: string])[] = [
  ['Esc', 'Esc, Escape', '\x1b'],
  ['Tab', 'Tab', '\t'],
  ['Ctrl', 'Ctrl, Control', ''],
  ['↑', 'Up', 'A'],
  ['↓', 'Down', 'B'],
  ['←', 'Left', 'D'],
  ['→', 'Right', 'C'],
  ['|', '| bar', '|'],
  ['/', '/ slash', '/'],
  ['-', '- hyphen', '-'],
  ['^C', '^C interrupt', '\x03'],
];

export class KeyRow {
  readonly #control: HTMLButtonElement;
  readonly #target: KeyTarget;

  constructor(row: HTMLElement, target: KeyTarget) {
    this.#target = target;
    const buttons = KEYS.map(([text, name, data]) => {
      const key = button(text, () => this.#press(data), { 'aria-label': name });
      key.addEventListener('pointerdown', event => event.preventDefault());
      return key;
    });
    this.#control = buttons[2]!;
    this.#control.setAttribute('aria-pressed', 'false');
    row.append(...buttons);
  }

  /** With Ctrl held in the row, a letter typed next is its control character. */
  translate(data: string): string {
    if (!this.#isHeld || data.length !== 1) return data;
    this.#hold(false);
    const code = data.toUpperCase().charCodeAt(0);
    return code >= 0x40 && code < 0x60 ? String.fromCharCode(code - 0x40) : data;
  }

  get #isHeld(): boolean {
    return this.#control.getAttribute('aria-pressed') === 'true';
  }

  #hold(on: boolean): void {
    this.#control.setAttribute('aria-pressed', String(on));
  }

  #press(data: string): void {
    if (data === '') this.#hold(!this.#isHeld);
    else if (/^[A-D]$/.test(data)) this.#target.input(`\x1b${this.#target.applicationArrows() ? 'O' : '['}${data}`);
    else this.#target.input(data);
    this.#target.focus();
  }
}
