// The arena: the machine's whole memory, 8 MiB, one bump pointer. Regions are cut from low to high, `mark`/`release` give back everything
// above a point, `reset` is O(1), and after boot the arena is sealed: only regions named open may still grow. Figures (current, peak, per
// region) are exact because nothing else allocates. The idea is seL4's and TigerBeetle's: allocate at start, then never fail.

import { LIMITS, type ArenaView } from './abi/index.ts';

export interface Region {
  readonly name: string;
  readonly startAt: number;
  bytes: number;
}

/** A point to return to. */
export interface Mark {
  readonly offset: number;
  readonly regions: number;
}

export interface ArenaStats {
  readonly current_offset: number;
  readonly high_water_mark: number;
  readonly total_size: number;
  readonly allocation_count: number;
  readonly utilization: number; // percent
  readonly peak_utilization: number; // percent
}

export type ElementType = 'u8' | 'u16' | 'i32' | 'u32' | 'f32' | 'f64';
const elementBytes: Record<ElementType, number> = { u8: 1, u16: 2, i32: 4, u32: 4, f32: 4, f64: 8 };

export class Arena implements ArenaView {
  readonly buffer: ArrayBuffer;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly f32: Float32Array;
  readonly f64: Float64Array;
  readonly view: DataView;

  readonly capacity: number;
  private offset = 0;
  private highWater = 0;
  private windowHigh = 0;
  private count = 0;
  private open: ReadonlySet<string> | null = null; // regions that may grow once sealed
  private readonly list: Region[] = [];
  private readonly peaks = new Map<string, number>();

  /** `buffer` is the memory the compute device shares; its length is the arena's capacity. */
  constructor(buffer: ArrayBuffer) {
    this.buffer = buffer;
    this.capacity = buffer.byteLength;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.f32 = new Float32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.view = new DataView(buffer);
  }

  /** Address of `size` zeroed bytes, or -1 (and nothing changes): size 0, align not a power of two, no room, or sealed. */
  alloc(size: number, align: number = LIMITS.arenaAlign, region = 'heap'): number {
    if (!this.can_allocate(size, align)) return -1;
    if (this.open !== null && !this.open.has(region)) return -1;
    const at = alignUp(this.offset, align);
    this.offset = at + size;
    this.count++;
    this.highWater = Math.max(this.highWater, this.offset);
    this.windowHigh = Math.max(this.windowHigh, this.offset);
    this.u8.fill(0, at, at + size); // sessions must not see each other's data
    const last = this.list[this.list.length - 1];
    if (last !== undefined && last.name === region) last.bytes = this.offset - last.startAt;
    else this.list.push({ name: region, startAt: at, bytes: size });
    const r = this.list[this.list.length - 1]!;
    this.peaks.set(region, Math.max(this.peaks.get(region) ?? 0, r.bytes));
    return at;
  }

  /** Address of `n` zeroed elements, 32-byte aligned, or -1. */
  allocArray(type: ElementType, n: number, region = 'heap'): number {
    return this.alloc(n * elementBytes[type], LIMITS.arenaAlign, region);
  }

  can_allocate(size: number, align: number = LIMITS.arenaAlign): boolean {
    if (!Number.isSafeInteger(size) || size <= 0) return false;
    if (!Number.isSafeInteger(align) || align <= 0 || (align & (align - 1)) !== 0) return false;
    return alignUp(this.offset, align) + size <= this.capacity;
  }

  mark(): Mark {
    return { offset: this.offset, regions: this.list.length };
  }

  /** Gives back everything allocated since `mark`. Memory is not cleared: the next allocation clears what it takes. */
  release(mark: Mark): void {
    this.offset = mark.offset;
    this.list.length = mark.regions;
    const last = this.list[this.list.length - 1];
    if (last !== undefined) last.bytes = Math.min(last.bytes, this.offset - last.startAt);
  }

  /** O(1): the pointer returns to 0; high-water mark and allocation count stay. */
  reset(): void {
    this.release({ offset: 0, regions: 0 });
  }

  /** From now on only the named regions may be allocated. */
  seal(open: readonly string[]): void {
    this.open = new Set(open);
  }

  remaining(): number {
    return this.capacity - this.offset;
  }

  usage(): { offset: number; high_water: number } {
    return { offset: this.offset, high_water: this.highWater };
  }

  /** True when at least `percent` of the arena is in use. */
  is_near_capacity(percent: number): boolean {
    return this.offset * 100 >= this.capacity * percent;
  }

  stats(): ArenaStats {
    return {
      current_offset: this.offset,
      high_water_mark: this.highWater,
      total_size: this.capacity,
      allocation_count: this.count,
      utilization: (100 * this.offset) / this.capacity,
      peak_utilization: (100 * this.highWater) / this.capacity,
    };
  }

  /** The highest use since the last call, and starts a new window at the present use. */
  takeWindowPeak(): number {
    const peak = this.windowHigh;
    this.windowHigh = this.offset;
    return peak;
  }

  regions(): readonly Region[] {
    return this.list;
  }

  regionPeak(name: string): number {
    return this.peaks.get(name) ?? 0;
  }
}

/** The least multiple of `align` (a power of two) that is ≥ n; exact beyond 2³¹, unlike `&`. */
export function alignUp(n: number, align: number): number {
  const r = n % align;
  return r === 0 ? n : n + (align - r);
}
