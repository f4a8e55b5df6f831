// The formats that outsiders check, against their specifications' own examples and against other people's programs: Go's x/mod
// (tests/outside/formats.go), openssl, node:crypto, Debian's age. What is damaged must be refused, at every place.

import test from 'ava';
import type { ExecutionContext } from 'ava';
import { ed25519 } from '@noble/curves/ed25519.js';
import { p256 } from '@noble/curves/nist.js';
import fc from 'fast-check';
import { spawnSync } from 'node:child_process';
import crypto, { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isRefusal } from '../kernel/abi/index.ts';
import type { Refusal } from '../kernel/abi/index.ts';
import {
  HashMemory,
  NOTE_TYPE,
  Tree,
  ageDecrypt,
  ageEncrypt,
  agreed,
  canonical,
  formatCheckpoint,
  formatIdentity,
  formatNoteKey,
  formatNoteSecret,
  formatProof,
  formatPublicPem,
  formatRecipient,
  formatSecretPem,
  formatStatement,
  frame,
  fromBase64,
  fromHex,
  joined,
  labelMac,
  leafHash,
  nodeHash,
  noteKey,
  noteSigner,
  openCheckpoint,
  openEnvelope,
  openNote,
  openProof,
  parseEntryBundle,
  parseCanonical,
  parseCheckpoint,
  parseEnvelope,
  parseIdentity,
  parseJson,
  parseNote,
  parseNoteKey,
  parseNoteSecret,
  parseProof,
  parsePublicPem,
  parseRecipient,
  parseSecretPem,
  parseStatement,
  parseHashTile,
  parseTilePath,
  preAuthentication,
  publicKey,
  readFrames,
  rowLength,
  secretKey,
  sign,
  signEnvelope,
  signNote,
  signatureLine,
  storedCount,
  storedIndex,
  tileHashes,
  tilePath,
  tilesOf,
  toBase64,
  toHex,
  verify,
  verifyConsistency,
  verifyInclusion,
} from '../trust/index.ts';
import type { Json, KeyKind, PublicKey, SecretKey } from '../trust/index.ts';
import { soak } from './harness.ts';
import { BROWSERS, bundled, transcriptOf } from './support/browser.ts';
import { formatsTranscript } from './support/formats.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const text = (value: Json): string => asText(good(canonical(value)));
const sha256 = (...parts: Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest();
const flip = (bytes: Uint8Array, bit: number): Uint8Array =>
  bytes.map((b, i) => (i === (bit >> 3) % bytes.length ? b ^ (1 << (bit & 7)) : b));
const bytesOf = (hexText: string): Uint8Array => new Uint8Array(Buffer.from(hexText, 'hex'));
const asText = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
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

const CT_LEAVES: readonly string[] = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
];
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
  if (records.length === 0) return sha256();
  if (records.length === 1) return sha256(Uint8Array.of(0), records[0]!);
  let k = 1;
  while (k * 2 < records.length) k *= 2;
  return sha256(Uint8Array.of(1), merkle(records.slice(0, k)), merkle(records.slice(k)));
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
  const [g, h, i] = [nodeHash(a!, b!), nodeHash(c!, d!), nodeHash(e!, f!)];
  const [k, l] = [nodeHash(g, h), nodeHash(i, j!)];
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
  const most = soak ? 520 : 130;
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
  t.is(storedCount(130), 258); // 130 in binary has two ones
  t.deepEqual(tree.level(2, 3, 2).subarray(32), new Uint8Array(merkle(records.slice(16, 20))));
  refusedAs(t, tree.inclusion(5, 5), /^no record 5 in a tree of 5$/);
  refusedAs(t, tree.inclusion(-1, 5), /^no record -1/);
  refusedAs(t, tree.inclusion(0.5, 5), /^no record 0.5/);
  refusedAs(t, tree.inclusion(0, most + 1), soak ? /^no tree of 521/ : /^no tree of 131: the log has 130 records$/);
  refusedAs(t, tree.consistency(6, 5), /^a tree of 5 does not continue one of 6$/);
});

