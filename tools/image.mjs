// Packs the boot image: images/root and images/models, one program file for each program linked into the shell, and empty mount points,
// into build/boot.cpio (cpio newc, written by vfs/cpio.ts). The same sources give the same bytes: names sorted, times zero, owners and modes
// by rule. Runs only when a source is newer than the image. docs/IMAGE.md describes the result.
import { build } from 'esbuild';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const image = path.join(root, 'build/boot.cpio');
const sources = ['images', 'shell', 'vfs/cpio.ts', 'kernel/abi', 'tools/image.mjs'];
const mountPoints = [
  'bin',
  'dev',
  'etc',
  'home',
  'home/user',
  'home/auditor',
  'mnt',
  'models',
  'proc',
  'root',
  'tmp',
  'var',
  'var/log',
  'var/sis',
  'var/sis/adapters',
];

/** What is not root's, not 0644 or, for directories and programs, 0755. Three programs run as root: they know whose password is right. */
const special = {
  'bin/login': { mode: 0o4755 },
  'bin/passwd': { mode: 0o4755 },
  'bin/su': { mode: 0o4755 },
  'etc/shadow': { mode: 0o600 },
  'home/user': { mode: 0o700, owner: 1000 },
  'home/auditor': { mode: 0o700, owner: 1001 },
  root: { mode: 0o700 },
  tmp: { mode: 0o1777 },
  'var/sis/adapters': { mode: 0o1777 },
};

/** Every file and directory beneath `dir`, as paths relative to it. */
function walk(dir) {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true })
    .filter(e => !e.name.startsWith('.'))
    .flatMap(e =>
      e.isDirectory()
        ? [
            { name: e.name, dir: true },
            ...walk(path.join(dir, e.name)).map(f => ({ ...f, name: `${e.name}/${f.name}` })),
          ]
        : [{ name: e.name, dir: false }],
    );
}

/** The newest change of a file or of anything beneath a directory; removals count, as they touch the directory. */
function newest(file) {
  if (!existsSync(file)) return 0;
  const names = statSync(file).isDirectory() ? walk(file).map(f => path.join(file, f.name)) : [];
  return Math.max(statSync(file).mtimeMs, ...names.map(f => statSync(f).mtimeMs));
}

/** What the image holds: name → contents, or null for a directory. */
function contents(programs) {
  const entries = new Map(mountPoints.map(name => [name, null]));
  for (const { name, dir } of walk(path.join(root, 'images/root')))
    entries.set(name, dir ? null : readFileSync(path.join(root, 'images/root', name)));
  for (const { name } of walk(path.join(root, 'images/models')).filter(f => /\.gguf(?:\.sis)?$/.test(f.name)))
    entries.set(`models/${name}`, readFileSync(path.join(root, 'images/models', name)));
  for (const name of programs) entries.set(`bin/${name}`, Buffer.from(`#!arena8 ${name}\n`));
  return entries;
}

/** A module of the machine, bundled on the fly, so that its tools use what it uses: one cpio writer, one list of programs. */
async function load(file) {
  const { outputFiles } = await build({
    entryPoints: [path.join(root, file)],
    bundle: true,
    format: 'esm',
    write: false,
    logLevel: 'warning',
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);
}

/** Builds build/boot.cpio when a source is newer. */
export async function buildImage({ force = false } = {}) {
  const stale = Math.max(...sources.map(f => newest(path.join(root, f))));
  if (!force && existsSync(image) && statSync(image).mtimeMs > stale) return;
  const { writeCpio } = await load('vfs/cpio.ts');
  const { programs } = await load('shell/index.ts');
  const entries = [...contents(programs.keys())].sort(([a], [b]) => (a < b ? -1 : 1));
  const archive = writeCpio(
    entries.map(([name, data]) => ({
      name,
      kind: data === null ? 4 : 8, // KIND.dir, KIND.file
      mode: data === null || name.startsWith('bin/') ? 0o755 : 0o644,
      data: data ?? new Uint8Array(0),
      ...special[name],
    })),
  );
  mkdirSync(path.dirname(image), { recursive: true });
  writeFileSync(`${image}.tmp`, archive);
  renameSync(`${image}.tmp`, image);
}

if (import.meta.url === `file://${process.argv[1]}`) await buildImage({ force: process.argv.includes('--force') });
