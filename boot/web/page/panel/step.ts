// Step: the plan as the processor runs it, op by op, with the one that it is held before: what that reads and writes, what its certificate promises,
// what it costs, and how much of the pass's bound is left. What `cat /proc/step` prints; the buttons above the terminal make the steps.

import { el } from '../dom.ts';
import { enter, FigureTable, roving, setAttribute, setHidden, setStyle, setText } from './dom.ts';
import { count, percent } from './format.ts';
import { PLAN_COLUMNS } from '../../../../kernel/abi/index.ts';
import { parsePlan, parseStep, type PlanOp, type Step } from './parse-step.ts';
import type { View } from './view.ts';

const STATES: Readonly<Record<string, string>> = {
  held: 'Held before',
  done: 'Ran last,',
  failed: 'Failed, and ended the pass,',
};

export function stepView(): View {
  const where = el('p', { class: 'where', 'aria-live': 'polite' });
  const spent = el('span', { class: 'bar' });
  const spentText = el('span');
  const bound = el(
    'p',
    { class: 'sum bound' },
    el('span', { class: 'gauge', 'aria-hidden': 'true' }, spent),
    spentText,
  );
  const list = el('div', { class: 'plan', role: 'group', 'aria-label': 'Ops of the plan' });
  const detail = new Detail();
  const figure = el('div', { class: 'step' }, where, bound, list, detail.element);
  const table = new FigureTable(
    'Ops of the plan; of the cycles at most, compute, memory and overhead in thousandths',
    PLAN_COLUMNS,
    new Set(PLAN_COLUMNS.filter(title => !['segment', 'op', 'name'].includes(title))),
  );
  let items: OpItem[] = [];
  let plan: readonly PlanOp[] = [];
  let planText = '';
  let stepText = '';
  let step = parseStep('');
  /** Which op is explained: the current one, unless somebody stands on another. */
  let chosen = -1;
  roving(list, () => items.map(item => item.element));
  list.addEventListener('focusin', event => {
    chosen = items.findIndex(item => item.element === event.target);
    explain();
  });
  list.addEventListener('focusout', event => {
    if (list.contains(event.relatedTarget as Node | null)) return;
    chosen = -1;
    explain();
  });
  list.addEventListener('click', event => (event.target as HTMLElement).closest<HTMLElement>('.op')?.focus());

  function explain(): void {
    const op = plan[chosen < 0 ? step.index : chosen];
    if (op !== undefined) detail.set(op, op.index === step.index ? step : null);
    setHidden(detail.element, op === undefined);
  }

  function drawPlan(): void {
    const dearest = Math.max(...plan.map(op => op.most), 1);
    if (items.length !== plan.length) {
      items = plan.map(() => new OpItem());
      list.replaceChildren(...items.map(item => item.element));
      enter(items.map(item => item.element));
    }
    plan.forEach((op, i) => items[i]!.set(op, dearest, plan[i - 1]));
    table.set(plan.map(op => op.cells));
  }

  function drawStep(before: number): void {
    const op = plan[step.index];
    setText(
      where,
      op === undefined
        ? 'No pass has run yet: pause, let a session begin, and step.'
        : `${STATES[step.state] ?? step.state} op ${op.index} of 0–${plan.length - 1}: ${op.op} ${op.name}, ${placeOf(op)}.`,
    );
    setHidden(bound, op === undefined);
    setStyle(spent, 'width', percentOf(step.cycles / step.bound));
    setText(
      spentText,
      `${count(step.cycles)} of at most ${count(step.bound)} cycles of this pass, ${count(step.left)} left`,
    );
    if (before !== step.index) items[before]?.mark('');
    items[step.index]?.mark(step.state);
    if (before !== step.index && op !== undefined && chosen < 0)
      requestAnimationFrame(() => show(list, items[step.index]!.element)); // by then it is laid out
  }

  return {
    name: 'step',
    about: 'The plan, the op that the processor stands at, what it works on and what it costs.',
    command: () => 'cat /proc/step',
    paths: ['/proc/step', '/proc/plan'],
    trace: false,
    probe: () => null,
    everyMs: 50,
    figure,
    tables: [table.element],
    update(seen) {
      const [nextPlan, nextStep] = [seen.file('/proc/plan'), seen.file('/proc/step')];
      if (nextPlan === '' && parseStep(nextStep).state === 'denied')
        return `The plan is not shown: ${parseStep(nextStep).why}`;
      if (nextPlan === '')
        return 'No plan yet: type llmctl load fable-f16, then press Pause, type llminfer Once upon a time, and step.';
      if (nextPlan === planText && nextStep === stepText) return '';
      const before = step.index;
      if (nextPlan !== planText) {
        plan = parsePlan(nextPlan);
        drawPlan();
      }
      step = parseStep(nextStep);
      [planText, stepText] = [nextPlan, nextStep];
      drawStep(before);
      explain();
      return '';
    },
  };
}

