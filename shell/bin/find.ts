// find: walks trees and tests what is there. The expression is parsed once into a tree of tests and actions (not, and, or, in that order
// of binding, as POSIX has it) and asked about every path, directories before what is in them.

import { KIND, LIMITS, utf8Length } from '../../kernel/abi/index.ts';
import { readAccounts, type Accounts } from '../lib/accounts.ts';
import { runCommand } from '../lib/exec.ts';
import { basename, join, listDirectory, lstat, readlink, stat } from '../lib/files.ts';
import type { FileStat } from '../lib/files.ts';
import { compilePattern, matches } from '../lib/glob.ts';
import { parseMode } from '../lib/mode.ts';
import { define } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';

/** A path under examination. */
interface Found {
  readonly path: string;
  readonly stat: FileStat;
  readonly depth: number;
}
/** A test or an action: true, false, and what it does on the way. */
type Term = (found: Found) => Generator<void, boolean, void>;

/** What holds for the whole walk. */
interface Walk {
  readonly ctx: Find;
  status: number;
  depthMin: number;
  depthMax: number;
  contentsFirst: boolean; // -depth, which -delete implies
  acts: boolean; // an action is named: -print is not implied
  pruned: boolean; // the directory in hand is not to be entered
  over: boolean; // -quit
  /** -exec … + : commands and the paths they have gathered. */
  readonly batches: { readonly argv: readonly string[]; paths: string[]; bytes: number }[];
}
type Find = Pick<Context, 'sys' | 'env' | 'out' | 'fail' | 'argv'>;

export const find = define({
  name: 'find',
  summary: 'search for files in directories',
  usage: ['[PATH]... [EXPRESSION]'],
  order: 'none',
  description:
    'Walks each PATH (. when there is none) and evaluates EXPRESSION for everything in it; without an action it prints what EXPRESSION holds for.\n' +
    'Tests: -name -iname -path PATTERN, -type [fdlcbp], -size [+-]N[cwbkMG], -empty, -perm [-/]MODE, -user -group NAME, -uid -gid -links -inum [+-]N, -newer -samefile FILE, -lname PATTERN, -readable -writable -executable, -true -false.\n' +
    'Actions: -print -print0 -delete -prune -quit, -exec COMMAND {} ; and -exec COMMAND {} +.\n' +
    'Operators: ( ) ! -not -a -and -o -or. Everywhere: -maxdepth N, -mindepth N, -depth.',
  examples: [
    ["find /models -name '*.gguf' -size +1M", 'models larger than a mebibyte'],
    ['find /tmp -type f -empty -delete', 'removes empty files'],
    ["find / -name '*.md' -exec wc -l {} +", 'counts lines of all manual topics'],
  ],
  *main(ctx) {
    const args = ctx.operands;
    const paths = args.slice(0, Math.max(0, firstOfExpression(args)));
    const walk: Walk = {
      ctx,
      status: 0,
      depthMin: 0,
      depthMax: Infinity,
      contentsFirst: false,
      acts: false,
      pruned: false,
      over: false,
      batches: [],
    };
    const parser = new Expression(walk, args.slice(paths.length), yield* readAccounts(ctx.sys));
    const expression = yield* parser.whole();
    if (parser.fault !== null) return yield* ctx.fail(parser.fault);
    for (const path of paths.length > 0 ? paths : ['.']) {
      if (walk.over) break;
      const st = yield* lstat(ctx.sys, path);
      if (typeof st === 'number') walk.status = yield* ctx.fail(`'${path}'`, -st);
      else yield* visit(walk, expression, { path, stat: st, depth: 0 });
    }
    for (const batch of walk.batches) yield* runBatch(walk, batch);
    return walk.status;
  },
});

/** Where the paths end: at the first word that begins with `-`, or is `(` or `!`. */
function firstOfExpression(args: readonly string[]): number {
  const at = args.findIndex(arg => (arg.startsWith('-') && arg !== '-') || arg === '(' || arg === '!');
  return at < 0 ? args.length : at;
}

