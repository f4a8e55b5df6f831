// What a page keeps in the browser's storage: a tree of files over slots that are opened beforehand. First without a browser, held against Linux with
// random operations, against its own past with the power cut at every write, and with a full disk.

import test, { type ExecutionContext } from 'ava';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Browser, Page } from 'puppeteer-core';
import { directory as hostDirectory } from '../boot/host-directory.ts';
import { E, errnoName, KIND, O, utf8Encode, type HostDirectory, type HostFile } from '../kernel/abi/index.ts';
import type { FileEntry, News, PoweredOn, PowerOn, Storage } from '../boot/web/protocol/messages.ts';
import { nextName, plainName } from '../boot/web/worker/intake.ts';
import { makeRandom } from './support/arena.ts';
import { BROWSERS, bundled, type BrowserName } from './support/browser.ts';
import { cable, workerOf, type Cable } from './support/cable.ts';
import { launched, servedPage } from './support/page.ts';
import { PowerCut } from './support/power.ts';
import { Slots } from './support/slots.ts';

const isSoak = process.env['ARENA8_SOAK'] === '1';

// ── Random operations: Linux and slots ───────────────────────────────────────────────────────────────────────────────────────────────

/** What an operation answers, as text. Which of two bad paths is named is the VFS's affair, which looks at both before. */
const answer = (name: string, value: unknown): string => {
  if (typeof value !== 'number' || value >= 0) return JSON.stringify(value);
  return name.startsWith('rename') && value === -E.NOTDIR ? errnoName(-E.NOENT) : errnoName(value);
};

/** Everything below a directory, a line each: kind, mode, bytes. */
function treeOf(d: HostDirectory, at = ''): string[] {
  const entries = d.list(at);
  if (typeof entries === 'number') return [`${at}: ${errnoName(entries)}`];
  return entries.flatMap(({ name, kind }) => {
    const p = at === '' ? name : `${at}/${name}`;
    const stat = d.stat(p);
    const line = `${p} ${typeof stat === 'number' ? errnoName(stat) : stat.mode.toString(8)}`;
    return kind === KIND.dir ? [`${line} dir`, ...treeOf(d, p)] : [`${line} ${textOf(d, p)}`];
  });
}

function textOf(d: HostDirectory, p: string): string {
  const file = d.open(p, O.RDONLY);
  if (typeof file === 'number') return errnoName(file);
  const into = new Uint8Array(100_000);
  const n = file.read(0, into, 0, into.length);
  file.close();
  return Buffer.from(into.subarray(0, n)).toString('latin1');
}

interface Step {
  readonly name: string;
  act(d: HostDirectory, open: HostFile[]): unknown;
}

/** One random operation on few names, so that they meet: most of them are refused, for every reason there is. */
function step(random: (n: number) => number, opened: number): Step {
  const name = (): string => ['a', 'b', 'c', 'é'][random(4)]!;
  const aPath = (): string => Array.from({ length: 1 + random(3) }, name).join('/');
  const [p, q] = [aPath(), aPath()];
  const size = random(random(4) === 0 ? 5000 : 40);
  const bytes = new Uint8Array(1 + size).fill(97 + random(26));
  const which = random(Math.max(1, opened));
  const made = (text: string, act: Step['act']): Step => ({ name: text, act });
  switch (random(opened > 0 ? 16 : 12)) {
    case 0:
    case 1:
      return made(`mkdir ${p}`, d => d.mkdir(p, 0o755));
    case 2:
    case 3:
      return made(`create ${p}`, d => d.create(p, 0o640));
    case 4:
      return made(`remove ${p}`, d => d.remove(p));
    case 5:
      return made(`rmdir ${p}`, d => d.removeDirectory(p));
    case 6:
    case 7:
      return made(`rename ${p} ${q}`, d => d.rename(p, q));
    case 8:
      return made(`truncate ${p} ${size}`, d => d.truncate(p, size));
    case 9:
      return made(`stat ${p}`, d => {
        const stat = d.stat(p);
        return typeof stat === 'number' || stat.kind === KIND.dir ? stat : { size: stat.size, mode: stat.mode };
      });
    case 10:
      return made(`list ${p}`, d => d.list(p));
    case 11:
      return made(`open ${p}`, (d, open) => {
        const file = d.open(p, O.RDWR);
        if (typeof file === 'number') return file;
        open.push(file);
        return 'open';
      });
    case 12:
    case 13:
      return made(`write ${which} ${size}`, (_, open) => open[which]!.write(size, bytes, 0, bytes.length));
    case 14:
      return made(`read ${which} ${size}`, (_, open) => {
        const into = new Uint8Array(64);
        return [open[which]!.read(size, into, 0, 64), Buffer.from(into).toString('latin1')];
      });
    default:
      return made(`close ${which}`, (_, open) => open.splice(which, 1)[0]!.close());
  }
}

