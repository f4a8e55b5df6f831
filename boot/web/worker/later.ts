// One thing that is to happen soon, however often it is asked for: news and looks that would otherwise come faster than anybody sees them.

import type { Ground } from './host.ts';

export class Later {
  #dueMs = Infinity;
  #takeBack = (): void => {};

  constructor(
    private readonly ground: Pick<Ground, 'nowMs' | 'later'>,
    private readonly happen: () => void,
  ) {}

  /** After so many milliseconds, unless it is due before that. */
  in(ms: number): void {
    const dueMs = this.ground.nowMs() + ms;
    if (dueMs >= this.#dueMs) return;
    this.#takeBack();
    this.#dueMs = dueMs;
    this.#takeBack = this.ground.later(ms, () => {
      this.#dueMs = Infinity;
      this.happen();
    });
  }
}
