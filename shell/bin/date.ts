// date: the machine's calendar: the date it was booted on paper, plus virtual time.

import { civilTime, times, two } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';

const days = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

export const date = define({
  name: 'date',
  summary: 'print the virtual date and time',
  usage: [''],
  description: 'Prints date and time in UTC. They are virtual: a fixed date of boot plus the time since then.',
  *main(ctx) {
    const { bootEpochSeconds, nowNs } = yield* times(ctx.sys);
    const t = civilTime(bootEpochSeconds + nowNs / 1e9);
    const clock = `${two(t.hour)}:${two(t.minute)}:${two(t.second)}`;
    yield* ctx.out.print(
      `${days[t.weekday]} ${months[t.month - 1]} ${String(t.day).padStart(2)} ${clock} UTC ${t.year}\n`,
    );
    return 0;
  },
});