function* visit(walk: Walk, expression: Term, found: Found): Generator<void, void, void> {
  const { ctx } = walk;
  const inRange = found.depth >= walk.depthMin;
  walk.pruned = false;
  if (inRange && !walk.contentsFirst) yield* expression(found);
  const enters = found.stat.kind === KIND.dir && found.depth < walk.depthMax && !walk.pruned;
  const entries = enters && !walk.over ? yield* listDirectory(ctx.sys, found.path) : [];
  if (typeof entries === 'number') walk.status = yield* ctx.fail(`'${found.path}'`, -entries);
  else
    for (const { name } of entries) {
      if (walk.over) return;
      const path = join(found.path, name);
      const st = yield* lstat(ctx.sys, path);
      if (typeof st === 'number') walk.status = yield* ctx.fail(`'${path}'`, -st);
      else yield* visit(walk, expression, { path, stat: st, depth: found.depth + 1 });
    }
  if (inRange && walk.contentsFirst && !walk.over) yield* expression(found);
}

/** Paths of one command: what the arguments of a process can hold, less room for the environment. */
const BATCH_BYTES = LIMITS.argBytes / 2;
const BATCH_PATHS = LIMITS.argsMax / 2;

function* runBatch(walk: Walk, batch: Walk['batches'][number]): Generator<void, void, void> {
  const { paths } = batch;
  batch.paths = [];
  batch.bytes = 0;
  if (paths.length > 0 && (yield* runCommand(walk.ctx, [...batch.argv, ...paths])) !== 0) walk.status = 1;
}

const KINDS: Readonly<Record<string, number>> = {
  f: KIND.file,
  d: KIND.dir,
  l: KIND.link,
  c: KIND.char,
  b: KIND.block,
  p: KIND.fifo,
};
/** Bytes of the units of -size; without one it counts blocks of 512. */
const UNITS: Readonly<Record<string, number>> = { c: 1, w: 2, b: 512, k: 1024, M: 1 << 20, G: 1 << 30 };

/** A test without anything to do on the way. */
const plain = (holds: (found: Found) => boolean): Term =>
  function* (found) {
    return holds(found);
  };

/** Recursive descent over the words of the expression. The first fault is kept; what is parsed after it is not used. */
class Expression {
  fault: string | null = null;
  private at = 0;
  private readonly walk: Walk;
  private readonly words: readonly string[];
  private readonly accounts: Accounts;

  constructor(walk: Walk, words: readonly string[], accounts: Accounts) {
    this.walk = walk;
    this.words = words;
    this.accounts = accounts;
  }

  *whole(): Generator<void, Term, void> {
    const term = this.words.length === 0 ? plain(() => true) : yield* this.or();
    if (this.at < this.words.length) this.refuse(`invalid expression; '${this.words[this.at]}' was not expected`);
    if (this.walk.acts) return term;
    const { out } = this.walk.ctx;
    return function* (found) {
      if (!(yield* term(found))) return false;
      yield* out.print(`${found.path}\n`);
      return true;
    };
  }

  private refuse(message: string): Term {
    this.fault ??= message;
    this.at = this.words.length;
    return plain(() => false);
  }
  private take(...wanted: readonly string[]): boolean {
    if (!wanted.includes(this.words[this.at] ?? '')) return false;
    this.at++;
    return true;
  }

  private *or(): Generator<void, Term, void> {
    let left = yield* this.and();
    while (this.take('-o', '-or')) {
      const [a, b] = [left, yield* this.and()];
      left = function* (found) {
        return (yield* a(found)) || (yield* b(found));
      };
    }
    return left;
  }

  private *and(): Generator<void, Term, void> {
    let left = yield* this.not();
    for (;;) {
      const explicit = this.take('-a', '-and');
      const next = this.words[this.at];
      if (!explicit && (next === undefined || next === ')' || next === '-o' || next === '-or')) return left;
      const [a, b] = [left, yield* this.not()];
      left = function* (found) {
        return (yield* a(found)) && (yield* b(found));
      };
    }
  }

