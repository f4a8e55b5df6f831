// strace as a page of a book on operating systems: every call of the table is shown with its flags by name, its paths and buffers as text,
// its records field by field, and a failure with its errno and what that means. First each kind of argument by itself, then real traces.
import test from 'ava';
import { readFileSync } from 'node:fs';
import { boot } from '../boot/index.ts';
import * as abi from '../kernel/abi/index.ts';
import { E, SYSCALLS, type CallName, type CallSpec } from '../kernel/abi/index.ts';
import { formatCall } from '../kernel/strace.ts';

const AT = 0x4e40; // where the window begins
const memory = new Uint8Array(0x10000);

type Value = number | string | Uint8Array;

/** A call as it would be traced: strings and bytes are laid into the window, an `out` buffer is what the kernel left there. */
function traced(name: CallName, values: readonly Value[], result: number | null): string {
  const spec: CallSpec = SYSCALLS[name];
  const integers: number[] = [];
  let at = AT;
  for (const value of values) {
    if (typeof value === 'number') integers.push(value);
    else {
      const bytes = typeof value === 'string' ? Buffer.from(value) : value;
      memory.set(bytes, at);
      integers.push(at, bytes.length);
      at += bytes.length;
    }
  }
  return formatCall(name, spec, integers, result, memory);
}
function record<T extends Record<string, abi.FieldType>>(
  layout: abi.Layout<T>,
  value: Partial<abi.RecordValue<T>>,
): Uint8Array {
  const bytes = new Uint8Array(layout.bytes);
  layout.write(bytes, 0, value);
  return bytes;
}
const u32s = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
const block = (...argv: string[]): Uint8Array => {
  const head = record(abi.SpawnHeader, { argc: argv.length, envc: 1 });
  return Buffer.concat([head, Buffer.from([...argv, 'HOME=/root'].map(s => `${s}\0`).join(''))]);
};

