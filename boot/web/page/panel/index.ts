// The machine panel: views of what the kernel tells of itself, side by side with the terminal. One view is seen at a time, and only what it
// shows is asked of the machine; news are collected and drawn once a frame. The page gives it a cable to the worker and a way to type.

import type { Watch } from '../../protocol/messages.ts';
import type { Client } from '../client.ts';
import { attentionView } from './attention.ts';
import { auditView } from './audit.ts';
import { el } from '../dom.ts';
import { roving, setAttribute, setHidden, setText } from './dom.ts';
import { lensView } from './lens.ts';
import { memoryView } from './memory.ts';
import { pagesView } from './pages.ts';
import { parseTrace, Timeline, type TraceEvent } from './parse-trace.ts';
import { scheduleView } from './schedule.ts';
import { speedView } from './speed.ts';
import { stepView } from './step.ts';
import { tokensView } from './tokens.ts';
import { trainingView } from './training.ts';
import { VIEWS, type Desk, type Seen, type View, type ViewName } from './view.ts';

export { VIEWS, type ViewName };

/** The cable to the machine's worker, as far as the panel uses it. */
export type PanelClient = Pick<Client, 'ask' | 'tell' | 'on' | 'onHealth'>;

export interface Panel {
  readonly element: HTMLElement;
  /** Shows a view, and asks for what it needs; null: the panel is out of sight and asks for nothing. */
  show(view: ViewName | null): void;
  readonly view: ViewName | null;
}

const MAKERS: Record<ViewName, (desk: Desk) => View> = {
  memory: memoryView,
  pages: pagesView,
  schedule: scheduleView,
  speed: speedView,
  training: trainingView,
  audit: auditView,
  step: stepView,
  tokens: tokensView,
  attention: attentionView,
  lens: lensView,
};

/** What is around a view: its title, the command that shows the same, the table. */
class Frame {
  readonly element: HTMLElement;
  private readonly command = el('button', { class: 'command', type: 'button', onclick: () => this.type() });
  private readonly toggle: HTMLButtonElement;
  private readonly tables: HTMLElement;
  private readonly empty = el('p', { class: 'empty', hidden: true });

  constructor(
    readonly view: View,
    title: string,
    private readonly desk: Desk,
  ) {
    this.tables = el(
      'div',
      {
        class: 'tables visually-hidden',
        id: `panel-tables-${view.name}`,
        role: 'region',
        'aria-label': `${title} as tables`,
        tabindex: -1,
      },
      ...view.tables,
    );
    this.toggle = el(
      'button',
      {
        class: 'toggle',
        type: 'button',
        'aria-pressed': 'false',
        'aria-controls': this.tables.id,
        onclick: () => this.showTables(this.tables.classList.contains('visually-hidden')),
      },
      'Table',
    );
    if (view.tables.length === 0) this.toggle.hidden = true;
    view.figure.hidden = true;
    this.element = el(
      'section',
      {
        role: 'tabpanel',
        id: `panel-view-${view.name}`,
        'aria-labelledby': `panel-tab-${view.name}`,
        tabindex: 0,
        hidden: true,
      },
      el(
        'header',
        {},
        el('h2', {}, title),
        el('p', {}, view.about),
        el('div', { class: 'tools' }, this.command, this.toggle),
      ),
      this.empty,
      view.figure,
      this.tables,
    );
  }

  update(seen: Seen): void {
    const wanted = this.view.update(seen);
    setText(this.empty, wanted);
    setHidden(this.empty, wanted === '');
    setHidden(this.view.figure, wanted !== '');
    setHidden(this.tables, wanted !== '');
    const command = this.view.command();
    if (this.command.dataset['command'] === command) return;
    this.command.dataset['command'] = command;
    this.command.replaceChildren(el('span', {}, `$ ${command}`));
    setAttribute(this.command, 'aria-label', `Type in the terminal: ${command}`);
  }

  private type(): void {
    this.desk.type(this.view.command());
  }

