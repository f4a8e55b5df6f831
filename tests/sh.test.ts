// The shell's language against Debian's dash: scripts recorded by tools/record-dash.mjs, run on a whole machine, compared by output, status
// and the kind of the first message. Where this shell means to differ is in tests/fixtures/sh/DIFFERENCES.md, and here by script.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import test from 'ava';
import { boot as powerOn } from '../boot/index.ts';
import type { Machine } from '../boot/index.ts';
import { quote } from '../shell/sh/quote.ts';
import { errorKind } from './reference/sh-scripts.ts';

interface Recorded {
  readonly script: string;
  readonly stdout: string;
  readonly status: number;
  readonly error?: string;
}
const fixtures = 'tests/fixtures/sh/';
const image = readFileSync('build/boot.cpio');
const boot = (): Machine => powerOn({ image });
const prepare = readFileSync(`${fixtures}prepare.txt`, 'utf8');

function read(name: string): Recorded[] {
  const lines = readFileSync(fixtures + name, 'utf8').trimEnd().split('\n');
  return lines.map(line => JSON.parse(line) as Recorded);
}

/** Runs a script in a fresh directory. */
function run(m: Machine, script: string): Recorded {
  m.exec(`cd /tmp; rm -rf case; mkdir case; cd case; ${prepare}`);
  const { stdout, stderr, status } = m.exec(`HOME=/tmp/case sh -c ${quote(script)}`);
  const error = errorKind(stderr);
  return { script, stdout, status, ...(error === null ? {} : { error }) };
}

for (const name of readdirSync(fixtures).filter(n => n.endsWith('.jsonl'))) {
  test(`${name.replace('.jsonl', '')}: what dash does`, t => {
    const m = boot();
    const wrong: string[] = [];
    for (const wanted of read(name)) {
      const got = run(m, wanted.script);
      if (JSON.stringify(got) !== JSON.stringify(wanted)) wrong.push(`${wanted.script}\n  want ${JSON.stringify(wanted)}\n  got  ${JSON.stringify(got)}`);
    }
    t.deepEqual(wrong, []);
  });
}
