// Figures as a person reads them: the machine's own digits with commas, times and sizes in the unit that suits them.

/** 2628096 → `2,628,096`: as the shell prints counts. */
export function count(n: number): string {
  if (!Number.isFinite(n)) return '–';
  return String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ',');
}

const digits = (x: number): string => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2));

/** `2.51 MiB`; below a KiB `64 B`. */
export function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 2 ** 20 ? `${digits(bytes / 1024)} KiB` : `${digits(bytes / 2 ** 20)} MiB`;
}

/** `26.1 ms` of 26080000 ns. */
export function time(ns: number): string {
  if (!Number.isFinite(ns)) return '–';
  if (ns >= 1e9) return `${digits(ns / 1e9)} s`;
  if (ns >= 1e6) return `${digits(ns / 1e6)} ms`;
  return ns >= 1e3 ? `${digits(ns / 1e3)} µs` : `${ns} ns`;
}

/** A share of the whole: `31.3 %`; what is not 0 is never shown as 0. */
export function percent(share: number): string {
  if (share === 0) return '0 %';
  if (share < 0.001) return '< 0.1 %';
  return `${(share * 100).toFixed(1)} %`;
}

/** A probability as the shell prints it: `0.69%`. */
export const chance = (share: number): string => `${(share * 100).toFixed(2)}%`;
