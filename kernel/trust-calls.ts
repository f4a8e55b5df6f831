// The system calls about trust in models: digests, packages and keys checked, packages registered, models swapped and rolled back, the
// machine attested. What they do is in packages.ts and attest.ts; here arguments are decoded, rights checked, and what was done is
// written down. No private key ever comes this way: programs sign, the kernel checks what they made before it says so.

import {
  E,
  isRefusal,
  LIMITS,
  LoadOptions,
  PackageReport,
  refuse,
  utf8Decode,
  type CallName,
  type Handler,
  type Refusal,
} from './abi/index.ts';
import {
  ALL_PERMISSIONS,
  fromHex,
  PACKAGE_RESULTS,
  parsePublicPem,
  permissionNames,
  type AuditFields,
  type AuditOp,
  type PackageResult,
  type PublicKey,
} from '../trust/index.ts';
import type { OpenFile } from '../vfs/file.ts';
import type { From } from '../vfs/vfs.ts';
import type { Attestor } from './attest.ts';
import type { Clock } from './clock.ts';
import type { ImageContext } from './image.ts';
import type { Loader } from './loader.ts';
import type { Right } from './rights.ts';
import { contentsOf } from './small-files.ts';
import type { Journal } from './service.ts';
import { fingerprint } from './trusted-keys.ts';
import { isPolicy, POLICIES, type Judged, type Packages, type Seal } from './packages.ts';

/** What these calls act on. */
export interface TrustContext extends ImageContext {
  readonly clock: Clock;
  readonly loader: Loader;
  readonly packages: Packages;
  readonly attestor: Attestor;
  readonly journal: Pick<Journal, 'modelFields'>;
}

/** The caller of the call being served, and what the gate offers to handlers. */
export interface TrustGate {
  readonly caller: () => From;
  readonly isRoot: () => boolean;
  readonly text: (at: number, bytes: number) => string;
  readonly withFile: (fd: number, use: (file: OpenFile) => number) => number;
  readonly withPath: (at: number, bytes: number, use: (path: string) => number) => number;
  /** Absolute, of a file that the caller may read, or load; or -errno. */
  readonly readable: (path: string, right?: Right) => string | number;
  readonly answer: (text: string, at: number, capacity: number) => number;
  readonly busy: () => Refusal | null;
  readonly fail: (r: Refusal) => number;
  /** Writes down what was done, or that it was refused: the call's answer. */
  readonly noted: (op: AuditOp, fields: AuditFields, r: Refusal | number | null) => number;
}

export const TRUST_CALLS = [
  'model_hash',
  'model_verify',
  'model_signed',
  'trusted_key',
  'policy',
  'model_register',
  'model_unregister',
  'model_swap',
  'model_rollback',
  'attest',
] as const satisfies readonly CallName[];
type TrustHandlers = { readonly [N in (typeof TRUST_CALLS)[number]]: Handler<N> };

/** The longest name of a policy. */
const POLICY_BYTES = Math.max(...POLICIES.map(name => name.length));

const NOT_ROOT = refuse('PERM', 0, 'Operation not permitted');

