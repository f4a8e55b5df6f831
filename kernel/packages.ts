// Trust in models: which keys the machine trusts, which packages are registered with which permissions, and what happens to models that nobody
// vouches for. The loader asks before it replaces anything, others before they look into a file. What a model may be used for goes by
// what it is, the SHA-256 of its bytes, not by where it lies. After Linux's module signing and the capabilities of a package manager.

import {
  E,
  isRefusal,
  KIND,
  LIMITS,
  O,
  PACKAGE_COLUMNS,
  refuse,
  shown,
  strerror,
  utf8Decode,
  type Hasher,
  type PackageReport,
  type Refusal,
} from './abi/index.ts';
import {
  ALL_PERMISSIONS,
  bundleOf,
  checkBundle,
  checkPackage,
  failure,
  fromHex,
  PACKAGE_RESULTS,
  parseBundle,
  parsePackage,
  PERMISSION,
  permissionNames,
  refusalOf,
  sidecarOf,
  toHex,
  type ModelPackage,
  type OmsBundle,
  type PackageFailure,
  type Permission,
  type PublicKey,
} from '../trust/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { From } from '../vfs/vfs.ts';
import { readAll, type ImageContext } from './image.ts';
import { contentsOf, namesIn, textOf } from './small-files.ts';
import { fingerprint, TrustedKeys } from './trusted-keys.ts';

const KEYS_DIRECTORY = '/etc/keys';
const POLICY_FILE = '/etc/llm/policy';

/** What happens to a model without a package that holds: nothing is looked at, it is said, it is refused. */
export const POLICIES = ['off', 'warn', 'enforce'] as const;
export type Policy = (typeof POLICIES)[number];
export const isPolicy = (word: string): word is Policy => (POLICIES as readonly string[]).includes(word);

/** Of a model with a package that nobody has registered, where a package is asked for: its weights do not leave the machine. */
const UNREGISTERED = ALL_PERMISSIONS & ~PERMISSION.export;

interface Registered {
  readonly package: ModelPackage;
  readonly path: string;
  readonly digest: string; // hex
  readonly permissions: number;
  readonly ctx: number; // longest context; 0: any
}

/** What vouches for a file: a package of the specification, or a model signing bundle. */
export type Seal =
  { readonly format: 'sis'; readonly package: ModelPackage } | { readonly format: 'oms'; readonly bundle: OmsBundle };

/** A model file as it is judged. */
export interface Judged {
  readonly path: string; // absolute
  readonly size: number;
  readonly digest: string; // hex
}

/** Who was found to vouch for a model that was loaded. */
export interface Voucher {
  readonly text: string; // for the kernel's log
  readonly id: number; // 0: nobody does, or by way of a bundle
  readonly version: number;
  readonly signer: string; // fingerprint; '': nobody
  readonly isTrusted: boolean;
}
/** Of a model without a package, and of one whose package nobody has looked for. */
export const NOBODY: Voucher = { text: 'nobody has signed it', id: 0, version: 0, signer: '', isTrusted: false };
const UNSEEN: Voucher = { ...NOBODY, text: 'not looked at (policy off)' };

type Report = Parameters<typeof PackageReport.write>[2];

export class Packages {
  policy: Policy = 'warn';
  readonly keys = new TrustedKeys();
  private readonly registered = new Map<number, Registered>();

  constructor(
    private readonly k: ImageContext,
    private readonly sha256: () => Hasher,
    private readonly say: (text: string) => void,
  ) {}

  // ── At power-on ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The keys of /etc/keys and the policy of /etc/llm/policy. A key that is none is told; a policy that is none is the strictest. */
  boot(): void {
    for (const file of namesIn(this.k, KEYS_DIRECTORY)) {
      if (!file.endsWith('.pub')) continue;
      const text = textOf(this.k, `${KEYS_DIRECTORY}/${file}`, LIMITS.keyBytes);
      const refusal = isRefusal(text) ? text : this.keys.add(file.slice(0, -'.pub'.length), text ?? '', true);
      if (refusal !== null) this.say(`keys: ${file}: ${refusal.message}`);
    }
    const text = textOf(this.k, POLICY_FILE, LIMITS.keyBytes);
    if (text === null) return;
    const word = isRefusal(text) ? text.message : text.trim();
    this.policy = isPolicy(word) ? word : 'enforce';
    if (!isPolicy(word)) this.say(`policy: ${POLICY_FILE}: ${shown(word)} is not ${POLICIES.join(', ')}: enforce`);
  }

  // ── Judging ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** SHA-256 of a whole file, hex. */
  digestOf(file: OpenFile): string | Refusal {
    const { kind, size } = file.stat();
    if (kind !== KIND.file) return refuse('INVAL', 0, 'not a regular file');
    const hash = this.sha256();
    return readAll(this.k, file, size, piece => void hash.update(piece)) ?? toHex(hash.digest());
  }

