// Two dialogs: how the machine is switched on (seed, processor, what it keeps), and how the page looks and speaks.

import type { PoweredOn } from '../protocol/messages.ts';
import { check, choice, field, openDialog } from './dialogs.ts';
import { button, byId, el } from './dom.ts';
import { choose, settings, type Settings } from './settings.ts';

const SEED = { least: -(2 ** 31), most: 2 ** 32 - 1 } as const;

const KEPT = [
  ['kept', 'Kept in this browser'],
  ['lost', 'Gone with the machine'],
] as const;

/** `targets`: as the machine named them when it was last switched on. */
export function restartDialog(targets: PoweredOn['targets'], restart: () => void): void {
  openDialog('Restart the machine', dialog => {
    let chosen: Pick<Settings, 'seed' | 'target' | 'home' | 'log'> = settings();
    const seed = el('input', {
      type: 'number',
      min: SEED.least,
      max: SEED.most,
      step: 1,
      required: true,
      value: chosen.seed,
      autofocus: true,
      class: 'figures',
    });
    const names = targets.map(({ name, title }) => [name, title === '' ? name : `${name} – ${title}`] as const);
    const form = el(
      'form',
      { method: 'dialog', class: 'dialog-form' },
      field('Seed', seed, 'Of /dev/random. The same seed and the same input give the same bytes.'),
      field(
        'Processor',
        choice(
          names.length > 0 ? names : [['', 'The default one']],
          chosen.target,
          target => (chosen = { ...chosen, target }),
        ),
        'Whose time is simulated. It changes when things happen, never what is computed.',
      ),
      field(
        '/home',
        choice(KEPT, chosen.home, home => (chosen = { ...chosen, home })),
        'Kept: files outlive the page, in this browser only.',
      ),
      field(
        'Audit log',
        choice(KEPT, chosen.log, log => (chosen = { ...chosen, log })),
        'Kept: it goes on from one power-on to the next.',
      ),
      el('p', { class: 'muted' }, 'What runs now is ended in order. The terminal is cleared.'),
      el(
        'div',
        { class: 'row end' },
        button('Cancel', dialog.close),
        el('button', { type: 'submit', class: 'primary' }, 'Restart'),
      ),
    );
    form.addEventListener('submit', () => {
      choose({ ...chosen, seed: seed.valueAsNumber });
      restart();
    });
    dialog.body.append(form);
  });
}

export function settingsDialog(): void {
  openDialog('Settings', ({ body }) => {
    const { scheme, fontPx, isSpoken } = settings();
    const schemes = [
      ['system', 'As the system'],
      ['light', 'Light'],
      ['dark', 'Dark'],
    ] as const;
    const fonts = [
      ['0', 'Automatic: 80 columns'],
      ...[10, 12, 13, 14, 16, 18, 20, 24].map(px => [`${px}`, `${px} pixels`] as const),
    ] as const;
    body.append(
      field(
        'Colours',
        choice(schemes, scheme, chosen => choose({ scheme: chosen })),
      ),
      field(
        'Size of the terminal’s text',
        choice(fonts, `${fontPx}`, px => choose({ fontPx: Number(px) })),
      ),
      check(
        'Screen-reader mode',
        isSpoken,
        'What the machine prints is read out, each line once, and stays in a log after the terminal.',
        on => choose({ isSpoken: on }),
      ),
      keyTable(),
      el('p', { class: 'muted' }, `${drawnBy()} More: type “man page”.`),
    );
  });
}

function drawnBy(): string {
  return byId('xterm').dataset['renderer'] === 'webgl'
    ? 'The terminal is drawn by the graphics processor (WebGL).'
    : 'The terminal is drawn by the document.';
}

const KEYS = [
  ['F6', 'leaves the terminal; again: back to it'],
  ['F8', 'pauses the machine and lets it run'],
  ['F9', 'steps one op'],
  ['Ctrl+Shift+C', 'copies the selection, or the screen'],
  ['Ctrl+Shift+V', 'pastes'],
  ['Ctrl+Shift+F', 'finds in the terminal'],
] as const;

function keyTable(): HTMLElement {
  const rows = KEYS.map(([key, what]) =>
    el('tr', {}, el('th', { scope: 'row', class: 'mono' }, key), el('td', {}, what)),
  );
  return el('table', { class: 'list' }, el('caption', {}, 'Keys of the page'), el('tbody', {}, ...rows));
}
