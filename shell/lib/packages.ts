// The verbs of llmctl that say who vouches for a model file: hash, sign, verify. Programs sign, with a key that is theirs; the kernel hashes,
// checks what was made before it is written down as a signature, and verifies under the keys that the machine trusts.

import { LIMITS, O, PackageReport, SEEK, strerror, isRefusal, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { RecordValue, Refusal, Sys } from '../../kernel/abi/index.ts';
import {
  bundleOf,
  formatPackage,
  formatPublicPem,
  PACKAGE_RESULTS,
  parsePackage,
  parseSecretPem,
  permissionNames,
  sidecarOf,
  signBundle,
  signPackage,
  toHex,
} from '../../trust/index.ts';
import type { SecretKey } from '../../trust/index.ts';
import { basename, readFile, readText, stat } from './files.ts';
import { jsonLine } from './fmt.ts';
import type { Json } from './fmt.ts';
import type { OptionTable } from './getopt.ts';
import { failAbout, grouped, loadedModel, modelPath, parseInteger, wrong } from './model.ts';
import type { Context } from './program.ts';
import { writeAll } from './stdio.ts';

export const packageOptions = {
  key: {
    value: 'FILE',
    help: 'sign: private key in PEM, as openssl writes it; verify: public key, instead of the trusted ones',
  },
  id: { value: 'N', help: 'sign: number of the model (default 1); query: of the package; register: what it has to be' },
  rev: { value: 'N', help: 'sign: version of the model (default 1)' },
  oms: { help: 'sign, verify: an OpenSSF Model Signing bundle FILE.sig (ECDSA P-256) instead of the package FILE.sis' },
} as const satisfies OptionTable;

export const signTakes = ['key', 'id', 'rev', 'oms'] as const;
export const verifyTakes = ['key', 'oms'] as const;

type Ctx = Context<typeof packageOptions & { readonly json: { readonly help: string } }>;
type Run = Generator<void, number, void>;
export type PackageFacts = RecordValue<typeof PackageReport.fields>;

const U32_MAX = 0xffffffff;

/** The file that a verb's operand names, or the loaded model's; null after a message. */
export function* namedModel(
  ctx: Pick<Ctx, 'sys' | 'fail'>,
  name: string | undefined,
): Generator<void, string | null, void> {
  if (name !== undefined) return yield* modelPath(ctx.sys, name);
  const model = yield* loadedModel(ctx.sys);
  if (typeof model === 'number') yield* failAbout(ctx, '', model);
  else if (model.path === '') yield* ctx.fail('the loaded engine has no file');
  else return model.path;
  return null;
}

/** SHA-256 of a file, or -errno. The kernel writes into the audit log that it was asked. */
export function* digestOf(sys: Sys, path: string): Generator<void, Uint8Array | number, void> {
  const digest = new Uint8Array(32);
  const r = yield* sys.model_hash(path, digest);
  return r < 0 ? r : digest;
}

export function* hash(ctx: Ctx, [name]: readonly string[]): Run {
  const path = yield* namedModel(ctx, name);
  if (path === null) return 1;
  const digest = yield* digestOf(ctx.sys, path);
  if (typeof digest === 'number') return yield* failAbout(ctx, path, digest);
  const hex = toHex(digest);
  yield* ctx.out.print(ctx.options.json ? jsonLine({ file: path, digest: hex }) : `LLM HASH: 0x${hex}\n`);
  return 0;
}

// ── Signing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function* sign(ctx: Ctx, [name]: readonly string[]): Run {
  const { options } = ctx;
  const path = yield* namedModel(ctx, name);
  if (path === null) return 1;
  if (options.key === undefined) return yield* showSignature(ctx, path);
  if (options.oms && (options.id !== undefined || options.rev !== undefined))
    return yield* wrong(ctx, 'a signing bundle has no --id and no --rev');
  const [id, rev] = [numberOf(options.id, 1), numberOf(options.rev, 0)];
  if (id === null || rev === null) return yield* wrong(ctx, `--id and --rev are integers up to ${U32_MAX}`);
  const sealed = yield* signFile(ctx, path, options.key, options.oms ? null : { id, version: rev });
  if (typeof sealed === 'number') return sealed;
  const { facts, signature } = sealed;
  yield* ctx.out.print(
    options.json
      ? jsonLine({ file: path, signature, ...reportJson(facts) })
      : `${signature}: ${describe(facts)}, ${grouped(facts.size)} bytes\n`,
  );
  return 0;
}

