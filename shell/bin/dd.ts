// dd: copies by blocks, from and to any place of files and devices, and says how many and how fast in virtual time.

import { E, KIND, O, SEEK } from '../../kernel/abi/index.ts';
import { humanBytes, parseBlocks } from '../lib/blocks.ts';
import { fstat } from '../lib/files.ts';
import { times } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { writeAll } from '../lib/stdio.ts';

const blockBytesMax = 16 * 1024 * 1024;
const conversions = [
  'notrunc',
  'nocreat',
  'excl',
  'sync',
  'noerror',
  'ucase',
  'lcase',
  'swab',
  'fsync',
  'fdatasync',
] as const;
type Conversion = (typeof conversions)[number];

interface Job {
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly inBytes: number;
  readonly outBytes: number;
  /** bs= was given: what one read got is written at once. */
  readonly direct: boolean;
  readonly count: number; // input blocks
  readonly skip: number; // input blocks
  readonly seek: number; // output blocks
  readonly conv: ReadonlySet<Conversion>;
  readonly append: boolean;
  readonly status: 'all' | 'noxfer' | 'none';
}

/** Blocks that were whole, blocks that were not. */
interface Tally {
  whole: number;
  part: number;
}

export const dd = define({
  name: 'dd',
  summary: 'copy by blocks',
  usage: ['[if=FILE] [of=FILE] [bs=BYTES] [count=N] [skip=N] [seek=N] [conv=LIST] ...'],
  order: 'none',
  description:
    'Copies standard input, or the FILE of if=, to standard output, or the FILE of of=, in blocks of bs= bytes (512), at most count= of them, after leaving out skip= blocks of the input and seek= blocks of the output. ibs= and obs= give different sizes to reading and writing. conv= is a list of notrunc (the output keeps what lies behind), sync (short blocks are filled with zeros), noerror (go on after read errors), excl, nocreat, ucase, lcase, swab, fsync. oflag=append writes at the end. status=noxfer or none prints less. BYTES may end in c, w, b (512), K, M, kB, MB; N1xN2 is a product. At the end prints blocks read and written, whole+partial, and bytes per second of virtual time.',
  examples: [
    ['dd if=/dev/ram0 of=/tmp/head bs=512 count=4', 'copies four sectors of the boot image'],
    ['dd if=/dev/zero of=/tmp/x bs=1K seek=7 count=0', 'makes a file of 7 KiB'],
  ],
  *main(ctx) {
    const job = parseJob(ctx.operands);
    // As coreutils: what cannot be read as an operand is a matter of usage, what it says is not.
    if (typeof job === 'string') return yield* /^(unrec|invalid [cso])/.test(job) ? ctx.usage(job) : ctx.fail(job);
    const input = job.from === undefined ? 0 : yield* ctx.sys.open(job.from, O.RDONLY, 0);
    if (input < 0) return yield* ctx.fail(`failed to open '${job.from}'`, -input);
    const output = yield* openOutput(ctx, job);
    if (output < 0) return yield* ctx.fail(`failed to open '${job.to}'`, -output);
    const { nowNs: begunNs } = yield* times(ctx.sys);
    const copy = new Copy(ctx, job, input, output);
    const status = yield* copy.run();
    const { nowNs } = yield* times(ctx.sys);
    if (job.status !== 'none') yield* ctx.err.print(copy.report((nowNs - begunNs) / 1e9));
    return status;
  },
});

