// The specification's separate words for what llmctl does (llmpoll, llmcancel, llmsummary; SIS §14): a program that becomes llmctl in its own
// process, so that there is one way of doing it.

import { strerror } from '../../kernel/abi/index.ts';
import { argumentBlock, define } from './program.ts';
import type { Program } from './program.ts';

/** A program that stands for `llmctl` with these words before its own. */
export function alias(name: string, summary: string, usage: string, words: readonly string[]): Program {
  const whole = ['llmctl', ...words].join(' ');
  return define({
    name,
    summary,
    usage: [`${usage} [--json]`.trimStart()],
    order: 'none',
    description: `Stands for ${whole}${usage === '' ? '' : ` ${usage}`}: see there.`,
    *main({ sys, env, operands, fail }) {
      const block = argumentBlock(['llmctl', ...words, ...operands], env, [0, 1, 2]);
      const errno = yield* sys.exec('/bin/llmctl', block);
      return yield* fail(`/bin/llmctl: ${strerror(errno)}`);
    },
  });
}
