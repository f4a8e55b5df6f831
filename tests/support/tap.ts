// A tap on the cable of a real page: what the machine's worker says is kept, and the worker may be asked something more, while the page goes on as if
// nobody listened.

import type { Ask, PowerOn, PoweredOn, RunKind, ToPage } from '../../boot/web/protocol/messages.ts';

/** In the page, as globalThis.tap. */
export interface Tap {
  /** Output since power-on, or since it was last emptied. */
  text: string;
  readonly run: RunKind;
  readonly powerOn: PowerOn;
  /** null: not yet at its prompt. */
  readonly poweredOn: PoweredOn | null;
  /** Of the terminal, other than at power-on. */
  readonly sizes: readonly (readonly unknown[])[];
  ask(call: string, ...args: readonly unknown[]): Promise<unknown>;
}

/** Run before any script of the page. `settings`: those that somebody has chosen, as JSON. */
export function tap(settings: string): void {
  try {
    localStorage.setItem('arena8', settings);
  } catch {
    // A blank page has no storage.
  }
  const decoder = new TextDecoder();
  const kept = { text: '', run: 'off', powerOn: null as unknown, poweredOn: null as unknown, sizes: [] as unknown[] };
  const waiting = new Map<unknown, (message: ToPage) => void>();
  let powerOnId = -1;
  globalThis.Worker = class extends Worker {
    constructor(script: string | URL, options?: WorkerOptions) {
      super(script, options);
      this.addEventListener('message', event => this.hear(event as MessageEvent<ToPage>));
      const ask = (call: string, ...args: readonly unknown[]): Promise<unknown> =>
        new Promise(resolve => {
          const id = `tap ${waiting.size}`;
          waiting.set(id, message => resolve((message as { value: unknown }).value));
          super.postMessage({ id, call, args });
        });
      Object.assign(globalThis, { tap: Object.assign(kept, { ask }) });
    }

    private hear(event: MessageEvent<ToPage>): void {
      const { data } = event;
      if ('news' in data) {
        if (data.news === 'output') kept.text += decoder.decode(data.bytes, { stream: true });
        if (data.news === 'state') kept.run = data.run;
      } else if (data.id === powerOnId && 'value' in data) kept.poweredOn = data.value;
      else if (waiting.has(data.id)) {
        event.stopImmediatePropagation(); // the page has not asked
        waiting.get(data.id)!(data);
      }
    }

    override postMessage(message: Ask): void {
      if (message.call === 'powerOn') {
        [kept.powerOn] = message.args;
        powerOnId = message.id;
        kept.text = '';
      }
      if (message.call === 'resize') kept.sizes.push(message.args);
      super.postMessage(message);
    }
  };
}
