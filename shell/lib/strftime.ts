// strftime(3) in the C locale and UTC: a moment as text by a format.

import type { Sys } from '../../kernel/abi/index.ts';
import { civilTime, times } from './fmt.ts';
import type { CivilTime } from './fmt.ts';

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
// prettier-ignore
const MONTHS = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December'];

interface Moment extends CivilTime {
  readonly seconds: number; // since 1970, whole
  readonly nanoseconds: number;
  readonly dayOfYear: number; // 0 = the first of January
}

/** A number with its usual width and padding, or text. */
type Field = string | readonly [value: number, width: number, pad: '0' | ' '];

/** What one letter stands for; those that are made of others are formats. */
const fields: Readonly<Record<string, (t: Moment) => Field>> = {
  a: t => DAYS[t.weekday]!.slice(0, 3),
  A: t => DAYS[t.weekday]!,
  b: t => MONTHS[t.month - 1]!.slice(0, 3),
  B: t => MONTHS[t.month - 1]!,
  h: t => MONTHS[t.month - 1]!.slice(0, 3),
  C: t => [Math.floor(t.year / 100), 2, '0'],
  d: t => [t.day, 2, '0'],
  e: t => [t.day, 2, ' '],
  g: t => [isoWeek(t).year % 100, 2, '0'],
  G: t => [isoWeek(t).year, 4, '0'],
  H: t => [t.hour, 2, '0'],
  I: t => [t.hour % 12 || 12, 2, '0'],
  j: t => [t.dayOfYear + 1, 3, '0'],
  k: t => [t.hour, 2, ' '],
  l: t => [t.hour % 12 || 12, 2, ' '],
  m: t => [t.month, 2, '0'],
  M: t => [t.minute, 2, '0'],
  n: () => '\n',
  p: t => (t.hour < 12 ? 'AM' : 'PM'),
  P: t => (t.hour < 12 ? 'am' : 'pm'),
  q: t => [Math.ceil(t.month / 3), 1, '0'],
  s: t => [t.seconds, 1, '0'],
  S: t => [t.second, 2, '0'],
  t: () => '\t',
  u: t => [t.weekday || 7, 1, '0'],
  U: t => [Math.floor((t.dayOfYear + 7 - t.weekday) / 7), 2, '0'],
  V: t => [isoWeek(t).week, 2, '0'],
  w: t => [t.weekday, 1, '0'],
  W: t => [Math.floor((t.dayOfYear + 7 - ((t.weekday + 6) % 7)) / 7), 2, '0'],
  y: t => [((t.year % 100) + 100) % 100, 2, '0'],
  Y: t => [t.year, 4, '0'],
  Z: () => 'UTC',
  '%': () => '%',
};
const composed: Readonly<Record<string, string>> = {
  c: '%a %b %e %H:%M:%S %Y',
  D: '%m/%d/%y',
  F: '%Y-%m-%d',
  r: '%I:%M:%S %p',
  R: '%H:%M',
  T: '%H:%M:%S',
  x: '%m/%d/%y',
  X: '%H:%M:%S',
};

/**
 * A moment, whole seconds since 1970 and nanoseconds beyond them, by a format. Between % and the letter may stand GNU's flags (`-` no
 * padding, `_` blanks, `0` zeros, `^` upper case) and a width. What is no field stays as it is.
 */
export function formatTime(format: string, seconds: number, nanoseconds: number): string {
  const t = civilTime(seconds);
  const newYear = civilDays(t.year, 1, 1);
  const dayOfYear = Math.floor(seconds / 86400) - newYear;
  return expand(format, { ...t, seconds, nanoseconds, dayOfYear });
}

/** A moment of the clock as the machine's date has it, to the next millisecond: `12:00:00`, `12:00:00.250`. */
export function* timeOfDay(sys: Sys, ns: number): Generator<void, string, void> {
  const { bootEpochSeconds } = yield* times(sys);
  const ms = Math.ceil(ns / 1e6);
  const text = formatTime('%T', bootEpochSeconds + Math.floor(ms / 1000), 0);
  return ms % 1000 === 0 ? text : `${text}.${String(ms % 1000).padStart(3, '0')}`;
}