/** Directories answer with their own sizes, owners are each host's own. */
const plain = (value: unknown): unknown =>
  typeof value === 'object' && value !== null && 'kind' in value ? { kind: value.kind } : value;

test('random operations on slots give what Linux gives, and are there again at the next power-on', t => {
  const place = mkdtempSync(path.join(tmpdir(), 'arena8-slots-'));
  t.teardown(() => rmSync(place, { recursive: true, force: true }));
  const mask = process.umask(0);
  t.teardown(() => process.umask(mask));
  for (let seed = 1; seed <= (isSoak ? 200 : 4); seed++) {
    const random = makeRandom(seed);
    const root = mkdtempSync(path.join(place, 'root-'));
    const linux = hostDirectory(root, false);
    let slots = new Slots();
    let mine = slots.directory();
    const [there, here]: [HostFile[], HostFile[]] = [[], []];
    const past: string[] = [];
    for (let i = 0; i < 1200; i++) {
      const s = step(random, there.length);
      past.push(s.name);
      const [want, got] = [linux, mine].map((d, on) => answer(s.name, plain(s.act(d, on === 0 ? there : here))));
      if (want !== got) return t.is(got, want, `seed ${seed}: ${past.slice(-12).join('; ')}`);
      if (there.length > 12 || i % 150 === 149)
        for (const files of [there, here]) files.splice(0).forEach(file => file.close());
      if (i % 7 === 0 || i % 150 === 149) slots.settle(mine);
      if (i % 150 !== 149) continue;
      t.deepEqual(treeOf(mine), treeOf(linux), `seed ${seed}`);
      slots = slots.survivor();
      mine = slots.directory();
      t.deepEqual(treeOf(mine), treeOf(linux), `seed ${seed}, switched on again`);
    }
    rmSync(root, { recursive: true });
  }
  return t.pass();
});

// ── The power goes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const STEPS = 160;
/** A step of the work after which everything is flushed: one in so many. */
const FLUSHED = 8;
/** So small a journal is written anew, and grows, in the middle of it. */
const JOURNAL_BYTES = 700;

/** Work on a home. `done` is told what the tree looks like behind each step; the first time before any. */
function work(slots: Slots, seed: number, done: (tree: readonly string[]) => void): void {
  const d = slots.directory(100, JOURNAL_BYTES);
  const random = makeRandom(seed);
  const open: HostFile[] = [];
  done(treeOf(d));
  for (let i = 1; i <= STEPS; i++) {
    step(random, open.length).act(d, open);
    if (i % FLUSHED === 0) d.flush();
    slots.settle(d);
    done(treeOf(d));
  }
}

/** As far as the power lasts. */
function workUntilCut(slots: Slots, seed: number): void {
  try {
    work(slots, seed, () => {});
  } catch (error) {
    if (!(error instanceof PowerCut)) throw error;
  }
}

const pathOf = (line: string): string => line.split(' ')[0]!;

/** Null: each file and directory is as it was before or behind the step; of one that the step changes, the bytes may be of both. */
function mixed(found: readonly string[], before: readonly string[], behind: readonly string[]): string | null {
  const names = (tree: readonly string[]): string => tree.map(pathOf).join('\n');
  if (![before, behind].some(tree => names(tree) === names(found))) return `names:\n${found.join('\n')}`;
  const settled = before.filter(line => behind.includes(line));
  const lost = settled.find(line => !found.includes(line));
  return lost === undefined ? null : `lost: ${lost}`;
}

test('the power goes at any write: each step is done or not, and other files keep their bytes', t => {
  let cuts = 0;
  for (let seed = 1; seed <= (isSoak ? 100 : 4); seed++) {
    const whole = new Slots();
    const trees: (readonly string[])[] = [];
    const operations: number[] = []; // behind each step
    work(whole, seed, tree => {
      trees.push(tree);
      operations.push(whole.operations);
    });
    for (let cutAt = 0; cutAt < whole.operations; cutAt++)
      for (const cut of ['before', 'torn', 'behind'] as const) {
        const slots = new Slots();
        [slots.cutAt, slots.cut] = [cutAt, cut];
        workUntilCut(slots, seed);
        const found = treeOf(slots.survivor().directory(100, JOURNAL_BYTES));
        const at = operations.findIndex(count => count > cutAt);
        const wrong = mixed(found, trees[at - 1] ?? [], trees[at]!);
        if (wrong !== null) return t.fail(`seed ${seed}, cut ${cut} ${cutAt}, step ${at}: ${wrong}`);
        cuts++;
      }
  }
  return t.true(cuts > 300, `${cuts}`);
});

