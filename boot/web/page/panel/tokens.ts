// Tokens: what the last step made of its logits: the most probable tokens, how each stage of the sampler changed their probabilities, and
// which was drawn. What `llmctl probs` prints.

import type { ProbsAnswer } from '../../../../kernel/abi/index.ts';
import { el } from '../dom.ts';
import { FigureTable, setAttribute, setHidden, setStyle, setText } from './dom.ts';
import { chance, count } from './format.ts';
import { visible } from './parse-probe.ts';
import { Choice, Looks, sessionOptions } from './probing.ts';
import type { Desk, View } from './view.ts';

const TOP = 12;

export function tokensView(desk: Desk): View {
  const session = new Choice('Session', desk.changed);
  const looks = new Looks<ProbsAnswer>('probs', draw);
  const stages = new FigureTable(
    'Through the sampler',
    ['stage', 'tokens', 'bits', 'chance'],
    new Set(['tokens', 'bits', 'chance']),
  );
  const bars = el('ol', { class: 'bars' });
  const figure = el(
    'div',
    { class: 'tokens' },
    el('div', { class: 'choices' }, session.element),
    looks.element,
    bars,
    stages.element,
  );
  const holder = el('div');
  const items: Bar[] = [];

  function draw(probs: ProbsAnswer): void {
    const names = probs.stages.map(s => s.stage.replaceAll('_', '-'));
    const most = Math.max(...probs.top.flatMap(t => t.probabilities), 1e-9);
    probs.top.forEach((token, i) => {
      items[i] ??= new Bar(bars);
      items[i].set(token, most, probs.next?.id === token.id ? (probs.next.drawn ? 'drawn' : 'in the prompt') : '');
    });
    items.forEach((bar, i) => setHidden(bar.element, i >= probs.top.length));
    stages.set(
      probs.stages.map((s, i) => [
        names[i]!,
        count(s.tokens),
        s.entropy.toFixed(2),
        s.probability === null ? '–' : chance(s.probability),
      ]),
    );
    const table = new FigureTable(
      'Probabilities behind each stage',
      ['token', 'id', 'logit', ...names],
      new Set(['id', 'logit', ...names]),
    );
    table.set(probs.top.map(t => [visible(t.text), String(t.id), t.logit.toFixed(3), ...t.probabilities.map(chance)]));
    holder.replaceChildren(table.element);
  }

  return {
    name: 'tokens',
    about: 'What could have come next, and what the sampler made of it.',
    command: () => looks.command(`llmctl probs${session.value === 0 ? '' : ` ${session.value}`} --top ${TOP}`),
    paths: ['/proc/sessions'],
    trace: false,
    probe: () => ({ session: session.value, what: 'probs', layer: 0, head: 0, top: TOP }),
    everyMs: 150,
    figure,
    tables: [holder],
    update(seen) {
      session.set(sessionOptions(seen.file('/proc/sessions')));
      return looks.update(seen);
    },
  };
}

/** A token: its probability in the model as an outline, what was drawn from as a filled bar. */
class Bar {
  readonly element: HTMLLIElement;
  private readonly text = el('span', { class: 'token' });
  private readonly before = el('span', { class: 'before' });
  private readonly after = el('span', { class: 'after' });
  private readonly figures = el('span', { class: 'number' });
  private readonly note = el('span', { class: 'note' });

  constructor(list: HTMLElement) {
    this.element = el(
      'li',
      {},
      this.text,
      el('span', { class: 'track', 'aria-hidden': 'true' }, this.before, this.after),
      this.figures,
      this.note,
    );
    list.append(this.element);
  }

  set(token: ProbsAnswer['top'][number], most: number, note: string): void {
    const first = token.probabilities[0] ?? 0;
    const last = token.probabilities.at(-1) ?? 0;
    setText(this.text, `${note === '' ? '' : '▸'}${visible(token.text)}`);
    setAttribute(this.text, 'title', `token ${token.id}`);
    setStyle(this.before, 'width', `${((first / most) * 100).toFixed(2)}%`);
    setStyle(this.after, 'width', `${((last / most) * 100).toFixed(2)}%`);
    setText(this.figures, last === first ? chance(first) : `${chance(first)} → ${chance(last)}`);
    setText(this.note, note);
    this.element.classList.toggle('drawn', note !== '');
  }
}
