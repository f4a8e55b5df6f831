// The machine panel on the page, in both browsers: the figures of every view are those that the shell prints in the terminal beside it, everything
// can be reached and used by keyboard, and nothing is drawn that has not changed or is not seen. How the kernel's texts are read is panel.test.ts's
// business.
import test, { type ExecutionContext } from 'ava';
import { existsSync, readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { Browser, KeyInput, Page } from 'puppeteer-core';
import { VIEWS, type ViewName } from '../boot/web/page/panel/view.ts';
import { BROWSERS } from './support/browser.ts';
import { launched, promptOf, servedPage } from './support/page.ts';

/** Runs before any script of the page: a machine that keeps nothing, and a terminal whose text can be read. */
function prepare(scheme: string): void {
  try {
    localStorage.setItem('arena8', JSON.stringify({ home: 'lost', scheme, splitPercent: 60 }));
  } catch {
    // A blank page has no storage.
  }
  const { getContext } = HTMLCanvasElement.prototype;
  HTMLCanvasElement.prototype.getContext = function (this: HTMLCanvasElement, kind: string, ...rest: unknown[]) {
    return kind.startsWith('webgl') ? null : getContext.call(this, kind as '2d', ...(rest as []));
  } as typeof getContext;
}

async function visit(browser: Browser, url: string, width: number, height: number, scheme = 'light'): Promise<Page> {
  const page = await (await browser.createBrowserContext()).newPage();
  await page.setViewport({ width, height });
  await page.evaluateOnNewDocument(prepare, scheme);
  await page.goto(url);
  await promptOf(page);
  return page;
}

const isReady = (page: Page): Promise<unknown> =>
  page.waitForFunction(() => document.getElementById('run')!.textContent === 'Ready', { timeout: 60_000 });

/** Rows of the terminal as its document has them. */
const ROWS = `[...document.querySelectorAll('.xterm-rows > div')].map(r => r.textContent.replaceAll('\\u00a0', ' ').trimEnd())`;
let lines = 0;

/** Types a line and gives what it printed: rows of the terminal, whole. */
async function printed(page: Page, line: string): Promise<string[]> {
  const end = `end ${lines++}`;
  await page.focus('.xterm-helper-textarea');
  await page.keyboard.type(`clear; ${line}; echo ${end}`);
  await page.keyboard.press('Enter');
  await page.waitForFunction(`${ROWS}.includes('${end}')`, { timeout: 60_000 });
  const rows = (await page.evaluate(ROWS)) as string[];
  return rows.slice(0, rows.indexOf(end));
}

async function open(page: Page, view: ViewName): Promise<void> {
  await page.evaluate((name: string) => document.getElementById(`panel-tab-${name}`)!.click(), view);
  await page.waitForFunction(
    (name: string) => {
      const element = document.getElementById(`panel-view-${name}`)!;
      return !element.hidden && !element.querySelector<HTMLElement>(`div.${name}`)!.hidden;
    },
    { timeout: 20_000 },
    view,
  );
}

/** Cells of a view's tables, rows of the body. */
const cellsOf = (page: Page, view: ViewName, table = 0): Promise<string[][]> =>
  page.evaluate(
    (name: string, n: number) => {
      const tables = document.querySelectorAll<HTMLTableElement>(`#panel-tables-${name} table`);
      return [...tables[n]!.tBodies[0]!.rows].map(row => [...row.cells].map(cell => cell.textContent!));
    },
    view,
    table,
  );
const textOf = (page: Page, selector: string): Promise<string> => page.$eval(selector, e => e.textContent!);
const plain = (text: string): string => text.replace(/,(?=\d{3})/g, '');
const press = async (page: Page, ...keys: readonly KeyInput[]): Promise<void> => {
  for (const key of keys) await page.keyboard.press(key);
};

/** What the page shows follows the machine within a few looks: waits for it, and says what stands there when it does not come. */
async function comes<T>(t: ExecutionContext, shown: () => Promise<T>, wanted: T): Promise<void> {
  let now = await shown();
  for (let look = 0; look < 200 && !isDeepStrictEqual(now, wanted); look++) {
    await new Promise(resolve => setTimeout(resolve, 100));
    now = await shown();
  }
  t.deepEqual(now, wanted);
}

// ── Figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function memoryIsRight(t: ExecutionContext, page: Page): Promise<void> {
  const shell = (await printed(page, 'free -v')).slice(1).map(row => row.trim().split(/ +/));
  await open(page, 'memory');
  await comes(t, async () => (await cellsOf(page, 'memory')).map(row => row.map(plain)), shell);
  // To scale: what every region takes of the map is what it takes of the arena.
  const shares = await page.evaluate(() => {
    const sums = new Map<string, number>();
    for (const piece of document.querySelectorAll<HTMLElement>('#panel-view-memory .piece'))
      sums.set(piece.dataset['stretch']!, (sums.get(piece.dataset['stretch']!) ?? 0) + parseFloat(piece.style.width));
    return [...sums].map(([, width]) => width);
  });
  const bytes = shell.slice(0, -1).map(row => Number(row[3]));
  t.is(shares.length, bytes.length);
  shares.forEach((share, i) => t.true(Math.abs((share / 100) * 524_288 - bytes[i]!) < 1, shell[i]![0]));
}

