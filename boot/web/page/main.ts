// The page: joins terminal, controls, dialogs and panel to the machine in the worker, and says what becomes of it. It computes nothing of the
// machine; whatever it shows has come over the cable.

import type { News, PoweredOn, RunKind, Share } from '../protocol/messages.ts';
import { Client } from './client.ts';
import { TimeControls } from './controls.ts';
import { Desk } from './desk.ts';
import { button, byId, el } from './dom.ts';
import { filesDialog, showStorage, takeDrops } from './files-dialog.ts';
import { notice, progress, type Notice } from './notices.ts';
import { keepOffline } from './offline.ts';
import { restartDialog, settingsDialog } from './power-dialogs.ts';
import { settings } from './settings.ts';
import { shareDialog, shared, sayWhatCame } from './share-dialog.ts';
import { refusal, takeWorker } from './start.ts';
import { TerminalPane } from './terminal.ts';
import { followTheme } from './theme.ts';
import './page.css';

const RUN_TEXT: Readonly<Record<RunKind, string>> = {
  off: 'Off',
  idle: 'Ready',
  busy: 'Running',
  held: 'Held in a step',
  paused: 'Paused',
  halted: 'Halted',
};

/** So long the rest of the page waits for the prompt. */
const PATIENCE_MS = 2000;

type StateNews = Extract<News, { readonly news: 'state' }>;

