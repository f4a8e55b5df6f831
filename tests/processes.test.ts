// Programs about processes, devices and time: date and dd against recordings of Debian's, the others by what the machine is known to hold,
// and the lab of terminals.

import { readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { boot } from '../boot/index.ts';
import type { Machine } from '../boot/index.ts';
import { LIMITS } from '../kernel/abi/index.ts';
import { formatTime, parseTime } from '../shell/lib/strftime.ts';

interface Recorded {
  readonly script: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}
const recorded = JSON.parse(readFileSync('tests/fixtures/processes.json', 'utf8')) as {
  readonly prepare: string;
  readonly cases: readonly Recorded[];
};
const image = readFileSync('build/boot.cpio');
const powerOn = (): Machine => boot({ image });

test('date and dd print what coreutils print', t => {
  const m = powerOn();
  t.true(recorded.cases.length >= 240);
  const wrong: string[] = [];
  for (const { script, ...wanted } of recorded.cases) {
    m.exec('rm -rf /tmp/case; mkdir /tmp/case; cd /tmp/case');
    m.exec(recorded.prepare);
    const { stdout, stderr, status } = m.exec(script);
    const got = { stdout, stderr: stderr.replace(/ copied, .*/g, ' copied'), status };
    if (JSON.stringify(got) !== JSON.stringify(wanted))
      wrong.push(`${script}\n  want ${JSON.stringify(wanted)}\n  got  ${JSON.stringify(got)}`);
  }
  t.deepEqual(wrong, []);
});

test('dates come back from text, and are those of the host', t => {
  const now = { seconds: 0, nanoseconds: 0 };
  fc.assert(
    fc.property(fc.integer({ min: -(2 ** 35), max: 2 ** 37 }), seconds => {
      const iso = new Date(seconds * 1000).toISOString().replace('.000Z', '');
      const year = new Date(seconds * 1000).getUTCFullYear();
      return (
        formatTime('%FT%T', seconds, 0) === iso.replace(/^\+0*/, '') &&
        (year > 9999 || parseTime(`${iso}Z`, now)?.seconds === seconds)
      );
    }),
    { seed: 11, numRuns: 2000 },
  );
  t.is(formatTime('%s.%N', 5, 7), '5.000000007');
});

test('ps: all, some, columns, titles, order; what is wrong with a command line', t => {
  const m = powerOn();
  const out = (command: string): string => m.exec(command).stdout;
  t.deepEqual(out('ps -e -o pid,ppid,stat,args').split('\n').slice(0, 3), [
    'PID PPID STAT COMMAND',
    '  1    0 S    sh --serve',
    '  2    1 R    ps -e -o pid,ppid,stat,args',
  ]);
  t.is(out('ps -o comm= -p 1'), 'sh\n');
  t.regex(out('ps -o pid=,wchan= -p 1'), /^1 wait\n$/);
  t.regex(out('ps -ef').split('\n')[0]!, /^UID +PID +PPID STIME +TTY +TIME CMD$/);
  t.regex(out('ps aux'), /^USER +PID/);
  t.regex(out('ps -e --sort=-pid -o pid --no-headers'), /^ *\d+\n *1\n$/);
  t.is(m.exec('ps -p 999').status, 1);
  t.is(m.exec('ps -o nope').stderr.split('\n')[0], "ps: unknown column 'nope'");
  t.regex(m.exec('ps -u nope').stderr, /^ps: user 'nope' does not exist/);
  // Cycles of a session belong to whoever has it open.
  const cycles = out('llminfer --max-tokens 64 x > /dev/null & sleep 0.3; ps -e -o cycles=,comm=').split('\n');
  t.true(
    cycles.some(row => row.endsWith('llminfer') && Number(row.trim().split(' ')[0]) > 100_000),
    cycles.join('\n'),
  );
});

test('processes are stopped, go on, and are killed', t => {
  const m = powerOn();
  const out = (command: string): string => m.exec(command).stdout;
  t.is(
    out('sleep 100 & env kill -STOP $!; ps -o stat=,args= -p $!; env kill -CONT $!; env kill $!; wait $!; echo $?'),
    'T sleep 100\n143\n',
  );
  t.is(out('env kill -l 9 KILL 137'), 'KILL\n9\nKILL\n');
  t.regex(out('env kill -l'), /^ 1 HUP\n 2 INT\n[^]*28 WINCH\n$/);
  t.is(m.exec('env kill 999').stderr, 'kill: (999) - No such process\n');
  t.is(m.exec('env kill x').stderr, 'kill: x: arguments must be process IDs\n');
  t.is(m.exec('env kill -NOPE 1').stderr, 'kill: NOPE: invalid signal specification\n');
  t.is(m.exec('env kill -s 0 1').status, 0);
});

test('lsblk, mount and umount: what is mounted where, by name and by file', t => {
  const m = powerOn();
  const out = (command: string): string => m.exec(command).stdout;
  t.is(
    out('lsblk -b'),
    'NAME MAJ:MIN     SIZE RO TYPE MODEL   MOUNTPOINTS\n' +
      `ram0     1:0 ${String(image.length).padStart(8)}  1 disk default\n` +
      `ram1     1:1 ${LIMITS.swapBytes}  1 disk default [SWAP]\n` +
      `vda    254:0 ${LIMITS.tmpfsBytes}  0 disk default / /tmp\n`,
  );
  t.is(out('wc -c < /dev/ram1; head -c 3 /dev/ram1 | od -An -tx1'), `${LIMITS.swapBytes}\n 00 00 00\n`);
  t.regex(
    out('cat /proc/swaps'),
    /^Filename\t+Type\t+Size\t+Used\t+Priority\n\/dev\/ram1 +partition\t32768\t\t0\t\t-2\n$/,
  );
  t.is(m.exec('mkdir -p /mnt/a /mnt/b; mount /models/fable-f16.gguf /mnt/a').status, 0);
  t.is(m.exec('mount /etc/motd /mnt/b').status, 1);
  t.regex(out('lsblk'), /^fable-f16\.gguf +\S+ +1 file +\/mnt\/a$/m);
  t.regex(
    out('lsblk -J'),
    /^\{"name":"ram0","maj:min":"1:0","size":\d+,"ro":true,"type":"disk","model":"default","mountpoints":\[\]\}\n[^]*"mountpoints":\["\[SWAP\]"\]\}\n/,
  );
  t.deepEqual(m.exec('cd /mnt/a; umount /mnt/a').stderr, 'umount: /mnt/a: target is busy: 2 working directories\n');
  t.is(m.exec('cd /; umount -v /models/fable-f16.gguf').stdout, 'umount: /mnt/a unmounted\n');
  t.deepEqual([m.exec('umount /mnt/a').stderr, m.exec('umount /mnt/a').status], ['umount: /mnt/a: not mounted\n', 32]);
  t.is(
    m.exec('mount -t tmpfs x /mnt/a; mount -t tmpfs y /mnt/b; umount -a -t tmpfs; mount | grep -c /mnt').stdout,
    '0\n',
  );
});

