// The time controls: the machine's clock stopped, let go, slowed down, or moved on by one op, one layer, one token, as a debugger does with a
// processor. What the machine computes is the same at every speed; only when it does is chosen here.

import type { Speed, StopAt } from '../protocol/messages.ts';
import { button, el, icon } from './dom.ts';

export interface TimeEvents {
  readonly speed: (speed: Speed) => void;
  readonly step: (at: StopAt) => void;
  readonly restart: () => void;
}

/** Ops of the plan in a second; 0: no limit. */
const PACES = [
  [0, 'Full speed'],
  [1000, '1000 ops/s'],
  [100, '100 ops/s'],
  [30, '30 ops/s'],
  [10, '10 ops/s'],
  [3, '3 ops/s'],
  [1, '1 op/s'],
] as const;

const STEPS = ['op', 'layer', 'token'] as const;

export class TimeControls {
  readonly #events: TimeEvents;
  readonly #pause = button('', () => this.toggle(), { class: 'pause', 'aria-keyshortcuts': 'F8' });
  readonly #pace = el(
    'select',
    { 'aria-label': 'Speed', onchange: () => this.#paced() },
    ...PACES.map(([ops, text]) => el('option', { value: ops }, text)),
  );
  #isPaused = false;

  constructor(group: HTMLElement, events: TimeEvents) {
    this.#events = events;
    const steps = STEPS.map(at =>
      button(at, () => this.step(at), {
        'aria-label': `Step one ${at}`,
        title: `Step one ${at}, then pause`,
        ...(at === 'op' ? { 'aria-keyshortcuts': 'F9' } : {}),
      }),
    );
    group.append(
      this.#pause,
      el(
        'div',
        { class: 'steps', role: 'group', 'aria-label': 'Step' },
        el('span', { class: 'muted', 'aria-hidden': 'true' }, 'Step'),
        el('span', { class: 'joined' }, ...steps),
      ),
      this.#pace,
      button(icon('again'), events.restart, { class: 'restart', 'aria-label': 'Restart…' }),
    );
    group.querySelector('.restart')!.append(el('span', {}, 'Restart…'));
    this.#show();
  }

  /** What a machine that has just been switched on is told. */
  again(): void {
    if (this.#isPaused || this.#pace.value !== '0') this.#tell();
  }

  toggle(): void {
    this.#isPaused = !this.#isPaused;
    this.#show();
    this.#tell();
  }

  step(at: StopAt): void {
    this.#isPaused = true;
    this.#show();
    this.#events.step(at);
  }

  /** Pace and pause are two things: one that is chosen while the machine is paused holds from when it runs. */
  #paced(): void {
    if (!this.#isPaused) this.#tell();
  }

  #tell(): void {
    const opsPerSecond = Number(this.#pace.value);
    if (this.#isPaused) this.#events.speed({ mode: 'pause' });
    else this.#events.speed(opsPerSecond > 0 ? { mode: 'pace', opsPerSecond } : { mode: 'run' });
  }

  #show(): void {
    const text = this.#isPaused ? 'Run' : 'Pause';
    this.#pause.replaceChildren(icon(this.#isPaused ? 'run' : 'pause'), el('span', {}, text));
    this.#pause.setAttribute('aria-label', text);
    this.#pause.classList.toggle('primary', this.#isPaused);
  }
}
