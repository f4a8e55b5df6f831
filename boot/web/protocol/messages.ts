// What the page and the machine's worker say to each other: plain messages, in order, of structured clones. The page asks (Ask) and is answered by
// number; what happens by itself is told (News). Nothing here knows a browser or a kernel: it is the cable between the two.

/** How the machine is switched on. */
export interface PowerOn {
  readonly seed: number;
  /** A name of the machine's targets; '' = its default. */
  readonly target: string;
  readonly columns: number;
  readonly rows: number;
  /** What /home is: kept in the browser's storage, or gone with the machine. */
  readonly home: 'kept' | 'lost';
  /** The audit log in the browser's storage too, or in the machine's memory. */
  readonly log: 'kept' | 'lost';
  /** Commands and files that somebody has sent: they run before anybody may type, in a terminal of their size. Needs home and log lost. */
  readonly share: Share | null;
}

/** What a link carries: enough to come to the same bytes again (boot/share.ts says exactly how). */
export interface Share {
  readonly seed: number;
  readonly target: string;
  readonly columns: number;
  readonly rows: number;
  /** Lines typed at the prompt, each when everything in the machine waits for it. */
  readonly commands: readonly string[];
  /** Put into the machine before the first command, in this order. */
  readonly files: readonly { readonly path: string; readonly bytes: Uint8Array }[];
  /** What came of it where it was made; '' = not known. */
  readonly digest: string;
  readonly build: string;
}

/** Where a stopped machine stops again. */
export type StopAt = 'op' | 'layer' | 'token';

/**
 * How fast the machine runs. `run`: as fast as the host can. `pace`: so many ops of the plan a second, 1 and more; between ops of sessions it
 * does not wait. `pause`: not at all, until it is told to go on or to step.
 */
export type Speed =
  { readonly mode: 'run' } | { readonly mode: 'pace'; readonly opsPerSecond: number } | { readonly mode: 'pause' };

/** What the page wants to be shown as it changes: paths are read without the machine's noticing (Machine.observe). */
export interface Watch {
  /** Files of /proc and /audit. */
  readonly paths: readonly string[];
  /** Records of /dev/trace that are new since the last time. */
  readonly trace: boolean;
  /** A look into the last step (Machine.probe); null: none. */
  readonly probe: ProbeWish | null;
  /** At most this often. */
  readonly everyMs: number;
}

/** What of the last step of a session is wanted. */
export interface ProbeWish {
  /** 0: whichever took a step last. */
  readonly session: number;
  readonly what: 'probs' | 'attention' | 'lens';
  /** Of attention; from 0. */
  readonly layer: number;
  readonly head: number;
  /** Of probs and lens: how many tokens. */
  readonly top: number;
}

/** What the page can ask, and what it is answered. A refusal is one line of text. */
export interface Calls {
  /** Ends the machine there was, orderly, and switches one on. Answered at its first prompt, or with what is shared done. */
  readonly powerOn: (options: PowerOn) => PoweredOn;
  /** Orderly: what is to be stored is. */
  readonly powerOff: () => null;
  /** Keys. The machine takes them when it asks for them; Ctrl-C at once. */
  readonly type: (bytes: Uint8Array) => null;
  readonly resize: (columns: number, rows: number) => null;
  /** So many bytes of output have been shown: a machine whose output nobody has seen waits. */
  readonly shown: (bytes: number) => null;
  readonly speed: (speed: Speed) => null;
  /** On to the next stop, then pause. */
  readonly step: (at: StopAt) => null;
  readonly watch: (watch: Watch) => null;
  /** One file of the machine, whole: to download, or to show. */
  readonly read: (path: string) => Uint8Array;
  /** A file from outside into /home (or where `path` says): stored, never through the machine's memory. Answered with its path. */
  readonly put: (name: string, file: Blob) => string;
  /** A file of a web server by ranges, as /mnt/web/NAME, or downloaded into /home where it knows no ranges. Answered with its path. */
  readonly fetch: (url: string) => string;
  /** Files below a directory that can be downloaded. */
  readonly list: (path: string) => readonly FileEntry[];
  readonly storage: () => Storage;
  /** What a link would carry now: what was typed since power-on, and the files named. Replayed once, so that its digest is known. */
  readonly share: (files: readonly string[]) => Share;
  /** SHA-256 of the machine's state (Machine.stateDigest). */
  readonly digest: () => string;
}

export interface FileEntry {
  readonly path: string;
  readonly bytes: number;
  readonly isDirectory: boolean;
}

export interface PoweredOn {
  readonly version: string;
  readonly build: string;
  /** Which build of the kernels runs: relaxed, simd128. */
  readonly compute: string;
  readonly targets: readonly { readonly name: string; readonly title: string }[];
  readonly target: string;
  readonly seed: number;
  /** From the request to the prompt, by the host's clock. */
  readonly bootMs: number;
  /** After what was shared; '' without, or where that was cut short. */
  readonly digest: string;
  readonly storage: Storage;
}

export interface Storage {
  /** Whether /home outlives the page, and one line why it does not. */
  readonly isKept: boolean;
  readonly why: string;
  readonly usedBytes: number;
  readonly quotaBytes: number;
}

export type Ask = {
  readonly [N in keyof Calls]: { readonly id: number; readonly call: N; readonly args: Parameters<Calls[N]> };
}[keyof Calls];

export type Answer =
  | { readonly id: number; readonly value: unknown }
  /** One line that says why not. */
  | { readonly id: number; readonly refusal: string };

/** What the machine is doing. `held`: in the middle of a step, between two ops, as a debugger holds a processor. */
export type RunKind = 'off' | 'idle' | 'busy' | 'held' | 'paused' | 'halted';

export type News =
  /** Bytes for the terminal. */
  | { readonly news: 'output'; readonly bytes: Uint8Array }
  /** At most as often as a screen is drawn. */
  | {
      readonly news: 'state';
      readonly run: RunKind;
      readonly nowNs: number;
      readonly cycles: number;
      readonly raw: boolean;
    }
  /** What is watched and has changed. */
  | {
      readonly news: 'seen';
      readonly files: Readonly<Record<string, string>>;
      readonly trace: Uint8Array | null;
      readonly traceDropped: number;
      readonly probe: string | null;
    }
  /** Long work: a download, a copy, a boot. done = total: it is over. */
  | { readonly news: 'progress'; readonly what: string; readonly done: number; readonly total: number }
  /** Something went wrong that nobody asked about: one line, and what is lost or kept. */
  | { readonly news: 'trouble'; readonly text: string }
  | { readonly news: 'storage'; readonly storage: Storage };

export type ToWorker = Ask;
export type ToPage = Answer | News;
