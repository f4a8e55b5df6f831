// Certifies the compiled kernels, before they are metered: writes build/certificates.json for the kernel and build/certificates.txt for people.
// A kernel without a certificate fails the build by name. Both builds are certified; time is that of the relaxed one, whichever runs. Runs
// only when a module or the certifier is newer than what it wrote.
import { readFileSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { load } from './load.mjs';
import { meter, plainModule } from './wasm.mjs';

const root = new URL('..', import.meta.url).pathname;
const mtime = file => {
  try {
    return statSync(path.join(root, file)).mtimeMs;
  } catch {
    return -1;
  }
};
const BUILDS = ['simd128', 'relaxed'];
const PRICED = 'relaxed';
const FILE = 'build/certificates.json';
const LISTING = 'build/certificates.txt';
/** What the kernel evaluates while it runs: the plan's parts, and what is metered beside them in a session. */
const isEvaluated = c => /^op:|^(run|run_op|sample|top_k)$|^tokenize_/.test(c.name);

function write(file, text) {
  const tmp = path.join(root, `${file}.${process.pid}.tmp`);
  writeFileSync(tmp, text);
  renameSync(tmp, path.join(root, file));
}

export async function buildCertificates({ force = false } = {}) {
  const sources = [
    ...readdirSync(path.join(root, 'kernel/wcet')).map(f => `kernel/wcet/${f}`),
    ...BUILDS.map(plainModule),
    'drivers/engine/ops.ts',
    'tools/certify.mjs',
  ];
  if (!force && Math.min(mtime(FILE), mtime(LISTING)) > Math.max(...sources.map(mtime))) return;
  const wcet = await load(
    ...['certificate', 'certify', 'kernels', 'meter', 'poly', 'wasm'].map(f => `kernel/wcet/${f}`),
    'drivers/engine/ops',
  );
  const ops = Object.entries(wcet.Op).filter(([, code]) => typeof code === 'number');
  const text = [];
  for (const name of BUILDS) {
    const module = wcet.decodeModule(readFileSync(path.join(root, plainModule(name))));
    const results = wcet.certifyKernels(module, ops);
    const certified = results.filter(wcet.isCertificate);
    const refused = results.filter(c => !wcet.isCertificate(c));
    if (refused.length > 0)
      throw new Error(refused.map(c => `${name}: no certificate for ${c.name}: ${c.reason}`).join('\n'));
    const exact = certified.filter(wcet.isExact).length;
    text.push(`${name}: ${results.length} kernels, ${exact} exact, ${certified.length - exact} with bounds`);
    for (const c of results) text.push(...listing(wcet, c));
    text.push('');
    if (name !== PRICED) continue;
    const { blocks } = meter(wcet, name);
    write(FILE, JSON.stringify(wcet.encodeCertificates(name, results.filter(isEvaluated), blocks)));
  }
  write(LISTING, `${text.join('\n')}\n`);
}

/** A certificate as people read it: pN is argument N, p63 the number of passes, p64 and on are words; [c] is 1 where c holds, else 0. */
function listing(wcet, c) {
  if (!wcet.isCertificate(c)) return ['', `${c.name}: refused: ${c.reason}`];
  const lines = ['', `${c.name}: ${wcet.isExact(c) ? 'exact' : 'bounds'}, ${c.loops} loops`];
  wcet.CLASSES.forEach((cls, i) => {
    const [least, most] = [c.least[i], c.most[i]].map(p => wcet.print(p));
    if (most !== '0')
      lines.push(`  ${cls.padEnd(13)} ${least === most ? most : `${least}\n  ${''.padEnd(12)}≤ ${most}`}`);
  });
  for (const w of c.words)
    lines.push(`  p${w.param} = i32 at ${wcet.print(w.address)}${w.value === undefined ? '' : `, must be ${w.value}`}`);
  for (const x of c.extents)
    lines.push(
      `  ${x.store ? 'writes' : 'reads '}        ${wcet.print(x.from)} … ${wcet.print(x.to)}`,
      `  ${''.padEnd(14)}${wcet.print(x.moved)} bytes in runs of ${wcet.print(x.run)}`,
    );
  for (const x of c.strays)
    lines.push(
      `  ${x.store ? 'writes' : 'reads '}        anywhere: ${wcet.print(x.moved)} bytes in runs of ${wcet.print(x.run)}`,
    );
  for (const g of c.domain) lines.push(`  where         ${g.low} ≤ ${wcet.print(g.value)} ≤ ${g.high}`);
  return lines;
}

if (import.meta.url === `file://${process.argv[1]}`)
  await buildCertificates({ force: process.argv.includes('--force') });
