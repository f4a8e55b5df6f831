// read: a line from standard input into variables. Bytes are read one at a time, so that nothing after the line is taken from a pipe.

import { E, LIMITS, utf8Decode } from '../../kernel/abi/index.ts';
import type { Builtin } from './builtins.ts';
import type { Shell } from './exec.ts';

/** A character of the line; one that a backslash made ordinary never separates. */
interface Character {
  readonly text: string;
  readonly ordinary: boolean;
}

export const readBuiltin: Builtin = {
  name: 'read',
  summary: 'read a line into variables',
  usage: ['[-r] [-p PROMPT] NAME...'],
  description:
    'Reads a line from standard input and splits it by IFS; the last NAME takes the rest. A backslash joins lines and makes the next character ordinary, unless -r. -p: prints PROMPT first. Returns 1 at the end of input.',
  *run(shell, argv) {
    let i = 1;
    let raw = false;
    for (; /^-./.test(argv[i] ?? ''); i++) {
      if (argv[i] === '-p') yield* shell.say(argv[++i] ?? '');
      else if (argv[i] === '-r') raw = true;
      else if (argv[i] !== '--') return yield* shell.fail(`read: Illegal option ${argv[i]}`, 2);
    }
    const names = argv.slice(i);
    if (names.length === 0) return yield* shell.fail('read: arg count', 2);
    const bad = names.find(name => !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name));
    if (bad !== undefined) return yield* shell.fail(`read: ${bad}: bad variable name`, 2);
    const { line, ended } = yield* readLine(shell, raw);
    for (const [name, value] of splitLine(line, names, shell.get('IFS') ?? ' \t\n')) {
      const refusal = shell.assign(name, value);
      if (refusal !== null) return yield* shell.fail(refusal, 2);
    }
    return ended ? 1 : 0;
  },
};

/** One line, of at most LIMITS.lineBytes read, zeros and backslashes counted. `ended`: the input ended before its newline. */
function* readLine(shell: Shell, raw: boolean): Generator<void, { line: Character[]; ended: boolean }, void> {
  const byte = new Uint8Array(1);
  const bytes: number[] = [];
  const ordinary = new Set<number>(); // positions of bytes after a backslash
  let escaped = false;
  let ended = false;
  for (let taken = 0; taken < LIMITS.lineBytes;) {
    const n = yield* shell.sys.read(shell.fds[0] ?? -1, byte);
    if (n === -E.INTR && !shell.interrupted) {
      yield* shell.noteSignals();
      if (!shell.interrupted && !shell.traps.pending) continue;
    }
    if (n <= 0) {
      ended = true;
      break;
    }
    taken++;
    const c = byte[0]!;
    if (c === 0) continue;
    if (escaped) {
      escaped = false;
      if (c === 10) continue; // the lines are joined
      ordinary.add(bytes.length);
    } else if (c === 92 && !raw) {
      escaped = true;
      continue;
    } else if (c === 10) break;
    bytes.push(c);
  }
  const line: Character[] = [];
  for (let at = 0; at < bytes.length;) {
    let end = at + 1;
    while (end < bytes.length && (bytes[end]! & 0xc0) === 0x80) end++;
    line.push({ text: utf8Decode(Uint8Array.from(bytes.slice(at, end))), ordinary: ordinary.has(at) });
    at = end;
  }
  return { line, ended };
}

/** Splits a line by IFS: the last name takes what is left, without white space around it and a single separator at its end. */
function splitLine(line: readonly Character[], names: readonly string[], ifs: string): [name: string, value: string][] {
  const separates = (c: Character | undefined): boolean => c !== undefined && !c.ordinary && ifs.includes(c.text);
  const isBlank = (c: Character | undefined): boolean => separates(c) && ' \t\n'.includes(c!.text);
  const text = (from: number, to: number): string =>
    line
      .slice(from, to)
      .map(c => c.text)
      .join('');
  let at = 0;
  const skipBlanks = (): void => {
    while (isBlank(line[at])) at++;
  };
  /** The field at `at`, and past what ends it. */
  const field = (): string => {
    const from = at;
    while (at < line.length && !separates(line[at])) at++;
    const value = text(from, at);
    skipBlanks();
    if (at < line.length && separates(line[at])) at++;
    skipBlanks();
    return value;
  };
  skipBlanks();
  return names.map((name, i): [string, string] => {
    if (i < names.length - 1) return [name, field()];
    const from = at;
    const only = field();
    if (at === line.length) return [name, only];
    let end = line.length;
    while (end > from && isBlank(line[end - 1])) end--;
    return [name, text(from, end)];
  });
}
