// The public keys whose signatures the machine believes: those of the boot image, and those that the superuser adds until power-off. Whoever holds
// the private half of one can vouch for models, so there are few of them, each with a name, and every change is in the audit log.

import { isRefusal, KEY_COLUMNS, LIMITS, refuse, shown, type Refusal } from './abi/index.ts';
import { hintOf, parsePublicPem, toHex, type PublicKey } from '../trust/index.ts';

export interface TrustedKey extends PublicKey {
  readonly name: string;
  readonly atBoot: boolean;
}

/** How a key is named in packages and bundles: an Ed25519 key by itself, others by the SHA-256 of their PEM. */
export const fingerprint = (key: PublicKey): string => (key.kind === 'ed25519' ? toHex(key.bytes) : hintOf(key));

export class TrustedKeys {
  private readonly keys = new Map<string, TrustedKey>();

  add(name: string, pem: string, atBoot = false): Refusal | null {
    if (!/^[A-Za-z0-9._-]{1,64}$/.test(name))
      return refuse(
        'INVAL',
        7001,
        `${shown(name)}: a key's name is 1 to 64 letters, digits, dots, dashes, underscores`,
      );
    const key = parsePublicPem(pem);
    if (isRefusal(key)) return key;
    if (key.kind === 'x25519') return refuse('INVAL', 7001, 'an X25519 key signs nothing');
    if (this.keys.has(name)) return refuse('EXIST', 7001, `a key '${name}' is trusted already`);
    const twin = this.find(fingerprint(key));
    if (twin !== null) return refuse('EXIST', 7001, `the same key is trusted as '${twin.name}'`);
    if (this.keys.size === LIMITS.trustedKeysMax)
      return refuse('NOSPC', 7001, `${LIMITS.trustedKeysMax} keys are trusted already`);
    this.keys.set(name, { ...key, name, atBoot });
    return null;
  }

  /** Models that only this key vouches for are vouched for no more; what is loaded stays. */
  remove(name: string): Refusal | null {
    return this.keys.delete(name) ? null : refuse('NOENT', 7001, `no trusted key '${name}'`);
  }

  /** The key with that fingerprint, if it is trusted. */
  find(print: string): TrustedKey | null {
    return this.list().find(k => fingerprint(k) === print) ?? null;
  }

  named(name: string): TrustedKey | null {
    return this.keys.get(name) ?? null;
  }

  list(): readonly TrustedKey[] {
    return [...this.keys.values()];
  }

  /** /proc/keys. */
  text(): string {
    const rows = this.list().map(k => [k.name, k.kind, k.atBoot ? 'boot' : 'added', fingerprint(k)]);
    return [KEY_COLUMNS, ...rows].map(row => `${row.join('\t')}\n`).join('');
  }
}
