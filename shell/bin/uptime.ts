// uptime: how long the machine has run, in virtual time.

import { times, two } from '../lib/fmt.ts';
import { define } from '../lib/program.ts';

export const uptime = define({
  name: 'uptime',
  summary: 'tell how long the machine has run',
  usage: [''],
  description: 'Prints the virtual time since boot and the cycles it took. It does not depend on the host.',
  *main(ctx) {
    const t = yield* times(ctx.sys);
    const seconds = Math.floor(t.nowNs / 1e9);
    const [days, hours] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24];
    const clock = `${days > 0 ? `${days} days, ` : ''}${hours}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
    const micros = String(Math.floor(t.nowNs / 1000) % 1_000_000).padStart(6, '0');
    yield* ctx.out.print(`up ${clock}.${micros} (virtual), ${t.cycles} cycles at ${t.hz / 1e6} MHz\n`);
    return 0;
  },
});
