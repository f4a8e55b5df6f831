// The page as a person has it, in Debian's Chromium and Firefox: keys, pointer, clipboard, window, dialogs, and what goes wrong. Of the machine
// only as much is asserted as shows that it is joined; that its bytes are Node's is pagegolden.test.ts's business. Accessibility is judged by
// axe-core, which needs the renderer of the document: it sees no text on a canvas.
import test, { type ExecutionContext } from 'ava';
import { existsSync, readFileSync } from 'node:fs';
import type { Browser, Page } from 'puppeteer-core';
import { formatLink } from '../boot/web/protocol/link.ts';
import { BROWSERS, type BrowserName } from './support/browser.ts';
import { launched, promptOf, servedPage } from './support/page.ts';

const soak = process.env['ARENA8_SOAK'] === '1';
const SIZES = { wide: [1280, 800], narrow: [800, 600], telephone: [390, 844] } as const;
type Size = keyof typeof SIZES;

interface Visit {
  readonly size?: Size;
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly fragment?: string;
  /** The terminal drawn by the document: its text can be read then. */
  readonly isWebgl?: boolean;
}

/** Runs before any script of the page. */
function prepare(settings: string, isWebgl: boolean): void {
  try {
    if (localStorage.getItem('arena8') === null) localStorage.setItem('arena8', settings);
  } catch {
    // A blank page has no storage.
  }
  const { getContext } = HTMLCanvasElement.prototype;
  // The page takes no WebGL that is done in software, which is all there is here: it is not told.
  HTMLCanvasElement.prototype.getContext = function (this: HTMLCanvasElement, kind: string, attributes?: object) {
    if (!kind.startsWith('webgl')) return getContext.call(this, kind as '2d', attributes);
    return isWebgl ? getContext.call(this, kind, { ...attributes, failIfMajorPerformanceCaveat: false }) : null;
  } as typeof getContext;
  const { getParameter } = WebGL2RenderingContext.prototype;
  const unmaskedRenderer = 0x9246;
  WebGL2RenderingContext.prototype.getParameter = function (name: number) {
    return name === unmaskedRenderer ? '' : (getParameter.call(this, name) as unknown);
  };
  const held = globalThis as unknown as { clipboard: string };
  held.clipboard = '';
  const clipboard = {
    writeText: async (text: string) => void (held.clipboard = text),
    readText: async () => held.clipboard,
  };
  Object.defineProperty(navigator, 'clipboard', { value: clipboard });
  const workers: Worker[] = [];
  globalThis.Worker = class extends Worker {
    constructor(...args: ConstructorParameters<typeof Worker>) {
      super(...args);
      workers.push(this);
    }
  };
  Object.assign(globalThis, { workers });
}

async function visit(browser: Browser, url: string, wish: Visit = {}): Promise<Page> {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const [width, height] = SIZES[wish.size ?? 'wide'];
  await page.setViewport({ width, height });
  await page.evaluateOnNewDocument(prepare, JSON.stringify(wish.settings ?? {}), wish.isWebgl ?? false);
  await page.goto(url + (wish.fragment ?? ''));
  await promptOf(page);
  await page.waitForSelector('#panel-pane .panel'); // its script comes behind the prompt
  return page;
}

const leave = (page: Page): Promise<void> => page.browserContext().close();

/** Rows of the terminal, blank ones at the end left out. */
const rowsOf = (page: Page): Promise<string[]> =>
  page.evaluate(() => {
    const rows = [...document.querySelectorAll('.xterm-rows > div')].map(row => row.textContent!.trimEnd());
    while (rows.at(-1) === '') rows.pop();
    return rows.map(row => row.replaceAll('\u00a0', ' '));
  });

/** Until the terminal shows a row like this. */
const shows = (page: Page, row: RegExp): Promise<unknown> =>
  page.waitForFunction(
    (source: string) =>
      [...document.querySelectorAll('.xterm-rows > div')].some(r =>
        new RegExp(source).test(r.textContent!.replaceAll('\u00a0', ' ').trimEnd()),
      ),
    { timeout: 20_000 },
    row.source,
  );

