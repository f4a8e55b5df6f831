// Command-line options from one table: the same table parses argv, prints --help and makes the OPTIONS section of the manual page.
// Syntax is GNU's: clusters (`-la`), values attached or separate (`-n5`, `-n 5`, `--lines=5`, `--lines 5`), unambiguous
// abbreviations of long names, `--` ends the options.

import { wrap } from './fmt.ts';

export interface Option {
  /** One-letter forms, each a letter (`rR`: -r and -R are the same). */
  readonly short?: string;
  /** Name of the value in the manual, e.g. `N`; absent: the option is a switch. */
  readonly value?: string;
  /** The value may be left out, and is then ''; given, it is attached (`-Iseconds`, `--iso-8601=seconds`). */
  readonly optional?: true;
  /** A value option that may be given more than once. */
  readonly many?: true;
  /** `-5` means this option with the value 5 (head, tail). */
  readonly digits?: true;
  readonly help: string;
}

/** Options by long name, in the manual's order. A name of one letter has no long form. */
export type OptionTable = Readonly<Record<string, Option>>;

type ParsedValue<O extends Option> = O extends { many: true }
  ? readonly string[]
  : O extends { value: string }
    ? string | undefined
    : boolean;
export type ParsedOptions<T extends OptionTable> = { readonly [K in keyof T]: ParsedValue<T[K]> };

/** The same options, their help saying which of a command's verbs they are for. */
export function optionsFor<const T extends OptionTable>(verb: string, table: T): T {
  const entries = Object.entries(table).map(([name, o]) => [name, { ...o, help: `${verb}: ${o.help}` }]);
  return Object.fromEntries(entries) as T;
}

/** Where options may stand: anywhere (`gnu`), before the first operand only (`posix`: commands that take a command), nowhere (`none`). */
export type OptionOrder = 'gnu' | 'posix' | 'none';

export interface Parsed {
  readonly options: Readonly<Record<string, boolean | string | readonly string[] | undefined>>;
  readonly operands: readonly string[];
  readonly help: boolean;
  /** What is wrong with the command line, or null. */
  readonly error: string | null;
}

export function getopt(table: OptionTable, args: readonly string[], order: OptionOrder): Parsed {
  const options: Record<string, boolean | string | string[] | undefined> = {};
  for (const [name, o] of Object.entries(table))
    options[name] = o.many ? [] : o.value === undefined ? false : undefined;
  const operands: string[] = [];
  let help = false;
  let error: string | null = null;
  let i = 0;

  const set = (name: string, value: string | true): void => {
    const held = options[name];
    if (Array.isArray(held)) held.push(String(value));
    else options[name] = value;
  };
  const long = (text: string): void => {
    const eq = text.indexOf('=');
    const given = eq < 0 ? text : text.slice(0, eq);
    const name = longName(table, given);
    if (name === null) error = `unrecognized option '--${given}'`;
    else if (name === undefined) error = `option '--${given}' is ambiguous`;
    else if (name === 'help') help = true;
    else if (table[name]!.value === undefined) {
      if (eq < 0) set(name, true);
      else error = `option '--${name}' doesn't allow an argument`;
    } else if (eq >= 0) set(name, text.slice(eq + 1));
    else if (table[name]!.optional) set(name, '');
    else if (i < args.length) set(name, args[i++]!);
    else error = `option '--${name}' requires an argument`;
  };
  const cluster = (text: string): void => {
    for (let k = 0; k < text.length && error === null; k++) {
      const letter = text[k]!;
      const name = shortName(table, letter);
      if (name === null) error = `invalid option -- '${letter}'`;
      else if (table[name]!.value === undefined) set(name, true);
      else if (k + 1 < text.length) return set(name, text.slice(k + 1));
      else if (table[name]!.optional) set(name, '');
      else if (i < args.length) return set(name, args[i++]!);
      else error = `option requires an argument -- '${letter}'`;
    }
  };

  const digits = Object.keys(table).find(name => table[name]!.digits);
  while (i < args.length) {
    if (error !== null) break;
    const arg = args[i++]!;
    if (order === 'none' && !(arg === '--help' && args.length === 1)) operands.push(arg);
    else if (arg === '--') operands.push(...args.slice(i, (i = args.length)));
    else if (arg.startsWith('--')) long(arg.slice(2));
    else if (digits !== undefined && /^-[0-9]+$/.test(arg)) set(digits, arg.slice(1));
    else if (arg.length > 1 && arg.startsWith('-')) cluster(arg.slice(1));
    else if (order === 'gnu') operands.push(arg);
    else operands.push(arg, ...args.slice(i, (i = args.length)));
  }
  return { options, operands, help, error };
}

/** The option that a long form names, by its whole name or an abbreviation: null = none, undefined = more than one. */
function longName(table: OptionTable, given: string): string | null | undefined {
  const names = [...Object.keys(table).filter(name => name.length > 1), 'help'];
  if (names.includes(given)) return given;
  const found = names.filter(name => given !== '' && name.startsWith(given));
  return found.length === 1 ? found[0] : found.length === 0 ? null : undefined;
}

function shortName(table: OptionTable, letter: string): string | null {
  for (const [name, o] of Object.entries(table)) if (name === letter || o.short?.includes(letter)) return name;
  return null;
}

/** A line per option, `  -n, --lines=N  print the first N lines`, folded at `width` columns. */
export function optionLines(table: OptionTable, width: number): string[] {
  const rows = Object.entries(table).map(([name, o]) => {
    const letters = [...(name.length === 1 ? [name] : []), ...(o.short ?? '')].map(c => `-${c}`);
    const forms = name.length === 1 ? letters : [...letters, `--${name}`];
    const joined = name.length === 1 ? ` ${o.value}` : `=${o.value}`;
    const value = o.value === undefined ? '' : o.optional ? `[${joined.trim()}]` : joined;
    return [`${letters.length === 0 ? '    ' : ''}${forms.join(', ')}${value}`, o.help] as const;
  });
  rows.push(['    --help', 'show this help and exit'] as const);
  const column = Math.max(...rows.map(([form]) => form.length)) + 4;
  return rows.map(([form, help]) => `  ${form.padEnd(column - 2)}${wrap(help, width, column).trim()}`);
}
