// Formats that outsiders check, and the arithmetic behind them: records in canonical JSON, Merkle trees, signed notes, tiles, envelopes, packages, keys,
// encryption to a reader. Pure functions over bytes; nothing here knows the machine. May import kernel/abi and the noble libraries.
export { ageDecrypt, ageEncrypt, formatIdentity, formatRecipient, parseIdentity, parseRecipient } from './age.ts';
export {
  HASH_BYTES,
  fromBase64,
  fromHex,
  joined,
  malformed,
  sameBytes,
  sha256,
  toBase64,
  toHex,
  unproven,
} from './bytes.ts';
export type { Sha256 } from './bytes.ts';
export { canonical, parseCanonical, parseJson } from './canonical.ts';
export type { Json, JsonObject } from './canonical.ts';
export * from './checkpoint.ts';
export * from './dsse.ts';
export * from './keys.ts';
export * from './note.ts';
export * from './oms.ts';
export * from './package.ts';
export * from './record.ts';
export * from './tiles.ts';
export * from './tree.ts';
export * from './verify.ts';
