// The meter's registers. Kernels whose cost depends on data count what they spend while they run: the build step of kernel/wcet/meter.ts adds
// to each of their straight-line stretches the price found in a table of the arena. Here are the sum, the table's address, and the calls that
// read and set them; only rewritten functions add. The two globals are exported so that the build finds them; the shipped module hides them.

/** Thousandths of a cycle. */
export let spent: u64 = 0;
/** u32 thousandths of a cycle, one for each block of kernel/wcet/meter.ts. */
export let prices: usize = 0;

/** See Compute.set_prices. */
export function set_prices(at: usize): void {
  prices = at;
}

/** `spent` in whole cycles, rounded up. Divided by hand: the targets' prices know no 64-bit division, and the executor calls this. */
function cycles(): u64 {
  const all = spent + 999;
  const high = <u32>(all >> 32);
  const middle = ((high % 1000) << 16) | (<u32>all >> 16);
  const low = ((middle % 1000) << 16) | (<u32>all & 0xffff);
  return (<u64>(high / 1000) << 32) | (<u64>(middle / 1000) << 16) | <u64>(low / 1000);
}

/** What was spent since the last call, in whole cycles, rounded up. */
export function take_spent_cycles(): u64 {
  const taken = cycles();
  spent = 0;
  return taken;
}

/** See Compute.take_spent. */
export function take_spent(): i32 {
  const whole = cycles();
  const taken = min<u64>(whole, u32.MAX_VALUE);
  spent = whole > taken ? spent - taken * 1000 : 0;
  return <i32>taken;
}
