// Trust in models: packages of the specification's §12 and OpenSSF Model Signing bundles, against node:crypto, openssl and the published cases, bit by
// bit; then the machine: what is loaded under which policy, what permissions rule out, and that whatever is refused changes nothing.

import { execFileSync } from 'node:child_process';
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  sign as nodeSign,
  verify as nodeVerify,
  X509Certificate,
} from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import test from 'ava';

import { isRefusal, utf8Encode } from '../kernel/abi/index.ts';
import {
  checkBundle,
  checkBundleSignature,
  checkPackage,
  formatPackage,
  formatPublicPem,
  formatSecretPem,
  fromHex,
  packageMessage,
  parseBundle,
  parsePackage,
  parsePublicPem,
  parseSecretPem,
  permissionBits,
  permissionNames,
  secretKey,
  shapeOf,
  sign,
  signBundle,
  signPackage,
  toHex,
  verify,
  type ModelPackage,
  type OmsBundle,
  type SecretKey,
} from '../trust/index.ts';
import { accepted, haveShared, shared } from './harness.ts';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'packages-'));
test.after.always(() => rmSync(scratch, { recursive: true }));
const inScratch = (name: string): string => path.join(scratch, name);
const OPENSSL = '/usr/bin/openssl';
const withOpenssl = existsSync(OPENSSL) || process.env['CI'] === 'true' ? test : test.skip; // a missing oracle fails there
const withShared = haveShared ? test : test.skip;
const openssl = (...args: string[]): Buffer =>
  execFileSync(OPENSSL, args, { cwd: scratch, stdio: ['ignore', 'pipe', 'pipe'] });

const hex = (text: string): Uint8Array => fromHex(text)!;
const sha = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest());
const anyKey = (): boolean => true;

/** RFC 8032, test 1. */
const RFC8032 = {
  secret: '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
  public: 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
  empty:
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
};
const MODEL = utf8Encode('SIS test model\n');
const signer = accepted(secretKey('ed25519', hex(RFC8032.secret)));
const header = { id: 7, version: 3, size: MODEL.length, sha256: sha(MODEL) };
const sealed = accepted(signPackage(header, signer));
const file = { size: MODEL.length, sha256: sha(MODEL) };

// ── Packages ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

