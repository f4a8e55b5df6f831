// The page without a network: kept by the browser at the first visit, from a folder beneath a path as static hosts have it; another build is taken
// whole or not at all, and pages go on with the build that they began with. And what is said where there can be no machine.
import test, { type ExecutionContext } from 'ava';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { get } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Browser, Page } from 'puppeteer-core';
import { BROWSERS } from './support/browser.ts';
import { launched, promptOf, servedPage } from './support/page.ts';

/** A folder of this test's own. */
function scratch(t: ExecutionContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'arena8-web-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const versionOf = (html: string): string => /[0-9a-f]{16}(?=\/page\.js)/.exec(html)![0];
const versionShown = (page: Page): Promise<string> =>
  page.evaluate(`/[0-9a-f]{16}(?=\\/page\\.js)/.exec(document.documentElement.innerHTML)[0]`) as Promise<string>;

/** Until the browser keeps that build. */
const kept = (page: Page, version: string): Promise<unknown> =>
  page.waitForFunction(
    async (suffix: string) =>
      (await caches.keys()).some(name => name.endsWith(suffix)) &&
      (await navigator.serviceWorker.getRegistration())?.active?.state === 'activated',
    { timeout: 30_000, polling: 100 },
    ` ${version}`,
  );

/** Looks for another build, and waits until it is taken or given up. */
const updated = (page: Page): Promise<void> =>
  page.evaluate(async () => {
    const registration = (await navigator.serviceWorker.getRegistration())!;
    await registration.update();
    const { installing } = registration;
    while (installing?.state === 'installing') await new Promise(resolve => setTimeout(resolve, 50));
  });

/** A page whose terminal draws its rows as elements: of a canvas a test cannot read. */
async function newPage(browser: Browser): Promise<Page> {
  const page = await browser.newPage();
  await page.evaluateOnNewDocument(`{
    const { getContext } = HTMLCanvasElement.prototype;
    HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
      return kind.startsWith('webgl') ? null : getContext.call(this, kind, ...rest);
    };
  }`);
  return page;
}

/** A build that differs from build/web. */
async function anotherBuild(folder: string): Promise<void> {
  const tools = (await import(new URL('../../tools/web.mjs', import.meta.url).href)) as {
    buildWeb(options: { folder: string; extra: readonly (readonly [string, Buffer])[] }): Promise<unknown>;
  };
  await tools.buildWeb({ folder, extra: [['note.txt', Buffer.from('another\n')]] });
}

/** Types a command and waits for its last line on the screen. */
async function typed(page: Page, command: string, last: RegExp): Promise<void> {
  await page.keyboard.type(`${command}\n`);
  await page.waitForFunction(
    (source: string) =>
      [...document.querySelectorAll('.xterm-rows > div')].some(row =>
        new RegExp(source).test(row.textContent!.replaceAll('\u00a0', ' ').trimEnd()),
      ),
    { timeout: 30_000, polling: 100 },
    last.source,
  );
}

for (const [name, file] of BROWSERS) {
  const here = existsSync(file);
  const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;

  declare(`${file}: the page is there without a network, programs and all`, async t => {
    t.timeout(120_000);
    if (!here) return t.fail(`${file} is missing`);
    const site = await servedPage(t);
    const browser = await launched(t, name, file);
    const page = await newPage(browser);
    await page.goto(site.url);
    await promptOf(page);
    await kept(page, versionOf(readFileSync('build/web/index.html', 'utf8')));
    await site.stop();
    await t.throwsAsync(fetch(site.url), undefined, 'nobody answers there');
    await page.reload();
    await promptOf(page);
    await typed(page, 'seq 40 42 | wc -l', /^3$/);
    return undefined;
  });

  declare(`${file}: another build is taken at the next load, whole`, async t => {
    t.timeout(180_000);
    if (!here) return t.fail(`${file} is missing`);
    const folder = path.join(scratch(t), 'web');
    cpSync('build/web', folder, { recursive: true });
    const site = await servedPage(t, { folder });
    const browser = await launched(t, name, file);
    const page = await newPage(browser);
    await page.goto(site.url);
    await promptOf(page);
    const first = versionOf(readFileSync(path.join(folder, 'index.html'), 'utf8'));
    await kept(page, first);

    // Half of another build: its page and its list are there, one of its files is not.
    const next = path.join(scratch(t), 'web');
    await anotherBuild(next);
    const second = versionOf(readFileSync(path.join(next, 'index.html'), 'utf8'));
    t.not(second, first);
    const missing = path.join(next, second, 'late.js');
    renameSync(missing, `${missing}.away`);
    rmSync(folder, { recursive: true });
    cpSync(next, folder, { recursive: true });
    await page.reload();
    await promptOf(page);
    t.is(await versionShown(page), first);
    await updated(page);
    t.false(((await page.evaluate('caches.keys()')) as string[]).some(cache => cache.endsWith(second)));
    await page.reload();
    await promptOf(page);
    t.is(await versionShown(page), first);
    await typed(page, 'seq 40 42 | wc -l', /^3$/); // of the build it began with

    renameSync(path.join(folder, second, 'late.js.away'), path.join(folder, second, 'late.js'));
    await updated(page);
    await kept(page, second);
    await typed(page, 'man cat | head -n 2', /cat - concatenate/); // the page that is open is of the first
    await page.reload();
    await promptOf(page);
    t.is(await versionShown(page), second);
    await typed(page, 'seq 40 42 | wc -l', /^3$/);
    return undefined;
  });

  declare(`${file}: without SIMD there is one sentence`, async t => {
    t.timeout(60_000);
    if (!here) return t.fail(`${file} is missing`);
    const site = await servedPage(t);
    const browser = await launched(t, name, file);
    const page = await newPage(browser);
    await page.evaluateOnNewDocument('WebAssembly.validate = () => false;');
    await page.goto(site.url);
    await page.waitForFunction(`document.body.innerText.includes('SIMD')`, { timeout: 20_000 });
    const text = (await page.evaluate('document.body.innerText')) as string;
    t.is(text.split('SIMD').length, 2, text);
    t.is(page.workers().length, 0);
    return undefined;
  });
}

test('the server: types, ranges, caches, what it refuses', async t => {
  const { url } = await servedPage(t);
  const html = await fetch(url);
  t.is(html.headers.get('content-type'), 'text/html; charset=utf-8');
  t.is(html.headers.get('cache-control'), 'no-cache');
  const version = versionOf(await html.text());
  const of = (name: string, headers = {}): Promise<Response> => fetch(`${url}${version}/${name}`, { headers });
  for (const [name, type] of [
    ['page.js', 'text/javascript; charset=utf-8'],
    ['page.css', 'text/css; charset=utf-8'],
    ['kernels.simd128.wasm', 'application/wasm'],
    ['fable-f16.gguf', 'application/octet-stream'],
  ] as const) {
    const response = await of(name);
    t.is(response.headers.get('content-type'), type);
    t.is(response.headers.get('cache-control'), 'public, max-age=31536000, immutable');
    const whole = Buffer.from(await response.arrayBuffer());
    t.deepEqual(whole, readFileSync(`build/web/${version}/${name}`));
    for (const [range, from, to] of [
      ['bytes=0-9', 0, 10],
      ['bytes=100-', 100, whole.length],
      ['bytes=-7', whole.length - 7, whole.length],
      ['bytes=5-99999999', 5, whole.length],
    ] as const) {
      const part = await of(name, { range });
      t.is(part.status, 206);
      t.is(part.headers.get('content-range'), `bytes ${from}-${to - 1}/${whole.length}`);
      t.deepEqual(Buffer.from(await part.arrayBuffer()), whole.subarray(from, to));
    }
    t.is((await of(name, { range: `bytes=${whole.length}-` })).status, 416);
  }
  const statusOf = (raw: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const { port } = new URL(url);
      get({ host: '127.0.0.1', port, path: raw }, r => (r.resume(), resolve(r.statusCode!))).on('error', reject);
    });
  const base = new URL(url).pathname;
  t.is(await statusOf('/'), 404);
  t.is(await statusOf(`${base}none.js`), 404);
  for (const up of ['../arena8.js', '..%2farena8.js', `${version}/../../arena8.js`])
    t.is(await statusOf(base + up), 404);
  t.is((await fetch(url, { method: 'POST' })).status, 404);
});