async function pagesAreRight(t: ExecutionContext, page: Page): Promise<void> {
  const shell = await printed(page, 'head -6 /proc/pages');
  await open(page, 'pages');
  await comes(
    t,
    async () => (await cellsOf(page, 'pages')).slice(0, 5).map(row => row.join(' ')),
    shell.slice(1).map(row => row.split(/\s+/).join(' ')),
  );
  const rows = await cellsOf(page, 'pages');
  t.is(await page.$$eval('#panel-view-pages [role=gridcell]', cells => cells.length), rows.length);
  const kv = new Map((await printed(page, 'cat /proc/kv')).map(row => row.split(' ') as [string, string]));
  t.is(rows.length, Number(kv.get('total')));
  await comes(
    t,
    () => textOf(page, '#panel-view-pages .sum'),
    `${kv.get('total')} pages of 32 positions: ${kv.get('free')} free, ${kv.get('cached')} cached, ${kv.get('shared')} shared; ${kv.get('swapped')} on the swap device.`,
  );
}

async function scheduleIsRight(t: ExecutionContext, page: Page): Promise<void> {
  await open(page, 'schedule');
  const sched = new Map((await printed(page, 'cat /proc/sched')).map(row => row.split(' ') as [string, string]));
  await comes(
    t,
    async () => plain(await textOf(page, '#panel-view-schedule .sum')),
    `edf: ${sched.get('passes')} passes, ${sched.get('preemptions')} preemptions, ${sched.get('misses')} deadlines missed`,
  );
  const shell = (await printed(page, 'llmctl sessions')).slice(1).map(row => row.trim().split(/ +/));
  t.true(shell.length > 0);
  await comes(
    t,
    async () => (await cellsOf(page, 'schedule')).map(([id, state, end, output]) => [id, state, end, output]),
    shell.map(row => [row[0], row[2], row[3], row[5]]),
  );
  const inked = await page.$eval('#panel-view-schedule canvas', canvas => {
    const { width, height } = canvas as HTMLCanvasElement;
    const pixels = (canvas as HTMLCanvasElement).getContext('2d')!.getImageData(0, 0, width, height).data;
    let n = 0;
    for (let i = 3; i < pixels.length; i += 4) if (pixels[i]! > 0) n++;
    return n;
  });
  t.true(inked > 500, `${inked} pixels of the timeline`);
  await page.focus('#panel-view-schedule .board');
  await press(page, 'ArrowLeft');
  t.regex(await textOf(page, '#panel-view-schedule .caption'), /Processor: a pass of \d+ rows? for \d+ sessions?, /);
  await press(page, 'ArrowDown', 'ArrowLeft');
  t.regex(await textOf(page, '#panel-view-schedule .caption'), /Session \d+, /);
}

async function speedIsRight(t: ExecutionContext, page: Page): Promise<void> {
  await open(page, 'speed');
  await page.waitForSelector('#panel-view-speed .uplot canvas', { timeout: 20_000 });
  const events = new Map((await printed(page, 'cat /proc/trace')).map(row => row.split(' ') as [string, string]));
  await comes(t, async () => plain(await textOf(page, '#panel-view-speed .numbers dd')), events.get('token')!);
  await page.focus('#panel-view-speed .plot');
  await press(page, 'ArrowLeft');
  t.regex(await textOf(page, '#panel-view-speed .caption'), /^[\d.]+ s: [\d.]+ tokens\/s, median wait /);
}

