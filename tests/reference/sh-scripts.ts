// Shell scripts to compare shells with: a generator of valid scripts from a seed, over the parts of the language that scripts use daily,
// and the kinds of messages, which two shells word differently.

import { random } from './random.ts';

const kinds: readonly (readonly [kind: string, says: RegExp])[] = [
  ['syntax', /syntax error|unterminated|unexpected end of file|bad for loop variable|bad function name/i],
  ['substitution', /bad substitution/i],
  ['unset', /parameter not set/i],
  ['arithmetic', /arithmetic expression|division by zero/i],
  ['number', /illegal number|expected (?:a )?numeric value|numeric constant/i],
  ['readonly', /read only/i],
  ['name', /bad variable name/i],
  ['option', /illegal option|usage|invalid directive|invalid conversion/i],
  ['descriptor', /bad file descriptor|bad fd number/i],
  ['file', /cannot (?:open|create)|no such file|directory nonexistent|is a directory|file exists|can't cd/i],
  ['permission', /permission denied/i],
  ['missing', /not found/i],
];

/** What the first message of a shell is about: null without one, `other` for what no rule knows. Traces and the ends of jobs are none. */
export function errorKind(stderr: string): string | null {
  const line = stderr
    .split('\n')
    .find(l => l !== '' && !l.startsWith('+ ') && !/^(?:Terminated|Killed|Hangup)\s*$/.test(l));
  if (line === undefined) return null;
  return kinds.find(([, says]) => says.test(line))?.[0] ?? 'other';
}

/** `count` different scripts. */
export function generateScripts(seed: number, count: number): string[] {
  const scripts = new Set<string>();
  for (let i = 0; scripts.size < count; i++) scripts.add(new Writer(random(seed + i)).script());
  return [...scripts];
}

const values = [
  '',
  'a',
  'b c',
  '  x  y ',
  'a.b.c',
  '/usr/lib/x.so',
  '*',
  'a:b:c',
  '7',
  '-3',
  '0',
  'x=y',
  '[ab]',
  "it's",
];
const patterns = ['*', '?', 'a*', '*.c', '*/', '[a-c]*', '[!x]', '*b*', '??', '"*"', '.*', '*:'];
const operators = ['+', '-', '*', '/', '%', '<', '<=', '==', '!=', '&&', '||', '&', '|', '^', '<<', '>>'];
const names = ['a', 'b', 'c', 'd1'];

class Writer {
  private depth = 0;
  private functions = 0;
  private readonly draw: () => number;

  constructor(draw: () => number) {
    this.draw = draw;
  }

  script(): string {
    const lines = names.slice(0, 3).map(name => `${name}=${this.quoted(this.pick(values))}`);
    const count = 1 + this.below(5);
    for (let i = 0; i < count; i++) lines.push(this.statement());
    lines.push('echo "$? $a|$b|$c"');
    return lines.join('\n');
  }

  private below(n: number): number {
    return Math.floor(this.draw() * n);
  }
  private pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
  private quoted(text: string): string {
    return `'${text.replaceAll("'", "'\\''")}'`;
  }

  private statement(): string {
    if (this.depth > 2) return this.simple();
    this.depth++;
    const text = this.pick(this.forms)();
    this.depth--;
    return text;
  }

  private readonly forms: readonly (() => string)[] = [
    () => this.simple(),
    () => this.simple(),
    () => this.simple(),
    () => `if ${this.condition()}; then ${this.statement()}; else ${this.statement()}; fi`,
    () => `if ${this.condition()}; then ${this.statement()}; elif ${this.condition()}; then ${this.statement()}; fi`,
    () => `for i in ${this.word()} ${this.word()}; do ${this.statement()}; ${this.leave()}done`,
    () =>
      this.counted(
        n => `while [ $${n} -lt ${this.below(4)} ]; do ${n}=$((${n}+1)); ${this.statement()}; ${this.leave()}done`,
      ),
    () => this.counted(n => `until [ $((${n}+=1)) -gt ${1 + this.below(3)} ]; do ${this.statement()}; done`),
    () =>
      `case ${this.word()} in ${this.pattern()}) ${this.simple()};; ${this.pattern()}|${this.pattern()}) ${this.simple()};; esac`,
    () => `( ${this.statement()}; ${this.simple()} )`,
    () => `{ ${this.statement()}; } | cat`,
    () => `{ ${this.statement()}; ${this.simple()}; } | while read x y; do echo "[$x][$y]"; done`,
    () => this.functionCall(),
    () => `${this.condition()} && ${this.simple()} || ${this.simple()}`,
    () => `! ${this.condition()}; echo $?`,
    () => `{ ${this.statement()}; } > out${this.depth}; cat out${this.depth}`,
    () => `eval ${this.quoted(this.simple())}`,
    () => `x=$( ${this.statement()} ); echo "[$x]"`,
    () => `set -- ${this.word()} ${this.word()}; echo $# "$1" "$*"`,
    () =>
      `IFS=${this.pick([':', "' '", '.', '" :"'])}; set -- ${this.expansion()}; echo $#; printf '<%s>' "$@"; unset IFS; echo`,
    () => `cat <<END\n${this.hereText()}\nEND\n:`,
    () => `set -e; ${this.condition()} || true; set +e`,
  ];

  /** A loop with a counter of its own: it ends whatever is inside. */
  private counted(loop: (counter: string) => string): string {
    const counter = `n${this.depth}`;
    return `${counter}=0; ${loop(counter)}`;
  }

  private leave(): string {
    return this.below(3) === 0 ? `${this.condition()} && ${this.pick(['break', 'continue'])}; ` : '';
  }

  private functionCall(): string {
    const name = `f${this.functions++}`;
    const ending = this.pick(['', '; return 3', '; false', '; return']);
    const local = this.pick(['', 'local a=inner; ', 'local b; ', 'shift; ']);
    return `${name}() { ${local}echo "$#:$1"; ${this.simple()}${ending}; }; ${name} ${this.word()} ${this.word()}; echo $?`;
  }

  private simple(): string {
    const name = this.pick(names);
    return this.pick([
      () => `echo ${this.word()} ${this.word()}`,
      () => `printf '<%s>\\n' ${this.word()} ${this.word()}`,
      () => `${name}=${this.word()}`,
      () => `${name}=$((${this.arithmetic(2)}))`,
      () => `echo $((${this.arithmetic(3)}))`,
      () => `echo "${this.inDouble()}"`,
      () => `${name}=${this.word()} ; echo "$${name}"`,
      () => `unset ${name}`,
      () => `test ${this.quotedWord()} = ${this.quotedWord()}; echo $?`,
      () => `echo ${this.word()} | cat`,
      () => `false`,
      () => `: $(( ${name} = ${this.below(9)} ))`,
    ])();
  }

  private condition(): string {
    return this.pick([
      () => 'true',
      () => 'false',
      () => `[ ${this.quotedWord()} = ${this.quotedWord()} ]`,
      () => `[ -n ${this.quotedWord()} ]`,
      () => `[ ${this.below(5)} -${this.pick(['lt', 'eq', 'ge', 'ne'])} ${this.below(5)} ]`,
      () => `case ${this.word()} in ${this.pattern()}) true;; *) false;; esac`,
      () => `test -${this.pick(['e', 'f', 'd'])} ${this.pick(['a.txt', 'd', 'none'])}`,
      () => `(exit ${this.below(3)})`,
    ])();
  }

  private word(): string {
    return this.pick([
      () => this.pick(['x', 'a1', 'b-c', '"q r"', "'s t'", 'e\\ f']),
      () => this.expansion(),
      () => `"${this.inDouble()}"`,
      () => this.expansion() + this.pick(['', 'z', '"-"', this.expansion()]),
      () => `$(echo ${this.expansion()})`,
      () => `"$(echo "${this.expansion()}")"`,
      () => `$((${this.arithmetic(2)}))`,
      () => this.pick(['*.txt', 'd/*', '[ab].txt', 'no*', '"*"']),
    ])();
  }

  private quotedWord(): string {
    return this.below(2) === 0 ? `"${this.inDouble()}"` : this.quoted(this.pick(values));
  }

  private inDouble(): string {
    return this.pick([
      () => `${this.expansion()} ${this.expansion()}`,
      () => `x${this.expansion()}y`,
      () => `\\$ \\" ${this.expansion()}`,
      () => `$(echo ${this.expansion()})`,
      () => this.pick(['', 'plain', "it's", '$# $?']),
    ])();
  }

  private expansion(): string {
    const name = this.pick(names);
    return this.pick([
      () => `$${name}`,
      () => `\${${name}}`,
      () => `\${#${name}}`,
      () =>
        `\${${name}${this.pick([':-', '-', ':+', '+', ':=', '='])}${this.pick(['def', 'x y', '', '"q w"', '$a', '${b}'])}}`,
      () => `\${${name}${this.pick(['#', '##', '%', '%%'])}${this.pattern()}}`,
      () => '$#',
      () => '$?',
    ])();
  }

  private pattern(): string {
    return this.pick([
      () => this.pick(patterns),
      () => `"$${this.pick(names)}"`,
      () => this.pick(['x', 'a', '7', 'b*']),
    ])();
  }

  private arithmetic(depth: number): string {
    const leaf = (): string => this.pick([String(this.below(20)), `${1 + this.below(9)}`, '0x1f', '017']);
    if (depth === 0) return leaf();
    return this.pick([
      () => leaf(),
      () => `${this.arithmetic(depth - 1)} ${this.pick(operators)} ${this.arithmetic(depth - 1)}`,
      () => `(${this.arithmetic(depth - 1)})`,
      () => `${this.pick(['-', '!', '~', '+'])}${this.arithmetic(0)}`,
      () => `${this.arithmetic(0)} ? ${this.arithmetic(depth - 1)} : ${this.arithmetic(depth - 1)}`,
    ])();
  }

  private hereText(): string {
    return this.pick([
      () => `${this.expansion()} text ${this.expansion()}`,
      () => `\\$a "${this.expansion()}" '${this.expansion()}'`,
      () => `$(echo ${this.expansion()}) $((${this.arithmetic(1)}))`,
    ])();
  }
}