test('the server: one line says what is wrong', async t => {
  const web = (...args: string[]): Promise<{ status: number | null; text: string }> =>
    new Promise(resolve => {
      const child = spawn(process.execPath, ['tools/web.mjs', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
      let text = '';
      child.stderr.on('data', (data: Buffer) => (text += data));
      child.once('close', status => resolve({ status, text }));
    });
  const taken = createServer();
  await new Promise<void>(resolve => taken.listen(0, '127.0.0.1', resolve));
  const { port } = taken.address() as AddressInfo;
  t.deepEqual(await web('--serve', '--folder', 'build/web', '--port', `${port}`), {
    status: 1,
    text: `web: port ${port} is taken: --port N takes another\n`,
  });
  taken.close();
  const none = path.join(scratch(t), 'none');
  const missing = await web('--serve', '--folder', none);
  t.is(missing.status, 1);
  t.regex(missing.text, /^web: .* has no page: .*\n$/);
  t.regex((await web('--port', 'x')).text, /^web: --port: 'x' is not a port\n$/);
});

test('nothing in the folder points out of it', t => {
  const files = readdirSync('build/web', { recursive: true, encoding: 'utf8' }).filter(f =>
    /\.(html|webmanifest|css)$/.test(f),
  );
  t.true(files.length >= 3);
  for (const f of files) {
    const text = readFileSync(path.join('build/web', f), 'utf8');
    t.deepEqual(
      text.match(/(?:href|src|action)="(?:\/|[a-z]+:)[^"]*"|url\(["']?(?:\/|https?:)[^)]*\)|"start_url": "\/"/g),
      null,
      f,
    );
  }
});
