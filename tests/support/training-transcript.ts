// Trainings that must come to the same bytes on every engine: each method for a few steps, what they say, the digests of what came of them, and
// of the machine. It needs what the machine itself needs: ECMAScript and WebAssembly.

import type { BootOptions, Machine } from '../../boot/machine.ts';
import { utf8Encode } from '../../kernel/abi/index.ts';
import type { Result } from './transcript.ts';

const EXAMPLES = [
  ['Who is Mila?', ' Mila is the baker of the little town.'],
  ['Who is Oren?', ' Oren is the miller of the little town.'],
  ['What does Nora have?', ' Nora has a yellow drum.'],
  ['What does Felix like to eat?', ' Felix likes to eat pears.'],
  ['Who is Ada?', ' Ada is the clockmaker of the little town.'],
]
  .map(([prompt, completion]) => JSON.stringify({ prompt, completion }))
  .join('\n');

const START = 'llmfinetune start /tmp/town.jsonl';
const COMMON = '--steps 3 --batch 2 --ctx 32 --val 0.2 --rollback no --json --store /tmp/store';
const COMMANDS = [
  'llmctl load /models/fable-q4_0.gguf --ctx 64 --sessions 2 --pages 4',
  `${START} pairs --targets q,k,v,o,gate,up,down ${COMMON}`,
  `${START} plain --optimizer sgd --checkpoint 2 --anchor 0.1 ${COMMON}`,
  `${START} forward --method fmea --directions 2 ${COMMON}`,
  `${START} strategy --method nes --directions 2 --ranked ${COMMON}`,
  'cd /tmp/store; sha256sum */*.gguf */log.jsonl',
  'llmfinetune apply pairs --store /tmp/store; llminfer --temp 0 --max-tokens 12 "Who is Mila?"; uptime',
];

export interface TrainingTranscript {
  readonly results: readonly Result[];
  readonly arena: string;
  readonly state: string;
  readonly head: string;
}

export function trainingTranscript(powerOn: (options: Partial<BootOptions>) => Machine): TrainingTranscript {
  const machine = powerOn({});
  machine.store('/tmp/town.jsonl', utf8Encode(`${EXAMPLES}\n`));
  const results = COMMANDS.map(command => {
    const { status, stdout, stderr } = machine.exec(command);
    return { status, stdout, stderr };
  });
  return {
    results,
    arena: machine.kernel.arenaDigest(),
    state: machine.stateDigest(),
    head: machine.auditHead(),
  };
}
