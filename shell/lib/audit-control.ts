// `audit witness`, `content` and `disclose`: what the log is asked to do, through the files of /audit. Witnesses are asked outside the machine:
// `request` prints what a C2SP tlog-witness takes, `cosign` brings back its answer.

import { isRefusal, O, refuse, strerror, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { Refusal } from '../../kernel/abi/index.ts';
import { openNote, parseNoteKey, toBase64 } from '../../trust/index.ts';
import type { NoteKey } from '../../trust/index.ts';
import { recordNumber, refused } from './audit-face.ts';
import type { Run } from './audit-face.ts';
import { AUDIT_DIRECTORY, withLog } from './audit-machine.ts';
import type { AuditContext } from './audit-machine.ts';
import type { OpenLog } from './audit-reader.ts';
import { civilText } from './audit-record.ts';
import { readText } from './files.ts';
import { jsonLine, table, wrap } from './fmt.ts';
import { lastError, screenWidth } from './program.ts';
import { writeAll } from './stdio.ts';

const CONTROL = `${AUDIT_DIRECTORY}/ctl`;

/** Gives the log one command. Returns the status, after a message where it was refused. */
function* command(ctx: AuditContext, line: string): Run {
  const { sys } = ctx;
  const fd = yield* sys.open(CONTROL, O.WRONLY, 0);
  if (fd < 0) return yield* ctx.fail(`${CONTROL}: ${strerror(fd)}`);
  const result = yield* writeAll(sys, fd, utf8Encode(`${line}\n`));
  const why = result < 0 ? yield* lastError(sys, result) : '';
  yield* sys.close(fd);
  return why === '' ? 0 : yield* ctx.fail(why);
}

/** What is in force, by the first word of its command. */
function* settings(ctx: AuditContext): Generator<void, readonly string[][] | Refusal, void> {
  const text = yield* readText(ctx.sys, CONTROL);
  if (typeof text === 'number') return refuse('ACCES', 0, `${CONTROL}: ${strerror(text)}`);
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => line.split(' '));
}

// ── Texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `content on KEY`, `content off`, `content status`. */
export function* content(ctx: AuditContext, [what = 'status', key]: readonly string[]): Run {
  if (what === 'on' && key !== undefined) return yield* command(ctx, `content on ${key}`);
  if (what === 'off' && key === undefined) return yield* command(ctx, 'content off');
  if (what !== 'status' || key !== undefined)
    return yield* ctx.usage(
      what === 'on' ? 'content on: whose KEY? one that begins with age1' : `content: 'on KEY', 'off' or 'status'`,
    );
  const lines = yield* settings(ctx);
  if (isRefusal(lines)) return yield* refused(ctx, lines);
  const recipients = lines.filter(([word, state]) => word === 'content' && state === 'on').map(words => words[2] ?? '');
  if (ctx.options.json) yield* ctx.out.print(jsonLine({ content: recipients.length > 0, recipients }));
  else if (recipients.length === 0) yield* ctx.out.print('texts of requests are not stored\n');
  else yield* ctx.out.print(`texts of requests are stored, encrypted to ${recipients.join(', ')}\n`);
  return 0;
}

/** The salt of a record, which makes its digests checkable by whoever knows the text; that it was read is recorded. */
export function* disclose(ctx: AuditContext, [word = '']: readonly string[]): Run {
  return yield* withLog(ctx, AUDIT_DIRECTORY, function* (face, log, files) {
    const found = yield* recordNumber(face, log, word);
    if ('status' in found) return found.status;
    const salt = yield* files.read(`salt/${found.number}`);
    if (isRefusal(salt)) return yield* refused(face, salt);
    if (salt === null) return yield* face.fail(`${log.place}: no salt of record ${found.number}`);
    const text = utf8Decode(salt).trim();
    if (ctx.options.json) yield* ctx.out.print(jsonLine({ record: found.number, salt: text }));
    else {
      yield* ctx.out.print(`${text}\n`);
      yield* ctx.err.print(`\n${wrap(HOW_TO_USE_A_SALT, screenWidth)}`);
    }
    return 0;
  });
}
const HOW_TO_USE_A_SALT =
  'Whoever has the prompt can now show that it was the one: arena8.prompt.digest is SHA-256 of these 32 bytes and its token ids (llmctl tokenize), each as four bytes, the least first; arena8.output.digest the same of the output. The log has a record of this disclosure.';

// ── Witnesses ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `witness [list]`, `trust KEY`, `request [SIZE]`, `cosign LINE`. */
export function* witness(ctx: AuditContext, [what = 'list', ...words]: readonly string[]): Run {
  const [word] = words;
  if (what === 'list' && word === undefined)
    return yield* withLog(ctx, AUDIT_DIRECTORY, (_, log) => listWitnesses(ctx, log));
  if (what === 'trust' && words.length === 1) return yield* command(ctx, `witness ${word}`);
  if (what === 'cosign' && words.length > 0) return yield* command(ctx, `cosign ${words.join(' ').trim()}`);
  if (what === 'request' && words.length < 2)
    return yield* withLog(ctx, AUDIT_DIRECTORY, (_, log) => request(ctx, log, word ?? '0'));
  return yield* ctx.usage(`witness: 'list', 'trust KEY', 'request [SIZE]' or 'cosign LINE'`);
}

/** Whom the log trusts as witnesses, and when each of them has seen its newest head. */
function* listWitnesses(ctx: AuditContext, log: OpenLog): Run {
  const lines = yield* settings(ctx);
  if (isRefusal(lines)) return yield* refused(ctx, lines);
  const keys = lines.filter(([word]) => word === 'witness').map(([, key = '']) => parseNoteKey(key));
  const witnesses = keys.filter((key): key is NoteKey => !isRefusal(key));
  const note = openNote(utf8Encode(log.head), witnesses);
  const signed = isRefusal(note) ? [] : note.signed; // nobody has cosigned this head
  const rows = witnesses.map(({ name }) => ({ name, time: signed.find(s => s.key.name === name)?.time ?? null }));
  const { size } = log.checkpoint;
  if (ctx.options.json) yield* ctx.out.print(jsonLine({ size, witnesses: rows }));
  else if (rows.length === 0) yield* ctx.out.print('no witness is trusted: llmctl audit witness trust KEY\n');
  else {
    const seen = (time: number | null): string => (time === null ? 'not yet' : civilText(time));
    yield* ctx.out.print(
      table([['witness', `has seen the head of ${size}`], ...rows.map(r => [r.name, seen(r.time)])]),
    );
  }
  return 0;
}

/** What a witness takes that has cosigned the first `word` records: that size, the proof that the log continues it, the checkpoint. */
function* request(ctx: AuditContext, log: OpenLog, word: string): Run {
  const { size } = log.checkpoint;
  const old = /^[0-9]{1,15}$/.test(word) ? Number(word) : NaN;
  if (!(old <= size)) return yield* ctx.fail(`'${word}' is no size that the log has had: it has ${size} records`);
  const tree = yield* log.tree();
  if (isRefusal(tree)) return yield* refused(ctx, tree);
  const proof = tree.consistency(old, size);
  if (isRefusal(proof)) return yield* refused(ctx, proof);
  yield* ctx.out.print(`old ${old}\n${proof.map(hash => `${toBase64(hash)}\n`).join('')}\n${log.head}`);
  return 0;
}
