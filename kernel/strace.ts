// strace: one line per finished system call, formatted from the call table as C would write it: `open("/etc/motd", O_RDONLY) = 3`. Flags are
// their names, records their fields, buffers what is in them; what a failed call did not write is the address where it would have.

import {
  ACCESS,
  BudgetRecord,
  CONVERT,
  ConvertReport,
  DiskOptions,
  ENCODE,
  errnoName,
  EVENT,
  FINISH,
  FsStat,
  ggmlTypeName,
  IOCTL,
  KIND,
  LastError,
  LIMITS,
  LlmStats,
  LoadOptions,
  ModelInfo,
  O,
  PackageReport,
  PlanReport,
  PrelinkReport,
  PROBES,
  ProbeOptions,
  QuotaRecord,
  SchedOptions,
  SchedReport,
  SESSION_STATE,
  SessionEvent,
  SessionOptions,
  SessionReport,
  SpeedOptions,
  SpeedReport,
  SIG,
  SpawnHeader,
  Stat,
  STOPPED,
  strerror,
  Times,
  UTIME,
  utf8Decode,
  utf8Step,
  Utimes,
  WAIT,
  TrainOptions,
  TrainReport,
  TrainState,
  TrainStep,
  WcetOptions,
  WcetReport,
  type ArgKind,
  type CallSpec,
  type FieldType,
  type Layout,
  type Meaning,
  type RecordName,
} from './abi/index.ts';

const SHOWN_BYTES = 32;
const SHOWN_ITEMS = 8;

/** `integers` are the call's raw integers, `result` is null when it did not return; `memory` holds the window as it is after the call. */
export function formatCall(
  name: string,
  spec: CallSpec,
  integers: readonly number[],
  result: number | null,
  memory: Uint8Array,
): string {
  const answer = result ?? 0;
  let i = 0;
  const shown = spec.args.flatMap(([, kind, meaning]) => {
    const a = integers[i++]!;
    if (kind === 'entry') return []; // C's fork has no argument: the child goes on where its parent is
    if (kind !== 'path' && kind !== 'in' && kind !== 'out') return formatInteger(kind, meaning, a);
    const b = integers[i++]!;
    if (kind === 'path') return quote(memory, a, Math.min(b, LIMITS.pathBytes), b);
    const unwritten = answer < 0 || (answer === 0 && meaning === 'status'); // no child had ended
    if (kind === 'out' && unwritten) return `0x${a.toString(16)}, ${b}`;
    const bytes = kind === 'in' ? b : Math.min(answer, b); // an answer's result is its length, unless its meaning says that
    return `${formatBytes(meaning, memory, a, bytes)}, ${b}`;
  });
  const end = answer < 0 ? `-1 ${errnoName(answer)} (${strerror(answer)})` : String(result ?? '?');
  return `${name}(${shown.join(', ')}) = ${end}`;
}

// ── Integers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function formatInteger(kind: ArgKind, meaning: Meaning | undefined, n: number): string {
  switch (meaning ?? kind) {
    case 'octal':
      return octal(n);
    case 'open':
      return openFlags(n);
    case 'whence':
      return ['SEEK_SET', 'SEEK_CUR', 'SEEK_END'][n] ?? String(n);
    case 'signal':
      return signalName(n);
    case 'action':
      return ['SIG_DFL', 'SIG_CATCH', 'SIG_IGN'][n] ?? String(n);
    case 'wait':
      return bits(n, { WNOHANG: WAIT.nohang, WUNTRACED: WAIT.untraced }) ?? '0';
    case 'type':
      return ggmlTypeName(n) ?? String(n);
    case 'encode':
      return bits(n, prefixed('ENCODE_', ENCODE)) ?? '0';
    case 'convert':
      return bits(n, prefixed('CONVERT_', CONVERT)) ?? '0';
    case 'access':
      return bits(n, { R_OK: ACCESS.read, W_OK: ACCESS.write, X_OK: ACCESS.exec }) ?? 'F_OK';
    case 'ioctl':
      return nameOf(IOCTL, n)?.toUpperCase() ?? String(n);
    default:
      return String(n);
  }
}

function signalName(n: number): string {
  const name = nameOf(SIG, n);
  return name === undefined ? String(n) : `SIG${name}`;
}

const octal = (n: number): string => (n === 0 ? '0' : `0${n.toString(8)}`);

/** The names of the bits set in `n`, and what is left of it as a number; null for 0. */
function bits(n: number, names: Readonly<Record<string, number>>): string | null {
  const set = Object.entries(names).filter(([, bit]) => (n & bit) !== 0);
  const left = set.reduce((rest, [, bit]) => rest & ~bit, n);
  const parts = [...set.map(([name]) => name), ...(left === 0 ? [] : [`0x${(left >>> 0).toString(16)}`])];
  return parts.length === 0 ? null : parts.join('|');
}

/** Constants under the names that C would give them. */
function prefixed(prefix: string, table: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(table).map(([name, n]) => [prefix + name.toUpperCase(), n]));
}