test('a disk that keeps for sure only what was flushed: names are those of one moment since', t => {
  for (let seed = 1; seed <= (isSoak ? 400 : 12); seed++) {
    const trees: string[] = [];
    const operations: number[] = [];
    const whole = new Slots();
    const names = (tree: readonly string[]): string => tree.map(pathOf).join('\n');
    work(whole, seed, tree => {
      trees.push(names(tree));
      operations.push(whole.operations);
    });
    const random = makeRandom(1000 + seed);
    for (let i = 0; i < 20; i++) {
      const slots = new Slots();
      slots.cutAt = random(whole.operations);
      workUntilCut(slots, seed);
      const found = names(treeOf(slots.survivor(random).directory(100, JOURNAL_BYTES)));
      const at = operations.findIndex(count => count > slots.cutAt);
      const from = Math.max(0, at - 1 - ((at - 1) % FLUSHED));
      if (!['', ...trees.slice(from, at + 1)].slice(from === 0 ? 0 : 1).includes(found))
        return t.fail(`seed ${seed}, cut at ${slots.cutAt}, step ${at}: ${found}`);
    }
  }
  return t.pass();
});

const NOTE = utf8Encode('a note of mine');

/** Puts bytes into a file that is made for them. */
function write(d: HostDirectory, p: string, bytes: Uint8Array): number {
  const made = d.create(p, 0o644);
  if (made < 0) return made;
  const file = d.open(p, O.WRONLY) as HostFile;
  const n = file.write(0, bytes, 0, bytes.length);
  file.close();
  return n;
}

test('a name that comes back after a power cut never has another file’s bytes', t => {
  for (let seed = 1; seed <= 50; seed++) {
    const slots = new Slots();
    const d = slots.directory(4);
    write(d, 'a', NOTE);
    d.flush();
    d.remove('a');
    for (const name of ['b', 'c', 'd', 'e']) write(d, name, utf8Encode('something else'));
    const found = slots.survivor(makeRandom(seed)).directory(4);
    t.regex(treeOf(found).find(line => line.startsWith('a ')) ?? 'a 644 ', /^a 644 (a note of mine|\0*)$/);
  }
});

test('a power cut after a removal or a replacement leaves the whole old file or the whole new one', t => {
  const letter = utf8Encode('another text, and a longer one');
  for (let seed = 1; seed <= 100; seed++) {
    const slots = new Slots();
    const d = slots.directory(9);
    for (const name of ['a', 'b']) write(d, name, NOTE);
    d.flush();
    d.remove('a');
    write(d, 'c', letter);
    d.rename('c', 'b');
    const lines = treeOf(slots.survivor(makeRandom(seed)).directory(9)).filter(line => !line.startsWith('c '));
    for (const line of lines)
      t.regex(line, /^a 644 a note of mine$|^b 644 (a note of mine|another text, and a longer one)$/);
    t.true(lines.some(line => line.startsWith('b ')));
  }
});

test('room that a removal gives back can be used before anything is flushed', t => {
  const slots = new Slots();
  const d = slots.directory(9);
  slots.capacity = slots.usedBytes + 100;
  t.is(write(d, 'a', new Uint8Array(90)), 90);
  t.is(write(d, 'b', new Uint8Array(90)), 10);
  t.is(d.truncate('b', 0), 0);
  t.is(d.remove('a'), 0);
  t.is(write(d, 'c', new Uint8Array(90)), 90);
});

test('files that are made faster than slots can be opened wait in memory', t => {
  const slots = new Slots();
  const d = slots.directory(60);
  for (let i = 0; i < 50; i++) t.is(write(d, `f${i}`, NOTE), NOTE.length);
  t.true(d.slotsLate().length > 40);
  const open = d.open('f49', O.RDWR) as HostFile;
  d.remove('f48');
  d.rename('f47', 'g');
  d.truncate('f46', 3);
  const tree = treeOf(d);
  slots.settle(d);
  t.deepEqual(d.slotsLate(), []);
  t.deepEqual(treeOf(d), tree);
  t.is(open.write(NOTE.length, NOTE, 0, NOTE.length), NOTE.length);
  t.deepEqual(treeOf(slots.survivor().directory(60)), treeOf(d));
  t.is(d.create('f50', 0), 0);
  for (let i = 51; i < 61; i++) d.create(`f${i}`, 0);
  t.is(d.create('more', 0), -E.NOSPC);
  t.is(d.remove('f0'), 0);
  t.is(d.create('more', 0), 0);
});

