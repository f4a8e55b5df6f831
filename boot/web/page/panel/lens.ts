// Lens: what the model would have said behind each layer, had it stopped there: the residual through the last norm and the output matrix, the
// best tokens first. The logit lens of nostalgebraist (2020); what `llmctl lens` prints. A table by nature: the figure is one.

import type { LensAnswer } from '../../../../kernel/abi/index.ts';
import { el } from '../dom.ts';
import { visible } from './parse-probe.ts';
import { Choice, Looks, sessionOptions } from './probing.ts';
import type { Desk, View } from './view.ts';

const TOP = 5;

export function lensView(desk: Desk): View {
  const session = new Choice('Session', desk.changed);
  const looks = new Looks<LensAnswer>('lens', draw);
  const holder = el('div', {
    class: 'lens-table',
    tabindex: 0,
    role: 'region',
    'aria-label': 'Layers and their best tokens',
  });
  const figure = el('div', { class: 'lens' }, el('div', { class: 'choices' }, session.element), looks.element, holder);

  function draw(lens: LensAnswer): void {
    const titles = ['layer', ...Array.from({ length: TOP }, (_, i) => `${i + 1}.`), 'rank', 'bits'];
    holder.replaceChildren(
      el(
        'table',
        {},
        el(
          'caption',
          {},
          lens.next === null
            ? 'Best tokens behind each layer'
            : `Best tokens behind each layer; ▸ is “${visible(lens.next.text)}”, and rank its place`,
        ),
        el(
          'thead',
          {},
          el('tr', {}, ...titles.map((title, i) => el('th', { scope: 'col', class: i > TOP ? 'number' : '' }, title))),
        ),
        el('tbody', {}, ...[...lens.layers].reverse().map(layer => rowOf(layer, lens.next?.id ?? -1))),
      ),
    );
  }

  return {
    name: 'lens',
    about: 'What the model would have said behind each layer; the last layer is at the top.',
    command: () => looks.command(`llmctl lens${session.value === 0 ? '' : ` ${session.value}`} --top ${TOP}`),
    paths: ['/proc/sessions'],
    trace: false,
    probe: () => ({ session: session.value, what: 'lens', layer: 0, head: 0, top: TOP }),
    everyMs: 250,
    figure,
    tables: [],
    update(seen) {
      session.set(sessionOptions(seen.file('/proc/sessions')));
      return looks.update(seen);
    },
  };
}

function rowOf(layer: LensAnswer['layers'][number], next: number): HTMLElement {
  const cells = layer.top.map(token => {
    const cell = el(
      'td',
      { class: token.id === next ? 'guess hit' : 'guess' },
      el('span', { class: 'token' }, `${token.id === next ? '▸' : ''}${visible(token.text)}`),
      el('small', {}, `${(token.probability * 100).toFixed(1)}%`),
    );
    cell.style.setProperty('--share', token.probability.toFixed(4));
    return cell;
  });
  return el(
    'tr',
    {},
    el('th', { scope: 'row' }, layer.layer < 0 ? 'embed' : String(layer.layer)),
    ...cells,
    el('td', { class: 'number' }, layer.rank === null ? '–' : String(layer.rank)),
    el('td', { class: 'number' }, layer.entropy.toFixed(2)),
  );
}