function expand(format: string, t: Moment): string {
  return format.replace(/%([-_0^]*)([0-9]*)(:*[a-zA-Z%])/g, (whole, flags: string, width: string, letter: string) => {
    if (letter === ':z') return '+00:00';
    if (letter === 'z') return zone(flags, width);
    if (letter === 'N') return fraction(t.nanoseconds, flags, width);
    const parts = composed[letter];
    const field = parts === undefined ? fields[letter]?.(t) : expand(parts, t);
    return field === undefined ? whole : pad(field, flags, width);
  });
}

function pad(field: Field, flags: string, width: string): string {
  const [value, usual, filler] = typeof field === 'string' ? [field, 0, ' '] : field;
  const flag = [...flags].findLast(c => c !== '^');
  const fill = flag === '_' ? ' ' : flag === '0' ? '0' : filler;
  const columns = flag === '-' ? 0 : width !== '' ? Number(width.slice(0, 4)) : usual;
  const sign = Number(value) < 0 && fill === '0' ? '-' : '';
  const text =
    sign +
    String(value)
      .slice(sign.length)
      .padStart(columns - sign.length, fill);
  return flags.includes('^') ? text.toUpperCase() : text;
}

/** The distance from Greenwich: a number of at least four digits with a sign. */
function zone(flags: string, width: string): string {
  if (flags.includes('-')) return '+0';
  const columns = Number(width.slice(0, 4) || 5);
  return flags.includes('_') ? '+0'.padStart(columns) : `+${'0'.repeat(Math.max(1, columns - 1))}`;
}

/** Digits behind the point, as many as the width says; zeros at their end are left out by `-` and blanks by `_`. */
function fraction(nanoseconds: number, flags: string, width: string): string {
  const columns = Number(width.slice(0, 4) || 9);
  const digits = String(nanoseconds).padStart(9, '0').slice(0, columns).padEnd(columns, '0');
  const kept = digits.replace(/(?<=.)0+$/, '');
  return flags.includes('-') ? kept : flags.includes('_') ? kept.padEnd(columns) : digits;
}

/** The week of ISO 8601 that a day is in, and the year that the week belongs to: that of its Thursday. */
function isoWeek(t: Moment): { year: number; week: number } {
  const thursday = t.dayOfYear + 4 - (t.weekday || 7);
  const days = daysIn(t.year);
  if (thursday < 0) return { year: t.year - 1, week: 1 + Math.floor((thursday + daysIn(t.year - 1)) / 7) };
  if (thursday >= days) return { year: t.year + 1, week: 1 };
  return { year: t.year, week: 1 + Math.floor(thursday / 7) };
}

const daysIn = (year: number): number => civilDays(year + 1, 1, 1) - civilDays(year, 1, 1);

/** Days from 1970-01-01 to a date (Howard Hinnant's days-from-civil). */
export function civilDays(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const yearOfEra = y - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  return era * 146097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear - 719468;
}

/**
 * `@SECONDS`, `now`, `YYYY-MM-DD`, `YYYY-MM-DD HH:MM[:SS[.N]]` (also with T, and Z or UTC behind): whole seconds since 1970 and
 * nanoseconds; null when it is none of these.
 */
export function parseTime(text: string, now: { seconds: number; nanoseconds: number }): typeof now | null {
  const given = text.trim();
  if (given === 'now' || given === '') return now;
  const [, stamp, digits = ''] = /^@(-?[0-9]{1,12})(?:[.,]([0-9]{1,9}))?$/.exec(given) ?? [];
  if (stamp !== undefined) {
    const nanoseconds = Number(digits.padEnd(9, '0'));
    // Nanoseconds count onwards from whole seconds, before 1970 too.
    const before = stamp.startsWith('-') && nanoseconds > 0;
    return before
      ? { seconds: Number(stamp) - 1, nanoseconds: 1e9 - nanoseconds }
      : { seconds: Number(stamp), nanoseconds };
  }
  const match =
    /^([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:[T ]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?)?(?: ?(?:Z|UTC|\+00:?00))?$/.exec(
      given,
    );
  if (match === null) return null;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(part => Number(part ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const days = civilDays(year, month, day);
  const exists = civilTime(days * 86400).month === month && day >= 1 && month >= 1 && month <= 12;
  if (!exists || hour > 23 || minute > 59 || second > 59) return null;
  return {
    seconds: days * 86400 + hour * 3600 + minute * 60 + second,
    nanoseconds: Number((match[7] ?? '').padEnd(9, '0')),
  };
}
