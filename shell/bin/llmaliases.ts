// llmpoll, llmcancel, llmsummary: the specification's separate words for what llmctl does (SIS §14). Each becomes llmctl in its own process, so
// that there is one way of doing it.

import { strerror } from '../../kernel/abi/index.ts';
import { argumentBlock, define } from '../lib/program.ts';
import type { Program } from '../lib/program.ts';

/** A program that stands for `llmctl` with these words before its own. */
function alias(name: string, summary: string, usage: string, words: readonly string[]): Program {
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

export const llmpoll = alias('llmpoll', 'what your newest session has said since', '[MAX]', ['poll', 'last']);
export const llmcancel = alias('llmcancel', 'end a session at its next token', '[ID]', ['cancel']);
export const llmsummary = alias('llmsummary', 'list sessions in the words of the specification', '', ['summary']);
