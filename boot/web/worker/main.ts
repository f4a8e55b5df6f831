// The entry of the machine's worker: joins the service to the browser's messages, clock and timers.

import type { Ask, ToPage } from '../protocol/messages.ts';
import { late } from './late-script.ts';
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

/** What is fetched on demand comes soon after the first prompt all the same: a server that goes away then is not missed. */
const REST_MS = 500;
function fetchRest(): void {
  try {
    late();
  } catch {
    // The server is away already. Whoever needs the script asks again.
  }
}

self.addEventListener('message', ({ data }: MessageEvent<Ask>) => {
  const taken = service.take(data);
  if (data.call === 'powerOn') void taken.then(() => setTimeout(fetchRest, REST_MS));
});
