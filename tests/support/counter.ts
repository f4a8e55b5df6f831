// The witness of certificates at work: an instrumented module on a memory of its own.

import { counterName, instrument } from '../../kernel/wcet/instrument.ts';
import { CLASSES, decodeModule } from '../../kernel/wcet/wasm.ts';

export class Counter {
  readonly u8: Uint8Array;
  readonly exports: Record<string, (...args: number[]) => number>;
  readonly word: (address: number) => number;
  readonly #counters: readonly WebAssembly.Global[];
  constructor(bytes: Uint8Array, pages = 128) {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.u8 = new Uint8Array(memory.buffer);
    const view = new DataView(memory.buffer);
    this.word = address => (address >= 0 && address <= this.u8.length - 4 ? view.getInt32(address, true) : -1);
    const instrumented = instrument(bytes, decodeModule(bytes));
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(instrumented)), {
      env: { memory },
    });
    this.exports = exports as Record<string, (...args: number[]) => number>;
    this.#counters = CLASSES.map(c => exports[counterName(c)] as WebAssembly.Global);
  }
  /** Runs a function and returns how often each class was executed. */
  count(name: string, args: readonly number[]): bigint[] {
    for (const c of this.#counters) c.value = 0n;
    this.exports[name]!(...args);
    return this.#counters.map(c => c.value as bigint);
  }
}
