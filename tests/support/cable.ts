// A page that is a cable and nothing else: messages of boot/web/protocol go to the worker that people get, and what it says is kept. For tests of the
// worker's machine where it runs.

import { readFileSync } from 'node:fs';
import type { Answer, News, RunKind, ToPage } from '../../boot/web/protocol/messages.ts';

/** In the page, as globalThis.machine. */
export interface Cable {
  /** Throws an Error whose message is the refusal. */
  ask(call: string, ...args: readonly unknown[]): Promise<unknown>;
  /** What came to the terminal since the last time. */
  taken(): string;
  /** Types, and waits until everything in the machine waits. What came to the terminal. */
  enter(keys: string): Promise<string>;
  /** All news but output and the state. */
  readonly news: News[];
  /** The power goes. */
  cut(): void;
}

/** The worker's script on a served page. */
export function workerOf(url: string): string {
  const [version] = /[0-9a-f]{16}(?=\/page\.js)/.exec(readFileSync('build/web/index.html', 'utf8'))!;
  return `${url}${version}/worker.js`;
}

/** Run in a page: starts a worker and joins globalThis.machine to it. Asks are answered by number, output is acknowledged at once, and kept. */
export const cable = (script: string): void => {
  const worker = new Worker(script);
  const waiting = new Map<number, (answer: Answer) => void>();
  const decoder = new TextDecoder();
  const others: News[] = [];
  let output = '';
  let run: RunKind = 'off';
  let changed = (): void => {};
  let asked = 0;
  const ask = async (call: string, ...args: readonly unknown[]): Promise<unknown> => {
    const answer = await new Promise<Answer>(resolve => {
      waiting.set(++asked, resolve);
      worker.postMessage({ id: asked, call, args });
    });
    if ('refusal' in answer) throw new Error(answer.refusal);
    return answer.value;
  };
  const hear = (news: News): void => {
    if (news.news === 'output') {
      output += decoder.decode(news.bytes, { stream: true });
      void ask('shown', news.bytes.length).catch(() => {});
    } else if (news.news === 'state') {
      ({ run } = news);
      changed();
    } else others.push(news);
  };
  worker.addEventListener('error', ({ message }) => {
    for (const [id, answer] of waiting) answer({ id, refusal: message || 'the worker cannot be loaded' });
  });
  worker.addEventListener('message', ({ data }: MessageEvent<ToPage>) => {
    if (!('id' in data)) return hear(data);
    waiting.get(data.id)!(data);
    waiting.delete(data.id);
    return undefined;
  });
  const taken = (): string => {
    const text = output;
    output = '';
    return text;
  };
  const enter = async (keys: string): Promise<string> => {
    await ask('type', new TextEncoder().encode(keys));
    run = 'busy';
    await new Promise<void>(done => {
      changed = () => {
        if (run === 'idle') done();
      };
    });
    return taken();
  };
  const machine: Cable = { ask, taken, enter, news: others, cut: () => worker.terminate() };
  Object.assign(globalThis, { machine });
};
