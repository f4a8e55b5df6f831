// /etc/quota as the kernel reads it: whose quotas differ from the defaults. Text in, records and complaints out; a line that is wrong is left
// out and named, and the machine boots all the same.

import { LIMITS, QUOTA_DEFAULTS, QUOTA_SET, shown } from './abi/index.ts';

export const QUOTA_FILE = '/etc/quota';

/** What a line sets: `set` has a bit of QUOTA_SET for each column that is no `-`. */
export interface QuotaLine {
  readonly uid: number; // QUOTA_DEFAULTS: `*`, everybody without limits of their own
  readonly set: number;
  readonly tokensPerHour: number;
  readonly cyclesPerHour: number;
  readonly kvBytes: number;
  readonly sessions: number;
}

export interface QuotaFile {
  readonly lines: readonly QuotaLine[];
  /** `/etc/quota:3: no user 'eve'`. */
  readonly complaints: readonly string[];
}

const COLUMNS = ['tokens_per_hour', 'cycles_per_hour', 'kv_bytes', 'sessions'] as const;

/**
 * Lines `user tokens_per_hour cycles_per_hour kv_bytes sessions`, fields between blanks, from # on a comment. A user is a name, a number or
 * `*`; a limit is a decimal number, 0 for none, `-` for the default.
 */
export function parseQuotas(text: string, uidOf: (name: string) => number | null): QuotaFile {
  const lines: QuotaLine[] = [];
  const complaints: string[] = [];
  const seen = new Set<number>();
  let users = 0;
  for (const [i, line] of text.split('\n').entries()) {
    const fields = line.replace(/#.*/, '').trim().split(/\s+/);
    if (fields[0] === '') continue;
    const parsed = parseLine(fields, uidOf);
    const wrong =
      typeof parsed === 'string'
        ? parsed
        : seen.has(parsed.uid)
          ? `a second line for ${shown(fields[0]!)}`
          : parsed.uid !== QUOTA_DEFAULTS && users === LIMITS.quotaUsersMax
            ? `${users} users at most`
            : null;
    if (wrong !== null) complaints.push(`${QUOTA_FILE}:${i + 1}: ${wrong}`);
    if (wrong !== null || typeof parsed === 'string') continue;
    seen.add(parsed.uid);
    if (parsed.uid !== QUOTA_DEFAULTS) users++;
    lines.push(parsed);
  }
  return { lines, complaints };
}

/** A line's record, or what is wrong with it. */
function parseLine(
  [user = '', ...limits]: readonly string[],
  uidOf: (name: string) => number | null,
): QuotaLine | string {
  if (limits.length !== COLUMNS.length)
    return `${limits.length} limits, not ${COLUMNS.length}: user ${COLUMNS.join(' ')}`;
  const uid = user === '*' ? QUOTA_DEFAULTS : uidOf(user);
  if (uid === null) return `no user ${shown(user)}`;
  const bad = limits.findIndex(
    limit => limit !== '-' && !(/^[0-9]+$/.test(limit) && Number.isSafeInteger(Number(limit))),
  );
  if (bad >= 0) return `${COLUMNS[bad]} ${shown(limits[bad]!)} is neither a number nor -`;
  const [tokensPerHour, cyclesPerHour, kvBytes, sessions] = limits.map(limit => (limit === '-' ? 0 : Number(limit)));
  if (sessions! > LIMITS.sessionsMax) return `sessions ${sessions}, ${LIMITS.sessionsMax} at most`;
  const set = Object.values(QUOTA_SET).reduce((bits, bit, i) => (limits[i] === '-' ? bits : bits | bit), 0);
  return {
    uid,
    set,
    tokensPerHour: tokensPerHour!,
    cyclesPerHour: cyclesPerHour!,
    kvBytes: kvBytes!,
    sessions: sessions!,
  };
}
