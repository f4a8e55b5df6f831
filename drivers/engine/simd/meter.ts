// The meter of the kernels whose work depends on data: what they have spent since somebody took it, in thousandths of a cycle, and where the
// price of each of their straight stretches lies. The build puts the counting itself into the compiled module.

let spent: u64 = 0;
let prices: usize = 0;

/** See Compute.set_prices. */
export function set_prices(tableAt: usize): void {
  prices = tableAt;
}

/** Whole cycles spent since the last call, rounded up. */
@inline
export function take_spent_cycles(): u64 {
  const cycles = (spent + 999) / 1000;
  spent = 0;
  return cycles;
}

/** See Compute.take_spent. */
export function take_spent(): u32 {
  return <u32>take_spent_cycles();
}
