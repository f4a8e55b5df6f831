// Files of a browser as disks of the machine: its own file system, files that a person has chosen, files of a server, each read in a worker. The
// same model from each of them gives the tokens, the digests and the clock that it gives in Node from memory.

import test from 'ava';
import { existsSync, readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { listedDirectory, memoryFile } from '../boot/listed-directory.ts';
import { boot } from '../boot/index.ts';
import type { SlotDirectory } from '../boot/slot-directory.ts';
import { E, KIND, O, utf8Encode } from '../kernel/abi/index.ts';
import { BROWSERS, bundled, transcriptOf, type Answer, type Site } from './support/browser.ts';
import { Slots } from './support/slots.ts';

const image = readFileSync('build/boot.cpio');

/** The model that the image has, as a file. */
const MODEL = modelOf('/models/fable-q4_0.gguf');

function modelOf(path: string): Uint8Array {
  const machine = boot({ image });
  return machine.exec(`cat ${path}`).stdoutBytes;
}

const COMMANDS = [
  ...['/opfs/models', '/blob', '/http'].flatMap(at => [
    `sha256sum ${at}/x.gguf; ls ${at}`,
    `llmctl load ${at}/x.gguf`,
    'llminfer --json --seed 3 --max-tokens 12 Once upon a time',
    `llmctl load ${at}/x.gguf --stream=on --tile 16K --pin 0`,
    'llminfer --json --seed 3 --max-tokens 12 Once upon a time',
    'llmctl unload',
  ]),
  'cat /opfs/note; echo more >> /opfs/note; cat /opfs/note; echo new > /opfs/other',
  'lsblk; uptime',
];

interface Result {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}
interface Transcript {
  readonly results: readonly Result[];
  readonly digest: string;
  readonly replaced: Result;
  readonly kept: string;
  readonly error?: string;
}

function put(directory: SlotDirectory, path: string, bytes: Uint8Array): void {
  const incoming = directory.incoming();
  if (typeof incoming === 'number') throw new Error('no slot is left');
  incoming.write(0, bytes, 0, bytes.length);
  incoming.name(path, 0o644, 0, 0);
}

/** The machine in Node, its mounts called as the worker's. */
function inNode(): Pick<Transcript, 'results' | 'digest'> {
  const x = memoryFile(MODEL);
  const opfs = new Slots().directory(9, undefined, 'opfs:/');
  opfs.mkdir('models', 0o755);
  put(opfs, 'models/x.gguf', MODEL);
  put(opfs, 'note', utf8Encode('noted\n'));
  const machine = boot({
    image,
    mounts: [
      { guest: '/opfs', directory: opfs },
      { guest: '/blob', directory: listedDirectory('blob', new Map([['x.gguf', x]]), true) },
      {
        guest: '/http',
        directory: listedDirectory(
          'http',
          new Map([
            ['x.gguf', x],
            ['y', memoryFile(MODEL)],
          ]),
          true,
        ),
      },
    ],
    disks: { vdb: 'nvme', vdc: 'emmc' },
  });
  const results = COMMANDS.map(c => {
    const { status, stdout, stderr } = machine.exec(c);
    return { status, stdout, stderr };
  });
  return { results, digest: machine.kernel.arenaDigest() };
}

const WORKER = `
import { Machine } from './boot/machine.ts';
import { PARTS } from './boot/parts.ts';
import { listedDirectory } from './boot/listed-directory.ts';
import { OpfsTree } from './boot/web/worker/opfs.ts';
import { blobFile, urlFile } from './boot/web-files.ts';
const bytesOf = async url => new Uint8Array(await (await fetch(url)).arrayBuffer());
const put = ${String(put)};
const run = async () => {
  const [image, model] = await Promise.all([bytesOf('/boot.cpio'), bytesOf('/x.gguf')]);
  const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('x', { create: true });
  const opfs = await OpfsTree.open(root, 'opfs:/', () => {});
  opfs.directory.mkdir('models', 0o755);
  put(opfs.directory, 'models/x.gguf', model);
  put(opfs.directory, 'note', new TextEncoder().encode('noted\\n'));
  const at = name => new URL(name, location.href).href;
  const machine = new Machine({
    parts: PARTS,
    image,
    mounts: [
      { guest: '/opfs', directory: opfs.directory },
      { guest: '/blob', directory: listedDirectory('blob', new Map([['x.gguf', blobFile(new Blob([model]))]]), true) },
      { guest: '/http', directory: listedDirectory('http', new Map([['x.gguf', urlFile(at('/x.gguf'))], ['y', urlFile(at('/y'))]]), true) },
    ],
    disks: { vdb: 'nvme', vdc: 'emmc' },
  });
  const exec = c => { const { status, stdout, stderr } = machine.exec(c); return { status, stdout, stderr }; };
  const results = ${JSON.stringify(COMMANDS)}.map(exec);
  const digest = machine.kernel.arenaDigest();
  const replaced = exec('head -c 10 /http/y | wc -c; cat /http/y | wc -c');
  opfs.close();
  const again = await OpfsTree.open(root, 'opfs:/', () => {});
  const bytes = new Uint8Array(11);
  again.directory.open('note', 0).read(0, bytes, 0, 11);
  again.close();
  const kept = new TextDecoder().decode(bytes);
  return { results, digest, replaced, kept };
};
run().then(r => postMessage(r), e => postMessage({ error: String(e && e.stack || e) }));
`;

const PAGE = `
new Worker('/worker.js', { type: 'module' }).onmessage = e => { globalThis.transcript = e.data; };
`;

/** Answers ranges of MODEL, its entity tag being what \`tag\` says at that moment. */
const ranges =
  (tag: () => string): Answer =>
  (request: IncomingMessage, response: ServerResponse): void => {
    const etag = tag();
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    const partial = from !== undefined && (request.headers['if-range'] ?? etag) === etag;
    const body = partial ? MODEL.subarray(Number(from), Number(to) + 1) : MODEL;
    response.writeHead(partial ? 206 : 200, { 'accept-ranges': 'bytes', etag, 'content-length': body.length });
    response.end(request.method === 'HEAD' ? undefined : body);
  };

for (const [name, file] of BROWSERS) {
  const here = existsSync(file);
  const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
  declare(`${file} reads its own files, chosen files and files of a server as Node reads memory`, async t => {
    t.timeout(120_000);
    if (!here) return t.fail(`${file} is missing`);
    let asked = 0;
    const site: Site = new Map<string, readonly [string, Uint8Array | string] | Answer>([
      ['/page.js', ['text/javascript', PAGE]],
      ['/worker.js', ['text/javascript', await bundled(WORKER)]],
      ['/boot.cpio', ['application/octet-stream', image]],
      ['/x.gguf', ranges(() => '"1"')],
      ['/y', ranges(() => (++asked > 4 ? '"2"' : '"1"'))],
    ]);
    const there = (await transcriptOf(t, name, file, site)) as Transcript;
    t.is(there.error, undefined);
    const { results, digest } = inNode();
    t.deepEqual(there.results, results);
    t.is(there.digest, digest);
    const model = results.slice(0, -2);
    t.true(
      model.every(r => r.status === 0),
      JSON.stringify(model.filter(r => r.status !== 0)),
    );
    t.like(results.at(-2)!, { stdout: 'noted\nnoted\nmore\n', status: 0 });
    t.regex(there.replaced.stderr, /^cat: \/http\/y: I\/O error reading \d+ bytes at \d+$/m);
    t.is(there.kept, 'noted\nmore\n', 'what was written is there when the machine is gone');
    return undefined;
  });
}

test('a directory of known names: kinds, errors, what can be written', t => {
  const d = listedDirectory(
    'here',
    new Map([
      ['a/b/c', memoryFile(Uint8Array.of(1, 2, 3))],
      ['a/z', memoryFile(new Uint8Array(0))],
    ]),
    false,
  );
  t.deepEqual(d.list(''), [{ name: 'a', kind: KIND.dir }]);
  t.deepEqual(d.list('a'), [
    { name: 'b', kind: KIND.dir },
    { name: 'z', kind: KIND.file },
  ]);
  t.deepEqual([d.list('a/z'), d.list('x'), d.stat('a/y')], [-E.NOTDIR, -E.NOENT, -E.NOENT]);
  t.like(d.stat('a/b/c'), { kind: KIND.file, size: 3 });
  t.deepEqual([d.open('a', O.RDONLY), d.open('x', O.RDONLY)], [-E.ISDIR, -E.NOENT]);
  t.deepEqual(
    [d.create('n', 0o644), d.mkdir('n', 0o755), d.remove('a/z'), d.rename('a/z', 'y'), d.truncate('a/z', 1)],
    Array(5).fill(-E.PERM),
  );
  t.throws(() => listedDirectory('here', new Map([['a/../b', memoryFile(new Uint8Array(0))]]), true));
  t.throws(() =>
    listedDirectory(
      'here',
      new Map([
        ['a', memoryFile(new Uint8Array(0))],
        ['a/b', memoryFile(new Uint8Array(0))],
      ]),
      true,
    ),
  );
});