const typed = async (page: Page, line: string): Promise<void> => {
  await page.focus('.xterm-helper-textarea');
  await page.keyboard.type(line);
  await page.keyboard.press('Enter');
};

/** Presses the button of this name. */
const press = (page: Page, name: string, within = 'body'): Promise<void> =>
  page.evaluate(
    (wanted: string, place: string) => {
      const buttons = [...document.querySelectorAll<HTMLElement>(`${place} button`)];
      const found = buttons.find(b => (b.getAttribute('aria-label') ?? b.textContent) === wanted);
      if (found === undefined) throw new Error(`no button '${wanted}' in ${place}`);
      found.focus();
      found.click();
    },
    name,
    within,
  );

const says = (page: Page, text: RegExp): Promise<unknown> =>
  page.waitForFunction(
    (source: string) => new RegExp(source).test(document.getElementById('notices')!.textContent!),
    { timeout: 30_000 },
    text.source,
  );

const chord = async (page: Page, key: 'KeyC' | 'KeyF' | 'KeyV', commands: string[] = []): Promise<void> => {
  await page.keyboard.down('Control');
  await page.keyboard.down('Shift');
  await page.keyboard.press(key, { commands });
  await page.keyboard.up('Shift');
  await page.keyboard.up('Control');
};

// ── Terminal ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function types(t: ExecutionContext, page: Page): Promise<void> {
  await shows(page, /^sis>$/);
  await typed(page, 'echo "zażółć 日本 $((6 * 7))"');
  await shows(page, /^zażółć 日本 42$/);
  await typed(page, 'while true; do :; done');
  await page.waitForFunction(() => document.getElementById('run')!.textContent === 'Running');
  await page.keyboard.down('Control');
  await page.keyboard.press('KeyC');
  await page.keyboard.up('Control');
  await page.waitForFunction(() => document.getElementById('run')!.textContent === 'Ready');
  t.is((await rowsOf(page)).at(-1), 'sis>');
}

/** Several lines pasted are one line under edit until Enter. */
async function pastes(t: ExecutionContext, page: Page): Promise<void> {
  await page.evaluate(() => {
    const source = document.createElement('textarea');
    source.id = 'source';
    source.value = 'echo one\necho two';
    document.body.append(source);
    source.select();
  });
  // A driver's keys are no shortcuts of Chromium's: it wants to be told the command as well.
  await page.keyboard.down('Control');
  await page.keyboard.press('KeyC', { commands: ['Copy'] });
  await page.keyboard.up('Control');
  await page.evaluate(() => document.getElementById('source')!.remove());
  await page.focus('.xterm-helper-textarea');
  await chord(page, 'KeyV', ['Paste']);
  await shows(page, /echo two$/);
  t.false((await rowsOf(page)).includes('one'), 'nothing pasted runs by itself');
  await page.focus('.xterm-helper-textarea');
  await page.keyboard.press('Enter');
  await shows(page, /^two$/);
  await page.evaluate(() => ((globalThis as unknown as { clipboard: string }).clipboard = 'echo pas""ted'));
  await press(page, 'Paste into the terminal');
  await shows(page, /pas""ted$/);
  await page.keyboard.press('Enter');
  await shows(page, /^pasted$/);
}

