// What a look into a step tells (llmctl probs, attention, lens --json; man json): JSON, or, where there is nothing to look into, a refusal in
// words. Keys that a view needs and that are not there make the text a refusal too, so that no view draws half a figure.

import type { AttentionAnswer, LensAnswer, ProbsAnswer } from '../../../../kernel/abi/index.ts';

const LISTS = { probs: 'top', attention: 'row', lens: 'layers' } as const;

/** The look, or the refusal that came in its place: one line. */
export function parseProbe<T extends ProbsAnswer | AttentionAnswer | LensAnswer>(
  text: string,
  what: T['what'],
): T | string {
  let value: Partial<Record<string, unknown>>;
  try {
    value = JSON.parse(text) as typeof value;
  } catch {
    return text.trim();
  }
  if (typeof value !== 'object' || value === null) return text.trim();
  if (typeof value['refused'] === 'string') return value['refused'];
  return value['what'] === what && Array.isArray(value[LISTS[what]]) ? (value as unknown as T) : '';
}

/** A token's text where blanks and line ends are to be seen. */
export function visible(text: string): string {
  return text.replaceAll('\n', '⏎').replaceAll('\t', '⇥').replaceAll(' ', '␣');
}
