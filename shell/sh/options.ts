// The shell's options: what `set -e`, `set -o errexit` and their kin switch.

/** Letters with their long names, as `set -o` lists them; `$-` shows them the other way round. */
const names: Readonly<Record<string, string>> = {
  e: 'errexit',
  f: 'noglob',
  I: 'ignoreeof',
  i: 'interactive',
  m: 'monitor',
  n: 'noexec',
  s: 'stdin',
  x: 'xtrace',
  v: 'verbose',
  V: 'vi',
  E: 'emacs',
  C: 'noclobber',
  a: 'allexport',
  b: 'notify',
  u: 'nounset',
};

export class Options {
  private readonly on: Set<string>;

  constructor(from?: Options) {
    this.on = new Set(from?.on);
    this.on.delete('i');
  }

  has(letter: string): boolean {
    return this.on.has(letter);
  }

  /** By letter or long name; false when there is no such option. */
  set(option: string, on: boolean): boolean {
    const letter = option in names ? option : Object.keys(names).find(l => names[l] === option);
    if (letter === undefined) return false;
    if (on) this.on.add(letter);
    else this.on.delete(letter);
    return true;
  }

  /** `$-`. */
  letters(): string {
    return Object.keys(names)
      .reverse()
      .filter(letter => this.on.has(letter))
      .join('');
  }

  /** What `set -o` (a table) and `set +o` (commands that make it so again) print. */
  listing(asCommands: boolean): string {
    const lines = Object.entries(names).map(([letter, name]) => {
      const on = this.on.has(letter);
      return asCommands ? `set ${on ? '-' : '+'}o ${name}\n` : `${name.padEnd(16)}${on ? 'on' : 'off'}\n`;
    });
    return (asCommands ? '' : 'Current option settings\n') + lines.join('');
  }
}