/** What was signed, and the file that says so. */
export interface Sealed {
  readonly facts: PackageFacts;
  readonly signature: string;
}

/** Signs a file with the private key in a PEM file, as a package of that number, or without one as a signing bundle; or the status after a message. */
export function* signFile(
  ctx: Pick<Ctx, 'sys' | 'fail' | 'failCall'>,
  path: string,
  keyPath: string,
  number: { readonly id: number; readonly version: number } | null,
): Generator<void, Sealed | number, void> {
  const pem = yield* readText(ctx.sys, keyPath, LIMITS.keyBytes);
  if (typeof pem === 'number') return yield* ctx.fail(keyPath, -pem);
  const key = parseSecretPem(pem);
  if (isRefusal(key)) return yield* ctx.fail(`${keyPath}: ${key.message}`);
  const st = yield* stat(ctx.sys, path);
  if (typeof st === 'number') return yield* ctx.fail(path, -st);
  const digest = yield* digestOf(ctx.sys, path);
  if (typeof digest === 'number') return yield* failAbout(ctx, path, digest);
  const made =
    number === null
      ? signBundle(basename(path), [{ name: basename(path), sha256: toHex(digest) }], key)
      : packageBytes({ ...number, size: st.size, sha256: digest }, key);
  if (isRefusal(made)) return yield* ctx.fail(`${keyPath}: ${made.message}`);
  return yield* writeSeal(ctx, path, number === null ? bundleOf(path) : sidecarOf(path), made, key);
}

/** A number from an option, 1 where it is not given; null when it is none of at least `least`. */
function numberOf(text: string | undefined, least: number): number | null {
  const n = text === undefined ? 1 : parseInteger(text);
  return n === null || n < least || n > U32_MAX ? null : n;
}

function packageBytes(header: Parameters<typeof signPackage>[0], key: SecretKey): Uint8Array | Refusal {
  const made = signPackage(header, key);
  return isRefusal(made) ? made : formatPackage(made);
}

/** Writes a signature beside its model; the kernel has to find that it holds. */
function* writeSeal(
  ctx: Pick<Ctx, 'sys' | 'fail' | 'failCall'>,
  path: string,
  to: string,
  bytes: Uint8Array,
  key: SecretKey,
): Generator<void, Sealed | number, void> {
  const { sys } = ctx;
  const fd = yield* sys.open(to, O.RDWR | O.CREAT | O.TRUNC, 0o644);
  if (fd < 0) return yield* ctx.failCall(to, -fd);
  const wrote = yield* writeAll(sys, fd, bytes);
  if (wrote < 0) return yield* ctx.fail(to, -wrote);
  const keyFd = yield* memoryFile(sys, utf8Encode(formatPublicPem(key.public)));
  if (keyFd < 0) return yield* ctx.fail(strerror(keyFd));
  const report = new Uint8Array(PackageReport.bytes);
  const result = yield* sys.model_signed(path, fd, keyFd, report);
  yield* sys.close(keyFd);
  yield* sys.close(fd);
  if (result < 0) return yield* failAbout(ctx, path, result);
  const facts = PackageReport.read(report, 0);
  if (result !== 0) return yield* ctx.fail(`${path}: ${PACKAGE_RESULTS[result]}: ${facts.message}`);
  return { facts, signature: to };
}