// A line a call: a table, kept from the formatter.
// prettier-ignore
const LINES: readonly (readonly [call: CallName, values: Value[], result: number | null, line: string])[] = [
  ['exit', [3], null, 'exit(3) = ?'],
  ['getpid', [], 7, 'getpid() = 7'],
  ['spawn', ['/bin/ls', block('ls', '-l')], 8, `spawn("/bin/ls", ["ls", "-l"] /* 1 var */, ${block('ls', '-l').length}) = 8`],
  ['exec', ['/bin/ls', block('ls')], 0, `exec("/bin/ls", ["ls"] /* 1 var */, ${block('ls').length}) = 0`],
  ['fork', [0], 8, 'fork() = 8'],
  ['wait', [-1, u32s(141), 0], 8, 'wait(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 141}], 4, 0) = 8'],
  ['wait', [8, u32s(abi.STOPPED + 20), 2], 8, 'wait(8, [{WIFSTOPPED(s) && WSTOPSIG(s) == SIGTSTP}], 4, WUNTRACED) = 8'],
  ['wait', [8, u32s(0), 3], 0, 'wait(8, 0x4e40, 4, WNOHANG|WUNTRACED) = 0'],
  ['signal', [2, 2], 0, 'signal(SIGINT, SIG_IGN) = 0'],
  ['kill', [77, 99], -E.INVAL, 'kill(77, 99) = -1 EINVAL (Invalid argument)'],
  ['kill', [77, 15], -E.SRCH, 'kill(77, SIGTERM) = -1 ESRCH (No such process)'],
  ['open', ['/etc/motd', 0, 0], 3, 'open("/etc/motd", O_RDONLY, 0) = 3'],
  ['open', ['/x', 0o3101, 0o644], 3, 'open("/x", O_WRONLY|O_CREAT|O_TRUNC|O_APPEND, 0644) = 3'],
  ['open', ['/x', 0o600002, 0], -E.LOOP, 'open("/x", O_RDWR|O_DIRECTORY|O_NOFOLLOW, 0) = -1 ELOOP (Too many levels of symbolic links)'],
  ['open', ['/x', 0o10000003, 0], -E.INVAL, 'open("/x", O_ACCMODE|0x200000, 0) = -1 EINVAL (Invalid argument)'],
  ['read', [0, Buffer.from([97, 9, 10, 34, 92, 1, 255, 0xc3, 0xa4, 0])], 9, 'read(0, "a\\t\\n\\"\\\\\\x01\\xffä", 10) = 9'],
  ['read', [0, new Uint8Array(9)], 0, 'read(0, "", 9) = 0'],
  ['read', [4, new Uint8Array(9)], -E.ISDIR, 'read(4, 0x4e40, 9) = -1 EISDIR (Is a directory)'],
  ['write', [1, 'x'.repeat(40)], 40, `write(1, "${'x'.repeat(32)}"..., 40) = 40`],
  ['lseek', [3, -1, 2], -E.INVAL, 'lseek(3, -1, SEEK_END) = -1 EINVAL (Invalid argument)'],
  ['fstat', [1, record(abi.Stat, { kind: 2, mode: 0o666 })], 0, 'fstat(1, {kind=S_IFCHR, mode=0666, size=0, uid=0, gid=0, ...}, 80) = 0'],
  ['stat', ['/p', record(abi.Stat, { kind: 1, uid: 5 })], 0, 'stat("/p", {kind=S_IFIFO, mode=0, size=0, uid=5, gid=0, ...}, 80) = 0'],
  ['lstat', ['/l', record(abi.Stat, { kind: 10, mode: 0o777, size: 4 })], 0, 'lstat("/l", {kind=S_IFLNK, mode=0777, size=4, uid=0, gid=0, ...}, 80) = 0'],
  ['lstat', ['/l', record(abi.Stat, {})], -E.NAMETOOLONG, 'lstat("/l", 0x4e42, 80) = -1 ENAMETOOLONG (File name too long)'],
  ['pipe', [u32s(3, 4)], 0, 'pipe([3, 4], 8) = 0'],
  ['ioctl', [1, 2, 0], 80, 'ioctl(1, COLUMNS, 0) = 80'],
  ['ioctl', [1, 99, 0], -E.NOTTY, 'ioctl(1, 99, 0) = -1 ENOTTY (Inappropriate ioctl for device)'],
  ['readdir', [3, Buffer.from('\x04\x01d\x08\x02ab\x0a\x01l')], 10, 'readdir(3, [{DT_DIR, "d"}, {DT_REG, "ab"}, {DT_LNK, "l"}] /* 3 entries */, 10) = 10'],
  ['fchmod', [3, 0o4755], 0, 'fchmod(3, 04755) = 0'],
  ['fchown', [3, 1000, -1], -E.PERM, 'fchown(3, 1000, -1) = -1 EPERM (Operation not permitted)'],
  ['mkdir', ['/tmp/d', 0o755], 0, 'mkdir("/tmp/d", 0755) = 0'],
  ['rename', ['/a', '/b'], -E.XDEV, 'rename("/a", "/b") = -1 EXDEV (Invalid cross-device link)'],
  ['mount', ['tmpfs', 'x', '/mnt'], 0, 'mount("tmpfs", "x", "/mnt") = 0'],
  ['umount', ['/mnt'], -E.BUSY, 'umount("/mnt") = -1 EBUSY (Device or resource busy)'],
  ['statfs', ['/', record(abi.FsStat, { type: 'tmpfs', source: 'root', totalBytes: 9 })], 0, 'statfs("/", {type="tmpfs", source="root", totalBytes=9, usedBytes=0, ...}, 304) = 0'],
  ['link', ['/a', '/b'], 0, 'link("/a", "/b") = 0'],
  ['symlink', ['../a', '/b'], 0, 'symlink("../a", "/b") = 0'],
  ['readlink', ['/b', Buffer.from('../a……')], 4, 'readlink("/b", "../a", 10) = 4'],
  ['chmod', ['/a', 0o1777], 0, 'chmod("/a", 01777) = 0'],
  ['access', ['/a', 6], -E.ACCES, 'access("/a", R_OK|W_OK) = -1 EACCES (Permission denied)'],
  ['access', ['/a', 0], 0, 'access("/a", F_OK) = 0'],
  ['access', ['/a', 9], -E.INVAL, 'access("/a", X_OK|0x8) = -1 EINVAL (Invalid argument)'],
  ['utimens', ['/a', record(abi.Utimes, { accessed: 2, modified: 1 })], 0, 'utimens("/a", {accessed=UTIME_OMIT, accessedNs=0, modified=UTIME_NOW, modifiedNs=0}, 24) = 0'],
  ['model_load', ['/m', record(abi.LoadOptions, { ctx: 64, kvType: 0 })], -E.NOMEM, 'model_load("/m", {ctx=64, kvType=F32, batch=0, sessions=0, pages=0, stream=0, ...}, 40) = -1 ENOMEM (Cannot allocate memory)'],
  ['model_prelink', ['/m', record(abi.PrelinkReport, { bytes: 9, headerBytes: 3, tensors: 2 })], 3, 'model_prelink("/m", {bytes=9, sourceBytes=0, headerBytes=3, tensors=2, ...}, 32) = 3'],
  ['model_convert', ['/m', 2, 1, record(abi.ConvertReport, { bytes: 9, tensors: 3, converted: 2 })], 3, 'model_convert("/m", Q4_0, CONVERT_REQUANTIZE, {bytes=9, sourceBytes=0, tensors=3, converted=2, ...}, 32) = 3'],
  ['tokenize', ['', 3, 3], 4, 'tokenize("", 3, ENCODE_BOS|ENCODE_SPECIAL) = 4'],
  ['detokenize', [u32s(1, 2, 3, 4, 5, 6, 7, 8, 9), Buffer.from('hello'), 0], 5, 'detokenize([1, 2, 3, 4, 5, 6, 7, 8, ...], 36, "hello", 5, 0) = 5'],
  ['session_open', [record(abi.SessionOptions, { maxTokens: 3, temp: 0.8, topP: 1 }), 4], 1, `session_open({maxTokens=3, temp=0.8, topK=0, topP=1, seed=0, ...}, ${abi.SessionOptions.bytes}, 4) = 1`],
  ['session_read', [1, Buffer.concat([record(abi.SessionEvent, { kind: 1, token: 9, pieceBytes: 3 }), Buffer.from(' hi')])], 27, 'session_read(1, {EVENT_TOKEN, 9, " hi"}, 27) = 27'],
  ['session_read', [1, record(abi.SessionEvent, { kind: 2, token: 5 })], 24, 'session_read(1, {EVENT_PROGRESS, 5}, 24) = 24'],
  ['session_read', [1, record(abi.SessionEvent, { kind: 3, token: 1 })], 24, 'session_read(1, {EVENT_END, eos}, 24) = 24'],
  ['session_report', [1, record(abi.SessionReport, { state: 5, finish: 8 })], 256, `session_report(1, {state=FAULTED, finish=fault, promptTokens=0, outputTokens=0, cycles=0, ...}, ${abi.SessionReport.bytes}) = 256`],
  ['last_error', [record(abi.LastError, { errno: 12, code: 1003, message: 'need 9' })], 520, 'last_error({errno=ENOMEM, code=1003, message="need 9"}, 520) = 520'],
  ['getgroups', [u32s(1000, 100)], 8, 'getgroups([1000, 100], 8) = 8'],
  ['setgroups', [u32s()], 0, 'setgroups([], 0) = 0'],
  ['umask', [0o22], 0, 'umask(022) = 0'],
];

