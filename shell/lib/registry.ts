// The verbs of llmctl about what a machine trusts: its keys and policy, the packages registered on it with their permissions, and changing
// from one registered model to another while it runs. The kernel keeps all of it and says it in /proc; what changes it is the superuser's.

import { KEY_COLUMNS, LIMITS, O, PACKAGE_COLUMNS, strerror, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { ALL_PERMISSIONS, permissionBits, sidecarOf } from '../../trust/index.ts';
import { basename, readText } from './files.ts';
import { jsonLine, table, times } from './fmt.ts';
import type { OptionTable } from './getopt.ts';
import { failAbout, grouped, loadChoice, loadedModel, loadOptions, modelPath, parseInteger, wrong } from './model.ts';
import type { packageOptions } from './packages.ts';
import type { Context } from './program.ts';

export const registryOptions = {
  grant: {
    value: 'WORDS',
    help: 'register: permissions, of load,execute,inspect,export,attest with commas between, all (default) or none',
  },
  from: { value: 'ID', help: 'swap: only if the model loaded is the package ID' },
  to: { value: 'ID', help: 'swap: to the package ID; rollback: only if the model before is the package ID' },
} as const satisfies OptionTable;

export const registerTakes = ['id', 'grant', 'ctx'] as const;
export const swapTakes = ['from', 'to', 'ctx', 'kv'] as const;

type Valued<Name extends string> = { readonly [K in Name]: { readonly value: string; readonly help: string } };
type Ctx = Context<
  typeof registryOptions &
    Pick<typeof packageOptions, 'id'> &
    Valued<'ctx' | 'kv'> & { readonly json: { readonly help: string } }
>;
type Run = Generator<void, number, void>;

// ── Tables of the kernel ─────────────────────────────────────────────────────────────────────────────────────────────────────────

type Row<C extends readonly string[]> = Readonly<Record<C[number], string>>;
type PackageRow = Row<typeof PACKAGE_COLUMNS>;

/** The lines of a table in /proc as objects, or -errno. */
export function* rowsOf<C extends readonly string[]>(
  sys: Sys,
  path: string,
  columns: C,
): Generator<void, Row<C>[] | number, void> {
  const text = yield* readText(sys, path);
  if (typeof text === 'number') return text;
  const lines = text.split('\n').slice(1, -1);
  return lines.map(line => Object.fromEntries(line.split('\t').map((cell, i) => [columns[i]!, cell])) as Row<C>);
}

const readPackages = (sys: Sys): Generator<void, PackageRow[] | number, void> =>
  rowsOf(sys, '/proc/packages', PACKAGE_COLUMNS);

// ── Keys and policy ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function* key(ctx: Ctx, [verb, ...rest]: readonly string[]): Run {
  if (verb === undefined) return yield* listKeys(ctx);
  if (verb === 'add' && rest.length > 0) return yield* addKey(ctx, rest[0]!, rest[1]);
  if (verb !== 'remove' || rest.length !== 1) return yield* ctx.usage('key: nothing, add FILE [NAME], or remove NAME');
  const r = yield* ctx.sys.trusted_key(rest[0]!, new Uint8Array(0));
  return r < 0 ? yield* failAbout(ctx, rest[0]!, r) : 0;
}

/** Without a name it is called as its file is, without .pub or .pem. */
function* addKey(ctx: Ctx, file: string, name = basename(file).replace(/\.(?:pub|pem)$/, '')): Run {
  const pem = yield* readText(ctx.sys, file, LIMITS.keyBytes);
  if (typeof pem === 'number') return yield* ctx.fail(file, -pem);
  if (pem === '') return yield* ctx.fail(`${file}: no key in it`);
  const r = yield* ctx.sys.trusted_key(name, utf8Encode(pem));
  return r < 0 ? yield* failAbout(ctx, file, r) : 0;
}