function* memoryFile(sys: Sys, bytes: Uint8Array): Run {
  const fd = yield* sys.memfd('key');
  if (fd < 0) return fd;
  const wrote = yield* writeAll(sys, fd, bytes);
  if (wrote < 0) return wrote;
  yield* sys.lseek(fd, 0, SEEK.set);
  return fd;
}

/** The signature that lies beside a model. */
function* showSignature(ctx: Ctx, path: string): Run {
  const file = sidecarOf(path);
  const bytes = yield* readFile(ctx.sys, file, LIMITS.packageBytes);
  if (typeof bytes === 'number') return yield* ctx.fail(file, -bytes);
  const found = parsePackage(bytes);
  if (isRefusal(found)) return yield* ctx.fail(`${file}: ${found.message}`);
  const { id, version, size, sha256, key, signature } = found;
  const hex = { digest: toHex(sha256), signer: toHex(key), signature: toHex(signature) };
  yield* ctx.out.print(
    ctx.options.json ? jsonLine({ file: path, id, version, size, ...hex }) : `LLM SIG: 0x${hex.signature}\n`,
  );
  return 0;
}

// ── Verifying ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** 1 when it does not hold. */
export function* verify(ctx: Ctx, [name]: readonly string[]): Run {
  const { sys, options } = ctx;
  const path = yield* namedModel(ctx, name);
  if (path === null) return 1;
  const from = options.oms ? bundleOf(path) : sidecarOf(path);
  const fd = yield* sys.open(from, O.RDONLY, 0);
  if (fd < 0) return yield* ctx.failCall(from, -fd);
  const keyFd = options.key === undefined ? -1 : yield* sys.open(options.key, O.RDONLY, 0);
  if (options.key !== undefined && keyFd < 0) return yield* ctx.failCall(options.key, -keyFd);
  const report = new Uint8Array(PackageReport.bytes);
  const result = yield* sys.model_verify(path, fd, keyFd, report);
  if (result < 0) return yield* failAbout(ctx, path, result);
  const facts = PackageReport.read(report, 0);
  const holds = result === 0;
  const verdict = holds ? `ok: ${describe(facts)}` : `FAILED: ${PACKAGE_RESULTS[result]}: ${facts.message}`;
  yield* ctx.out.print(
    options.json ? jsonLine({ file: path, ...reportJson(facts) }) : `[LLM][MODEL] verify ${verdict}\n`,
  );
  return holds ? 0 : 1;
}

/** `package 1 version 1, signed by arena8`. */
const describe = (f: PackageFacts): string =>
  `${f.format === 'oms' ? 'signing bundle' : `package ${f.id} version ${f.version}`}, signed by ${f.key || f.signer}`;

function reportJson(f: PackageFacts): Readonly<Record<string, Json>> {
  return {
    format: f.format,
    result: PACKAGE_RESULTS[f.result]!,
    id: f.format === 'oms' ? null : f.id,
    version: f.format === 'oms' ? null : f.version,
    size: f.size,
    digest: f.digest,
    signer: f.signer,
    key: f.key === '' ? null : f.key,
    permissions: permissionNames(f.permissions),
    message: f.message === '' ? null : f.message,
  };
}

// ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

export const attestOptions = {
  nonce: { value: 'TEXT', help: `attest: put TEXT, up to ${LIMITS.nonceBytes} bytes, into the statement` },
} as const satisfies OptionTable;
export const attestTakes = ['nonce'] as const;

export function* attest(ctx: Context<typeof attestOptions>): Run {
  const statement = new Uint8Array(LIMITS.windowBytes - LIMITS.nonceBytes);
  const bytes = yield* ctx.sys.attest(ctx.options.nonce ?? '', statement);
  if (bytes < 0) return yield* failAbout(ctx, '', bytes);
  yield* ctx.out.print(utf8Decode(statement, 0, bytes));
  return 0;
}