test('dd: a device by sectors, what is read after errors, limits, time', t => {
  const m = powerOn();
  m.exec('dd if=/dev/ram0 of=/tmp/x bs=64K 2> /tmp/said');
  t.is(
    m
      .exec('cmp /tmp/x /dev/ram0; tail -n 1 /tmp/said')
      .stdout.replace(/^\d+ bytes \([^)]*\) copied, [\d.e-]+ s, [\d.]+ [kMG]?B\/s\n$/, 'ok'),
    'ok',
  );
  t.is(
    m.exec('dd if=/dev/zero of=/dev/full count=1 status=none').stderr,
    "dd: error writing '/dev/full': No space left on device\n",
  );
  t.regex(m.exec('dd bs=1M count=1 bs=64M').stderr, /^dd: bs=64M: blocks have at most 16777216 bytes\n/);
  t.is(
    m.exec('(printf ab; sleep 1; printf cd) | dd bs=4 status=noxfer 2>&1').stdout,
    'abcd0+2 records in\n0+2 records out\n',
  );
});

test('less and man without a terminal copy; top -b prints', t => {
  const m = powerOn();
  t.is(m.exec('less /etc/hostname /etc/hostname | cat').stdout, 'arena8\narena8\n');
  t.is(m.exec('less -N < /etc/hostname').stdout, 'arena8\n');
  t.regex(m.exec('man 2 kill').stdout, /^NAME\n {4}kill - send a signal\n/);
  t.regex(m.exec('man 7 arena').stdout, /^NAME\n {4}arena - /);
  for (const topic of ['disk', 'quota', 'sessions'])
    t.is(m.exec(`man ${topic}`).stdout, m.exec(`man 7 ${topic}`).stdout, 'before a system call of that name');
  t.regex(m.exec('man 2 disk').stdout, /^NAME\n {4}disk - change a disk\n/);
  t.is(m.exec('man 2 ls').stderr, 'man: No manual entry for ls in section 2\n');
  const [, , cycles] = m.exec('top -b -n 1').stdout.split('\n');
  const shares = [...cycles!.matchAll(/[\d.]+(?= [a-z])/g)].map(([n]) => Number(n));
  t.is(shares.length, 8);
  t.true(Math.abs(shares.reduce((sum, n) => sum + n, 0) - 100) < 0.4);
  t.is(m.exec('top').stderr, 'top: standard output is not a terminal; use -b\n');
});

test('lab terminal: what it tells to type gives what it tells to see', t => {
  const m = powerOn();
  const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const blocks = readFileSync('images/root/usr/share/labs/terminal.md', 'utf8').matchAll(
    /^ {4}\$ (.*)\n((?: {4}(?!\$ ).*\n)*)/gm,
  );
  let commands = 0;
  for (const [, command, shown] of blocks) {
    const r = m.exec(command!);
    const wanted = shown!.replace(/^ {4}/gm, '').split('...').map(escaped).join('[^]*');
    t.regex(r.stdout + r.stderr, new RegExp(`^${wanted}$`), command);
    commands++;
  }
  t.true(commands >= 10);
});
