// The script that the machine's own loads when it first needs what is in there (late.ts), and what that leaves. In a file that imports nothing, so
// that whatever is late can ask for it.

import type { Manual } from '../../../shell/lib/program.ts';
import type { Parts } from '../../machine.ts';

export interface Late extends Pick<Parts, 'programs' | 'templates'> {
  readonly manual: Manual;
  readonly ecdsa: typeof import('../../../trust/ecdsa.ts');
  readonly cipher: typeof import('@noble/ciphers/chacha.js').chacha20poly1305;
}

declare global {
  /** What late.ts has left. */
  var arena8Late: Late | undefined;
}

/** Throws when the script cannot be loaded: the network is gone, and the page is not kept yet. */
export function late(): Late {
  if (globalThis.arena8Late === undefined) importScripts('late.js');
  return globalThis.arena8Late!;
}
