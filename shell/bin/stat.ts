// stat: what the file system knows of a name; of a symbolic link itself unless it is to be followed.

import { KIND } from '../../kernel/abi/index.ts';
import { readAccounts, type Accounts } from '../lib/accounts.ts';
import { lstat, readlink, stat as statPath } from '../lib/files.ts';
import type { FileStat } from '../lib/files.ts';
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

const options = {
  dereference: { short: 'L', help: 'follow links' },
  format: { short: 'c', value: 'FORMAT', help: 'print FORMAT and a newline instead' },
} as const;

/** A file as it is shown. */
interface Shown {
  readonly name: string;
  readonly stat: FileStat;
  readonly target: string; // of a link
  readonly accounts: Accounts;
  readonly epochSeconds: number;
}

export const stat = define({
  name: 'stat',
  summary: 'show what is known of a file',
  usage: ['[-L] [-c FORMAT] FILE...'],
  options,
  description:
    'Prints size, storage, kind, device, inode, links, permissions, owner and virtual times of each FILE. In FORMAT: %n name, %N name and link target, %s size, %b blocks of 512 bytes, %F kind, %f raw mode in hexadecimal, %a %A permissions, %u %U owner, %g %G group, %h links, %i inode, %d device, %t %T major and minor number, %x %y %z times of reading, change of data, change of inode, %X %Y %Z the same in seconds, %% a percent sign.',
  examples: [["stat -c '%a %U %n' /tmp /bin/su", 'permissions and owners']],
  *main(ctx) {
    if (ctx.operands.length === 0) return yield* ctx.usage('missing operand');
    const accounts = yield* readAccounts(ctx.sys);
    const epochSeconds = (yield* times(ctx.sys)).bootEpochSeconds;
    let status = 0;
    for (const name of ctx.operands) {
      const st = yield* ctx.options.dereference ? statPath(ctx.sys, name) : lstat(ctx.sys, name);
      if (typeof st === 'number') {
        status = yield* ctx.fail(`cannot stat '${name}'`, -st);
        continue;
      }
      const link = st.kind === KIND.link ? yield* readlink(ctx.sys, name) : '';
      const shown: Shown = { name, stat: st, target: typeof link === 'string' ? link : '?', accounts, epochSeconds };
      const { format } = ctx.options;
      yield* ctx.out.print(format === undefined ? usual(shown) : `${formatted(shown, format)}\n`);
    }
    return status;
  },
});

const kindOf = (st: FileStat): string =>
  st.kind === KIND.file && st.size === 0 ? 'regular empty file' : (kinds[st.kind] ?? 'unknown');
const octal = (mode: number): string => mode.toString(8).padStart(4, '0');

function usual({ name, stat: st, target, accounts, epochSeconds }: Shown): string {
  const time = (ns: number): string => isoMinute(epochSeconds + ns / 1e9);
  const major = st.deviceNumber >> 8;
  const device = major === 0 ? '' : `  Device type: ${major},${st.deviceNumber & 0xff}`;
  const owner = `Uid: ${st.uid}/${accounts.userName(st.uid) ?? '?'}  Gid: ${st.gid}/${accounts.groupName(st.gid) ?? '?'}`;
  return (
    `  File: ${name}${st.kind === KIND.link ? ` -> ${target}` : ''}\n` +
    `  Size: ${String(st.size).padEnd(12)}Blocks: ${String(st.blocks).padEnd(11)}${kindOf(st)}\n` +
    `Device: ${String(st.device).padEnd(12)}Inode: ${String(st.inode).padEnd(12)}Links: ${st.links}${device}\n` +
    `Access: (${octal(st.mode)}/${modeString(st.kind, st.mode)})  ${owner}\n` +
    `Access: ${time(st.accessedNs)}\nModify: ${time(st.modifiedNs)}\nChange: ${time(st.changedNs)}\n`
  );
}

function formatted(shown: Shown, format: string): string {
  return format.replace(/%(.)/gsu, (sequence, letter: string) => field(shown, letter) ?? sequence);
}

function field({ name, stat: st, target, accounts, epochSeconds }: Shown, letter: string): string | undefined {
  const seconds = { x: st.accessedNs, y: st.modifiedNs, z: st.changedNs }[letter.toLowerCase()];
  if (seconds !== undefined) {
    const at = epochSeconds + seconds / 1e9;
    return letter < 'a' ? String(Math.floor(at)) : isoMinute(at);
  }
  const fields: Readonly<Record<string, string>> = {
    n: name,
    N: st.kind === KIND.link ? `'${name}' -> '${target}'` : `'${name}'`,
    s: String(st.size),
    b: String(st.blocks),
    F: kindOf(st),
    f: ((st.kind << 12) | st.mode).toString(16),
    a: st.mode.toString(8),
    A: modeString(st.kind, st.mode),
    u: String(st.uid),
    U: accounts.userName(st.uid) ?? 'UNKNOWN',
    g: String(st.gid),
    G: accounts.groupName(st.gid) ?? 'UNKNOWN',
    h: String(st.links),
    i: String(st.inode),
    d: String(st.device),
    t: (st.deviceNumber >> 8).toString(16),
    T: (st.deviceNumber & 0xff).toString(16),
    '%': '%',
  };
  return fields[letter];
}
