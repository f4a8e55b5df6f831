// Dialogs: the browser's own, modal, with what it promises — Escape closes, the focus goes back to where it was — and Tab kept inside, which
// browsers let go to their own controls.

import { button, el, icon } from './dom.ts';

const FOCUSABLE = 'button:not(:disabled), input:not(:disabled), select:not(:disabled), textarea, summary, a[href]';

export interface Dialog {
  readonly body: HTMLElement;
  readonly close: () => void;
}

let count = 0;

/** Opens a dialog whose body `fill` makes. It is gone from the document once it is closed. */
export function openDialog(title: string, fill: (dialog: Dialog) => void): void {
  const titleId = `dialog-${++count}`;
  const body = el('div', { class: 'dialog-body' });
  const box = el('dialog', { 'aria-labelledby': titleId });
  const close = (): void => box.close();
  box.append(
    el(
      'div',
      { class: 'dialog-head' },
      el('h2', { id: titleId }, title),
      button(icon('close'), close, { class: 'quiet', 'aria-label': 'Close' }),
    ),
    body,
  );
  box.addEventListener('keydown', event => keepInside(box, event));
  box.addEventListener('close', () => box.remove());
  // A press beside it closes it, as Escape does.
  box.addEventListener('pointerdown', event => event.target === box && isBeside(box, event) && close());
  fill({ body, close });
  document.body.append(box);
  box.showModal();
  const first = body.querySelector<HTMLElement>('[autofocus]') ?? body.querySelector<HTMLElement>(FOCUSABLE);
  first?.focus();
  if (first instanceof HTMLInputElement) first.select(); // what is typed takes the place of what is there
}

function isBeside(box: HTMLElement, event: PointerEvent): boolean {
  const { left, right, top, bottom } = box.getBoundingClientRect();
  return event.clientX < left || event.clientX > right || event.clientY < top || event.clientY > bottom;
}

function keepInside(box: HTMLElement, event: KeyboardEvent): void {
  if (event.key !== 'Tab') return;
  const all = [...box.querySelectorAll<HTMLElement>(FOCUSABLE)].filter(e => e.offsetParent !== null);
  const [first, last] = [all[0], all.at(-1)];
  const edge = event.shiftKey ? first : last;
  if (document.activeElement !== edge && box.contains(document.activeElement)) return;
  event.preventDefault();
  (event.shiftKey ? last : first)?.focus();
}

/** A labelled control, with what it means below. */
export function field(label: string, control: HTMLElement, help = ''): HTMLElement {
  return el(
    'label',
    { class: 'field' },
    el('span', {}, label),
    control,
    ...(help === '' ? [] : [el('small', {}, help)]),
  );
}

/** A box to tick. */
export function check(
  label: string,
  isChecked: boolean,
  help: string,
  change: (isChecked: boolean) => void,
): HTMLElement {
  const id = `check-${++count}`;
  const box = el('input', { type: 'checkbox', id, checked: isChecked, onchange: () => change(box.checked) });
  if (help !== '') box.setAttribute('aria-describedby', `${id}-help`);
  return el(
    'div',
    { class: 'check' },
    box,
    el('label', { for: id }, label),
    ...(help === '' ? [] : [el('small', { id: `${id}-help` }, help)]),
  );
}

/** A list to choose from. */
export function choice<T extends string>(
  options: readonly (readonly [value: T, text: string])[],
  value: string,
  change: (value: T) => void,
): HTMLSelectElement {
  const select = el(
    'select',
    { onchange: () => change(select.value as T) },
    ...options.map(([v, text]) => el('option', { value: v, selected: v === value }, text)),
  );
  return select;
}
