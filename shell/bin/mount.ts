// mount: attaches a file system to a directory, or lists those attached.

import { readHead } from '../lib/files.ts';
import { mountTable } from '../lib/mounts.ts';
import { define } from '../lib/program.ts';

const options = { types: { short: 't', value: 'TYPE', help: 'file system type: tmpfs, proc, dev or gguf' } } as const;

export const mount = define({
  name: 'mount',
  summary: 'attach a file system',
  usage: ['[-t TYPE]', '[-t TYPE] SOURCE DIRECTORY'],
  options,
  description:
    'Attaches SOURCE, a file system of type TYPE, at DIRECTORY. With type gguf, SOURCE is a model file, shown as a directory of metadata and tensors; such a file is recognised without -t. Without operands lists what is mounted.',
  examples: [['mount /models/fable.gguf /mnt/x', 'shows a model as a directory']],
  *main(ctx) {
    const { options, operands } = ctx;
    const [source, target] = operands;
    if (source === undefined) {
      const mounts = yield* mountTable(ctx.sys);
      if (typeof mounts === 'number') return yield* ctx.fail('/proc/mounts', -mounts);
      for (const m of mounts) {
        if (options.types !== undefined && m.type !== options.types) continue;
        yield* ctx.out.print(`${m.source} on ${m.target} type ${m.type} (${m.options})\n`);
      }
      return 0;
    }
    if (target === undefined || operands.length > 2) return yield* ctx.usage('bad usage');
    const head = options.types === undefined ? yield* readHead(ctx.sys, source, 4) : '';
    if (typeof head === 'number') return 31 + (yield* ctx.fail(source, -head));
    const type = options.types ?? (head === 'GGUF' ? 'gguf' : undefined);
    if (type === undefined) return yield* ctx.usage(`${source} is no model: give the type with -t`);
    const errno = yield* ctx.sys.mount(type, source, target);
    return errno < 0 ? 31 + (yield* ctx.failCall(target, -errno)) : 0;
  },
});