/** The operands as a job, or what is wrong with them. */
function parseJob(operands: readonly string[]): Job | string {
  const given = new Map<string, string>();
  for (const operand of operands) {
    const [, name, value] =
      /^(if|of|bs|ibs|obs|cbs|count|skip|seek|conv|status|iflag|oflag)=(.*)$/s.exec(operand) ?? [];
    if (name === undefined) return `unrecognized operand '${operand}'`;
    given.set(name, value!);
  }
  const numbers: Record<string, number> = {};
  for (const name of ['bs', 'ibs', 'obs', 'count', 'skip', 'seek']) {
    const text = given.get(name);
    if (text === undefined) continue;
    const n = parseBlocks(text);
    const size = name.endsWith('bs');
    if (n === null || (size && n === 0)) return `invalid number: '${text}'`;
    if (size && n > blockBytesMax) return `${name}=${text}: blocks have at most ${blockBytesMax} bytes`;
    numbers[name] = n;
  }
  const conv = (given.get('conv') ?? '').split(',').filter(Boolean);
  const unknown = conv.find(name => !conversions.includes(name as Conversion));
  if (unknown !== undefined) return `invalid conversion: '${unknown}'`;
  if (conv.includes('ucase') && conv.includes('lcase')) return 'cannot combine lcase and ucase';
  if (conv.includes('excl') && conv.includes('nocreat')) return 'cannot combine excl and nocreat';
  const status = given.get('status') ?? 'all';
  if (status !== 'all' && status !== 'noxfer' && status !== 'none') return `invalid status level: '${status}'`;
  const flags = given.get('oflag') ?? '';
  if (flags !== '' && flags !== 'append') return `invalid output flag: '${flags}'`;
  if (given.has('cbs') || given.has('iflag')) return 'cbs= and iflag= are not supported';
  return {
    from: given.get('if'),
    to: given.get('of'),
    inBytes: numbers['bs'] ?? numbers['ibs'] ?? 512,
    outBytes: numbers['bs'] ?? numbers['obs'] ?? 512,
    direct:
      numbers['bs'] !== undefined && !conv.some(name => name !== 'sync' && name !== 'noerror' && name !== 'notrunc'),
    count: numbers['count'] ?? Infinity,
    skip: numbers['skip'] ?? 0,
    seek: numbers['seek'] ?? 0,
    conv: new Set(conv as Conversion[]),
    append: flags === 'append',
    status,
  };
}

/** Opens the output and cuts it where the copy begins. */
function* openOutput({ sys }: Context, job: Job): Generator<void, number, void> {
  if (job.to === undefined) return 1;
  const truncates = !job.conv.has('notrunc');
  const create = job.conv.has('nocreat') ? 0 : O.CREAT;
  const flags = create | (job.conv.has('excl') ? O.EXCL : 0) | (job.append ? O.APPEND : 0);
  const fd = yield* sys.open(job.to, O.WRONLY | flags | (truncates && job.seek === 0 ? O.TRUNC : 0), 0o666);
  // Devices cannot be cut, and need not be.
  if (fd >= 0 && truncates && job.seek > 0) yield* sys.ftruncate(fd, job.seek * job.outBytes);
  return fd;
}

class Copy {
  private readonly read: Tally = { whole: 0, part: 0 };
  private readonly written: Tally = { whole: 0, part: 0 };
  private bytes = 0;
  private readonly pending: Uint8Array; // of the output block being filled
  private pendingBytes = 0;
  private odd = -1; // conv=swab: a byte whose partner has yet to come
  private readonly ctx: Context;
  private readonly job: Job;
  private readonly input: number;
  private readonly output: number;

  constructor(ctx: Context, job: Job, input: number, output: number) {
    this.ctx = ctx;
    this.job = job;
    this.input = input;
    this.output = output;
    this.pending = new Uint8Array(job.outBytes);
  }

  /** Returns the exit status, after messages. */
  *run(): Generator<void, number, void> {
    const { ctx, job } = this;
    let status = yield* this.skipInput();
    if (status === 0 && job.seek > 0) status = yield* this.seekOutput();
    const block = new Uint8Array(job.inBytes);
    let stopped = status !== 0;
    for (let n = 0; !stopped && n < job.count; n++) {
      const got = yield* this.readBlock(block);
      if (got === 0) break;
      if (got < 0) {
        status = yield* ctx.fail(`error reading '${job.from ?? 'standard input'}'`, -got);
        if (!job.conv.has('noerror')) break;
        yield* ctx.sys.lseek(this.input, job.inBytes, SEEK.cur);
        if (!job.conv.has('sync')) continue;
      }
      count(this.read, Math.max(got, 0), job.inBytes);
      const filled = job.conv.has('sync') ? job.inBytes : got;
      block.fill(0, Math.max(got, 0), filled);
      const errno = yield* this.put(this.converted(block.subarray(0, filled)));
      if (errno < 0) {
        status = yield* this.writeError(errno);
        stopped = true;
      }
    }
    const last = yield* this.finish();
    return last < 0 ? yield* this.writeError(last) : status;
  }

  private *writeError(errno: number): Generator<void, number, void> {
    return yield* this.ctx.fail(`error writing '${this.job.to ?? 'standard output'}'`, -errno);
  }

  /** One block, as one large read would bring it: more is asked for only while the pieces come full. */
  private *readBlock(block: Uint8Array): Generator<void, number, void> {
    let got = 0;
    while (got < block.length) {
      const asked = Math.min(block.length - got, 16384);
      const n = yield* this.ctx.sys.read(this.input, block.subarray(got, got + asked));
      if (n < 0) return got > 0 ? got : n;
      got += n;
      if (n < asked) break;
    }
    return got;
  }

