// Attestation: what this machine is and runs, in one signed statement that others verify without it. An in-toto Statement v1 in a DSSE
// envelope under the audit log's key: kernel build, boot image and model as its subjects, configuration and log head in its predicate. A
// nonce of the caller's makes an old statement useless. It is the word of the log's key, no hardware's: docs/TRUST.md says what that is worth.

import {
  isRefusal,
  LIMITS,
  refuse,
  utf8Decode,
  type AdapterUse,
  type Hasher,
  type LogKey,
  type Refusal,
} from './abi/index.ts';
import {
  canonical,
  formatStatement,
  permissionNames,
  signEnvelope,
  STATEMENT_PAYLOAD,
  toHex,
  type Json,
  type Statement,
} from '../trust/index.ts';
import { f32Text } from '../vfs/fs-gguf.ts';
import type { Loaded } from './loader.ts';
import type { Packages } from './packages.ts';
import { fingerprint } from './trusted-keys.ts';

const ATTESTATION_TYPE = 'https://arena8.invalid/attestation/v1';

/** What an attestation speaks about. */
export interface Attested {
  /** Null: a machine without a log has no key to sign with. */
  readonly key: LogKey | null;
  readonly version: string;
  readonly compute: string; // build of the kernels
  readonly kernelDigest: string; // hex
  readonly imageDigest: string; // hex
  readonly seed: number;
  readonly packages: Packages;
  readonly sha256: () => Hasher;
  readonly nowNs: () => number;
  readonly target: () => string;
  /** NAME=MODEL of those that are not the default. */
  readonly disks: () => readonly string[];
  readonly loaded: () => Loaded | null;
  /** The newest checkpoint of the log, a signed note. */
  readonly head: () => string;
}

const adaptersOf = (loaded: Loaded | null): readonly AdapterUse[] => loaded?.engine.options.adapters ?? [];

export class Attestor {
  constructor(private readonly k: Attested) {}

  /** The envelope, one object of canonical JSON on one line. */
  attest(nonce: string): string | Refusal {
    const { key } = this.k;
    if (key === null)
      return refuse('NOTSUP', 5001, 'no log, no key to sign with: this machine was started with --audit off');
    const statement = formatStatement(this.statement(nonce, key));
    if (isRefusal(statement)) return statement;
    const signer = { keyid: toHex(key.publicKey), sign: (message: Uint8Array) => key.sign(message) };
    const text = signEnvelope(STATEMENT_PAYLOAD, statement, [signer]);
    return isRefusal(text) ? text : `${utf8Decode(text)}\n`;
  }

  private statement(nonce: string, key: LogKey): Statement {
    const { k } = this;
    const loaded = k.loaded();
    const subjects: [name: string, sha256: string][] = [
      ['kernel', k.kernelDigest],
      ['image', k.imageDigest],
    ];
    if (loaded !== null && loaded.digest !== '') subjects.push(['model', loaded.digest]);
    for (const { name, digest } of adaptersOf(loaded)) subjects.push([`adapter/${name}`, digest]);
    return {
      subject: subjects.map(([name, sha256]) => ({ name, digest: { sha256 } })),
      predicateType: ATTESTATION_TYPE,
      predicate: {
        nonce,
        time_ns: String(k.nowNs()),
        kernel: { version: k.version, compute: k.compute },
        model: loaded === null ? null : this.model(loaded),
        configuration: {
          target: k.target(),
          seed: k.seed,
          disks: k.disks(),
          policy: k.packages.policy,
          keys: k.packages.keys.list().map(key => ({ name: key.name, key: fingerprint(key) })),
          limits_sha256: this.digestOf(LIMITS),
        },
        log: { origin: key.name, demonstration: key.isDemonstration, checkpoint: k.head() },
      },
    };
  }

  private model(loaded: Loaded): Json {
    const { path, engine, digest, planDigest, report, voucher } = loaded;
    const { ctx, batch, sessions, pages, tileBytes } = report;
    const { id, version, signer, isTrusted } = voucher;
    return {
      path,
      name: engine.shape.name,
      engine: engine.name,
      plan_sha256: planDigest,
      load: { ctx, batch, sessions, pages, tile_bytes: tileBytes },
      adapters: adaptersOf(loaded).map(({ name, scale }) => ({ name, scale: f32Text(scale) })),
      package: signer === '' ? null : { id, version, signer, trusted: isTrusted },
      permissions: permissionNames(this.k.packages.permissionsOf(digest)),
    };
  }

  private digestOf(value: Json): string {
    const bytes = canonical(value);
    const hash = this.k.sha256();
    if (!isRefusal(bytes)) hash.update(bytes);
    return toHex(hash.digest());
  }
}
