// true: status 0 and nothing else.

import { define } from '../lib/program.ts';

export const trueProgram = define({
  name: 'true',
  summary: 'do nothing, successfully',
  usage: ['[ARG]...'],
  order: 'none',
  description: 'Ends with status 0.',
  *main() {
    return 0;
  },
});
