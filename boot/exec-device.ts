// /dev/exec, /dev/exec-out, /dev/exec-err: the library's line into the machine. A shell started with --serve reads one command at a time
// from the first, writes to the other two, and reports each status by ioctl; its state (directory, variables) lasts between commands.

import { BLOCKED, E, IOCTL, utf8Decode, utf8Encode, type CharDevice } from '../kernel/abi/index.ts';

export interface ExecResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The exact bytes of stdout. */
  readonly stdoutBytes: Uint8Array;
}

export class ExecDevice {
  /** What the shell has yet to read; a read that is not full is the last of a command. */
  private command: Uint8Array | null = null;
  /** Nobody waits at a device that no host uses. */
  private used = false;
  /** Status of the command that ended last; null while one runs. */
  private status: number | null = 0;
  private out: Uint8Array[] = [];
  private err: Uint8Array[] = [];

  readonly input: CharDevice = {
    read: (memory, at, length) => {
      if (this.command === null) return this.used ? BLOCKED : 0;
      const piece = this.command.subarray(0, length);
      memory.set(piece, at);
      this.command = piece.length < length ? null : this.command.subarray(length);
      return piece.length;
    },
    write: () => -E.INVAL,
    ioctl: (command, argument) => {
      if (command !== IOCTL.execDone) return -E.NOTTY;
      this.status = argument;
      return 0;
    },
  };
  readonly output: CharDevice = sinkDevice(bytes => this.out.push(bytes));
  readonly errors: CharDevice = sinkDevice(bytes => this.err.push(bytes));

  submit(command: string): void {
    this.used = true;
    this.command = utf8Encode(command);
    this.status = null;
    this.out = [];
    this.err = [];
  }

  get running(): boolean {
    return this.status === null;
  }

  result(status = this.status ?? 1): ExecResult {
    const stdoutBytes = join(this.out);
    return {
      status,
      stdoutBytes,
      stdout: utf8Decode(stdoutBytes),
      stderr: utf8Decode(join(this.err)),
    };
  }
}

function sinkDevice(sink: (bytes: Uint8Array) => void): CharDevice {
  return {
    read: () => 0,
    write: (memory, at, length) => {
      sink(memory.slice(at, at + length));
      return length;
    },
  };
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}
