// `llmctl audit`: what can be done with the audit log from within the machine, a verb each. Those that only read (list, show, diff, head, verify)
// take any log and are the host's too (boot/audit-word.ts); the others talk to the kernel through the files of /audit.

import { content, disclose, witness } from './audit-control.ts';
import { exportLog } from './audit-export.ts';
import type { Run } from './audit-face.ts';
import { listRecords } from './audit-list.ts';
import { AUDIT_DIRECTORY, auditVerbOptions, machineTarget, withLog } from './audit-machine.ts';
import type { AuditContext } from './audit-machine.ts';
import { prove } from './audit-prove.ts';
import { replay } from './audit-replay.ts';
import { diffRecords, showHead, showRecord } from './audit-show.ts';
import { verifyWhole } from './audit-verify.ts';
import { REPLAY_SHARED, replayOptions } from './replay-options.ts';
import { runVerb } from './verbs.ts';

type OptionName = Exclude<keyof AuditContext['options'], 'json'>;

/** The options of all verbs together, beside --json. */
export const auditTakes = [
  ...(Object.keys(auditVerbOptions) as (keyof typeof auditVerbOptions)[]),
  ...REPLAY_SHARED,
  'model',
] as const;

interface Verb {
  readonly usage: string;
  /** Options it takes, beside --json. */
  readonly takes: readonly OptionName[];
  readonly operands: readonly [least: number, most: number];
  run(ctx: AuditContext, operands: readonly string[]): Run;
}

/** The log that the options name. */
const logOf = (ctx: AuditContext): string => ctx.options.log ?? AUDIT_DIRECTORY;

export const auditVerbs: Readonly<Record<string, Verb>> = {
  list: {
    usage:
      '[--user U] [--session ID] [--model M] [--status WORDS] [--op WORDS] [--since T] [--until T] [--last N] [--log DIR]',
    takes: ['user', 'session', 'model', 'status', 'op', 'since', 'until', 'last', 'log'],
    operands: [0, 0],
    run: ctx => withLog(ctx, logOf(ctx), listRecords),
  },
  show: {
    usage: 'N [--log DIR]',
    takes: ['log'],
    operands: [1, 1],
    run: (ctx, words) => withLog(ctx, logOf(ctx), (face, log) => showRecord(face, log, words)),
  },
  diff: {
    usage: 'N N [--log DIR]',
    takes: ['log'],
    operands: [2, 2],
    run: (ctx, words) => withLog(ctx, logOf(ctx), (face, log) => diffRecords(face, log, words)),
  },
  head: { usage: '[--log DIR]', takes: ['log'], operands: [0, 0], run: ctx => withLog(ctx, logOf(ctx), showHead) },
  prove: {
    usage: 'N [--key VKEY] [--log DIR]',
    takes: ['key', 'log'],
    operands: [1, 1],
    run: (ctx, words) => withLog(ctx, logOf(ctx), (face, log, files) => prove(face, log, files, words)),
  },
  export: {
    usage: 'DIR',
    takes: [],
    operands: [1, 1],
    run: (ctx, [directory = '']) =>
      withLog(ctx, AUDIT_DIRECTORY, (face, log, files) =>
        exportLog(face, log, files, machineTarget(ctx.sys, directory)),
      ),
  },
  verify: {
    usage: 'DIR [--key VKEY] [--seen FILE]... [--witness VKEY]...',
    takes: ['key', 'seen', 'witness'],
    operands: [1, 1],
    run: (ctx, [directory = '']) => withLog(ctx, directory, verifyWhole),
  },
  witness: { usage: '[list|trust KEY|request [SIZE]|cosign LINE]', takes: [], operands: [0, 4], run: witness },
  content: { usage: '[on KEY|off|status]', takes: [], operands: [0, 2], run: content },
  replay: {
    usage:
      'N|--all [--prompt TEXT|--file FILE|--ids FILE] [--stop S]... [--salt HEX] [--identity FILE] [--disclosed FILE] [--log DIR]',
    takes: [...REPLAY_SHARED, ...(Object.keys(replayOptions) as (keyof typeof replayOptions)[])],
    operands: [0, 1],
    run: replay,
  },
  disclose: { usage: 'N', takes: [], operands: [1, 1], run: disclose },
};

/** All forms, as llmctl's usage has them. */
export const auditUsage = `[${Object.entries(auditVerbs)
  .map(([name, { usage }]) => `${name} ${usage}`.trimEnd())
  .join('|')}]`;

export function* audit(ctx: AuditContext, [name = 'list', ...operands]: readonly string[]): Run {
  const verb = Object.hasOwn(auditVerbs, name) ? auditVerbs[name]! : null;
  if (verb === null) return yield* ctx.usage(`audit: unknown verb '${name}': ${Object.keys(auditVerbs).join(', ')}`);
  return yield* runVerb(ctx, `audit ${name}`, verb, auditTakes, operands);
}
