// The same machine in a third engine: JavaScriptCore's bare shell, where there is no page, no console and no clock. All that the host's programs
// have beside ECMAScript and WebAssembly is taken away before the machine is loaded, and it must come to the same bytes as in Node: text,
// logits, virtual clock, terminal, digests of arena and state, head of the audit log.
import test from 'ava';
import { build } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { boot } from '../boot/index.ts';
import { transcript, type Transcript } from './support/transcript.ts';

const JSC = '/usr/bin/jsc';

/** What ECMA-262 defines on the global object, and WebAssembly. */
const STANDARD = `
  globalThis Infinity NaN undefined eval isFinite isNaN parseFloat parseInt escape unescape decodeURI
  decodeURIComponent encodeURI encodeURIComponent Object Function Boolean Symbol Number BigInt Math String
  RegExp Array Map Set WeakMap WeakSet WeakRef FinalizationRegistry JSON Promise Reflect Proxy Iterator
  ArrayBuffer DataView Error AggregateError EvalError RangeError ReferenceError SyntaxError TypeError URIError
  Int8Array Uint8Array Uint8ClampedArray Int16Array Uint16Array Int32Array Uint32Array Float32Array Float64Array
  BigInt64Array BigUint64Array WebAssembly
`
  .trim()
  .split(/\s+/);

/** First of all: what the shell gives is kept for the test, and whatever is not in the standard is gone, the host's clock and dice too. */
const BARE = `
const { print, readFile } = globalThis;
for (const name of Object.getOwnPropertyNames(globalThis)) if (!${JSON.stringify(STANDARD)}.includes(name)) delete globalThis[name];
const left = Object.getOwnPropertyNames(globalThis).filter(name => !${JSON.stringify(STANDARD)}.includes(name));
if (left.length > 0) throw new Error('still there: ' + left.join(' '));
Math.random = () => { throw new Error('the machine asks for chance'); };
`;

const MACHINE = `
import { bestBuild, Machine } from './boot/machine.ts';
import { PARTS } from './boot/parts.ts';
import { transcript } from './tests/support/transcript.ts';
const image = new Uint8Array(readFile('build/boot.cpio', 'binary'));
const best = bestBuild();
const run = build => ({ build, ...transcript(options => new Machine({ ...options, parts: PARTS, image, build })) });
print(JSON.stringify([run('simd128'), ...(best === 'simd128' ? [] : [run(best)])]));
`;

/** One script: the bare host, then the machine as one bundle. */
async function script(): Promise<string> {
  const bundle = await build({
    stdin: { contents: MACHINE, resolveDir: process.cwd(), loader: 'ts' },
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'browser',
    target: 'es2023',
    loader: { '.wasm': 'binary' },
  });
  return `${BARE}\n${bundle.outputFiles[0]!.text}`;
}

const here = existsSync(JSC);
const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;

declare(`${JSC} gives the same bytes as Node`, async t => {
  t.timeout(120_000);
  if (!here) return t.fail(`${JSC} is missing`);
  const directory = mkdtempSync(path.join(tmpdir(), 'arena8-jsc-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const file = path.join(directory, 'machine.js');
  writeFileSync(file, await script());
  const { status, stdout, stderr } = spawnSync(JSC, [file], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  t.is(status, 0, `${stderr}${stdout}`.slice(0, 2000));
  const runs = JSON.parse(stdout) as (Transcript & { build: string })[];
  const expected = transcript(options =>
    boot({ image: readFileSync('build/boot.cpio'), build: 'simd128', ...options }),
  );
  t.true(expected.results.every(r => r.status === 0));
  for (const { build: name, ...run } of runs) t.deepEqual(run, expected, name);
  t.log(`${runs.map(r => r.build).join(' and ')}; state ${expected.state}`);
  return undefined;
});
