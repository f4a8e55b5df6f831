// The system calls about adapters: one is put beside the loaded model, or taken away. What that takes is in loader.ts; here arguments are
// decoded, rights checked, and what was done is written down. Who applies one changes what everybody's sessions say, so that it is a matter of
// the right to manage; and of the right to read the file.

import { isRefusal, refuse, type CallName, type Handler, type Refusal } from './abi/index.ts';
import { fromHex, type AuditFields } from '../trust/index.ts';
import { f32Text } from '../vfs/fs-gguf.ts';
import { checkName, nameOf } from './adapters.ts';
import type { Loader } from './loader.ts';
import type { Right } from './rights.ts';
import type { Journal } from './service.ts';
import type { TrustGate } from './trust-calls.ts';

/** What these calls act on. */
export interface AdapterContext {
  readonly loader: Loader;
  readonly journal: Pick<Journal, 'modelFields'>;
}

/** What the gate offers to handlers. */
export interface AdapterGate extends Pick<TrustGate, 'text' | 'withPath' | 'readable' | 'busy' | 'noted'> {
  readonly denied: (right: Right, object: string) => Refusal | null;
}

export const ADAPTER_CALLS = ['adapter_apply', 'adapter_detach'] as const satisfies readonly CallName[];
type AdapterHandlers = { readonly [N in (typeof ADAPTER_CALLS)[number]]: Handler<N> };

/** A float that came through a register. */
function f32OfBits(bits: number): number {
  const cell = new DataView(new ArrayBuffer(4));
  cell.setInt32(0, bits);
  return cell.getFloat32(0);
}

/** What is managed, as rights name it. */
const OBJECT = 'adapters';

export function adapterCalls({ loader, journal }: AdapterContext, gate: AdapterGate): AdapterHandlers {
  const apply = (given: string, called: string, scale: number): AuditFields | Refusal | number => {
    if (!Number.isFinite(scale)) return refuse('INVAL', 7001, `scale ${scale} is no finite number`);
    const name = called === '' ? nameOf(given) : checkName(called);
    if (isRefusal(name)) return name;
    const refused = gate.denied('manage', OBJECT) ?? gate.busy();
    if (refused !== null) return refused;
    const path = gate.readable(given);
    if (typeof path === 'number') return path;
    const refusal = loader.applyAdapter({ name, path, digest: '', scale });
    if (refusal !== null) return refusal;
    const { digest } = loader.current()!.engine.options.adapters.find(a => a.name === name)!;
    return { 'arena8.path': path, 'arena8.name': name, 'arena8.digest': fromHex(digest)!, ...journal.modelFields() };
  };
  return {
    adapter_apply: (pathAt, pathBytes, nameAt, nameBytes, bits) =>
      gate.withPath(pathAt, pathBytes, given => {
        const scale = f32OfBits(bits);
        const done = apply(given, gate.text(nameAt, nameBytes), scale);
        if (typeof done === 'number' || isRefusal(done)) return gate.noted('apply', { 'arena8.path': given }, done);
        return gate.noted('apply', { ...done, 'arena8.value': `scale ${f32Text(scale)}` }, null);
      }),
    adapter_detach: (nameAt, nameBytes) => {
      const name = gate.text(nameAt, nameBytes);
      const before = { 'arena8.name': name, ...journal.modelFields() };
      const r = gate.denied('manage', OBJECT) ?? gate.busy() ?? loader.detachAdapter(name);
      return gate.noted('detach', before, r);
    },
  };
}
