// The table of processes as programs read it: /proc/ps, a line a process.

import type { Sys } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';

export interface ProcessRow {
  readonly pid: number;
  readonly ppid: number;
  readonly pgid: number;
  readonly uid: number;
  readonly stat: string; // R, S, T or Z; + in the foreground of the terminal
  readonly tty: string; // `?`: none
  readonly startNs: number;
  /** Of the processor: its system calls, and the sessions it has open. */
  readonly cycles: number;
  readonly wchan: string; // the call that it waits in, or `-`
  readonly command: string;
}

/** All processes by pid, or -errno. */
export function* processTable(sys: Sys): Generator<void, ProcessRow[] | number, void> {
  const text = yield* readText(sys, '/proc/ps');
  return typeof text === 'number' ? text : text.trimEnd().split('\n').slice(1).map(parseRow);
}

function parseRow(line: string): ProcessRow {
  const fields = line.split(' ', 10);
  const [pid, ppid, pgid, uid, stat, tty, startNs, calls, sessions, wchan] = fields as [string, ...string[]] & string[];
  return {
    pid: Number(pid),
    ppid: Number(ppid),
    pgid: Number(pgid),
    uid: Number(uid),
    stat: stat!,
    tty: tty!,
    startNs: Number(startNs),
    cycles: Number(calls) + Number(sessions),
    wchan: wchan!,
    command: line.slice(fields.join(' ').length + 1),
  };
}

/** Virtual time as ps prints it: `01:02:03`, with days `4-01:02:03`. */
export function clockTime(seconds: number): string {
  const whole = Math.floor(seconds);
  const days = Math.floor(whole / 86400);
  const parts = [Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  return `${days > 0 ? `${days}-` : ''}${parts.map(n => String(n).padStart(2, '0')).join(':')}`;
}

/** As top prints it: minutes, seconds and hundredths, `0:00.42`. */
export function minuteTime(seconds: number): string {
  const hundredths = Math.floor(seconds * 100);
  const rest = String(Math.floor(hundredths / 100) % 60).padStart(2, '0');
  return `${Math.floor(hundredths / 6000)}:${rest}.${String(hundredths % 100).padStart(2, '0')}`;
}