function nameOf(table: Readonly<Record<string, number>>, n: number): string | undefined {
  return Object.keys(table).find(name => table[name] === n);
}

function openFlags(flags: number): string {
  const access = ['O_RDONLY', 'O_WRONLY', 'O_RDWR'][flags & O.ACCMODE] ?? 'O_ACCMODE';
  const rest = bits(flags & ~O.ACCMODE, prefixed('O_', { ...O, ACCMODE: 0, WRONLY: 0, RDWR: 0 }));
  return rest === null ? access : `${access}|${rest}`;
}

// ── What lies in the window ──────────────────────────────────────────────────────────────────────────────────────────────────────

function formatBytes(meaning: Meaning | undefined, memory: Uint8Array, at: number, bytes: number): string {
  switch (meaning) {
    case 'ids':
      return integerList(memory, at, bytes >> 2);
    case 'fds':
      return integerList(memory, at, 2);
    case 'entries':
      return entryList(memory, at, bytes);
    case 'SessionEvent':
      return bytes === 0 ? '""' : sessionEvent(memory, at);
    case 'argv':
      return formatArguments(memory, at, bytes);
    case 'status':
      return childStatus(new DataView(memory.buffer, memory.byteOffset + at).getUint32(0, true));
    default:
      return meaning !== undefined && meaning in RECORDS
        ? formatRecord(RECORDS[meaning as keyof typeof RECORDS], memory, at)
        : quote(memory, at, Math.min(bytes, SHOWN_BYTES), bytes);
  }
}

function list(items: readonly string[], total: number): string {
  return `[${items.join(', ')}${total > items.length ? ', ...' : ''}]`;
}

function integerList(memory: Uint8Array, at: number, count: number): string {
  const view = new DataView(memory.buffer, memory.byteOffset + at, count * 4);
  const shown = Array.from({ length: Math.min(count, SHOWN_ITEMS) }, (_, i) => String(view.getUint32(i * 4, true)));
  return list(shown, count);
}

/** What wait says of a child, by the macros with which a program asks. */
function childStatus(status: number): string {
  return status >= STOPPED
    ? `[{WIFSTOPPED(s) && WSTOPSIG(s) == ${signalName(status - STOPPED)}}]`
    : `[{WIFEXITED(s) && WEXITSTATUS(s) == ${status}}]`;
}

/** The argument vector in a SpawnHeader block, and how many variables follow it. */
function formatArguments(memory: Uint8Array, at: number, bytes: number): string {
  const { argc, envc } = SpawnHeader.read(memory, at);
  const shown: string[] = [];
  for (let from = at + SpawnHeader.bytes; shown.length < Math.min(argc, SHOWN_ITEMS) && from < at + bytes;) {
    const end = memory.indexOf(0, from);
    shown.push(quote(memory, from, Math.min(end - from, SHOWN_BYTES), end - from));
    from = end + 1;
  }
  return `${list(shown, argc)} /* ${envc} var${envc === 1 ? '' : 's'} */`;
}

const ENTRY_TYPES: Readonly<Record<string, number>> = {
  DT_FIFO: KIND.fifo,
  DT_CHR: KIND.char,
  DT_DIR: KIND.dir,
  DT_BLK: KIND.block,
  DT_REG: KIND.file,
  DT_LNK: KIND.link,
};

/** What readdir packs: kind, bytes of the name, name. */
function entryList(memory: Uint8Array, at: number, bytes: number): string {
  const shown: string[] = [];
  let count = 0;
  for (let p = at; p < at + bytes; p += 2 + memory[p + 1]!) {
    const length = memory[p + 1]!;
    if (++count <= SHOWN_ITEMS / 2)
      shown.push(`{${nameOf(ENTRY_TYPES, memory[p]!)}, ${quote(memory, p + 2, length, length)}}`);
  }
  return `${list(shown, count)} /* ${count} entr${count === 1 ? 'y' : 'ies'} */`;
}

/** A token with its text, or the end with its reason. */
function sessionEvent(memory: Uint8Array, at: number): string {
  const { kind, token, pieceBytes } = SessionEvent.read(memory, at);
  const name = `EVENT_${(nameOf(EVENT, kind) ?? String(kind)).toUpperCase()}`;
  if (kind === EVENT.end) return `{${name}, ${FINISH[token]}}`;
  if (kind === EVENT.progress) return `{${name}, ${token}}`;
  const from = at + SessionEvent.bytes;
  return `{${name}, ${token}, ${quote(memory, from, Math.min(pieceBytes, SHOWN_BYTES), pieceBytes)}}`;
}

// ── Records ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Shown {
  readonly layout: Layout<Record<string, FieldType>>;
  /** The fields worth a place on the line. */
  readonly fields: readonly string[];
}
function show<T extends Record<string, FieldType>>(layout: Layout<T>, ...fields: (keyof T & string)[]): Shown {
  return { layout: layout as unknown as Shown['layout'], fields };
}

