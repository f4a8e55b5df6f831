// A kernel bug. Nothing is repaired: the machine stops and says where it was — tick, seed, session, the last audit records — so that the
// same seed and input bring it back. Callers' mistakes never come here; they get -errno.

export interface PanicContext {
  readonly cycles: number;
  readonly seed: number;
  readonly session: number; // 0: none
  readonly audit: readonly string[];
}

export class KernelPanic extends Error {
  override readonly name = 'KernelPanic';
}

/** What went wrong, with the stack where it was not foreseen. */
export function describeFailure(error: unknown): string {
  const cause = error instanceof KernelPanic ? error.cause : error;
  if (cause === undefined) return (error as KernelPanic).message;
  return cause instanceof Error ? `${cause.message}\n${cause.stack}` : String(cause);
}

export function panic(what: string): never {
  throw new KernelPanic(what);
}

/** The screen a panic leaves. */
export function formatPanic(what: string, c: PanicContext): string {
  return [
    `arena8: kernel panic: ${what}`,
    `  tick ${c.cycles}, seed ${c.seed}, session ${c.session === 0 ? 'none' : c.session}`,
    ...c.audit.map(a => `  audit ${a}`),
    '  machine halted; the same seed and input reach this point again',
  ].join('\n');
}