test('§12 ✔: SHA-256, RFC 8032 and the signature over the digest', t => {
  t.is(toHex(sha(utf8Encode(''))), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  t.is(toHex(sha(utf8Encode('abc'))), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  t.is(toHex(sha(MODEL)), 'aaac0a87585c7f028d3695f437d1d60b2109f6dea5e7b7eb04001b4fc802ff03');
  t.is(toHex(signer.public.bytes), RFC8032.public);
  t.is(toHex(accepted(sign(signer, new Uint8Array(0)))), RFC8032.empty);
  const overHash =
    '69bca5f743a50a0491780704e4bed3084dcdac19898cd1d6ab2706fdd77b2a7b818f9f05b400219a9890eac8a800751541d52d3a13aa67b2134a9b32b888440c';
  t.is(toHex(accepted(sign(signer, sha(MODEL)))), overHash);
  t.true(verify(signer.public, sha(MODEL), hex(overHash)));
});

test('what is signed: 61 bytes that bind number, version, size and digest', t => {
  const message = packageMessage({ id: 0x01020304, version: 5, size: 2 ** 40 + 9, sha256: header.sha256 });
  const numbers = '04030201050000000900000000010000';
  t.is(toHex(message), toHex(utf8Encode('SIS-MODEL-V1\0')) + numbers + toHex(header.sha256));
  t.is(checkPackage(sealed, file, anyKey), null);
});

test('node:crypto agrees, both ways', t => {
  const secret = createPrivateKey(formatSecretPem(signer));
  t.is(toHex(new Uint8Array(nodeSign(null, packageMessage(header), secret))), toHex(sealed.signature));
  t.true(nodeVerify(null, packageMessage(header), createPublicKey(formatPublicPem(signer.public)), sealed.signature));
});

withOpenssl('openssl agrees, both ways', t => {
  openssl('genpkey', '-algorithm', 'ed25519', '-out', 'their.pem');
  const their = accepted(parseSecretPem(readFileSync(inScratch('their.pem'), 'utf8')));
  writeFileSync(inScratch('message'), packageMessage(header));
  openssl('pkeyutl', '-sign', '-rawin', '-inkey', 'their.pem', '-in', 'message', '-out', 'theirs');
  const ours = accepted(signPackage(header, their));
  t.deepEqual(ours.signature, new Uint8Array(readFileSync(inScratch('theirs'))));
  writeFileSync(inScratch('ours'), ours.signature);
  writeFileSync(inScratch('our.pub'), formatPublicPem(their.public));
  const verified = openssl(
    'pkeyutl',
    '-verify',
    '-rawin',
    '-pubin',
    '-inkey',
    'our.pub',
    '-in',
    'message',
    '-sigfile',
    'ours',
  );
  t.regex(verified.toString(), /Verified Successfully/);
});

const flipped = (bytes: Uint8Array, bit: number): Uint8Array =>
  bytes.map((b, i) => (i === bit >> 3 ? b ^ (1 << (bit & 7)) : b));
const flippedNumber = (n: number, bit: number): number =>
  Math.floor(n / 2 ** bit) % 2 === 1 ? n - 2 ** bit : n + 2 ** bit;

test('every bit of header, digest, signature and key that is flipped is found, with the result that it has', t => {
  const expect = (p: ModelPackage, result: string, what: string): unknown =>
    t.is(checkPackage(p, file, key => toHex(key) === RFC8032.public)?.result, result as never, what);
  for (const name of ['id', 'version'] as const)
    for (let bit = 0; bit < 32; bit++)
      expect({ ...sealed, [name]: flippedNumber(sealed[name], bit) }, 'SignatureFailure', `${name}, bit ${bit}`);
  for (let bit = 0; bit < 53; bit++)
    expect({ ...sealed, size: flippedNumber(sealed.size, bit) }, 'HashMismatch', `size, bit ${bit}`);
  for (let bit = 0; bit < 256; bit++) {
    expect({ ...sealed, sha256: flipped(sealed.sha256, bit) }, 'HashMismatch', `sha256, bit ${bit}`);
    expect({ ...sealed, key: flipped(sealed.key, bit) }, 'SignatureFailure', `key, bit ${bit}`);
  }
  for (let bit = 0; bit < 512; bit++)
    expect({ ...sealed, signature: flipped(sealed.signature, bit) }, 'SignatureFailure', `signature, bit ${bit}`);
  for (let bit = 0; bit < 8 * MODEL.length; bit++)
    t.is(checkPackage(sealed, { ...file, sha256: sha(flipped(MODEL, bit)) }, anyKey)?.result, 'HashMismatch');
});

test('a signature has one form: S + L and keys of small order are refused', t => {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const s = [...sealed.signature.subarray(32)].reduceRight((sum, b) => (sum << 8n) | BigInt(b), 0n) + order;
  const signature = sealed.signature.map((b, i) => (i < 32 ? b : Number((s >> BigInt(8 * (i - 32))) & 0xffn)));
  t.is(checkPackage({ ...sealed, signature }, file, anyKey)?.result, 'SignatureFailure');
  const one = Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? 1 : 0)); // the neutral element: R = key = 1, S = 0 fits any message
  const forged = Uint8Array.from({ length: 64 }, (_, i) => (i === 0 ? 1 : 0));
  t.is(checkPackage({ ...sealed, key: one, signature: forged }, file, anyKey)?.result, 'SignatureFailure');
});

