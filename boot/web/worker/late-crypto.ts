// In place of trust/ecdsa.ts and of the library's cipher in the machine's script (tools/web.mjs puts it there): the same functions, which load what
// they stand for when they are first called. See demand.ts.

import { late, type Late } from './late-script.ts';

type Ecdsa = Late['ecdsa'];

export const isScalar: Ecdsa['isScalar'] = (...args) => late().ecdsa.isScalar(...args);
export const isCurvePoint: Ecdsa['isCurvePoint'] = (...args) => late().ecdsa.isCurvePoint(...args);
export const pointOf: Ecdsa['pointOf'] = (...args) => late().ecdsa.pointOf(...args);
export const signEcdsa: Ecdsa['signEcdsa'] = (...args) => late().ecdsa.signEcdsa(...args);
export const verifyEcdsa: Ecdsa['verifyEcdsa'] = (...args) => late().ecdsa.verifyEcdsa(...args);
export const chacha20poly1305 = (...args: Parameters<Late['cipher']>): ReturnType<Late['cipher']> =>
  late().cipher(...args);
