// strace: one line per finished system call, formatted from the call table: `open("/etc/motd", O_RDONLY, 0) = 3`.

import {
  errnoName,
  LIMITS,
  O,
  SIG,
  SpawnHeader,
  strerror,
  utf8Decode,
  utf8Step,
  type ArgKind,
  type CallSpec,
} from './abi/index.ts';

const SHOWN_BYTES = 32;

/** `integers` are the call's raw integers; `memory` holds the window as it is after the call. */
export function formatCall(
  name: string,
  spec: CallSpec,
  integers: readonly number[],
  result: number,
  memory: Uint8Array,
): string {
  let i = 0;
  const shown = spec.args.map(([argument, kind]) => {
    const wide = kind === 'path' || kind === 'in' || kind === 'out';
    const a = integers[i]!;
    const b = wide ? integers[i + 1]! : 0;
    i += wide ? 2 : 1;
    if (argument === 'block' && result >= 0) return `${argumentList(memory, a, kind === 'out' ? result : b)}, ${b}`;
    return formatArgument(kind, a, b, result, memory);
  });
  const end = result < 0 ? `-1 ${errnoName(result)} (${strerror(result)})` : String(result);
  return `${name}(${shown.join(', ')}) = ${end}`;
}

/** The argument vector in a SpawnHeader block. */
function argumentList(memory: Uint8Array, at: number, bytes: number): string {
  const { argc } = SpawnHeader.read(memory, at);
  const shown: string[] = [];
  for (let from = at + SpawnHeader.bytes; shown.length < argc && from < at + bytes;) {
    const end = memory.indexOf(0, from);
    shown.push(quote(memory, from, Math.min(end - from, SHOWN_BYTES), end - from));
    from = end + 1;
  }
  return `[${shown.join(', ')}]`;
}

function formatArgument(kind: ArgKind, a: number, b: number, result: number, memory: Uint8Array): string {
  switch (kind) {
    case 'path':
      return quote(memory, a, Math.min(b, LIMITS.pathBytes), b);
    case 'in':
      return `${quote(memory, a, Math.min(b, SHOWN_BYTES), b)}, ${b}`;
    case 'out':
      return result > 0 && result <= b ? `${quote(memory, a, Math.min(result, SHOWN_BYTES), result)}, ${b}` : `…, ${b}`;
    case 'octal':
      return a === 0 ? '0' : `0${a.toString(8)}`;
    case 'open':
      return openFlags(a);
    case 'whence':
      return ['SEEK_SET', 'SEEK_CUR', 'SEEK_END'][a] ?? String(a);
    case 'signal':
      return signalName(a);
    default:
      return String(a);
  }
}

function signalName(signal: number): string {
  const name = Object.entries(SIG).find(([, number]) => number === signal)?.[0];
  return name === undefined ? String(signal) : `SIG${name}`;
}

function openFlags(flags: number): string {
  const parts = [['O_RDONLY', 'O_WRONLY', 'O_RDWR'][flags & O.ACCMODE] ?? String(flags & O.ACCMODE)];
  for (const name of ['CREAT', 'EXCL', 'TRUNC', 'APPEND', 'DIRECTORY', 'NOFOLLOW'] as const)
    if ((flags & O[name]) !== 0) parts.push(`O_${name}`);
  return parts.join('|');
}

/** Text as C would write it; bytes that are no UTF-8 as \xNN. */
function quote(memory: Uint8Array, at: number, shown: number, total: number): string {
  let s = '';
  for (let i = at; i < at + shown;) {
    const n = utf8Step(memory, i, at + shown);
    const c = memory[i]!;
    if (c === 10) s += '\\n';
    else if (c === 9) s += '\\t';
    else if (c === 34 || c === 92) s += `\\${String.fromCharCode(c)}`;
    else if (n <= 0 || c < 32 || c === 127) s += `\\x${c.toString(16).padStart(2, '0')}`;
    else s += utf8Decode(memory, i, i + n);
    i += Math.max(1, n);
  }
  return `"${s}"${total > shown ? '...' : ''}`;
}