class Page {
  readonly #client: Client;
  readonly #terminal: TerminalPane;
  readonly #desk: Desk;
  readonly #controls: TimeControls;
  #targets: PoweredOn['targets'] = [];
  /** What the terminal's keys do: the machine's, or Enter switches it on. */
  #isOn = false;
  /** How often it has been switched on: of one that another has followed nothing is said any more. */
  #powers = 0;
  /** The latest is on its way: what comes is of the machine before it, or not yet the last word. */
  #isStarting = false;
  #ran: RunKind = 'off'; // last told
  #isRaw = false;
  #silence: Notice | null = null;
  readonly #facts = {
    clock: fact('clock'),
    seed: fact('seed'),
    target: fact('target'),
    kernels: fact('kernels'),
    home: fact('home'),
  };
  readonly #digest = button('State digest', () => void this.#showDigest(), { class: 'quiet' });
  #digestCycles = -1; // of what is shown; -1: nothing
  #cycles = 0;

  constructor() {
    this.#client = new Client(takeWorker);
    this.#client.start();
    followTheme();
    this.#terminal = new TerminalPane({
      input: bytes => this.#input(bytes),
      resized: (columns, rows) => this.#client.tell('resize', columns, rows),
      shown: bytes => this.#client.tell('shown', bytes),
      leave: isBackward => this.#desk.leaveTerminal(isBackward),
    });
    this.#desk = new Desk(this.#terminal);
    this.#controls = new TimeControls(byId('controls'), {
      speed: speed => this.#client.tell('speed', speed),
      step: at => this.#client.tell('step', at),
      restart: () => restartDialog(this.#targets, () => void this.#restart()),
    });
    byId('menus').append(
      button('Files', () => filesDialog(this.#client)),
      button('Share', () => shareDialog(this.#client)),
      button('Settings', settingsDialog),
    );
    byId('facts').append(...Object.values(this.#facts), el('span', { class: 'grow' }), this.#digest);
    this.#listen();
  }

  #listen(): void {
    const client = this.#client;
    client.on(news => this.#hear(news));
    client.onHealth(() => this.#showHealth());
    takeDrops(client);
    addEventListener('keydown', event => {
      if (event.key === 'F8') this.#controls.toggle();
      else if (event.key === 'F9') this.#controls.step('op');
      else return;
      event.preventDefault();
    });
    addEventListener('hashchange', () => void this.#openLink(false));
  }

  #hear(news: News): void {
    if (news.news === 'output') this.#terminal.write(news.bytes);
    else if (news.news === 'state') this.#showState(news);
    else if (news.news === 'progress') progress(news.what, news.done, news.total);
    else if (news.news === 'trouble') notice('trouble', news.text);
    else if (news.news === 'storage') showStorage(news.storage);
  }

  // ── Power ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The first thing that happens: what the address says, or a machine as it was chosen. */
  async begin(): Promise<void> {
    const opened = this.#openLink(true);
    // Rather at the prompt than on the way there; but what is replayed may take its time.
    await Promise.race([opened, new Promise(resolve => setTimeout(resolve, PATIENCE_MS))]);
    await this.#desk.addPanel(this.#client, command => this.#type(command));
    await this.#terminal.drawWithWebgl();
    const trouble = await keepOffline();
    if (trouble !== null) byId('facts').append(el('span', { title: trouble }, 'not kept for offline'));
  }

  /** What is after # in the address is replayed; where that is nothing of ours, the machine is as it was chosen, `isFirst`, or stays as it is. */
  async #openLink(isFirst: boolean): Promise<void> {
    const share = await shared(location.hash);
    if (typeof share === 'string') notice('trouble', share);
    if (isFirst || (share !== null && typeof share !== 'string'))
      await this.#powerOn(typeof share === 'string' ? null : share);
  }

  async #powerOn(share: Share | null): Promise<void> {
    const power = ++this.#powers;
    if (this.#client.health.is === 'dead') this.#client.start();
    const { seed, target, home, log } = settings();
    this.#terminal.clear();
    this.#terminal.hold(share);
    this.#isOn = this.#isStarting = true;
    this.#run('starting', share === null ? 'Starting' : 'Replaying');
    const { cols: columns, rows } = this.#terminal.xterm;
    try {
      const on = await this.#client.ask('powerOn', { seed, target, columns, rows, home, log, share });
      if (power !== this.#powers) return;
      this.#isStarting = false;
      this.#showPower(on, share !== null);
      this.#resized(columns, rows, share);
      this.#sayOff();
      this.#terminal.xterm.write('', () => performance.mark('prompt')); // it is on the screen: for measurements
      if (share !== null) sayWhatCame(share, on);
    } catch (error) {
      if (power !== this.#powers) return;
      this.#isOn = this.#isStarting = false;
      if (this.#client.health.is !== 'dead') this.#offerPower((error as Error).message);
    }
    this.#terminal.hold(null);
    this.#controls.again();
    if (document.activeElement === document.body) this.#terminal.focus();
  }

  /** A window that changed while there was no machine yet: it has not heard of that. */
  #resized(columns: number, rows: number, share: Share | null): void {
    const { cols, rows: lines } = this.#terminal.xterm;
    if (share === null && (cols !== columns || lines !== rows)) this.#client.tell('resize', cols, lines);
  }

  /** Whoever has started it goes on there, not at the button. */
  async #restart(): Promise<void> {
    await this.#powerOn(null);
    this.#terminal.focus();
  }

  #offerPower(text: string): void {
    this.#run('dead', 'Off');
    notice('trouble', text, { label: 'Switch on again', press: () => void this.#powerOn(null) });
  }

  #showPower(on: PoweredOn, isReplay: boolean): void {
    this.#targets = on.targets;
    const { seed, target, kernels } = this.#facts;
    seed.replaceChildren('seed ', el('b', {}, `${on.seed}`));
    target.replaceChildren('processor ', el('b', {}, on.target));
    kernels.replaceChildren('kernels ', el('b', {}, on.compute));
    kernels.title = `arena8 ${on.version}, build ${on.build.slice(0, 12)}, at its prompt after ${on.bootMs.toFixed(0)} ms`;
    showStorage(on.storage);
    // A replay's is its own: sayWhatCame says so.
    if (!isReplay && !on.storage.isKept && on.storage.why !== '' && settings().home === 'kept')
      notice('note', `/home is gone with the machine: ${on.storage.why}.`);
  }

  /** Silence may end; death does not. */
  #showHealth(): void {
    const { health } = this.#client;
    const again = { label: 'Switch on again', press: () => this.#again() };
    this.#silence?.close();
    this.#silence = null;
    if (health.is === 'silent') {
      this.#run('dead', 'Silent');
      this.#silence = notice(
        'trouble',
        'The machine has not answered for some seconds. What is in /home is kept.',
        again,
      );
    } else if (health.is === 'dead' && this.#isOn) {
      this.#isOn = false;
      this.#run('dead', 'Gone');
      notice('trouble', `The machine is gone: ${health.why}. What is in /home is kept.`, again);
    }
  }

  /** Another worker: the old one does not hear. */
  #again(): void {
    this.#isOn = false;
    this.#client.end('it did not answer');
    void this.#powerOn(null);
  }

  // ── Keys ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  #input(bytes: Uint8Array): void {
    if (this.#isOn) this.#client.tell('type', bytes);
    else if (bytes.includes(13)) void this.#powerOn(null);
  }

  /** A command line of the panel's, as if it were typed: in place of what stands at the prompt. */
  #type(command: string): void {
    if (/\p{Cc}/u.test(command)) return void notice('note', 'A name in this command has characters that no key types.');
    this.#desk.show('terminal');
    this.#terminal.focus();
    if (!this.#isRaw) return this.#terminal.xterm.input(`\x05\x15${command}\r`);
    notice('note', 'A program has the whole terminal: leave it first, most by pressing q.');
  }

  // ── What is shown of the machine ───────────────────────────────────────────────────────────────────────────────────────────────

  #run(lamp: RunKind | 'starting' | 'dead', text: string): void {
    byId('lamp').dataset['run'] = lamp;
    byId('run').textContent = text;
  }

  #showState({ run, nowNs, cycles, raw }: StateNews): void {
    this.#run(run, RUN_TEXT[run]);
    this.#facts.clock.replaceChildren('clock ', el('b', {}, `${(nowNs / 1e9).toFixed(6)} s`));
    this.#isRaw = raw;
    this.#cycles = cycles;
    if (this.#digestCycles >= 0 && this.#digestCycles !== cycles) {
      this.#digestCycles = -1;
      this.#digest.textContent = 'State digest';
    }
    this.#ran = run;
    if (!this.#isStarting) this.#sayOff();
  }

  /** A machine that has ended: Enter switches the next one on. */
  #sayOff(): void {
    if ((this.#ran !== 'off' && this.#ran !== 'halted') || !this.#isOn) return;
    this.#terminal.say(`The machine ${this.#ran === 'off' ? 'is off' : 'has halted'}: press Enter to switch it on.`);
    this.#isOn = false;
  }

  /** Until the machine goes on, when it is another. */
  async #showDigest(): Promise<void> {
    try {
      const digest = await this.#client.ask('digest');
      this.#digestCycles = this.#cycles;
      this.#digest.textContent = `digest ${digest.slice(0, 12)}`;
      this.#digest.title = digest;
    } catch (error) {
      notice('trouble', (error as Error).message);
    }
  }
}

function fact(name: string): HTMLElement {
  return el('span', { 'data-fact': name });
}

if (refusal === null) void new Page().begin();
else {
  byId('veil').textContent = refusal;
  byId('lamp').dataset['run'] = 'dead';
  byId('run').textContent = 'Not started';
}