async function copies(t: ExecutionContext, page: Page): Promise<void> {
  const copied = (): Promise<string> => page.evaluate(() => (globalThis as unknown as { clipboard: string }).clipboard);
  await typed(page, 'clear');
  await typed(page, 'echo select-me');
  await shows(page, /^select-me$/);
  const row = await page.evaluateHandle(() =>
    [...document.querySelectorAll('.xterm-rows > div')].find(r => r.textContent!.startsWith('select-me')),
  );
  const box = (await row.asElement()!.boundingBox())!;
  await page.mouse.click(box.x + 8, box.y + box.height / 2, { count: 2 });
  await chord(page, 'KeyC');
  await page.waitForFunction(() => (globalThis as unknown as { clipboard: string }).clipboard !== 'echo pas""ted');
  t.regex(await copied(), /^select/);
  await page.mouse.click(box.x + 300, box.y + 5 * box.height);
  await press(page, 'Copy the selection, or the screen');
  await says(page, /the whole screen has been copied/);
  t.regex(await copied(), /\nselect-me\nsis>$/);
}

/** The machine is told of every size, and lines are set anew. */
async function reflows(t: ExecutionContext, page: Page): Promise<void> {
  const columns = async (): Promise<number> => Number.parseInt(await page.$eval('#size', e => e.textContent!), 10);
  const wide = await columns();
  t.true(wide >= 80, `${wide} columns at 1280 pixels`);
  await typed(page, 'seq -s " " 1 60');
  await shows(page, / 60$/);
  const [width, height] = SIZES.telephone;
  await page.setViewport({ width, height });
  await page.waitForFunction(
    (before: number) => Number.parseInt(document.getElementById('size')!.textContent!, 10) < before,
    {},
    wide,
  );
  await shows(page, / 60$/);
  const narrow = await columns();
  await typed(page, 'ps -o args | head -n 1; echo $COLUMNS; man man');
  await shows(page, /SYNOPSIS/);
  t.true((await rowsOf(page)).every(row => row.length <= narrow));
  await page.keyboard.press('KeyQ');
  await page.setViewport({ width: SIZES.wide[0], height: SIZES.wide[1] });
  await page.waitForFunction(
    (before: number) => Number.parseInt(document.getElementById('size')!.textContent!, 10) === before,
    {},
    wide,
  );
}

async function finds(t: ExecutionContext, page: Page): Promise<void> {
  await page.focus('.xterm-helper-textarea');
  await chord(page, 'KeyF');
  await page.keyboard.type('select-me');
  const count = (): Promise<string> => page.$eval('#find [role=status]', e => e.textContent!);
  await page.waitForFunction(() => /of/.test(document.querySelector('#find [role=status]')!.textContent!));
  const [, at, of] = /^(\d+) of (\d+)$/.exec(await count())!;
  t.is(at, of, 'the newest first');
  await press(page, 'Previous match');
  await page.waitForFunction(
    (was: string) => document.querySelector('#find [role=status]')!.textContent !== was,
    {},
    `${at} of ${of}`,
  );
  await page.focus('#find input');
  await page.keyboard.type('-nowhere');
  await page.waitForFunction(() => document.querySelector('#find [role=status]')!.textContent === 'Not found');
  await page.keyboard.press('Escape');
  t.true(await page.$eval('#find', e => (e as HTMLElement).hidden));
  t.is(await page.evaluate(() => document.activeElement!.className), 'xterm-helper-textarea');
}

async function changesColours(t: ExecutionContext, page: Page): Promise<void> {
  const ground = (): Promise<string> => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const colours: string[] = [];
  for (const scheme of ['light', 'dark']) {
    await press(page, 'Settings');
    await page.select('dialog select', scheme);
    await page.keyboard.press('Escape');
    colours.push(await ground());
  }
  t.not(colours[0], colours[1]);
  await page.reload();
  await promptOf(page);
  t.is(await ground(), colours[1]!, 'it is remembered');
}

/** The machine goes off by itself, and on again by Enter. */
async function goesOff(t: ExecutionContext, page: Page): Promise<void> {
  await typed(page, 'exit');
  await shows(page, /^The machine is off: press Enter to switch it on\.$/);
  t.is(await page.$eval('#run', e => e.textContent), 'Off');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.getElementById('run')!.textContent === 'Ready');
  await shows(page, /^sis>$/);
}

