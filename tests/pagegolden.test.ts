// The machine in the worker of a page, in Debian's Chromium and Firefox: keys typed at its prompt must come to what the same keys come to in Node —
// every byte of the terminal, the digest of the whole state, the head of the audit log. First the page is a cable and nothing else: messages of
// boot/web/protocol go to the worker that people get. Then it is the page itself, with a keyboard, and an address with a link in it.
import test, { type ExecutionContext } from 'ava';
import { existsSync, readFileSync } from 'node:fs';
import type { KeyInput, Page } from 'puppeteer-core';
import { BROWSERS, type BrowserName } from './support/browser.ts';
import { cable, workerOf, type Cable } from './support/cable.ts';
import { Sitter } from './support/ground.ts';
import { launched, promptOf, servedPage } from './support/page.ts';
import { tap, type Tap } from './support/tap.ts';
import { ctrl, drawn, home, terminal, up } from './support/terminal.ts';
import { boot } from '../boot/index.ts';
import type { Build } from '../boot/fused.ts';
import { formatLink, replay, sharedOptions, type Replayed } from '../boot/share.ts';
import { utf8Decode, utf8Encode } from '../kernel/abi/index.ts';
import type { PoweredOn, PowerOn, Share, Watch } from '../boot/web/protocol/messages.ts';

/** What is typed, each when everything in the machine waits. */
const KEYS: readonly string[] = [
  'echo "zażółć 日本 👍" | wc -c\r',
  'cat /usr/share/la\tshe\t',
  `${ctrl('u')}llmctl load /models/fable-q4_0.gguf --ctx 128\r`,
  'llminfer --json --logits 3 --seed 11 --max-tokens 24 --repeat-penalty 1.3 Lily\r',
  'llminfer --temp 0.8 --seed 4 --max-tokens 60 The dog\r',
  `${ctrl('r')}json`,
  `${ctrl('c')}${up}\r`,
  'for i in 1 2 3; do llminfer --submit --max-tokens 8 --seed $i Once; done; llmstats\r',
  'cat > /tmp/note\r',
  'a line\rand another\r\x04',
  'sha256sum /tmp/note; seq 1 2000 | tail -n 3; uptime\r',
  'cat /audit/checkpoint\r',
];

const POWER_ON: PowerOn = {
  seed: 5,
  target: 'sifive-u74',
  columns: 72,
  rows: 20,
  home: 'lost',
  log: 'lost',
  share: null,
};

interface Golden {
  /** What came to the terminal, from power-on to the first prompt and after each of KEYS. */
  readonly texts: readonly string[];
  readonly digest: string;
  readonly head: string;
}

function inNode(compute: string): Golden {
  const { seed, target, columns, rows } = POWER_ON;
  const sitter = new Sitter({ seed, target, build: compute as Build }, columns, rows);
  const texts = [sitter.boot, ...KEYS.map(keys => sitter.enter(keys))];
  const { machine } = sitter.host;
  const head = machine.observe('/audit/checkpoint') as Uint8Array;
  return { texts, digest: machine.stateDigest(), head: utf8Decode(head, 0, head.length) };
}

/** A page of the served origin, without anything but the cable to a worker. */
async function wired(t: ExecutionContext, name: BrowserName, file: string): Promise<Page> {
  const { url } = await servedPage(t);
  const page = await (await launched(t, name, file)).newPage();
  await page.goto(`${url}nothing`);
  await page.evaluate(cable, workerOf(url));
  return page;
}

const inBrowser = (page: Page): Promise<[PoweredOn, Golden]> =>
  page.evaluate(
    async (options, keys) => {
      const { machine } = globalThis as unknown as { machine: Cable };
      const on = (await machine.ask('powerOn', options)) as PoweredOn;
      const texts = [machine.taken()];
      for (const typed of keys) texts.push(await machine.enter(typed));
      const head = new TextDecoder().decode((await machine.ask('read', '/audit/checkpoint')) as Uint8Array);
      return [on, { texts, digest: (await machine.ask('digest')) as string, head }] as [PoweredOn, Golden];
    },
    POWER_ON,
    KEYS,
  );

/** Lines for a link, and what somebody watches meanwhile. */
const LINES = [
  'cat /home/note',
  'llminfer --temp 1 --seed 6 --max-tokens 12 The',
  'llmstats',
  'for i in 1 2',
  'do echo $i; done',
];
const SHARE: Share = {
  seed: 77,
  target: '',
  columns: 66,
  rows: 22,
  commands: LINES,
  files: [{ path: '/home/note', bytes: utf8Encode('from afar\n') }],
  digest: '',
  build: '',
};
const WATCH: Watch = {
  paths: ['/proc/arena', '/proc/sessions', '/proc/step', '/proc/pages', '/audit/checkpoint'],
  trace: true,
  probe: { session: 0, what: 'probs', layer: 0, head: 0, top: 5 },
  everyMs: 1,
};