function* listKeys(ctx: Ctx): Run {
  const keys = yield* rowsOf(ctx.sys, '/proc/keys', KEY_COLUMNS);
  if (typeof keys === 'number') return yield* ctx.fail('/proc/keys', -keys);
  if (ctx.options.json) yield* ctx.out.print(jsonLine({ keys }));
  else if (keys.length === 0) yield* ctx.out.print('LLM PUBKEY: <unset>\n');
  else for (const k of keys) yield* ctx.out.print(`LLM PUBKEY: 0x${k.key} ${k.kind} ${k.name} ${k.since}\n`);
  return 0;
}

export function* policy(ctx: Ctx, [wanted = '']: readonly string[]): Run {
  const text = new Uint8Array(16);
  const bytes = yield* ctx.sys.policy(wanted, text);
  if (bytes < 0) return yield* failAbout(ctx, 'policy', bytes);
  const now = utf8Decode(text, 0, bytes);
  yield* ctx.out.print(ctx.options.json ? jsonLine({ policy: now }) : `${now}\n`);
  return 0;
}

// ── Registered packages ──────────────────────────────────────────────────────────────────────────────────────────────────────────

export function* register(ctx: Ctx, [name = '']: readonly string[]): Run {
  const { sys, options } = ctx;
  const granted = options.grant === undefined ? ALL_PERMISSIONS : permissionBits(options.grant);
  if (granted === null)
    return yield* wrong(ctx, `--grant '${options.grant}' is not of load,execute,inspect,export,attest`);
  const most = options.ctx === undefined ? 0 : parseInteger(options.ctx);
  if (most === null || most < 0 || most > LIMITS.contextMax)
    return yield* wrong(ctx, `--ctx '${options.ctx}' is not an integer from 0 to ${LIMITS.contextMax}`);
  const path = yield* modelPath(sys, name);
  const wanted = yield* packageId(ctx, path);
  if (wanted < 0) return -wanted;
  const file = sidecarOf(path);
  const fd = yield* sys.open(file, O.RDONLY, 0);
  if (fd < 0) return yield* ctx.failCall(file, -fd);
  const id = yield* sys.model_register(path, fd, granted, most);
  yield* sys.close(fd);
  if (id < 0) return yield* failAbout(ctx, path, id);
  const packages = yield* readPackages(sys);
  const row = typeof packages === 'number' ? undefined : packages.find(p => p.id === String(id));
  if (row === undefined) return yield* ctx.fail(`package ${id} is not there any more`);
  const kilobytes = Math.ceil(Number(row.size) / 1024);
  yield* ctx.out.print(
    options.json ? jsonLine(packageJson(row)) : `Model registered: ${id} (${kilobytes}KB, ctx=${row.ctx})\n`,
  );
  return 0;
}

/** 0 where --id is not given or is the package's own; or minus the exit status, after a message. */
function* packageId(ctx: Ctx, path: string): Run {
  if (ctx.options.id === undefined) return 0;
  const text = yield* readText(ctx.sys, sidecarOf(path), LIMITS.packageBytes);
  if (typeof text === 'number') return -(yield* ctx.fail(sidecarOf(path), -text));
  if (text.includes(`"id":${ctx.options.id},`)) return 0;
  return -(yield* ctx.fail(`${sidecarOf(path)}: not package ${ctx.options.id}`));
}

export function* unregister(ctx: Ctx, [id = '']: readonly string[]): Run {
  const n = parseInteger(id);
  if (n === null) return yield* wrong(ctx, `'${id}' is not the id of a package`);
  const r = yield* ctx.sys.model_unregister(n);
  return r < 0 ? yield* failAbout(ctx, `package ${n}`, r) : 0;
}

export function* list(ctx: Ctx): Run {
  const packages = yield* readPackages(ctx.sys);
  if (typeof packages === 'number') return yield* ctx.fail('/proc/packages', -packages);
  if (ctx.options.json) yield* ctx.out.print(jsonLine({ packages: packages.map(packageJson) }));
  else {
    yield* ctx.out.print(`Registry: [${packages.map(p => p.id).join(', ')}]\n`);
    const rows = packages.map(p => [p.id, p.version, grouped(Number(p.size)), p.permissions, p.key, p.path]);
    const heads = ['ID', 'VERSION', 'SIZE', 'PERMISSIONS', 'KEY', 'FILE'];
    if (rows.length > 0) yield* ctx.out.print(table([heads, ...rows], [true, true, true]));
  }
  return 0;
}

