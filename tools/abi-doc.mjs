// Prints docs/ABI.md from kernel/abi: system calls, records and constants are listed once, in the code, and read from there. Comments beside
// record fields are taken from the source text. `node tools/abi-doc.mjs` writes the file; with --check it only compares (status 1: out of date).
import { build } from 'esbuild';
import { readFileSync, writeFileSync } from 'node:fs';

const root = new URL('..', import.meta.url).pathname;
const target = `${root}docs/ABI.md`;

async function loadAbi() {
  const bundle = await build({
    entryPoints: [`${root}kernel/abi/index.ts`],
    bundle: true,
    write: false,
    format: 'esm',
  });
  return import(`data:text/javascript,${encodeURIComponent(bundle.outputFiles[0].text)}`);
}

const row = cells => `| ${cells.map(c => String(c).replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
const table = (head, rows) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');

/** Groups of the system-call table: the tens of their numbers. */
const groups = [
  [1, 19, 'Processes'],
  [20, 39, 'Files'],
  [40, 59, 'Names'],
  [60, 69, 'Models'],
  [70, 79, 'Sessions'],
  [80, 89, 'Model files'],
  [90, 99, 'Users'],
  [110, 119, 'Trust'],
];

/** Of a record's heading, as GitHub makes them: `### Stat, 80 bytes` is #stat-80-bytes. */
const anchorOf = (abi, record) => `${record.toLowerCase()}-${abi[record].bytes}-bytes`;

function systemCalls(abi) {
  const calls = Object.entries(abi.SYSCALLS);
  return groups.map(([from, to, title]) => {
    const rows = calls
      .filter(([, c]) => c.nr >= from && c.nr <= to)
      .map(([name, c]) => [
        c.nr,
        `\`${name}\``,
        c.args
          .map(([arg, kind, meaning]) => {
            const record = /^[A-Z]/.test(meaning ?? '') ? ` [${meaning}](#${anchorOf(abi, meaning)})` : '';
            return (arg === kind ? `\`${kind}\`` : `${arg} \`${kind}\``) + record;
          })
          .join(', '),
        c.blocks ? 'yes' : '',
        c.doc,
      ]);
    return `### ${title}\n\n${table(['nr', 'call', 'arguments', 'may wait', 'what it does'], rows)}`;
  });
}

const isLayout = value =>
  typeof value === 'object' && value !== null && 'fields' in value && 'bytes' in value && 'at' in value;

/** The source text of one exported constant: from its name to the first line that closes it. */
function sourceOf(source, name) {
  const start = source.indexOf(`export const ${name} = layout(`);
  return start < 0 ? '' : source.slice(start, source.indexOf('});', start));
}

function records(abi, source) {
  return Object.entries(abi)
    .filter(([, value]) => isLayout(value))
    .map(([name, layout]) => {
      const text = sourceOf(source, name);
      const comment = field => new RegExp(`^\\s*${field}: '[^']*', // (.*)$`, 'm').exec(text)?.[1] ?? '';
      const rows = Object.entries(layout.fields).map(([field, type]) => [
        layout.at[field],
        `\`${type}\``,
        `\`${field}\``,
        comment(field),
      ]);
      return `### ${name}, ${layout.bytes} bytes\n\n${table(['offset', 'type', 'field', 'meaning'], rows)}`;
    });
}

const pairs = (object, show = v => v) => Object.entries(object).map(([name, v]) => `\`${name}\` ${show(v)}`);
const indexed = list => list.map((name, i) => `${i} ${name === '' ? 'none' : `\`${name}\``}`);

function constants(abi) {
  const rows = [
    ['errors, returned negated', Object.values(abi.E).map(v => `\`${abi.errnoName(v)}\` ${v}`)],
    [
      'codes of the SIS specification, in LastError',
      Object.entries(abi.SPEC_CODE).map(([code, name]) => `${code} \`${name}\``),
    ],
    ['kinds of inode', pairs(abi.KIND)],
    ['flags of open', pairs(abi.O, v => `0${v.toString(8)}`)],
    ['mask of access', pairs(abi.ACCESS)],
    ['times of utimens', pairs(abi.UTIME)],
    ['whence of lseek', pairs(abi.SEEK)],
    ['signals', pairs(abi.SIG)],
    ['commands of ioctl', pairs(abi.IOCTL)],
    ['states of a session', indexed(abi.SESSION_STATE)],
    ['reasons a session ends', indexed(abi.FINISH)],
    ['kinds of session', pairs(abi.SESSION_KIND)],
    ['events of a session', pairs(abi.EVENT)],
    ['random generators', pairs(abi.RNG)],
    ['faults of the executor', pairs(abi.FAULT)],
  ];
  return table(
    ['what', 'values'],
    rows.map(([what, values]) => [what, values.join(', ')]),
  );
}

const limits = ({ LIMITS }) =>
  table(
    ['limit', 'value'],
    Object.entries(LIMITS).map(([name, v]) => [
      `\`${name}\``,
      typeof v === 'number' ? v.toLocaleString('en-US') : `\`${v}\``,
    ]),
  );

async function document() {
  const abi = await loadAbi();
  const source = ['records.ts', 'syscalls.ts']
    .map(file => readFileSync(`${root}kernel/abi/${file}`, 'utf8'))
    .join('\n');
  return (
    [
      '# System calls and records',
      'Printed from `kernel/abi` by `node tools/abi-doc.mjs`; `node tools/abi-doc.mjs --check` says whether it is up to date. Do not edit.',
      '## System calls',
      'A call is integers in and one integer out: ≥ 0 a value, < 0 a negated error number. `path` (UTF-8), `in` (bytes the kernel reads) and `out` ' +
        '(bytes the kernel writes) are two integers each, address and length, inside the system-call window; every other kind is one. A call decodes ' +
        'and checks all its arguments before it changes anything. `strace COMMAND` shows calls as they happen.',
      ...systemCalls(abi),
      '## Records',
      'Little-endian, each field aligned to its own size. `sN` is N bytes of UTF-8, padded with zeros.',
      ...records(abi, source),
      '## Constants',
      constants(abi),
      '## Limits',
      'From `kernel/abi/limits.ts`, where the sums are. Bytes unless the name says otherwise.',
      limits(abi),
      '',
    ]
      .join('\n\n')
      .trimEnd() + '\n'
  );
}

const text = await document();
if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== text) {
    console.error('docs/ABI.md is out of date: run node tools/abi-doc.mjs');
    process.exitCode = 1;
  }
} else writeFileSync(target, text);
