// The machine in the worker of a page, in Debian's Chromium and Firefox: keys typed at its prompt must come to what the same keys come to in Node —
// every byte of the terminal, the digest of the whole state, the head of the audit log. The page here is a cable and nothing else: messages of
// boot/web/protocol go to the worker that people get.
import test, { type ExecutionContext } from 'ava';
import { existsSync } from 'node:fs';
import { BROWSERS } from './support/browser.ts';
import { cable, workerOf, type Cable } from './support/cable.ts';
import { Sitter } from './support/ground.ts';
import { launched, servedPage } from './support/page.ts';
import { ctrl, up } from './support/terminal.ts';
import { utf8Decode } from '../kernel/abi/index.ts';
import type { PoweredOn, PowerOn } from '../boot/web/protocol/messages.ts';

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
  const sitter = new Sitter({ seed, target, build: compute as 'relaxed' | 'simd128' }, columns, rows);
  const texts = [sitter.boot, ...KEYS.map(keys => sitter.enter(keys))];
  const { machine } = sitter.host;
  const head = machine.observe('/audit/checkpoint') as Uint8Array;
  return { texts, digest: machine.stateDigest(), head: utf8Decode(head, 0, head.length) };
}

async function inBrowser(t: ExecutionContext, name: 'chrome' | 'firefox', file: string): Promise<[PoweredOn, Golden]> {
  const { url } = await servedPage(t);
  const page = await (await launched(t, name, file)).newPage();
  await page.goto(`${url}nothing`); // of the same origin, and empty
  await page.evaluate(cable, workerOf(url));
  return page.evaluate(
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
}

for (const [name, file] of BROWSERS) {
  const here = existsSync(file);
  const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
  declare(`keys typed at the worker's machine in ${file} come to what they come to in Node`, async t => {
    t.timeout(120_000);
    if (!here) return t.fail(`${file} is missing`);
    const [on, browser] = await inBrowser(t, name, file);
    t.log(`${name}: ${on.compute}, at the prompt after ${Math.round(on.bootMs)} ms`);
    t.deepEqual(browser, inNode(on.compute));
    return undefined;
  });
}
