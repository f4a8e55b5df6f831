// lsblk: the block devices, and the files that are mounted as if they were some.

import { KIND } from '../../kernel/abi/index.ts';
import { basename, readText, stat } from '../lib/files.ts';
import { humanSize, jsonLine, table } from '../lib/fmt.ts';
import { mountPoints, readDisks } from '../lib/disks.ts';
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
  readonly bytes: number | null; // null: not known
  readonly model: string; // '' for a file
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
    'Lists the disks and the files mounted as file systems (models): name, major and minor number, size where it is known, whether it can only be read, type, the kind of storage that the disk is and where it is mounted. The boot image is ram0; it was unpacked to / at boot. ram1 is the swap device, [SWAP]. vda is the storage that / lies on, vdb and so on are directories of the host: man disk.',
  examples: [
    ['lsblk -b', 'sizes in bytes'],
    ['llmctl disk vda', 'all about one disk'],
  ],
  *main(ctx) {
    if (ctx.operands.length > 0) return yield* ctx.usage(`extra operand '${ctx.operands[0]}'`);
    const mounts = yield* mountTable(ctx.sys);
    if (typeof mounts === 'number') return yield* ctx.fail('/proc/mounts', -mounts);
    const disks = yield* disksOf(ctx);
    if (typeof disks === 'number') return yield* ctx.fail('/proc/disks', -disks);
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
            model: d.model || null,
            mountpoints: d.mountPoints,
          }),
        );
      return 0;
    }
    const rows = devices.map(d => [
      nameOf(d),
      d.number,
      d.bytes === null ? '-' : bytes ? String(d.bytes) : humanSize(d.bytes),
      String(Number(d.readOnly)),
      d.type,
      d.model,
      d.mountPoints.join(' '),
    ]);
    const head = ['NAME', 'MAJ:MIN', 'SIZE', 'RO', 'TYPE', 'MODEL', 'MOUNTPOINTS'];
    yield* ctx.out.print(table(noheadings ? rows : [head, ...rows], [false, true, true, true], ' '));
    return 0;
  },
});

/** What /proc/disks lists, and which of it /proc/swaps. */
function* disksOf(ctx: Context<typeof options>): Generator<void, Device[] | number, void> {
  const rows = yield* readDisks(ctx.sys);
  if (typeof rows === 'number') return rows;
  const swaps = yield* readText(ctx.sys, '/proc/swaps');
  if (typeof swaps === 'number') return swaps;
  return rows.map(row => ({
    path: `/dev/${row.name}`,
    number: row.number,
    bytes: row.bytes === 0 ? null : row.bytes,
    readOnly: row.readOnly !== 0,
    type: 'disk',
    model: row.model,
    mountPoints: [...mountPoints(row), ...(swaps.includes(`\n/dev/${row.name} `) ? ['[SWAP]'] : [])],
  }));
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
      model: '',
      readOnly: true,
      type: 'file',
      mountPoints: pointsOf(mounts, source),
    });
  }
  return devices;
}

const pointsOf = (mounts: readonly Mount[], source: string): string[] =>
  mounts.filter(m => m.source === source).map(m => m.target);
