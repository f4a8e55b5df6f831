// false: status 1 and nothing else.

import { define } from '../lib/program.ts';

export const falseProgram = define({
  name: 'false',
  summary: 'do nothing, unsuccessfully',
  usage: ['[ARG]...'],
  order: 'none',
  description: 'Ends with status 1.',
  *main() {
    return 1;
  },
});