test('the order of the checks: size, hash, signature', t => {
  const bad = { ...sealed, signature: new Uint8Array(64) };
  const result = (p: ModelPackage, f: typeof file): string => checkPackage(p, f, anyKey)?.result ?? 'Success';
  t.regex(checkPackage(bad, { size: 3, sha256: sha(utf8Encode('abc')) }, anyKey)!.message, /3/);
  t.is(result(bad, { ...file, sha256: sha(utf8Encode('abc')) }), 'HashMismatch');
  t.is(result(bad, file), 'SignatureFailure');
  t.is(checkPackage(sealed, file, () => false)?.result, 'SignatureFailure', 'nobody trusts the key');
});

test('a sidecar is one object of canonical JSON; whatever else it is, is refused', t => {
  const bytes = formatPackage(sealed);
  t.deepEqual(parsePackage(bytes), sealed);
  let parsed = 0;
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const p = parsePackage(flipped(bytes, bit));
    if (isRefusal(p)) continue;
    parsed++;
    t.not(checkPackage(p, file, anyKey), null, `bit ${bit}`);
  }
  t.true(parsed > 500, 'most flips leave hex or a number');
  const text = new TextDecoder().decode(bytes);
  for (const [was, is] of [
    ['"id":7', '"id":0'],
    ['"id":7', '"id":4294967296'],
    ['"id":7', '"id":7.0'],
    ['"id":7,', '"id":7, '],
    ['"id":7,', ''],
    ['"id":7', '"id":"7"'],
    ['"version":3', '"version":3,"x":1'],
    ['SIS-MODEL-V1', 'SIS-MODEL-V2'],
    ['"size":15', '"size":-15'],
    ['aaac0a', 'AAAC0A'],
    ['aaac0a', 'aaac'],
    ['{', '[{'],
  ] as const)
    t.true(isRefusal(parsePackage(utf8Encode(text.replace(was, is)))), `${was} → ${is}`);
});

test('permissions by name', t => {
  t.is(permissionBits('load,EXECUTE'), 3);
  t.is(permissionBits('all'), 31);
  t.is(permissionBits('none'), 0);
  t.is(permissionBits('load,fly'), null);
  t.deepEqual(permissionNames(20), ['INSPECT', 'ATTEST']);
});

// ── OpenSSF Model Signing ────────────────────────────────────────────────────────────────────────────────────────────────────────

const OMS = shared('vectors/oms');
const oms = (name: string): Uint8Array => new Uint8Array(readFileSync(`${OMS}/${name}.bundle.json`));
const curveKey: SecretKey = accepted(secretKey('p256', sha(utf8Encode('a test key'))));
const bundleFile = { name: 'x.gguf', sha256: sha(MODEL) };
const bundleBytes = accepted(signBundle('x', [{ name: 'x.gguf', sha256: toHex(sha(MODEL)) }], curveKey));

withShared('the published bundles: what is valid parses, and says how it was signed', t => {
  for (const [name, method, signed] of [
    ['key', 'key', 'signme-1 signme-2'],
    ['certificate', 'certificate', 'signme-1 signme-2'],
    ['sigstore', 'sigstore', 'signme-1 signme-2'],
  ] as const) {
    const bundle = accepted(parseBundle(oms(`valid/${name}`)));
    t.is(bundle.method, method);
    t.is(bundle.resources.map(r => r.name).join(' '), signed);
  }
});

withShared('the published bundles: what is invalid is refused with its reason', t => {
  for (const [name, reason] of [
    ['invalid/empty', /is empty/],
    ['invalid/missing-envelope', /has no dsseEnvelope/],
    ['invalid/missing-tlog-entries', /tlogEntries is missing/],
    ['invalid/missing-verification-material', /has no verificationMaterial/],
    ['invalid-payload/wrong-predicate', /predicateType .*wrong-predicate/],
  ] as const) {
    const bundle = parseBundle(oms(name));
    t.true(isRefusal(bundle), name);
    if (isRefusal(bundle)) t.regex(bundle.message, reason);
  }
});

