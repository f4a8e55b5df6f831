// House rules as tests: types, room boundaries, lint, format, what a stranger would trip over in the tree, and a package that is complete.
// After TigerBeetle's tidy.zig: a rule that nothing checks is a wish.
import test from 'ava';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { boot } from '../boot/index.ts';

const root = process.cwd();
const bin = (name: string) => path.join(root, 'node_modules/.bin', name);
const run = (command: string, args: string[], cwd = root) => {
  const r = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 64 << 20 });
  return { status: r.status, output: r.stdout + r.stderr };
};
const json = (file: string) => JSON.parse(readFileSync(path.join(root, file), 'utf8'));

/** Rooms and the doors between them: who may import whom. The kernel's ABI is a room of its own. */
const DOORS: Record<string, readonly string[]> = {
  'kernel/abi': [],
  trust: ['kernel/abi'],
  vfs: ['kernel/abi'],
  kernel: ['kernel/abi', 'trust', 'vfs'],
  drivers: ['kernel/abi'],
  shell: ['kernel/abi', 'trust'],
  boot: ['kernel/abi', 'trust', 'vfs', 'kernel', 'drivers', 'shell', 'boot/web/protocol'],
};
/** Rooms with a host's types. */
const WEB_DOORS: Record<string, readonly string[]> = {
  'boot/web/protocol': ['kernel/abi'],
  'boot/web/page': ['kernel/abi', 'boot/web/protocol'],
  'boot/web/offline': [],
  'boot/web/worker': ['kernel/abi', 'trust', 'vfs', 'kernel', 'drivers', 'shell', 'boot', 'boot/web/protocol'],
};
const ALL_DOORS = { ...DOORS, ...WEB_DOORS };
const roomOf = (file: string) =>
  ['kernel/abi', ...Object.keys(WEB_DOORS)].find(room => file.startsWith(`${room}/`)) ?? file.split('/')[0]!;
const sources = Object.keys(DOORS)
  .filter(room => room !== 'kernel/abi')
  .flatMap(room => readdirSync(path.join(root, room), { recursive: true, encoding: 'utf8' }).map(f => `${room}/${f}`))
  .filter(f => f.endsWith('.ts') && !f.startsWith('drivers/engine/simd/'));

/** Files a clone would have: tracked, or new and not ignored. Empty outside a git checkout. */
const tracked = run('git', ['ls-files', '--cached', '--others', '--exclude-standard'])
  .output.split('\n')
  .filter(f => f !== '' && existsSync(path.join(root, f)));

test('types hold in every room', t => {
  const r = run(bin('tsc'), ['-b']);
  t.is(r.status, 0, r.output);
});

test('lint is clean', t => {
  const r = run(bin('oxlint'), ['-c', '.oxlintrc.json', '.']);
  t.is(r.status, 0, r.output);
});

test('format is clean', t => {
  const r = run(bin('prettier'), ['--check', '.']);
  t.is(r.status, 0, r.output);
});

