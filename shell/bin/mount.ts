// mount: attaches a file system to a directory, or lists those attached.

import { readText } from '../lib/files.ts';
import { define } from '../lib/program.ts';

const options = { types: { short: 't', value: 'TYPE', help: 'file system type: tmpfs, proc, dev or gguf' } } as const;

export const mount = define({
  name: 'mount',
  summary: 'attach a file system',
  usage: ['[-t TYPE]', '-t TYPE SOURCE DIRECTORY'],
  options,
  description:
    'Attaches SOURCE, a file system of type TYPE, at DIRECTORY. With -t gguf, SOURCE is a model file, shown as a directory of metadata and tensors. Without operands lists what is mounted.',
  examples: [['mount -t gguf /models/fable.gguf /mnt/x', 'shows a model as a directory']],
  *main(ctx) {
    const { options, operands } = ctx;
    const [source, target] = operands;
    if (source === undefined) {
      const mounts = yield* readText(ctx.sys, '/proc/mounts');
      if (typeof mounts === 'number') return yield* ctx.fail('/proc/mounts', -mounts);
      for (const line of mounts.split('\n')) {
        const [from, at, type, flags] = line.split(' ');
        if (flags === undefined || (options.types !== undefined && type !== options.types)) continue;
        yield* ctx.out.print(`${unescape(from!)} on ${unescape(at!)} type ${type} (${flags})\n`);
      }
      return 0;
    }
    if (target === undefined || operands.length > 2) return yield* ctx.usage('bad usage');
    if (options.types === undefined) return yield* ctx.usage('give the type with -t');
    const errno = yield* ctx.sys.mount(options.types, source, target);
    return errno < 0 ? 31 + (yield* ctx.failCall(target, -errno)) : 0;
  },
});

/** A field of /proc/mounts: blanks and backslashes in it are written in octal. */
const unescape = (field: string): string =>
  field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
