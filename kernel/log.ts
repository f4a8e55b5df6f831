// The kernel log: lines with virtual timestamps, as dmesg prints them. A bounded ring; bookkeeping outside the arena.

import { LIMITS } from './abi/index.ts';
import { ROOT } from '../vfs/permission.ts';

/** `[    1.234567] text` from virtual nanoseconds. */
export function stamp(ns: number, text: string): string {
  const micros = Math.floor(ns / 1000);
  const seconds = Math.floor(micros / 1_000_000);
  return `[${String(seconds).padStart(5)}.${String(micros % 1_000_000).padStart(6, '0')}] ${text}`;
}

export class KernelLog {
  private readonly lines: { readonly text: string; readonly uid: number | null }[] = [];
  private bytes = 0;

  constructor(
    private readonly nowNs: () => number,
    /** Sees every line as it is written: the console during boot. */
    private readonly sink: (line: string) => void,
  ) {}

  /** `uid`: whose business it is, beside the superuser's; null: everybody's. */
  print(text: string, uid: number | null = null): void {
    const line = stamp(this.nowNs(), text);
    this.lines.push({ text: line, uid });
    this.bytes += line.length + 1;
    while (this.bytes > LIMITS.kernelLogBytes) this.bytes -= this.lines.shift()!.text.length + 1;
    this.sink(line);
  }

  /** As a user sees it. */
  text(reader: number): string {
    const seen = this.lines.filter(({ uid }) => uid === null || uid === reader || reader === ROOT.euid);
    return seen.map(l => `${l.text}\n`).join('');
  }
}
