// Permission bits as chmod, mkdir and find take them: octal (`755`) or symbolic (`u=rwx,go+rX`), after POSIX's chmod.

/** A change of mode: what it makes of the bits that are there. */
export type ModeChange = (mode: number, isDirectory: boolean) => number;

const WHO: Readonly<Record<string, number>> = { u: 0o4700, g: 0o2070, o: 0o1007, a: 0o7777 };
const RIGHTS: Readonly<Record<string, number>> = { r: 0o444, w: 0o222, x: 0o111, s: 0o6000, t: 0o1000 };

/** Null when `text` is no mode. Without `u`, `g`, `o` or `a` a symbolic change leaves the bits of `umask` alone. */
export function parseMode(text: string, umask: number): ModeChange | null {
  if (/^[0-7]{1,4}$/.test(text)) {
    const bits = parseInt(text, 8);
    // A directory keeps set-user-ID and set-group-ID where three digits say nothing of them.
    return (mode, isDirectory) => (isDirectory && text.length < 4 ? bits | (mode & 0o6000) : bits);
  }
  const changes: ModeChange[] = [];
  for (const clause of text.split(',')) {
    const [, who, actions] = /^([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)$/.exec(clause) ?? [];
    if (who === undefined) return null;
    const whom = [...who].reduce((bits, c) => bits | WHO[c]!, 0) || 0o7777 & ~umask;
    for (const [, operator, what] of actions!.matchAll(/([-+=])([rwxXstugo]*)/g))
      changes.push(symbolic(operator!, what!, whom));
  }
  return (mode, isDirectory) => changes.reduce((bits, change) => change(bits, isDirectory), mode);
}

function symbolic(operator: string, what: string, whom: number): ModeChange {
  return (mode, isDirectory) => {
    const bits = rightsOf(what, mode, isDirectory) & whom;
    if (operator === '+') return mode | bits;
    if (operator === '-') return mode & ~bits;
    // `=` on a directory leaves set-user-ID and set-group-ID unless they are named.
    const kept = isDirectory && !what.includes('s') ? 0o6000 : 0;
    return (mode & ~(whom & ~kept)) | bits;
  };
}

/** The bits that letters stand for, in all three digits; `u`, `g`, `o` copy a digit. */
function rightsOf(what: string, mode: number, isDirectory: boolean): number {
  let bits = 0;
  for (const c of what) {
    if (c === 'X') bits |= isDirectory || (mode & 0o111) !== 0 ? 0o111 : 0;
    else if (c in RIGHTS) bits |= RIGHTS[c]!;
    else bits |= ((mode >> { u: 6, g: 3, o: 0 }[c]!) & 7) * 0o111;
  }
  return bits;
}