/** From the dialog by keyboard alone: what is typed then goes to the new machine. */
async function reseeds(t: ExecutionContext, page: Page): Promise<void> {
  await press(page, 'Restart…');
  await page.keyboard.type('42');
  await page.keyboard.press('Enter');
  await page.waitForFunction(
    () =>
      document.querySelector('[data-fact=seed]')!.textContent === 'seed 42' &&
      document.getElementById('run')!.textContent === 'Ready' &&
      document.activeElement!.className === 'xterm-helper-textarea',
  );
  await page.keyboard.type('echo $((40 + 2))\r');
  await shows(page, /^42$/);
  t.is(await page.$eval('#run', e => e.textContent), 'Ready');
}

// ── Access ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What axe-core finds wrong, as `rule: where`. */
async function faultsOf(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const { axe } = globalThis as unknown as {
      axe: { run(): Promise<{ violations: { id: string; nodes: { target: string[]; failureSummary: string }[] }[] }> };
    };
    const { violations } = await axe.run();
    return violations.flatMap(v => v.nodes.map(n => `${v.id}: ${n.target.join(' ')}: ${n.failureSummary}`));
  });
}

const DIALOGS = ['Files', 'Share', 'Settings', 'Restart…'] as const;
const VIEWS = ['Memory', 'Pages', 'Schedule', 'Speed', 'Audit', 'Step', 'Tokens', 'Attention', 'Lens'] as const;

/** Controls, headings and figures that stand out of the window or over each other, as far as they are not scrolled out of sight. */
const clippedOf = (page: Page): Promise<string[]> =>
  page.evaluate(() => {
    const wrong: string[] = [];
    const inDialog = document.querySelector('dialog[open]');
    const seen = (e: HTMLElement): DOMRect => {
      let { left, right, top, bottom } = e.getBoundingClientRect();
      for (let p = e.parentElement; p !== null && p !== document.body; p = p.parentElement) {
        if (getComputedStyle(p).overflow === 'visible') continue;
        const frame = p.getBoundingClientRect();
        [left, right] = [Math.max(left, frame.left), Math.min(right, frame.right)];
        [top, bottom] = [Math.max(top, frame.top), Math.min(bottom, frame.bottom)];
      }
      return new DOMRect(left, top, Math.max(0, right - left), Math.max(0, bottom - top));
    };
    const nameOf = (e: HTMLElement): string =>
      `${e.tagName} ${(e.getAttribute('aria-label') ?? e.textContent!).slice(0, 30)}`;
    const boxes = [...document.querySelectorAll<HTMLElement>('button, select, input, h1, h2, .machine, .facts > *')]
      .filter(
        e => e.checkVisibility({ visibilityProperty: true }) && e.closest('.visually-hidden, .skip, .xterm') === null,
      )
      .filter(e => inDialog === null || inDialog.contains(e))
      .map(e => [e, seen(e)] as const)
      .filter(([, { width, height }]) => width > 1 && height > 1);
    for (const [e, { left, right }] of boxes)
      if (left < -0.5 || right > innerWidth + 0.5) wrong.push(`outside: ${nameOf(e)}`);
    for (const [i, [a, one]] of boxes.entries())
      for (const [b, two] of boxes.slice(i + 1)) {
        const across = Math.min(one.right, two.right) - Math.max(one.left, two.left);
        const down = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
        if (across > 1.5 && down > 1.5 && !a.contains(b) && !b.contains(a))
          wrong.push(`over each other: ${nameOf(a)}, ${nameOf(b)}`);
      }
    return wrong;
  });

