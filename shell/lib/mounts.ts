// What is mounted where: /proc/mounts as programs read it.

import type { Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';

export interface Mount {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  readonly options: string; // `rw`, `ro`
}

/** Every mount in the order of mounting, or -errno. */
export function* mountTable(sys: Sys): Generator<void, Mount[] | number, void> {
  const text = yield* readText(sys, '/proc/mounts');
  if (typeof text === 'number') return text;
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => {
      const [source, target, type, options] = line.split(' ').map(unescape);
      return { source: source!, target: target!, type: type!, options: options! };
    });
}

/** A field of /proc/mounts: blanks and backslashes in it are written in octal. */
const unescape = (field: string): string =>
  field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
