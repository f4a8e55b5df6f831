// `node tools/sign-models.mjs KEY.pem`: signs every model of images/models with an Ed25519 key (made with openssl where the file does not exist
// yet) and puts the key's public half into the boot image. A model keeps its number; its version goes up when its bytes have changed. The
// private half stays wherever KEY.pem is, which is not in this repository.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { load } from './load.mjs';

const MODELS = 'images/models';
const PUBLIC_KEY = 'images/root/etc/keys/arena8.pub';

const [keyFile] = process.argv.slice(2);
if (keyFile === undefined) {
  console.error('usage: node tools/sign-models.mjs KEY.pem');
  process.exit(2);
}
if (!existsSync(keyFile)) execFileSync('openssl', ['genpkey', '-algorithm', 'ed25519', '-out', keyFile]);

const { formatPackage, formatPublicPem, parsePackage, parseSecretPem, sidecarOf, signPackage } =
  await load('trust/index');

/** What the machine's own code answers, or the end of this program with its reason. */
function wanted(value, what) {
  if (value.errno === undefined) return value;
  console.error(`${what}: ${value.message}`);
  return process.exit(1);
}

const key = wanted(parseSecretPem(readFileSync(keyFile, 'utf8')), keyFile);
const files = readdirSync(MODELS)
  .filter(f => f.endsWith('.gguf'))
  .sort()
  .map(f => `${MODELS}/${f}`);
const before = new Map(
  files
    .filter(f => existsSync(sidecarOf(f)))
    .map(f => [f, wanted(parsePackage(readFileSync(sidecarOf(f))), sidecarOf(f))]),
);
let next = Math.max(0, ...[...before.values()].map(p => p.id)) + 1;

for (const file of files) {
  const bytes = readFileSync(file);
  const sha256 = new Uint8Array(createHash('sha256').update(bytes).digest());
  const old = before.get(file);
  const isNew = old !== undefined && Buffer.compare(old.sha256, sha256) !== 0;
  const header = { id: old?.id ?? next++, version: (old?.version ?? 1) + (isNew ? 1 : 0), size: bytes.length, sha256 };
  writeFileSync(sidecarOf(file), formatPackage(wanted(signPackage(header, key), keyFile)));
  console.log(`${sidecarOf(file)}: package ${header.id} version ${header.version}`);
}
mkdirSync(PUBLIC_KEY.slice(0, PUBLIC_KEY.lastIndexOf('/')), { recursive: true });
writeFileSync(PUBLIC_KEY, formatPublicPem(key.public));
