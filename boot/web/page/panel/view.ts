// What a view of the panel is: a figure, the same figures as a table, the command that shows them in the shell, and what it has to be told
// to be drawn. A view keeps no clock and asks for nothing while it is hidden.

import type { ProbeWish } from '../../protocol/messages.ts';
import type { Client } from '../client.ts';
import type { Timeline } from './parse-trace.ts';

export const VIEWS = [
  ['memory', 'Memory'],
  ['pages', 'Pages'],
  ['schedule', 'Schedule'],
  ['speed', 'Speed'],
  ['training', 'Training'],
  ['audit', 'Audit'],
  ['step', 'Step'],
  ['tokens', 'Tokens'],
  ['attention', 'Attention'],
  ['lens', 'Lens'],
] as const;
export type ViewName = (typeof VIEWS)[number][0];

/** What is known of the machine when a view is drawn. */
export interface Seen {
  /** Text of a watched path; '' = not told yet. */
  file(path: string): string;
  readonly timeline: Timeline;
  /** What a probe told: JSON, or a refusal in words; '' = nothing yet. */
  readonly probe: string;
  /** Machines so far: nothing that was seen of another one is true of this one. */
  readonly machine: number;
}

/** What a view can do to the world. */
export interface Desk {
  /** Types a command line into the terminal, and Return. */
  type(command: string): void;
  readonly ask: Client['ask'];
  /** The view's command or wishes are others now, or it wants to be drawn again. */
  changed(): void;
}

export interface View {
  readonly name: ViewName;
  /** One sentence: what is seen here. */
  readonly about: string;
  /** Shows the same in the shell. */
  command(): string;
  readonly paths: readonly string[];
  readonly trace: boolean;
  probe(): ProbeWish | null;
  /** At most this often, in milliseconds. */
  readonly everyMs: number;
  readonly figure: HTMLElement;
  /** Empty: the figure is a table itself. */
  readonly tables: readonly HTMLElement[];
  /** Draws what has changed since the last time. Returns what to type to see something, or '' where there is something to see. */
  update(seen: Seen): string;
}
