// Trust in models: packages of the specification's §12 and OpenSSF Model Signing bundles, against node:crypto, openssl and the published cases, bit by
// bit; then the machine: what is loaded under which policy, what permissions rule out, and that whatever is refused changes nothing.

import { execFileSync, spawnSync } from 'node:child_process';
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  sign as nodeSign,
  verify as nodeVerify,
  X509Certificate,
} from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import test from 'ava';

import { directory } from '../boot/host-directory.ts';
import { boot, type Machine } from '../boot/index.ts';
import { parseLogKey } from '../boot/log-key.ts';
import { isRefusal, LIMITS, utf8Encode } from '../kernel/abi/index.ts';
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
import { readCpio, writeCpio, type CpioSource } from '../vfs/cpio.ts';
import { accepted, haveShared, random, shared, soak } from './harness.ts';
import { json, ok, refused } from './support/commands.ts';
import { schemaError } from './support/json-schema.ts';

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

/** What the published schemas say of a bundle and of the statement in it; null: nothing is wrong. */
function schemasSay(bytes: Uint8Array): string | null {
  const all = ['bundle', 'envelope', 'statement', 'predicate'].map(
    name => JSON.parse(readFileSync(`${OMS}/schemas/${name}.schema.json`, 'utf8')) as Readonly<Record<string, unknown>>,
  );
  const schemas = new Map(all.map(schema => [schema['$id'] as string, schema]));
  let bundle: { readonly dsseEnvelope: { readonly payload: string } };
  try {
    bundle = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return 'not JSON';
  }
  const wrong = schemaError(bundle, all[0]!, schemas);
  if (wrong !== null) return wrong;
  return schemaError(JSON.parse(Buffer.from(bundle.dsseEnvelope.payload, 'base64').toString()), all[2]!, schemas);
}

withShared('the published schemas take our bundles, and refuse none that we take', t => {
  t.is(schemasSay(bundleBytes), null);
  const cases = ['valid', 'invalid', 'invalid-payload'].flatMap(dir =>
    readdirSync(`${OMS}/${dir}`).map(file => `${dir}/${file.replace('.bundle.json', '')}`),
  );
  t.is(cases.length, 8);
  for (const name of cases) {
    t.is(schemasSay(oms(name)) === null, name.startsWith('valid/'), name);
    t.is(isRefusal(parseBundle(oms(name))), !name.startsWith('valid/'), name);
  }
  const next = random(5);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
  /** Takes something out, puts something else in its place, or adds to it, somewhere in a value of JSON. */
  const spoiled = (value: unknown): unknown => {
    if (typeof value !== 'object' || value === null || next() < 0.2) return pick([null, 7, 'x', [], {}, true, [value]]);
    const at = pick([...Object.keys(value), 'more']);
    const copy = (Array.isArray(value) ? [...value] : { ...value }) as Record<string, unknown>;
    if (next() < 0.3) delete copy[at];
    else copy[at] = spoiled(copy[at]);
    return copy;
  };
  const whole = JSON.parse(new TextDecoder().decode(bundleBytes));
  const statement = JSON.parse(Buffer.from(whole.dsseEnvelope.payload, 'base64').toString());
  let taken = 0;
  for (let i = 0; i < 1000; i++) {
    const payload = Buffer.from(JSON.stringify(spoiled(statement))).toString('base64');
    const bundle = i % 2 === 0 ? spoiled(whole) : { ...whole, dsseEnvelope: { ...whole.dsseEnvelope, payload } };
    const bytes = utf8Encode(JSON.stringify(bundle));
    if (isRefusal(parseBundle(bytes))) continue;
    taken++;
    t.is(schemasSay(bytes), null, JSON.stringify(bundle));
  }
  t.true(taken > 10 && taken < 500, `${taken}`);
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
  t.is(
    checkBundle({ ...bundle, hint: '\u001b[2J' }, bundleFile, [curveKey.public])?.message,
    'key "\\u{1b}[2J" is not trusted',
    'what a stranger wrote is no order to a terminal',
  );
  for (let bit = 0; bit < 8 * bundle.signature.length; bit++)
    t.is(result({ ...bundle, signature: flipped(bundle.signature, bit) }), 'SignatureFailure', `signature, bit ${bit}`);
  for (let bit = 0; bit < 8 * bundle.payload.length; bit += 97)
    t.is(result({ ...bundle, payload: flipped(bundle.payload, bit) }), 'SignatureFailure', `payload, bit ${bit}`);
  t.true(isRefusal(signBundle('x', [], signer)), 'bundles are not signed with Ed25519');
});

