// The digest of this build: one SHA-256 over everything that decides what the machine computes. It names the sources of the rooms, the compiled
// kernels with their certificates, and package.json, which pins the libraries; two trees that agree in it make the same machine, wherever and
// for whichever host they are bundled. The image has a digest of its own. What is hashed is the output of sha256sum, so that a stranger can do it
// with the tools of any Unix: see `recipe`.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { meteredModule, sha256Module } from './wasm.mjs';

const root = new URL('..', import.meta.url).pathname;
const FILE = 'build/digest.json';
const ROOMS = ['boot', 'drivers', 'kernel', 'shell', 'trust', 'vfs'];
const BUILT = ['build/certificates.json', meteredModule('relaxed'), meteredModule('simd128'), sha256Module];

/** The same by hand, from the root of a tree in which `node tools/build.mjs` has run. */
export const recipe =
  `(find ${ROOMS.join(' ')} -name '*.ts'; ls package.json ${BUILT.join(' ')}) | ` +
  `LC_ALL=C sort | xargs sha256sum | sha256sum`;

const sha256 = bytes => createHash('sha256').update(bytes).digest('hex');

/** Paths from the root, in the order of their bytes: all of them are ASCII. */
function files() {
  const sources = ROOMS.flatMap(room =>
    readdirSync(path.join(root, room), { recursive: true })
      .filter(name => name.endsWith('.ts'))
      .map(name => `${room}/${name.replaceAll(path.sep, '/')}`),
  );
  return [...sources, ...BUILT, 'package.json'].sort((a, b) => (a < b ? -1 : 1));
}

/** 64 hexadecimal digits. The kernels and certificates must be built. */
export function buildDigest() {
  const lines = files().map(file => `${sha256(readFileSync(path.join(root, file)))}  ${file}\n`);
  return sha256(lines.join(''));
}

/** Writes build/digest.json, which boot/version.ts is bundled with. */
export function writeDigest() {
  mkdirSync(path.join(root, 'build'), { recursive: true });
  const tmp = path.join(root, `${FILE}.${process.pid}.tmp`);
  writeFileSync(tmp, `${JSON.stringify({ kernel: buildDigest() })}\n`);
  renameSync(tmp, path.join(root, FILE));
}
