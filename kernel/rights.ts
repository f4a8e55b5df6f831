// Rights: who may load, run and read which models, and who may manage the machine. /etc/llm/rights is an access control list of the kind that
// routers and sshd have: the first line that names the user and the model decides, and no other is asked, as with the three digits of a file's
// mode. What no line is about is refused; the superuser is asked nothing. A file with a mistake is not taken at all: what was in force stays.

import { isRefusal, refuse, shown, type Refusal } from './abi/index.ts';
import type { Names } from './accounts.ts';

export const RIGHTS_FILE = '/etc/llm/rights';

/**
 * load: put a model into the arena, or take it out. run: have it draw or score tokens. read: have the kernel read its file, or read it oneself.
 * manage: change the machine: its processor, disks, scheduler, budgets.
 */
export const RIGHTS = ['load', 'run', 'read', 'manage'] as const;
export type Right = (typeof RIGHTS)[number];

/** Whose rights: an effective user with all of its groups. */
export interface Subject {
  readonly uid: number;
  readonly groups: readonly number[];
}

export interface Rule {
  readonly line: number; // of the file, from 1
  readonly who: string; // as it is written: a user, @group or *
  readonly rights: readonly Right[];
  /** Of paths, or of what is managed: `*` any characters, `?` one. */
  readonly pattern: string;
  readonly fits: (subject: Subject, object: string) => boolean;
}

/** Lines `who rights pattern`, fields between blanks, from # on a comment. Rights: some of RIGHTS between commas, or `none`. The first mistake refuses all. */
export function parseRights(text: string, names: Names): readonly Rule[] | Refusal {
  const rules: Rule[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    const fields = line.replace(/#.*/, '').trim().split(/\s+/);
    if (fields[0] === '') continue;
    const rule = ruleOf(i + 1, fields, names);
    if (typeof rule === 'string') return refuse('INVAL', 7001, `${RIGHTS_FILE}:${i + 1}: ${rule}`);
    rules.push(rule);
  }
  return rules;
}

/** A line's rule, or what is wrong with it. */
function ruleOf(line: number, fields: readonly string[], names: Names): Rule | string {
  const [who = '', words = '', pattern = ''] = fields;
  if (fields.length !== 3) return `${fields.length} fields, not 3: who rights pattern`;
  const rights = words === 'none' ? [] : words.split(',');
  const wrong = rights.find(word => !isRight(word));
  if (wrong !== undefined) return `no right ${shown(wrong)}: ${RIGHTS.join(', ')}, or none`;
  const is = subjectTest(who, names);
  if (typeof is === 'string') return is;
  const object = globOf(pattern);
  return {
    line,
    who,
    rights: rights.filter(isRight),
    pattern,
    fits: (subject, name) => is(subject) && object.test(name),
  };
}

export const isRight = (word: string): word is Right => (RIGHTS as readonly string[]).includes(word);

function subjectTest(who: string, names: Names): ((subject: Subject) => boolean) | string {
  if (who === '*') return () => true;
  if (!who.startsWith('@')) {
    const uid = names.uid(who);
    return uid === null ? `no user ${shown(who)}` : subject => subject.uid === uid;
  }
  const gid = names.gid(who.slice(1));
  return gid === null ? `no group ${shown(who.slice(1))}` : subject => subject.groups.includes(gid);
}

/** The whole of a name. A path's `/` is a character as any other. */
function globOf(pattern: string): RegExp {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*+/g, '.*')
    .replace(/\?/g, '.');
  return new RegExp(`^${source}$`, 's');
}

export class Rights {
  rules: readonly Rule[] = [];

  /** Takes the text of the file; a refusal, and nothing has changed, where it has a mistake. */
  take(text: string, names: Names): Refusal | null {
    const rules = parseRights(text, names);
    if (isRefusal(rules)) return rules;
    this.rules = rules;
    return null;
  }

  /** The rule that decides: null when none is about it. */
  decides(subject: Subject, object: string): Rule | null {
    return this.rules.find(rule => rule.fits(subject, object)) ?? null;
  }

  /** EACCES with the line that decided, or that there was none; null where the right is there. `name`: of the user, for the message. */
  refusal(subject: Subject, name: string, right: Right, object: string): Refusal | null {
    if (subject.uid === 0) return null;
    const rule = this.decides(subject, object);
    if (rule?.rights.includes(right)) return null;
    const why =
      rule === null
        ? `no line of ${RIGHTS_FILE} is about it`
        : `${RIGHTS_FILE}:${rule.line} decides: ${rule.who} ${rule.rights.join(',') || 'none'} ${rule.pattern}`;
    return refuse('ACCES', 0, `user ${name} may not ${right} ${object}: ${why}`);
  }

  /** /proc/rights: the rules in force, a line each: the line of the file, who, rights, pattern. */
  text(): string {
    return this.rules.map(r => `${r.line} ${r.who} ${r.rights.join(',') || 'none'} ${r.pattern}\n`).join('');
  }
}