export function trustCalls(k: TrustContext, gate: TrustGate): TrustHandlers {
  const { packages, loader } = k;
  const calls = new Calls(k, gate);
  const rooted = (op: AuditOp, fields: AuditFields, use: () => number): number =>
    gate.isRoot() ? use() : gate.noted(op, fields, NOT_ROOT);
  return {
    model_hash: (pathAt, pathBytes, at, capacity) =>
      capacity < 32
        ? gate.fail(refuse('RANGE', 0, 'a digest has 32 bytes'))
        : calls.judged(pathAt, pathBytes, 'hash', file => {
            k.arena.u8.set(fromHex(file.digest)!, at);
            return gate.noted('hash', facts(file), 32);
          }),
    model_verify: (pathAt, pathBytes, packageFd, keyFd, at, capacity) =>
      calls.verify('verify', pathAt, pathBytes, packageFd, keyFd, at, capacity),
    model_signed: (pathAt, pathBytes, packageFd, keyFd, at, capacity) =>
      calls.verify('sign', pathAt, pathBytes, packageFd, keyFd, at, capacity),
    trusted_key: (nameAt, nameBytes, at, bytes) => {
      const name = gate.text(nameAt, nameBytes);
      const { keys } = packages;
      const done = bytes === 0 ? 'removed' : 'added';
      return rooted('key', { 'arena8.name': name, 'arena8.value': done }, () => {
        const pem = utf8Decode(k.arena.u8, at, at + Math.min(bytes, LIMITS.keyBytes));
        const before = keys.named(name);
        const refusal = bytes === 0 ? keys.remove(name) : keys.add(name, pem);
        const key = refusal === null ? (before ?? keys.named(name)) : null;
        const value = key === null ? done : `${done} ${fingerprint(key)}`;
        return gate.noted('key', { 'arena8.name': name, 'arena8.value': value }, refusal);
      });
    },
    policy: (nameAt, nameBytes, at, capacity) => {
      const name = gate.text(nameAt, nameBytes);
      if (capacity < POLICY_BYTES) return gate.fail(refuse('RANGE', 0, `a policy's name has ${POLICY_BYTES} bytes`));
      if (name === '') return gate.answer(packages.policy, at, capacity);
      return rooted('policy', { 'arena8.value': name }, () => {
        if (!isPolicy(name)) return gate.fail(refuse('INVAL', 7001, `policy is ${POLICIES.join(', ')}`));
        packages.policy = name;
        return gate.noted('policy', { 'arena8.value': name }, gate.answer(name, at, capacity));
      });
    },
    model_register: (pathAt, pathBytes, packageFd, permissions, ctx) =>
      rooted('register', {}, () => {
        if ((permissions & ~ALL_PERMISSIONS) !== 0 || ctx < 0)
          return gate.fail(refuse('INVAL', 7001, 'permissions are five bits, a context is not negative'));
        return calls.judged(pathAt, pathBytes, 'register', file => {
          const seal = calls.seal(packageFd);
          const id = isRefusal(seal) ? seal : packages.register(seal, file, permissions, ctx);
          const value = permissionNames(permissions).join(' ');
          const done = { ...facts(file), ...packageName(isRefusal(id) ? 0 : id), 'arena8.value': value };
          return gate.noted('register', done, id);
        });
      }),
    model_unregister: id =>
      rooted('unregister', packageName(id), () => gate.noted('unregister', packageName(id), packages.unregister(id))),
    model_swap: (id, at, bytes) => {
      if (bytes < LoadOptions.bytes) return gate.noted('swap', packageName(id), -E.INVAL);
      const found = packages.find(id);
      const { path, digest } = isRefusal(found) ? { path: '', digest: '' } : found;
      const load = () => loader.load(path, LoadOptions.read(k.arena.u8, at), digest);
      return calls.replaced('swap', id, found, load);
    },
    model_rollback: id => {
      const { before } = loader;
      const found = before ?? refuse('NODEV', 1001, 'no model was loaded before this one');
      const named = id === 0 ? before : packages.find(id);
      const other = !isRefusal(named) && !isRefusal(found) && named?.digest !== found.digest;
      const to = other ? refuse('INVAL', 7001, `the model before is ${found.path}, not package ${id}`) : found;
      return calls.replaced('rollback', id, isRefusal(named) ? named : to, () => loader.rollBack());
    },
    attest: (nonceAt, nonceBytes, at, capacity) => {
      if (nonceBytes > LIMITS.nonceBytes)
        return gate.fail(refuse('TOOBIG', 7001, `a nonce has at most ${LIMITS.nonceBytes} bytes`));
      const nonce = gate.text(nonceAt, nonceBytes);
      const statement = loader.denies('attest') ?? k.attestor.attest(nonce);
      if (isRefusal(statement)) return gate.noted('attest', { 'arena8.value': nonce }, statement);
      return gate.noted('attest', { 'arena8.value': nonce }, gate.answer(statement, at, capacity));
    },
  };
}

const facts = ({ path, digest }: Judged): AuditFields => ({
  'arena8.path': path,
  'arena8.digest': fromHex(digest)!,
});

