// The formats that outsiders check, against their specifications' own examples and against other people's programs: Go's x/mod
// (tests/outside/formats.go), openssl, node:crypto, Debian's age. What is damaged must be refused, at every place.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import fc from 'fast-check';
import { createHash } from 'node:crypto';
import { isRefusal } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import {
  HashMemory,
  Tree,
  canonical,
  leafHash,
  parseCanonical,
  storedCount,
  storedIndex,
  verifyConsistency,
  verifyInclusion,
} from '../trust/index.ts';
import type { Json } from '../trust/index.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytesOf = (hexText: string): Uint8Array => new Uint8Array(Buffer.from(hexText, 'hex'));
const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

/** The value, where a refusal would be a mistake of the test. */
function good<T>(value: T | Refusal): T {
  if (isRefusal(value)) throw new Error(value.message);
  return value;
}
function refusedAs(t: ExecutionContext, value: unknown, message: RegExp): void {
  if (isRefusal(value)) t.regex(value.message, message);
  else t.fail(`not refused: ${message}`);
}

// ---- RFC 8785 ----

test('canonical JSON: the examples of RFC 8785', t => {
  const text = (value: Json): string => Buffer.from(good(canonical(value))).toString();
  const input =
    '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],' +
    '"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}';
  t.is(
    text(JSON.parse(input)),
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
      '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  );
  const names = ['\u20ac', '\r', '\ufb33', '1', '\ud83d\ude00', '\u0080', '\u00f6'];
  t.is(
    text(Object.fromEntries(names.map((name, i) => [name, i]))),
    '{"\\r":1,"1":3,"\u0080":5,"\u00f6":6,"\u20ac":0,"\ud83d\ude00":4,"\ufb33":2}',
  );
  // Appendix B
  for (const [bits, want] of [
    ['0000000000000000', '0'],
    ['8000000000000000', '0'],
    ['0000000000000001', '5e-324'],
    ['8000000000000001', '-5e-324'],
    ['7fefffffffffffff', '1.7976931348623157e+308'],
    ['ffefffffffffffff', '-1.7976931348623157e+308'],
    ['4340000000000000', '9007199254740992'],
    ['c340000000000000', '-9007199254740992'],
    ['4430000000000000', '295147905179352830000'],
    ['44b52d02c7e14af5', '9.999999999999997e+22'],
    ['44b52d02c7e14af6', '1e+23'],
    ['44b52d02c7e14af7', '1.0000000000000001e+23'],
    ['444b1ae4d6e2ef4e', '999999999999999700000'],
    ['444b1ae4d6e2ef4f', '999999999999999900000'],
    ['444b1ae4d6e2ef50', '1e+21'],
    ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
    ['3eb0c6f7a0b5ed8d', '0.000001'],
    ['41b3de4355555553', '333333333.3333332'],
    ['41b3de4355555554', '333333333.33333325'],
    ['41b3de4355555555', '333333333.3333333'],
    ['41b3de4355555556', '333333333.3333334'],
    ['41b3de4355555557', '333333333.33333343'],
    ['becbf647612f3696', '-0.0000033333333333333333'],
    ['43143ff3c1cb0959', '1424953923781206.2'],
  ] as const)
    t.is(text(Buffer.from(bits, 'hex').readDoubleBE()), want);
  refusedAs(t, canonical({ a: [0, Number.NaN] }), /^JSON\.a\[1\]: NaN$/);
  refusedAs(t, canonical([Infinity]), /^JSON\[0\]: Infinity$/);
  refusedAs(t, canonical({ s: 'x\ud83d' }), /^JSON\.s: half a surrogate pair$/);
  refusedAs(t, canonical(JSON.parse('['.repeat(40) + ']'.repeat(40))), /more than 32 levels/);
});

test('canonical JSON: what is read is what would have been written, and nothing else', t => {
  const json = fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<Json>;
  const strings = fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' })) as fc.Arbitrary<Json>;
  fc.assert(
    fc.property(fc.oneof(json, strings, fc.double({ noNaN: true, noDefaultInfinity: true })), value => {
      const bytes = good(canonical(value));
      t.deepEqual(good(canonical(good(parseCanonical(bytes)).value)), bytes);
      t.deepEqual(JSON.parse(Buffer.from(bytes).toString()), JSON.parse(JSON.stringify(value)));
    }),
    { numRuns: 500 },
  );
  // Any bytes near canonical ones: either refused, or written back the same.
  fc.assert(
    fc.property(json, fc.nat(), fc.nat(255), fc.constantFrom('set', 'cut', 'insert'), (value, place, byte, how) => {
      const bytes = [...good(canonical(value))];
      const at = place % bytes.length;
      if (how === 'set') bytes[at] = byte;
      else if (how === 'cut') bytes.splice(at, 1);
      else bytes.splice(at, 0, byte);
      const changed = Uint8Array.from(bytes);
      const parsed = parseCanonical(changed);
      if (!isRefusal(parsed)) t.deepEqual(good(canonical(parsed.value)), changed);
    }),
    { numRuns: 2000 },
  );
  for (const [text, message] of [
    ['', /^JSON, byte 0: not a value$/],
    [' 1', /byte 0/],
    ['1 ', /^JSON, byte 1: the value ended before$/],
    ['{"b":1,"a":2}', /^JSON, byte 7: names are not in order$/],
    ['{"a":1,"a":2}', /^JSON, byte 7: names are not in order$/],
    ['{"é":1.0}', /^JSON, byte 6: not a number in canonical form$/],
    ['[1,]', /byte 3/],
    ['[-0]', /byte 1/],
    ['[1E3]', /byte 2/],
    ['"\\/"', /^JSON, byte 1: not an escape of canonical form$/],
    ['"\\u000a"', /byte 1/],
    ['"\\u001F"', /byte 1/],
    ['"\\ud800"', /byte 1/],
    ['"\n"', /byte 1/],
    ['"abc', /byte 4/],
    ['{"a"}', /^JSON, byte 4: no :$/],
    ['[[[[', /byte 4/],
    ['['.repeat(50), /^JSON, byte 33: more than 32 levels$/],
    ['nul', /byte 0/],
  ] as const)
    refusedAs(t, parseCanonical(utf8(text)), message);
  refusedAs(t, parseCanonical(Uint8Array.of(0x22, 0xc0, 0x80, 0x22)), /^JSON, byte 1: not UTF-8$/);
  refusedAs(t, parseCanonical(new Uint8Array(2 ** 20 + 1)), /at most 1048576/);
  const names = good(parseCanonical(utf8('{"__proto__":{"errno":1,"message":""}}'))).value;
  t.is(Buffer.from(good(canonical(names))).toString(), '{"__proto__":{"errno":1,"message":""}}');
});

// ---- RFC 6962 ----

const CT_LEAVES: readonly string[] = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'];
const CT_ROOTS = [
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
];

/** RFC 6962 §2.1 word for word, over the records themselves. */
function merkle(records: readonly Uint8Array[]): Buffer {
  const sum = (...parts: Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest();
  if (records.length === 0) return sum();
  if (records.length === 1) return sum(Uint8Array.of(0), records[0]!);
  let k = 1;
  while (k * 2 < records.length) k *= 2;
  return sum(Uint8Array.of(1), merkle(records.slice(0, k)), merkle(records.slice(k)));
}

function treeOf(size: number): { tree: Tree; records: Uint8Array[]; hashes: HashMemory } {
  const hashes = new HashMemory();
  const tree = new Tree(hashes);
  const records = Array.from({ length: size }, (_, i) => utf8(`record ${i}`));
  for (const record of records) tree.append(leafHash(record));
  return { tree, records, hashes };
}

test('Merkle tree: the roots and proofs of the Certificate Transparency vectors', t => {
  const tree = new Tree();
  t.is(hex(tree.root()), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  for (const [i, leaf] of CT_LEAVES.entries()) {
    tree.append(leafHash(bytesOf(leaf)));
    t.is(hex(tree.root()), CT_ROOTS[i]!);
  }
  // The paths and proofs of RFC 6962 §2.1.3, by the names of its drawing: a–j are the hashes of the tree of seven.
  const [a, b, c, d, e, f, j] = [0, 1, 2, 3, 4, 5, 6].map(i => leafHash(bytesOf(CT_LEAVES[i] ?? '')));
  const node = (x: Uint8Array, y: Uint8Array): Uint8Array =>
    new Uint8Array(createHash('sha256').update(Uint8Array.of(1)).update(x).update(y).digest());
  const [g, h, i] = [node(a!, b!), node(c!, d!), node(e!, f!)];
  const [k, l] = [node(g, h), node(i, j!)];
  const inclusion = (n: number): readonly Uint8Array[] => good(tree.inclusion(n, 7));
  t.deepEqual(inclusion(0), [b!, h, l]);
  t.deepEqual(inclusion(3), [c!, g, l]);
  t.deepEqual(inclusion(4), [f!, j!, k]);
  t.deepEqual(inclusion(6), [i, k]);
  t.deepEqual(good(tree.consistency(3, 7)), [c!, d!, g, l]);
  t.deepEqual(good(tree.consistency(4, 7)), [l]);
  t.deepEqual(good(tree.consistency(6, 7)), [i, j!, k]);
});

test('Merkle tree: every proof of every size holds, and none holds for anything else', t => {
  const most = 130;
  const { tree, records, hashes } = treeOf(most);
  const roots = Array.from({ length: most + 1 }, (_, size) => tree.root(size));
  for (let size = 0; size <= most; size++) {
    t.is(hex(roots[size]!), hex(merkle(records.slice(0, size))));
    for (let n = 0; n < size; n++) {
      const proof = good(tree.inclusion(n, size));
      const leaf = leafHash(records[n]!);
      t.is(verifyInclusion(leaf, n, size, roots[size]!, proof), null);
      const other = (n * 7 + 3) % size;
      if (other !== n) t.true(isRefusal(verifyInclusion(leaf, other, size, roots[size]!, proof)));
      t.true(isRefusal(verifyInclusion(leaf, n, size, roots[size - 1]!, proof)));
    }
    for (let old = 0; old <= size; old++) {
      const proof = good(tree.consistency(old, size));
      t.is(verifyConsistency(old, roots[old]!, size, roots[size]!, proof), null);
      if (old > 0 && old < size) {
        t.true(isRefusal(verifyConsistency(old, roots[old - 1]!, size, roots[size]!, proof)));
        t.true(isRefusal(verifyConsistency(old, roots[old]!, size, roots[size - 1]!, proof)));
      }
    }
  }
  t.deepEqual(hashes.read(storedIndex(3, 1)), new Uint8Array(merkle(records.slice(8, 16))));
  t.is(storedCount(most), 258); // 130 in binary has two ones
  t.deepEqual(tree.level(2, 3, 2).subarray(32), new Uint8Array(merkle(records.slice(16, 20))));
  refusedAs(t, tree.inclusion(5, 5), /^no record 5 in a tree of 5$/);
  refusedAs(t, tree.inclusion(-1, 5), /^no record -1/);
  refusedAs(t, tree.inclusion(0.5, 5), /^no record 0.5/);
  refusedAs(t, tree.inclusion(0, most + 1), /^no tree of 131: the log has 130 records$/);
  refusedAs(t, tree.consistency(6, 5), /^a tree of 5 does not continue one of 6$/);
});

test('Merkle tree: a proof with anything changed is refused', t => {
  const most = 300;
  const { tree, records } = treeOf(most);
  const flip = (bytes: Uint8Array, bit: number): Uint8Array =>
    bytes.map((b, i) => (i === (bit >> 3) % bytes.length ? b ^ (1 << (bit & 7)) : b));
  const change = fc.record({
    how: fc.constantFrom('flip', 'drop', 'repeat', 'swap', 'add'),
    at: fc.nat(),
    bit: fc.nat(),
  });
  type Change = { how: string; at: number; bit: number };
  /** The proof with the change, or null when it would be the same. */
  function changed(proof: readonly Uint8Array[], { how, at, bit }: Change): Uint8Array[] | null {
    const list = [...proof];
    const i = list.length === 0 ? 0 : at % list.length;
    if (how === 'add' || list.length === 0) list.splice(i, 0, leafHash(Uint8Array.of(bit & 255)));
    else if (how === 'flip') list[i] = flip(list[i]!, bit);
    else if (how === 'drop') list.splice(i, 1);
    else if (how === 'repeat') list.splice(i, 0, list[i]!);
    else if (i + 1 < list.length) [list[i], list[i + 1]] = [list[i + 1]!, list[i]!];
    else return null;
    return list;
  }
  fc.assert(
    fc.property(fc.integer({ min: 1, max: most }), fc.nat(), fc.nat(), change, (size, n, old, how) => {
      const record = n % size;
      const leaf = leafHash(records[record]!);
      const root = tree.root(size);
      const inclusion = good(tree.inclusion(record, size));
      const bad = changed(inclusion, how);
      if (bad !== null) t.true(isRefusal(verifyInclusion(leaf, record, size, root, bad)));
      t.true(isRefusal(verifyInclusion(flip(leaf, how.bit), record, size, root, inclusion)));
      t.true(isRefusal(verifyInclusion(leaf, record, size, flip(root, how.bit), inclusion)));
      const before = 1 + (old % size);
      const consistency = good(tree.consistency(before, size));
      const worse = changed(consistency, how);
      if (worse !== null) t.true(isRefusal(verifyConsistency(before, tree.root(before), size, root, worse)));
      t.true(isRefusal(verifyConsistency(before, flip(tree.root(before), how.bit), size, root, consistency)));
      t.true(isRefusal(verifyConsistency(before, tree.root(before), size, flip(root, how.bit), consistency)));
    }),
    { numRuns: 3000 },
  );
  const root = tree.root(9);
  refusedAs(t, verifyInclusion(leafHash(records[0]!), 0, 9, root, []), /^inclusion of record 0 in 9: 0 hashes, not 4$/);
  refusedAs(t, verifyInclusion(root.slice(1), 0, 9, root, []), /a hash of 31 bytes/);
  const many = Array.from({ length: 100 }, () => root);
  refusedAs(t, verifyInclusion(root, 0, 2 ** 53 - 1, root, many), /more than 64 hashes/);
  refusedAs(t, verifyInclusion(root, 0, 2 ** 53, root, []), /no such record/);
  refusedAs(t, verifyInclusion(root, 0, 2 ** 53 - 1, root, many.slice(0, 53)), /leads to another root/);
  refusedAs(t, verifyConsistency(5, root, 4, root, []), /it is not longer/);
  refusedAs(t, verifyConsistency(0, root, 9, root, []), /the old root is another/);
});
