// The page's end of the cable to the machine: it starts the worker, numbers what is asked, hands news to whoever listens, and notices when the
// other end has gone — a worker that was killed says nothing, so silence is measured by counting its missed beats, not by the clock: a page
// that slept with its computer must not think that the machine has died.

import type { Ask, Calls, News, ToPage } from '../protocol/messages.ts';

/** A pending call. */
interface Pending {
  readonly resolve: (value: never) => void;
  readonly reject: (reason: Refused) => void;
}

/** What the machine answers when it cannot: `message` is one line for a person. */
export class Refused extends Error {}

/** What becomes of the worker: it answers; it has been silent for some seconds, and may come back; it has ended, and why. */
export type Health =
  { readonly is: 'well' } | { readonly is: 'silent' } | { readonly is: 'dead'; readonly why: string };

const beatMs = 1000;
/** Beats without any message before it is said. */
const beatsMissedMax = 5;

export class Client {
  readonly #makeWorker: () => Worker;
  readonly #listeners = new Set<(news: News) => void>();
  readonly #healthListeners = new Set<(health: Health) => void>();
  #pending = new Map<number, Pending>();
  #worker: Worker | null = null;
  #nextId = 1;
  #beats = 0; // since the last message
  #health: Health = { is: 'dead', why: 'it has not been started' };

  constructor(makeWorker: () => Worker) {
    this.#makeWorker = makeWorker;
    setInterval(() => this.#beat(), beatMs);
  }

  get health(): Health {
    return this.#health;
  }

  /** A new worker in place of the old one, if any; what was pending is refused. */
  start(): void {
    this.end('it has been switched off');
    const worker = this.#makeWorker();
    const isOurs = (): boolean => worker === this.#worker;
    worker.addEventListener('message', ({ data }: MessageEvent<ToPage>) => isOurs() && this.#receive(data));
    worker.addEventListener('messageerror', () => isOurs() && this.end('a message from it could not be read'));
    worker.addEventListener('error', event => {
      event.preventDefault();
      if (isOurs()) this.end(event.message ? event.message : 'its program could not be loaded');
    });
    this.#worker = worker;
    this.#beats = 0;
    this.#setHealth({ is: 'well' });
  }

  /** The worker is no more; everything pending is refused with `why`. */
  end(why: string): void {
    if (this.#worker === null) return;
    this.#worker.terminate();
    this.#worker = null;
    const pending = this.#pending;
    this.#pending = new Map();
    for (const { reject } of pending.values()) reject(new Refused(`The machine is gone: ${why}.`));
    this.#setHealth({ is: 'dead', why });
  }

  /** Asks the machine. Rejects with Refused; every caller says so to the person, or does not care. */
  ask<N extends keyof Calls>(call: N, ...args: Parameters<Calls[N]>): Promise<ReturnType<Calls[N]>> {
    const worker = this.#worker;
    if (worker === null) return Promise.reject(new Refused('The machine is off.'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      worker.postMessage({ id, call, args } as unknown as Ask);
    });
  }

  /** As ask, for what needs no answer: a refusal of it is nobody's business. */
  tell<N extends keyof Calls>(call: N, ...args: Parameters<Calls[N]>): void {
    this.ask(call, ...args).catch(() => {});
  }

  /** Calls back with everything the machine tells by itself. */
  on(listener: (news: News) => void): void {
    this.#listeners.add(listener);
  }

  onHealth(listener: (health: Health) => void): void {
    this.#healthListeners.add(listener);
  }

  #receive(message: ToPage): void {
    this.#beats = 0;
    if (this.#health.is === 'silent') this.#setHealth({ is: 'well' });
    if ('news' in message) {
      for (const listener of this.#listeners) listener(message);
      return;
    }
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if ('refusal' in message) pending?.reject(new Refused(message.refusal));
    else pending?.resolve(message.value as never);
  }

  /** A question that costs nothing, now and then: whoever lives answers it between two slices of work. */
  #beat(): void {
    if (this.#worker === null) return;
    if (this.#beats === 0) this.tell('shown', 0);
    if (++this.#beats > beatsMissedMax && this.#health.is === 'well') this.#setHealth({ is: 'silent' });
  }

  #setHealth(health: Health): void {
    this.#health = health;
    for (const listener of this.#healthListeners) listener(health);
  }
}
