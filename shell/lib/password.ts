// Passwords: how /etc/shadow keeps them, how one is asked for, and whether it is right. What is kept is scrypt (RFC 7914) in the `$7$` form of
// crypt(5), so that any libxcrypt can check a line of ours. Asking is silent on a terminal; what is wrong is told to the kernel, which writes it
// down and lets time pass before the next try.

import { scrypt } from '@noble/hashes/scrypt.js';
import { E, IOCTL, LIMITS, SIG, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import type { Account } from './accounts.ts';
import { isTerminal } from './model.ts';
import type { Context } from './program.ts';

interface Cost {
  readonly log2N: number;
  readonly r: number;
  readonly p: number;
}
/** What passwd writes: 2¹³ × 8 × 128 B = 8 MiB of work beside the arena, as much as the machine has in it. */
const COST: Cost = { log2N: 13, r: 8, p: 1 };
/** What a line of /etc/shadow may ask for: 32 MiB of work, and so many blocks. Another is no password's. */
const MOST = { log2N: 15, blocks: 8 } as const;
export const SALT_BYTES = 16;
const KEY_BYTES = 32;
/** As libxcrypt: longer ones are none. */
const PASSWORD_BYTES = 511;

/** crypt(3)'s 64 digits, the lowest six bits first. */
const DIGITS = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Three bytes a group, lowest first, in four digits; what is left in as many as it takes. */
export function digitsOf(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const group = bytes.subarray(i, i + 3);
    text += number64(
      group.reduceRight((value, byte) => (value << 8) | byte, 0),
      Math.ceil((group.length * 8) / 6),
    );
  }
  return text;
}

function number64(value: number, digits: number): string {
  return Array.from({ length: digits }, (_, i) => DIGITS[(value >>> (6 * i)) & 63]).join('');
}

function numberOf(text: string): number {
  return [...text].reduceRight((value, digit) => value * 64 + DIGITS.indexOf(digit), 0);
}

/**
 * What /etc/shadow keeps of a password, with a salt of SALT_BYTES random bytes:
 *
 *     $7$ B 6.... /.... SALT $ HASH
 *         │ │     │     │      └ 43 digits: 32 bytes of scrypt(password, SALT as it is written, N, r, p)
 *         │ │     │     └ 22 digits
 *         │ │     └ p in five digits
 *         │ └ r in five digits
 *         └ log2 N in one digit
 */
export function hashPassword(password: string, salt: Uint8Array): string {
  const { log2N, r, p } = COST;
  const setting = `$7$${number64(log2N, 1)}${number64(r, 5)}${number64(p, 5)}${digitsOf(salt)}`;
  return `${setting}$${derive(password, digitsOf(salt), COST)}`;
}

function derive(password: string, salt: string, { log2N, r, p }: Cost): string {
  return digitsOf(scrypt(utf8Encode(password), utf8Encode(salt), { N: 2 ** log2N, r, p, dkLen: KEY_BYTES }));
}

/** Whether `hash`, of /etc/shadow, is of this password. What is no such hash, or costs too much, is of none. */
export function isPassword(password: string, hash: string): boolean {
  const [, n = '', rDigits = '', pDigits = '', salt = '', key = ''] =
    /^\$7\$([./0-9A-Za-z])([./0-9A-Za-z]{5})([./0-9A-Za-z]{5})([./0-9A-Za-z]*)\$([./0-9A-Za-z]{43})$/.exec(hash) ?? [];
  const cost = { log2N: numberOf(n), r: numberOf(rDigits), p: numberOf(pDigits) };
  const isPriced = cost.log2N >= 1 && cost.log2N <= MOST.log2N && cost.r >= 1 && cost.p >= 1;
  if (key === '' || !isPriced || cost.r * cost.p > MOST.blocks) return false;
  if (utf8Encode(password).length > PASSWORD_BYTES) return false;
  return equal(derive(password, salt, cost), key);
}

/** As long for every wrong one. */
function equal(a: string, b: string): boolean {
  let differs = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) differs |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return differs === 0;
}

// ── Asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

type Asker = Pick<Context, 'sys' | 'out' | 'err'>;

const KEY = { end: 4, backspace: 8, newline: 10, return: 13, kill: 0x15, delete: 0x7f } as const;

/** A line that is not shown, from a terminal, after a prompt; from anything else the next line of it. null: Ctrl-C. */
export function* askPassword(ctx: Asker, prompt: string): Generator<void, string | null, void> {
  const { sys } = ctx;
  if (!(yield* isTerminal(sys, 0))) return (yield* readLine(sys)) ?? '';
  yield* ctx.out.flush();
  yield* ctx.err.print(prompt);
  yield* ctx.err.flush();
  const before = [yield* sys.signal(SIG.INT, 1), yield* sys.signal(SIG.TSTP, 2)];
  yield* sys.ioctl(0, IOCTL.raw, 1);
  const typed = yield* readKeys(sys);
  yield* sys.ioctl(0, IOCTL.raw, 0);
  yield* sys.signals();
  yield* sys.signal(SIG.INT, before[0]!);
  yield* sys.signal(SIG.TSTP, before[1]!);
  yield* ctx.err.print('\n');
  return typed;
}

/** A line of the input without its end, byte by byte: what follows is for whoever comes next. null at the end. */
export function* readLine(sys: Sys): Generator<void, string | null, void> {
  const one = new Uint8Array(1);
  const bytes: number[] = [];
  for (;;) {
    const n = yield* sys.read(0, one);
    if (n <= 0 && bytes.length === 0) return null;
    if (n <= 0 || one[0] === KEY.newline) return utf8Decode(Uint8Array.from(bytes));
    if (bytes.length < LIMITS.pathBytes) bytes.push(one[0]!);
  }
}

/** Key by key, to the end of the line or of the input. */
function* readKeys(sys: Sys): Generator<void, string | null, void> {
  const key = new Uint8Array(1);
  let bytes: number[] = [];
  for (;;) {
    const n = yield* sys.read(0, key);
    if (n === -E.INTR) return null;
    const [c = 0] = key;
    if (n <= 0 || c === KEY.newline || c === KEY.return || (c === KEY.end && bytes.length === 0)) break;
    if (c === KEY.kill) bytes = [];
    else if (c === KEY.backspace || c === KEY.delete) {
      while (bytes.length > 0 && (bytes.pop()! & 0xc0) === 0x80); // a whole character
    } else if (bytes.length <= PASSWORD_BYTES) bytes.push(c);
  }
  return utf8Decode(Uint8Array.from(bytes));
}

/**
 * Asks for the password of `name` and says whether it was right; without a password everybody is let in, and a locked account is asked for none.
 * `account`: null where there is none of that name, which the asker does not get to know. null: Ctrl-C.
 */
export function* authenticate(
  ctx: Asker,
  name: string,
  account: Account | null,
  prompt = 'Password: ',
): Generator<void, boolean | null, void> {
  if (account?.password === '') return true;
  const isLocked = account !== null && !account.password.startsWith('$');
  const password = isLocked ? '' : yield* askPassword(ctx, prompt);
  if (password === null) return null;
  yield* ctx.sys.auth_wait(name);
  if (account !== null && isPassword(password, account.password)) return true;
  yield* ctx.sys.auth_failed(name);
  return false;
}