const RECORDS: Readonly<Record<Exclude<RecordName, 'SessionEvent'>, Shown>> = {
  DiskOptions: show(DiskOptions, 'set', 'model', 'retries', 'fault'),
  Stat: show(Stat, 'kind', 'mode', 'size', 'uid', 'gid'),
  Utimes: show(Utimes, 'accessed', 'accessedNs', 'modified', 'modifiedNs'),
  FsStat: show(FsStat, 'type', 'source', 'totalBytes', 'usedBytes'),
  Times: show(Times, 'nowNs', 'cycles', 'hz'),
  LastError: show(LastError, 'errno', 'code', 'message'),
  LoadOptions: show(LoadOptions, 'ctx', 'kvType', 'batch', 'sessions', 'pages', 'stream'),
  PlanReport: show(PlanReport, 'fits', 'ctx', 'kvType', 'weights', 'kv', 'total'),
  TrainOptions: show(TrainOptions, 'method', 'targets', 'rank', 'ctx', 'batch'),
  TrainReport: show(TrainReport, 'fits', 'parameters', 'total', 'stepCycles'),
  TrainStep: show(TrainStep, 'kind', 'update', 'rate'),
  TrainState: show(TrainState, 'state', 'steps', 'loss', 'targets'),
  ModelInfo: show(ModelInfo, 'name', 'architecture', 'parameters', 'ctx', 'kvType'),
  PrelinkReport: show(PrelinkReport, 'bytes', 'sourceBytes', 'headerBytes', 'tensors'),
  ConvertReport: show(ConvertReport, 'bytes', 'sourceBytes', 'tensors', 'converted'),
  WcetOptions: show(WcetOptions, 'prompt', 'generate', 'promptBytes', 'target'),
  WcetReport: show(WcetReport, 'prompt', 'generate', 'requestMin', 'requestMax', 'target'),
  SpeedOptions: show(SpeedOptions, 'target', 'disk'),
  SpeedReport: show(SpeedReport, 'tokenCycles', 'computed', 'transfers', 'target', 'disk'),
  SessionOptions: show(SessionOptions, 'maxTokens', 'temp', 'topK', 'topP', 'seed'),
  SessionReport: show(SessionReport, 'state', 'finish', 'promptTokens', 'outputTokens', 'cycles'),
  SchedOptions: show(SchedOptions, 'policy', 'boundPpm', 'segmentCycles', 'batch'),
  ProbeOptions: show(ProbeOptions, 'what', 'layer', 'head', 'top', 'position'),
  SchedReport: show(SchedReport, 'policy', 'boundPpm', 'usedPpm', 'accepted', 'rejected', 'misses'),
  BudgetRecord: show(BudgetRecord, 'wcetCycles', 'periodNs', 'maxTokens', 'issued', 'rejects'),
  PackageReport: show(PackageReport, 'result', 'id', 'version', 'permissions', 'size'),
  QuotaRecord: show(QuotaRecord, 'uid', 'tokensPerHour', 'tokensUsed', 'tokensReserved'),
  LlmStats: show(LlmStats, 'sessionsTotal', 'sessionsActive', 'promptTokens', 'outputTokens'),
};

/** Fields that are constants of a table. */
const FIELDS: Readonly<Record<string, (n: number) => string | undefined>> = {
  kind: n =>
    nameOf(ENTRY_TYPES, n)
      ?.replace(/DT_(?=FIFO)/, 'S_I')
      .replace('DT_', 'S_IF'),
  mode: octal,
  kvType: ggmlTypeName,
  state: n => SESSION_STATE[n],
  finish: n => FINISH[n],
  errno: errnoName,
  what: n => PROBES[n],
  accessed: n => `UTIME_${nameOf(UTIME, n)?.toUpperCase()}`,
  modified: n => `UTIME_${nameOf(UTIME, n)?.toUpperCase()}`,
};

function formatRecord({ layout, fields }: Shown, memory: Uint8Array, at: number): string {
  const record = layout.read(memory, at);
  const parts = fields.map(field => {
    const value = record[field]!;
    if (typeof value === 'string') return `${field}="${value}"`;
    return `${field}=${FIELDS[field]?.(value) ?? (Number.isInteger(value) ? value : Number(value.toPrecision(6)))}`;
  });
  return `{${parts.join(', ')}${fields.length < Object.keys(layout.fields).length ? ', ...' : ''}}`;
}

/** Text as C would write it; bytes that are no UTF-8 as \xNN. */
function quote(memory: Uint8Array, at: number, shown: number, total: number): string {
  let s = '';
  for (let i = at; i < at + shown;) {
    const n = utf8Step(memory, i, at + shown);
    const c = memory[i]!;
    if (c === 10) s += '\\n';
    else if (c === 9) s += '\\t';
    else if (c === 34 || c === 92) s += `\\${String.fromCharCode(c)}`;
    else if (n <= 0 || c < 32 || c === 127) s += `\\x${c.toString(16).padStart(2, '0')}`;
    else s += utf8Decode(memory, i, i + n);
    i += Math.max(1, n);
  }
  return `"${s}"${total > shown ? '...' : ''}`;
}
