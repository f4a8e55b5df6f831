// `npm run bench -- --page`: the page as people meet it, in Debian's Chromium and Firefox: from the start of the navigation to the first prompt with
// an empty profile, from loopback; how long the main thread is kept from its next task while the machine writes; and tokens a second beside
// Node's, in turns, so that what else the host does meets both. The least of many runs is what the page takes.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import puppeteer from 'puppeteer-core';
import { buildWeb, serve, weightReport } from '../tools/web.mjs';
import { spread, table } from './workload.mjs';

const BROWSERS = [
  [
    'chrome',
    '/usr/bin/chromium',
    ['--no-sandbox', '--no-first-run', '--disable-background-networking', '--disable-component-update'],
  ],
  ['firefox', '/usr/bin/firefox-esr', []],
].filter(([, file]) => existsSync(file));

const STORIES = [1, 2, 3, 4, 5, 6]; // one after the other, so that the moments of beginning and end weigh little
const command = (options = '') =>
  `for i in ${STORIES.join(' ')}; do llminfer ${options} --temp 1 --seed $i --max-tokens 200 Once; done`;

/** Opens the page in a browser without a past. */
async function visit([name, executablePath, args], url) {
  const userDataDir = mkdtempSync(path.join(tmpdir(), 'arena8-page-'));
  const browser = await puppeteer.launch({ browser: name, executablePath, headless: true, userDataDir, args });
  const close = async () => {
    await browser.close();
    rmSync(userDataDir, { recursive: true, force: true });
  };
  try {
    const page = await browser.newPage();
    await page.setViewport({ width: 1280, height: 800 });
    await page.goto(url);
    await page.waitForFunction(`performance.getEntriesByName('prompt').length > 0`, { timeout: 60_000 });
    return { page, version: await browser.version(), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Milliseconds from the start of the navigation to the first paint and to the prompt. */
const cold = page =>
  page.evaluate(() => ({
    paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN,
    prompt: performance.getEntriesByName('prompt')[0].startTime,
  }));

/**
 * In the page: begins to listen; globalThis.watched will be what there is from Enter to the machine's coming to rest. `gapMs`: the longest that the main thread did not come to a task that was due;
 * `longTaskMs`: the longest task, where the browser tells, 0 where it counted none (it counts from 50 ms on).
 */
function watchCommand() {
  const lamp = document.getElementById('lamp');
  globalThis.watched = new Promise(resolve => {
    let start = 0;
    let isOver = false;
    let last = 0;
    let gapMs = 0;
    let longTaskMs = PerformanceObserver.supportedEntryTypes.includes('longtask') ? 0 : null;
    const tasks = new PerformanceObserver(list => {
      for (const { duration } of list.getEntries()) longTaskMs = Math.max(longTaskMs, duration);
    });
    const beat = () => {
      const now = performance.now();
      if (last > 0) gapMs = Math.max(gapMs, now - last);
      last = now;
      if (!isOver) setTimeout(beat);
    };
    const ended = new MutationObserver(() => {
      if (start === 0 || lamp.dataset.run !== 'idle') return;
      ended.disconnect();
      const ms = performance.now() - start;
      isOver = true;
      setTimeout(() => (tasks.disconnect(), resolve({ ms, gapMs, longTaskMs })), 100); // observers are told late
    });
    ended.observe(lamp, { attributes: true });
    const enter = ({ key }) => {
      if (key !== 'Enter') return;
      removeEventListener('keydown', enter, { capture: true });
      start = performance.now();
      if (longTaskMs !== null) tasks.observe({ type: 'longtask' });
      beat();
    };
    addEventListener('keydown', enter, { capture: true });
  });
}

async function runInPage(page, command) {
  await page.keyboard.type(command);
  await page.evaluate(watchCommand);
  await page.keyboard.press('Enter');
  return page.evaluate('watched');
}

/** Rates of the page and of Node in turns; the first round warms both up. */
async function rates(page, machine, rounds) {
  const inPage = [];
  const inNode = [];
  const stories = machine.exec(command('--json')).stdout.trim().split('\n');
  const tokens = stories.reduce((sum, story) => sum + JSON.parse(story).tokens.length, 0);
  for (let i = 0; i <= rounds; i++) {
    const { ms, ...tasks } = await runInPage(page, command());
    const start = performance.now();
    machine.exec(command());
    const nodeMs = performance.now() - start;
    if (i === 0) continue;
    inPage.push({ rate: (tokens * 1000) / ms, ...tasks });
    inNode.push((tokens * 1000) / nodeMs);
  }
  return { inPage, inNode };
}

/** Everything measured. */
export async function page({ quick }) {
  const weight = weightReport(await buildWeb());
  const server = await serve();
  const url = `http://127.0.0.1:${server.address().port}/`;
  const { boot } = await import('../build/index.js');
  const results = [];
  try {
    for (const browser of BROWSERS) {
      const loads = [];
      for (let i = quick ? 3 : 12; i > 0; i--) {
        const { page: opened, close } = await visit(browser, url);
        loads.push(await cold(opened));
        await close();
      }
      const { page: opened, version, close } = await visit(browser, url);
      const machine = boot();
      const { inPage, inNode } = await rates(opened, machine, quick ? 3 : 8).finally(close);
      const longTasks = inPage.map(r => r.longTaskMs);
      results.push({
        version,
        paint: spread(loads.map(l => l.paint)),
        prompt: spread(loads.map(l => l.prompt)),
        gapMs: spread(inPage.map(r => r.gapMs)),
        longTaskMs: longTasks.includes(null) ? null : spread(longTasks),
        page: spread(inPage.map(r => r.rate)),
        node: spread(inNode),
      });
    }
  } finally {
    server.close();
    server.closeAllConnections();
  }
  return { host: `${cpus()[0]?.model.trim() ?? 'unknown processor'}, Node ${process.versions.node}`, weight, results };
}

const ms = ({ min, median, max }) => `${min.toFixed(0)} / ${median.toFixed(0)} / ${max.toFixed(0)}`;
const rate = ({ max, median }) => `${max.toFixed(0)} / ${median.toFixed(0)}`;

export function print(run, { json }) {
  console.log(`${run.host}\n\n${run.weight}\n`);
  const rows = run.results.map(r => [
    r.version,
    ms(r.paint),
    ms(r.prompt),
    r.longTaskMs === null ? 'not told' : ms(r.longTaskMs),
    ms(r.gapMs),
    rate(r.page),
    rate(r.node),
    `${((100 * r.page.max) / r.node.max).toFixed(0)} / ${((100 * r.page.median) / r.node.median).toFixed(0)}`,
  ]);
  const head = ['browser', 'first paint', 'prompt', 'longest task', 'longest wait', 'tokens/s', 'in Node', '%'];
  console.log(table(head, rows));
  console.log(
    '\nmilliseconds: least / median / most. First paint and prompt: from the start of the navigation, empty profile. Longest task and longest wait for a\n' +
      `due task of the main thread while the machine writes. Tokens a second over ${STORIES.length} stories: best / median, page and Node in turns.`,
  );
  if (json) writeFileSync(json, `${JSON.stringify(run, null, 1)}\n`);
}