function replayed(compute: string): Replayed {
  const { console, ...options } = sharedOptions(SHARE, () => {});
  const build = compute as Build;
  const rounds = replay(boot({ ...options, console, build, image: readFileSync('build/boot.cpio') }), console, SHARE);
  for (;;) {
    const { done, value } = rounds.next();
    if (done === true) return value as Replayed;
  }
}

/** The link is opened while everything is watched, at full speed and op by op; then what was typed is shared again. */
const linkInBrowser = (page: Page): Promise<{ on: PoweredOn; seen: string[]; paced: string; again: Share }> =>
  page.evaluate(
    async (plain, share, watch) => {
      const { machine } = globalThis as unknown as { machine: Cable };
      const files = share.files.map(({ path }) => ({ path, bytes: new TextEncoder().encode('from afar\n') }));
      const options = { ...plain, share: { ...share, files } };
      await machine.ask('watch', watch);
      const on = (await machine.ask('powerOn', options)) as PoweredOn;
      const seen = machine.news.flatMap(news => (news.news === 'seen' ? Object.keys(news.files) : []));
      const rest = machine.ask('powerOn', options) as Promise<PoweredOn>;
      // Before the first line is typed: the machine is being made.
      await new Promise<void>(resolve => {
        const pace = (): void => {
          machine.ask('speed', { mode: 'pace', opsPerSecond: 100_000 }).then(
            () => resolve(),
            () => setTimeout(pace, 1),
          );
        };
        pace();
      });
      const paced = (await rest).digest;
      await machine.enter('echo and another line\r');
      const again = (await machine.ask('share', ['/home/note'])) as Share;
      return { on, seen, paced, again };
    },
    POWER_ON,
    { ...SHARE, files: SHARE.files.map(({ path }) => ({ path })) },
    WATCH,
  );

// ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Lines that a person types on the page; the names of keys in brackets. */
const TYPED: readonly (readonly string[])[] = [
  ['echo "zażółć 日本" | wc -c', '[Enter]'],
  ['cat /usr/share/la', '[Tab]', 'she', '[Tab]', '| head -n 3', '[Enter]'],
  ['llminfer --seed 4 --temp 0.8 --max-tokens 20 The dog', '[Enter]'],
  ['[ArrowUp]', '[Home]', 'time ', '[Enter]'],
  ['cat > /tmp/note', '[Enter]'],
  ['a lime', '[Backspace]', '[Backspace]', 'ne', '[Enter]'],
  ['[Control+KeyD]'],
  ['sha256sum /tmp/note; uptime', '[Enter]'],
];

const CODES: Readonly<Record<string, string>> = {
  Enter: '\r',
  Tab: '\t',
  ArrowUp: up,
  Home: home,
  Backspace: '\x7f',
  'Control+KeyD': ctrl('d'),
};
const nameOf = (key: string): string | null => /^\[([\w+]+)\]$/.exec(key)?.[1] ?? null;

const SETTINGS = JSON.stringify({ home: 'lost', log: 'lost', seed: 5, target: 'sifive-u74' });

async function press(page: Page, key: string): Promise<void> {
  const name = nameOf(key);
  if (name === null) return page.keyboard.type(key);
  const [last, modifier] = name.split('+').reverse() as KeyInput[];
  if (modifier !== undefined) await page.keyboard.down(modifier);
  await page.keyboard.press(last!);
  if (modifier !== undefined) await page.keyboard.up(modifier);
}

const tapped = <T>(page: Page, what: (tap: Tap) => T | Promise<T>): Promise<T> =>
  page.evaluate(`(${what})(globalThis.tap)`) as Promise<T>;

/** Everything waits, and what was typed has been shown. */
async function rested(page: Page, before: string): Promise<void> {
  await page.waitForFunction(
    (text: string) => {
      const { tap } = globalThis as unknown as { tap: Tap };
      return tap.run === 'idle' && tap.text !== text;
    },
    { timeout: 30_000 },
    before,
  );
}

/** What is on the screen and above it. */
async function scrollOf(text: string, columns: number, rows: number): Promise<string[]> {
  const term = terminal(columns, rows);
  await drawn(term, text);
  const { active } = term.buffer;
  return Array.from({ length: active.length }, (_, y) => active.getLine(y)!.translateToString(true));
}