test('whatever becomes of a bundle by cutting, doubling and changing bytes is refused, or is the same statement', t => {
  const next = random(12);
  const below = (n: number): number => Math.floor(next() * n);
  for (let i = 0; i < 400; i++) {
    const at = below(bundleBytes.length);
    const n = below(40);
    const changed = [
      bundleBytes.slice(0, at),
      Uint8Array.from([...bundleBytes.subarray(0, at), ...bundleBytes.subarray(at + n)]),
      Uint8Array.from([...bundleBytes.subarray(0, at + n), ...bundleBytes.subarray(at)]),
      bundleBytes.map((b, j) => (j === at ? below(256) : b)),
    ][i % 4]!;
    const bundle = parseBundle(changed);
    if (isRefusal(bundle) || checkBundle(bundle, bundleFile, [curveKey.public]) !== null) continue;
    t.deepEqual(bundle, accepted(parseBundle(bundleBytes)), `case ${i}`);
  }
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

// ── The default models ───────────────────────────────────────────────────────────────────────────────────────────────────────────

withOpenssl('openssl alone verifies the packages of the default models', t => {
  const key = path.resolve('images/root/etc/keys/arena8.pub');
  const models = readdirSync('images/models').filter(f => f.endsWith('.gguf'));
  t.true(models.length > 0);
  const ids = new Set<number>();
  for (const model of models) {
    const p = JSON.parse(readFileSync(`images/models/${model}.sis`, 'utf8'));
    const digest = openssl('dgst', '-sha256', '-r', path.resolve('images/models', model)).toString().slice(0, 64);
    t.is(p.sha256, digest, model);
    const numbers = Buffer.alloc(16);
    numbers.writeUInt32LE(p.id, 0);
    numbers.writeUInt32LE(p.version, 4);
    numbers.writeBigUInt64LE(BigInt(readFileSync(`images/models/${model}`).length), 8);
    writeFileSync(
      inScratch('m'),
      Buffer.concat([Buffer.from('SIS-MODEL-V1\0'), numbers, Buffer.from(p.sha256, 'hex')]),
    );
    writeFileSync(inScratch('s'), Buffer.from(p.signature, 'hex'));
    const said = openssl('pkeyutl', '-verify', '-rawin', '-pubin', '-inkey', key, '-in', 'm', '-sigfile', 's');
    t.regex(said.toString(), /Verified Successfully/, model);
    ids.add(p.id);
  }
  t.is(ids.size, models.length, 'each has a number of its own');
});

// ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const image = new Uint8Array(readFileSync('build/boot.cpio'));

/** The image with these files, or without those that are null. */
function imageWith(files: Readonly<Record<string, Uint8Array | string | null>>): Uint8Array {
  const kept: CpioSource[] = accepted(readCpio(image))
    .filter(e => !(e.name in files))
    .map(({ name, kind, mode, uid, dataAt, bytes }) => ({
      name,
      kind,
      mode,
      owner: uid,
      data: new Uint8Array(image.subarray(dataAt, dataAt + bytes)),
    }));
  const added: CpioSource[] = Object.entries(files).flatMap<CpioSource>(([name, data]) =>
    data === null ? [] : [{ name, kind: 8, mode: 0o644, data: typeof data === 'string' ? utf8Encode(data) : data }],
  );
  const directories: CpioSource[] = [...new Set(added.map(f => path.posix.dirname(f.name)))]
    .filter(dir => !kept.some(e => e.name === dir))
    .map(name => ({ name, kind: 4, mode: 0o755, data: new Uint8Array(0) }));
  return writeCpio([...kept, ...directories, ...added].sort((a, b) => (a.name < b.name ? -1 : 1)));
}

function powerOn(files?: Parameters<typeof imageWith>[0]): { machine: Machine; log: string[] } {
  const log: string[] = [];
  const line = (text: string): void => void log.push(text.replace(/^\[ *[0-9.]+\] /, ''));
  return { machine: boot({ strict: true, image: files === undefined ? image : imageWith(files), log: line }), log };
}

/** A file of the machine with this text. */
function put(machine: Machine, file: string, text: string): void {
  ok(machine, `printf '%s' '${text}' > ${file}`);
}
/** Keys of a test's own: the private one in /tmp/key.pem. */
function ownKey(machine: Machine): void {
  put(machine, '/tmp/key.pem', formatSecretPem(signer));
  put(machine, '/tmp/test.pub', formatPublicPem(signer.public));
}
const STORY = 'llminfer --temp 0 --max-tokens 8 Once upon a time';
const loadedFile = (machine: Machine): unknown => json(machine, 'llmctl info --json')['path'];
/** The operation, result and message of the newest audit record. */
const newest = (machine: Machine): string => ok(machine, 'head -n 1 /proc/audit');

test('the default models are signed by the key of the image; the boot log says so', t => {
  const { machine, log } = powerOn();
  t.true(log.includes('model: package 1 version 1, signed by arena8'));
  t.is(ok(machine, 'llmctl policy'), 'warn\n');
  t.regex(ok(machine, 'grep what=load /proc/audit'), /value="package 1 version 1, signed by arena8"/);
  for (const name of ['fable-f16', 'fable-q8_0', 'fable-q4_0'])
    t.regex(
      ok(machine, `llmverify ${name}`),
      /^\[LLM\]\[MODEL\] verify ok: package [0-9] version 1, signed by arena8\n$/,
    );
  t.regex(ok(machine, 'llmkey'), /^LLM PUBKEY: 0x[0-9a-f]{64} ed25519 arena8 boot\n$/);
  const digest = createHash('sha256').update(readFileSync('images/models/fable-f16.gguf')).digest('hex');
  t.is(ok(machine, 'llmhash'), `LLM HASH: 0x${digest}\n`);
  t.regex(newest(machine), /what=hash user=0 code=0 path=\/models\/fable-f16.gguf/);
  const { signature } = JSON.parse(readFileSync('images/models/fable-f16.gguf.sis', 'utf8'));
  t.is(ok(machine, 'llmsig fable-f16'), `LLM SIG: 0x${signature}\n`);
});

test('what is signed with a key of PEM verifies under it, and under no other; each is recorded', t => {
  const { machine } = powerOn();
  ownKey(machine);
  ok(machine, 'cp /models/fable-q4_0.gguf /tmp/m.gguf');
  t.regex(
    ok(machine, 'llmctl sign /tmp/m.gguf --key /tmp/key.pem --id 9 --rev 4'),
    /^\/tmp\/m.gguf.sis: package 9 version 4, signed by d75a980182/,
  );
  t.regex(newest(machine), /what=sign .*path=\/tmp\/m.gguf .*value="Success: package 9 version 4"/);
  t.like(json(machine, 'llmctl verify /tmp/m.gguf --key /tmp/test.pub --json'), {
    result: 'Success',
    id: 9,
    version: 4,
  });
  const stranger = machine.exec('llmctl verify /tmp/m.gguf');
  t.is(stranger.status, 1);
  t.regex(stranger.stdout, /verify FAILED: SignatureFailure: key d75a9801.* is not trusted/);
  t.regex(newest(machine), /what=verify .*value="SignatureFailure: package 9 version 4"/);
  ok(machine, 'llmctl key add /tmp/test.pub');
  t.like(json(machine, 'llmctl verify /tmp/m.gguf --json'), { result: 'Success', key: 'test' });
  ok(machine, 'llmctl key remove test');
  t.is(machine.exec('llmctl verify /tmp/m.gguf').status, 1);
  t.regex(newest(machine), /SignatureFailure/);

  put(machine, '/tmp/ec.pem', formatSecretPem(curveKey));
  put(machine, '/tmp/ec.pub', formatPublicPem(curveKey.public));
  ok(machine, 'llmctl sign /tmp/m.gguf --oms --key /tmp/ec.pem');
  t.is(machine.exec('llmctl verify --oms /tmp/m.gguf').status, 1, 'nobody trusts that key yet');
  t.like(json(machine, 'llmctl verify --oms /tmp/m.gguf --key /tmp/ec.pub --json'), {
    format: 'oms',
    result: 'Success',
  });
  ok(machine, 'llmctl key add /tmp/ec.pub curve');
  t.like(json(machine, 'llmctl verify --oms /tmp/m.gguf --json'), { result: 'Success', key: 'curve' });
  ok(machine, 'llmctl policy enforce; rm /tmp/m.gguf.sis');
  t.is(machine.exec('llmctl load /tmp/m.gguf').status, 0, 'a bundle vouches for a model too');
  ok(machine, 'printf x | dd of=/tmp/m.gguf bs=1 seek=700000 conv=notrunc 2> /dev/null');
  refused(t, machine, 'llmctl load /tmp/m.gguf', 1, /HashMismatch/);
  refused(t, machine, 'llmctl sign /tmp/m.gguf --key /tmp/ec.pem', 1, /signed with Ed25519, not with a key of p256/);
  refused(t, machine, 'llmctl sign /tmp/m.gguf --key /tmp/test.pub', 1, /PRIVATE KEY is wanted/);
});

test('under warn a model may be unsigned or of a stranger, which is said; what is broken is refused and leaves the old one running', t => {
  const { machine, log } = powerOn();
  const story = ok(machine, STORY);
  ownKey(machine);
  ok(machine, 'cp /models/fable-q4_0.gguf /tmp/m.gguf');
  ok(machine, 'llmctl load /tmp/m.gguf');
  t.true(log.includes('model: nobody has signed it (policy warn)'));
  ok(machine, 'llmctl sign /tmp/m.gguf --key /tmp/key.pem; llmctl load /tmp/m.gguf');
  t.true(log.includes('model: package 1 version 1, signed by a key that is not trusted (policy warn)'));
  ok(machine, 'cp /models/fable-q4_0.gguf /tmp/n.gguf; echo something > /tmp/n.gguf.sig; llmctl load /tmp/n.gguf');
  t.is(log.at(-5), 'model: nobody has signed it (policy warn)', 'a signature of another kind');
  put(machine, '/tmp/ec.pem', formatSecretPem(curveKey));
  ok(machine, 'llmctl sign /tmp/n.gguf --oms --key /tmp/ec.pem; llmctl load /tmp/n.gguf');
  t.regex(log.at(-5)!, /^model: key [0-9a-f]{64} is not trusted \(policy warn\)$/);
  ok(machine, 'llmctl load fable-f16');
  const stays = (command: string, why: RegExp): void => {
    refused(t, machine, command, 1, why);
    t.is(loadedFile(machine), '/models/fable-f16.gguf', command);
    t.is(ok(machine, STORY), story, command);
  };
  const sidecar = ok(machine, 'cat /models/fable-q4_0.gguf.sis');
  const p = accepted(parsePackage(utf8Encode(sidecar)));
  put(
    machine,
    '/tmp/m.gguf.sis',
    new TextDecoder().decode(formatPackage({ ...p, signature: flipped(p.signature, 3) })),
  );
  stays('llmctl load /tmp/m.gguf', /SignatureFailure: package 2 version 1 is not signed by e454f8c6/);
  put(machine, '/tmp/m.gguf.sis', new TextDecoder().decode(formatPackage({ ...p, version: 2 })));
  stays('llmctl load /tmp/m.gguf', /SignatureFailure: package 2 version 2 is not signed/);
  put(machine, '/tmp/m.gguf.sis', '{}');
  stays('llmctl load /tmp/m.gguf', /SignatureFailure: .*\/tmp\/m.gguf.sis: not the members/);
  t.regex(newest(machine), /what=infer/);
  put(machine, '/tmp/m.gguf.sis', sidecar.trimEnd());
  ok(machine, 'llmctl load /tmp/m.gguf; llmctl load fable-f16');
  ok(machine, 'printf x | dd of=/tmp/m.gguf bs=1 seek=500000 conv=notrunc 2> /dev/null');
  stays('llmctl load /tmp/m.gguf', /HashMismatch: the file's SHA-256 is /);
  ok(machine, 'printf x >> /tmp/m.gguf');
  stays('llmctl load /tmp/m.gguf', /HashMismatch: the package is of a file of 774816 bytes, this one has 774817/);
  ok(machine, 'llmctl policy off; llmctl load /tmp/m.gguf');
  t.is(loadedFile(machine), '/tmp/m.gguf', 'off: nothing is looked at');
});

test('a bit of a sidecar that is flipped is found by the machine too: nothing is loaded', t => {
  const host = inScratch('flips');
  mkdirSync(host);
  copyFileSync('images/models/fable-q4_0.gguf', path.join(host, 'm.gguf'));
  const sidecar = new Uint8Array(readFileSync('images/models/fable-q4_0.gguf.sis'));
  const machine = boot({ strict: true, image, mounts: [{ guest: '/h', directory: directory(host, false) }] });
  ok(machine, 'llmctl policy enforce');
  const bits = 8 * (sidecar.length - 1);
  for (let bit = 0; bit < bits; bit += soak ? 1 : 101) {
    writeFileSync(path.join(host, 'm.gguf.sis'), flipped(sidecar, bit));
    refused(t, machine, 'llmctl load /h/m.gguf', 1, /SignatureFailure|HashMismatch/);
  }
  t.is(loadedFile(machine), '/models/fable-f16.gguf');
  writeFileSync(path.join(host, 'm.gguf.sis'), sidecar);
  ok(machine, 'llmctl load /h/m.gguf');
});

test('under enforce every model needs a package that holds; a policy file that says nothing known is enforce', t => {
  const strict = powerOn({ 'etc/llm/policy': 'enforce\n' });
  t.true(strict.log.includes('model: package 1 version 1, signed by arena8'));
  ok(strict.machine, 'cp /models/fable-q4_0.gguf /tmp/m.gguf');
  refused(t, strict.machine, 'llmctl load /tmp/m.gguf', 1, /nobody has signed it \(policy enforce\)/);
  t.regex(newest(strict.machine), /what=load .*(?:errno|error)?.*nobody has signed it/);
  refused(t, strict.machine, 'llmctl plan /tmp/m.gguf', 1, /nobody has signed it/);
  refused(
    t,
    strict.machine,
    'llmctl quantize fable-f16 /tmp/x.gguf q8_0',
    1,
    /PermissionDenied: a model that is not registered has no permission EXPORT/,
  );
  ownKey(strict.machine);
  ok(strict.machine, 'llmctl sign /tmp/m.gguf --key /tmp/key.pem');
  refused(t, strict.machine, 'llmctl load /tmp/m.gguf', 1, /SignatureFailure: key d75a98.* is not trusted/);
  ok(strict.machine, 'llmctl key add /tmp/test.pub; llmctl load /tmp/m.gguf');

  const odd = powerOn({ 'etc/llm/policy': 'perhaps', 'models/fable-f16.gguf.sis': null });
  t.true(odd.log.includes('policy: /etc/llm/policy: perhaps is not off, warn, enforce: enforce'));
  t.true(
    odd.log.some(l => /^model: SignatureFailure: .*nobody has signed it|^model: .*nobody has signed it/.test(l)),
    odd.log.join('\n'),
  );
  t.is(odd.machine.exec('llmctl info').status, 1, 'a machine without a model is a machine all the same');
  const keyless = powerOn({ 'etc/keys/arena8.pub': null, 'etc/keys/bad.pub': 'x' });
  t.true(keyless.log.some(l => l.startsWith('keys: bad.pub: PEM: no block')));
  t.is(ok(keyless.machine, 'llmctl key'), 'LLM PUBKEY: <unset>\n');
  t.true(keyless.log.includes('model: package 1 version 1, signed by a key that is not trusted (policy warn)'));
});

test('permissions are granted at registration, and bind every use', t => {
  const { machine } = powerOn();
  const grant = (words: string): string => ok(machine, `llmctl register fable-q4_0 --grant ${words}`);
  t.is(grant('none'), 'Model registered: 2 (757KB, ctx=0)\n');
  t.regex(newest(machine), /what=register .*path=\/models\/fable-q4_0.gguf name="package 2"/);
  const denied = (command: string, permission: string, status = 1): void =>
    refused(t, machine, command, status, new RegExp(`PermissionDenied: package 2 has no permission ${permission}`));
  denied('llmctl load fable-q4_0', 'LOAD');
  denied('llmctl plan fable-q4_0', 'INSPECT');
  denied('llmctl wcet --model fable-q4_0', 'INSPECT', 2);
  denied('llmctl diff fable-f16 fable-q4_0', 'INSPECT', 2);
  denied('mount -t gguf /models/fable-q4_0.gguf /mnt', 'INSPECT', 32);
  denied('llmctl quantize fable-q4_0 /tmp/x.gguf f16', 'EXPORT');
  denied('llmctl prelink fable-q4_0 /tmp/x.gguf', 'EXPORT');
  ok(machine, 'cp /models/fable-q4_0.gguf /tmp/copy.gguf');
  denied('llmctl load /tmp/copy.gguf', 'LOAD'); // by what it is, not by where it lies

  grant('load,inspect');
  ok(machine, 'llmctl load fable-q4_0; llmctl plan > /dev/null; llmctl plan --ops > /dev/null');
  denied(STORY, 'EXECUTE');
  t.regex(newest(machine), /what=reject .*PermissionDenied/);
  denied('llmctl attest', 'ATTEST');
  t.regex(newest(machine), /what=attest .*PermissionDenied/);
  ok(machine, 'mount -t gguf /models/fable-q4_0.gguf /mnt; cat /mnt/metadata/general.architecture > /dev/null');
  t.is(ok(machine, 'od -A n -t u1 -N 4 /mnt/metadata/tokenizer.ggml.tokens').length > 0, true, 'arrays are metadata');
  refused(t, machine, 'cat /mnt/tensors/output_norm.weight/f32', 1, /Permission denied/);
  refused(t, machine, 'cat /mnt/tensors/output_norm.weight/data', 1, /Permission denied/);
  ok(machine, 'umount /mnt');

  grant('load,execute');
  ok(machine, STORY);
  denied('llmctl plan --ops', 'INSPECT');
  denied('llmctl plan --cost', 'INSPECT');
  for (const verb of ['probs', 'attention', 'lens']) denied(`llmctl ${verb}`, 'INSPECT');
  grant('all');
  ok(
    machine,
    'mount -t gguf /models/fable-q4_0.gguf /mnt; cat /mnt/tensors/output_norm.weight/f32 > /dev/null; umount /mnt',
  );
  ok(machine, 'llmctl unregister 2; llmctl plan fable-q4_0 > /dev/null');
  refused(t, machine, 'llmctl unregister 2', 1, /no package 2 is registered/);
  for (const command of ['register fable-q4_0', 'unregister 1', 'policy off', 'key remove arena8'])
    refused(
      t,
      machine,
      `su user -c 'llmctl ${command}'`,
      1,
      /^llmctl: (?:\/models\/fable-q4_0.gguf|package 1|policy|arena8): Operation not permitted$/m,
    );
  t.regex(newest(machine), /what=key user=1000 .*not permitted/);
});

test('registered: as many as there is room for, no version backwards, no context beyond the one allowed', t => {
  const { machine } = powerOn();
  ownKey(machine);
  ok(machine, 'llmctl key add /tmp/test.pub');
  const [, fingerprint = ''] = /^test\t.*\t([0-9a-f]{64})$/m.exec(ok(machine, 'cat /proc/keys')) ?? [];
  t.true(newest(machine).includes(` name=test value="added ${fingerprint}"`), 'which key it is stands in the log');
  const made = (id: number, rev = 1, text = String(id)): void => {
    put(machine, `/tmp/${id}`, text);
    ok(machine, `llmctl sign /tmp/${id} --key /tmp/key.pem --id ${id} --rev ${rev}`);
  };
  for (let id = 1; id <= LIMITS.packagesMax; id++) {
    made(id);
    ok(machine, `llmctl register /tmp/${id}`);
  }
  const ids = Array.from({ length: LIMITS.packagesMax }, (_, i) => i + 1);
  t.true(ok(machine, 'llmctl list').startsWith(`Registry: [${ids.join(', ')}]\n`));
  made(99);
  refused(t, machine, 'llmctl register /tmp/99', 1, /ConstraintViolation: 16 packages are registered already/);
  made(3, 2, 'newer');
  ok(machine, 'llmctl register /tmp/3');
  t.like(json(machine, 'llmctl query 3 --json'), { id: 3, version: 2, size: 5 });
  made(3);
  refused(
    t,
    machine,
    'llmctl register /tmp/3',
    1,
    /ConstraintViolation: package 3 is registered in version 2, this is 1/,
  );
  made(98, 1, '4');
  refused(t, machine, 'llmctl register /tmp/98', 1, /ConstraintViolation: the same file is registered as package 4/);
  refused(t, machine, 'llmctl register /tmp/4 --id 5', 1, /not package 5/);
  ok(machine, 'llmctl unregister 1; llmctl unregister 2; llmctl key remove test');
  t.regex(ok(machine, 'llmctl query --id 4'), /^Model info: 4 its key is not trusted any more\n/);
  refused(t, machine, 'llmctl register /tmp/5', 1, /SignatureFailure: key .* is not trusted/);
  ok(machine, 'llmctl register fable-f16 --ctx 256');
  refused(t, machine, 'llmctl load fable-f16', 1, /ConstraintViolation: context 512, package 1 allows 256/);
  ok(machine, 'llmctl load fable-f16 --ctx 256');
});

test('swap and rollback: atomically, to registered models only, and back', t => {
  const { machine } = powerOn();
  const story = ok(machine, STORY);
  refused(t, machine, 'llmctl swap --to 2', 1, /no package 2 is registered/);
  refused(t, machine, 'llmctl rollback', 1, /no model was loaded before this one/);
  ok(machine, 'llmctl register fable-f16; llmctl register fable-q4_0; llmctl register fable-q8_0 --grant inspect');
  t.regex(
    ok(machine, 'llmctl swap --from 1 --to 2'),
    /^Hot-swap initiated: 1 → 2\nSwap complete. Downtime: [0-9.]+ms\n$/,
  );
  t.regex(
    newest(machine),
    /what=swap .*path=\/models\/fable-q4_0.gguf value="from \/models\/fable-f16.gguf, [0-9]+ ns, package 2 version 1, signed by arena8"/,
  );
  t.is(loadedFile(machine), '/models/fable-q4_0.gguf');
  const small = ok(machine, STORY);
  refused(t, machine, 'llmctl swap --from 1 --to 3', 1, /package 1 is not loaded: 2 is/);
  refused(t, machine, 'llmctl swap --to 3', 1, /PermissionDenied: package 3 has no permission LOAD/);
  t.regex(newest(machine), /what=swap .*PermissionDenied/);
  t.is(ok(machine, STORY), small, 'the old one goes on');
  refused(t, machine, 'llmctl rollback --to 3', 1, /the model before is \/models\/fable-f16.gguf, not package 3/);
  const back = json<{ id: number; downtime_ns: number }>(machine, 'llmctl rollback --to 1 --json');
  t.is(back.id, 1);
  t.true(back.downtime_ns > 0);
  t.is(ok(machine, STORY), story);
  ok(machine, 'llmctl rollback');
  t.is(ok(machine, STORY), small, 'and to the one before that');
  ok(machine, 'printf x | dd of=/models/fable-f16.gguf bs=1 seek=600000 conv=notrunc 2> /dev/null');
  for (const command of ['llmctl rollback', 'llmctl swap --to 1']) {
    refused(t, machine, command, 1, /HashMismatch/);
    t.is(ok(machine, STORY), small, command);
  }
  ok(machine, 'llmctl unload; llmctl rollback');
  t.is(ok(machine, STORY), small, 'what was unloaded is the model before');
  ok(machine, 'llmctl submit --max-tokens 200 Once upon > /dev/null');
  refused(t, machine, 'llmctl swap --to 2', 1, /EBUSY/);
});

test('a wrong command line changes nothing, and says what is wrong', t => {
  const { machine } = powerOn();
  const records = ok(machine, 'wc -l < /proc/audit');
  for (const [command, status, why] of [
    ['sign fable-f16 --key /nowhere', 1, /\/nowhere: No such file/],
    ['sign fable-f16 --key /etc/passwd', 1, /PEM: no block/],
    ['sign fable-f16 --key /etc/passwd --id 0', 2, /--id and --rev are integers/],
    ['sign fable-f16 --key /etc/passwd --oms --rev 2', 2, /has no --id and no --rev/],
    ['sign /etc/passwd', 1, /passwd\.sis: No such file/],
    ['verify /etc/passwd', 1, /passwd\.sis: No such file/],
    ['verify fable-f16 --key /nowhere', 1, /\/nowhere: No such file/],
    ['hash --oms', 2, /hash takes no --oms/],
    ['key bogus', 2, /key: nothing, add FILE \[NAME\], or remove NAME/],
    ['key add /nowhere', 1, /\/nowhere: No such file/],
    ['register fable-f16 --grant fly', 2, /'fly' is not of load,execute,inspect,export,attest/],
    ['register fable-f16 --ctx -1', 2, /is not an integer from 0/],
    ['register /etc/passwd', 1, /passwd\.sis: No such file/],
    ['unregister one', 2, /'one' is not the id of a package/],
    ['query', 2, /query: missing ID/],
    ['query 1', 1, /no package 1 is registered/],
    ['swap', 2, /swap: which package\? --to ID/],
    ['rollback --to x', 2, /'x' is not the id of a package/],
    ['policy a b', 2, /policy: extra operand 'b'/],
  ] as const)
    refused(t, machine, `llmctl ${command}`, status, why);
  t.is(ok(machine, 'wc -l < /proc/audit'), records, 'nothing was asked of the kernel that it writes down');
  refused(t, machine, 'llmctl policy strict', 1, /policy is off, warn, enforce/);
  refused(t, machine, 'llmctl key add /etc/passwd', 1, /PEM: no block/);
  refused(t, machine, 'llmctl key remove nobody', 1, /no trusted key 'nobody'/);
  refused(t, machine, 'llmctl key add /etc/keys/arena8.pub', 1, /a key 'arena8' is trusted already/);
  refused(t, machine, 'llmctl key add /etc/keys/arena8.pub again', 1, /the same key is trusted as 'arena8'/);
  refused(t, machine, 'llmctl key add /etc/keys/arena8.pub "a b"', 1, /a key's name is 1 to 64 letters/);
});

// ── Attestation ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Attestation {
  readonly subject: readonly { readonly name: string; readonly digest: { readonly sha256: string } }[];
  readonly predicate: Readonly<Record<string, Readonly<Record<string, unknown>>>> & { readonly nonce: string };
}

function attested(
  machine: Machine,
  nonce: string,
): { envelope: string; message: Buffer; sig: Buffer; says: Attestation } {
  const envelope = ok(machine, `llmctl attest --nonce ${nonce}`);
  const { payload, payloadType, signatures } = JSON.parse(envelope);
  const body = Buffer.from(payload, 'base64');
  const message = Buffer.concat([Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${body.length} `), body]);
  return { envelope, message, sig: Buffer.from(signatures[0].sig, 'base64'), says: JSON.parse(body.toString()) };
}

test('an attestation says what the machine is and runs, under the key of its log', t => {
  const logKey = accepted(parseLogKey(formatSecretPem(signer), 'test.invalid/log'));
  const machine = boot({ strict: true, image, logKey });
  ok(machine, 'llmctl register fable-f16 --grant execute,attest');
  const { message, sig, says } = attested(machine, 'n-1');
  t.true(nodeVerify(null, message, createPublicKey(formatPublicPem(signer.public)), sig));
  const digests = Object.fromEntries(says.subject.map(s => [s.name, s.digest.sha256]));
  t.is(digests['model'], createHash('sha256').update(readFileSync('images/models/fable-f16.gguf')).digest('hex'));
  t.is(digests['image'], createHash('sha256').update(image).digest('hex'));
  t.true(ok(machine, 'cat /proc/version').includes(digests['kernel']!));
  const { nonce, model, configuration, log } = says.predicate;
  t.is(nonce, 'n-1');
  t.like(model, { path: '/models/fable-f16.gguf', engine: 'transformer', name: 'fable' });
  t.like(model!['package'], { id: 1, version: 1, trusted: true });
  t.deepEqual(model!['permissions'], ['EXECUTE', 'ATTEST']);
  t.like(configuration, { target: 'cortex-a72', policy: 'warn', seed: 0, disks: [] });
  t.like(log, { origin: 'test.invalid/log', demonstration: false });
  t.regex(log!['checkpoint'] as string, /^test\.invalid\/log\n[0-9]+\n[A-Za-z0-9+/=]+\n\n— test\.invalid\/log /);
  t.regex(newest(machine), /what=attest user=0 code=0 value=n-1/);
  t.is(attested(machine, 'n-2').says.predicate.nonce, 'n-2');
  refused(t, machine, `llmctl attest --nonce ${'x'.repeat(129)}`, 1, /at most 128 bytes/);
  refused(t, boot({ image, audit: false }), 'llmctl attest', 1, /no log, no key to sign with/);
});

const PYTHON = '/usr/bin/python3';
const havePython = existsSync('/usr/lib/python3/dist-packages/cryptography') || process.env['CI'] === 'true';
(havePython ? withOpenssl : test.skip)(
  'openssl and a Python program of ten lines verify an attestation, and refuse another',
  t => {
    const machine = boot({ strict: true, image, logKey: accepted(parseLogKey(formatSecretPem(signer), null)) });
    const { envelope, message, sig } = attested(machine, 'fresh');
    writeFileSync(inScratch('a.json'), envelope);
    writeFileSync(inScratch('a.msg'), message);
    writeFileSync(inScratch('a.sig'), sig);
    writeFileSync(inScratch('log.pub'), formatPublicPem(signer.public));
    const said = openssl(
      'pkeyutl',
      '-verify',
      '-rawin',
      '-pubin',
      '-inkey',
      'log.pub',
      '-in',
      'a.msg',
      '-sigfile',
      'a.sig',
    );
    t.regex(said.toString(), /Verified Successfully/);
    const python = (file: string, nonce: string): number | null =>
      spawnSync(PYTHON, ['tests/outside/attest.py', inScratch(file), inScratch('log.pub'), nonce]).status;
    t.is(python('a.json', 'fresh'), 0);
    t.not(python('a.json', 'stale'), 0);
    const parsed = JSON.parse(envelope);
    const forge = (change: object): number | null => {
      writeFileSync(inScratch('b.json'), JSON.stringify({ ...parsed, ...change }));
      return python('b.json', 'fresh');
    };
    t.not(forge({ payload: Buffer.from(message).subarray(60).toString('base64') }), 0);
    t.not(forge({ signatures: [{ keyid: '', sig: Buffer.from(flipped(sig, 77)).toString('base64') }] }), 0);
    t.not(forge({ payloadType: 'application/json' }), 0);
  },
);

test('a file that weights stream from is not written to by anybody, however it was opened', t => {
  const { machine } = powerOn();
  ok(machine, 'cp /models/fable-q4_0.gguf /tmp/m.gguf; llmctl load --stream --tile 32K --ctx 64 /tmp/m.gguf');
  const story = ok(machine, STORY);
  for (const line of ['printf x | dd of=/tmp/m.gguf bs=1 seek=600000 conv=notrunc', 'printf x >> /tmp/m.gguf'])
    refused(t, machine, line, 1, /Text file busy/);
  refused(t, machine, 'true > /tmp/m.gguf', 2, /Text file busy/);
  refused(
    t,
    machine,
    "sh -c 'exec 3<> /tmp/m.gguf; llmctl load fable-f16 >/dev/null; llmctl rollback >/dev/null; printf x >&3'",
    1,
    /Text file busy/,
  );
  t.is(ok(machine, STORY), story);
  ok(machine, 'llmctl unload; : > /tmp/m.gguf');
});
