// The worker's side of the cable: takes what the page asks, in order, and answers each by its number. One machine at a time, with its loop, its
// storage and what is watched of it; a refusal is a line, and the machine goes on.

import { formatRefusal, isRefusal, refuse, strerror, type Refusal } from '../../../kernel/abi/index.ts';
import { TARGET_DEFAULT, TARGETS } from '../../../kernel/wcet/targets.ts';
import { bestBuild, Machine } from '../../machine.ts';
import { replay, sharedOptions, storeShared, type Replayed } from '../../share.ts';
import { BUILD_DIGEST, VERSION } from '../../version.ts';
import type { Ask, Calls, PoweredOn, PowerOn, Share, ToPage } from '../protocol/messages.ts';
import { formatLink } from '../protocol/link.ts';
import { Host, type Attendant, type Ground } from './host.ts';
import type { MachineStorage, StorageNews, StorageWish } from './storage.ts';
import type { Supplies } from './supplies.ts';
import { Watcher } from './watcher.ts';

/** What the service stands on: the loop's ground, and where machines and storage come from. */
export interface Site extends Omit<Ground, 'tell'> {
  readonly post: (message: ToPage) => void;
  readonly supplies: (progress: (done: number, total: number) => void) => Promise<Supplies>;
  readonly openStorage: (wish: StorageWish, news: StorageNews) => Promise<MachineStorage>;
}

/** What a call gives: its value, now or later, or a refusal. */
type Given<N extends keyof Calls> = ReturnType<Calls[N]> | Refusal;
type Answers = {
  readonly [N in keyof Calls]: (...args: Parameters<Calls[N]>) => Given<N> | Promise<Given<N>>;
};

const OFF = refuse('PERM', 0, 'the machine is off');

interface Running {
  readonly host: Host;
  readonly storage: MachineStorage;
  readonly seed: number;
  readonly target: string;
}

/** A link's digest is found by coming to it; what takes longer than this nobody would wait for. */
const REPLAY_MS_MAX = 60_000;
/** What else happens meanwhile happens this often. */
const REPLAY_SLICE_MS = 8;

export class Service {
  #running: Running | null = null;
  /** Switching on and off, one after the other. */
  #switching: Promise<unknown> = Promise.resolve();
  /** How many wait for their turn. */
  #waiting = 0;
  readonly #watcher: Watcher;
  readonly #ground: Ground;

  constructor(private readonly site: Site) {
    this.#ground = { ...site, tell: site.post };
    this.#watcher = new Watcher(this.#ground, () => this.#running?.host.machine ?? null);
  }

  /** A message of the page. */
  async take(ask: Ask): Promise<void> {
    const { id } = ask;
    try {
      const value = await (this.#answers[ask.call] as (...args: unknown[]) => unknown)(...ask.args);
      if (isRefusal(value)) this.site.post({ id, refusal: formatRefusal(value) });
      else this.site.post({ id, value });
    } catch (error) {
      this.site.post({ id, refusal: (error as Error).message });
    }
  }

  readonly #answers: Answers = {
    powerOn: options => this.#inTurn(() => this.#powerOn(options)),
    powerOff: () => this.#inTurn(() => this.#powerOff()),
    type: bytes => this.#tell(host => host.type(bytes)),
    resize: (columns, rows) => this.#tell(host => host.resize(columns, rows)),
    shown: bytes => this.#tell(host => host.shown(bytes)),
    speed: speed => this.#tell(host => host.speed(speed)),
    step: at => this.#tell(host => host.step(at)),
    watch: watch => (this.#watcher.set(watch), null),
    read: path => this.#with(({ host, storage }) => storage.read(host.machine, path)),
    put: (name, file) => this.#with(({ host, storage }) => storage.put(host.machine, name, file)),
    fetch: url => this.#with(({ host, storage }) => storage.fetch(host.machine, url)),
    list: path => this.#with(({ host, storage }) => storage.list(host.machine, path)),
    storage: () => this.#with(({ storage }) => storage.status()),
    share: files => this.#with(running => this.#share(running, files)),
    digest: () => this.#with(({ host }) => host.machine.stateDigest()),
  };

  #with<T>(use: (running: Running) => T | Refusal | Promise<T | Refusal>): T | Refusal | Promise<T | Refusal> {
    return this.#running === null ? OFF : use(this.#running);
  }

