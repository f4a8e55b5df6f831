// Exported logs that somebody has tampered with, put to three verifiers that share no code: ours, Go's sumdb packages, and Python with its own
// SHA-256. Each has to reject every case and point at what was changed, or at the first place where it shows. `--soak` makes 100,000 of them.

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import test, { type ExecutionContext } from 'ava';
import { isRefusal } from '../kernel/abi/index.ts';
import { formatNoteKey, verifyFiles } from '../trust/index.ts';
import { makeRandom } from './support/arena.ts';
import { nativeSha256, type Files } from './support/exported-log.ts';
import { DEEDS, Export, tamper, VKEYS, type Overlay, type Tampered } from './support/tampering.ts';

const soak = process.env['ARENA8_SOAK'] === '1';
const PYTHON = '/usr/bin/python3';
const GO = '/usr/bin/go';
const MOD = '/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog';
const haveOracles =
  [PYTHON, '/usr/lib/python3/dist-packages/cryptography', GO, MOD].every(existsSync) || process.env['CI'] === 'true';
const withOutsiders = haveOracles ? test : test.skip;

const scratch = mkdtempSync(path.join(tmpdir(), 'arena8-tamper-'));
test.after.always(() => rmSync(scratch, { recursive: true, force: true }));

const VKEY = formatNoteKey(VKEYS.log);
const WITNESS_VKEY = formatNoteKey(VKEYS.witness);

function written(files: Files, dir: string): void {
  for (const [name, bytes] of files) {
    mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
    writeFileSync(path.join(dir, name), bytes);
  }
}

/** Our verifier's answer in a line, as the others give theirs. */
function ours(e: Export, overlay: Overlay): string {
  const files = e.with(overlay);
  const trust = { key: VKEYS.log, witnesses: [VKEYS.witness], seen: [e.seen], hash: nativeSha256 };
  const answer = verifyFiles(files.keys(), name => files.get(name) ?? null, trust);
  return isRefusal(answer) ? answer.message : 'ok';
}

/** A verifier of others that has read one log, and is asked about overlays of it. */
class Outsider {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(command: string, args: readonly string[], dir: string) {
    const options = [
      '--seen',
      path.join(dir, 'seen'),
      '--witness',
      WITNESS_VKEY,
      '--batch',
      path.join(dir, 'log'),
      VKEY,
    ];
    this.#child = spawn(command, [...args, ...options], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface(this.#child.stdout!)[Symbol.asyncIterator]();
  }

  async ask(overlays: readonly Overlay[]): Promise<string[]> {
    this.#child.stdin!.write(Buffer.concat(overlays.flatMap(framed)));
    const answers: string[] = [];
    for (const _ of overlays) answers.push(String((await this.#lines.next()).value));
    return answers;
  }

  close(): void {
    this.#child.kill();
  }
}

/** A case as both programs read it: a number of files, and each with its length, -1 where it is gone. */
function framed(overlay: Overlay): Buffer[] {
  const parts = [Buffer.from(`${overlay.size}\n`)];
  for (const [name, bytes] of overlay)
    parts.push(Buffer.from(`${name} ${bytes === null ? -1 : bytes.length}\n`), Buffer.from(bytes ?? []));
  return parts;
}

/** Whether a line begins so, and its last number is not longer there. */
const pointsAt = (line: string, place: string): boolean =>
  line.startsWith(place) && !(/\d$/.test(place) && /^\d/.test(line.slice(place.length)));

const goVerifier = path.join(scratch, 'verify');
test.before(t => {
  if (!haveOracles) return;
  const env = { ...process.env, GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOCACHE: path.join(scratch, 'go') };
  const built = spawnSync(GO, ['build', '-o', goVerifier, 'tests/outside/verify.go'], { env, encoding: 'utf8' });
  t.is(built.status, 0, built.stderr);
});
/** Puts cases to all three, a block at a time, and holds every answer against the places that it may name. */
async function judge(t: ExecutionContext, e: Export, cases: Iterable<[string, Tampered]>): Promise<void> {
  const dir = path.join(scratch, `${e.size}-${e.seenSize}`);
  written(e.files, path.join(dir, 'log'));
  writeFileSync(path.join(dir, 'seen'), e.seen);
  const others = [new Outsider(goVerifier, [], dir), new Outsider(PYTHON, ['-B', 'tests/outside/verify.py'], dir)];
  const untouched = async (): Promise<void> => {
    const answers = await Promise.all(others.map(o => o.ask([new Map()])));
    t.deepEqual([ours(e, new Map()), ...answers.flat()], ['ok', 'ok', 'ok'], `${e.size} records as exported`);
  };
  try {
    await untouched();
    let block: [string, Tampered][] = [];
    for (const c of cases) {
      block.push(c);
      if (block.length < 64) continue;
      await settle(t, e, others, block);
      block = [];
    }
    await settle(t, e, others, block);
    await untouched();
  } finally {
    for (const o of others) o.close();
  }
}

async function settle(
  t: ExecutionContext,
  e: Export,
  others: readonly Outsider[],
  block: readonly [string, Tampered][],
) {
  const overlays = block.map(([, c]) => c.overlay);
  const asked = Promise.all(others.map(o => o.ask(overlays)));
  const own = overlays.map(o => ours(e, o)); // while the others are at it
  const [go, python] = await asked;
  const wrong: string[] = [];
  for (const [i, [name, { places }]] of block.entries())
    for (const [who, lines] of [
      ['ours', own],
      ['Go', go!],
      ['Python', python!],
    ] as const)
      if (!places.some(p => pointsAt(lines[i]!, p)))
        wrong.push(`${e.size} records, ${name}: ${who} says "${lines[i]}", not "${places.join('" or "')}"`);
  t.deepEqual(wrong, []);
}

/** Sizes at the edges of the tree's shape, seen heads at the edges of theirs; the largest has three tiles and one above them. */
const LOGS = [
  [1, 1, 1],
  [2, 1, 1],
  [5, 5, 1],
  [8, 3, 1],
  [17, 16, 1],
  [33, 20, 1],
  [40, 1, 1],
  [600, 300, 0.5],
] as const;
const CASES = soak ? 100_000 : 640;

withOutsiders('three verifiers reject every tampered log, and name the place', async t => {
  const deeds = Object.keys(DEEDS);
  const counts = new Map(deeds.map(d => [d, 0]));
  const shares = LOGS.reduce((sum, [, , share]) => sum + share, 0);
  const started = performance.now();
  for (const [i, [size, seenSize, share]] of LOGS.entries()) {
    const e = new Export(size, seenSize, i + 1);
    const random = makeRandom(1000 + i);
    const most = Math.ceil((CASES * share) / shares);
    await judge(t, e, drawn(e, most, deeds, random, counts));
  }
  const total = [...counts.values()].reduce((a, b) => a + b);
  t.true(total >= CASES, `${total} cases`);
  for (const [deed, count] of counts) t.true(count > 0, deed);
  if (soak) t.log([...counts].map(([deed, count]) => `${count} ${deed}`).join('\n'));
  t.log(`${total} cases of ${deeds.length} kinds in ${((performance.now() - started) / 1000).toFixed(0)} s`);
});

function* drawn(
  e: Export,
  most: number,
  deeds: readonly string[],
  random: (n: number) => number,
  counts: Map<string, number>,
): Generator<[string, Tampered]> {
  for (let made = 0, turn = 0; made < most; turn++) {
    const deed = deeds[turn % deeds.length]!;
    const c = tamper(e, deed, random);
    if (c === null) continue;
    counts.set(deed, counts.get(deed)! + 1);
    yield [`${deed} (${made++})`, c];
  }
}