  /** What a package's or bundle's bytes hold. */
  parse(bytes: Uint8Array): Seal | Refusal {
    const seal = isBundle(bytes) ? parseBundle(bytes) : parsePackage(bytes);
    if (isRefusal(seal)) return seal;
    return 'payload' in seal ? { format: 'oms', bundle: seal } : { format: 'sis', package: seal };
  }

  /** Whether what vouches for a file holds under `key`, or without one under a trusted key. */
  judge(seal: Seal, { path, size, digest }: Judged, key: PublicKey | null): PackageFailure | null {
    const sha256 = fromHex(digest)!;
    const keys = key === null ? this.keys.list() : [key];
    if (seal.format === 'oms') {
      const name = path.slice(path.lastIndexOf('/') + 1);
      return checkBundle(seal.bundle, { name, sha256 }, keys);
    }
    const prints = keys.filter(k => k.kind === 'ed25519').map(fingerprint);
    return checkPackage(seal.package, { size, sha256 }, signer => prints.includes(toHex(signer)));
  }

  /** What system calls tell of it. */
  report(seal: Seal, judged: Judged, why: PackageFailure | null): Report {
    const { id, version } = seal.format === 'sis' ? seal.package : { id: 0, version: 0 };
    const signer = signerOf(seal);
    const found = this.byDigest(judged.digest);
    return {
      result: PACKAGE_RESULTS.indexOf(why?.result ?? 'Success'),
      id,
      version,
      permissions: this.permissionsOf(judged.digest),
      ctx: found?.ctx ?? 0,
      size: judged.size,
      format: seal.format,
      digest: judged.digest,
      key: this.keys.find(signer)?.name ?? '',
      signer,
      message: why?.message ?? '',
    };
  }

  /** What lies beside a file to vouch for it: its package before its bundle; null where there is neither. */
  private sealOf(path: string): Seal | null | Refusal {
    for (const name of [sidecarOf(path), bundleOf(path)]) {
      const file = this.k.vfs.open('/', name, O.RDONLY, 0);
      if (typeof file === 'number') {
        if (file === -E.NOENT) continue;
        return { errno: -file, code: 0, message: `${name}: ${strerror(file)}` };
      }
      const bytes = contentsOf(this.k, file, LIMITS.packageBytes);
      file.close();
      if (name !== sidecarOf(path) && !isRefusal(bytes) && !isBundle(bytes)) continue; // a signature of another kind
      const seal = isRefusal(bytes) ? bytes : this.parse(bytes);
      return isRefusal(seal) ? refusalOf(failure('SignatureFailure', `${name}: ${seal.message}`)) : seal;
    }
    return null;
  }

  /**
   * Whether a model may be loaded with context `ctx`: nothing has been replaced yet. What vouches for it must hold, under `warn` too: a seal that
   * is broken says more than none. There it may be missing, or of a stranger, which is said; `enforce` takes neither.
   */
  admit(file: Judged, ctx: number): Voucher | Refusal {
    if (this.policy === 'off') return UNSEEN;
    const voucher = this.vouched(file);
    if (isRefusal(voucher)) return voucher;
    const found = this.byDigest(file.digest);
    if (found !== null && found.ctx !== 0 && ctx > found.ctx)
      return refusalOf(
        failure('ConstraintViolation', `context ${ctx}, package ${found.package.id} allows ${found.ctx}`),
      );
    const denied = this.lacks('load', file.digest);
    if (denied !== null) return denied;
    this.say(`model: ${voucher.text}${voucher.isTrusted ? '' : ` (policy ${this.policy})`}`);
    return voucher;
  }

  private vouched(file: Judged): Voucher | Refusal {
    const found = this.byDigest(file.digest);
    const seal: Seal | null | Refusal =
      found === null ? this.sealOf(file.path) : { format: 'sis', package: found.package };
    if (isRefusal(seal)) return seal;
    const strict = this.policy === 'enforce';
    if (seal === null)
      return strict ? refuse('NOKEY', 0, 'SignatureFailure: nobody has signed it (policy enforce)') : NOBODY;
    const signer = signerOf(seal);
    const key = this.keys.find(signer);
    const isStranger = key === null && !strict;
    const why = this.judge(seal, file, isStranger ? strangerOf(seal) : null);
    // The key of a stranger's bundle is not here to check with; the file is the one that it names.
    const unchecked = isStranger && seal.format === 'oms' && why?.result === 'SignatureFailure';
    if (why !== null && !unchecked) return refusalOf(why);
    const { id, version } = seal.format === 'sis' ? seal.package : { id: 0, version: 0 };
    const what = seal.format === 'sis' ? `package ${id} version ${version}` : 'signing bundle';
    const text = unchecked ? why!.message : `${what}, signed by ${key?.name ?? 'a key that is not trusted'}`;
    return { text, id, version, signer, isTrusted: key !== null };
  }

