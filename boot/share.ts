// What somebody shares, come to again: a machine with the same seed, target and size of terminal, the same files put into it, /etc/rc, then
// the same lines, each typed when everything in the machine waits for it. What comes of it is the same bytes on every host, and the digest
// of the state says so. The same code replays a link in Node, on a page and in tests.

import { Tty } from '../drivers/tty/tty.ts';
import { strerror, utf8Encode, type Refusal } from '../kernel/abi/index.ts';
import type { BootOptions, Machine, RunState } from './machine.ts';
import type { Share } from './web/protocol/messages.ts';

export { formatLink, LINK_LIMITS, parseLink } from './web/protocol/link.ts';
export type { Share } from './web/protocol/messages.ts';

/** A program that takes keys one by one, and waits for none, gets the next line after so long: `q` ends most. */
const RAW_NS = 1e9;

/** How a machine is switched on for what is shared: with memory for a home, with the log that everybody has. */
export function sharedOptions(
  share: Share,
  output: (bytes: Uint8Array) => void,
): Required<Pick<BootOptions, 'seed' | 'console'>> & Pick<BootOptions, 'target'> & { readonly console: Tty } {
  const console = new Tty({ interactive: true, output, columns: share.columns, rows: share.rows });
  return { seed: share.seed, console, ...(share.target === '' ? {} : { target: share.target }) };
}

/** Puts the files in their places. A refusal names the first that cannot be there. */
export function storeShared(machine: Machine, { files }: Pick<Share, 'files'>): Refusal | null {
  for (const { path, bytes } of files) {
    const status = machine.store(path, bytes);
    if (status < 0) return { errno: -status, code: 0, message: `${path}: ${strerror(status)}` };
  }
  return null;
}

/** Says when the next line is typed: asked after each round of the machine, so that every host types at the same moments. */
export class Typist {
  private typed = 0;
  private rawSinceNs = Infinity;

  constructor(private readonly commands: readonly string[]) {}

  /** How many lines have been typed. */
  get given(): number {
    return this.typed;
  }

  /** After a round: keys for the terminal; null: none yet; 'done': what came of the last line is there. */
  after(state: RunState, nowNs: number, isRaw: boolean): Uint8Array | null | 'done' {
    this.rawSinceNs = isRaw ? Math.min(this.rawSinceNs, nowNs) : Infinity;
    if (state !== 'idle' && nowNs - this.rawSinceNs < RAW_NS) return null;
    if (this.typed === this.commands.length) return 'done';
    this.rawSinceNs = Infinity;
    return utf8Encode(`${this.commands[this.typed++]}\r`);
  }
}

export interface Replayed {
  /** Machine.stateDigest. */
  readonly digest: string;
  /** The newest checkpoint of the audit log. */
  readonly head: string;
  /** How many of the lines have been typed: fewer where the shell has ended, or the machine has halted. */
  readonly given: number;
  /** Of the shell, to go on with; it may have ended. */
  readonly pid: number;
}

/**
 * Runs the files and lines on a machine that has just been switched on with sharedOptions(): a step is a round of the machine, after which the
 * host may do something else, or stop for good. Without a shell, or room for a file, there is nothing to replay.
 */
export function* replay(machine: Machine, tty: Tty, share: Share): Generator<void, Replayed | Refusal, void> {
  const refusal = storeShared(machine, share);
  if (refusal !== null) return refusal;
  const typist = new Typist(share.commands);
  let pid = 0;
  for (const program of [['sh', '/etc/rc'], ['sh']]) {
    pid = machine.start(program);
    if (pid < 0) return { errno: -pid, code: 0, message: `cannot start /bin/${program[0]}: ${strerror(pid)}` };
    for (let state: RunState = 'busy'; machine.statusOf(pid) === undefined;) {
      const keys = state === 'halted' ? 'done' : typist.after(state, machine.nowNs(), tty.raw);
      if (keys === 'done') return outcome(machine, typist.given, pid);
      if (keys !== null) tty.feed(keys);
      state = machine.run(1);
      yield;
    }
  }
  return outcome(machine, typist.given, pid);
}

function outcome(machine: Machine, given: number, pid: number): Replayed {
  return { digest: machine.stateDigest(), head: machine.auditHead(), given, pid };
}