  private *not(): Generator<void, Term, void> {
    if (this.take('!', '-not')) {
      const term = yield* this.not();
      return function* (found) {
        return !(yield* term(found));
      };
    }
    if (this.take('(')) {
      const term = yield* this.or();
      return this.take(')') ? term : this.refuse("invalid expression; expected to find a ')'");
    }
    const word = this.words[this.at++];
    if (word === undefined) return this.refuse('invalid expression; something is missing at its end');
    return this.action(word) ?? (yield* this.test(word));
  }

  private operand(word: string): string {
    const text = this.words[this.at++];
    if (text === undefined) this.refuse(`missing argument to '${word}'`);
    return text ?? '';
  }

  /** `+N`, `-N` or `N` as a comparison. */
  private number(word: string, text: string): (n: number) => boolean {
    const [, sign, digits] = /^([-+]?)([0-9]+)$/.exec(text) ?? [];
    if (digits === undefined) this.refuse(`invalid argument '${text}' to '${word}'`);
    const wanted = Number(digits);
    return n => (sign === '+' ? n > wanted : sign === '-' ? n < wanted : n === wanted);
  }

  private action(word: string): Term | null {
    const { walk } = this;
    const { out, sys, fail } = walk.ctx;
    switch (word) {
      case '-print':
      case '-print0':
        walk.acts = true;
        return function* ({ path }) {
          yield* out.print(path + (word === '-print' ? '\n' : '\0'));
          return true;
        };
      case '-prune':
        return plain(() => (walk.pruned = true));
      case '-quit':
        walk.acts = true;
        return plain(() => (walk.over = true));
      case '-delete':
        walk.acts = walk.contentsFirst = true;
        return function* ({ path, stat: st }) {
          const errno = yield* st.kind === KIND.dir ? sys.rmdir(path) : sys.unlink(path);
          if (errno < 0) walk.status = yield* fail(`cannot delete '${path}'`, -errno);
          return errno >= 0;
        };
      case '-exec':
        return this.exec();
      case '-depth':
        walk.contentsFirst = true;
        return plain(() => true);
      case '-maxdepth':
      case '-mindepth': {
        const text = this.operand(word);
        if (!/^[0-9]+$/.test(text))
          return this.refuse(`expected a positive decimal integer argument to ${word}, but got '${text}'`);
        walk[word === '-maxdepth' ? 'depthMax' : 'depthMin'] = Number(text);
        return plain(() => true);
      }
      default:
        return null;
    }
  }

  private exec(): Term {
    const { walk } = this;
    const end = this.words.findIndex(
      (w, i) => i >= this.at && (w === ';' || (w === '+' && this.words[i - 1] === '{}')),
    );
    if (end <= this.at) return this.refuse("missing argument to '-exec'");
    const argv = this.words.slice(this.at, end);
    const gathers = this.words[end] === '+';
    this.at = end + 1;
    walk.acts = true;
    if (!gathers)
      return function* ({ path }) {
        return (
          (yield* runCommand(
            walk.ctx,
            argv.map(w => w.replaceAll('{}', path)),
          )) === 0
        );
      };
    const batch = { argv: argv.slice(0, -1), paths: [] as string[], bytes: 0 };
    walk.batches.push(batch);
    return function* ({ path }) {
      batch.paths.push(path);
      batch.bytes += 1 + utf8Length(path);
      if (batch.bytes > BATCH_BYTES - LIMITS.pathBytes || batch.paths.length >= BATCH_PATHS)
        yield* runBatch(walk, batch);
      return true;
    };
  }

