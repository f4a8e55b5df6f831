// The kernel log: lines with virtual timestamps, as dmesg prints them. A bounded ring; bookkeeping outside the arena.

import { LIMITS } from './abi/index.ts';

/** `[    1.234567] text` from virtual nanoseconds. */
export function stamp(ns: number, text: string): string {
  const micros = Math.floor(ns / 1000);
  const seconds = Math.floor(micros / 1_000_000);
  return `[${String(seconds).padStart(5)}.${String(micros % 1_000_000).padStart(6, '0')}] ${text}`;
}

export class KernelLog {
  private readonly lines: string[] = [];
  private bytes = 0;

  constructor(
    private readonly nowNs: () => number,
    /** Sees every line as it is written: the console during boot. */
    private readonly sink: (line: string) => void,
  ) {}

  print(text: string): void {
    const line = stamp(this.nowNs(), text);
    this.lines.push(line);
    this.bytes += line.length + 1;
    while (this.bytes > LIMITS.kernelLogBytes) this.bytes -= this.lines.shift()!.length + 1;
    this.sink(line);
  }

  text(): string {
    return this.lines.map(l => `${l}\n`).join('');
  }
}
