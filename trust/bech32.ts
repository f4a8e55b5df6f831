// Bech32 (BIP 173) without its limit on the length: how age writes keys. Five bits a character, and a checksum that finds up to four
// wrong ones; all in lower case or all in upper case.

const CHARACTERS = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
const CHECKSUM = 6;

/** `prefix` (in lower case), a 1, the data, the checksum. */
export function toBech32(prefix: string, bytes: Uint8Array): string {
  const data = regrouped(bytes, 8, 5)!;
  const rest = polymod([...expanded(prefix), ...data, 0, 0, 0, 0, 0, 0]) ^ 1;
  const checksum = Array.from({ length: CHECKSUM }, (_, i) => (rest >>> (5 * (5 - i))) & 31);
  return `${prefix}1${[...data, ...checksum].map(value => CHARACTERS[value]!).join('')}`;
}

/** The bytes behind `prefix`, or null when anything is wrong. */
export function fromBech32(prefix: string, text: string): Uint8Array | null {
  const lower = text.toLowerCase();
  if (text !== lower && text !== text.toUpperCase()) return null;
  if (!lower.startsWith(`${prefix}1`)) return null;
  const values = Array.from(lower.slice(prefix.length + 1), c => CHARACTERS.indexOf(c));
  if (values.length < CHECKSUM || values.includes(-1)) return null;
  if (polymod([...expanded(prefix), ...values]) !== 1) return null;
  return regrouped(values.slice(0, -CHECKSUM), 5, 8);
}

function expanded(prefix: string): number[] {
  const codes = [...prefix].map(c => c.charCodeAt(0));
  return [...codes.map(c => c >> 5), 0, ...codes.map(c => c & 31)];
}

/** The remainder of the values as a polynomial over GF(32). */
function polymod(values: readonly number[]): number {
  let sum = 1;
  for (const value of values) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    for (const [i, term] of GENERATOR.entries()) if ((top >> i) & 1) sum ^= term;
  }
  return sum >>> 0;
}

/** Groups of `from` bits as groups of `to`. Towards fewer the last is filled with zeros; towards more what is left must be zeros, less than a group. */
function regrouped(values: Iterable<number>, from: number, to: number): Uint8Array | null {
  const groups: number[] = [];
  let [word, bits] = [0, 0];
  for (const value of values) {
    word = ((word << from) | value) & 0xfff;
    for (bits += from; bits >= to; bits -= to) groups.push((word >> (bits - to)) & ((1 << to) - 1));
  }
  const rest = word & ((1 << bits) - 1);
  if (to < from && bits > 0) groups.push((rest << (to - bits)) & 31);
  else if (bits >= from || rest !== 0) return null;
  return Uint8Array.from(groups);
}
