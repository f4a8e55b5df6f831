// Step: the plan as the processor runs it, op by op, with the op that it stands before, what that reads and writes, what its certificate
// promises and what it costs. What `cat /proc/step` prints.

import { el } from '../dom.ts';
import { FigureTable, setText } from './dom.ts';
import { parsePlan, parseStep } from './parse-step.ts';
import type { Desk, View } from './view.ts';

export function stepView(_: Desk): View {
  const plan = el('ol', { class: 'plan' });
  const facts = el('dl', { class: 'head' });
  const figure = el('div', { class: 'step' }, facts, plan);
  const holder = el('div');
  let drawn = '';
  return {
    name: 'step',
    about: 'The plan, the op that the processor stands before, and its price.',
    command: () => 'cat /proc/step',
    paths: ['/proc/step', '/proc/plan'],
    trace: false,
    probe: () => null,
    everyMs: 50,
    figure,
    tables: [holder],
    update(seen) {
      const text = seen.file('/proc/plan');
      if (text === '') return 'No plan yet: type llmctl load fable-f16, then pause and step.';
      if (text + seen.file('/proc/step') === drawn) return '';
      drawn = text + seen.file('/proc/step');
      setText(plan, String(parsePlan(text).length));
      facts.replaceChildren(...[...parseStep(seen.file('/proc/step'))].flatMap(([k, v]) => [el('dt', {}, k), el('dd', {}, v)]));
      holder.replaceChildren(new FigureTable('Ops', ['op']).element);
      return '';
    },
  };
}
