// Looking at a machine from outside changes nothing of it: not a byte of its arena or its files, not its clock, its log, its trace, and not
// what it does next. A machine that is watched after every round and one that nobody looks at come to the same bytes.
import test from 'ava';
import { readFileSync } from 'node:fs';
import { boot, type Machine } from '../boot/index.ts';
import { E, KIND, TraceRecord, utf8Decode, utf8Encode } from '../kernel/abi/index.ts';

const image = readFileSync('build/boot.cpio');

const text = (bytes: Uint8Array | number): string =>
  typeof bytes === 'number' ? `errno ${-bytes}` : utf8Decode(bytes, 0, bytes.length);

/** Every file and directory that can be looked at, from `path` down; devices and what cannot be read answer with their errno. */
function everything(machine: Machine, path: string, seen: Map<string, string>): Map<string, string> {
  const entries = machine.observeList(path);
  if (typeof entries === 'number') return seen.set(path, `errno ${-entries}`);
  for (const { name, kind, bytes } of entries) {
    const child = path === '/' ? `/${name}` : `${path}/${name}`;
    if (kind === KIND.dir) everything(machine, child, seen);
    else if (kind !== KIND.file) seen.set(child, text(machine.observe(child)).slice(0, 100));
    else if (bytes < 100_000) seen.set(child, text(machine.observe(child)));
    else seen.set(child, `${bytes}`);
  }
  return seen;
}

interface Traces {
  readonly digests: readonly string[];
  readonly outputs: readonly string[];
  readonly trace: Uint8Array;
  readonly state: string;
}

const COMMANDS = [
  'llmctl load /models/fable-q4_0.gguf --ctx 128',
  'llminfer --json --seed 3 --max-tokens 12 Once upon a time',
  'llminfer --max-tokens 20 --temp 0 The old man & llminfer --max-tokens 20 Lily; wait',
  'ls -l --time=atime / /etc /home 2>/dev/null; stat /etc/rc /etc /bin; cat /etc/rc > /dev/null; stat /etc/rc',
  'echo "alice read *" >> /etc/llm/rights; cat /proc/rights',
  'cat /audit/head; cat /audit/log | tail -n 3; cat /proc/clock /proc/kv /proc/trace',
];

/** The machine turned round by round; `look` after each. */
function lived(look: (machine: Machine) => void): Traces {
  const machine = boot({ image });
  const outputs: string[] = [];
  const digests: string[] = [];
  const { run } = machine.kernel;
  machine.kernel.run = (slices: number) => {
    const state = run.call(machine.kernel, slices);
    look(machine);
    return state;
  };
  for (const command of COMMANDS) {
    const { status, stdout, stderr } = machine.exec(command);
    outputs.push(`${status}\n${stdout}\n${stderr}`);
    digests.push(machine.kernel.arenaDigest());
  }
  return { digests, outputs, trace: machine.traceSince(0).bytes, state: machine.stateDigest() };
}

test('a machine that is watched after every round is the one that nobody watches', t => {
  let looks = 0;
  const alone = lived(() => {});
  const watched = lived(machine => {
    const before = machine.kernel.arenaDigest();
    const nowNs = machine.nowNs();
    const all = new Map<string, string>();
    everything(machine, looks % 50 === 0 ? '/' : '/proc', all);
    everything(machine, '/audit', all);
    machine.stateDigest();
    t.is(machine.kernel.arenaDigest(), before);
    t.is(machine.nowNs(), nowNs);
    looks++;
  });
  t.true(looks > 20, `${looks}`);
  t.deepEqual(watched.outputs, alone.outputs);
  t.deepEqual(watched, alone);
});
