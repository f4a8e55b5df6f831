// Sessions as programs see them: found by id, their output read event by event, their reports as JSON and as the specification's lines. The
// list of all is /proc/sessions; a report, and the text, only the one who submitted gets.

import { bytesToHex } from '@noble/hashes/utils.js';
import {
  E,
  EVENT,
  FINISH,
  NO_SLACK,
  SERVER,
  SESSION_COLUMNS,
  SESSION_STATE,
  SIG,
  SessionEvent,
  SessionReport,
  formatRefusal,
  logitsSum,
  refuse,
} from '../../kernel/abi/index.ts';
import type { FinishReason, RecordValue, Sys } from '../../kernel/abi/index.ts';
import type { Accounts } from './accounts.ts';
import { readText } from './files.ts';
import { times } from './fmt.ts';
import type { Json } from './fmt.ts';
import { failAbout, grouped, idsOf, parseInteger, wrong } from './model.ts';
import { signalStatus } from './program.ts';
import type { Context } from './program.ts';
import { callBudget } from './quota.ts';
import { CHUNK_BYTES } from './stdio.ts';
import { timeOfDay } from './strftime.ts';

export type Report = RecordValue<typeof SessionReport.fields>;
type SessionEventRecord = RecordValue<typeof SessionEvent.fields>;

/** A line of /proc/sessions. */
export type SessionRow = {
  readonly [K in (typeof SESSION_COLUMNS)[number]]: K extends 'state' | 'finish' ? string : number;
};

/** All sessions by id, or -errno. */
export function* sessionTable(sys: Sys): Generator<void, readonly SessionRow[] | number, void> {
  const text = yield* readText(sys, '/proc/sessions');
  if (typeof text === 'number') return text;
  const [head = '', ...lines] = text.split('\n').filter(line => line !== '');
  const names = head.split('\t');
  return lines.map(line => {
    const cells = line.split('\t').map((cell, i) => {
      const isWord = names[i] === 'state' || names[i] === 'finish';
      return [names[i]!, isWord ? cell : Number(cell)] as const;
    });
    return Object.fromEntries(cells) as unknown as SessionRow;
  });
}

/** True of a session that will draw no more. */
export const hasEnded = (s: SessionRow): boolean => s.endedNs !== 0;

/** The id that a command line names, `last` being the newest of this user; null when it is none. */
function* sessionId(sys: Sys, word: string): Generator<void, number | null, void> {
  if (word !== 'last') {
    const id = parseInteger(word);
    return id !== null && id >= 1 && id < 2 ** 32 ? id : null;
  }
  const uid = yield* sys.geteuid();
  const all = yield* sessionTable(sys);
  const own = typeof all === 'number' ? [] : all.filter(s => s.uid === uid);
  return own.at(-1)?.id ?? null;
}

/** A session that this user may ask about, by its id or `last`; or an exit status, after a message. */
export function* findSession(
  ctx: Pick<Context, 'sys' | 'fail'>,
  word: string,
): Generator<void, { readonly handle: number; readonly report: Report } | number, void> {
  const { sys } = ctx;
  const id = yield* sessionId(sys, word);
  if (id === null && word === 'last') return yield* ctx.fail('you have no session');
  if (id === null) return yield* wrong(ctx, `'${word}' is not the id of a session`);
  const handle = yield* sys.session_find(id);
  if (handle < 0) return yield* ctx.fail(`session ${id}`, -handle);
  const report = yield* reportOf(sys, handle);
  return typeof report === 'number' ? yield* failAbout(ctx, '', report) : { handle, report };
}

/** The checksum over a session's logits in hexadecimal. */
export const logitsText = (report: Report): string => bytesToHex(logitsSum(report));

/** The report of an open session, or -errno. */
export function* reportOf(sys: Sys, handle: number): Generator<void, Report | number, void> {
  const record = new Uint8Array(SessionReport.bytes);
  const result = yield* sys.session_report(handle, record);
  return result < 0 ? result : SessionReport.read(record, 0);
}

/** The report of a session that has been read to its end; or an exit status, after a message. */
export function* lastReport(
  ctx: Pick<Context, 'sys' | 'fail'>,
  handle: number,
): Generator<void, Report | number, void> {
  const report = yield* reportOf(ctx.sys, handle);
  if (typeof report !== 'number') return report;
  if (report === -E.BADF) return yield* ctx.fail('the session was closed by somebody else before its end was read');
  return yield* failAbout(ctx, '', report);
}

