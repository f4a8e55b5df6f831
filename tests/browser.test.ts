// The same machine in Debian's Chromium and Firefox: boots from the same image, runs the same commands, and must give the same bytes as in
// Node — text, logits, virtual clock, the digest of the whole arena, and what a person at the terminal sees. The page is nothing but boot/machine.ts and a list of commands.
import test, { type ExecutionContext } from 'ava';
import { existsSync, readFileSync } from 'node:fs';
import { boot } from '../boot/index.ts';
import { BROWSERS, bundled, transcriptOf, type Site } from './support/browser.ts';
import { sitting } from './support/sitting.ts';
import { resultsOf, type Result } from './support/transcript.ts';

interface Transcript {
  readonly build?: string;
  readonly digest: string;
  readonly results: readonly Result[];
  /** What a person sees: tests/support/sitting.ts. */
  readonly screens: readonly (readonly string[])[];
}

async function inNode(build: 'simd128' | 'relaxed'): Promise<Transcript> {
  const machine = boot({ build, image: readFileSync('build/boot.cpio') });
  const results = resultsOf(machine);
  const screens = await sitting(console => boot({ build, console, image: readFileSync('build/boot.cpio') }));
  return { digest: machine.kernel.arenaDigest(), results, screens };
}

const PAGE = `
import { Machine, bestBuild } from './boot/machine.ts';
import { PARTS } from './boot/parts.ts';
import { sitting } from './tests/support/sitting.ts';
import { resultsOf } from './tests/support/transcript.ts';
const image = await (await fetch('/boot.cpio')).arrayBuffer();
const run = async build => {
  const machine = new Machine({ parts: PARTS, image: new Uint8Array(image), build });
  const results = resultsOf(machine);
  const screens = await sitting(console => new Machine({ parts: PARTS, image: new Uint8Array(image), build, console }));
  return { build, digest: machine.kernel.arenaDigest(), results, screens };
};
const both = async () => {
  const best = bestBuild();
  return [await run('simd128'), ...(best === 'simd128' ? [] : [await run(best)])];
};
globalThis.transcript = both().catch(e => [{ error: String(e && e.stack || e) }]);
`;

async function inBrowser(
  t: ExecutionContext,
  browserName: 'chrome' | 'firefox',
  executablePath: string,
): Promise<Transcript[]> {
  const site: Site = new Map([
    ['/page.js', ['text/javascript', await bundled(PAGE)]],
    ['/boot.cpio', ['application/octet-stream', readFileSync('build/boot.cpio')]],
  ]);
  const results = (await transcriptOf(t, browserName, executablePath, site)) as (Transcript & { error?: string })[];
  for (const r of results) t.is(r.error, undefined);
  return results;
}

test.serial('both builds of the kernels give the same bytes in Node', async t => {
  const simd128 = await inNode('simd128');
  const relaxed = await inNode('relaxed');
  t.deepEqual(relaxed.results, simd128.results);
  t.is(relaxed.digest, simd128.digest);
  t.true(
    simd128.results.every(r => r.status === 0),
    JSON.stringify(simd128.results.filter(r => r.status !== 0)),
  );
});

for (const [name, file] of BROWSERS) {
  const here = existsSync(file);
  const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
  declare(`${file} gives the same bytes as Node`, async t => {
    t.timeout(120_000);
    if (!here) return t.fail(`${file} is missing`);
    const { results, digest, screens } = await inNode('simd128');
    const builds = await inBrowser(t, name, file);
    for (const browser of builds) {
      t.deepEqual(browser.results, results);
      t.is(browser.digest, digest);
      t.deepEqual(browser.screens, screens);
    }
    t.log(`${name}: ${builds.map(b => b.build).join(' and ')}`);
    return undefined;
  });
}
