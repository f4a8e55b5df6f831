// What a page keeps in the browser's storage: a tree of files over slots that are opened beforehand. First without a browser, held against Linux with
// random operations, against its own past with the power cut at every write, and with a full disk.

import test from 'ava';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { directory as hostDirectory } from '../boot/host-directory.ts';
import type { SlotDirectory } from '../boot/slot-directory.ts';
import { E, errnoName, KIND, O, utf8Encode, type HostDirectory, type HostFile } from '../kernel/abi/index.ts';
import { makeRandom } from './support/arena.ts';
import { PowerCut, type Cut } from './support/power.ts';
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
  const pathOf = (): string => Array.from({ length: 1 + random(3) }, name).join('/');
  const [p, q] = [pathOf(), pathOf()];
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
  for (let seed = 1; seed <= (isSoak ? 200 : 6); seed++) {
    const random = makeRandom(seed);
    const root = mkdtempSync(path.join(place, 'root-'));
    const linux = hostDirectory(root, false);
    let slots = new Slots();
    let mine = slots.directory(40);
    const [there, here]: [HostFile[], HostFile[]] = [[], []];
    const past: string[] = [];
    for (let i = 0; i < 1200; i++) {
      const s = step(random, there.length);
      past.push(s.name);
      const [want, got] = [linux, mine].map((d, on) => answer(s.name, plain(s.act(d, on === 0 ? there : here))));
      if (want !== got) return t.is(got, want, `seed ${seed}: ${past.slice(-12).join('; ')}`);
      if (there.length > 12 || i % 150 === 149)
        for (const files of [there, here]) files.splice(0).forEach(file => file.close());
      if (i % 150 !== 149) continue;
      t.deepEqual(treeOf(mine), treeOf(linux), `seed ${seed}`);
      slots = slots.survivor();
      mine = slots.directory(40);
      t.deepEqual(treeOf(mine), treeOf(linux), `seed ${seed}, switched on again`);
    }
    rmSync(root, { recursive: true });
  }
  return t.pass();
});

// ── The power goes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Work on a home: makes, fills, renames, removes; `done` is told after each step what the tree looks like. */
function work(d: SlotDirectory, seed: number, done: (tree: string) => void): void {
  const random = makeRandom(seed);
  const open: HostFile[] = [];
  for (let i = 0; i < 40; i++) {
    const s = step(random, open.length);
    s.act(d, open);
    if (i % 16 === 15) d.flush();
    done(treeOf(d).join('\n'));
  }
}

/** Without the bytes of files: names and kinds. */
const namesOf = (tree: string): string =>
  tree
    .split('\n')
    .map(line => line.split(' ').slice(0, 2).join(' ') + (line.endsWith(' dir') ? ' dir' : ''))
    .join('\n');

test('the power goes at any write: names are those before the step or behind it, and files keep their bytes', t => {
  const past: Record<string, true> = {};
  const began = new Slots();
  began.directory();
  for (let seed = 1; seed <= (isSoak ? 60 : 3); seed++) {
    const whole = began.survivor();
    work(whole.directory(40), seed, () => {});
    for (let cutAt = 0; cutAt < whole.operations; cutAt++)
      for (const cut of ['before', 'torn', 'behind'] as const) {
        const slots = began.survivor();
        [slots.cutAt, slots.cut] = [cutAt, cut];
        const trees = [''];
        try {
          work(slots.directory(40), seed, tree => trees.push(tree));
          t.fail('there was no cut');
        } catch (error) {
          if (!(error instanceof PowerCut)) throw error;
        }
        const found = treeOf(slots.survivor().directory(40)).join('\n');
        // The step that was cut may be there or not: run it whole, and compare.
        const next = nextTree(began, seed, trees.length);
        const ok = [trees.at(-1)!, next].map(namesOf).includes(namesOf(found));
        if (!ok)
          return t.is(
            namesOf(found),
            namesOf(trees.at(-1)!),
            `seed ${seed}, cut ${cut} ${cutAt}, step ${trees.length}`,
          );
        past[cut] = true;
      }
  }
  return t.is(Object.keys(past).length, 3);
});

const treesBySeed = new Map<number, string[]>();

/** The tree behind step `count` of undisturbed work. */
function nextTree(began: Slots, seed: number, count: number): string {
  let trees = treesBySeed.get(seed);
  if (trees === undefined) {
    treesBySeed.set(seed, (trees = ['']));
    const all = trees;
    work(began.survivor().directory(40), seed, tree => all.push(tree));
  }
  return trees[count] ?? '';
}
