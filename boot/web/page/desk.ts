// The desk: terminal and panel side by side with a divider between them, or, where there is no room, one at a time. Also where F6 goes, and the
// height that a telephone's keyboard leaves.

import type { Client } from './client.ts';
import { byId } from './dom.ts';
import type { Panel } from './panel/index.ts';
import { VIEWS, type ViewName } from './panel/view.ts';
import { choose, settings } from './settings.ts';
import type { TerminalPane } from './terminal.ts';
import './panel/panel.css';

export type Shown = 'terminal' | 'panel';

/** Of the window's height, when a keyboard covers the rest. */
const SHORT_PX = 520;
const SPLIT = { least: 20, most: 80, step: 2 } as const;

export class Desk {
  readonly #terminal: TerminalPane;
  /** Null: on its way. */
  #panel: Panel | null = null;
  /** What the panel shows when there is room for it. */
  #view: ViewName = VIEWS[0][0];
  readonly #narrow = matchMedia('(max-width: 999px)');
  readonly #divider = byId('divider');

  constructor(terminal: TerminalPane) {
    this.#terminal = terminal;
    for (const choice of this.#choices())
      choice.addEventListener('click', () => this.show(choice.dataset['view'] as Shown));
    byId('skip').addEventListener('click', event => {
      event.preventDefault();
      this.show('terminal');
      terminal.focus();
    });
    this.#narrow.addEventListener('change', () => this.#arrange());
    addEventListener('resize', () => this.#arrange());
    addEventListener('keydown', event => {
      if (event.key !== 'F6' || event.defaultPrevented) return;
      event.preventDefault();
      terminal.focus();
    });
    this.#followKeyboard();
    this.#dragDivider();
    this.#arrange();
  }

  /** The panel's script is fetched when the terminal is there: nobody waits for it at the prompt. */
  async addPanel(client: Client, type: (command: string) => void): Promise<void> {
    const { panel } = await import('./panel/index.ts');
    this.#panel = panel(client, type);
    byId('panel-pane').append(this.#panel.element);
    this.#arrange();
  }

  /** Narrow: this one; wide: both are there. */
  show(shown: Shown): void {
    document.body.dataset['view'] = shown;
    this.#arrange();
  }

  /** On to what Tab would come to behind the terminal, or back to what is before it. */
  leaveTerminal(isBackward: boolean): void {
    if (isBackward) byId('strip').querySelector<HTMLElement>('button:last-child')?.focus();
    else if (!this.#narrow.matches) this.#divider.focus();
    else (this.#keyRow() ?? byId('facts').querySelector('button'))?.focus();
  }

  #keyRow(): HTMLElement | null {
    const first = byId('keys').querySelector<HTMLElement>('button');
    return first !== null && first.getClientRects().length > 0 ? first : null;
  }

  #choices(): HTMLElement[] {
    return [...byId('switch').querySelectorAll<HTMLElement>('button')];
  }

  #arrange(): void {
    const { view } = document.body.dataset;
    for (const choice of this.#choices()) choice.setAttribute('aria-pressed', String(choice.dataset['view'] === view));
    const { splitPercent } = settings();
    const width80 = Math.ceil((this.#terminal.width80() / innerWidth) * 1000) / 10;
    this.#split(splitPercent > 0 ? splitPercent : Math.min(SPLIT.most, Math.max(width80, 50)));
    this.#view = this.#panel?.view ?? this.#view;
    this.#panel?.show(!this.#narrow.matches || view === 'panel' ? this.#view : null);
    this.#terminal.fit();
  }

  #split(percent: number): void {
    byId('desk').style.setProperty('--split', `${percent}%`);
    this.#divider.setAttribute('aria-valuenow', String(Math.round(percent)));
  }

  #choose(percent: number): void {
    const splitPercent = Math.min(SPLIT.most, Math.max(SPLIT.least, Math.round(percent * 10) / 10));
    choose({ splitPercent });
    this.#split(splitPercent);
  }

  /** By pointer, by arrows, Home and End; Enter or a double click gives 80 columns again. */
  #dragDivider(): void {
    const divider = this.#divider;
    const again = (): void => {
      choose({ splitPercent: 0 });
      this.#arrange();
    };
    divider.addEventListener('pointerdown', event => divider.setPointerCapture(event.pointerId));
    divider.addEventListener('pointermove', event => {
      if (divider.hasPointerCapture(event.pointerId)) this.#choose((event.clientX / innerWidth) * 100);
    });
    divider.addEventListener('dblclick', again);
    divider.addEventListener('keydown', event => {
      const now = Number(divider.getAttribute('aria-valuenow'));
      const to = { ArrowLeft: now - SPLIT.step, ArrowRight: now + SPLIT.step, Home: SPLIT.least, End: SPLIT.most }[
        event.key
      ];
      if (event.key === 'Enter') again();
      else if (to === undefined) return;
      else this.#choose(to);
      event.preventDefault();
    });
  }

  #followKeyboard(): void {
    const { visualViewport } = globalThis;
    if (visualViewport === null) return;
    const follow = (): void => {
      // Zooming in makes it smaller too: then the page keeps its size.
      const isKeyboard = Math.abs(visualViewport.scale - 1) < 0.01;
      document.documentElement.style.setProperty('--height', isKeyboard ? `${visualViewport.height}px` : '100dvh');
      document.body.classList.toggle('is-short', isKeyboard && visualViewport.height < SHORT_PX);
    };
    visualViewport.addEventListener('resize', follow);
    follow();
  }
}
