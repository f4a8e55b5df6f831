// A log of everything that can become of a request, made by one machine, carried away as files, and run again by another: what the tests of
// re-execution do in Node and in pages alike. Nothing here knows the host.

import { listedDirectory, memoryFile } from '../../boot/listed-directory.ts';
import type { BootOptions, Machine } from '../../boot/machine.ts';

/** Files of a log by path, as base64: so they go from a page to Node and back. */
export type Carried = Readonly<Record<string, string>>;

/** An auditor's age key, and its public half: anybody's, for tests. */
export const IDENTITY = 'AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX';
export const RECIPIENT = 'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj';

export const BOOT = { seed: 5, disks: { vda: 'sd' } } as const satisfies Partial<BootOptions>;

const PROMPT = 'Once upon a time there was a little girl';

/** What is asked of the machine whose log it will be. */
export const COMMANDS: readonly string[] = [
  `llmctl audit content on ${RECIPIENT}`,
  // Accepted; sampled with every setting; stopped; with special tokens; by ids; continued
  `llminfer --temp 0 --max-tokens 8 ${PROMPT}`,
  `llminfer --json --logits 3 --seed 11 --temp 1.3 --top-k 30 --top-p 0.9 --min-p 0.02 --repeat-penalty 1.2 --rng lcg --max-tokens 9 The old man`,
  `llminfer --seed 3 --keep --stop "the" --stop zzz --max-tokens 20 ${PROMPT}`,
  'echo 0 578 503 | llminfer --ids - --seed 4 --max-tokens 3',
  'llminfer --seed 5 --special --max-tokens 4 "<|endoftext|>Hello"',
  'llminfer --seed 6 --max-tokens 4 --continue 3 " and then"',
  // Scored, in chunks of a small context
  'llmctl load fable-q4_0 --ctx 32 --kv f32; cat /usr/share/labs/budget.md | head -n 6 > /tmp/text; llmctl perplexity /tmp/text',
  // Its weights stream, from a disk that is not the default
  'llmctl load fable-q8_0 --ctx 64 --stream --tile 32K --pin 100K; llminfer --seed 7 --max-tokens 3 Lily',
  // Cancelled, out of time, out of the period's budget, with a promise, refused
  'llmctl load fable-f16; ID=$(llmctl submit --max-tokens 50 --seed 8 Tom); sleep 0.3; llmctl cancel $ID; llmctl poll $ID 99',
  'llminfer --timeout 400 --seed 9 --max-tokens 60 Tom',
  'llminfer --timeout 1 --seed 9 --max-tokens 60 Tom',
  'llmctl budget --period-ns 60000000000 --max-tokens-per-period 5; llmstream --seed 10 --max-tokens 9 Tom; llmctl budget --period-ns 0 --max-tokens-per-period 0',
  'llminfer --period 400 --seed 12 --max-tokens 4 A server',
  'llminfer --max-tokens 512 Too long',
  // Weights that cannot be read any more
  'llmctl load fable-q8_0 --ctx 64 --stream --tile 32K --pin 0; llmctl disk vda --fault error; llminfer --max-tokens 3 Lily; llmctl disk vda --heal',
  // A batch of 32
  'llmctl load fable-q4_0 --ctx 64 --sessions 32; for i in $(seq 32); do llmctl submit --seed $i --max-tokens 24 Child number $i; done',
  'for i in $(seq 100); do [ $(llmctl sessions --json | grep -c -e QUEUED -e PREFILL -e DECODE) = 0 ] && break; sleep 1; done',
  // The stub, and another processor
  'llmctl backend stub; llminfer --max-tokens 6 Hello',
  'llmctl target sifive-u74; llmctl load fable-q4_0; llminfer --seed 13 --max-tokens 3 Hello',
];

/** Runs them all. */
export function makeLog(m: Machine): void {
  for (const line of COMMANDS) m.exec(line);
}

/** The log of a machine as whoever copies it has it: a static log, and the stored texts. */
export function carried(m: Machine): Carried {
  const list = m.exec('find /audit/checkpoint /audit/tile /audit/content -type f').stdout.split('\n');
  return Object.fromEntries(
    list
      .filter(path => path !== '')
      .map(path => [path.slice('/audit/'.length), base64(m.exec(`cat ${path}`).stdoutBytes)]),
  );
}

/** A mount in which that log lies, with the auditor's key. */
export function mounted(files: Carried): NonNullable<BootOptions['mounts']> {
  const listed = new Map(Object.entries(files).map(([path, text]) => [path, memoryFile(bytesOf(text))]));
  listed.set('identity', memoryFile(new TextEncoder().encode(`${IDENTITY}\n`)));
  return [{ guest: '/mnt/log', directory: listedDirectory('a log', listed, true) }];
}

/** What the command says of each record, on a machine where that mount is. */
export function replayed(m: Machine, options = '--all'): readonly Readonly<Record<string, unknown>>[] {
  const { stdout, stderr } = m.exec(
    `llmctl audit replay ${options} --json --log /mnt/log --identity /mnt/log/identity`,
  );
  if (stdout === '') throw new Error(stderr);
  return stdout
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as Readonly<Record<string, unknown>>);
}

export const base64 = (bytes: Uint8Array): string => {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
};
export const bytesOf = (text: string): Uint8Array => Uint8Array.from(atob(text), c => c.charCodeAt(0));
