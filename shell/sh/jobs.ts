// Jobs: pipelines in the background or stopped, by number. A job's processes are children of the shell; with job control they are a
// process group, to which the terminal is lent while the job is in the foreground. Formats are dash's.

import { E, SIG, STOPPED, WAIT } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';

export interface Job {
  readonly id: number;
  /** Its processes in the order of the pipeline; the last one's status is the job's. */
  readonly pids: readonly number[];
  readonly text: string;
  state: 'running' | 'stopped' | 'done';
  status: number;
  /** Processes that have not ended. */
  readonly alive: Set<number>;
}

/** What a status over 128 is called. */
const signalWords: Readonly<Record<number, string>> = {
  [SIG.HUP]: 'Hangup',
  [SIG.INT]: 'Interrupt',
  [SIG.QUIT]: 'Quit',
  [SIG.ABRT]: 'Aborted',
  [SIG.KILL]: 'Killed',
  [SIG.USR1]: 'User defined signal 1',
  [SIG.USR2]: 'User defined signal 2',
  [SIG.ALRM]: 'Alarm clock',
  [SIG.TERM]: 'Terminated',
};

/** The exit status that tells of a signal. */
export const killedBy = (signal: number): number => 128 + signal;

/** Jobs that have ended and were not asked for yet: POSIX's CHILD_MAX is at least 25. */
const endedMax = 64;

export class Jobs {
  readonly list: Job[] = [];
  /** What `wait` has returned for processes: it returns that again. */
  private readonly waited = new Map<number, number>();

  add(pids: readonly number[], text: string): Job {
    const id = Math.max(0, ...this.list.map(j => j.id)) + 1;
    const job: Job = { id, pids, text, state: 'running', status: 0, alive: new Set(pids) };
    const ended = this.list.filter(j => j.state === 'done');
    if (ended.length >= endedMax) this.remove(ended[0]!);
    this.list.push(job);
    return job;
  }

  /** A job for processes in the foreground: it has no number until it is stopped. */
  foreground(pids: readonly number[], text: string): Job {
    return { id: 0, pids, text, state: 'running', status: 0, alive: new Set(pids) };
  }

  /** Keeps a stopped foreground job. */
  keep(job: Job): Job {
    if (this.list.includes(job)) return job;
    const kept = { ...job, id: Math.max(0, ...this.list.map(j => j.id)) + 1 };
    this.list.push(kept);
    return kept;
  }

  remove(job: Job): void {
    const at = this.list.indexOf(job);
    if (at >= 0) this.list.splice(at, 1);
  }

  /** A job whose status `wait` returns now, and again when it is asked for one of the last few. */
  taken(job: Job): void {
    this.remove(job);
    if (this.waited.size >= endedMax) this.waited.delete(this.waited.keys().next().value!);
    this.waited.set(job.pids.at(-1)!, job.status);
  }

  /** The status of a process that `wait` has returned before; undefined when there was none such. */
  statusOf(pid: number): number | undefined {
    return this.waited.get(pid);
  }

  /** `%2`, `%%`, `%+`, `%-`, `%name`, `%?text` or a process number; undefined when there is none such. */
  find(text: string): Job | undefined {
    if (/^[0-9]+$/.test(text)) return this.list.find(j => j.pids.includes(Number(text)));
    const name = text.slice(1);
    if (/^[%+]?$/.test(name)) return this.current();
    if (name === '-') return this.previous();
    if (/^[0-9]+$/.test(name)) return this.list.find(j => j.id === Number(name));
    const fits = name.startsWith('?')
      ? (j: Job) => j.text.includes(name.slice(1))
      : (j: Job) => j.text.startsWith(name);
    return this.list.find(fits);
  }

  /** Stopped jobs come before running ones, younger before older. */
  private ranked(): Job[] {
    const rank = (j: Job): number => (j.state === 'stopped' ? 1e6 : 0) + j.id;
    return [...this.list].sort((a, b) => rank(b) - rank(a));
  }
  current(): Job | undefined {
    return this.ranked()[0];
  }
  private previous(): Job | undefined {
    return this.ranked()[1];
  }

  /** `[1] + Running                    sleep 9`. */
  line(job: Job, withPid = false): string {
    const mark = job === this.current() ? '+' : job === this.previous() ? '-' : ' ';
    const pid = withPid ? `${job.pids[0]} ` : '';
    return `[${job.id}] ${mark} ${pid}${stateWord(job).padEnd(26)} ${job.text}\n`;
  }

  /** Takes what the kernel knows of the children of all jobs, without waiting. */
  *poll(sys: Sys): Generator<void, void, void> {
    for (const job of this.list) {
      for (const pid of job.alive) yield* collect(sys, job, pid, WAIT.nohang | WAIT.untraced);
    }
  }

  /** Forgets the jobs that have ended; returns them. */
  prune(): Job[] {
    const ended = this.list.filter(j => j.state === 'done');
    for (const job of ended) this.remove(job);
    return ended;
  }
}

function stateWord(job: Job): string {
  if (job.state === 'running') return 'Running';
  if (job.state === 'stopped') return 'Stopped';
  if (job.status === 0) return 'Done';
  return signalWords[job.status - 128] ?? `Done(${job.status})`;
}

/** Waits for one process of a job as the flags say; returns what the call returned. A process that is nobody's child has ended with 127. */
export function* collect(sys: Sys, job: Job, pid: number, flags: number): Generator<void, number, void> {
  const bytes = new Uint8Array(4);
  const result = yield* sys.wait(pid, bytes, flags);
  if (result === 0) return 0;
  const status = new DataView(bytes.buffer).getUint32(0, true);
  if (result > 0 && status >= STOPPED) {
    job.state = 'stopped';
    job.status = killedBy(status - STOPPED);
  } else if (result > 0 || result !== -E.INTR) {
    job.alive.delete(pid);
    if (pid === job.pids.at(-1)) job.status = result > 0 ? status : 127;
    if (job.alive.size === 0) job.state = 'done';
  }
  return result;
}
