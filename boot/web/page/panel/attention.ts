// Attention: which tokens a head of a layer looked at in the last step, and how much: the row of weights over every position up to this one,
// drawn as the text itself with a bar on each token. What `llmctl attention` prints.

import type { AttentionAnswer } from '../../../../kernel/abi/index.ts';
import { el } from '../dom.ts';
import { enter, FigureTable, roving, setText } from './dom.ts';
import { chance } from './format.ts';
import { visible } from './parse-probe.ts';
import { Choice, Looks, sessionOptions, upTo } from './probing.ts';
import type { Desk, View } from './view.ts';

export function attentionView(desk: Desk): View {
  const session = new Choice('Session', desk.changed);
  const layer = new Choice('Layer', desk.changed);
  const head = new Choice('Head', desk.changed);
  const looks = new Looks<AttentionAnswer>('attention', draw);
  const text = el('div', { class: 'attended', role: 'group', 'aria-label': 'Tokens and the weight on each' });
  const caption = el('p', { class: 'caption', 'aria-live': 'polite' });
  const figure = el(
    'div',
    { class: 'attention' },
    el('div', { class: 'choices' }, session.element, layer.element, head.element),
    looks.element,
    text,
    caption,
  );
  const table = new FigureTable(
    'Weight on each position',
    ['position', 'token', 'id', 'weight'],
    new Set(['position', 'id', 'weight']),
  );
  let cells: HTMLElement[] = [];
  let row: AttentionAnswer['row'] = [];
  roving(text, () => cells);

  function tell(target: EventTarget | null): void {
    const cell = (target as HTMLElement).closest<HTMLElement>('.cell');
    const of = cell === null ? undefined : row[cells.indexOf(cell)];
    if (of !== undefined) setText(caption, `Position ${of.position}, “${visible(of.text)}”: ${chance(of.weight)}`);
  }
  text.addEventListener('pointerover', event => tell(event.target));
  text.addEventListener('focusin', event => tell(event.target));

  function draw(seen: AttentionAnswer): void {
    row = seen.row;
    layer.set(upTo(seen.layers));
    head.set(upTo(seen.heads));
    const most = Math.max(...row.map(t => t.weight), 1e-9);
    const here = cells.indexOf(document.activeElement as HTMLElement);
    cells = row.map(
      (t, i) =>
        cells[i] ?? el('button', { type: 'button', class: 'cell' }, el('span'), el('i', { 'aria-hidden': 'true' })),
    );
    row.forEach((t, i) => {
      const [word, bar] = cells[i]!.children as unknown as [HTMLElement, HTMLElement];
      setText(word, visible(t.text));
      bar.style.height = `${((t.weight / most) * 28).toFixed(1)}px`;
      cells[i]!.setAttribute('aria-label', `${visible(t.text)}: ${chance(t.weight)}`);
    });
    text.replaceChildren(...cells);
    const best = row.findIndex(t => t.weight === most);
    enter(cells, Math.max(0, here < 0 ? best : here));
    if (here >= 0) cells[Math.min(here, cells.length - 1)]?.focus();
    else
      setText(
        caption,
        `Most on position ${best}, “${visible(row[best]?.text ?? '')}”: ${chance(most)}. Layer ${seen.layer}, head ${seen.head} looks at the keys of head ${seen.head_kv} of ${seen.heads_kv}.`,
      );
    table.set(row.map(t => [String(t.position), visible(t.text), String(t.id), chance(t.weight)]));
  }

  return {
    name: 'attention',
    about: 'Which tokens a head of a layer looked at in the last step.',
    command: () =>
      looks.command(
        `llmctl attention${session.value === 0 ? '' : ` ${session.value}`} --layer ${layer.value} --head ${head.value}`,
      ),
    paths: ['/proc/sessions'],
    trace: false,
    probe: () => ({ session: session.value, what: 'attention', layer: layer.value, head: head.value, top: 0 }),
    everyMs: 150,
    figure,
    tables: [table.element],
    update(seen) {
      session.set(sessionOptions(seen.file('/proc/sessions')));
      const wanted = looks.update(seen);
      for (const choice of [layer, head]) choice.enable(!looks.isOver);
      return wanted;
    },
  };
}