/** The size of the terminal when the page has come to rest: the last that it has told. */
async function settledSize(page: Page): Promise<[number, number]> {
  for (let seen = -1; ;) {
    const sizes = await tapped(
      page,
      tap => [[tap.powerOn.columns, tap.powerOn.rows], ...tap.sizes] as [number, number][],
    );
    if (sizes.length === seen) return sizes.at(-1)!;
    seen = sizes.length;
    await new Promise(resolve => setTimeout(resolve, 500));
  }
}

async function typedOnPage(t: ExecutionContext, page: Page): Promise<void> {
  const size = await settledSize(page);
  await page.focus('.xterm-helper-textarea');
  await tapped(page, tap => (tap.text = ''));
  for (const keys of TYPED) {
    for (const key of keys) {
      const before = await tapped(page, tap => tap.text);
      await press(page, key);
      await rested(page, before);
    }
  }
  t.deepEqual(await settledSize(page), size);
  const { text, powerOn, poweredOn } = await tapped(page, ({ text, powerOn, poweredOn }) => ({
    text,
    powerOn,
    poweredOn,
  }));
  const { seed, target, columns, rows } = powerOn;
  const sitter = new Sitter({ seed, target, build: poweredOn!.compute as Build }, columns, rows);
  sitter.host.resize(...size);
  sitter.settle();
  const inNode = TYPED.flat().map(key => sitter.enter(CODES[nameOf(key) ?? ''] ?? key));
  t.deepEqual(await scrollOf(text, ...size), await scrollOf(inNode.join(''), ...size));
  t.is(await tapped(page, tap => tap.ask('digest')), sitter.host.machine.stateDigest());
  const head = (await tapped(page, async tap => [
    ...((await tap.ask('read', '/audit/head')) as Uint8Array),
  ])) as number[];
  t.is(utf8Decode(Uint8Array.from(head)), observed(sitter, '/audit/head'));
}

const observed = (sitter: Sitter, path: string): string => utf8Decode(sitter.host.machine.observe(path) as Uint8Array);

/** A link that says what Node came to. */
async function linkOnPage(t: ExecutionContext, page: Page, url: string, compute: string): Promise<void> {
  const { digest } = replayed(compute);
  const link = await formatLink({ ...SHARE, digest });
  await page.goto('about:blank');
  await page.goto(`${url}#${link as string}`);
  await promptOf(page);
  t.is((await tapped(page, tap => tap.poweredOn))!.digest, digest);
  await page.waitForFunction(
    (short: string) =>
      document
        .getElementById('notices')!
        .textContent!.includes(`state digest ${short}, the same as where the link was made`),
    { timeout: 10_000 },
    digest.slice(0, 12),
  );
}

for (const [name, file] of BROWSERS) {
  const here = existsSync(file);
  const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
  declare(`keys typed at the worker's machine in ${file} come to what they come to in Node`, async t => {
    t.timeout(120_000);
    if (!here) return t.fail(`${file} is missing`);
    const [on, browser] = await inBrowser(await wired(t, name, file));
    t.log(`${name}: ${on.compute}, at the prompt after ${Math.round(on.bootMs)} ms`);
    t.deepEqual(browser, inNode(on.compute));
    return undefined;
  });

  declare(`a link opened in ${file} comes to the digest of Node, watched and held as you like`, async t => {
    t.timeout(120_000);
    if (!here) return t.fail(`${file} is missing`);
    const { on, seen, paced, again } = await linkInBrowser(await wired(t, name, file));
    const { digest } = replayed(on.compute);
    t.is(on.digest, digest);
    t.is(paced, digest);
    for (const path of WATCH.paths) t.true(seen.includes(path), path);
    t.deepEqual(again.commands, [...LINES, 'echo and another line']);
    t.regex(again.digest, /^[0-9a-f]{64}$/);
    t.not(again.digest, digest);
    return undefined;
  });

  declare(`what is typed on the page in ${file} comes to what it comes to in Node, and so does a link`, async t => {
    t.timeout(120_000);
    if (!here) return t.fail(`${file} is missing`);
    const { url } = await servedPage(t);
    const page = await (await launched(t, name, file)).newPage();
    await page.setViewport({ width: 1280, height: 800 });
    await page.evaluateOnNewDocument(tap, SETTINGS);
    await page.goto(url);
    await promptOf(page);
    await typedOnPage(t, page);
    await linkOnPage(t, page, url, (await tapped(page, tap => tap.poweredOn))!.compute);
    return undefined;
  });
}
