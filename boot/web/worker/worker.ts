// The script that the worker begins with, and a short one: what the machine is made of is asked for at once, so that it arrives and is compiled
// while the machine's own program is loaded. That program follows in one piece, before the first message is taken.

import { fetchAll, type Fetched, type Progress } from './fetched.ts';

declare global {
  /** Hears how far the first attempt has come, and gives what comes of it. */
  var arena8Fetching: ((progress: Progress) => Promise<Fetched>) | undefined;
}

let last: readonly [done: number, total: number] | null = null;
let tell: Progress = (...news) => void (last = news);
const first = fetchAll((...news) => tell(...news));
first.catch(() => {}); // whoever asks is told

globalThis.arena8Fetching = progress => {
  if (last !== null) progress(...last);
  tell = progress;
  return first;
};

importScripts('machine.js');
