// The builtins of job control: jobs, fg, bg, wait, kill, and times. A job is named %N, %% or %+ (the current one), %- (the one before),
// %TEXT (its command begins so), or by the number of one of its processes.

import { SIG, strerror } from '../../kernel/abi/index.ts';
import { times } from '../lib/fmt.ts';
import type { Output } from '../lib/stdio.ts';
import type { Builtin } from './builtins.ts';
import type { Shell } from './exec.ts';
import { collect, killedBy } from './jobs.ts';
import type { Job } from './jobs.ts';
import { signalName, signalNumber } from './traps.ts';

/** The job that an argument names (none: the current one), or null after a message. */
function* jobOf(shell: Shell, command: string, text: string | undefined): Generator<void, Job | null, void> {
  const job = shell.jobs.find(text ?? '%%');
  if (job !== undefined) return job;
  yield* shell.fail(text === undefined ? `${command}: No current job` : `${command}: No such job: ${text}`, 2);
  return null;
}

function* jobs(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void> {
  yield* shell.jobs.poll(shell.sys);
  const how = argv[1] === '-l' || argv[1] === '-p' ? argv[1] : '';
  const named = argv.slice(how === '' ? 1 : 2);
  const shown: Job[] = [];
  for (const text of named) {
    const job = yield* jobOf(shell, 'jobs', text);
    if (job === null) return 2;
    shown.push(job);
  }
  for (const job of named.length > 0 ? shown : shell.jobs.list)
    yield* out.print(how === '-p' ? `${job.pids[0]}\n` : shell.jobs.line(job, how === '-l'));
  shell.jobs.prune();
  return 0;
}

/** fg and bg: lets a stopped job go on. */
function resume(foreground: boolean): Builtin['run'] {
  return function* (shell, argv, out) {
    if (shell.group === 0) return yield* shell.fail(`${argv[0]}: no job control`, 2);
    for (const text of argv.length > 1 ? argv.slice(1) : [undefined]) {
      const job = yield* jobOf(shell, argv[0]!, text);
      if (job === null) return 2;
      yield* out.print(foreground ? `${job.text}\n` : `[${job.id}] ${job.text}\n`);
      yield* out.flush();
      job.state = 'running';
      if (foreground) yield* shell.lendTerminal(job);
      yield* shell.sys.kill(-job.pids[0]!, SIG.CONT);
      if (foreground) yield* shell.waitForJob(job);
    }
    return foreground ? shell.status : 0;
  };
}

/** Waits for a job; a signal that has a trap ends the wait. */
function* waitJob(shell: Shell, job: Job): Generator<void, number, void> {
  for (const pid of job.alive) {
    while ((yield* collect(shell.sys, job, pid, 0)) < 0 && job.alive.has(pid)) {
      yield* shell.noteSignals();
      if (shell.interrupted) return killedBy(SIG.INT);
      if (shell.traps.first !== undefined) return killedBy(shell.traps.first);
    }
  }
  shell.jobs.taken(job);
  return job.status;
}

function* wait(shell: Shell, argv: readonly string[]): Generator<void, number, void> {
  let status = 0;
  if (argv.length === 1) {
    for (const job of Array.from(shell.jobs.list)) {
      if (job.state === 'stopped') continue;
      const ended = yield* waitJob(shell, job);
      if (job.alive.size > 0) return ended;
    }
    return 0;
  }
  for (const text of argv.slice(1)) {
    const job = shell.jobs.find(text);
    status = job === undefined ? (shell.jobs.statusOf(Number(text)) ?? 127) : yield* waitJob(shell, job);
    if (job === undefined && text.startsWith('%')) return yield* shell.fail(`wait: No such job: ${text}`, 2);
  }
  return status;
}

function* kill(shell: Shell, argv: readonly string[], out: Output): Generator<void, number, void> {
  let args = argv.slice(1);
  let name = 'TERM';
  if (args[0] === '-l') {
    const wanted = args[1] === undefined ? Object.values(SIG) : [Number(args[1]) & 127];
    for (const signal of wanted) yield* out.print(`${signalName(signal)}\n`);
    return 0;
  }
  if (args[0] === '-s') [name, args] = [args[1] ?? '', args.slice(2)];
  else if (/^-[A-Za-z0-9]/.test(args[0] ?? '')) [name, args] = [args[0]!.slice(1), args.slice(1)];
  if (args[0] === '--') args = args.slice(1);
  const signal = signalNumber(name);
  if (signal === null) return yield* shell.fail(`kill: invalid signal number or name: ${name}`, 2);
  if (args.length === 0) return yield* shell.fail('kill: Usage: kill [-s SIGNAL | -SIGNAL] PID|JOB... or kill -l', 2);
  let status = 0;
  for (const text of args) {
    const job = text.startsWith('%') ? shell.jobs.find(text) : undefined;
    if (text.startsWith('%') && job === undefined) status = yield* shell.fail(`kill: No such job: ${text}`, 2);
    else if (job === undefined && !/^-?[0-9]+$/.test(text))
      status = yield* shell.fail(`kill: Illegal number: ${text}`, 2);
    else {
      const group = shell.group === 0 ? (job?.pids ?? []) : [-(job?.pids[0] ?? 0)];
      for (const pid of job === undefined ? [Number(text)] : group) {
        const errno = yield* shell.sys.kill(pid, signal);
        // A stopped job hears of its end only when it goes on.
        if (job?.state === 'stopped' && errno >= 0) yield* shell.sys.kill(pid, SIG.CONT);
        if (errno < 0) status = yield* shell.fail(`kill: ${strerror(errno)}`, 1);
      }
    }
  }
  return status;
}

export const jobBuiltins: readonly Builtin[] = [
  {
    name: 'bg',
    summary: 'let a stopped job go on in the background',
    usage: ['[JOB]...'],
    description: 'Lets each stopped JOB (default: the current one) go on while the shell takes the next command.',
    run: resume(false),
  },
  {
    name: 'fg',
    summary: 'bring a job to the foreground',
    usage: ['[JOB]'],
    description: 'Gives JOB (default: the current one) the terminal, lets it go on, and waits for it.',
    run: resume(true),
  },
  {
    name: 'jobs',
    summary: 'list the jobs of this shell',
    usage: ['[-l|-p] [JOB]...'],
    description:
      'Prints each job with its number, whether it is the current one (+) or the one before (-), its state and its command. -l: also its process; -p: only that.',
    examples: [['sleep 60 & jobs', 'shows one running job']],
    run: jobs,
  },
  {
    name: 'kill',
    summary: 'send a signal to processes or jobs',
    usage: ['[-s SIGNAL | -SIGNAL] PID|JOB...', '-l [STATUS]'],
    description:
      'Sends SIGNAL (a name or a number; default TERM) to each process PID, to the process group of a negative PID, or to the processes of JOB. -l: the names of the signals, or of the one that a STATUS tells of.',
    run: kill,
  },
  {
    name: 'times',
    special: true,
    summary: 'show the time this shell has used',
    usage: [''],
    description:
      'Prints the virtual processor time of the shell, user and system, and on a second line that of its children, which this kernel does not add up.',
    *run(shell, _argv, out) {
      const { processCycles, hz } = yield* times(shell.sys);
      const seconds = processCycles / hz;
      const text = `${Math.floor(seconds / 60)}m${(seconds % 60).toFixed(2)}s`;
      yield* out.print(`0m0.00s ${text}\n0m0.00s 0m0.00s\n`);
      return 0;
    },
  },
  {
    name: 'wait',
    summary: 'wait for jobs to end',
    usage: ['[JOB|PID]...'],
    description:
      'Waits for each JOB and returns the status of the last; without arguments for all, and returns 0. A signal that has a trap ends the wait.',
    run: wait,
  },
];
