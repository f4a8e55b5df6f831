// Schedule: who had the processor when, from the kernel's trace: the timeline. Beside it what is promised and what is left of it, from
// /proc/sched, /proc/budget and /proc/sessions.

import { NO_SLACK } from '../../../../kernel/abi/index.ts';
import { el } from '../dom.ts';
import { FigureTable, setText } from './dom.ts';
import { count, time } from './format.ts';
import { figure as valueOf, keyed, tabbed, type Row } from './parse-text.ts';
import type { Lane, Mark, Span, Timeline } from './parse-trace.ts';
import { LOOKS, TimelineBoard } from './timeline.ts';
import type { Desk, Seen, View } from './view.ts';

/** Events in the table. */
const EVENTS = 40;

export function scheduleView(desk: Desk): View {
  return new ScheduleView(desk);
}

class ScheduleView implements View {
  readonly name = 'schedule' as const;
  readonly about = 'Who had the processor when, and what is promised to whom.';
  readonly paths = ['/proc/sched', '/proc/budget', '/proc/sessions'];
  readonly trace = true;
  readonly everyMs = 100;
  private readonly meters = el('dl', { class: 'meters' });
  private readonly servers = meter(this.meters, 'Servers');
  private readonly tokens = meter(this.meters, 'Tokens this period');
  private readonly facts = el('p', { class: 'sum' });
  private readonly board: TimelineBoard;
  readonly figure: HTMLElement;
  private readonly sessionsTable = new FigureTable(
    'Sessions',
    ['id', 'state', 'end', 'output', 'server', 'deadline', 'slack', 'misses', 'preempted', 'processor'],
    new Set(['id', 'output', 'misses', 'preempted', 'processor']),
  );
  private readonly eventsTable = new FigureTable('Newest events', ['time', 'session', 'event'], new Set(['session']));
  readonly tables = [this.sessionsTable.element, this.eventsTable.element];
  private drawn = '';

  constructor(desk: Desk) {
    this.board = new TimelineBoard(desk.changed);
    const { controls, element, legend, caption } = this.board;
    this.figure = el('div', { class: 'schedule' }, this.meters, this.facts, controls, element, legend, caption);
  }

  command(): string {
    return 'llmctl sched; llmctl sessions';
  }

  probe(): null {
    return null;
  }

  update(seen: Seen): string {
    const { timeline } = seen;
    if (timeline.lanes.size === 0)
      return 'No session has run yet: type llmctl load fable-f16, then llminfer Once upon a time';
    const sessions = tabbed(seen.file('/proc/sessions'));
    const text = [...this.paths.map(path => seen.file(path)), timeline.events, timeline.lastNs].join('\0');
    if (text !== this.drawn) {
      this.drawn = text;
      this.drawMeters(seen);
      this.sessionsTable.set(sessions.map(row => cellsOf(row, timeline.lanes.get(Number(row['id'])))));
      this.eventsTable.set(newestEvents(timeline));
    }
    this.board.update(timeline, sessions);
    return '';
  }

  private drawMeters(seen: Seen): void {
    const sched = keyed(seen.file('/proc/sched'));
    const budget = keyed(seen.file('/proc/budget'));
    const [used, bound] = [valueOf(sched, 'usedPpm'), valueOf(sched, 'boundPpm')];
    this.servers(used / bound, `${count(used)} of ${count(bound)} ppm, ${count(bound - used)} left`);
    const [issued, most] = [valueOf(budget, 'issued'), valueOf(budget, 'maxTokens')];
    if (most > 0)
      this.tokens(issued / most, `${count(issued)} of ${count(most)}, ${count(Math.max(0, most - issued))} left`);
    else this.tokens(0, `${count(issued)}, no limit`);
    const [passes, preemptions, misses] = ['passes', 'preemptions', 'misses'].map(key => count(valueOf(sched, key)));
    setText(
      this.facts,
      `${sched.get('policy') ?? ''}: ${passes} passes, ${preemptions} preemptions, ${misses} deadlines missed`,
    );
  }
}

/** A session as a row of the table; `lane`: what the trace has of it. */
function cellsOf(row: Row, lane: Lane | undefined): string[] {
  const number = (key: string): number => Number(row[key]);
  const [periodNs, deadlineNs, slackNs] = [number('periodNs'), number('deadlineNs'), number('slackNs')];
  return [
    row['id']!,
    row['state']!,
    row['finish']!,
    count(number('outputTokens')),
    periodNs > 0 ? `${count(number('budgetCycles'))} cycles every ${time(periodNs)}` : 'none',
    deadlineNs > 0 ? time(deadlineNs) : 'none',
    slackNs < NO_SLACK ? time(slackNs) : '–',
    row['misses']!,
    row['preemptions']!,
    time(lane?.busyNs ?? NaN),
  ];
}

function newestEvents(timeline: Timeline): string[][] {
  const newest: { readonly atNs: number; readonly lane: Lane; readonly what: Span | Mark }[] = [];
  for (const lane of timeline.lanes.values()) {
    for (const s of lane.spans.slice(-EVENTS)) newest.push({ atNs: s.fromNs, lane, what: s });
    for (const m of lane.marks.slice(-EVENTS)) newest.push({ atNs: m.atNs, lane, what: m });
  }
  return newest
    .sort((a, b) => b.atNs - a.atNs)
    .slice(0, EVENTS)
    .map(({ atNs, lane, what }) => {
      const title = 'toNs' in what ? LOOKS[what.kind].title : what.kind;
      return [time(atNs), String(lane.session), `${title}: ${what.note}`];
    });
}

/** A figure against its bound. Returns what sets it: the share, and the words. */
function meter(list: HTMLElement, title: string): (share: number, text: string) => void {
  const bar = el('span', { class: 'bar' });
  const words = el('span');
  list.append(el('dt', {}, title), el('dd', {}, el('span', { class: 'gauge' }, bar), words));
  return (share, text) => {
    const width = `${Math.min(100, Math.max(0, Number.isFinite(share) ? share * 100 : 0)).toFixed(1)}%`;
    if (bar.style.width !== width) bar.style.width = width;
    setText(words, text);
  };
}
