// Code on demand, as an operating system pages its programs in: the shell and what the boot script runs are in the machine's script; all other
// programs, the manual, the template device and rare cryptography come when the machine first asks for one. It asks in the middle of a system call and is
// answered there: a worker may load a script and wait for it. The machine cannot tell.

import type { Entry, ProgramTable } from '../../../kernel/abi/index.ts';
import type { Manual } from '../../../shell/lib/program.ts';
import { llminfer } from '../../../shell/bin/llminfer.ts';
import { sh } from '../../../shell/sh/sh.ts';
import type { Parts } from '../../machine.ts';
import { late } from './late-script.ts';

/** A map that is there when it is first read. */
class LateMap<V> implements ReadonlyMap<string, V> {
  constructor(
    private readonly whole: () => ReadonlyMap<string, V>,
    private readonly early: ReadonlyMap<string, V> = new Map(),
  ) {}
  get size(): number {
    return this.whole().size;
  }
  get(key: string): V | undefined {
    return this.early.get(key) ?? this.whole().get(key);
  }
  has(key: string): boolean {
    return this.early.has(key) || this.whole().has(key);
  }
  forEach(callback: (value: V, key: string, map: ReadonlyMap<string, V>) => void): void {
    this.whole().forEach(callback);
  }
  entries(): MapIterator<[string, V]> {
    return this.whole().entries();
  }
  keys(): MapIterator<string> {
    return this.whole().keys();
  }
  values(): MapIterator<V> {
    return this.whole().values();
  }
  [Symbol.iterator](): MapIterator<[string, V]> {
    return this.entries();
  }
}

const manual: Manual = new LateMap(() => late().manual);
const early = new Map<string, Entry>([sh, llminfer].map(program => [program.name, program.entry(manual)]));
const programs: ProgramTable = new LateMap(() => late().programs, early);

export const lateParts: Pick<Parts, 'programs' | 'templates'> = {
  programs,
  templates: { render: (...request) => late().templates.render(...request) },
};
