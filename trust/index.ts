// Formats that outsiders check, and the arithmetic behind them: records in canonical JSON, Merkle trees, signed notes, tiles, envelopes, packages, keys,
// encryption to a reader. Pure functions over bytes; nothing here knows the machine. May import kernel/abi and the noble libraries.
export { canonical, parseCanonical } from './canonical.ts';
export type { Json, JsonObject } from './canonical.ts';
export * from './record.ts';
export * from './tree.ts';
