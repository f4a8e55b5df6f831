// The shell room's product: every program of this build by name, and their manual. /bin/NAME in the boot image is a file that names one.

import type { ProgramTable } from '../kernel/abi/index.ts';
import { basename } from './bin/basename.ts';
import { cat } from './bin/cat.ts';
import { chmod } from './bin/chmod.ts';
import { chown } from './bin/chown.ts';
import { clear } from './bin/clear.ts';
import { cmp } from './bin/cmp.ts';
import { cp } from './bin/cp.ts';
import { cut } from './bin/cut.ts';
import { date } from './bin/date.ts';
import { dd } from './bin/dd.ts';
import { df } from './bin/df.ts';
import { diff } from './bin/diff.ts';
import { dirname } from './bin/dirname.ts';
import { dmesg } from './bin/dmesg.ts';
import { du } from './bin/du.ts';
import { echo } from './bin/echo.ts';
import { env } from './bin/env.ts';
import { falseProgram } from './bin/false.ts';
import { find } from './bin/find.ts';
import { free } from './bin/free.ts';
import { grep } from './bin/grep.ts';
import { head } from './bin/head.ts';
import { help } from './bin/help.ts';
import { hexdump } from './bin/hexdump.ts';
import { history } from './bin/history.ts';
import { id } from './bin/id.ts';
import { iostat } from './bin/iostat.ts';
import { kill } from './bin/kill.ts';
import { less } from './bin/less.ts';
import { llmcancel } from './bin/llmcancel.ts';
import { llmctl } from './bin/llmctl.ts';
import { llmfinetune } from './bin/llmfinetune.ts';
import { llmhash } from './bin/llmhash.ts';
import { llminfer } from './bin/llminfer.ts';
import { llmjson } from './bin/llmjson.ts';
import { llmkey } from './bin/llmkey.ts';
import { llmpoll } from './bin/llmpoll.ts';
import { llmsig } from './bin/llmsig.ts';
import { llmstats } from './bin/llmstats.ts';
import { llmstream } from './bin/llmstream.ts';
import { llmsummary } from './bin/llmsummary.ts';
import { llmverify } from './bin/llmverify.ts';
import { ln } from './bin/ln.ts';
import { login } from './bin/login.ts';
import { ls } from './bin/ls.ts';
import { lsblk } from './bin/lsblk.ts';
import { man } from './bin/man.ts';
import { mkdir } from './bin/mkdir.ts';
import { mount } from './bin/mount.ts';
import { mv } from './bin/mv.ts';
import { od } from './bin/od.ts';
import { passwd } from './bin/passwd.ts';
import { printf } from './bin/printf.ts';
import { ps } from './bin/ps.ts';
import { pwd } from './bin/pwd.ts';
import { readlink } from './bin/readlink.ts';
import { rm } from './bin/rm.ts';
import { rmdir } from './bin/rmdir.ts';
import { seq } from './bin/seq.ts';
import { sha256sum } from './bin/sha256sum.ts';
import { sleep } from './bin/sleep.ts';
import { sort } from './bin/sort.ts';
import { stat } from './bin/stat.ts';
import { strace } from './bin/strace.ts';
import { strings } from './bin/strings.ts';
import { su } from './bin/su.ts';
import { tail } from './bin/tail.ts';
import { tee } from './bin/tee.ts';
import { bracket, test } from './bin/test.ts';
import { time } from './bin/time.ts';
import { top } from './bin/top.ts';
import { touch } from './bin/touch.ts';
import { tr } from './bin/tr.ts';
import { trueProgram } from './bin/true.ts';
import { umount } from './bin/umount.ts';
import { uniq } from './bin/uniq.ts';
import { uptime } from './bin/uptime.ts';
import { watch } from './bin/watch.ts';
import { wc } from './bin/wc.ts';
import { whoami } from './bin/whoami.ts';
import { xargs } from './bin/xargs.ts';
import type { Manual, Program } from './lib/program.ts';
import { builtins } from './sh/builtins.ts';
import { sh } from './sh/sh.ts';

// prettier-ignore
const linked: readonly Program[] = [
  basename, bracket, cat, chmod, chown, clear, cmp, cp, cut, date, dd, df, diff, dirname, dmesg, du, echo, env, falseProgram,
  find, free, grep, head, help, hexdump, history, id, iostat, kill, less, llmcancel, llmctl, llmfinetune, llmhash, llminfer, llmjson, llmkey, llmpoll, llmsig, llmstats, llmstream, llmsummary,
  llmverify, ln, login, ls, lsblk, man, mkdir, mount, mv, od,
  passwd, printf, ps, pwd, readlink, rm, rmdir, seq, sh, sha256sum, sleep, sort, stat, strace, strings, su, tail, tee, test, time,
  top, touch, tr, trueProgram, umount, uniq, uptime, watch, wc, whoami, xargs,
];

/** Every page of the manual that belongs to a command, builtins included. */
export const manual: Manual = new Map([...builtins.values(), ...linked].map(page => [page.name, page]));

export const programs: ProgramTable = new Map(linked.map(program => [program.name, program.entry(manual)]));