/** Everything that is wrong with every dialog and every view of one size in one scheme. */
async function looked(page: Page, size: Size): Promise<string[]> {
  const wrong = new Set<string>();
  const look = async (what: string, isJudged = true): Promise<void> => {
    const faults = isJudged ? await faultsOf(page) : [];
    for (const fault of [...faults, ...(await clippedOf(page))]) wrong.add(`${what}: ${fault}`);
  };
  await page.evaluate(readFileSync('node_modules/axe-core/axe.min.js', 'utf8'));
  await look('terminal');
  for (const name of DIALOGS) {
    await press(page, name);
    await page.waitForSelector('dialog[open]');
    await look(name);
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => document.querySelector('dialog') === null);
  }
  await press(page, 'Find in the terminal');
  await look('search');
  await page.keyboard.press('Escape');
  if (size !== 'wide') await press(page, 'Machine', '#switch');
  for (const name of VIEWS) {
    await page.evaluate((wanted: string) => {
      [...document.querySelectorAll<HTMLElement>('[role=tab]')].find(tab => tab.textContent === wanted)!.click();
    }, name);
    await new Promise(resolve => setTimeout(resolve, 100)); // what it shows has been asked for, has come, and is drawn
    await look(name, soak || size === 'telephone'); // pagepanel.test.ts has them judged with more in them
  }
  return [...wrong];
}

/** What can be reached: the names of what Tab comes to, from the top of the page until it comes round. F6 where Tab is the machine's. */
async function reached(page: Page): Promise<string[]> {
  const names: string[] = [];
  const focused = (): Promise<string> =>
    page.evaluate(() => {
      const e = document.activeElement as HTMLElement;
      if (e === document.body) return 'page';
      return e.className === 'xterm-helper-textarea' ? 'terminal' : (e.dataset['test'] ?? '');
    });
  await page.evaluate(() => {
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute('tabindex');
  });
  for (let i = 0; i < 80; i++) {
    await page.keyboard.press('Tab');
    const at = await focused();
    if (at === 'page' || names.includes(at)) break;
    if (at !== '') names.push(at); // '': it has come since
    if (at !== 'terminal') continue;
    await page.keyboard.press('F6');
    names.push(await focused());
  }
  return names;
}

async function isReachable(t: ExecutionContext, page: Page): Promise<void> {
  await page.waitForSelector('.panel');
  const all = await page.evaluate(() => {
    const controls = [
      ...document.querySelectorAll<HTMLElement>('button, select, input, a[href], [tabindex="0"]'),
    ].filter(e => e.tabIndex >= 0 && e.checkVisibility({ visibilityProperty: true }) && e.closest('.xterm') === null);
    return controls.map((e, i) => {
      const labels = (e as HTMLInputElement).labels ?? [];
      const name = e.getAttribute('aria-label') ?? [...labels].map(l => l.textContent).join(' ') ?? '';
      e.dataset['test'] = `${i} ${(name || e.textContent!).slice(0, 40)}`;
      return e.dataset['test'];
    });
  });
  for (const name of all) t.regex(name, /\d \S/, 'it has a name');
  const names = await reached(page);
  t.true(names.includes('terminal'));
  t.deepEqual(
    all.filter(name => !names.includes(name)),
    [],
    `reached: ${names.join(' | ')}`,
  );
}

/** Tab stays in a dialog, Escape closes it, and the focus is where it was. */
async function keepsFocus(t: ExecutionContext, page: Page, name: string): Promise<void> {
  await press(page, name);
  await page.waitForSelector('dialog[open]');
  const inside = (): Promise<boolean> =>
    page.evaluate(() => document.querySelector('dialog[open]')!.contains(document.activeElement));
  for (const key of ['forward', 'forward', 'back', 'back', 'back', 'back']) {
    t.true(await inside(), `${name}: ${key}`);
    if (key === 'back') await page.keyboard.down('Shift');
    for (let i = 0; i < 8; i++) await page.keyboard.press('Tab');
    if (key === 'back') await page.keyboard.up('Shift');
  }
  t.true(await inside());
  await page.keyboard.press('Escape');
  const back = await page.evaluate(
    () => document.activeElement!.getAttribute('aria-label') ?? document.activeElement!.textContent,
  );
  t.is(back, name);
}

