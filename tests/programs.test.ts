// The text programs on a whole machine against recordings of Debian's coreutils, diffutils, findutils, binutils and grep: what they print,
// how their first message reads, their status. Then their bounds: sort and diff refuse by number, expressions match in linear time.

import { readFileSync } from 'node:fs';
import test from 'ava';
import { boot as powerOn } from '../boot/index.ts';
import type { Machine } from '../boot/index.ts';
import { E, KIND } from '../kernel/abi/index.ts';
import type { HostDirectory } from '../kernel/abi/index.ts';
import { quote } from '../shell/sh/quote.ts';

interface Case {
  readonly command: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}
const [common, ...cases] = readFileSync('tests/fixtures/programs/recorded.jsonl', 'utf8')
  .trimEnd()
  .split('\n')
  .map(line => JSON.parse(line) as Case) as [Case, ...Case[]];

const image = readFileSync('build/boot.cpio');

/** A directory of the host whose files are given as byte strings. */
class Given implements HostDirectory {
  readonly source = 'given';
  readonly readOnly = true;
  files: Readonly<Record<string, string>> = {};

  stat(path: string): { kind: number; size: number; mode: number } | number {
    const name = path.replace(/^\//, '');
    if (name === '') return { kind: KIND.dir, size: 0, mode: 0o755 };
    const file = this.files[name];
    return file === undefined ? -E.NOENT : { kind: KIND.file, size: file.length, mode: 0o644 };
  }
  list(): { name: string; kind: number }[] {
    return Object.keys(this.files).map(name => ({ name, kind: KIND.file }));
  }
  read(path: string, position: number, into: Uint8Array, at: number, length: number): number {
    const piece = this.files[path.replace(/^\//, '')]!.slice(position, position + length);
    into.set(Buffer.from(piece, 'latin1'), at);
    return piece.length;
  }
  write = (): number => -E.ROFS;
  create = (): number => -E.ROFS;
  mkdir = (): number => -E.ROFS;
  remove = (): number => -E.ROFS;
  removeDirectory = (): number => -E.ROFS;
  rename = (): number => -E.ROFS;
  truncate = (): number => -E.ROFS;
}

const given = new Given();
const boot = (): Machine => powerOn({ image, mounts: [{ guest: '/given', directory: given }] });

/** What differs from a recording, or null. */
function difference(machine: Machine, c: Case): string | null {
  given.files = { ...common.files, ...c.files };
  machine.exec('cd /tmp; rm -rf /tmp/case; mkdir /tmp/case; cp /given/* /tmp/case; cd /tmp/case');
  const { stdoutBytes, stderr, status } = machine.exec(`sh -c ${quote(c.command)} < /given/in`);
  const got = {
    stdout: Buffer.from(stdoutBytes).toString('latin1'),
    stderr: stderr.split('\n', 1)[0]!,
    status,
  };
  const wanted = { stdout: c.stdout, stderr: c.stderr, status: c.status };
  if (JSON.stringify(got) === JSON.stringify(wanted)) return null;
  const files = c.files === undefined ? '' : `  with ${JSON.stringify(c.files)}\n`;
  return `${c.command}\n${files}  want ${JSON.stringify(wanted)}\n  got  ${JSON.stringify(got)}`;
}

test('the text programs do what those of Debian do', t => {
  const machine = boot();
  const wrong = cases.flatMap(c => difference(machine, c) ?? []);
  t.true(cases.length >= 600);
  t.deepEqual(wrong, []);
});