withShared('the published bundle of a key holds under that key, which the published certificate has', t => {
  const bundle = accepted(parseBundle(oms('valid/key')));
  const { verificationMaterial } = JSON.parse(readFileSync(`${OMS}/valid/certificate.bundle.json`, 'utf8'));
  const [{ rawBytes }] = verificationMaterial.x509CertificateChain.certificates;
  const pem = new X509Certificate(Buffer.from(rawBytes, 'base64')).publicKey.export({ type: 'spki', format: 'pem' });
  const key = accepted(parsePublicPem(pem.toString()));
  t.is(key.kind, 'p384');
  t.is(checkBundleSignature(bundle, [key]), null);
  t.is(checkBundleSignature(bundle, [curveKey.public])?.result, 'SignatureFailure', 'nobody has that key');
  t.regex(shapeOf(bundle.signature, { kind: 'p256' })!, /more than 32 bytes/);
  for (let bit = 0; bit < 8 * bundle.signature.length; bit += 41)
    t.not(checkBundleSignature({ ...bundle, signature: flipped(bundle.signature, bit) }, [key]), null);
});

withShared('certificates and Sigstore are refused by name', t => {
  for (const [name, reason] of [
    ['certificate', /certificate chain: bare keys only/],
    ['sigstore', /Sigstore certificate: bare keys only/],
  ] as const) {
    const why = checkBundleSignature(accepted(parseBundle(oms(`valid/${name}`))), [curveKey.public]);
    t.is(why?.result, 'SignatureFailure');
    t.regex(why!.message, reason);
  }
});

test('a bundle of our own holds for its file under its key, and for no other', t => {
  const bundle = accepted(parseBundle(bundleBytes));
  const result = (b: OmsBundle, f = bundleFile, key = curveKey): string =>
    checkBundle(b, f, [key.public])?.result ?? 'Success';
  t.is(result(bundle), 'Success');
  t.is(result(bundle, { ...bundleFile, name: 'y.gguf' }), 'HashMismatch');
  t.is(result(bundle, { ...bundleFile, sha256: sha(utf8Encode('abc')) }), 'HashMismatch');
  t.is(result(bundle, bundleFile, accepted(secretKey('p256', sha(utf8Encode('another'))))), 'SignatureFailure');
  t.is(result({ ...bundle, rootSha256: toHex(sha(MODEL)) }), 'HashMismatch');
  for (let bit = 0; bit < 8 * bundle.signature.length; bit++)
    t.is(result({ ...bundle, signature: flipped(bundle.signature, bit) }), 'SignatureFailure', `signature, bit ${bit}`);
  for (let bit = 0; bit < 8 * bundle.payload.length; bit += 97)
    t.is(result({ ...bundle, payload: flipped(bundle.payload, bit) }), 'SignatureFailure', `payload, bit ${bit}`);
  t.true(isRefusal(signBundle('x', [], signer)), 'bundles are not signed with Ed25519');
});

withOpenssl('openssl accepts the signature of a bundle, and we one of its own', t => {
  const bundle = accepted(parseBundle(bundleBytes));
  const type = 'application/vnd.in-toto+json';
  const message = Buffer.concat([
    Buffer.from(`DSSEv1 ${type.length} ${type} ${bundle.payload.length} `),
    bundle.payload,
  ]);
  writeFileSync(inScratch('pae'), message);
  writeFileSync(inScratch('pae.sig'), bundle.signature);
  writeFileSync(inScratch('p256.pub'), formatPublicPem(curveKey.public));
  const verified = openssl('dgst', '-sha256', '-verify', 'p256.pub', '-signature', 'pae.sig', 'pae');
  t.regex(verified.toString(), /Verified OK/);
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', 'ec.pem');
  openssl('pkey', '-in', 'ec.pem', '-pubout', '-out', 'ec.pub');
  const key = accepted(parsePublicPem(readFileSync(inScratch('ec.pub'), 'utf8')));
  openssl('dgst', '-sha256', '-sign', 'ec.pem', '-out', 'theirs.sig', 'pae');
  t.true(verify(key, new Uint8Array(message), new Uint8Array(readFileSync(inScratch('theirs.sig')))));
});
