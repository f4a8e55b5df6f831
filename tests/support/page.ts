// The page as people get it, for tests: build/web, which `node tools/test.mjs` builds for every test whose name begins with `page`, served by
// tools/web.mjs from beneath a path, and a browser with an empty profile. In a test:
//
//     const site = await servedPage(t);
//     const browser = await launched(t, name, file); // of BROWSERS
//     const page = await browser.newPage();
//     await page.goto(site.url);
//     await promptOf(page); // until the machine's first prompt

import type { ExecutionContext } from 'ava';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';
import { BROWSER_ARGUMENTS, type BrowserName } from './browser.ts';

export interface ServedPage {
  /** Of the page: loopback, in a folder, as a static host has it. */
  readonly url: string;
  /** From now on nobody answers there. */
  readonly stop: () => Promise<void>;
}

const BASE = '/machines/arena8/';

/** A server of its own process for a built page; `port` 0: any. It ends with the test. */
export async function servedPage(
  t: ExecutionContext,
  { folder = 'build/web', port = 0 }: { readonly folder?: string; readonly port?: number } = {},
): Promise<ServedPage> {
  const options = ['--serve', '--folder', folder, '--base', BASE, '--port', `${port}`];
  const server = spawn(process.execPath, ['tools/web.mjs', ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<void>(resolve => server.once('exit', () => resolve()));
  const stop = (): Promise<void> => {
    server.kill('SIGINT');
    return ended;
  };
  t.teardown(stop);
  return new Promise((resolve, reject) => {
    server.stdout.on('data', (line: Buffer) => {
      const [url] = /http:\S+/.exec(`${line}`) ?? [];
      if (url !== undefined) resolve({ url, stop });
    });
    void ended.then(() => reject(new Error('the server of the page has ended')));
  });
}

/** A browser without a past, unless it is given a folder that has one. It ends with the test, and what it kept goes. */
export async function launched(
  t: Pick<ExecutionContext, 'teardown'>,
  browserName: BrowserName,
  executablePath: string,
  userDataDir = mkdtempSync(path.join(tmpdir(), 'arena8-browser-')),
  extraPrefsFirefox: Readonly<Record<string, unknown>> = {},
): Promise<Browser> {
  const args = [...BROWSER_ARGUMENTS[browserName]];
  const browser = await puppeteer.launch({
    browser: browserName,
    executablePath,
    headless: true,
    userDataDir,
    args,
    extraPrefsFirefox,
  });
  t.teardown(async () => {
    await browser.close();
    rmSync(userDataDir, { recursive: true, force: true });
  });
  return browser;
}

/** Until the machine of a page is at its first prompt: the page marks that moment for the browser's own measurements. */
export async function promptOf(page: Page): Promise<void> {
  await page.waitForFunction(`performance.getEntriesByName('prompt').length > 0`, { timeout: 60_000 });
}