/** Output is read once, without control sequences; what is typed is not. */
async function readsAloud(t: ExecutionContext, page: Page): Promise<void> {
  const spoken = (): Promise<string[]> => page.$$eval('#spoken > div', lines => lines.map(line => line.textContent!));
  const heard = (text: string): Promise<unknown> =>
    page.waitForFunction(
      (wanted: string) =>
        [...document.querySelectorAll('#spoken > div')].some(line => line.textContent!.includes(wanted)),
      { timeout: 20_000 },
      text,
    );
  await typed(page, `printf '\\033[31mre''d\\033[m\\nseco''nd\\n'; seq 101 140; echo la''st`);
  await heard('last');
  await typed(page, 'echo "$((1000 + 1))"');
  await heard('1001');
  const lines = await spoken();
  const count = (line: string): number => lines.filter(l => l === line).length;
  for (const line of ['red', 'second', 'last', '1001', ...Array.from({ length: 40 }, (_, i) => `${101 + i}`)])
    t.is(count(line), 1, `${line}: ${lines.join('|')}`);
  t.false(
    lines.some(line => line.includes('\x1b') || line.includes('1000 + 1')),
    lines.join('|'),
  );
  await typed(page, 'llminfer --max-tokens 30 --seed 3 "One day" | tr -d "\\n"; echo; echo en""ded');
  await heard('ended');
  const all = (await spoken()).join('');
  t.is(all.split('ended').length, 2);
}

async function hasKeys(t: ExecutionContext, page: Page): Promise<void> {
  await typed(page, 'echo hist""ory');
  await shows(page, /^history$/);
  await press(page, 'Up', '#keys');
  await shows(page, /sis> echo hist""ory$/);
  await press(page, '^C interrupt', '#keys');
  await page.keyboard.type('ls /usr/share/la');
  await press(page, 'Tab', '#keys');
  await shows(page, /labs\/$/);
  await press(page, 'Ctrl, Control', '#keys');
  await page.keyboard.type('u');
  t.is(await page.$eval('#keys [aria-label^=Ctrl]', e => e.getAttribute('aria-pressed')), 'false');
  const lastRow = async (): Promise<string | undefined> => (await rowsOf(page)).at(-1);
  for (let tries = 0; tries < 100 && (await lastRow()) !== 'sis>'; tries++)
    await new Promise(resolve => setTimeout(resolve, 50));
  t.is(await lastRow(), 'sis>', 'Ctrl-U took the line away');
  t.is(
    await page.evaluate(() => document.activeElement!.className),
    'xterm-helper-textarea',
    'the keyboard stays open',
  );
}

/** What has gone by comes back under a finger. */
async function scrolls(t: ExecutionContext, page: Page): Promise<void> {
  await typed(page, 'seq 1 200; echo bot""tom');
  await shows(page, /^bottom$/);
  await page.touchscreen.touchStart(150, 300);
  await page.touchscreen.touchMove(150, 400);
  await page.touchscreen.touchMove(150, 600);
  await page.touchscreen.touchEnd();
  await page.waitForFunction(
    () => ![...document.querySelectorAll('.xterm-rows > div')].some(row => row.textContent!.startsWith('bottom')),
  );
  t.true((await rowsOf(page)).some(row => /^1\d\d$/.test(row)));
}

// ── What goes wrong, and what goes in and out ────────────────────────────────────────────────────────────────────────────────────

/** Needs WebGL; where the browser has none here, says so. */
async function losesWebgl(t: ExecutionContext, page: Page): Promise<void> {
  await page.waitForFunction(() => document.getElementById('xterm')!.dataset['renderer'] !== undefined);
  if ((await page.$eval('#xterm', e => (e as HTMLElement).dataset['renderer'])) === 'dom')
    return t.log('no WebGL here');
  await page.evaluate(() => {
    for (const canvas of document.querySelectorAll<HTMLCanvasElement>('.xterm-screen canvas'))
      canvas.getContext('webgl2')?.getExtension('WEBGL_lose_context')?.loseContext();
  });
  await says(page, /The graphics processor is gone: the terminal is drawn without it\. Nothing is lost\./);
  await typed(page, 'echo goes""-on');
  await shows(page, /^goes-on$/);
  return undefined;
}