const packageName = (id: number): AuditFields => (id === 0 ? {} : { 'arena8.name': `package ${id}` });

/** What the calls have in common. */
class Calls {
  constructor(
    private readonly k: TrustContext,
    private readonly gate: TrustGate,
  ) {}

  /** A file that the caller may read, hashed. */
  judged(at: number, bytes: number, op: AuditOp, use: (file: Judged) => number): number {
    const { gate, k } = this;
    return gate.withPath(at, bytes, name => {
      const path = gate.readable(name);
      if (typeof path === 'number') return path;
      const file = k.vfs.open(gate.caller(), name, 0, 0);
      if (typeof file === 'number') return file;
      const { size } = file.stat();
      const digest = k.packages.digestOf(file);
      file.close();
      return isRefusal(digest) ? gate.noted(op, { 'arena8.path': path }, digest) : use({ path, size, digest });
    });
  }

  verify(
    op: 'verify' | 'sign',
    pathAt: number,
    pathBytes: number,
    packageFd: number,
    keyFd: number,
    at: number,
    capacity: number,
  ): number {
    const { gate, k } = this;
    if (capacity < PackageReport.bytes) return gate.fail(refuse('RANGE', 0, 'no room for a PackageReport'));
    return this.judged(pathAt, pathBytes, op, file => {
      const seal = this.seal(packageFd);
      const key = keyFd < 0 ? null : this.key(keyFd);
      if (isRefusal(seal)) return gate.noted(op, facts(file), seal);
      if (isRefusal(key)) return gate.noted(op, facts(file), key);
      const own: PublicKey | null =
        op === 'sign' && seal.format === 'sis' ? { kind: 'ed25519', bytes: seal.package.key } : null;
      const report = k.packages.report(seal, file, k.packages.judge(seal, file, key ?? own));
      const result = PACKAGE_RESULTS[report.result ?? 0] as PackageResult;
      PackageReport.write(k.arena.u8, at, report);
      const what = seal.format === 'oms' ? 'oms' : `package ${report.id} version ${report.version}`;
      const said = {
        ...facts(file),
        'arena8.name': report.key || report.signer || '',
        'arena8.value': `${result}: ${what}`,
        ...(report.message ? { 'arena8.message': report.message } : {}),
      };
      return gate.noted(op, said, report.result ?? 0);
    });
  }

  /** What the package or bundle in an open file says. */
  seal(fd: number): Seal | Refusal {
    const bytes = this.contents(fd, LIMITS.packageBytes);
    return isRefusal(bytes) ? bytes : this.k.packages.parse(bytes);
  }

  private key(fd: number): PublicKey | Refusal {
    const bytes = this.contents(fd, LIMITS.keyBytes);
    return isRefusal(bytes) ? bytes : parsePublicPem(utf8Decode(bytes));
  }

  private contents(fd: number, most: number): Uint8Array | Refusal {
    let bytes: Uint8Array | Refusal = refuse('BADF', 0, 'Bad file descriptor');
    this.gate.withFile(fd, file => {
      bytes = contentsOf(this.k, file, most);
      return 0;
    });
    return bytes;
  }

  /** Another model in place of the loaded one, if it may be: what it took is written down, or why the old one stays. */
  replaced(op: 'swap' | 'rollback', id: number, to: { path: string } | Refusal, load: () => Refusal | null): number {
    const { gate } = this;
    const { loader, clock, journal } = this.k;
    const allowed = isRefusal(to) ? to : gate.readable(to.path, 'load');
    const refused = isRefusal(allowed) || typeof allowed === 'number' ? allowed : gate.busy();
    if (refused !== null) return gate.noted(op, packageName(id), refused);
    const from = loader.current();
    const was = from === null ? 'nothing' : from.path || from.engine.name;
    const began = clock.nowNs();
    const refusal = load();
    const value = `from ${was}, ${clock.nowNs() - began} ns, ${loader.vouched()}`;
    const now = { 'arena8.path': isRefusal(to) ? '' : to.path, 'arena8.value': value, ...journal.modelFields() };
    return gate.noted(op, refusal === null ? now : packageName(id), refusal);
  }
}