const percentOf = (share: number): string =>
  `${(Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0)) * 100).toFixed(2)}%`;
const placeOf = (op: PlanOp): string =>
  op.layer < 0 ? `of the ${op.segment}` : `layer ${op.layer} of the ${op.segment}`;

/** Brings an item of a list into its middle, and moves nothing else. */
function show(list: HTMLElement, item: HTMLElement): void {
  list.scrollTop = item.offsetTop - list.offsetTop - (list.clientHeight - item.offsetHeight) / 2;
}

/** A line of the plan; the first of a layer or a segment is set off. */
class OpItem {
  readonly element: HTMLElement;
  private readonly number = el('span', { class: 'number' });
  private readonly layer = el('span', { class: 'layer' });
  private readonly op = el('b');
  private readonly name = el('span', { class: 'name' });
  private readonly bar = el('span', { class: 'bar' });
  private readonly price = el('span', { class: 'number' });

  constructor() {
    this.element = el(
      'button',
      { type: 'button', class: 'op' },
      this.number,
      this.layer,
      this.op,
      this.name,
      el('span', { class: 'track', 'aria-hidden': 'true' }, this.bar),
      this.price,
    );
  }

  set(op: PlanOp, dearest: number, before: PlanOp | undefined): void {
    const isFirst = before?.layer !== op.layer || before.segment !== op.segment;
    setText(this.number, String(op.index));
    setText(this.layer, isFirst ? (op.layer < 0 ? op.segment : `layer ${op.layer}`) : '');
    setText(this.op, op.op);
    setText(this.name, op.name);
    setText(this.price, count(op.most));
    setStyle(this.bar, 'width', percentOf(op.most / dearest));
    this.element.classList.toggle('first', isFirst);
  }

  /** `held`, `done`, `failed`, or '' where the processor is elsewhere. */
  mark(state: string): void {
    if (state === '') this.element.removeAttribute('aria-current');
    else setAttribute(this.element, 'aria-current', 'step');
    this.element.classList.toggle('held', state === 'held');
  }
}

/** What one op is: price and certificate of any, and of the one at which the processor stands what it works on. */
class Detail {
  readonly element: HTMLElement;
  private readonly title = el('h3');
  private readonly price = el('p', { class: 'sum' });
  private readonly parts = el('div', { class: 'parts' });
  private readonly certificate = el('p', { class: 'sum' });
  private readonly operands = new FigureTable(
    'Works on',
    ['operand', 'shape', 'at', 'region', 'what'],
    new Set(['at']),
  );
  private readonly words = el('p', { class: 'sum mono' });
  private readonly rows = el('p', { class: 'sum' });

  constructor() {
    this.element = el(
      'div',
      { class: 'detail' },
      this.title,
      this.price,
      this.parts,
      this.certificate,
      this.operands.element,
      this.words,
      this.rows,
    );
  }

  set(op: PlanOp, step: Step | null): void {
    setText(this.title, `${op.op} ${op.name}`);
    setText(this.price, `Price: at most ${count(op.most)} cycles, at least ${count(op.least)}:`);
    const shares = [
      ['compute', op.compute],
      ['memory', op.memory],
      ['overhead', op.overhead],
    ] as const;
    if (this.parts.children.length === 0)
      this.parts.append(
        ...shares.map(([name]) => el('span', { class: name }, el('i', { 'aria-hidden': 'true' }), el('span'))),
      );
    shares.forEach(([name, cycles], i) => {
      const part = this.parts.children[i] as HTMLElement;
      const share = op.most > 0 ? cycles / op.most : 0;
      setStyle(part.firstElementChild as HTMLElement, 'width', percentOf(share));
      setText(part.lastElementChild!, `${name} ${count(cycles)}, ${percent(share)}`);
    });
    setText(
      this.certificate,
      `Certificate: at most ${count(op.instructions)} instructions, ${count(op.loaded)} bytes loaded, ${count(op.stored)} bytes stored.`,
    );
    for (const part of [this.operands.element, this.words, this.rows]) setHidden(part, step === null);
    if (step === null) return;
    this.operands.set(step.places.map(p => [p.name, p.shape, count(p.at), p.region, p.what]));
    setText(this.words, step.words.map(([name, value]) => `${name} ${value}`).join('   '));
    setText(
      this.rows,
      step.rows.map(r => `Session ${r.session} at position ${r.position}, token ${r.token}`).join('; '),
    );
  }
}