test('a full disk: nothing that was there is lost, and everything can be removed', t => {
  let refused = 0;
  for (let seed = 1; seed <= (isSoak ? 300 : 20); seed++) {
    const slots = new Slots();
    const d = slots.directory(100, JOURNAL_BYTES);
    const random = makeRandom(seed);
    slots.capacity = slots.usedBytes + 500 + random(6000);
    const open: HostFile[] = [];
    for (let i = 0; i < 300; i++) {
      const answered = step(random, open.length).act(d, open);
      if (answered === -E.NOSPC) refused++;
      if (open.length > 6) open.splice(0).forEach(file => file.close());
      slots.settle(d);
    }
    open.forEach(file => file.close());
    const tree = treeOf(d);
    const again = slots.survivor();
    again.capacity = slots.capacity;
    const later = again.directory(100, JOURNAL_BYTES);
    if (treeOf(later).join() !== tree.join()) return t.deepEqual(treeOf(later), tree, `seed ${seed}`);
    for (const line of tree.toReversed()) {
      const p = pathOf(line);
      const status = line.endsWith(' dir') ? later.removeDirectory(p) : later.remove(p);
      if (status !== 0) return t.is(status, 0, `seed ${seed}: ${p}`);
    }
    again.capacity += 4 * JOURNAL_BYTES; // the list of names may grow into what there is
    t.is(write(later, 'new', NOTE), NOTE.length);
    t.deepEqual(treeOf(again.survivor().directory(100, JOURNAL_BYTES)), [`new 644 ${String(Buffer.from(NOTE))}`]);
  }
  return t.true(refused > 40, `${refused}`);
});

test('a damaged list of names is refused, or ends before the damage', t => {
  const slots = new Slots();
  const trees = new Set(['']);
  work(slots, 3, tree => trees.add(tree.map(pathOf).join('\n')));
  const refusals = new Set<string>();
  for (const name of ['journal-a', 'journal-b'])
    for (let at = 0; at < slots.bytesOf(name)!.length; at += 3) {
      const damaged = slots.survivor();
      damaged.damage(name, bytes => void (bytes[at]! ^= 1 << (at % 8)));
      try {
        const found = treeOf(damaged.directory(100, JOURNAL_BYTES)).map(pathOf).join('\n');
        if (!trees.has(found)) return t.fail(`${name} ${at}: ${found}`);
      } catch (error) {
        refusals.add((error as Error).message);
      }
    }
  t.log([...refusals].join('; '));
  for (const name of ['journal-a', 'journal-b']) slots.damage(name, bytes => void bytes.fill(0xff, 0, 10));
  return t.throws(() => slots.directory(), { message: 'the list of files is damaged' });
});

test('names of files from outside are ones that the machine takes', t => {
  t.is(plainName('zażółć 日本 👍.gguf'), 'zażółć 日本 👍.gguf');
  t.is(plainName('a/b\u0007c\ud800\u009b'), 'a_b_c__');
  t.deepEqual(['', '.', '..', 'x'].map(plainName), ['file', 'file', 'file', 'x']);
  const long = plainName(`${'é'.repeat(300)}.gguf`);
  t.true(Buffer.byteLength(long) <= 251 && long.endsWith('éé.gguf'), long);
  t.deepEqual(
    ['x.gguf', 'a.b/x', '.web', 'x'].map(name => nextName(name, 2)),
    ['x-2.gguf', 'a.b/x-2', '.web-2', 'x-2'],
  );
});

// ── In browsers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const KEPT: PowerOn = { seed: 1, target: '', columns: 200, rows: 24, home: 'kept', log: 'kept', share: null };

/** The worker's machine in a page. */
class Seat {
  private constructor(
    private readonly page: Page,
    readonly on: PoweredOn,
  ) {}

