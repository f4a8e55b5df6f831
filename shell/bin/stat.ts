// stat: what the file system knows of a name.

import { KIND } from '../../kernel/abi/index.ts';
import { stat as statPath } from '../lib/files.ts';
import { isoMinute, modeString, times } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';

const kinds: Readonly<Record<number, string>> = {
  [KIND.fifo]: 'fifo',
  [KIND.char]: 'character special file',
  [KIND.dir]: 'directory',
  [KIND.block]: 'block special file',
  [KIND.file]: 'regular file',
  [KIND.link]: 'symbolic link',
};

export const stat = define({
  name: 'stat',
  summary: 'show what is known of a file',
  usage: ['FILE...'],
  description:
    'Prints size, kind, device, inode, links, permissions, owner and virtual modification time of each FILE.',
  *main(ctx) {
    if (ctx.operands.length === 0) return yield* ctx.usage('missing operand');
    const { bootEpochSeconds } = yield* times(ctx.sys);
    let status = 0;
    for (const name of ctx.operands) {
      const st = yield* statPath(ctx.sys, name);
      if (typeof st === 'number') {
        status = yield* ctx.fail(`cannot stat '${name}'`, -st);
        continue;
      }
      const kind = st.kind === KIND.file && st.size === 0 ? 'regular empty file' : (kinds[st.kind] ?? 'unknown');
      yield* ctx.out.print(`  File: ${name}\n`);
      yield* ctx.out.print(`  Size: ${String(st.size).padEnd(12)}${kind}\n`);
      yield* ctx.out.print(
        `Device: ${String(st.device).padEnd(12)}Inode: ${String(st.inode).padEnd(12)}Links: ${st.links}\n`,
      );
      const mode = st.mode.toString(8).padStart(4, '0');
      yield* ctx.out.print(`Access: (${mode}/${modeString(st.kind, st.mode)})  Uid: ${st.uid}  Gid: ${st.gid}\n`);
      yield* ctx.out.print(`Modify: ${isoMinute(bootEpochSeconds + st.modifiedNs / 1e9)}\n`);
    }
    return status;
  },
});
