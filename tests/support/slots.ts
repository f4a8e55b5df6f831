// Slot files in memory, on a disk whose power can be cut and that can be full: after so many operations that change it, before, in the middle of
// or behind one, everything fails, and what had been written is what the next machine finds. A lazy disk keeps for sure only what was flushed:
// of the rest, by sectors, what the seed says.

import { E, isRefusal } from '../../kernel/abi/index.ts';
import { SlotDirectory, type SlotFile } from '../../boot/slot-directory.ts';
import { PowerCut, type Cut } from './power.ts';

const SECTOR_BYTES = 512;

interface Stored {
  bytes: Uint8Array;
  /** As of the last flush. */
  safe: Uint8Array;
}

export class Slots {
  private readonly files = new Map<string, Stored>();
  /** Operations that changed something. */
  operations = 0;
  /** Operation at which the power goes; Infinity: never. */
  cutAt = Infinity;
  cut: Cut = 'behind';
  /** Of all files together. */
  capacity = Infinity;

  constructor(files: ReadonlyMap<string, Uint8Array> = new Map()) {
    for (const [name, bytes] of files) this.files.set(name, { bytes: bytes.slice(), safe: bytes.slice() });
  }

  /** What the next machine finds; with `random`, of a lazy disk. */
  survivor(random?: (n: number) => number): Slots {
    const found = (stored: Stored): Uint8Array => (random === undefined ? stored.bytes : partly(stored, random));
    return new Slots(new Map([...this.files].map(([name, stored]) => [name, found(stored)])));
  }

  get usedBytes(): number {
    let sum = 0;
    for (const { bytes } of this.files.values()) sum += bytes.length;
    return sum;
  }

  /** Changes bytes by hand, as a damaged disk does. */
  damage(name: string, change: (bytes: Uint8Array) => void): void {
    change(this.files.get(name)!.bytes);
  }

  bytesOf(name: string): Uint8Array | undefined {
    return this.files.get(name)?.bytes;
  }

  private act(change: (torn: boolean) => number): number {
    if (this.operations > this.cutAt) throw new PowerCut();
    const last = this.operations++ === this.cutAt;
    if (last && this.cut === 'before') throw new PowerCut();
    const status = change(last && this.cut === 'torn');
    if (last) throw new PowerCut();
    return status;
  }

  /** The file of that name, made when it is missing. */
  file(name: string): SlotFile {
    let stored = this.files.get(name);
    if (stored === undefined) this.files.set(name, (stored = { bytes: new Uint8Array(0), safe: new Uint8Array(0) }));
    const of = stored;
    return {
      size: () => of.bytes.length,
      read: (position, into, at, length) => {
        const piece = of.bytes.subarray(position, position + length);
        into.set(piece, at);
        return piece.length;
      },
      write: (position, from, at, length) =>
        this.act(torn => {
          const room = this.capacity - this.usedBytes + of.bytes.length - position;
          if (room <= 0) return -E.NOSPC;
          const piece = from.subarray(at, at + Math.min(room, torn ? length >> 1 : length));
          const now = new Uint8Array(Math.max(of.bytes.length, position + piece.length));
          now.set(of.bytes);
          now.set(piece, position);
          of.bytes = now;
          return piece.length;
        }),
      truncate: size =>
        this.act(torn => {
          if (this.usedBytes - of.bytes.length + size > this.capacity) return -E.NOSPC;
          const now = new Uint8Array(torn ? (of.bytes.length + size) >> 1 : size);
          now.set(of.bytes.subarray(0, now.length));
          of.bytes = now;
          return 0;
        }),
      flush: () => {
        of.safe = of.bytes.slice();
        return 0;
      },
    };
  }

  /** A tree in these files, with so many files at most. Throws what refuses it. */
  directory(slotsMost = 100, journalBytes?: number, source = 'slots'): SlotDirectory {
    const opened = SlotDirectory.open({
      source,
      journals: [this.file('journal-a'), this.file('journal-b')],
      slotsMost,
      close: () => {},
      ...(journalBytes === undefined ? {} : { journalBytes }),
    });
    if (isRefusal(opened)) throw new Error(opened.message);
    for (const slot of opened.slotsTaken()) opened.add(slot, this.file(`${slot}`));
    this.settle(opened);
    return opened;
  }

  /** As the host does between two rounds: opens late slots, and some to spare. */
  settle(directory: SlotDirectory): void {
    for (const slot of directory.slotsLate()) directory.add(slot, this.file(`${slot}`));
    for (let slot = 0; directory.spares < SPARES && slot >= 0;)
      if ((slot = directory.reserve()) >= 0) directory.add(slot, this.file(`${slot}`));
  }
}

const SPARES = 3;

/** Some sectors as they were when the file was last flushed, the others as they were written; so also the length. */
function partly({ bytes, safe }: Stored, random: (n: number) => number): Uint8Array {
  const now = new Uint8Array(random(2) === 0 ? bytes.length : safe.length);
  for (let at = 0; at < now.length; at += SECTOR_BYTES) {
    const sector = (random(2) === 0 ? bytes : safe).subarray(at, at + SECTOR_BYTES);
    now.set(sector.subarray(0, now.length - at), at);
  }
  return now;
}