  /** Another worker in the page, the last one going on. */
  static async take(page: Page, url: string, options: PowerOn = KEPT): Promise<Seat> {
    await page.evaluate(cable, workerOf(url));
    const on = await page.evaluate(async o => {
      const { machine } = globalThis as unknown as { machine: Cable };
      const answer = (await machine.ask('powerOn', o)) as PoweredOn;
      machine.taken();
      return answer;
    }, options);
    return new Seat(page, on);
  }

  ask(call: string, ...args: readonly unknown[]): Promise<unknown> {
    return this.page.evaluate(
      (c, a) =>
        (globalThis as unknown as { machine: Cable }).machine
          .ask(c, ...a)
          .catch(error => ({ refusal: (error as Error).message })),
      call,
      args,
    );
  }

  /** What a command line prints, without its echo and the next prompt. */
  async enter(line: string): Promise<string> {
    const text = await this.page.evaluate(
      l => (globalThis as unknown as { machine: Cable }).machine.enter(`${l}\r`),
      line,
    );
    // eslint-disable-next-line no-control-regex
    const plain = text.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, '').replace(/\r/g, '');
    return plain.slice(plain.indexOf('\n') + 1, plain.lastIndexOf('\n') + 1);
  }

  /** A Blob of so many pieces of as many bytes, dropped. */
  put(name: string, pieceBytes: number, pieces: number): Promise<unknown> {
    return this.page.evaluate(
      (n, bytes, count) => {
        const piece = new Blob([Uint8Array.from({ length: bytes }, (_, i) => i % 251)]);
        return (globalThis as unknown as { machine: Cable }).machine
          .ask('put', n, new Blob(Array.from({ length: count }, () => piece)))
          .catch(error => ({ refusal: (error as Error).message }));
      },
      name,
      pieceBytes,
      pieces,
    );
  }

  news(): Promise<News[]> {
    return this.page.evaluate(() => [...(globalThis as unknown as { machine: Cable }).machine.news]);
  }

  async troubles(): Promise<string[]> {
    return (await this.news()).flatMap(item => (item.news === 'trouble' ? [item.text] : []));
  }

  /** Cuts the power while a Blob of so many pieces is on its way. */
  cutWhile(name: string, pieceBytes: number, pieces: number): Promise<void> {
    return this.page.evaluate(
      async (n, bytes, count) => {
        const { machine } = globalThis as unknown as { machine: Cable };
        const piece = new Blob([new Uint8Array(bytes)]);
        void machine.ask('put', n, new Blob(Array.from({ length: count }, () => piece)));
        while (!machine.news.some(item => item.news === 'progress' && item.what === n))
          await new Promise(done => {
            setTimeout(done, 1);
          });
        machine.cut();
      },
      name,
      pieceBytes,
      pieces,
    );
  }

  /** Types without waiting, and cuts the power after that time. */
  cutDuring(line: string, ms: number): Promise<void> {
    return this.page.evaluate(
      async (l, wait) => {
        const { machine } = globalThis as unknown as { machine: Cable };
        await machine.ask('type', new TextEncoder().encode(`${l}\r`));
        await new Promise(done => {
          setTimeout(done, wait);
        });
        machine.cut();
      },
      line,
      ms,
    );
  }
}

