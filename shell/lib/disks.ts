// The disks as programs see them: /proc/disks by its columns, one line a disk, and the way to change one. A fault is written
// as its kind and the conditions under which it strikes: slow,x=4,every=3.

import { DISK_COLUMNS, DISK_FAULTS, DISK_SET, DiskOptions } from '../../kernel/abi/index.ts';
import type { RecordValue, Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';

/** Columns that are words; the others are numbers. */
const WORDS = ['name', 'number', 'source', 'mounts', 'model', 'title', 'faults'] as const;
type Word = (typeof WORDS)[number];
export type DiskRow = { readonly [K in (typeof DISK_COLUMNS)[number]]: K extends Word ? string : number };
export type DiskChange = RecordValue<typeof DiskOptions.fields>;

/** Every disk in the order of the kernel, or -errno. */
export function* readDisks(sys: Sys): Generator<void, DiskRow[] | number, void> {
  const text = yield* readText(sys, '/proc/disks');
  if (typeof text === 'number') return text;
  const [titles = '', ...lines] = text.trimEnd().split('\n');
  const names = titles.split('\t');
  return lines.map(line => {
    const cells = line.split('\t').map((cell, i) => {
      const name = names[i]!;
      return [name, (WORDS as readonly string[]).includes(name) ? cell : Number(cell)];
    });
    return Object.fromEntries(cells) as DiskRow;
  });
}

/** Directories that a disk is mounted on, as they are called. */
export function mountPoints(disk: DiskRow): string[] {
  return disk.mounts
    .split(' ')
    .filter(path => path !== '')
    .map(path => path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))));
}

/** Sets what `change` has: 0, or -errno. */
export function* changeDisk(sys: Sys, name: string, change: Partial<DiskChange>): Generator<void, number, void> {
  const record = new Uint8Array(DiskOptions.bytes);
  DiskOptions.write(record, 0, change);
  return yield* sys.disk(name, record);
}

/** `slow,x=4,every=3`, `error,bytes=0-4095`, `gone,next=10`: a fault, or what is wrong with the text. */
export function parseFault(text: string): Partial<DiskChange> | string {
  const [kind = '', ...conditions] = text.split(',');
  const fault = (DISK_FAULTS as readonly string[]).indexOf(kind);
  if (fault < 0) return `no fault '${kind}': ${DISK_FAULTS.join(', ')}`;
  const change = { set: DISK_SET.fault, fault, every: 1, next: 0, factor: 1, from: 0, to: Number.MAX_SAFE_INTEGER };
  if (kind === 'slow') change.factor = 10;
  for (const condition of conditions) {
    const [, name, first, last] = /^(every|next|x|bytes)=(\d+)(?:-(\d*))?$/.exec(condition) ?? [];
    const n = Number(first);
    if (name === undefined || (name === 'bytes') !== (last !== undefined) || !Number.isSafeInteger(n))
      return `'${condition}' is none of every=N, next=N, x=N and bytes=FROM-TO`;
    if (name === 'bytes') {
      change.from = n;
      if (last !== '') change.to = Number(last);
      if (!(change.to >= n)) return `'${condition}': TO lies before FROM`;
    } else if (n < 1 || n > 0xffffffff) return `'${condition}': from 1 to 4294967295`;
    else if (name === 'x' && kind !== 'slow') return `'${condition}' is for slow`;
    else if (name === 'x') change.factor = n;
    else if (name === 'every') change.every = n;
    else change.next = n;
  }
  return change;
}