/** Ids of the prompt and of what was drawn. */
export function* tokensOf(
  sys: Sys,
  handle: number,
  report: Report,
): Generator<void, { readonly prompt: number[]; readonly output: number[] }, void> {
  const ids: number[] = [];
  const buffer = new Uint8Array(CHUNK_BYTES);
  const length = report.promptTokens + report.outputTokens;
  while (ids.length < length) {
    const n = yield* sys.session_tokens(handle, ids.length, buffer);
    if (n <= 0) break;
    ids.push(...idsOf(buffer.subarray(0, n)));
  }
  return { prompt: ids.slice(0, report.promptTokens), output: ids.slice(report.promptTokens, length) };
}

/** What one event brings. `piece` lies in the buffer: copy what is to stay. */
export interface Happening extends SessionEventRecord {
  readonly piece: Uint8Array;
}

/** The next event; a Ctrl-C meanwhile cancels the session, whose events still come. Null after the end. */
export function* nextEvent(sys: Sys, handle: number, buffer: Uint8Array): Generator<void, Happening | null, void> {
  for (;;) {
    const n = yield* sys.session_read(handle, buffer);
    if (n === -E.INTR) yield* sys.session_cancel(handle);
    else if (n <= 0) return null;
    else {
      const event = SessionEvent.read(buffer, 0);
      return { ...event, piece: buffer.subarray(SessionEvent.bytes, SessionEvent.bytes + event.pieceBytes) };
    }
  }
}

/** The pieces that can be read without waiting, those of `most` tokens at most; with the last one, what a stop string held back. */
export function* readyPieces(
  sys: Sys,
  handle: number,
  report: Report,
  most: number,
): Generator<void, Uint8Array[], void> {
  const pieces: Uint8Array[] = [];
  const buffer = new Uint8Array(CHUNK_BYTES);
  const waiting = report.outputTokens - report.consumed;
  // A session that has ended makes nobody wait: to its end, if that is near enough.
  let left = report.endedNs !== 0 && waiting <= most ? Infinity : Math.min(waiting, most);
  while (left > 0) {
    const event = yield* nextEvent(sys, handle, buffer);
    if (event === null) break;
    pieces.push(event.piece.slice());
    if (event.kind === EVENT.token) left--;
  }
  return pieces;
}

// ── What was promised, and kept ──────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * A session that has ended against what was expected of it (SIS §10): its own deadline, from submission; else what its server promised, from its
 * beginning; else only its cycles, as time, against those that a request may take. One that ran out of time was expected to end before that,
 * whatever is left of those: llmstats counts it as a miss, too.
 */
export interface Verdict {
  readonly isMet: boolean;
  readonly actualNs: number;
  readonly expectedNs: number;
}

export function* verdictOf(sys: Sys, r: Report): Generator<void, Verdict, void> {
  const { hz } = yield* times(sys);
  const budget = yield* callBudget(sys, { set: 0 });
  const wcetCycles = typeof budget === 'number' ? 0 : budget.wcetCycles;
  const asNs = (cycles: number): number => Math.ceil((cycles / hz) * 1e9);
  const [actualNs, expectedNs] =
    r.deadlineNs !== 0
      ? ([r.endedNs - r.submittedNs, r.deadlineNs - r.submittedNs] as const)
      : r.responseNs !== 0
        ? ([r.endedNs - r.beganNs, r.responseNs] as const)
        : ([asNs(r.cycles), asNs(wcetCycles || r.wcetCycles)] as const);
  return { isMet: actualNs <= expectedNs && finishOf(r) !== 'timeout', actualNs, expectedNs };
}

/** `[LLM][DEADLINE] ok actual=..ns expected=..ns slack=..ns`. */
export const deadlineLine = ({ isMet, actualNs, expectedNs }: Verdict): string =>
  `[LLM][DEADLINE] ${isMet ? 'ok' : 'miss'} actual=${actualNs}ns expected=${expectedNs}ns slack=${expectedNs - actualNs}ns`;

/** What became of a session that faulted. */
export function faultText({ id, fault }: Report, about = ''): string {
  const what = `${about}session ${id} faulted`;
  return formatRefusal(fault === '' ? refuse('IO', 5002, what) : refuse('IO', 6001, `${what}: ${fault}`));
}

