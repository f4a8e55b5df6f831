// free: what the arena's bytes are used for. The figures are the kernel's own, from /proc/meminfo and /proc/arena.

import { readText } from '../lib/files.ts';
import { humanSize, table } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';

const options = {
  bytes: { short: 'b', help: 'show bytes' },
  human: { short: 'h', help: 'sizes as 1.5K, 13M' },
  verbose: { short: 'v', help: 'show every region of the arena, in bytes' },
} as const;

export const free = define({
  name: 'free',
  summary: 'show memory use',
  usage: ['[-b | -h]', '-v [-h]'],
  options,
  description:
    'Shows total, used and free memory of the arena in KiB. With -v one line per region: where it begins and ends, its size, how much of it is used and the most that ever was.',
  examples: [['free -v', 'the map of the arena']],
  *main(ctx) {
    const { bytes, human, verbose } = ctx.options;
    const file = verbose ? '/proc/arena' : '/proc/meminfo';
    const text = yield* readText(ctx.sys, file);
    if (typeof text === 'number') return yield* ctx.fail(file, -text);
    const lines = text.split('\n').filter(line => line !== '');
    if (verbose) {
      const rows = lines.map(line => line.trim().split(/\s+/));
      const shown = rows.map((row, r) =>
        row.map((cell, i) => (human && r > 0 && i >= 3 && /^[0-9]+$/.test(cell) ? humanSize(Number(cell)) : cell)),
      );
      yield* ctx.out.print(table(shown, [false, true, true, true, true, true]));
      return 0;
    }
    const kib = new Map(lines.map(line => [line.split(':')[0]!, Number(/[0-9]+/.exec(line)?.[0] ?? 0)]));
    const size = (n: number): string => (human ? humanSize(n * 1024) : String(bytes ? n * 1024 : n));
    const total = kib.get('MemTotal') ?? 0;
    const unused = kib.get('MemFree') ?? 0;
    const figures = [total, total - unused, unused, kib.get('MemAvailable') ?? unused];
    yield* ctx.out.print(
      table(
        [
          ['', 'total', 'used', 'free', 'available'],
          ['Mem:', ...figures.map(size)],
        ],
        [false, true, true, true, true],
      ),
    );
    return 0;
  },
});
