// Debian's dash as an oracle: what it does with a script in a fresh directory, without input.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { errorKind } from './sh-scripts.ts';

/** A script and what came of it: its standard output, its status and the kind of its first message. */
export interface Recorded {
  readonly script: string;
  readonly stdout: string;
  readonly status: number;
  readonly error?: string;
}

const command = '/usr/bin/dash';
export const haveDash = existsSync(command);

export class Dash {
  private readonly template = mkdtempSync(path.join(os.tmpdir(), 'sh-'));

  /** `prepare`: commands that make what every script finds in its directory. */
  constructor(prepare: string) {
    spawnSync('bash', ['-c', prepare], { cwd: this.template });
  }

  record(script: string): Recorded {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'sh-'));
    cpSync(this.template, directory, { recursive: true });
    const { stdout, stderr, status, signal } = spawnSync(command, ['-c', script], {
      cwd: directory,
      env: { PATH: '/usr/bin:/bin', HOME: directory, LC_ALL: 'C.UTF-8' },
      encoding: 'utf8',
      input: '',
      timeout: 20_000,
      argv0: 'sh',
    });
    rmSync(directory, { recursive: true, force: true });
    const error = errorKind(stderr);
    return {
      script,
      stdout,
      status: status ?? 128 + os.constants.signals[signal!],
      ...(error === null ? {} : { error }),
    };
  }

  /** Removes its files. */
  close(): void {
    rmSync(this.template, { recursive: true });
  }
}