/** What the curve's table has against the log of the training that the page's own machine has just done. */
async function trainingIsRight(t: ExecutionContext, page: Page): Promise<void> {
  await open(page, 'training');
  const log = await printed(page, 'cut -d, -f1-3 /tmp/store/town/log.jsonl | cut -c1-60');
  const steps = log.filter(row => row.includes('"loss"'));
  t.true(steps.length > 0);
  await comes(
    t,
    async () => (await cellsOf(page, 'training')).map(([step, epoch, loss]) => [step, epoch, loss]),
    steps.map(row => {
      const { step, epoch, loss } = JSON.parse(`${row.replace(/[,"]*$/, '')}}`) as Record<string, number>;
      return [String(step), String(epoch), loss!.toFixed(4)];
    }),
  );
  await comes(t, () => textOf(page, '#panel-view-training .command'), '$ llmfinetune plot town');
  await comes(t, () => textOf(page, '#panel-view-training .numbers dd'), `${steps.length} of ${steps.length}`);
  await page.waitForSelector('#panel-view-training .uplot canvas', { timeout: 20_000 });
  await page.focus('#panel-view-training .plot');
  await press(page, 'End');
  t.regex(await textOf(page, '#panel-view-training .caption'), /^Step \d+, epoch \d+: loss [\d.]+/);
}

async function auditIsRight(t: ExecutionContext, page: Page): Promise<void> {
  await open(page, 'audit');
  const [origin, size, root] = await printed(page, 'llmctl audit head');
  await page.waitForFunction(
    (text: string) => document.querySelector('#panel-view-audit .head')!.textContent!.includes(text),
    { timeout: 20_000 },
    `the same root from ${size} hashes`,
  );
  const [records, shownRoot, signed] = await page.$$eval('#panel-view-audit .head dd', e => e.map(x => x.textContent!));
  t.deepEqual([records, shownRoot, signed], [size!, root!, origin!]);
  t.is(await page.$$eval('#panel-view-audit .tree rect.leaf', leaves => leaves.length), Math.min(16, Number(size)));
}

/** The views of the last step's inside against what llmctl prints of the same session. */
async function insideIsRight(t: ExecutionContext, page: Page): Promise<void> {
  const probs = await printed(page, 'llmctl probs --top 12');
  await open(page, 'tokens');
  const from = probs.findIndex(row => /^ *ID +TOKEN/.test(row));
  await comes(
    t,
    async () =>
      (await cellsOf(page, 'tokens')).map(row =>
        [row[1], ...row.slice(2).map(cell => cell.replace('%', ''))].join(' '),
      ),
    probs.slice(from + 1).map(row =>
      row
        .replace(/"(?:[^"\\]|\\.)*"/, '')
        .match(/[-\d.]+/g)!
        .join(' '),
    ),
  );
  await open(page, 'attention');
  for (const [place, value] of [
    [2, '2'],
    [3, '1'],
  ] as const) {
    const select = `#panel-view-attention label:nth-child(${place}) select`;
    await page.waitForSelector(`${select}:enabled option[value="${value}"]`); // layers and heads come with the first look
    await page.select(select, value);
  }
  await comes(t, () => textOf(page, '#panel-view-attention .command'), '$ llmctl attention --layer 2 --head 1');
  const attention = await printed(page, 'llmctl attention --layer 2 --head 1 | tail -5');
  const weights = attention.map(row => /[\d.]+%/.exec(row)![0]);
  await page.waitForFunction(
    (wanted: string) =>
      [...document.querySelectorAll('#panel-tables-attention tbody tr')]
        .slice(-5)
        .map(row => row.lastElementChild!.textContent)
        .join() === wanted,
    { timeout: 20_000 },
    weights.join(),
  );
  const lens = (await printed(page, 'llmctl lens --top 5')).slice(2).map(row => row.trim());
  await open(page, 'lens');
  const rowsNow = (): Promise<{ bits: string; best: string }[]> =>
    page.$$eval('#panel-view-lens tbody tr', trs =>
      trs.map(tr => ({ bits: tr.lastElementChild!.textContent!, best: tr.querySelector('small')!.textContent! })),
    );
  await comes(t, async () => (await rowsNow()).length, lens.length);
  const rows = await rowsNow();
  rows.reverse().forEach(({ bits, best }, i) => {
    t.true(lens[i]!.includes(` ${bits} bit`), `${lens[i]}: ${bits}`);
    t.true(lens[i]!.includes(best), `${lens[i]}: ${best}`);
  });
}

