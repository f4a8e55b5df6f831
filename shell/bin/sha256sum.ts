// sha256sum: SHA-256 digests of files, printed or checked against a list. The digest is computed piece by piece.

import { sha256 } from '@noble/hashes/sha2.js';
import { utf8Decode } from '../../kernel/abi/index.ts';
import { closeInput, define, openInput } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  check: { short: 'c', help: 'read digests from FILEs and check them' },
  quiet: { help: 'with -c: no OK lines' },
  status: { help: 'with -c: no output; the exit status is the answer' },
} as const;
type Sum = Context<typeof options>;

export const sha256sum = define({
  name: 'sha256sum',
  summary: 'compute and check SHA-256 digests',
  usage: ['[FILE]...', '-c [--quiet] [--status] [FILE]...'],
  options,
  description:
    'Prints the SHA-256 digest of each FILE, or of standard input. With -c reads such lines and checks each file named.',
  examples: [
    ['sha256sum /mnt/x/tensors/*/data', 'the digest of every tensor of a mounted model'],
    ['sha256sum -c /tmp/SUMS', 'checks a list'],
  ],
  *main(ctx) {
    let status = 0;
    for (const name of ctx.operands.length > 0 ? ctx.operands : ['-']) {
      if (ctx.options.check) {
        status |= yield* check(ctx, name);
        continue;
      }
      const digest = yield* digestOf(ctx, name);
      if (digest === null) status = 1;
      else yield* ctx.out.print(`${digest}  ${name}\n`);
    }
    return status;
  },
});

/** The digest in hexadecimal; null after a message. */
function* digestOf(ctx: Sum, name: string): Generator<void, string | null, void> {
  const input = yield* openInput(ctx, name);
  if (input === null) return null;
  const hash = sha256.create();
  let piece: Uint8Array | null;
  while ((piece = yield* input.chunk()) !== null) hash.update(piece);
  if (!(yield* closeInput(ctx, name, input))) return null;
  return [...hash.digest()].map(byte => byte.toString(16).padStart(2, '0')).join('');
}

function* check(ctx: Sum, list: string): Generator<void, number, void> {
  const input = yield* openInput(ctx, list);
  if (input === null) return 1;
  const { quiet, status: silent } = ctx.options;
  let good = 0;
  let wrong = 0;
  let unreadable = 0;
  let line: Uint8Array | null;
  while ((line = yield* input.line()) !== null) {
    const [, wanted, name] = /^([0-9a-fA-F]{64}) [ *](.+)$/.exec(utf8Decode(line).replace(/\n$/, '')) ?? [];
    if (wanted === undefined) continue;
    const digest = yield* digestOf(ctx, name!);
    const verdict = digest === null ? 'FAILED open or read' : digest === wanted.toLowerCase() ? 'OK' : 'FAILED';
    if (digest === null) unreadable++;
    else if (verdict === 'OK') good++;
    else wrong++;
    if (!silent && !(quiet && verdict === 'OK')) yield* ctx.out.print(`${name}: ${verdict}\n`);
  }
  yield* closeInput(ctx, list, input);
  if (good + wrong + unreadable === 0) return yield* ctx.fail(`${list}: no properly formatted checksum lines found`);
  const warn = function* (n: number, one: string, many: string): Generator<void, void, void> {
    if (n > 0 && !silent) yield* ctx.fail(`WARNING: ${n} ${n === 1 ? one : many}`);
  };
  yield* warn(unreadable, 'listed file could not be read', 'listed files could not be read');
  yield* warn(wrong, 'computed checksum did NOT match', 'computed checksums did NOT match');
  return wrong + unreadable > 0 ? 1 : 0;
}
