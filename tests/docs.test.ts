// The documents against the machine: what they list is generated or compared, what they name exists, what they tell a reader to type works.
import test from 'ava';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { boot } from '../boot/index.ts';
import { ATTRIBUTES, AUDIT_OPS, groupsOf, type Attribute } from '../trust/index.ts';

const read = (file: string) => readFileSync(file, 'utf8');
const documents = ['README.md', 'images/README.md', ...readdirSync('docs').map(f => `docs/${f}`)];
const powerOn = () => boot({ image: readFileSync('build/boot.cpio') });

/** Rows of the first table after a heading, as trimmed cells. */
function tableAfter(text: string, heading: string): string[][] {
  const lines = text.slice(text.indexOf(`\n${heading}\n`)).split('\n');
  const first = lines.findIndex(l => l.startsWith('|'));
  const length = lines.slice(first).findIndex(l => !l.startsWith('|'));
  return lines.slice(first + 2, first + length).map(l =>
    l
      .split('|')
      .slice(1, -1)
      .map(c => c.trim()),
  );
}

test('docs/ABI.md is what kernel/abi says', t => {
  const r = spawnSync(process.execPath, ['tools/abi-doc.mjs', '--check'], { encoding: 'utf8' });
  t.is(r.status, 0, r.stderr);
});

test('docs/AUDIT.md has every operation and attribute of the audit log as trust/ has them', t => {
  const text = read('docs/AUDIT.md');
  const attributes = Object.entries(ATTRIBUTES).map(([name, a]: [string, Attribute]) => [
    `\`${name}\``,
    a.in,
    a.kind,
    `${a.most ?? ''}`,
    a.help,
  ]);
  t.deepEqual(tableAfter(text, '#### Attributes'), attributes);
  const operations = tableAfter(text, '#### Operations').flatMap(([ops, groups]) =>
    ops!.split(' ').map(op => `${op} ${groups}`),
  );
  const known = AUDIT_OPS.map(op => `\`${op}\` ${groupsOf(op).slice(1).join(', ')}`);
  t.deepEqual(operations.toSorted(), known.toSorted());
});

const number = (cell: string) => Number(cell.replaceAll(',', ''));

test('docs/MEMORY.md draws the arena of a booted machine', t => {
  const machine = powerOn();
  t.is(machine.exec('llmctl load /models/fable-f16.gguf').status, 0);
  const drawn = tableAfter(read('docs/MEMORY.md'), '## The map').map(([region, start, end, bytes]) =>
    [region!.replaceAll('`', ''), start, end, bytes].map(c => c!.replaceAll(',', '')).join(' '),
  );
  const actual = machine
    .exec('cat /proc/arena')
    .stdout.trim()
    .split('\n')
    .slice(1)
    .map(l => l.split(' ').slice(0, 4).join(' '));
  t.deepEqual(drawn, actual);

  const rows = tableAfter(read('docs/MEMORY.md'), '## The fixed part');
  const bytes = rows.map(([, cell]) => number(cell!));
  t.is(
    bytes.slice(0, -1).reduce((sum, n) => sum + n, 0),
    bytes.at(-1)!,
  );
  t.true(actual.some(l => l.startsWith('tables ') && l.endsWith(` ${bytes.at(-1)}`)));
});

test('the transcript in README.md is what the first start prints', t => {
  const transcript = /```\n(…\n[^]*?)```/.exec(read('README.md'))?.[1] ?? '';
  const { stdout, stderr, status } = spawnSync(process.execPath, ['build/arena8.js'], { encoding: 'utf8', input: '' });
  t.is(status, 0, stderr);
  // Stamps are virtual, but they move with the image's size.
  const unstamped = (line: string): string => line.replace(/^\[ *\d+\.\d+\]/, '[]');
  const printed = new Set(`${stdout}\n${stderr}`.split('\n').map(unstamped));
  const lines = transcript.trimEnd().split('\n').slice(0, -1); // the last is the prompt
  t.deepEqual(
    lines.filter(l => l !== '…' && !printed.has(unstamped(l))),
    [],
  );
  t.true(lines.length >= 8);
});

test('what README.md tells a reader to type works', t => {
  const machine = powerOn();
  const block = /```arena8\n([^]*?)```/.exec(read('README.md'))?.[1] ?? '';
  const commands = block.split('\n').map(l => l.replace(/\s+#.*$/, '').trim());
  t.true(commands.filter(Boolean).length >= 10);
  for (const command of commands.filter(Boolean)) {
    const { status, stderr } = machine.exec(command);
    t.is(status, 0, `${command}: ${stderr}`);
  }
});

test('files and links that the documents name exist', t => {
  const missing: string[] = [];
  for (const document of documents) {
    const text = read(document);
    const folder = path.dirname(document);
    for (const [, link] of text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g))
      if (!existsSync(path.join(folder, link!))) missing.push(`${document}: ${link}`);
    for (const [, file] of text.matchAll(
      /`((?:kernel|vfs|drivers|shell|boot|images|tests|bench|docs|tools)\/[\w./-]+)`/g,
    ))
      if (!existsSync(file!)) missing.push(`${document}: ${file}`);
    for (const [, names] of text.matchAll(/`node tools\/test\.mjs ([a-z -]+)`/g))
      for (const name of names!.split(' ').filter(n => n !== '--soak'))
        if (!existsSync(`tests/${name}.test.ts`)) missing.push(`${document}: test ${name}`);
    const scripts = JSON.parse(read('package.json')).scripts;
    for (const [, script] of text.matchAll(/`npm run ([\w:]+)/g))
      if (scripts[script!] === undefined) missing.push(`${document}: npm run ${script}`);
  }
  t.deepEqual(missing, []);
});