/** Op by op through the beginning of a pass. */
async function stepsAreRight(t: ExecutionContext, page: Page): Promise<void> {
  const button = (label: string): Promise<void> =>
    page.evaluate(
      (name: string) => document.querySelector<HTMLElement>(`#controls [aria-label="${name}"]`)!.click(),
      label,
    );
  await open(page, 'step');
  await page.focus('.xterm-helper-textarea');
  await page.keyboard.press('F8');
  await page.keyboard.type('llminfer --max-tokens 4 The end\r');
  const held = (op: number): Promise<unknown> =>
    page.waitForFunction(
      (n: number) => document.querySelector('#panel-view-step .where')!.textContent!.startsWith(`Held before op ${n} `),
      { timeout: 20_000 },
      op,
    );
  for (let op = 0; op < 5; op++) {
    await button('Step one op');
    await held(op);
  }
  t.is(
    await textOf(page, '#panel-view-step .where'),
    'Held before op 4 of 0–117: MUL_MAT blk.0.attn_q.weight, layer 0 of the body.',
  );
  t.is(await page.$$eval('#panel-view-step [aria-current=step]', marked => marked.length), 1);
  t.regex(await textOf(page, '#panel-view-step .detail table'), /weights\w+\[128\]\[128\].*blk\.0\.attn_q\.weight/);
  const row = (await cellsOf(page, 'step'))[4]!;
  t.true(
    (await textOf(page, '#panel-view-step .detail')).includes(
      `at most ${row[6]!.replace(/\B(?=(\d{3})+$)/g, ',')} cycles`,
    ),
  );
  await button('Step one layer');
  await page.waitForFunction(
    () => / layer 1 of the body/.test(document.querySelector('#panel-view-step .where')!.textContent!),
    { timeout: 20_000 },
  );
  // Another op is explained while one stands on it, without operands: the processor is not there.
  await page.focus('#panel-view-step .op');
  await press(page, 'ArrowDown', 'ArrowDown');
  t.is(await textOf(page, '#panel-view-step .detail h3'), 'RMS_NORM blk.0.attn_norm.weight');
  t.true(await page.$eval('#panel-view-step .detail table', table => (table as HTMLElement).hidden));
  await page.focus('.xterm-helper-textarea');
  await page.keyboard.press('F8');
  await isReady(page);
}

// ── Keyboard, and what it costs ──────────────────────────────────────────────────────────────────────────────────────────────────

const captionOf = (page: Page): Promise<string> => textOf(page, '#panel-view-memory .caption');

/** Tabs by arrows, a region opened by Enter, a tensor opened in the shell, and back by Escape. */
async function isUsedByKeys(t: ExecutionContext, page: Page): Promise<void> {
  await page.focus('#panel-tab-memory');
  await press(page, 'ArrowRight');
  t.is(await page.$eval('#panel-view-pages', e => (e as HTMLElement).hidden), false);
  await press(page, 'ArrowLeft');
  await page.focus('#panel-view-memory .stretch[tabindex="0"]');
  await press(page, 'Home');
  t.regex(await captionOf(page), /^null: 0 to 64, 64 bytes/);
  for (let i = 0; i < 8; i++) await press(page, 'ArrowDown');
  t.regex(await captionOf(page), /^weights: /);
  await press(page, 'Enter');
  await page.waitForFunction(() => document.activeElement?.textContent?.startsWith('token_embd.weight'));
  t.is(await page.$$eval('#panel-view-memory .stretch', items => items.length), 56);
  await press(page, 'Escape');
  await page.waitForFunction(() => document.activeElement?.textContent?.startsWith('weights'));
  await press(page, 'Enter');
  await page.waitForFunction(() => document.activeElement?.textContent?.startsWith('token_embd.weight'));
  await press(page, 'ArrowDown');
  t.regex(await captionOf(page), /^output_norm\.weight: F32, 128, 512 bytes at [\d,]+\. /);
  await press(page, 'Enter');
  await page.waitForFunction(
    () => [...document.querySelectorAll('.xterm-rows > div')].some(r => r.textContent!.startsWith('histogram')),
    { timeout: 20_000 },
  );
  await isReady(page);
  const rows = (await printed(page, 'cat /mnt/fable-q4_0/tensors/output_norm.weight/stats')).join('\n');
  t.regex(rows, /^count +128$/m);
  await page.evaluate(() => document.querySelector<HTMLElement>('#panel-view-memory .back')!.click());
  await page.waitForFunction(() => document.querySelectorAll('#panel-view-memory .stretch').length < 20);
}