async function losesWorker(t: ExecutionContext, page: Page): Promise<void> {
  await typed(page, 'echo still > /home/kept; cat /home/kept');
  await shows(page, /^still$/);
  const isKept = await page.$eval('[data-fact=home]', e => !e.textContent!.includes('not kept'));
  await new Promise(resolve => setTimeout(resolve, 300)); // it is at rest, and what was written is stored
  await page.evaluate(() =>
    (globalThis as unknown as { workers: Worker[] }).workers.forEach(worker => worker.terminate()),
  );
  await says(page, /The machine (?:has not answered|is gone)/);
  await press(page, 'Switch on again', '#notices');
  await page.waitForFunction(() => document.getElementById('run')!.textContent === 'Ready', { timeout: 30_000 });
  await shows(page, /^sis>$/);
  if (!isKept) return t.log('no storage here');
  await typed(page, 'cat /home/kept');
  await shows(page, /^still$/);
  return undefined;
}

async function takesFiles(t: ExecutionContext, page: Page): Promise<void> {
  await page.evaluate(() => {
    const data = new DataTransfer();
    data.items.add(new File(['dropped here\n'], 'note.txt'));
    dispatchEvent(new DragEvent('dragover', { dataTransfer: data, bubbles: true, cancelable: true }));
    dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
  });
  await says(page, /\/home\/note\.txt is there/);
  await typed(page, 'cat /home/note.txt');
  await shows(page, /^dropped here$/);
  await press(page, 'Files');
  await page.waitForSelector('dialog [aria-label="Save note.txt"]');
  t.pass();
  await page.keyboard.press('Escape');
}

/** A link made here comes to the same state in a page that knows nothing of this one. */
async function shares(t: ExecutionContext, browser: Browser, url: string, page: Page): Promise<void> {
  await typed(page, 'echo shared > /tmp/x; llminfer --max-tokens 12 --seed 9 "The sea"');
  await page.waitForFunction(() => document.getElementById('run')!.textContent === 'Ready');
  await press(page, 'Share');
  await press(page, 'Make the link', 'dialog');
  const link = await page.waitForSelector('dialog [aria-label="The link"]', { timeout: 30_000 });
  const value = await link!.evaluate(e => (e as HTMLInputElement).value);
  t.true(value.startsWith(`${url}#`));
  const other = await visit(browser, url, { fragment: value.slice(value.indexOf('#')) });
  await says(other, /state digest [0-9a-f]{12}, the same as where the link was made/);
  await shows(other, /echo shared > \/tmp\/x/);
  await leave(other);
  const broken = await visit(browser, url, { fragment: '#arena8=1.nonsense!' });
  await says(broken, /This link: not base64url/);
  await leave(broken);
}

/** Switched off and on while it runs, and while it is in the middle of a link that never ends: keys are the new machine's. */
async function restarts(t: ExecutionContext, page: Page): Promise<void> {
  const again = async (word: string): Promise<void> => {
    await press(page, 'Restart…');
    await press(page, 'Restart', 'dialog');
    await shows(page, /^sis>$/);
    await typed(page, `echo ${word}""-again`);
    await shows(page, new RegExp(`^${word}-again$`));
    t.false((await rowsOf(page)).some(row => row.includes('The machine is off')));
  };
  await typed(page, 'echo before""hand');
  await shows(page, /^beforehand$/);
  await again('once');
  const commands = ['echo end""less; while :; do :; done'];
  const share = { seed: 0, target: '', columns: 80, rows: 24, commands, files: [], digest: '', build: '' };
  const link = (await formatLink(share)) as string;
  const open = (): Promise<void> => page.evaluate(fragment => void (location.hash = fragment), link);
  await open();
  await shows(page, /^endless$/);
  await again('twice');
  await page.evaluate(() => history.replaceState(null, '', location.pathname));
  await open();
  await shows(page, /^endless$/);
  await page.focus('.xterm-helper-textarea');
  await page.keyboard.down('Control');
  await page.keyboard.press('KeyC');
  await page.keyboard.up('Control');
  await says(page, /cut short/);
}