/** What `Seat.put` drops. */
function dropped(pieceBytes: number, pieces: number): Buffer {
  const piece = Buffer.from(Uint8Array.from({ length: pieceBytes }, (_, i) => i % 251));
  return Buffer.concat(Array.from({ length: pieces }, () => piece));
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const PROFILES: Readonly<Record<BrowserName, string>> = {
  chrome: mkdtempSync(path.join(tmpdir(), 'arena8-browser-')),
  firefox: mkdtempSync(path.join(tmpdir(), 'arena8-browser-')),
};
/** It gives a site a fifth of what all sites together have. */
const FIREFOX_PREFERENCES = { 'dom.quotaManager.temporaryStorage.fixedLimit': 5 * 16_384 }; // KiB

/** One of each for all tests, that begins with a profile of its own: each test has a server, and so an origin, of its own. */
const running = new Map<BrowserName, Promise<Browser>>();
const closers: (() => unknown)[] = [];
test.after.always(async () => {
  for (const close of closers) await close();
});

/** A page of the served origin with nothing in it. */
async function emptyPage(name: BrowserName, file: string, url: string): Promise<Page> {
  let browser = running.get(name);
  if (browser === undefined) {
    const scope = { teardown: (close: () => unknown) => void closers.push(close) };
    running.set(name, (browser = launched(scope, name, file, PROFILES[name], FIREFOX_PREFERENCES)));
  }
  const page = await (await browser).newPage();
  await page.goto(`${url}nothing`);
  return page;
}

const IN_BROWSER = (
  title: string,
  run: (t: ExecutionContext, name: BrowserName, file: string) => Promise<void>,
): void => {
  for (const [name, file] of BROWSERS) {
    const here = existsSync(file);
    const declare = here || process.env['CI'] === 'true' ? test.serial : test.serial.skip;
    declare(`${file}: ${title}`, async t => {
      t.timeout(120_000);
      if (!here) return t.fail(`${file} is missing`);
      await run(t, name, file);
      return undefined;
    });
  }
};

IN_BROWSER('a home outlives the worker, the page and the browser, and the audit log does', async (t, name, file) => {
  const { url } = await servedPage(t);
  const page = await emptyPage(name, file, url);
  const first = await Seat.take(page, url);
  t.like(first.on.storage, { isKept: true, why: '' });
  t.is(await first.enter('ls /home | cat; mount | grep -c opfs:'), 'auditor\nuser\n2\n');
  const printed: string[] = [];
  for (const line of [
    'cd /home; mkdir docs; echo one > docs/a; echo two >> docs/a; cp docs/a docs/b; echo 1 > docs/b',
    'mv docs/b kept; rm docs/a; echo three > docs/c; chmod 600 docs/c; mkdir gone; rmdir gone',
    "su user -c 'echo mine > ~/x'; ln -s a b; su auditor -c 'cat docs/c'",
    'for i in $(seq 150); do echo $i > n$i; done; cat n* | wc -l; rm n*',
  ])
    printed.push(await first.enter(line));
  t.deepEqual(printed, [
    '',
    '',
    "ln: failed to create symbolic link 'b': Operation not permitted\ncat: docs/c: Permission denied\n",
    '150\n',
  ]);
  t.is(await first.put('x y.bin', 1000, 1500), '/home/x y.bin');
  t.is(await first.put('x y.bin', 10, 1), '/home/x y-1.bin');
  const shown = 'ls -lR /home; cat kept docs/c user/x; sha256sum /home/x*';
  const before = await first.enter(shown);
  t.true(before.includes(sha256(dropped(1000, 1500))), before);
  t.true(before.includes('1\nthree\nmine\n'), before.slice(-400));
  t.regex(before, /-rw------- +1 root +root +6 .* c$/m);
  t.regex(before, /-rw-r--r-- +1 user +user +5 .* x$/m);
  // A second one, at the same time.
  const other = await emptyPage(name, file, url);
  const second = await Seat.take(other, url);
  t.deepEqual(second.on.storage, {
    isKept: false,
    why: 'another tab or window has it open',
    usedBytes: 0,
    quotaBytes: 0,
  });
  t.deepEqual(await second.troubles(), ['The audit log is not kept: another tab or window has it open.']);
  t.is(await second.enter('ls /home | cat'), 'auditor\nuser\n');
  await other.close();
  // What came of it, by the page.
  t.is(((await first.ask('storage')) as Storage).isKept, true);
  const list = (await first.ask('list', '/home')) as FileEntry[];
  t.deepEqual(
    list.find(entry => entry.path === '/home/x y.bin'),
    { path: '/home/x y.bin', bytes: 1_500_000, isDirectory: false },
  );
  t.deepEqual(await first.ask('read', '/home/nothing'), { refusal: '/home/nothing: No such file or directory' });
  t.deepEqual(await first.troubles(), []);

  await page.reload();
  const again = await Seat.take(page, url);
  t.like(again.on.storage, { isKept: true });
  t.is(await again.enter(`cd /home; ${shown}`), before);
  t.is(
    await again.enter(
      'llmctl audit export /tmp/e > /tmp/v && llmctl audit verify /tmp/e > /tmp/v 2>&1; echo $?; llmctl audit list | grep -c boot',
    ),
    '0\n2\n',
  );
  // Switched off with more files made than could be opened; and what was on its way when the power goes takes no room.
  await again.enter('for i in $(seq 99); do echo $i > /home/user/n$i; done');
  await again.ask('powerOff');
  const third = await Seat.take(page, url);
  t.is(await third.enter('cat /home/user/n* | wc -l; rm /home/user/n*'), '99\n');
  await third.cutWhile('put', 1024 * 1024, 8);
  await (await running.get(name)!).close();
  running.delete(name);

  const last = await Seat.take(await emptyPage(name, file, url), url);
  t.is(await last.enter(`cd /home; ${shown}`), before);
  t.is(
    await last.enter(
      'llmctl audit export /tmp/e > /tmp/v && llmctl audit verify /tmp/e > /tmp/v 2>&1; echo $?; llmctl audit list | grep -c boot',
    ),
    '0\n4\n',
  );
  // What nobody has a name for is removed beside the machine.
  const used = async (): Promise<number> => ((await last.ask('storage')) as Storage).usedBytes;
  for (let tries = 0; tries < 40 && (await used()) > 4 * 1024 * 1024; tries++)
    await new Promise(done => {
      setTimeout(done, 250);
    });
  const usedBytes = await used();
  t.true(usedBytes < 4 * 1024 * 1024, `${usedBytes}`);
});

IN_BROWSER('a worker that ends in the middle of writing leaves names and files whole', async (t, name, file) => {
  const { url } = await servedPage(t);
  const page = await emptyPage(name, file, url);
  for (let round = 0; round < 3; round++) {
    const seat = await Seat.take(page, url);
    t.true(seat.on.storage.isKept, seat.on.storage.why);
    const files = await seat.enter('ls /home | cat');
    t.regex(files, round === 0 ? /^auditor\nuser\n$/ : /^auditor\n(line\d*\n)*user\n$/, `round ${round}`);
    // Of a file that was moved to its place, each line is there.
    if (round > 0)
      t.is(await seat.enter('cat /home/line* | sort | uniq -c | wc -l; cat /home/line* | grep -vc 12345'), '1\n0\n');
    t.deepEqual(await seat.troubles(), []);
    await seat.cutDuring(
      'while true; do for i in 1 2 3 4 5 6 7 8 9; do echo 12345 > /home/line$i; mv /home/line$i /home/line; cp /home/line /home/line0; rm /home/line; done; done',
      100 + 150 * round,
    );
  }
});

IN_BROWSER('storage that is full: what was kept is kept, and what is removed makes room', async (t, name, file) => {
  const { url } = await servedPage(t);
  const page = await emptyPage(name, file, url);
  if (name === 'chrome') {
    const session = await page.createCDPSession();
    await session.send('Storage.overrideQuotaForOrigin', {
      origin: new URL(url).origin,
      quotaSize: CHROMIUM_QUOTA_BYTES,
    });
  }
  const seat = await Seat.take(page, url);
  t.is(await seat.put('six', 1024 * 1024, 6), '/home/six');
  const six = sha256(dropped(1024 * 1024, 6));
  // Larger than any disk, by reference: refused by its size, or when the disk is full; nothing of it is there.
  const refused = (await seat.put('huge', 64 * 1024 * 1024, 4096)) as { refusal: string };
  t.regex(refused.refusal, /^huge: 274877906944 bytes, and the browser has room for \d+ more$/);
  const large = (await seat.put('large', 1024 * 1024, 40)) as { refusal: string };
  t.regex(
    large.refusal,
    /^large: (41943040 bytes, and the browser has room for \d+ more|the browser's storage is full; nothing of it was kept)$/,
  );
  t.is(
    await seat.enter('cd /home; ls | cat; cp six copy; echo $?; cp six more'),
    "auditor\nsix\nuser\n0\ncp: error writing 'more': No space left on device\n",
  );
  const troubles = await seat.troubles();
  t.is(troubles.length, 1);
  t.regex(troubles[0]!, /^The browser's storage is full: what was written before is kept\./);
  t.is(await seat.enter(`sha256sum six copy; rm more copy; cp six again; echo $?`), `${six}  six\n${six}  copy\n0\n`);

  await page.reload();
  const again = await Seat.take(page, url);
  t.is(
    await again.enter('cd /home; ls | cat; sha256sum six again'),
    `again\nauditor\nsix\nuser\n${six}  six\n${six}  again\n`,
  );
  await again.enter('rm six again'); // Firefox counts all ports of a host as one site
});

/** It reserves a power of two for each open file, and a mebibyte for the smallest. */
const CHROMIUM_QUOTA_BYTES = 26 * 1024 * 1024;

/** A worker of no origin, to which browsers give no storage. */
const REFUSED = `
import { openStorage } from './boot/web/worker/storage.ts';
const told = [];
const news = { progress() {}, storage() {}, trouble: text => told.push(text) };
openStorage({ home: 'kept', log: 'kept' }, news)
  .then(async storage => ({ status: await storage.status(), mounts: storage.mounts.length, told }))
  .then(r => postMessage(r), e => postMessage(String(e)));
`;

IN_BROWSER(
  'a browser that keeps nothing says so in a line, and the machine has its own memory',
  async (t, name, file) => {
    const { url } = await servedPage(t);
    const page = await emptyPage(name, file, url);
    const script = `data:text/javascript;base64,${Buffer.from(await bundled(REFUSED)).toString('base64')}`;
    const answer = await page.evaluate(
      s =>
        new Promise(resolve => {
          new Worker(s, { type: 'module' }).addEventListener('message', ({ data }) => resolve(data));
        }),
      script,
    );
    const { status, mounts, told } = answer as { status: Storage; mounts: number; told: string[] };
    t.log(status.why);
    t.like(status, { isKept: false, usedBytes: 0, quotaBytes: 0 });
    t.regex(status.why, /^the browser lets this page keep nothing: [^\n]+$/);
    t.is(mounts, 0);
    t.deepEqual(told, [`The audit log is not kept: ${status.why}.`]);

    const lost = await Seat.take(page, url, { ...KEPT, home: 'lost', log: 'lost' });
    t.like(lost.on.storage, { isKept: false, why: 'nobody asked for it to be kept' });
    t.is(await lost.put('x', 1000, 1000), '/home/x');
    t.is(await lost.put('x', 1000, 1), '/home/x-1');
    t.is(await lost.enter('cat /home/x | sha256sum; rm /home/x*'), `${sha256(dropped(1000, 1000))}  -\n`);
    t.deepEqual(await lost.put('y', 1024 * 1024, 65), {
      refusal: 'y: 68157440 bytes; at most 67108864 (64 MiB) fit into files that are not kept in the browser',
    });
  },
);

/** A server of another origin that lets others read: /ranges in parts, /whole only whole, /gone not at all. */
async function otherServer(t: ExecutionContext, bytes: Uint8Array): Promise<string> {
  const listener: RequestListener = (request, response) => {
    const open = { 'access-control-allow-origin': '*' };
    const [, from, to] =
      (request.url === '/ranges.bin' && /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')) || [];
    if (request.url === '/gone.bin') response.writeHead(404, open).end();
    else if (from === undefined) {
      response.writeHead(200, { ...open, 'content-length': bytes.length });
      response.end(request.method === 'HEAD' ? undefined : bytes);
    } else {
      const body = bytes.subarray(Number(from), Number(to) + 1);
      response.writeHead(206, {
        ...open,
        'content-range': `bytes ${from}-${to}/${bytes.length}`,
        'content-length': body.length,
      });
      response.end(body);
    }
  };
  const server = createServer(listener);
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

IN_BROWSER('files of other servers: by ranges where they answer them, downloaded otherwise', async (t, name, file) => {
  const { url } = await servedPage(t);
  const page = await emptyPage(name, file, url);
  const bytes = dropped(100_000, 3);
  const other = await otherServer(t, bytes);
  const seat = await Seat.take(page, url);
  t.true(seat.on.storage.isKept, seat.on.storage.why);
  t.is(await seat.ask('fetch', `${other}ranges.bin`), '/mnt/web/ranges.bin');
  t.is(await seat.ask('fetch', `${other}ranges.bin`), '/mnt/web/ranges.bin', 'it is the same');
  t.is(await seat.ask('fetch', `${other}whole%20file.bin`), '/home/whole file.bin');
  t.deepEqual(await seat.ask('fetch', `${other}gone.bin`), { refusal: `${other}gone.bin: the server answers 404` });
  const [nobody] = ['http://127.0.0.1:9/x'];
  t.deepEqual(await seat.ask('fetch', nobody), {
    refusal: `${nobody}: no answer: the server is away, or lets no other site read it`,
  });
  t.deepEqual(await seat.ask('fetch', 'file:///etc/passwd'), {
    refusal: 'file:///etc/passwd: no address of a web server',
  });
  const sums = `${sha256(bytes)}  /mnt/web/ranges.bin\n${sha256(bytes)}  /home/whole file.bin\n`;
  t.is(await seat.enter('sha256sum /mnt/web/* /home/*.bin; cat /home/.web'), `${sums}ranges.bin ${other}ranges.bin\n`);
  const steps = (await seat.news()).flatMap(item =>
    item.news === 'progress' && item.what === 'whole file.bin' ? [item] : [],
  );
  t.like(steps.at(-1), { done: bytes.length, total: bytes.length });

  await page.reload();
  const again = await Seat.take(page, url);
  t.is(await again.enter('sha256sum /mnt/web/* /home/*.bin'), sums);
});