  #tell(use: (host: Host) => void): null | Refusal {
    if (this.#running === null) return OFF;
    use(this.#running.host);
    return null;
  }

  /** Whoever waits for a prompt that may never come is not waited for. */
  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    this.#waiting++;
    this.#running?.host.powerOff();
    const done = this.#switching.then(() => {
      this.#waiting--;
      return change();
    });
    this.#switching = done.catch(() => {});
    return done;
  }

  // ── Switching on and off ───────────────────────────────────────────────────────────────────────────────────────────────────────

  async #powerOn(options: PowerOn): Promise<PoweredOn | Refusal> {
    const fromMs = this.site.nowMs();
    await this.#powerOff();
    const { share } = options;
    const wish: StorageWish = share === null ? options : { home: 'lost', log: 'lost' };
    const opening = this.site.openStorage(wish, {
      progress: (what, done, total) => this.#progress(what, done, total),
      trouble: text => this.site.post({ news: 'trouble', text }),
      storage: status => this.site.post({ news: 'storage', storage: status }),
    });
    let supplies: Supplies;
    try {
      supplies = await this.site.supplies((done, total) => this.#progress('boot image', done, total));
    } catch (error) {
      (await opening).close();
      throw error;
    }
    const storage = await opening;
    const { seed, target, columns, rows } = share ?? options;
    let host: Host;
    try {
      host = new Host(
        this.#ground,
        { columns, rows },
        (console, log) =>
          new Machine({ ...supplies, seed, target: target || TARGET_DEFAULT, mounts: storage.mounts, console, log }),
        this.#attendantOf(storage),
      );
    } catch (error) {
      storage.close();
      throw error;
    }
    this.#running = { host, storage, seed, target };
    this.#watcher.restart();
    const refusal = share === null ? null : storeShared(host.machine, share);
    if (refusal !== null) {
      host.powerOff();
      return refusal;
    }
    const digest = await new Promise<string>(resolve => {
      // At once: from here on somebody may type.
      const atPrompt = (isWhole: boolean): void =>
        resolve(share === null || !isWhole ? '' : host.machine.stateDigest());
      host.start(atPrompt, share?.commands);
      if (this.#waiting > 0) host.powerOff();
    });
    return {
      version: VERSION,
      build: BUILD_DIGEST,
      compute: bestBuild(),
      targets: TARGETS.map(({ name, title }) => ({ name, title })),
      target: target || TARGET_DEFAULT,
      seed,
      bootMs: this.site.nowMs() - fromMs,
      digest,
      storage: await storage.status(),
    };
  }

  #attendantOf(storage: MachineStorage): Attendant {
    return {
      moved: () => this.#watcher.moved(),
      rested: () => storage.flush(),
      holdUp: () => (storage.isShort ? storage.settle() : null),
      // One that has halted stays, so that its files can be saved.
      ended: () => (this.#running?.host.kind === 'halted' ? storage.flush() : this.#leave(storage)),
    };
  }

  #leave(storage: MachineStorage): void {
    storage.close();
    this.#running = null;
  }

  async #powerOff(): Promise<null> {
    this.#running?.host.powerOff();
    if (this.#running !== null) this.#leave(this.#running.storage);
    return null;
  }

  #progress(what: string, done: number, total: number): void {
    this.site.post({ news: 'progress', what, done, total });
  }

  // ── Sharing ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #share({ host, seed, target }: Running, paths: readonly string[]): Promise<Share | Refusal> {
    const { columns, rows } = host.tty;
    const { commands, leftOut } = host.typed;
    const files: Share['files'][number][] = [];
    for (const path of paths) {
      const bytes = host.machine.observe(path);
      if (typeof bytes === 'number') return refuse('NOENT', 0, `${path}: ${strerror(bytes)}`);
      files.push({ path, bytes });
    }
    const share: Share = {
      seed,
      target,
      columns,
      rows,
      commands: [...commands],
      files,
      digest: '',
      build: BUILD_DIGEST,
    };
    const text = await formatLink(share);
    if (isRefusal(text)) return text;
    const replayed = await this.#replay(share);
    if (isRefusal(replayed)) return replayed;
    if (leftOut > 0) this.site.post({ news: 'trouble', text: leftOutText(leftOut) });
    return { ...share, digest: replayed.digest };
  }

  /** On a machine of its own, which is gone afterwards, while the other goes on. */
  async #replay(share: Share): Promise<Replayed | Refusal> {
    const { site } = this;
    const supplies = await site.supplies(() => {});
    const options = sharedOptions(share, () => {});
    const machine = new Machine({ ...supplies, ...options });
    const rounds = replay(machine, options.console, share);
    const fromMs = site.nowMs();
    for (;;) {
      const untilMs = site.nowMs() + REPLAY_SLICE_MS;
      while (site.nowMs() < untilMs) {
        const { done, value } = rounds.next();
        if (done === true) return value;
      }
      if (site.nowMs() - fromMs > REPLAY_MS_MAX)
        return refuse('TIMEDOUT', 0, `what was typed takes more than ${REPLAY_MS_MAX / 1000} s to come to again`);
      await new Promise<void>(resolve => site.soon(resolve));
    }
  }
}

const leftOutText = (n: number): string =>
  `${n === 1 ? 'One command is' : `${n} commands are`} left out of the link: a link carries lines, and no Ctrl-C, Ctrl-D or other keys.`;
