// Training on every engine: the same examples and seeds come to the same adapters, losses, clock, arena, state and log, in both builds of the
// kernels, in Node, Chromium and Firefox.
import test from 'ava';
import { existsSync, readFileSync } from 'node:fs';
import process from 'node:process';
import { boot } from '../boot/index.ts';
import { BROWSERS, bundled, transcriptOf, type Site } from './support/browser.ts';
import { trainingTranscript, type TrainingTranscript } from './support/training-transcript.ts';

const inNode = (build: 'simd128' | 'relaxed'): TrainingTranscript =>
  trainingTranscript(options => boot({ ...options, build, image: readFileSync('build/boot.cpio') }));
let expected: TrainingTranscript | null = null;
const ofNode = (): TrainingTranscript => (expected ??= inNode('simd128'));

const PAGE = `
import { Machine, bestBuild } from './boot/machine.ts';
import { PARTS } from './boot/parts.ts';
import { trainingTranscript } from './tests/support/training-transcript.ts';
const image = new Uint8Array(await (await fetch('/boot.cpio')).arrayBuffer());
const build = bestBuild();
const run = async () => ({ build, ...trainingTranscript(options => new Machine({ ...options, parts: PARTS, image, build })) });
globalThis.transcript = run().catch(e => ({ error: String(e && e.stack || e) }));
`;

test.serial('both builds of the kernels train to the same bytes', t => {
  const simd128 = ofNode();
  t.deepEqual(
    simd128.results.filter(r => r.status !== 0),
    [],
  );
  t.deepEqual(inNode('relaxed'), simd128);
});

for (const [name, file] of BROWSERS) {
  const here = existsSync(file);
  const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
  declare(`${file} trains to the same bytes as Node`, async t => {
    t.timeout(180_000);
    if (!here) return t.fail(`${file} is missing`);
    const site: Site = new Map([
      ['/page.js', ['text/javascript', await bundled(PAGE)]],
      ['/boot.cpio', ['application/octet-stream', readFileSync('build/boot.cpio')]],
    ]);
    const { error, build, ...transcript } = (await transcriptOf(t, name, file, site)) as TrainingTranscript & {
      error?: string;
      build: string;
    };
    t.is(error, undefined);
    t.deepEqual(transcript, ofNode());
    t.log(`${name}: ${build}; state ${transcript.state}`);
    return undefined;
  });
}