export function* query(ctx: Ctx, [operand]: readonly string[]): Run {
  const id = operand ?? ctx.options.id;
  if (id === undefined) return yield* ctx.usage('query: missing ID');
  const packages = yield* readPackages(ctx.sys);
  if (typeof packages === 'number') return yield* ctx.fail('/proc/packages', -packages);
  const found = packages.find(p => p.id === id);
  if (found === undefined) return yield* ctx.fail(`no package ${id} is registered`);
  if (ctx.options.json) yield* ctx.out.print(jsonLine(packageJson(found)));
  else {
    yield* ctx.out.print(`Model info: ${id} ${found.key === '-' ? 'its key is not trusted any more' : 'ok'}\n`);
    yield* ctx.out.print(table(PACKAGE_COLUMNS.map(column => [column, found[column]])));
  }
  return 0;
}

const packageJson = (p: PackageRow) => ({
  id: Number(p.id),
  version: Number(p.version),
  size: Number(p.size),
  ctx: Number(p.ctx),
  permissions: p.permissions === '-' ? [] : p.permissions.split(','),
  key: p.key === '-' ? null : p.key,
  digest: p.digest,
  path: p.path,
});

// ── From one model to another ────────────────────────────────────────────────────────────────────────────────────────────────────

export function* swap(ctx: Ctx, [operand]: readonly string[]): Run {
  const { sys, options } = ctx;
  const to = parseInteger(operand ?? options.to ?? '');
  if (to === null || to < 1) return yield* ctx.usage('swap: which package? --to ID');
  const choice = loadChoice({ ctx: options.ctx, kv: options.kv });
  if (typeof choice === 'string') return yield* wrong(ctx, choice);
  const before = yield* loadedId(sys);
  if (options.from !== undefined && options.from !== before)
    return yield* ctx.fail(
      `package ${options.from} is not loaded: ${before === '-' ? 'nothing registered is' : `${before} is`}`,
    );
  return yield* change(ctx, `Hot-swap initiated: ${before} → ${to}\n`, 'Swap', sys.model_swap(to, loadOptions(choice)));
}

export function* rollback(ctx: Ctx): Run {
  const to = ctx.options.to === undefined ? 0 : parseInteger(ctx.options.to);
  if (to === null || to < 0) return yield* wrong(ctx, `--to '${ctx.options.to}' is not the id of a package`);
  return yield* change(ctx, '', 'Rollback', ctx.sys.model_rollback(to));
}

/** Makes the call that changes models; nothing answers while it takes. */
function* change(ctx: Ctx, before: string, what: string, call: Run): Run {
  const { sys, out } = ctx;
  const { nowNs: began } = yield* times(sys);
  const r = yield* call;
  const { nowNs: ended } = yield* times(sys);
  if (r < 0) return yield* failAbout(ctx, '', r);
  const model = yield* loadedModel(sys);
  if (typeof model === 'number') return yield* ctx.fail(strerror(model));
  const { path, digest } = model;
  const downtime = ended - began;
  yield* out.print(
    ctx.options.json
      ? jsonLine({ id: idOf(yield* loadedId(sys)), path, digest, downtime_ns: downtime })
      : `${before}${what} complete. Downtime: ${Math.round(downtime / 1000) / 1000}ms\n`,
  );
  return 0;
}

const idOf = (text: string): number | null => (text === '-' ? null : Number(text));

/** The id of the package that is loaded; `-`: what is loaded is not registered. */
function* loadedId(sys: Sys): Generator<void, string, void> {
  const model = yield* loadedModel(sys);
  const packages = yield* readPackages(sys);
  if (typeof model === 'number' || typeof packages === 'number') return '-';
  return packages.find(p => p.digest === model.digest)?.id ?? '-';
}