test('each kind of argument is shown as what it means', t => {
  for (const [call, values, result, line] of LINES) t.is(traced(call, values, result), line);
});

test('every call of the table can be shown, answered, refused and not returning', t => {
  memory.fill(0);
  for (const [name, spec] of Object.entries<CallSpec>(SYSCALLS)) {
    const values = spec.args.map(([, kind]) =>
      kind === 'path' ? '/some/path' : kind === 'in' || kind === 'out' ? new Uint8Array(640) : 0,
    );
    const line = (result: number | null): string => traced(name as CallName, values, result);
    t.regex(line(0), new RegExp(`^${name}\\(.*\\) = 0$`));
    t.regex(line(-E.INVAL), new RegExp(`^${name}\\(.*\\) = -1 EINVAL \\(Invalid argument\\)$`));
    t.regex(line(null), new RegExp(`^${name}\\(.*\\) = \\?$`));
    for (const [argument, kind, meaning] of spec.args) {
      if (kind === 'path') t.true(line(0).includes('"/some/path"'), `${name}: ${argument}`);
      if (meaning !== undefined && /^[A-Z]/.test(meaning)) t.regex(line(640), /\{\w+/, `${name}: ${argument}`);
    }
  }
});

test('the manual page names every call', t => {
  const page = readFileSync('images/root/usr/share/man/syscalls.md', 'utf8');
  const named = new Set([...page.matchAll(/^ {4}([a-z_ ]+)$/gm)].flatMap(([, names]) => names!.split(' ')));
  t.deepEqual(
    Object.keys(SYSCALLS).filter(name => !named.has(name)),
    [],
  );
});

const machine = boot({ image: readFileSync('build/boot.cpio') });

/** The lines of `expected` that the trace of a command does not have in that order. */
function missing(command: string, expected: readonly string[]): string[] {
  const trace = machine.exec(`strace -o /tmp/trace ${command}; cat /tmp/trace`).stdout.split('\n');
  let from = 0;
  return expected.filter(line => {
    const at = trace.indexOf(line, from);
    if (at >= 0) from = at + 1;
    return at < 0;
  });
}

test.serial('a file is copied: what the kernel was asked, in order', t => {
  const copied = missing('cp /etc/hostname /tmp/copy', [
    `stat("/tmp/copy", 0x${(machine.kernel.lay.windowAt + '/tmp/copy'.length).toString(16)}, 80) = -1 ENOENT (No such file or directory)`,
    'open("/etc/hostname", O_RDONLY, 0) = 3',
    'open("/tmp/copy", O_WRONLY|O_CREAT|O_TRUNC, 0644) = 4',
    'read(3, "arena8\\n", 16384) = 7',
    'write(4, "arena8\\n", 7) = 7',
    'read(3, "", 16384) = 0',
    'close(3) = 0',
    'close(4) = 0',
    '+++ exited with 0 +++',
  ]);
  t.deepEqual(copied, []);
});

test.serial('a model answers: prompt, tokens, report', t => {
  const answered = missing('llminfer --max-tokens 2 --temp 0 once upon > /dev/null', [
    'memfd("prompt") = 3',
    'write(3, "once upon", 9) = 9',
    'lseek(3, 0, SEEK_SET) = 0',
    `model_info({name="fable", architecture="llama", parameters=1312384, ctx=512, kvType=F16, ...}, ${abi.ModelInfo.bytes}) = ${abi.ModelInfo.bytes}`,
    `session_open({maxTokens=2, temp=0, topK=40, topP=0.95, seed=0, ...}, ${abi.SessionOptions.bytes}, 3) = 32`,
    'session_read(32, {EVENT_TOKEN, 259, " a"}, 16384) = 26',
    'session_read(32, {EVENT_TOKEN, 437, " time"}, 16384) = 29',
    'session_read(32, {EVENT_END, length}, 16384) = 24',
    'session_close(32) = 0',
  ]);
  t.deepEqual(answered, []);
});

test.serial('a program that ends itself is seen to', t => {
  t.deepEqual(
    missing('echo x > /dev/full', ['write(1, "x\\n", 2) = -1 ENOSPC (No space left on device)', 'exit(1) = ?']),
    [],
  );
});
