// A browser of this host, a page, and a server that answers it: what tests need to run the machine where people will.

import type { ExecutionContext } from 'ava';
import { build } from 'esbuild';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import puppeteer from 'puppeteer-core';

export const BROWSERS = [
  ['chrome', '/usr/bin/chromium'],
  ['firefox', '/usr/bin/firefox-esr'],
] as const;

export type BrowserName = (typeof BROWSERS)[number][0];

export const BROWSER_ARGUMENTS: Readonly<Record<BrowserName, readonly string[]>> = {
  chrome: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
  firefox: [],
};

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;
/** What the server has, by path: a type and bytes, or a way to answer. */
export type Site = ReadonlyMap<string, readonly [type: string, body: Uint8Array | string] | Answer>;

/** A module in TypeScript, as a browser takes it. */
export async function bundled(contents: string): Promise<Uint8Array> {
  const bundle = await build({
    stdin: { contents, resolveDir: process.cwd(), loader: 'ts' },
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    target: 'es2023',
    loader: { '.wasm': 'binary' },
  });
  return bundle.outputFiles[0]!.contents;
}

/** Opens a page that runs the module `/page.js` of the site, and waits until it has set globalThis.transcript. */
export async function transcriptOf(
  t: ExecutionContext,
  browserName: 'chrome' | 'firefox',
  executablePath: string,
  site: Site,
): Promise<unknown> {
  const server = createServer((request, response) => {
    const found = site.get(request.url ?? '');
    if (typeof found === 'function') return found(request, response);
    const [type, body] = found ?? [
      'text/html',
      '<!doctype html><meta charset=utf-8><script type=module src=/page.js></script>',
    ];
    response.writeHead(200, { 'content-type': type });
    response.end(body);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const userDataDir = mkdtempSync(path.join(tmpdir(), 'arena8-browser-'));
  t.teardown(() => rmSync(userDataDir, { recursive: true, force: true }));
  const browser = await puppeteer.launch({
    browser: browserName,
    executablePath,
    headless: true,
    userDataDir,
    args: [...BROWSER_ARGUMENTS[browserName]],
  });
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await page.waitForFunction('globalThis.transcript !== undefined', { timeout: 60_000 });
    return await page.evaluate('globalThis.transcript');
  } finally {
    await browser.close();
    server.close();
  }
}
