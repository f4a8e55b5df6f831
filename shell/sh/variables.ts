// The shell's variables: values with the marks that export, readonly and local put on them. A function's locals are a frame of what the
// names held before; leaving the function puts that back.

import { LIMITS } from '../../kernel/abi/index.ts';

interface Variable {
  /** Undefined: marked before it is set. */
  readonly value: string | undefined;
  readonly exported: boolean;
  readonly readonly: boolean;
}

const unsetVariable: Variable = { value: undefined, exported: false, readonly: false };
const byName = (a: { readonly name: string }, b: { readonly name: string }): number => (a.name < b.name ? -1 : 1);

export class Variables {
  private readonly table: Map<string, Variable>;
  private readonly frames: Map<string, Variable | undefined>[];
  private size: number; // of names and values

  constructor(from?: Variables) {
    this.table = new Map(from?.table);
    this.size = from?.size ?? 0;
    this.frames = from?.frames.map(frame => new Map(frame)) ?? [];
  }

  /** Every change of the table goes through here, so that its size is known. */
  private put(name: string, variable: Variable | undefined): void {
    const held = this.table.get(name);
    if (held !== undefined) this.size -= name.length + (held.value?.length ?? 0);
    if (variable === undefined) this.table.delete(name);
    else {
      this.table.set(name, variable);
      this.size += name.length + (variable.value?.length ?? 0);
    }
  }

  get(name: string): string | undefined {
    return this.table.get(name)?.value;
  }

  /** Sets a value, keeping the marks. Returns what forbids it, or null. */
  set(name: string, value: string | undefined): string | null {
    const held = this.table.get(name) ?? unsetVariable;
    if (held.readonly) return `${name}: is read only`;
    const more = name.length + (value?.length ?? 0) - (held.value?.length ?? 0);
    if (this.size + more > LIMITS.variablesBytes)
      return `${name}: no room: variables are limited to ${LIMITS.variablesBytes} bytes`;
    this.put(name, { ...held, value });
    return null;
  }

  unset(name: string): string | null {
    if (this.table.get(name)?.readonly) return `${name}: is read only`;
    this.put(name, undefined);
    return null;
  }

  mark(name: string, marks: { readonly exported?: true; readonly readonly?: true }): void {
    this.put(name, { ...(this.table.get(name) ?? unsetVariable), ...marks });
  }

  /** The variables that are set, in order of name. */
  list(): { name: string; value: string; exported: boolean; readonly: boolean }[] {
    return this.marked(() => true).flatMap(v => (v.value === undefined ? [] : [{ ...v, value: v.value }]));
  }

  /** The variables with a mark, set or not, in order of name. */
  marked(has: (variable: Variable) => boolean): (Variable & { name: string })[] {
    const found = [...this.table].filter(([, variable]) => has(variable));
    return found.map(([name, variable]) => ({ name, ...variable })).sort(byName);
  }

  /** What programs are given. */
  environment(): Map<string, string> {
    const env = new Map<string, string>();
    for (const [name, v] of this.table) if (v.exported && v.value !== undefined) env.set(name, v.value);
    return env;
  }

  // ── Functions ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  pushFrame(): void {
    this.frames.push(new Map());
  }

  popFrame(): void {
    for (const [name, before] of this.frames.pop() ?? []) this.put(name, before);
  }

  /** Makes a name local to the innermost function: it keeps its value there. False outside of functions. */
  local(name: string): boolean {
    const frame = this.frames.at(-1);
    if (frame === undefined) return false;
    if (!frame.has(name)) frame.set(name, this.table.get(name));
    return true;
  }
}