  // ── Permissions ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether a model or an adapter that is loaded, known by its digest, may be used so; '' stands for an engine that has no file. */
  denies(digest: string, use: Permission): Refusal | null {
    return digest === '' ? null : this.lacks(use, digest);
  }

  /** The same of a file that `from` names, hashed where that decides. A file that cannot be opened is for whoever opens it to refuse. */
  deniesFile(path: string, from: From, use: Permission): Refusal | null {
    if (this.policy === 'off') return null;
    const file = this.k.vfs.open(from, path, O.RDONLY, 0);
    if (typeof file === 'number') return null;
    const { kind, size } = file.stat();
    const decides = this.policy === 'enforce' || [...this.registered.values()].some(r => r.package.size === size);
    const digest = kind === KIND.file && decides ? this.digestOf(file) : '';
    const { path: absolute } = file;
    file.close();
    if (digest === '') return null;
    if (isRefusal(digest)) return digest;
    const voucher = this.policy === 'enforce' ? this.vouched({ path: absolute, size, digest }) : NOBODY;
    return isRefusal(voucher) ? voucher : this.lacks(use, digest);
  }

  /** What the model with that digest may be used for. */
  permissionsOf(digest: string): number {
    const otherwise = this.policy === 'enforce' ? UNREGISTERED : ALL_PERMISSIONS;
    return this.policy === 'off' ? ALL_PERMISSIONS : (this.byDigest(digest)?.permissions ?? otherwise);
  }

  private lacks(use: Permission, digest: string): Refusal | null {
    if ((this.permissionsOf(digest) & PERMISSION[use]) !== 0) return null;
    const found = this.byDigest(digest);
    const what = found === null ? 'a model that is not registered' : `package ${found.package.id}`;
    return refusalOf(failure('PermissionDenied', `${what} has no permission ${use.toUpperCase()}`));
  }

  // ── Registered packages ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Registers a model whose package holds under a trusted key; a package of the same id takes the place of an older version. */
  register(seal: Seal, file: Judged, permissions: number, ctx: number): number | Refusal {
    if (seal.format !== 'sis') return refuse('INVAL', 7001, 'a signing bundle has no id: register a package');
    const why = this.judge(seal, file, null);
    if (why !== null) return refusalOf(why);
    const { id, version } = seal.package;
    const older = this.registered.get(id);
    const violates = (text: string): Refusal => refusalOf(failure('ConstraintViolation', text));
    if (older !== undefined && older.package.version > version)
      return violates(`package ${id} is registered in version ${older.package.version}, this is ${version}`);
    const twin = this.byDigest(file.digest);
    if (twin !== null && twin.package.id !== id)
      return violates(`the same file is registered as package ${twin.package.id}`);
    if (older === undefined && this.registered.size === LIMITS.packagesMax)
      return violates(`${LIMITS.packagesMax} packages are registered already`);
    this.registered.set(id, { package: seal.package, path: file.path, digest: file.digest, permissions, ctx });
    return id;
  }

  unregister(id: number): Refusal | null {
    return this.registered.delete(id) ? null : refuse('NOENT', 7001, `no package ${id} is registered`);
  }

  find(id: number): Registered | Refusal {
    return this.registered.get(id) ?? refuse('NOENT', 1001, `no package ${id} is registered`);
  }
  byDigest(digest: string): Registered | null {
    return [...this.registered.values()].find(r => r.digest === digest) ?? null;
  }

  packagesText(): string {
    const sorted = [...this.registered.values()].sort((a, b) => a.package.id - b.package.id);
    const rows = sorted.map(({ package: p, path, digest, permissions, ctx }) => [
      `${p.id}`,
      `${p.version}`,
      `${p.size}`,
      `${ctx}`,
      permissionNames(permissions).join(',') || '-',
      this.keys.find(toHex(p.key))?.name ?? '-',
      digest,
      path,
    ]);
    return tabbed([PACKAGE_COLUMNS, ...rows]);
  }
}

/** Tells a bundle from a package: by one of its members' names, near its beginning. */
const isBundle = (bytes: Uint8Array): boolean =>
  /"(?:mediaType|verificationMaterial|dsseEnvelope)"/.test(utf8Decode(bytes.subarray(0, 4096)));

/** A fingerprint; '' where a bundle names its key otherwise, with which nothing can be found. */
function signerOf(seal: Seal): string {
  if (seal.format === 'sis') return toHex(seal.package.key);
  return /^[0-9a-f]{64}$/.test(seal.bundle.hint) ? seal.bundle.hint : '';
}

/** The key that a package names itself; a bundle does not hold its key. */
const strangerOf = (seal: Seal): PublicKey | null =>
  seal.format === 'sis' ? { kind: 'ed25519', bytes: seal.package.key } : null;

/** One row, one line, whatever characters a path has. */
const tabbed = (rows: readonly (readonly string[])[]): string =>
  rows.map(row => `${row.map(cell => cell.replace(/[^ -~\u00a0-\uffff]/g, '?')).join('\t')}\n`).join('');
