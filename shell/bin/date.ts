// date: the machine's calendar: the date it was booted on paper, plus virtual time.

import { times } from '../lib/fmt.ts';
import { stat } from '../lib/files.ts';
import { define } from '../lib/program.ts';
import { formatTime, parseTime } from '../lib/strftime.ts';

const options = {
  date: { short: 'd', value: 'TIME', help: 'that time instead of now: @SECONDS, or 2025-01-31 08:05:00' },
  reference: { short: 'r', value: 'FILE', help: 'the time FILE was modified' },
  'iso-8601': {
    short: 'I',
    value: 'PART',
    optional: true,
    help: 'ISO 8601, to the PART: date, hours, minutes, seconds or ns',
  },
  'rfc-email': { short: 'R', help: 'as in mail: Fri, 31 Jan 2025 08:05:00 +0000' },
  utc: { short: 'u', help: 'UTC, which it always is' },
} as const;

const ISO: Readonly<Record<string, string>> = {
  date: '%Y-%m-%d',
  hours: '%Y-%m-%dT%H%:z',
  minutes: '%Y-%m-%dT%H:%M%:z',
  seconds: '%Y-%m-%dT%H:%M:%S%:z',
  ns: '%Y-%m-%dT%H:%M:%S,%N%:z',
};

export const date = define({
  name: 'date',
  summary: 'print the virtual date and time',
  usage: ['[-u] [-d TIME | -r FILE] [-I[PART] | -R | +FORMAT]'],
  options,
  description:
    'Prints date and time in UTC. They are virtual: a fixed date of boot plus the time since then, which depends on nothing but the work done. In FORMAT, %Y %m %d are the date, %H %M %S %N the time, %s the seconds since 1970, %j the day of the year, %a %A %b %B names, %u %w %U %V %G days and weeks, %F %T %R %D %c usual forms; %-d drops padding.',
  examples: [
    ['date +%F', 'the date alone'],
    ['date -d @86400 +%A', 'the weekday of the second day of 1970'],
  ],
  *main(ctx) {
    const { options, operands } = ctx;
    const [operand] = operands;
    if (operands.length > 1) return yield* ctx.usage(`extra operand '${operands[1]}'`);
    if (operand !== undefined && !operand.startsWith('+')) return yield* ctx.fail(`invalid date '${operand}'`);
    const part = options['iso-8601'];
    const iso = part === undefined ? undefined : Object.keys(ISO).find(name => name.startsWith(part || 'date'));
    if (part !== undefined && iso === undefined)
      return yield* ctx.usage(`invalid argument '${part}' for '--iso-8601': ${Object.keys(ISO).join(', ')}`);
    const formats = [operand?.slice(1), iso && ISO[iso], options['rfc-email'] ? '%a, %d %b %Y %T %z' : undefined];
    const given = formats.filter(format => format !== undefined);
    if (given.length > 1) return yield* ctx.fail('multiple output formats specified');

    const { bootEpochSeconds, nowNs } = yield* times(ctx.sys);
    let moment: { seconds: number; nanoseconds: number } | null = split(bootEpochSeconds, nowNs);
    if (options.reference !== undefined) {
      const st = yield* stat(ctx.sys, options.reference);
      if (typeof st === 'number') return yield* ctx.fail(options.reference, -st);
      moment = split(bootEpochSeconds, st.modifiedNs);
    } else if (options.date !== undefined) moment = parseTime(options.date, moment);
    if (moment === null) return yield* ctx.fail(`invalid date '${options.date}'`);
    yield* ctx.out.print(`${formatTime(given[0] ?? '%a %b %e %H:%M:%S %Z %Y', moment.seconds, moment.nanoseconds)}\n`);
    return 0;
  },
});

const split = (seconds: number, ns: number): { seconds: number; nanoseconds: number } => ({
  seconds: seconds + Math.floor(ns / 1e9),
  nanoseconds: ns % 1e9,
});
