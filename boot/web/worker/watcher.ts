// What the panel is shown of the machine while it runs: files of /proc and /audit, new records of /dev/trace, a look into the last step. All of it
// is read from outside, as a logic analyser reads a bus: no time passes in the machine, and not a byte of it changes.

import { isRefusal, utf8Decode } from '../../../kernel/abi/index.ts';
import type { Machine } from '../../machine.ts';
import type { News, Watch } from '../protocol/messages.ts';
import type { Ground } from './host.ts';
import { Later } from './later.ts';

export class Watcher {
  #watch: Watch | null = null;
  #seen = new Map<string, string>();
  #probe = '';
  #traceTotal = 0;
  #lookedMs = -Infinity;
  #isStale = false;
  readonly #later: Later;

  constructor(
    private readonly ground: Ground,
    private readonly machine: () => Machine | null,
  ) {
    this.#later = new Later(ground, () => {
      if (this.#isStale) this.moved();
    });
  }

  /** From now on these are looked at; all of them are told once. */
  set(watch: Watch): void {
    if (watch.trace && this.#watch?.trace !== true) this.#traceTotal = 0;
    this.#watch = watch;
    this.#seen.clear();
    this.#probe = '';
    this.#lookedMs = -Infinity;
    this.moved();
  }

  /** Another machine: nothing of it has been seen. */
  restart(): void {
    this.#seen.clear();
    this.#probe = '';
    this.#traceTotal = 0;
    this.moved();
  }

  /** The machine may have changed. */
  moved(): void {
    if (this.#watch === null) return;
    this.#isStale = true;
    const waitMs = this.#lookedMs + this.#watch.everyMs - this.ground.nowMs();
    if (waitMs <= 0) this.#tryToLook();
    else this.#later.in(waitMs);
  }

  /** A look that fails is a defect, but of the looking: the machine goes on, unwatched. */
  #tryToLook(): void {
    try {
      this.#look();
    } catch (error) {
      this.#watch = null;
      this.ground.tell({ news: 'trouble', text: `The machine can no longer be watched: ${(error as Error).message}.` });
    }
  }

  #look(): void {
    const machine = this.machine();
    const watch = this.#watch;
    if (machine === null || watch === null) return;
    this.#isStale = false;
    this.#lookedMs = this.ground.nowMs();
    const files = this.#changed(machine, watch.paths);
    const trace = watch.trace ? machine.traceSince(this.#traceTotal) : null;
    if (trace !== null) this.#traceTotal = trace.total;
    const probe = this.#probed(machine, watch);
    const bytes = trace === null || trace.bytes.length === 0 ? null : trace.bytes;
    if (Object.keys(files).length === 0 && bytes === null && probe === null) return;
    const news: News = { news: 'seen', files, trace: bytes, traceDropped: trace?.dropped ?? 0, probe };
    this.ground.tell(news);
  }

  /** Texts that are not what they were. A file that is not there, or not now, is empty. */
  #changed(machine: Machine, paths: readonly string[]): Record<string, string> {
    const changed: Record<string, string> = {};
    for (const path of paths) {
      const bytes = machine.observe(path);
      const text = typeof bytes === 'number' ? '' : utf8Decode(bytes, 0, bytes.length);
      if (this.#seen.get(path) === text) continue;
      this.#seen.set(path, text);
      changed[path] = text;
    }
    return changed;
  }

  /** The look into the last step as JSON; a refusal is `{"refused": "why"}`. Null: none wanted, or it shows what it showed. */
  #probed(machine: Machine, watch: Watch): string | null {
    if (watch.probe === null) return null;
    const probed = machine.probe(watch.probe);
    const text = isRefusal(probed) ? JSON.stringify({ refused: probed.message }) : probed;
    if (text === this.#probe) return null;
    this.#probe = text;
    return text;
  }
}
