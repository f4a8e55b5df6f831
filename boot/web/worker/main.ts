// The entry of the machine's worker: joins the service to the browser's messages, clock and timers.

import type { Ask, ToPage } from '../protocol/messages.ts';
import { Service } from './service.ts';
import { openStorage } from './storage.ts';
import { supplies } from './supplies.ts';

declare const self: DedicatedWorkerGlobalScope;

/** A message to oneself: it comes behind those that have arrived, and without the 4 ms that timers take. */
const loop = new MessageChannel();
const due: (() => void)[] = [];
loop.port1.addEventListener('message', () => due.shift()!());
loop.port1.start();

/** Bytes that go for good need not be copied. */
function post(message: ToPage): void {
  const bytes =
    'news' in message && message.news === 'output'
      ? message.bytes
      : 'news' in message && message.news === 'seen'
        ? message.trace
        : null;
  self.postMessage(message, bytes === null ? [] : [bytes.buffer]);
}

const service = new Service({
  post,
  nowMs: () => performance.now(),
  soon: turn => {
    due.push(turn);
    loop.port2.postMessage(null);
  },
  later: (ms, turn) => {
    const timer = setTimeout(turn, ms);
    return () => clearTimeout(timer);
  },
  supplies,
  openStorage,
});

self.addEventListener('message', ({ data }: MessageEvent<Ask>) => void service.take(data));
