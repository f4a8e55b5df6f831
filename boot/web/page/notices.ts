// Messages between header and desk: one line each, what happened and what is lost or kept, with a button where something can be done. The
// region is live: a screen reader says each when it comes. Progress of long work has a line of its own that goes when the work is done.

import { button, byId, el, icon } from './dom.ts';

const NOTICES_MAX = 4;

export interface Notice {
  readonly close: () => void;
}

interface Remedy {
  readonly label: string;
  readonly press: () => void;
}

/** A line that stays until it is closed. The same line twice is one. `trouble`: something went wrong. */
export function notice(kind: 'note' | 'trouble', text: string, remedy?: Remedy): Notice {
  const region = byId('notices');
  for (const old of region.querySelectorAll('.notice')) if (old.querySelector('p')?.textContent === text) old.remove();
  const line = el('div', { class: `notice ${kind}` }, el('p', {}, text));
  const close = (): void => line.remove();
  if (remedy !== undefined) {
    const press = (): void => {
      close();
      remedy.press();
    };
    line.append(button(remedy.label, press, { class: 'primary' }));
  }
  line.append(button(icon('close'), close, { class: 'quiet', 'aria-label': 'Close the message' }));
  region.append(line);
  const lines = region.querySelectorAll('.notice:not(.work)');
  if (lines.length > NOTICES_MAX) lines[0]!.remove();
  return { close };
}

const works = new Map<string, { readonly line: HTMLElement; readonly bar: HTMLProgressElement }>();

/** How far `what` is; done = total: over. Not worth a line when it is over at once. */
export function progress(what: string, done: number, total: number): void {
  const work = works.get(what);
  if (done >= total) {
    work?.line.remove();
    works.delete(what);
    return;
  }
  if (work !== undefined) {
    work.bar.value = done / total;
    return;
  }
  const bar = el('progress', { max: 1, value: done / total, 'aria-label': what });
  const line = el('div', { class: 'notice work' }, el('p', {}, what), bar);
  works.set(what, { line, bar });
  setTimeout(() => works.get(what)?.line === line && byId('notices').append(line), 300);
}
