// Command lines on a booted machine, as tests judge them: what must succeed and say nothing beside, what must print one JSON object, what must
// be refused with one sentence.

import type { ExecutionContext } from 'ava';
import type { Machine } from '../../boot/machine.ts';

/** Standard output of a command that must succeed silently. */
export function ok(machine: Machine, line: string): string {
  const { status, stdout, stderr } = machine.exec(line);
  if (status !== 0 || stderr !== '') throw new Error(`${line}: status ${status}: ${stderr}`);
  return stdout;
}

/** The one object on the one line that a command prints. */
export function json<T = Record<string, unknown>>(machine: Machine, line: string): T {
  const text = ok(machine, line);
  if (!/^\{[^\n]*\}\n$/.test(text)) throw new Error(`${line}: not one object on one line: ${text}`);
  return JSON.parse(text) as T;
}

/** The command ends with `status`, prints nothing, and says why: a whole line, or what a part of it looks like. */
export function refused(
  t: ExecutionContext,
  machine: Machine,
  line: string,
  status: number,
  message: string | RegExp,
): void {
  const r = machine.exec(line);
  t.is(r.status, status, line);
  t.is(r.stdout, '', line);
  if (typeof message === 'string') t.is(r.stderr, `${message}\n`, line);
  else t.regex(r.stderr, message, line);
}
