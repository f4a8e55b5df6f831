// ECDSA on P-256 and P-384 (FIPS 186-5, nonces of RFC 6979), by @noble/curves. Apart from the other keys because few machines ever need it: models
// signed by others have it, the machine's own log and packages do not.

import { p256, p384 } from '@noble/curves/nist.js';

const CURVES = { p256, p384 } as const;
for (const { Point } of [p256, p384]) Point.BASE.precompute(4); // as Ed25519's in keys.ts

export type CurveName = keyof typeof CURVES;

export const isScalar = (curve: CurveName, secret: Uint8Array): boolean => CURVES[curve].utils.isValidSecretKey(secret);

export const isCurvePoint = (curve: CurveName, bytes: Uint8Array): boolean =>
  CURVES[curve].utils.isValidPublicKey(bytes, false);

/** The uncompressed point of a secret. */
export const pointOf = (curve: CurveName, secret: Uint8Array): Uint8Array => CURVES[curve].getPublicKey(secret, false);

/** DER; P-256 over SHA-256, P-384 over SHA-384. */
export const signEcdsa = (curve: CurveName, secret: Uint8Array, message: Uint8Array): Uint8Array =>
  CURVES[curve].sign(message, secret, { format: 'der', lowS: false });

/** Either of the two S that every signature has is taken, as everywhere; the DER must be the only one for its numbers. */
export function verifyEcdsa(curve: CurveName, key: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    return CURVES[curve].verify(signature, message, key, { format: 'der', lowS: false });
  } catch {
    return false; // the library's word for bytes that are no signature
  }
}