/** Changes of the document inside an element while something is done. */
async function changesIn(page: Page, selector: string, act: () => Promise<unknown>): Promise<number> {
  await page.evaluate((place: string) => {
    const held = globalThis as unknown as { changes: number; observers: MutationObserver[] };
    held.changes = 0;
    held.observers = [...document.querySelectorAll(place)].map(element => {
      const observer = new MutationObserver(list => (held.changes += list.length));
      observer.observe(element, { subtree: true, childList: true, characterData: true, attributes: true });
      return observer;
    });
  }, selector);
  await act();
  await new Promise(resolve => setTimeout(resolve, 300));
  return page.evaluate(() => {
    const held = globalThis as unknown as { changes: number; observers: MutationObserver[] };
    for (const observer of held.observers) observer.disconnect();
    return held.changes;
  });
}

async function drawsOnlyWhatChanges(t: ExecutionContext, page: Page): Promise<void> {
  await open(page, 'memory');
  const infer = (): Promise<unknown> => printed(page, `llminfer --max-tokens 40 The end ${lines}`);
  t.is(await changesIn(page, '.panel [role=tabpanel]', infer), 0, 'the arena is as it was, and nothing else is seen');
  await open(page, 'pages');
  t.true((await changesIn(page, '#panel-view-pages', infer)) > 0);
  t.is(await changesIn(page, '.panel [role=tabpanel][hidden]', infer), 0);
}

/** Every view with something in it, judged by axe-core. */
async function isAccessible(t: ExecutionContext, page: Page, what: string): Promise<void> {
  await page.evaluate(readFileSync('node_modules/axe-core/axe.min.js', 'utf8'));
  for (const [name] of VIEWS) {
    await open(page, name);
    await page.evaluate(
      (view: string) => document.querySelector<HTMLElement>(`#panel-view-${view} .toggle`)!.click(),
      name,
    );
    const faults = await page.evaluate(async () => {
      const { axe } = globalThis as unknown as {
        axe: { run(where: string): Promise<{ violations: { id: string; nodes: { target: string[] }[] }[] }> };
      };
      const { violations } = await axe.run('.panel');
      return violations.flatMap(v => v.nodes.map(n => `${v.id}: ${n.target.join(' ')}`));
    });
    t.deepEqual(faults, [], `${what}, ${name}`);
  }
}

const LOADED = 'llmctl load fable-q4_0';
const TRAINED =
  'for n in 1 2 3 4; do echo "Tom $n saw the red ball."; echo "<|endoftext|>"; done > /tmp/town.txt; llmfinetune start /tmp/town.txt town --ctx 16 --steps 3 --val 0.25 --rollback no --quiet --store /tmp/store';
const SESSIONS =
  'llmctl submit --max-tokens 40 The cat sat on the mat; llmctl submit --max-tokens 40 The dog; llminfer --max-tokens 50 A bird';

for (const [name, file] of BROWSERS) {
  const here = existsSync(file);
  const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
  declare(`${name}: the panel shows what the shell prints`, async t => {
    t.timeout(240_000);
    if (!here) return t.fail(`${file} is missing`);
    const { url } = await servedPage(t);
    const browser = await launched(t, name, file);
    const page = await visit(browser, url, 1600, 1000);
    await printed(page, `${LOADED}; ${TRAINED}; ${SESSIONS}`);
    for (const holds of [
      memoryIsRight,
      pagesAreRight,
      scheduleIsRight,
      speedIsRight,
      trainingIsRight,
      auditIsRight,
      insideIsRight,
      isUsedByKeys,
      drawsOnlyWhatChanges,
    ])
      await holds(t, page);
    await isAccessible(t, page, `${name} wide`);
    await stepsAreRight(t, page);
    await page.browserContext().close();
    return undefined;
  });
}
