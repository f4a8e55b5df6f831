// Error numbers. Linux's names and values, so that messages and habits carry over; a system call returns a value >= 0 or one of
// these negated. Beside them the four-digit codes of the SIS specification, which travel in a process's last-error record.

export const E = {
  PERM: 1,
  NOENT: 2,
  SRCH: 3,
  INTR: 4,
  IO: 5,
  TOOBIG: 7, // E2BIG
  NOEXEC: 8,
  BADF: 9,
  CHILD: 10,
  AGAIN: 11,
  NOMEM: 12,
  ACCES: 13,
  FAULT: 14,
  BUSY: 16,
  EXIST: 17,
  XDEV: 18,
  NODEV: 19,
  NOTDIR: 20,
  ISDIR: 21,
  INVAL: 22,
  NFILE: 23,
  MFILE: 24,
  NOTTY: 25,
  TXTBSY: 26,
  FBIG: 27,
  NOSPC: 28,
  SPIPE: 29,
  ROFS: 30,
  PIPE: 32,
  RANGE: 34,
  NAMETOOLONG: 36,
  NOSYS: 38,
  NOTEMPTY: 39,
  LOOP: 40,
  PROTO: 71,
  BADMSG: 74,
  OVERFLOW: 75,
  ILSEQ: 84,
  NOTSUP: 95,
  TIMEDOUT: 110,
  CANCELED: 125,
  DQUOT: 122,
  NOKEY: 126,
  KEYREJECTED: 129,
} as const;

export type ErrnoName = keyof typeof E;

const text: Record<ErrnoName, string> = {
  PERM: 'Operation not permitted',
  NOENT: 'No such file or directory',
  SRCH: 'No such process',
  INTR: 'Interrupted system call',
  IO: 'Input/output error',
  TOOBIG: 'Argument list too long',
  NOEXEC: 'Exec format error',
  BADF: 'Bad file descriptor',
  CHILD: 'No child processes',
  AGAIN: 'Resource temporarily unavailable',
  NOMEM: 'Cannot allocate memory',
  ACCES: 'Permission denied',
  FAULT: 'Bad address',
  BUSY: 'Device or resource busy',
  EXIST: 'File exists',
  XDEV: 'Invalid cross-device link',
  NODEV: 'No such device',
  NOTDIR: 'Not a directory',
  ISDIR: 'Is a directory',
  INVAL: 'Invalid argument',
  NFILE: 'Too many open files in system',
  MFILE: 'Too many open files',
  NOTTY: 'Inappropriate ioctl for device',
  TXTBSY: 'Text file busy',
  FBIG: 'File too large',
  NOSPC: 'No space left on device',
  SPIPE: 'Illegal seek',
  ROFS: 'Read-only file system',
  PIPE: 'Broken pipe',
  RANGE: 'Numerical result out of range',
  NAMETOOLONG: 'File name too long',
  NOSYS: 'Function not implemented',
  NOTEMPTY: 'Directory not empty',
  LOOP: 'Too many levels of symbolic links',
  PROTO: 'Protocol error',
  BADMSG: 'Bad message',
  OVERFLOW: 'Value too large for defined data type',
  ILSEQ: 'Invalid or incomplete multibyte or wide character',
  NOTSUP: 'Operation not supported',
  TIMEDOUT: 'Connection timed out',
  CANCELED: 'Operation canceled',
  DQUOT: 'Disk quota exceeded',
  NOKEY: 'Required key not available',
  KEYREJECTED: 'Key was rejected by service',
};

const byNumber = new Map<number, ErrnoName>();
for (const name of Object.keys(E) as ErrnoName[]) byNumber.set(E[name], name);

/** `ENOENT` for 2 or -2; `E?` for a number that is none of ours. */
export function errnoName(errno: number): string {
  const name = byNumber.get(Math.abs(errno));
  return name === undefined ? `E?${Math.abs(errno)}` : name === 'TOOBIG' ? 'E2BIG' : `E${name}`;
}

/** The C library's message for an errno (2 or -2), e.g. `No such file or directory`. */
export function strerror(errno: number): string {
  const name = byNumber.get(Math.abs(errno));
  return name === undefined ? `Unknown error ${Math.abs(errno)}` : text[name];
}

/** The specification's codes (SIS §13) with their names; 0 means none applies. */
export const SPEC_CODE = {
  1001: 'ModelNotFound',
  1002: 'InvalidModelFormat',
  1003: 'ModelTooLarge',
  1004: 'UnsupportedVersion',
  2001: 'NoModelLoaded',
  2002: 'PromptTooLong',
  2003: 'ContextLengthExceeded',
  2004: 'InferenceTimeout',
  2005: 'InferenceCancelled',
  3001: 'OutOfMemory',
  3002: 'TooManyConcurrent',
  3003: 'TokenBudgetExceeded',
  4001: 'TokenizationFailed',
  4002: 'InvalidTokenId',
  5001: 'BackendNotInitialized',
  5002: 'BackendError',
  6001: 'GgufParseError',
  6002: 'MetadataMissing',
  6003: 'TensorNotFound',
  7001: 'InvalidConfig',
  9999: 'Internal',
} as const;

export type SpecCode = keyof typeof SPEC_CODE | 0;

/**
 * A refusal: what a room returns (never throws) when a caller's mistake or an exhausted resource stops it. The kernel stores it as the
 * process's last error and returns -errno; programs print `NAME CODE Word: message`.
 */
export interface Refusal {
  readonly errno: number;
  readonly code: SpecCode;
  readonly message: string;
}

export function refuse(errno: ErrnoName, code: SpecCode, message: string): Refusal {
  return { errno: E[errno], code, message };
}

export function isRefusal(value: unknown): value is Refusal {
  return typeof value === 'object' && value !== null && 'errno' in value && 'message' in value;
}

/** `ENOMEM 1003 ModelTooLarge: need …` — the one way a refusal is printed. */
export function formatRefusal(r: Refusal): string {
  return r.code === 0 ? r.message : `${errnoName(r.errno)} ${r.code} ${SPEC_CODE[r.code]}: ${r.message}`;
}

const PRINTED_MOST = 80;

/** Text from an untrusted file for one line of a terminal: what would move the cursor is escaped, and it is cut after 80. */
export function printable(text: string): string {
  let s = '';
  for (const c of text) {
    if (s.length >= PRINTED_MOST) return `${s}…`;
    const code = c.codePointAt(0)!;
    const moves = code < 32 || (code >= 0x7f && code < 0xa0) || (code >= 0x2028 && code <= 0x202e);
    s += moves ? `\\u{${code.toString(16)}}` : c;
  }
  return s;
}

/** The same as a word of a message: quoted unless it is plain ASCII without spaces. */
export function shown(text: string): string {
  const s = printable(text);
  return /^[!-~]+$/.test(text) && s.length === text.length ? text : `"${s}"`;
}
