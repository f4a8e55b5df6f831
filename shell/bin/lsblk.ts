// lsblk: the block devices, and the files that are mounted as if they were some.

import { KIND, O, SEEK } from '../../kernel/abi/index.ts';
import { basename, readText, stat } from '../lib/files.ts';
import { humanSize, jsonLine, table } from '../lib/fmt.ts';
import { mountTable } from '../lib/mounts.ts';
import type { Mount } from '../lib/mounts.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

const options = {
  bytes: { short: 'b', help: 'sizes in bytes' },
  json: { short: 'J', help: 'JSON, an object a line' },
  noheadings: { short: 'n', help: 'no line of titles' },
  paths: { short: 'p', help: 'whole paths' },
} as const;

interface Device {
  readonly path: string;
  readonly number: string; // major:minor, '' for a file
  readonly bytes: number;
  readonly readOnly: boolean;
  readonly type: 'disk' | 'file';
  readonly mountPoints: readonly string[];
}

export const lsblk = define({
  name: 'lsblk',
  summary: 'list block devices',
  usage: ['[-bJnp]'],
  options,
  description:
    'Lists the block devices of /proc/partitions and the files mounted as file systems (models): name, major and minor number, size, whether it can only be read, type and where it is mounted. The boot image is ram0; it was unpacked to / at boot. ram1 is the swap device, [SWAP].',
  examples: [['lsblk -b', 'sizes in bytes']],
  *main(ctx) {
    if (ctx.operands.length > 0) return yield* ctx.usage(`extra operand '${ctx.operands[0]}'`);
    const mounts = yield* mountTable(ctx.sys);
    if (typeof mounts === 'number') return yield* ctx.fail('/proc/mounts', -mounts);
    const disks = yield* disksOf(ctx, mounts);
    if (typeof disks === 'number') return yield* ctx.fail('/proc/partitions', -disks);
    const devices = [...disks, ...(yield* mountedFiles(ctx, mounts))];
    const { bytes, json, noheadings, paths } = ctx.options;
    const nameOf = (d: Device): string => (paths ? d.path : basename(d.path));
    if (json) {
      for (const d of devices)
        yield* ctx.out.print(
          jsonLine({
            name: nameOf(d),
            'maj:min': d.number || null,
            size: d.bytes,
            ro: d.readOnly,
            type: d.type,
            mountpoints: d.mountPoints,
          }),
        );
      return 0;
    }
    const rows = devices.map(d => [
      nameOf(d),
      d.number,
      bytes ? String(d.bytes) : humanSize(d.bytes),
      String(Number(d.readOnly)),
      d.type,
      d.mountPoints.join(' '),
    ]);
    const head = ['NAME', 'MAJ:MIN', 'SIZE', 'RO', 'TYPE', 'MOUNTPOINTS'];
    yield* ctx.out.print(table(noheadings ? rows : [head, ...rows], [false, true, true, true], ' '));
    return 0;
  },
});

/** What /proc/partitions lists, and which of it /proc/swaps; sizes as the devices themselves have them. */
function* disksOf(ctx: Context<typeof options>, mounts: readonly Mount[]): Generator<void, Device[] | number, void> {
  const text = yield* readText(ctx.sys, '/proc/partitions');
  if (typeof text === 'number') return text;
  const swaps = yield* readText(ctx.sys, '/proc/swaps');
  if (typeof swaps === 'number') return swaps;
  const devices: Device[] = [];
  for (const line of text.split('\n').slice(2)) {
    const [major, minor, blocks, name] = line.trim().split(/\s+/);
    if (name === undefined) continue;
    const path = `/dev/${name}`;
    const bytes = yield* sizeOf(ctx, path, Number(blocks) * 1024);
    devices.push({
      path,
      number: `${major}:${minor}`,
      bytes,
      readOnly: !(yield* writable(ctx, path)),
      type: 'disk',
      mountPoints: [...pointsOf(mounts, path), ...(swaps.includes(`\n${path} `) ? ['[SWAP]'] : [])],
    });
  }
  return devices;
}

/** The bytes of a device, found by going to its end; `otherwise` where one may not look. */
function* sizeOf(ctx: Context<typeof options>, path: string, otherwise: number): Generator<void, number, void> {
  const fd = yield* ctx.sys.open(path, O.RDONLY, 0);
  if (fd < 0) return otherwise;
  const end = yield* ctx.sys.lseek(fd, 0, SEEK.end);
  yield* ctx.sys.close(fd);
  return end < 0 ? otherwise : end;
}

function* writable(ctx: Context<typeof options>, path: string): Generator<void, boolean, void> {
  const fd = yield* ctx.sys.open(path, O.WRONLY, 0);
  if (fd >= 0) yield* ctx.sys.close(fd);
  return fd >= 0;
}

function* mountedFiles(ctx: Context<typeof options>, mounts: readonly Mount[]): Generator<void, Device[], void> {
  const devices: Device[] = [];
  for (const source of new Set(mounts.map(m => m.source))) {
    const st = source.startsWith('/') ? yield* stat(ctx.sys, source) : -1;
    if (typeof st === 'number' || st.kind !== KIND.file) continue;
    devices.push({
      path: source,
      number: '',
      bytes: st.size,
      readOnly: true,
      type: 'file',
      mountPoints: pointsOf(mounts, source),
    });
  }
  return devices;
}

const pointsOf = (mounts: readonly Mount[], source: string): string[] =>
  mounts.filter(m => m.source === source).map(m => m.target);