test('Merkle tree: a proof with anything changed is refused', t => {
  const most = 300;
  const { tree, records } = treeOf(most);
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

// ---- Keys and signatures ----

const KINDS = ['ed25519', 'p256', 'p384', 'x25519'] as const;

function nodePair(kind: KeyKind): crypto.KeyPairKeyObjectResult {
  if (kind === 'p256') return crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  if (kind === 'p384') return crypto.generateKeyPairSync('ec', { namedCurve: 'P-384' });
  return kind === 'ed25519' ? crypto.generateKeyPairSync('ed25519') : crypto.generateKeyPairSync('x25519');
}
const HASH = { ed25519: null, p256: 'sha256', p384: 'sha384', x25519: null } as const;
const pem = (label: string, bytes: Uint8Array): string =>
  `-----BEGIN ${label}-----\n${toBase64(bytes)}\n-----END ${label}-----\n`;
/** Little-endian. */
const number = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
const bytes32 = (n: bigint): Buffer => Buffer.from(n.toString(16).padStart(64, '0'), 'hex').reverse();
const nodeVerifies = (pem: string, message: Uint8Array, signature: Uint8Array): boolean =>
  crypto.verify(pem.includes('MFkw') ? 'sha256' : pem.includes('MHYw') ? 'sha384' : null, message, pem, signature);

test('Ed25519: the vectors of RFC 8032, and ECDSA those of RFC 6979', t => {
  // prettier-ignore
  for (const [secret, message, signature] of [
    ['9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', '', 'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b'],
    ['4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb', '72', '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00'],
    ['c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7', 'af82', '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a'],
    ['833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42', 'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f', 'dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704'],
  ] as const) {
    const key = good(secretKey('ed25519', bytesOf(secret)));
    t.is(hex(good(sign(key, bytesOf(message)))), signature);
    t.true(verify(key.public, bytesOf(message), bytesOf(signature)));
  }
  const key = good(secretKey('p256', bytesOf('C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721')));
  t.is(hex(key.public.bytes.subarray(1, 33)), '60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6');
  t.is(
    hex(good(sign(key, utf8('sample')))),
    '3046022100efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716' +
      '022100f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8',
  );
  t.is(
    hex(good(sign(key, utf8('test')))),
    '3045022100f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367' +
      '0220019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083',
  );
  const longer = good(
    secretKey(
      'p384',
      bytesOf('6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5'),
    ),
  );
  t.is(
    hex(good(sign(longer, utf8('sample')))),
    '306602310094edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46' +
      '02310099ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8',
  );
  // RFC 7748 §6.1
  const alice = good(secretKey('x25519', bytesOf('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a')));
  const bob = good(secretKey('x25519', bytesOf('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb')));
  t.is(hex(alice.public.bytes), '8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
  t.is(hex(agreed(alice, bob.public.bytes)!), '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742');
  t.is(agreed(alice, new Uint8Array(32)), null);
});

test('keys: signatures and PEM files are those of node:crypto', t => {
  for (const kind of KINDS)
    for (let i = 0; i < 8; i++) {
      const { privateKey, publicKey: nodePublic } = nodePair(kind);
      const secretPem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
      const publicPem = nodePublic.export({ type: 'spki', format: 'pem' }).toString();
      const key = good(parseSecretPem(secretPem));
      t.is(key.kind, kind);
      t.is(formatSecretPem(key), secretPem);
      t.is(formatPublicPem(key.public), publicPem);
      t.deepEqual(good(parsePublicPem(publicPem)), key.public);
      t.deepEqual(good(parseSecretPem(secretPem.replaceAll('\n', '\r\n'))), key);
      if (kind === 'x25519') {
        t.true(isRefusal(sign(key, utf8('x'))));
        t.false(verify(key.public, utf8('x'), new Uint8Array(64)));
        continue;
      }
      const message = crypto.randomBytes(i * 37);
      const ours = good(sign(key, message));
      t.true(nodeVerifies(publicPem, message, ours));
      const theirs = new Uint8Array(crypto.sign(HASH[kind], message, secretPem));
      if (kind === 'ed25519') t.deepEqual(ours, theirs);
      t.true(verify(key.public, message, theirs));
      for (let bit = 0; bit < 8 * theirs.length; bit += 13) {
        const bad = flip(theirs, bit);
        t.false(verify(key.public, message, bad));
      }
      t.false(verify(key.public, Buffer.concat([message, Buffer.of(0)]), theirs));
      t.false(verify(key.public, message, theirs.slice(1)));
      t.false(verify(key.public, message, new Uint8Array(0)));
    }
  const { privateKey } = nodePair('p256');
  const sec1 = crypto.createPrivateKey(privateKey.export({ type: 'sec1', format: 'pem' }));
  refusedAs(
    t,
    parseSecretPem(sec1.export({ type: 'sec1', format: 'pem' }).toString()),
    /"EC PRIVATE KEY" where PRIVATE KEY is wanted/,
  );
  const other = crypto.generateKeyPairSync('ec', { namedCurve: 'P-521' });
  refusedAs(t, parseSecretPem(other.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()), /none of Ed25519/);
  refusedAs(t, parsePublicPem(other.publicKey.export({ type: 'spki', format: 'pem' }).toString()), /none of Ed25519/);
  const ed = formatSecretPem(good(secretKey('ed25519', new Uint8Array(32).fill(7))));
  refusedAs(t, parseSecretPem(ed + ed), /^PEM: no block/);
  refusedAs(t, parseSecretPem(ed.slice(0, 60)), /^PEM: no block/);
  refusedAs(t, parsePublicPem(ed), /^PEM: "PRIVATE KEY" where PUBLIC KEY is wanted/);
  refusedAs(t, parseSecretPem(ed + ' '.repeat(5000)), /at most 4096/);
  const point = formatSecretPem(good(parseSecretPem(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())));
  const der = fromBase64(point.replace(/-.*-|\n/g, ''))!;
  der[der.length - 1]! ^= 1;
  refusedAs(t, parseSecretPem(pem('PRIVATE KEY', der)), /^PEM: the P-256 key is cut, or its point is another's$/);
  refusedAs(t, parseSecretPem(pem('PRIVATE KEY', der.slice(0, -1))), /is cut/);
  refusedAs(t, secretKey('p256', new Uint8Array(32)), /out of range/);
  refusedAs(t, secretKey('p256', new Uint8Array(32).fill(255)), /out of range/);
  refusedAs(t, secretKey('ed25519', new Uint8Array(31)), /of 31 bytes, not 32/);
});

test('Ed25519: what other verifiers could see otherwise is refused', t => {
  const { Point } = ed25519;
  const L = Point.Fn.ORDER;
  const key = good(secretKey('ed25519', new Uint8Array(32).fill(3)));
  const message = utf8('one message');
  const signature = good(sign(key, message));
  const publicPem = formatPublicPem(key.public);
  // S and S + L name the same scalar; only the smaller one is a signature.
  const s = number(signature.subarray(32));
  const more = Buffer.concat([signature.subarray(0, 32), bytes32(s + L)]);
  t.false(verify(key.public, message, more));
  t.false(nodeVerifies(publicPem, message, more));
  // R moved by a point of order 8: equal only after multiplying by the cofactor.
  const torsion = Point.fromHex('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05');
  const secret = ed25519.utils.getExtendedPublicKey(key.secret).scalar;
  const r = Point.BASE.multiply(12345n).add(torsion).toBytes();
  const k = number(createHash('sha512').update(r).update(key.public.bytes).update(message).digest()) % L;
  const mixed = Buffer.concat([r, bytes32((12345n + k * secret) % L)]);
  t.true(ed25519.verify(mixed, message, key.public.bytes, { zip215: false }));
  t.false(verify(key.public, message, mixed));
  t.false(nodeVerifies(publicPem, message, mixed));
  // Keys of small order, in every form: with them signatures hold for many messages.
  for (const small of [
    '0100000000000000000000000000000000000000000000000000000000000000',
    '0100000000000000000000000000000000000000000000000000000000000080',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    '0000000000000000000000000000000000000000000000000000000000000000',
    '0000000000000000000000000000000000000000000000000000000000000080',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
  ]) {
    refusedAs(t, publicKey('ed25519', bytesOf(small)), /no point that a key can have/);
    const forged = Buffer.concat([bytesOf(small), Buffer.alloc(32)]);
    t.false(verify({ kind: 'ed25519', bytes: bytesOf(small) }, message, forged));
  }
  // 2 is no y of the curve; a y past the prime is another form of a smaller one.
  refusedAs(t, publicKey('ed25519', bytesOf(`02${'00'.repeat(31)}`)), /no point/);
  refusedAs(t, publicKey('ed25519', new Uint8Array(33)), /of 33 bytes, not 32/);
  refusedAs(t, publicKey('p256', new Uint8Array(65).fill(4)), /no point/);
});

/** DER of a positive integer, with zeros that do not belong there; and of a sequence. */
const integer = (value: bigint, zeros = 0): string => {
  const digits = value.toString(16);
  const even = digits.length % 2 === 0 ? digits : `0${digits}`;
  const bytes = `${'00'.repeat(zeros)}${even >= '8' ? '00' : ''}${even}`;
  return `02${(bytes.length / 2).toString(16).padStart(2, '0')}${bytes}`;
};
const der = (body: string, length = (body.length / 2).toString(16).padStart(2, '0')): Uint8Array =>
  bytesOf(`30${length}${body}`);

test('ECDSA: a signature has one form', t => {
  const key = good(secretKey('p256', new Uint8Array(32).fill(11)));
  const message = utf8('m');
  const { r, s } = p256.Signature.fromBytes(good(sign(key, message)), 'der');
  const n = p256.Point.Fn.ORDER;
  t.deepEqual(der(integer(r) + integer(s)), good(sign(key, message)));
  const pem = formatPublicPem(key.public);
  for (const [bytes, holds] of [
    [der(integer(r) + integer(s)), true],
    [der(integer(r) + integer(n - s)), true], // the other S: every ECDSA verifier takes it
    [der(integer(r, 1) + integer(s)), false],
    [der(integer(r) + integer(s, 1)), false],
    [der(`${integer(r)}${integer(s)}00`), false],
    [der(integer(r) + integer(s), `81${((integer(r) + integer(s)).length / 2).toString(16)}`), false],
    [joined(der(integer(r) + integer(s)), Uint8Array.of(0)), false],
    [der(integer(r + n) + integer(s)), false],
    [der(integer(r) + integer(s + n)), false],
    [der(integer(0n) + integer(s)), false],
    [der(integer(r) + integer(0n)), false],
    [der('020100020100'), false],
    [p256.Signature.fromBytes(good(sign(key, message)), 'der').toBytes('compact'), false],
  ] as const) {
    t.is(verify(key.public, message, bytes), holds, hex(bytes));
    if (holds) t.true(nodeVerifies(pem, message, bytes));
  }
});

test('labels: a secret of its own for each, as HKDF and HMAC of node:crypto have it', t => {
  const secret = new Uint8Array(32).fill(9);
  for (const label of ['salt', 'content']) {
    const derived = crypto.hkdfSync('sha256', secret, '', `arena8/log-key/v1 ${label}`, 32);
    const want = crypto.createHmac('sha256', Buffer.from(derived)).update('message').digest();
    t.deepEqual(Buffer.from(labelMac(secret, label, utf8('message'))), want);
  }
});

test('base64 and hexadecimal: those of Buffer, and only in their one form', t => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), bytes => {
      t.is(toBase64(bytes), Buffer.from(bytes).toString('base64'));
      t.deepEqual(fromBase64(toBase64(bytes)), bytes);
      t.is(toHex(bytes), hex(bytes));
      t.deepEqual(fromHex(toHex(bytes).toUpperCase()), bytes);
    }),
  );
  for (const bad of ['A', 'AA', 'AAA', 'AA=', 'AB==', 'AAB=', 'AA==AAAA', 'A===', '====', 'AAAA\n', 'AA-_', ' AAAA'])
    t.is(fromBase64(bad), null, bad);
  for (const bad of ['0', '0g', '0x00', ' 00']) t.is(fromHex(bad), null, bad);
});