// ── Both browsers ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A test with a browser of its own: `use` gets it and the page's address. */
function inBrowsers(
  title: string,
  use: (t: ExecutionContext, browser: Browser, url: string, name: BrowserName) => Promise<void>,
): void {
  for (const [name, file] of BROWSERS) {
    const here = existsSync(file);
    const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
    declare(`${name}: ${title}`, async t => {
      t.timeout(240_000);
      if (!here) return t.fail(`${file} is missing`);
      const { url } = await servedPage(t);
      return use(t, await launched(t, name, file), url, name);
    });
  }
}

inBrowsers('typing, pasting, copying, sizes, search, colours, off and on', async (t, browser, url) => {
  const page = await visit(browser, url, { settings: { home: 'lost' } });
  for (const use of [types, pastes, copies, reflows, finds, changesColours, goesOff, reseeds]) await use(t, page);
  await leave(page);
});

inBrowsers('restarting a machine that runs', async (t, browser, url) => {
  const page = await visit(browser, url, { settings: { home: 'lost' } });
  await restarts(t, page);
  await leave(page);
});

inBrowsers('axe-core finds nothing, nothing is clipped', async (t, browser, url, name) => {
  const sizes = Object.keys(SIZES) as Size[];
  const all = sizes.flatMap(size => [`${size} light`, `${size} dark`]);
  for (const wish of soak
    ? all
    : name === 'chrome'
      ? ['wide light', 'narrow light', 'telephone dark']
      : ['wide dark']) {
    const [size, scheme] = wish.split(' ') as [Size, string];
    const page = await visit(browser, url, { size, settings: { scheme, home: 'lost' } });
    await typed(page, 'llmctl load /models/fable-q4_0.gguf; llminfer --max-tokens 8 Once');
    await page.waitForFunction(() => document.getElementById('run')!.textContent === 'Ready');
    t.deepEqual(await looked(page, size), [], wish);
    await leave(page);
  }
});

inBrowsers('keyboard, screen reader, telephone keys', async (t, browser, url) => {
  const page = await visit(browser, url, { settings: { isSpoken: true, home: 'lost' } });
  await isReachable(t, page);
  for (const name of DIALOGS) await keepsFocus(t, page, name);
  await readsAloud(t, page);
  await leave(page);
  const telephone = await visit(browser, url, { size: 'telephone', settings: { home: 'lost' } });
  await isReachable(t, telephone);
  await hasKeys(t, telephone);
  await scrolls(t, telephone);
  await leave(telephone);
});

inBrowsers('lost graphics, a killed worker, dropped files, links', async (t, browser, url, name) => {
  const page = await visit(browser, url, { isWebgl: true });
  await losesWebgl(t, page);
  await leave(page);
  const kept = await visit(browser, url);
  await takesFiles(t, kept);
  await losesWorker(t, kept);
  await leave(kept);
  const sharing = await visit(browser, url, { settings: { home: 'lost' } });
  await shares(t, browser, url, sharing);
  await leave(sharing);
  if (name !== 'chrome') return; // Firefox's driver cannot ask for it
  const calm = await browser.newPage();
  await calm.emulateMediaFeatures([{ name: 'prefers-reduced-motion', value: 'reduce' }]);
  await calm.goto(url);
  await promptOf(calm);
  t.is(await calm.evaluate(() => document.getAnimations().length), 0);
});