  /** By its position where the input has one, else by reading. */
  private *skipInput(): Generator<void, number, void> {
    const { ctx, job } = this;
    if (job.skip === 0) return 0;
    const position = yield* ctx.sys.lseek(this.input, job.skip * job.inBytes, SEEK.cur);
    const st = yield* fstat(ctx.sys, this.input);
    if (position > 0) {
      if (typeof st !== 'number' && st.kind === KIND.file && st.size < position)
        yield* ctx.fail(`${job.from ?? 'standard input'}: cannot skip to specified offset`);
      return 0;
    }
    if (position < 0 && position !== -E.SPIPE)
      return yield* ctx.fail(`'${job.from ?? 'standard input'}': cannot skip`, -position);
    const block = new Uint8Array(job.inBytes);
    for (let n = 0; n < job.skip; n++) {
      const got = yield* this.readBlock(block);
      if (got <= 0) return got < 0 ? yield* ctx.fail(`error reading '${job.from ?? 'standard input'}'`, -got) : 0;
    }
    return 0;
  }

  private *seekOutput(): Generator<void, number, void> {
    const { ctx, job } = this;
    const position = yield* ctx.sys.lseek(this.output, job.seek * job.outBytes, SEEK.set);
    return position >= 0 ? 0 : yield* ctx.fail(`'${job.to ?? 'standard output'}': cannot seek`, -position);
  }

  private converted(bytes: Uint8Array): Uint8Array {
    const { conv } = this.job;
    if (conv.has('ucase')) for (const [i, c] of bytes.entries()) bytes[i] = c >= 0x61 && c <= 0x7a ? c - 32 : c;
    if (conv.has('lcase')) for (const [i, c] of bytes.entries()) bytes[i] = c >= 0x41 && c <= 0x5a ? c + 32 : c;
    return conv.has('swab') ? this.swapped(bytes) : bytes;
  }

  private swapped(bytes: Uint8Array): Uint8Array {
    const all = this.odd < 0 ? bytes.slice() : Uint8Array.of(this.odd, ...bytes);
    const even = all.length - (all.length % 2);
    this.odd = even < all.length ? all[even]! : -1;
    for (let i = 0; i < even; i += 2) [all[i], all[i + 1]] = [all[i + 1]!, all[i]!];
    return all.subarray(0, even);
  }

  /** Writes a block at once, or collects output blocks. 0 or -errno. */
  private *put(bytes: Uint8Array): Generator<void, number, void> {
    if (this.job.direct) return yield* this.write(bytes);
    for (let at = 0; at < bytes.length;) {
      const n = Math.min(bytes.length - at, this.pending.length - this.pendingBytes);
      this.pending.set(bytes.subarray(at, at + n), this.pendingBytes);
      this.pendingBytes += n;
      at += n;
      const errno = this.pendingBytes < this.pending.length ? 0 : yield* this.flush();
      if (errno < 0) return errno;
    }
    return 0;
  }

  private *flush(): Generator<void, number, void> {
    const n = this.pendingBytes;
    this.pendingBytes = 0;
    return n === 0 ? 0 : yield* this.write(this.pending.subarray(0, n));
  }

  private *finish(): Generator<void, number, void> {
    const errno = this.odd < 0 ? 0 : yield* this.put(Uint8Array.of(this.odd));
    return errno < 0 ? errno : yield* this.flush();
  }

  private *write(bytes: Uint8Array): Generator<void, number, void> {
    const errno = yield* writeAll(this.ctx.sys, this.output, bytes);
    if (errno < 0) return errno;
    this.bytes += bytes.length;
    count(this.written, bytes.length, this.job.outBytes);
    return 0;
  }

  report(seconds: number): string {
    const { read, written, bytes } = this;
    const records = `${read.whole}+${read.part} records in\n${written.whole}+${written.part} records out\n`;
    if (this.job.status === 'noxfer') return records;
    const units =
      bytes < 1000 ? '' : ` (${humanBytes(bytes, 1000)}${bytes < 1024 ? '' : `, ${humanBytes(bytes, 1024)}`})`;
    const rate = seconds > 0 ? humanBytes(bytes / seconds, 1000) : 'Infinity B';
    return `${records}${bytes} byte${bytes === 1 ? '' : 's'}${units} copied, ${significant(seconds)} s, ${rate}/s\n`;
  }
}

function count(tally: Tally, bytes: number, block: number): void {
  if (bytes === block) tally.whole++;
  else tally.part++;
}

/** Six significant digits, as %g prints them. */
function significant(n: number): string {
  return String(Number(n.toPrecision(6)));
}