test('imports go through doors only', t => {
  const wrong: string[] = [];
  for (const file of sources) {
    const text = readFileSync(path.join(root, file), 'utf8');
    for (const [, target] of text.matchAll(/^\s*(?:import|export)\b[^;'"]*?(?:from\s*)?['"](\.[^'"]+\.ts)['"]/gm)) {
      const room = roomOf(file);
      const other = roomOf(path.posix.join(path.posix.dirname(file), target!));
      if (other !== room && other !== 'build' && !ALL_DOORS[room]!.includes(other))
        wrong.push(`${file} imports ${target}`);
    }
  }
  t.deepEqual(wrong, []);
  t.true(sources.length > 0);
});

const importOf = (room: string, other: string) =>
  `export type { Here as T${other.length} } from './${path.posix.relative(room, other)}/door.ts';\n`;

test('the compiler keeps the doors', t => {
  // The tsconfigs alone, in a copy, with one file a room: a legal import of every room that may be imported, then an illegal one of each other.
  const copy = mkdtempSync(path.join(tmpdir(), 'arena8-doors-'));
  const rooms = Object.keys(DOORS).filter(room => room !== 'boot');
  try {
    for (const f of ['tsconfig.base.json', 'tsconfig.json', ...rooms.map(room => `${room}/tsconfig.json`)])
      cpSync(path.join(root, f), path.join(copy, f));
    symlinkSync(path.join(root, 'node_modules'), path.join(copy, 'node_modules'));
    for (const room of rooms) writeFileSync(path.join(copy, room, 'door.ts'), 'export type Here = 1;\n');
    for (const room of rooms) {
      const file = path.join(copy, room, 'visitor.ts');
      const build = () => run(bin('tsc'), ['-b', room], copy);
      writeFileSync(file, ['export {};\n', ...DOORS[room]!.map(other => importOf(room, other))].join(''));
      const legal = build();
      t.is(legal.status, 0, `${room}: ${legal.output}`);
      const closed = rooms.filter(other => other !== room && !DOORS[room]!.includes(other));
      writeFileSync(file, closed.map(other => importOf(room, other)).join(''));
      const breach = build();
      for (const other of closed)
        t.regex(breach.output, new RegExp(`TS6307: File '[^']*/${other}/door\\.ts'`), `${room} must not see ${other}`);
      writeFileSync(
        file,
        'export const host = () => [process.pid, console, WebAssembly, new TextEncoder(), setTimeout, performance];\n',
      );
      const outward = build();
      for (const name of ['process', 'console', 'WebAssembly', 'TextEncoder', 'setTimeout', 'performance'])
        t.regex(outward.output, new RegExp(`Cannot find name '${name}'`), `${room} must not see the host's ${name}`);
      rmSync(file);
    }
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
});

test('no file names a machine or a registry', t => {
  // Written with brackets so that this file does not find itself.
  const patterns = [
    /\/[w]ork\//,
    /\/[h]ome\/(?!user\/)[a-z]+\//, // user: an account of the machine's own
    /registry\.[n]pmjs/,
    /deb\.[d]ebian/,
    /https?:\/\/(?:10|127|192)\.\d+\.\d+\.\d+:\d{2,}/,
  ];
  const found = tracked
    .filter(f => !/\.(gguf|cpio|wasm|png)$/.test(f))
    .flatMap(f => {
      const text = readFileSync(path.join(root, f), 'utf8');
      return patterns.filter(p => p.test(text)).map(p => `${f}: ${p.source}`);
    });
  t.deepEqual(found, []);
});

test('lock files record no download addresses', t => {
  for (const f of ['package-lock.json', 'bench/peers/package-lock.json'])
    t.notRegex(readFileSync(path.join(root, f), 'utf8'), /"resolved": *"http/, f);
});

test('the tree holds no unfinished work and nothing from the fixtures', t => {
  const unfinished = sources.filter(f => /\b(?:TODO|FIXME|XXX)\b/.test(readFileSync(path.join(root, f), 'utf8')));
  t.deepEqual(unfinished, []);
  t.deepEqual(
    tracked.filter(f => /stories260K|synthKQ|synth8M|synthgpt2|ggml-vocab/.test(f)),
    [],
  );
});

test('every source file says what it is', t => {
  const silent = sources.filter(f => {
    const lines = readFileSync(path.join(root, f), 'utf8').split('\n').slice(0, 2);
    return !lines.some(l => l.startsWith('//') || l.startsWith('/*'));
  });
  t.deepEqual(silent, []);
});

test('every program of the shell has a manual page and --help', t => {
  const programs = sources.filter(f => /^shell\/bin\/[^/]+\.ts$/.test(f)).map(f => path.basename(f, '.ts'));
  t.true(programs.length > 0);
  const machine = boot({ image: readFileSync('build/boot.cpio') });
  for (const program of programs) {
    const page = machine.exec(`man ${program}`);
    t.is(page.status, 0, `man ${program}: ${page.stderr}`);
    for (const section of ['NAME', 'SYNOPSIS']) t.regex(page.stdout, new RegExp(`^${section}$`, 'm'), `man ${program}`);
    t.regex(machine.exec(`/bin/${program} --help`).stdout, /^Usage: /, `${program} --help`);
  }
});

test('the package is complete', t => {
  const p = json('package.json');
  t.is(p.name, 'arena8');
  t.regex(p.version, /^\d+\.\d+\.\d+$/);
  t.is(p.license, 'MIT');
  t.is(p.type, 'module');
  t.is(p.engines.node, '>=20.19');
  t.is(p.bin.arena8, 'build/arena8.js');
  for (const f of p.files) t.true(existsSync(path.join(root, f)), `${f} is published but missing`);
  t.true(existsSync(path.join(root, p.exports['.'].default)));
  t.true(existsSync(path.join(root, p.exports['.'].types)), 'types of the library');
  const program = readFileSync(path.join(root, p.bin.arena8), 'utf8');
  t.regex(program, /^#!\/usr\/bin\/env node\n/);
  t.regex(
    program,
    /^[\0-\x7f]*$/,
    'all ASCII: V8 keeps and reads it in half the bytes, some 20 ms sooner (escape what stands in patterns)',
  );
  for (const [name, version] of Object.entries({ ...p.dependencies, ...p.devDependencies }))
    t.regex(String(version), /^\d/, `${name} is pinned`);
});
