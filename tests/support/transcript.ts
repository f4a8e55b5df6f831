// What a machine does that must be the same on every engine, to the byte: commands with their output and logits, the clock, digests of the arena
// and of the whole state, the head of the audit log; and a person's lines at a terminal, as a link carries them. It needs what the machine
// itself needs: ECMAScript and WebAssembly.

import { replay, sharedOptions, type Replayed, type Share } from '../../boot/share.ts';
import type { BootOptions, ExecResult, Machine } from '../../boot/machine.ts';
import { isRefusal, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';

export const COMMANDS = [
  'cat /etc/hostname',
  'llmctl load /models/fable-f16.gguf',
  'llminfer --json --logits 5 --temp 0 --max-tokens 24 Once upon a time',
  'llminfer --json --seed 7 --max-tokens 40 --temp 1.2 --top-k 0 The old man',
  'llmctl load /models/fable-q4_0.gguf --kv f32 --ctx 128',
  'llminfer --json --logits 3 --seed 11 --max-tokens 32 --repeat-penalty 1.3 --min-p 0.05 Lily',
  'llmctl tokenize "Zażółć gęślą jaźń 123  456\n\ttab"',
  'echo "{% for m in messages %}{{ m.role }}: {{ m.content | upper }}{% endfor %}" > /tmp/c.jinja',
  'llminfer --json --chat --template-file /tmp/c.jinja --max-tokens 4 Hello',
  'llmctl submit --seed 3 --max-tokens 9 --repeat-penalty 1.2 --min-p 0.02 "Once upon a time"; sleep 3',
  'llmctl probs --json --top 20; llmctl attention --json --layer 2 --head 1; llmctl lens --json --last 3; llmctl lens',
  'uptime; cat /proc/arena',
];

const SHARE: Share = {
  seed: 11,
  target: 'sifive-u74',
  columns: 60,
  rows: 12,
  commands: [
    'cat note.txt; sort -r note.txt | grep -nE "^(.)+ó"',
    'llminfer --max-tokens 12 Lily & llminfer --max-tokens 12 --seed 2 The sea; wait',
    'llmctl load /models/fable-q4_0.gguf --ctx 64 --kv q8_0',
    'llminfer --max-tokens 8 --temp 0 Once',
    'head -c 8 /dev/random | od -x',
    'ls -l / /home; llmctl audit verify',
  ],
  files: [{ path: '/home/note.txt', bytes: utf8Encode('zażółć\ngęślą\njaźń 日本 👍\n') }],
  digest: '',
  build: '',
};

export type Result = Omit<ExecResult, 'stdoutBytes'>;

export function resultsOf(machine: Machine): Result[] {
  return COMMANDS.map(command => {
    const { status, stdout, stderr } = machine.exec(command);
    return { status, stdout, stderr };
  });
}

export interface Transcript {
  readonly results: readonly Result[];
  readonly arena: string;
  readonly state: string;
  readonly head: string;
  readonly nowNs: number;
  /** What SHARE came to, and what the terminal was sent. */
  readonly shared: Replayed & { readonly output: string };
}

export function transcript(powerOn: (options: Partial<BootOptions>) => Machine): Transcript {
  const machine = powerOn({});
  const results = resultsOf(machine);
  return {
    results,
    arena: machine.kernel.arenaDigest(),
    state: machine.stateDigest(),
    head: machine.auditHead(),
    nowNs: machine.nowNs(),
    shared: sharedIn(powerOn),
  };
}

function sharedIn(powerOn: (options: Partial<BootOptions>) => Machine): Transcript['shared'] {
  let output = '';
  const options = sharedOptions(SHARE, bytes => (output += utf8Decode(bytes)));
  const steps = replay(powerOn(options), options.console, SHARE);
  for (;;) {
    const step = steps.next();
    if (step.done !== true) continue;
    if (isRefusal(step.value)) throw new Error(step.value.message);
    return { ...step.value, output };
  }
}
