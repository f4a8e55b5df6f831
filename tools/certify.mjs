// Certifies the compiled kernels: reads build/kernels.*.wasm, writes build/certificates.simd128.json and .relaxed.json for the kernel, and
// build/certificates.txt for people. Runs only when a module or the certifier is newer than what it wrote.
import { build } from 'esbuild';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const root = new URL('..', import.meta.url).pathname;
const mtime = file => {
  try {
    return statSync(path.join(root, file)).mtimeMs;
  } catch {
    return -1;
  }
};
const BUILDS = ['simd128', 'relaxed'];
const LISTING = 'build/certificates.txt';

/** The certifier, which is written in the kernel's room. */
async function certifier() {
  const files = [
    ...['certificate', 'certify', 'kernels', 'poly', 'wasm'].map(f => `kernel/wcet/${f}`),
    'drivers/engine/ops',
  ];
  const entry = files.map(f => `export * from './${f}.ts';`).join('\n');
  const { outputFiles } = await build({
    stdin: { contents: entry, resolveDir: root },
    bundle: true,
    format: 'esm',
    write: false,
    logLevel: 'warning',
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);
}

export async function buildCertificates({ force = false } = {}) {
  const sources = [
    ...readdirSync(path.join(root, 'kernel/wcet')).map(f => `kernel/wcet/${f}`),
    ...BUILDS.map(b => `build/kernels.${b}.wasm`),
    'drivers/engine/ops.ts',
    'tools/certify.mjs',
  ];
  if (!force && mtime(LISTING) > Math.max(...sources.map(mtime))) return;
  const wcet = await certifier();
  const ops = Object.entries(wcet.Op).filter(([, code]) => typeof code === 'number');
  const text = [];
  for (const name of BUILDS) {
    const module = wcet.decodeModule(readFileSync(path.join(root, `build/kernels.${name}.wasm`)));
    const results = wcet.certifyKernels(module, ops);
    writeFileSync(
      path.join(root, `build/certificates.${name}.json`),
      JSON.stringify(wcet.encodeCertificates(name, results)),
    );
    const certified = results.filter(wcet.isCertificate);
    const exact = certified.filter(wcet.isExact).length;
    text.push(
      `${name}: ${results.length} kernels, ${exact} exact, ${certified.length - exact} with bounds, ${results.length - certified.length} refused`,
    );
    for (const c of results) text.push(...listing(wcet, c));
    text.push('');
  }
  writeFileSync(path.join(root, LISTING), `${text.join('\n')}\n`);
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
    lines.push(`  ${x.store ? 'writes' : 'reads '}        anywhere: ${wcet.print(x.moved)} bytes in runs of ${wcet.print(x.run)}`);
  for (const g of c.domain) lines.push(`  where         ${g.low} ≤ ${wcet.print(g.value)} ≤ ${g.high}`);
  return lines;
}

if (import.meta.url === `file://${process.argv[1]}`)
  await buildCertificates({ force: process.argv.includes('--force') });
