// touch: sets the times of files to now, and makes those that are not there. Times are virtual.

import { E, O, UTIME, Utimes } from '../../kernel/abi/index.ts';
import { stat } from '../lib/files.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  access: { short: 'a', help: 'set the time of reading only' },
  'no-create': { short: 'c', help: 'make no files' },
  modified: { short: 'm', help: 'set the time of modification only' },
  reference: { short: 'r', value: 'FILE', help: "take FILE's times instead of now" },
} as const;

export const touch = define({
  name: 'touch',
  summary: 'set the times of files',
  usage: ['[-a] [-c] [-m] [-r FILE] FILE...'],
  options,
  description:
    'Sets the times of reading and of modification of each FILE to now. One that is not there is made, empty.',
  examples: [['touch -r /etc/motd note', 'note is as old as motd']],
  *main(ctx) {
    const { options, operands } = ctx;
    if (operands.length === 0) return yield* ctx.usage('missing file operand');
    const both = options.access === options.modified;
    const how = options.reference === undefined ? UTIME.now : UTIME.set;
    const times = {
      accessedNs: 0,
      modifiedNs: 0,
      accessed: both || options.access ? how : UTIME.omit,
      modified: both || options.modified ? how : UTIME.omit,
    };
    if (options.reference !== undefined) {
      const st = yield* stat(ctx.sys, options.reference);
      if (typeof st === 'number') return yield* ctx.fail(`failed to get attributes of '${options.reference}'`, -st);
      Object.assign(times, { accessedNs: st.accessedNs, modifiedNs: st.modifiedNs });
    }
    const record = new Uint8Array(Utimes.bytes);
    Utimes.write(record, 0, times);
    let status = 0;
    for (const path of operands) status |= yield* touchOne(ctx, path, record, options['no-create']);
    return status;
  },
});

function* touchOne(
  ctx: Pick<Context, 'sys' | 'fail'>,
  path: string,
  times: Uint8Array,
  existingOnly: boolean,
): Generator<void, number, void> {
  const { sys } = ctx;
  let errno = yield* sys.utimens(path, times);
  if (errno === -E.NOENT) {
    if (existingOnly) return 0;
    const fd = yield* sys.open(path, O.WRONLY | O.CREAT, 0o666);
    if (fd < 0) return yield* ctx.fail(`cannot touch '${path}'`, -fd);
    yield* sys.close(fd);
    errno = yield* sys.utimens(path, times);
  }
  return errno < 0 ? yield* ctx.fail(`setting times of '${path}'`, -errno) : 0;
}