/** Why a session ended before its time, as the kernel would refuse it; null when it did not. */
function* endingRefusal(sys: Sys, r: Report): Generator<void, string | null, void> {
  const finish = finishOf(r);
  const ran = r.endedNs - r.submittedNs;
  if (finish === 'fault') return faultText(r);
  if (finish === 'timeout')
    return formatRefusal(
      refuse('TIMEDOUT', 2004, `session ${r.id} gave up after ${Math.round(ran / 1e6)} ms of virtual time`),
    );
  if (finish !== 'quota') return null;
  const budget = yield* callBudget(sys, { set: 0 });
  const why =
    typeof budget === 'number' || budget.maxTokens === 0
      ? ''
      : `, the period budget of ${grouped(budget.maxTokens)} is used up until ${yield* timeOfDay(sys, budget.windowStartNs + budget.periodNs)}`;
  return formatRefusal(refuse('DQUOT', 3003, `session ${r.id} was cut after ${r.outputTokens} tokens${why}`));
}

/** The exit status that a session's end makes, after its message: 130 when it was cancelled, 1 when it ended before its time. */
export function* endStatus(ctx: Pick<Context, 'sys' | 'fail'>, r: Report): Generator<void, number, void> {
  if (finishOf(r) === 'cancel') return signalStatus(SIG.INT);
  const refusal = yield* endingRefusal(ctx.sys, r);
  return refusal === null ? 0 : yield* ctx.fail(refusal);
}

export const stateName = (r: Report): string => SESSION_STATE[r.state] ?? String(r.state);
export const finishOf = (r: Report): FinishReason => FINISH[r.finish] ?? 'fault';
const serverName = (server: number): string =>
  Object.keys(SERVER).find(key => SERVER[key as keyof typeof SERVER] === server) ?? String(server);

const given = (n: number): number | null => (n === 0 ? null : n);

/** What a report and a line of /proc/sessions have in common. */
type Scheduled = Omit<SessionRow, 'state' | 'finish'>;

/** The keys that tell how a session was scheduled: of llminfer and of `llmctl sessions`. Times are virtual nanoseconds after its submission. */
export function scheduleJson(r: Scheduled, user: string | null): Readonly<Record<string, Json>> {
  const after = (ns: number): number | null => (ns === 0 ? null : ns - r.submittedNs);
  return {
    uid: r.uid,
    user,
    parent: given(r.parent),
    shared_tokens: r.sharedTokens,
    priority: r.priority,
    server: r.server === SERVER.none ? null : serverName(r.server),
    period_ns: given(r.periodNs),
    budget_cycles: given(r.budgetCycles),
    deadline_ns: after(r.deadlineNs),
    response_bound_ns: given(r.responseNs),
    slack_ns: r.slackNs === NO_SLACK ? null : r.slackNs,
    deadline_misses: r.misses,
    preemptions: r.preemptions,
    swap_ins: r.swapIns,
    kv_pages: r.pages,
    wait_ns: after(r.beganNs) ?? (r.endedNs === 0 ? null : r.endedNs - r.submittedNs),
  };
}

// ── The table of sessions ────────────────────────────────────────────────────────────────────────────────────────────────────────

export const sessionTitles = [
  'ID',
  'USER',
  'STATE',
  'END',
  'PROMPT',
  'OUTPUT',
  'SERVER',
  'DEADLINE',
  'SLACK',
  'PAGES',
  'CYCLES',
];
/** Which of these columns are flush right. */
export const sessionRight = [true, false, false, false, true, true, true, true, true, true, true];

const ms = (ns: number): string => `${Number((ns / 1e6).toFixed(2))}ms`;

/**
 * A session as people read it. SERVER: milliseconds of the processor every so many, `s` where soft; DEADLINE: milliseconds after submission; SLACK:
 * the least time left at the end of a server's job; PAGES: of the KV pool, +N on the swap device.
 */
export function sessionCells(s: SessionRow, accounts: Accounts, hz: number): string[] {
  const server = `${ms((s.budgetCycles / hz) * 1e9)}/${ms(s.periodNs)}${s.server === SERVER.soft ? ' s' : ''}`;
  return [
    String(s.id),
    accounts.userName(s.uid) ?? String(s.uid),
    s.state,
    s.finish,
    String(s.promptTokens),
    String(s.outputTokens),
    s.server === SERVER.none ? '-' : server,
    s.deadlineNs === 0 ? '-' : ms(s.deadlineNs - s.submittedNs),
    s.slackNs === NO_SLACK || s.server === SERVER.none ? '-' : ms(s.slackNs),
    `${s.pages}${s.swappedPages === 0 ? '' : `+${s.swappedPages}`}`,
    grouped(s.cycles),
  ];
}