// ---- Signed notes, checkpoints, proofs ----

const NEUMANN_SECRET = 'PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz';
const NEUMANN = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW';
const NEUMANN_TEXT =
  "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const NEUMANN_NOTE = `${NEUMANN_TEXT}
— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
`;

const LOG = good(noteSigner('arena8.invalid/test', new Uint8Array(32).fill(1)));
const WITNESS = good(noteSigner('witness.invalid/w1', new Uint8Array(32).fill(2), NOTE_TYPE.cosignature));

test('signed notes: the published example, and what a note may be', t => {
  const key = good(parseNoteKey(NEUMANN));
  const { secret, key: same } = good(parseNoteSecret(NEUMANN_SECRET));
  t.deepEqual(same, key);
  t.is(formatNoteKey(key), NEUMANN);
  t.is(formatNoteSecret(key, secret), NEUMANN_SECRET);
  t.is(signNote(NEUMANN_TEXT, good(noteSigner(key.name, secret))), NEUMANN_NOTE);
  t.is(good(openNote(utf8(NEUMANN_NOTE), [key])).text, NEUMANN_TEXT);
  refusedAs(t, openNote(utf8(NEUMANN_NOTE), [LOG.key]), /^note: not signed by a known key$/);
  refusedAs(t, openNote(utf8(NEUMANN_NOTE.replace('think', 'thinK')), [key]), /PeterNeumann\+c74f20a3 does not hold$/);
  // Unknown keys say nothing, a known key that lies refuses all.
  const both = NEUMANN_NOTE + signatureLine(NEUMANN_TEXT, LOG);
  t.is(good(openNote(utf8(both), [key])).signed.length, 1);
  t.is(good(openNote(utf8(both), [key, LOG.key])).signed.length, 2);
  refusedAs(t, openNote(utf8(NEUMANN_NOTE + signatureLine('other\n', LOG)), [key, LOG.key]), /arena8\.invalid\/test/);
  const signature = '— a AAAAAAAA\n';
  for (const [note, message] of [
    ['', /no blank line/],
    ['text\n', /no blank line/],
    ['text\n\n', /no signature/],
    [`text\n\n${signature.slice(0, -1)}`, /no blank line/],
    [`text\n\n- a AAAAAAAA\n`, /^note, line 3: not a signature$/],
    [`text\n\n${signature}— a\n`, /^note, line 4: not a signature$/],
    ['text\n\n— a AAAAAA==\n', /line 3/], // an id without a signature
    ['text\n\n— a+b AAAAAAAA\n', /line 3/],
    ['text\n\n— a\u00a0b AAAAAAAA\n', /line 3/],
    ['text\n\n—  AAAAAAAA\n', /line 3/],
    ['text\n\n— a AAAAAAAA \n', /line 3/],
    ['te\txt\n\n— a AAAAAAAA\n', /^note, line 1: a control character$/],
    ['text\r\n\n— a AAAAAAAA\n', /^note, line 1: a control character$/],
    [`text\n\n${signature.repeat(17)}`, /17 signatures; at most 16/],
    [`${'x'.repeat(65536)}\n\n${signature}`, /at most 65536/],
  ] as const)
    refusedAs(t, parseNote(utf8(note)), message);
  t.is(good(parseNote(utf8(`a\n\nb\n\n${signature.repeat(16)}`))).text, 'a\n\nb\n');
  refusedAs(t, parseNote(Buffer.concat([utf8('\xff').slice(1), utf8('\n\n')])), /not UTF-8/);
  for (const name of ['', 'a b', 'a+b', 'a\u2003b', 'a\nb', 'a\0', '\ud800'])
    refusedAs(t, noteKey(name, LOG.key.publicKey), /not a key's name/);
  for (const [line, message] of [
    [NEUMANN.replace('c74f', 'c74e'), /id c74e20a3 is another key's/],
    [NEUMANN.replace('PeterN', 'PeterM'), /is another key's/],
    [NEUMANN.replace('+AR', '+AS'), /PeterNeumann/],
    ['a+00000000+BwA=', /type 7 is neither 1 nor 4/],
    ['a+00000000+AQA=', /of 1 bytes, not 32/],
    ['a+0000+AQA=', /not NAME\+ID\+KEY/],
    ['', /not NAME\+ID\+KEY/],
  ] as const)
    refusedAs(t, parseNoteKey(line), message);
  refusedAs(t, parseNoteSecret(NEUMANN), /does not begin with PRIVATE\+KEY/);
});

test('signed notes: any byte changed, cut or added is refused, or is in nothing that was signed', t => {
  const signed = utf8(signNote(NEUMANN_TEXT, LOG));
  fc.assert(
    fc.property(fc.nat(signed.length - 1), fc.nat(255), fc.constantFrom('set', 'cut', 'insert'), (at, byte, how) => {
      const bytes = [...signed];
      if (how === 'set') bytes[at] = byte;
      else if (how === 'cut') bytes.splice(at, 1);
      else bytes.splice(at, 0, byte);
      const changed = Uint8Array.from(bytes);
      if (Buffer.compare(changed, signed) === 0) return;
      t.true(isRefusal(openNote(changed, [LOG.key])));
    }),
    { numRuns: 1000 },
  );
});

test('checkpoints and cosignatures: three lines, the log’s own name, the time that the witness states', t => {
  const { tree } = treeOf(9);
  const head = { origin: LOG.key.name, size: 9, root: tree.root() };
  const text = formatCheckpoint(head);
  t.deepEqual(good(parseCheckpoint(text)), head);
  const time = 1679315147;
  const note = signNote(text, LOG) + signatureLine(text, WITNESS, time);
  const opened = good(openCheckpoint(utf8(note), LOG.key, [WITNESS.key]));
  t.deepEqual(opened, { ...head, text, witnessed: [{ key: WITNESS.key, time }] });
  t.deepEqual(good(openCheckpoint(utf8(note), LOG.key)).witnessed, []);
  // The bytes of a cosignature: id, time, then Ed25519 over two lines and the text.
  const line = fromBase64(note.trimEnd().split(' ').at(-1)!)!;
  t.is(Buffer.from(line).readUInt32BE(), WITNESS.key.id);
  t.is(Buffer.from(line).readBigUInt64BE(4), BigInt(time));
  const witness: PublicKey = { kind: 'ed25519', bytes: WITNESS.key.publicKey };
  t.true(nodeVerifies(formatPublicPem(witness), utf8(`cosignature/v1\ntime ${time}\n${text}`), line.slice(12)));
  t.is(
    Buffer.from(sha256(utf8('witness.invalid/w1\n'), Uint8Array.of(4), witness.bytes)).readUInt32BE(),
    WITNESS.key.id,
  );
  // The witness's key does not stand for the log's, nor the other way round.
  const asLog = good(noteSigner(LOG.key.name, new Uint8Array(32).fill(1), NOTE_TYPE.cosignature));
  refusedAs(
    t,
    openCheckpoint(utf8(signNote(text, WITNESS)), LOG.key, [WITNESS.key]),
    /not signed by arena8\.invalid\/test$/,
  );
  refusedAs(t, openCheckpoint(utf8(signNote(text, asLog)), LOG.key), /not signed by a known key/);
  const elsewhere = formatCheckpoint({ ...head, origin: 'other.invalid' });
  refusedAs(t, openCheckpoint(utf8(signNote(elsewhere, LOG)), LOG.key), /^checkpoint: of other\.invalid, not of/);
  const later = Buffer.from(line);
  later.writeBigUInt64BE(BigInt(time + 1), 4);
  const moved = signNote(text, LOG) + `— ${WITNESS.key.name} ${toBase64(later)}\n`;
  refusedAs(t, openCheckpoint(utf8(moved), LOG.key, [WITNESS.key]), /witness\.invalid\/w1\+[0-9a-f]{8} does not hold/);
  later.fill(255, 4, 12);
  const never = signNote(text, LOG) + `— ${WITNESS.key.name} ${toBase64(later)}\n`;
  refusedAs(t, openCheckpoint(utf8(never), LOG.key, [WITNESS.key]), /does not hold/);
  for (const [bad, message] of [
    [text.replace('\n9\n', '\n09\n'), /line 2/],
    [text.replace('\n9\n', '\n-9\n'), /line 2/],
    [text.replace('\n9\n', '\n9007199254740992\n'), /line 2/],
    [text.replace('=\n', '\n'), /line 3/],
    [`${text}more\n`, /line 4/],
    [text.slice(0, -1), /line 4/],
    [text.replace(LOG.key.name, ''), /line 1/],
  ] as const)
    refusedAs(t, parseCheckpoint(bad), message);
});

test('proofs in a file: a record, its number, the path and the checkpoint; nothing else is shown by them', t => {
  const { tree, records } = treeOf(70);
  const checkpoint = signNote(formatCheckpoint({ origin: LOG.key.name, size: 70, root: tree.root() }), LOG);
  for (const index of [0, 1, 33, 63, 64, 69]) {
    const hashes = good(tree.inclusion(index));
    const proof = formatProof({ index, hashes, checkpoint });
    t.deepEqual(good(parseProof(utf8(proof))), { index, hashes, checkpoint });
    const shown = good(openProof(utf8(proof), records[index]!, LOG.key));
    t.is(shown.index, index);
    t.is(shown.checkpoint.size, 70);
    t.is(good(openProof(utf8(proof.replace('\n', '\nextra AAAA\n')), records[index]!, LOG.key)).index, index);
    refusedAs(t, openProof(utf8(proof), records[(index + 1) % 70]!, LOG.key), /leads to another root/);
  }
  const proof = formatProof({ index: 5, hashes: good(tree.inclusion(5)), checkpoint });
  fc.assert(
    fc.property(fc.nat(8 * utf8(proof).length - 1), bit => {
      t.true(isRefusal(openProof(flip(utf8(proof), bit), records[5]!, LOG.key)));
    }),
    { numRuns: 1500 },
  );
  refusedAs(t, parseProof(utf8(proof.replace('index 5', 'index 05'))), /^proof, line 2: not an index$/);
  refusedAs(t, parseProof(utf8(proof.replace('@v1', '@v2'))), /^proof, line 1/);
  refusedAs(t, parseProof(utf8(proof.replace('\n', '\nextra A\n'))), /^proof, line 2: not base64$/);
  const many = Array.from({ length: 65 }, () => new Uint8Array(32));
  refusedAs(
    t,
    parseProof(utf8(formatProof({ index: 5, hashes: many, checkpoint }))),
    /^proof, line 67: not a hash, or one too many$/,
  );
});

// ---- Tiles ----

test('tiles: paths and bundles of C2SP tlog-tiles', t => {
  t.is(tilePath({ level: 0, index: 1234067, width: 256 }), 'tile/0/x001/x234/067');
  t.is(tilePath({ level: 'entries', index: 5, width: 3 }), 'tile/entries/005.p/3');
  fc.assert(
    fc.property(
      fc.constantFrom('entries' as const, 0, 1, 7, 63),
      fc.nat(2 ** 40),
      fc.integer({ min: 1, max: 256 }),
      (level, index, width) => {
        t.deepEqual(good(parseTilePath(tilePath({ level, index, width }))), { level, index, width });
      },
    ),
  );
  for (const bad of [
    'tile/0/1',
    'tile/0/0001',
    'tile/0/x000/001',
    'tile/64/000',
    'tile/00/000',
    'tile/0/000.p/0',
    'tile/0/000.p/256',
    'tile/0/000.p/03',
    'tile/0/001/002',
    'tile/-1/000',
    'tile/0/x999/x999/x999/x999/x999/999',
    '/tile/0/000',
    'tile/0/000/',
  ])
    refusedAs(t, parseTilePath(bad), /^not the path of a tile: /);
  // The specification's example: 70,000 records.
  const tiles = [...tilesOf(70000)].filter(tile => tile.level !== 'entries');
  t.is(tiles.filter(x => x.level === 0 && x.width === 256).length, 273);
  t.deepEqual(
    tiles.filter(x => x.width < 256).map(x => [x.level, x.width]),
    [
      [0, 112],
      [1, 17],
      [2, 1],
    ],
  );
  t.deepEqual([...tilesOf(256)].map(tilePath), ['tile/entries/000', 'tile/0/000', 'tile/1/000.p/1']);
  t.deepEqual([...tilesOf(0)], []);
  t.deepEqual(
    [rowLength('entries', 70000), rowLength(0, 70000), rowLength(1, 70000), rowLength(2, 70000)],
    [70000, 70000, 273, 1],
  );
  const records = [utf8('one'), new Uint8Array(0), new Uint8Array(300).fill(7)];
  const bundle = joined(...records.map(frame));
  t.is(hex(bundle.subarray(0, 7)), '00036f6e650000');
  t.deepEqual(good(parseEntryBundle(bundle, 3)), records);
  refusedAs(t, parseEntryBundle(bundle, 4), /^bundle: 3 records, not 4$/);
  refusedAs(t, parseEntryBundle(bundle.subarray(0, 20), 3), /^bundle, byte 7: record 2 of it is cut off$/);
  refusedAs(t, parseEntryBundle(joined(bundle, Uint8Array.of(1)), 3), /^bundle, byte 309: record 3 of it is cut off$/);
  t.deepEqual(readFrames(bundle.subarray(0, 20)), { records: records.slice(0, 2), end: 7 });
  refusedAs(t, parseHashTile(new Uint8Array(31), 1), /^tile of 31 bytes, not 32$/);
});

// ---- Go's word on all that ----

const GO = '/usr/bin/go';
const withGo =
  (existsSync(GO) && existsSync('/usr/share/gocode/src/golang.org/x/mod')) || process.env['CI'] === 'true'
    ? test
    : test.skip;

withGo('Go’s sumdb agrees: stored hashes, roots, proofs, tiles and notes', t => {
  const size = 1500;
  const { tree, hashes } = treeOf(size);
  const directory = mkdtempSync(join(tmpdir(), 'arena8-trust-'));
  const write = (name: string, data: string | Uint8Array): void => {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), data);
  };
  write('size', String(size));
  write('hashes', Buffer.concat(Array.from({ length: storedCount(size) }, (_, i) => hashes.read(i))));
  const proofs: string[] = [];
  const line = (...parts: (string | number | Uint8Array)[]): void => {
    proofs.push(parts.map(p => (typeof p === 'object' ? toBase64(p) : p)).join(' '));
  };
  for (let to = 1; to <= size; to++) {
    const root = tree.root(to);
    for (const n of [0, to - 1, (to * 31) % to, (to * 577 + 11) % to])
      line('inclusion', n, to, root, hashes.read(storedIndex(0, n)), ...good(tree.inclusion(n, to)));
    for (const old of [1, to, 1 + ((to * 41) % to), 1 + ((to * 733 + 5) % to)])
      line('consistency', old, to, root, tree.root(old), ...good(tree.consistency(old, to)));
  }
  write('proofs', proofs.join('\n'));
  for (const tile of tilesOf(size))
    if (tile.level !== 'entries') write(tilePath(tile), tileHashes(tree, tile.level, tile.index, tile.width));
  const signers = ['arena8.invalid/a', 'ünï.invalid', LOG.key.name].map((name, i) => {
    const secret = new Uint8Array(32).fill(40 + i);
    return { secret, signer: good(noteSigner(name, secret)) };
  });
  write(
    'keys',
    signers.map(({ secret, signer: { key } }) => `${formatNoteSecret(key, secret)} ${formatNoteKey(key)}\n`).join(''),
  );
  const notes = [formatCheckpoint({ origin: 'arena8.invalid/a', size, root: tree.root() }), 'a\n\nb\n', '\n'];
  for (const [i, { signer }] of signers.entries()) write(`note${i}`, signNote(notes[i]!, signer));
  const run = spawnSync(GO, ['run', 'tests/outside/formats.go', directory], {
    encoding: 'utf8',
    env: { ...process.env, GO111MODULE: 'off', GOPATH: '/usr/share/gocode' },
  });
  t.is(run.stderr, '');
  t.is(run.stdout, '1500 records, 12000 proofs, 7 tiles, 3 notes agree\n');
  for (const [i, { signer }] of signers.entries())
    t.is(good(openNote(readFileSync(join(directory, `go${i}`)), [signer.key])).text, notes[i]!);
  rmSync(directory, { recursive: true });
});

// ---- openssl ----

const OPENSSL = '/usr/bin/openssl';
const withOpenssl = existsSync(OPENSSL) || process.env['CI'] === 'true' ? test : test.skip;

withOpenssl('openssl agrees: its keys are read and written as it does, each verifies the other’s signatures', t => {
  const directory = mkdtempSync(join(tmpdir(), 'arena8-trust-'));
  const file = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): { status: number | null; stdout: Buffer } =>
    spawnSync(OPENSSL, args, { cwd: directory });
  const message = utf8('a message\n');
  writeFileSync(file('message'), message);
  for (const [kind, algorithm] of [
    ['ed25519', ['ed25519']],
    ['x25519', ['x25519']],
    ['p256', ['EC', '-pkeyopt', 'ec_paramgen_curve:P-256']],
    ['p384', ['EC', '-pkeyopt', 'ec_paramgen_curve:P-384']],
  ] as const) {
    const secretPem = openssl('genpkey', '-algorithm', ...algorithm).stdout.toString();
    writeFileSync(file('secret.pem'), secretPem);
    const publicPem = openssl('pkey', '-in', 'secret.pem', '-pubout').stdout.toString();
    const key: SecretKey = good(parseSecretPem(secretPem));
    t.is(key.kind, kind);
    t.is(formatSecretPem(key), secretPem);
    t.is(formatPublicPem(key.public), publicPem);
    if (kind === 'x25519') continue;
    writeFileSync(file('public.pem'), publicPem);
    writeFileSync(file('ours'), good(sign(key, message)));
    const digest = HASH[kind] === null ? [] : ['-digest', HASH[kind]];
    const raw = ['-rawin', '-in', 'message', ...digest];
    t.is(openssl('pkeyutl', '-verify', '-pubin', '-inkey', 'public.pem', ...raw, '-sigfile', 'ours').status, 0);
    t.is(openssl('pkeyutl', '-sign', '-inkey', 'secret.pem', ...raw, '-out', 'theirs').status, 0);
    t.true(verify(key.public, message, readFileSync(file('theirs'))));
    writeFileSync(file('ours'), flip(readFileSync(file('ours')), 300));
    t.not(openssl('pkeyutl', '-verify', '-pubin', '-inkey', 'public.pem', ...raw, '-sigfile', 'ours').status, 0);
  }
  rmSync(directory, { recursive: true });
});

// ---- age ----

const AGE = '/usr/bin/age';
const withAge = existsSync(AGE) || process.env['CI'] === 'true' ? test : test.skip;
const ageHeader = (file: Uint8Array): string => Buffer.from(file).toString('latin1').split('---')[0]!;
const AGE_SIZES = [0, 1, 1000, 65535, 65536, 65537, 131072, 200000];

test('age: keys as the specification writes them; what is written is read, and nothing that was changed', t => {
  // The example of the specification: 32 bytes of 0x42.
  const identity = good(parseIdentity('AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX'));
  t.is(hex(identity.secret), '42'.repeat(32));
  t.is(formatRecipient(identity.public), 'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj');
  t.deepEqual(good(parseRecipient(formatRecipient(identity.public))), identity.public);
  t.is(formatIdentity(identity), 'AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX');
  const recipient = formatRecipient(identity.public);
  for (const bad of [
    '',
    'age1',
    recipient.slice(0, -1),
    recipient.replace('z', 'q'),
    `${recipient}q`,
    recipient.replace('e1z', 'E1z'),
    recipient.replace('a', 'b'),
    recipient.replace('5', '1'),
  ])
    if (bad !== recipient) refusedAs(t, parseRecipient(bad), /^not an age recipient/);
  refusedAs(t, parseIdentity(recipient), /^not an age identity/);

  const other = good(secretKey('x25519', new Uint8Array(32).fill(5)));
  const stranger = good(secretKey('x25519', new Uint8Array(32).fill(6)));
  const seed = new Uint8Array(32).fill(7);
  const plain = utf8('what was said');
  const file = good(ageEncrypt(plain, [identity.public, other.public], seed));
  for (const reader of [identity, other]) t.deepEqual(good(ageDecrypt(file, reader)), plain);
  refusedAs(t, ageDecrypt(file, stranger), /^age: not encrypted to this key$/);
  t.deepEqual(good(ageEncrypt(plain, [identity.public, other.public], seed)), file);
  // The same seed under another text gives other keys, so that nothing is encrypted twice under one.
  t.not(
    ageHeader(good(ageEncrypt(utf8('what was sais'), [identity.public], seed))),
    ageHeader(good(ageEncrypt(plain, [identity.public], seed))),
  );
  for (let bit = 0; bit < 8 * file.length; bit += 5)
    t.true(isRefusal(ageDecrypt(flip(file, bit), other)), `bit ${bit}`);
  for (let end = 0; end < file.length; end += 3) t.true(isRefusal(ageDecrypt(file.slice(0, end), other)));
  t.true(isRefusal(ageDecrypt(joined(file, Uint8Array.of(0)), other)));
  // Chunks cannot be dropped or change places.
  const long = good(ageEncrypt(new Uint8Array(150000).fill(1), [other.public], seed));
  const body = long.length - (150000 + 3 * 16);
  const [start, one, two] = [
    long.slice(0, body),
    long.slice(body, body + 65552),
    long.slice(body + 65552, body + 131104),
  ];
  const last = long.slice(body + 131104);
  t.is(good(ageDecrypt(joined(start, one, two, last), other)).length, 150000);
  refusedAs(t, ageDecrypt(joined(start, two, one, last), other), /^age: chunk 0 of 3 was changed$/);
  refusedAs(t, ageDecrypt(joined(start, one, last), other), /^age: chunk 1 of 2 was changed$/);
  refusedAs(t, ageDecrypt(joined(start, one, two), other), /^age: chunk 1 of 2 was changed$/);
  refusedAs(t, ageEncrypt(plain, [], seed), /^0 recipients: from 1 to 32$/);
  refusedAs(t, ageEncrypt(plain, [{ kind: 'x25519', bytes: new Uint8Array(32) }], seed), /small order/);
  const header = 'age-encryption.org/v1\n';
  for (const [text, message] of [
    ['', /^age, line 1/],
    ['age-encryption.org/v2\n---\n', /^age, line 1: not age/],
    [`${header}--- AAAA\n`, /^age, line 2: not a stanza/],
    [`${header}-> X25519\n`, /^age, line 3/],
    [`${header}-> X25519  a\n\n--- AAAA\n`, /^age, line 3/],
    [`${header}-> X25519 é\n\n---\n`, /^age, line 2/],
    [`${header}-> scrypt a 1\n\n--- ${'A'.repeat(43)}\n`, /passphrase/],
    [`${header}-> other\n\n--- ${'A'.repeat(42)}\n`, /^age, line 4: not a MAC/],
    [`${header}-> other\n\n--- ${'A'.repeat(43)}\n`, /not encrypted to this key/],
    [`${header}${'-> other\n\n'.repeat(33)}--- ${'A'.repeat(43)}\n`, /^age, line 66: .*one too many/],
    [`${header}-> other\n---${'A'.repeat(61)}\n`, /^age, line \d: not the end of a stanza/],
    [`${header}-> other\n${`${'A'.repeat(64)}\n`.repeat(300)}`, /^age, line 254/],
  ] as const)
    refusedAs(t, ageDecrypt(utf8(text), other), message);
});

withAge('age of Debian opens what is written here, and the other way round', t => {
  const directory = mkdtempSync(join(tmpdir(), 'arena8-trust-'));
  const run = (program: string, args: string[], input?: Uint8Array): Buffer => {
    const done = spawnSync(program, args, { cwd: directory, input, maxBuffer: 1 << 24 });
    t.is(done.status, 0, done.stderr.toString());
    return done.stdout;
  };
  const keys = ['one', 'two'].map(name => {
    const file = run('age-keygen', []).toString();
    writeFileSync(join(directory, name), file);
    const identity = good(parseIdentity(file));
    t.is(formatRecipient(identity.public), run('age-keygen', ['-y', name]).toString().trim());
    t.true(file.includes(formatIdentity(identity)));
    return { name, identity };
  });
  for (const size of AGE_SIZES) {
    const text = crypto.randomBytes(size);
    const ours = good(
      ageEncrypt(
        text,
        keys.map(k => k.identity.public),
        crypto.randomBytes(32),
      ),
    );
    const to = keys.flatMap(k => ['-r', formatRecipient(k.identity.public)]);
    const theirs = run(AGE, ['-e', ...to], text);
    t.is(theirs.length, ours.length);
    for (const { name, identity } of keys) {
      t.deepEqual(run(AGE, ['-d', '-i', name], ours), text);
      t.deepEqual(Buffer.from(good(ageDecrypt(theirs, identity))), text);
    }
  }
  rmSync(directory, { recursive: true });
});

// ---- DSSE and in-toto ----

/** r and s side by side, as the vector has them; here signatures are DER. */
const raw = (der: Uint8Array): Uint8Array => p256.Signature.fromBytes(der, 'der').toBytes('compact');

test('DSSE: the published test vector, and what an envelope may be', t => {
  const body = utf8('hello world');
  const type = 'http://example.com/HelloWorld';
  t.is(Buffer.from(preAuthentication(type, body)).toString(), 'DSSEv1 29 http://example.com/HelloWorld 11 hello world');
  const d = 97358161215184420915383655311931858321456579547487070936769975997791359926199n;
  const key = good(secretKey('p256', fromHex(d.toString(16).padStart(64, '0'))!));
  const coordinate = (at: number): bigint => BigInt(`0x${hex(key.public.bytes.subarray(at, at + 32))}`);
  t.is(coordinate(1), 46950820868899156662930047687818585632848591499744589407958293238635476079160n);
  t.is(coordinate(33), 5640078356564379163099075877009565129882514886557779369047442380624545832820n);
  const signer = { keyid: '', sign: (message: Uint8Array) => good(sign(key, message)) };
  const envelope = good(signEnvelope(type, body, [{ keyid: '', sign: m => raw(signer.sign(m)) }]));
  t.deepEqual(JSON.parse(Buffer.from(envelope).toString()), {
    payload: 'aGVsbG8gd29ybGQ=',
    payloadType: type,
    signatures: [
      { keyid: '', sig: 'A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==' },
    ],
  });
  const log: PublicKey = { kind: 'ed25519', bytes: LOG.key.publicKey };
  const signed = good(signEnvelope(type, body, [signer, { keyid: 'log', sign: LOG.sign }]));
  for (const keys of [[key.public], [log], [log, key.public]])
    t.deepEqual(good(openEnvelope(signed, type, keys)), body);
  const witness: PublicKey = { kind: 'ed25519', bytes: WITNESS.key.publicKey };
  refusedAs(t, openEnvelope(signed, type, [witness]), /^envelope: not signed by a known key$/);
  refusedAs(t, openEnvelope(signed, type, []), /not signed/);
  refusedAs(
    t,
    openEnvelope(signed, 'text/plain', [log]),
    /^envelope: of http:\/\/example\.com\/HelloWorld, not of text\/plain$/,
  );
  const changed = (from: string, to: string): Uint8Array => utf8(Buffer.from(signed).toString().replace(from, to));
  refusedAs(t, openEnvelope(changed('HelloWorld', 'HelloWorle'), type, [log]), /not signed/);
  refusedAs(t, openEnvelope(changed('aGVs', 'aGVt'), type, [log]), /not signed/);
  // Either alphabet of base64 is read.
  const urlSafe = utf8(
    Buffer.from(envelope)
      .toString()
      .replace(/"sig":"[^"]*/, sig => sig.replaceAll('+', '-').replaceAll('/', '_')),
  );
  t.notDeepEqual(urlSafe, envelope);
  t.deepEqual(good(parseEnvelope(urlSafe)), good(parseEnvelope(envelope)));
  for (const [text, message] of [
    ['{', /^not JSON$/],
    ['[]', /payload is not base64/],
    ['{"payload":"A","payloadType":"x","signatures":[]}', /payload is not base64/],
    ['{"payload":"","payloadType":1,"signatures":[]}', /payloadType is not a string/],
    ['{"payload":"","payloadType":"x","signatures":[]}', /signatures is not a list of 1 to 16/],
    ['{"payload":"","payloadType":"x","signatures":[{}]}', /signatures\[0\] has no sig/],
    ['{"payload":"","payloadType":"x","signatures":[null]}', /signatures\[0\] has no sig/],
  ] as const)
    refusedAs(t, parseEnvelope(utf8(text)), message);
});

test('in-toto: a statement is read as it was written', t => {
  const statement = {
    subject: [{ name: 'model.gguf', digest: { sha256: 'ab'.repeat(32) } }],
    predicateType: 'https://arena8.invalid/attestation/v1',
    predicate: { head: 5, errno: 1, message: 'x' },
  };
  const bytes = good(formatStatement(statement));
  t.is(JSON.parse(Buffer.from(bytes).toString())._type, 'https://in-toto.io/Statement/v1');
  t.deepEqual(good(parseStatement(bytes)), statement);
  const changed = (from: string, to: string): Uint8Array => utf8(Buffer.from(bytes).toString().replace(from, to));
  refusedAs(t, parseStatement(changed('v1"', 'v0"')), /_type is not/);
  refusedAs(t, parseStatement(changed('abab', 'xyxy')), /subject\[0\] has no digest/);
  refusedAs(t, parseStatement(changed('"predicate":', '"predicate":1,"x":')), /predicate is not an object/);
  refusedAs(t, parseStatement(changed('"predicateType"', '"type"')), /predicateType is not a string/);
});

// ---- All of them ----

test('no bytes make a reader throw, and what is refused has one line', t => {
  const identity = good(secretKey('x25519', new Uint8Array(32).fill(5)));
  const { tree } = treeOf(9);
  const note = signNote(formatCheckpoint({ origin: LOG.key.name, size: 9, root: tree.root() }), LOG);
  const pemText = formatSecretPem(good(secretKey('p256', new Uint8Array(32).fill(5))));
  const readers: readonly (readonly [Uint8Array, (bytes: Uint8Array) => unknown])[] = [
    [utf8('{"a":[1,true,"\\n"]}'), parseCanonical],
    [utf8('{"a":[1,true,"\\n"]}'), parseJson],
    [utf8(note), parseNote],
    [utf8(note), bytes => openCheckpoint(bytes, LOG.key, [WITNESS.key])],
    [utf8(formatProof({ index: 3, hashes: good(tree.inclusion(3)), checkpoint: note })), parseProof],
    [utf8(formatNoteKey(LOG.key)), bytes => parseNoteKey(asText(bytes))],
    [utf8(NEUMANN_SECRET), bytes => parseNoteSecret(asText(bytes))],
    [utf8(pemText), bytes => parseSecretPem(asText(bytes))],
    [utf8(formatPublicPem(identity.public)), bytes => parsePublicPem(asText(bytes))],
    [utf8(formatRecipient(identity.public)), bytes => parseRecipient(asText(bytes))],
    [utf8(formatIdentity(identity)), bytes => parseIdentity(asText(bytes))],
    [good(ageEncrypt(utf8('text'), [identity.public], new Uint8Array(32))), bytes => ageDecrypt(bytes, identity)],
    [good(signEnvelope('x', utf8('y'), [{ keyid: '', sign: LOG.sign }])), parseEnvelope],
    [
      good(formatStatement({ subject: [{ name: 'a', digest: { sha256: '00' } }], predicateType: 'b', predicate: {} })),
      parseStatement,
    ],
    [joined(frame(utf8('one')), frame(utf8('two'))), bytes => parseEntryBundle(bytes, 2)],
    [utf8('tile/1/x001/002.p/3'), bytes => parseTilePath(asText(bytes))],
  ];
  const edit = fc.record({ at: fc.nat(), cut: fc.nat(8), put: fc.uint8Array({ maxLength: 8 }) });
  for (const [valid, read] of readers) {
    t.false(isRefusal(read(valid)));
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), edits => {
        const bytes = [...valid];
        for (const { at, cut, put } of edits) bytes.splice(at % (bytes.length + 1), cut, ...put);
        const answer = read(Uint8Array.from(bytes));
        if (isRefusal(answer)) t.regex(answer.message, /^[^\n]{1,250}$/);
      }),
      { numRuns: soak ? 5000 : 150 },
    );
  }
  for (const kind of KINDS)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.uint8Array({ maxLength: 80 }), (key, signature) => {
        publicKey(kind, key);
        secretKey(kind, key);
        t.false(verify({ kind, bytes: key }, utf8('m'), signature));
      }),
    );
});

for (const [name, file] of BROWSERS) {
  const declare = existsSync(file) || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
  declare(`${file} writes the same bytes as Node`, async t => {
    t.timeout(120_000);
    const page = await bundled(
      "import { formatsTranscript } from './tests/support/formats.ts'; globalThis.transcript = formatsTranscript();",
    );
    const theirs = await transcriptOf(t, name, file, new Map([['/page.js', ['text/javascript', page]]]));
    t.deepEqual(theirs, formatsTranscript());
  });
}
