// df: how full the file systems are.

import { fileSystem, readText } from '../lib/files.ts';
import { humanSize, table } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';

const options = {
  'human-readable': { short: 'h', help: 'sizes as 1.5K, 13M' },
  'print-type': { short: 'T', help: 'print the type of each file system' },
} as const;

export const df = define({
  name: 'df',
  summary: 'report file system space',
  usage: ['[-h] [-T] [FILE]...'],
  options,
  description:
    'Reports size, use and free space, in KiB, of the file system that each FILE is on; without FILE, of all. What one tmpfs takes is gone for the others: they share one store.',
  examples: [['df -h /tmp', 'how much room the temporary files have']],
  *main(ctx) {
    let names = ctx.operands;
    if (names.length === 0) {
      const mounts = yield* readText(ctx.sys, '/proc/mounts');
      if (typeof mounts === 'number') return yield* ctx.fail('/proc/mounts', -mounts);
      names = mounts.split('\n').flatMap(line => line.split(' ')[1] ?? []);
    }
    const human = ctx.options['human-readable'];
    const size = (bytes: number): string => (human ? humanSize(bytes) : String(Math.ceil(bytes / 1024)));
    const none = ['-', '-', '-', '-']; // made up as it is read, or the host's
    const type = (text: string): string[] => (ctx.options['print-type'] ? [text] : []);
    const rows = [
      [
        'Filesystem',
        ...type('Type'),
        human ? 'Size' : '1K-blocks',
        'Used',
        human ? 'Avail' : 'Available',
        'Use%',
        'Mounted on',
      ],
    ];
    let status = 0;
    for (const name of names) {
      const fs = yield* fileSystem(ctx.sys, name);
      if (typeof fs === 'number') {
        status = yield* ctx.fail(name, -fs);
        continue;
      }
      const free = fs.readOnly ? 0 : Math.max(0, fs.totalBytes - fs.usedBytes);
      const used = `${Math.ceil((fs.usedBytes / (fs.usedBytes + free)) * 100)}%`;
      const sizes = fs.totalBytes === 0 ? none : [size(fs.totalBytes), size(fs.usedBytes), size(free), used];
      rows.push([fs.source, ...type(fs.type), ...sizes, fs.target]);
    }
    const left = ctx.options['print-type'] ? 2 : 1;
    if (rows.length > 1)
      yield* ctx.out.print(
        table(
          rows,
          Array.from({ length: left + 4 }, (_, i) => i >= left),
          ' ',
        ),
      );
    return status;
  },
});