  private *test(word: string): Generator<void, Term, void> {
    switch (word) {
      case '-true':
        return plain(() => true);
      case '-false':
        return plain(() => false);
      case '-name':
      case '-iname':
      case '-path':
      case '-lname':
        return this.pattern(word, this.operand(word));
      case '-type': {
        const letters = this.operand(word).split(',');
        if (letters.some(c => KINDS[c] === undefined))
          return this.refuse(`unknown argument to -type: ${letters.join(',')}`);
        return plain(({ stat: st }) => letters.some(c => KINDS[c] === st.kind));
      }
      case '-size':
        return this.size(this.operand(word));
      case '-perm':
        return this.permissions(this.operand(word));
      case '-uid':
      case '-gid':
      case '-links':
      case '-inum': {
        const field = { '-uid': 'uid', '-gid': 'gid', '-links': 'links', '-inum': 'inode' } as const;
        const holds = this.number(word, this.operand(word));
        return plain(({ stat: st }) => holds(st[field[word]]));
      }
      case '-user':
      case '-group': {
        const text = this.operand(word);
        const id = word === '-user' ? this.accounts.uid(text) : this.accounts.gid(text);
        if (id === null) return this.refuse(`'${text}' is not the name of a known ${word.slice(1)}`);
        return plain(({ stat: st }) => (word === '-user' ? st.uid : st.gid) === id);
      }
      case '-newer':
      case '-samefile':
        return yield* this.compare(word, this.operand(word));
      case '-empty':
        return this.empty();
      case '-readable':
      case '-writable':
      case '-executable': {
        const mask = { '-readable': 4, '-writable': 2, '-executable': 1 }[word];
        const { sys } = this.walk.ctx;
        return function* ({ path }) {
          return (yield* sys.access(path, mask)) === 0;
        };
      }
      default:
        return this.refuse(`unknown predicate '${word}'`);
    }
  }

  private pattern(word: string, text: string): Term {
    const fold = (s: string): string => (word === '-iname' ? s.toLowerCase() : s);
    const pattern = compilePattern(fold(text));
    if (word === '-path') return plain(({ path }) => matches(pattern, path));
    if (word !== '-lname') return plain(({ path }) => matches(pattern, fold(basename(path))));
    const { sys } = this.walk.ctx;
    return function* ({ path }) {
      const target = yield* readlink(sys, path);
      return typeof target === 'string' && matches(pattern, target);
    };
  }

  /** Sizes are rounded up to whole units. */
  private size(text: string): Term {
    const [, count, unit = 'b'] = /^([-+]?[0-9]+)([cwbkMG]?)$/.exec(text) ?? [];
    if (count === undefined) return this.refuse(`invalid argument '${text}' to '-size'`);
    const holds = this.number('-size', count);
    const bytes = UNITS[unit === '' ? 'b' : unit]!;
    return plain(({ stat: st }) => holds(Math.ceil(st.size / bytes)));
  }

  /** `MODE` exactly, `-MODE` all of its bits, `/MODE` any. */
  private permissions(text: string): Term {
    const how = text.startsWith('-') || text.startsWith('/') ? text[0] : '';
    const bits = parseMode(text.slice(how!.length), 0)?.(0, false);
    if (bits === undefined) return this.refuse(`invalid mode '${text}'`);
    return plain(({ stat: { mode } }) => {
      if (how === '-') return (mode & bits) === bits;
      return how === '/' ? bits === 0 || (mode & bits) !== 0 : mode === bits;
    });
  }

  private *compare(word: string, file: string): Generator<void, Term, void> {
    const other = yield* stat(this.walk.ctx.sys, file);
    if (typeof other === 'number') {
      yield* this.walk.ctx.fail(`'${file}'`, -other);
      return this.refuse(`cannot compare with '${file}'`);
    }
    if (word === '-newer') return plain(({ stat: st }) => st.modifiedNs > other.modifiedNs);
    return plain(({ stat: st }) => st.inode === other.inode && st.device === other.device);
  }

  private empty(): Term {
    const { sys } = this.walk.ctx;
    return function* ({ path, stat: st }) {
      if (st.kind === KIND.file) return st.size === 0;
      if (st.kind !== KIND.dir) return false;
      const entries = yield* listDirectory(sys, path);
      return typeof entries !== 'number' && entries.length === 0;
    };
  }
}