  private showTables(isShown: boolean): void {
    // It may be wider than the panel: whoever sees it can scroll it by keyboard.
    this.tables.tabIndex = isShown ? 0 : -1;
    this.tables.classList.toggle('visually-hidden', !isShown);
    setAttribute(this.toggle, 'aria-pressed', String(isShown));
  }
}

export function panel(client: PanelClient, type: (command: string) => void): Panel {
  const desk: Desk = {
    type,
    ask: (call, ...args) => client.ask(call, ...args),
    changed: () => {
      watch();
      soon();
    },
  };
  const frames = new Map(VIEWS.map(([name, title]) => [name, new Frame(MAKERS[name](desk), title, desk)]));
  const tabs = new Map(VIEWS.map(([name, title]) => [name, tab(name, title, () => show(name))]));
  const list = el('div', { role: 'tablist', 'aria-label': 'Views of the machine' }, ...tabs.values());
  roving(list, () => [...tabs.values()]);
  list.addEventListener('focusin', event => {
    const name = (event.target as HTMLElement).dataset['view'] as ViewName | undefined;
    if (name !== undefined && name !== shown) show(name);
  });
  const element = el('div', { class: 'panel' }, list, ...[...frames.values()].map(f => f.element));

  const files = new Map<string, string>();
  let timeline = new Timeline();
  let nowNs = 0;
  let probe = '';
  let machine = 0;
  let shown: ViewName | null = null;
  let frame = 0;
  let asked = '';

  const seen: Seen = {
    file: path => files.get(path) ?? '',
    get timeline() {
      return timeline;
    },
    get probe() {
      return probe;
    },
    get machine() {
      return machine;
    },
  };

  function soon(): void {
    if (frame !== 0 || shown === null) return;
    frame = requestAnimationFrame(() => {
      frame = 0;
      if (shown !== null) frames.get(shown)!.update(seen);
    });
  }

  /** Tells the worker what is to be seen, when that is something else than before. */
  function watch(): void {
    const view = shown === null ? null : frames.get(shown)!.view;
    const wish: Watch = {
      paths: view?.paths ?? [],
      trace: view?.trace ?? false,
      probe: view?.probe() ?? null,
      everyMs: view?.everyMs ?? 1000,
    };
    const text = JSON.stringify(wish);
    if (text === asked) return;
    asked = text;
    probe = '';
    client.tell('watch', wish);
  }

  function show(name: ViewName | null): void {
    shown = name;
    for (const [other, { element }] of frames) setHidden(element, other !== name);
    if (name !== null) tabs.get(name)!.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    for (const [other, button] of tabs) {
      setAttribute(button, 'aria-selected', String(other === name));
      button.tabIndex = other === (name ?? VIEWS[0][0]) ? 0 : -1;
    }
    watch();
    soon();
  }

  /** Another machine: nothing of the one before it is true any more. */
  function begin(): void {
    files.clear();
    timeline = new Timeline();
    probe = '';
    machine++;
    asked = '';
    watch();
    soon();
  }

  /** New records. Those of a trace that is told from its beginning again take the place of what is known. */
  function follow(events: readonly TraceEvent[]): void {
    if (events.length > 0 && events[0]!.atNs < timeline.lastNs) timeline = new Timeline();
    timeline.add(events);
  }

  client.onHealth(({ is }) => {
    if (is === 'well') begin();
  });
  client.on(news => {
    if (news.news === 'state') {
      if (news.nowNs < nowNs) begin();
      nowNs = news.nowNs;
    }
    if (news.news !== 'seen') return;
    for (const [path, text] of Object.entries(news.files)) files.set(path, text);
    if (news.trace !== null) follow(parseTrace(news.trace));
    if (news.probe !== null) probe = news.probe;
    soon();
  });

  return {
    element,
    show,
    get view() {
      return shown;
    },
  };
}

function tab(name: ViewName, title: string, onclick: () => void): HTMLButtonElement {
  return el(
    'button',
    {
      role: 'tab',
      type: 'button',
      id: `panel-tab-${name}`,
      'data-view': name,
      'aria-controls': `panel-view-${name}`,
      'aria-selected': 'false',
      tabindex: -1,
      onclick,
    },
    title,
  );
}
