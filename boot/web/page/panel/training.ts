// Training: how the loss falls, of what is trained on and of what is held out, how fast it goes and how long it will take. Drawn from the log of
// the training that began last, which llmfinetune keeps beside what comes of it.

import { el } from '../dom.ts';
import { Chart, fact } from './chart.ts';
import { FigureTable, setText } from './dom.ts';
import { count, time } from './format.ts';
import { onPalette } from './palette.ts';
import { leftNs, parseLog, parseRun, stretches, type Stretch } from './parse-training.ts';
import type { Desk, Seen, View } from './view.ts';

/** Where llmfinetune says which directory of its store the training that began last is kept in. */
const LAST = '/tmp/llmfinetune';
/** Points of the curve at most. */
const MOST = 200;
const HINT =
  'No training yet: type llmfinetune start DATA NAME, where DATA has examples; the lab finetune (less /usr/share/labs/finetune.md) begins with some';

export function trainingView(desk: Desk): View {
  const curve = new Chart(
    'Loss, in nats a token',
    [
      { label: 'trained on', series: 0, dash: [] },
      { label: 'held out', series: 1, dash: [4, 3] },
    ],
    step => count(step),
    desk,
  );
  const name = el('p', { class: 'sum' });
  const facts = el('dl', { class: 'numbers' });
  const step = fact(facts, 'step');
  const loss = fact(facts, 'loss');
  const held = fact(facts, 'held-out loss');
  const best = fact(facts, 'best of these');
  const pace = fact(facts, 'tokens/s');
  const left = fact(facts, 'time left');
  const caption = el('p', { class: 'caption' });
  const figure = el('div', { class: 'training' }, name, facts, curve.element, caption);
  const columns = ['step', 'epoch', 'loss', 'held-out loss', 'learning rate', 'gradient', 'tokens/s'];
  const table = new FigureTable('Losses by steps', columns, new Set(columns));
  let directory = '';
  let drawn = '';
  let version = 0;
  onPalette(() => {
    version++;
    desk.changed();
  });

  /** The directory that is watched is that of the training that began last. */
  function follow(seen: Seen): void {
    const now = seen.file(LAST).trim();
    if (now === directory) return;
    directory = now;
    drawn = '';
    desk.changed();
  }

  return {
    name: 'training',
    about: 'How the loss falls while the model learns, in the machine’s own time.',
    command: () => (directory === '' ? 'man llmfinetune' : `llmfinetune plot ${directory.split('/').at(-1)}`),
    get paths() {
      return directory === '' ? [LAST] : [LAST, `${directory}/log.jsonl`, `${directory}/run.json`];
    },
    trace: false,
    probe: () => null,
    everyMs: 500,
    figure,
    tables: [table.element],
    update(seen: Seen) {
      follow(seen);
      if (directory === '') return HINT;
      const text = seen.file(`${directory}/log.jsonl`);
      const run = parseRun(seen.file(`${directory}/run.json`));
      const log = parseLog(text);
      const last = log.updates.at(-1);
      if (last === undefined) return 'The first step is under way';
      const state = `${text.length} ${last.step} ${log.looks.length} ${run.state} ${version}`;
      if (state === drawn) return '';
      drawn = state;
      const points = stretches(log, MOST);
      setText(name, `${directory}: ${run.method}${run.state === '' ? '' : `, ${run.state}`}.`);
      setText(step, run.steps > 0 ? `${count(last.step)} of ${count(run.steps)}` : count(last.step));
      setText(loss, nats(points.at(-1)!.loss));
      setText(held, nats(log.looks.at(-1)?.loss));
      setText(best, nats(log.looks.reduce<number | undefined>((x, { loss: y }) => Math.min(x ?? y, y), undefined)));
      setText(pace, rate(points.at(-1)!));
      setText(left, run.steps > 0 ? time(leftNs(log, run.steps)) : '–');
      curve.set([points.map(p => p.last.step), points.map(p => p.loss), points.map(p => p.heldOut)], version, i =>
        setText(caption, summary(points[i]!)),
      );
      table.set(
        points.map(p => [
          count(p.last.step),
          count(p.last.epoch),
          nats(p.loss),
          nats(p.heldOut),
          String(Number(p.last.rate.toPrecision(3))),
          p.last.gradientNorm.toPrecision(3),
          rate(p),
        ]),
      );
      return '';
    },
  };
}

const nats = (loss: number | null | undefined): string => (typeof loss === 'number' ? loss.toFixed(4) : '–');
const rate = (p: Stretch): string => (Number.isNaN(p.tokensPerSecond) ? '–' : p.tokensPerSecond.toFixed(1));

/** A point of the curve in a sentence. */
function summary(p: Stretch): string {
  const held = p.heldOut === null ? '' : `, held out ${nats(p.heldOut)}`;
  return `Step ${count(p.last.step)}, epoch ${count(p.last.epoch)}: loss ${nats(p.loss)}${held}, ${rate(p)} tokens/s`;
}
