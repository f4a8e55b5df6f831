// `npm run bench -- --pages`: what keeping keys and values in pages brings and costs. Eight sessions at once on the default image: with
// beginnings of their own against one beginning that is known, and in pools from all that they need down to what one of them needs. Time of the
// simulated processor and counts are exact and the same on every host; host time is beside them. What is written is the same in every row.
import { writeFileSync } from 'node:fs';
import { allowRelaxedSimd } from './ceilings.mjs';
import { promptOf, table } from './workload.mjs';

const MODEL = 'fable-f16';
const SESSIONS = 8;
const PAGE = 32; // positions
const KNOWN = 192; // tokens of a beginning: 6 pages
const OWN = 15;
const DRAWN = 48;

/** A machine with the model in a pool of so many pages; commands that must succeed. */
function powerOn(library, ctx, pages) {
  const machine = library.boot();
  const run = line => {
    const { status, stdout, stderr } = machine.exec(line);
    if (status !== 0) throw new Error(`${line.slice(0, 60)}: status ${status}: ${stderr.trim()}`);
    return stdout;
  };
  run(`llmctl load ${MODEL} --ctx ${ctx} --pages ${pages}; llmctl quota '*' --tokens 0`);
  return run;
}

const figures = text => Object.fromEntries([...text.matchAll(/^(\S+) (\d+)$/gm)].map(([, k, v]) => [k, Number(v)]));

/** All prompts at once; what they wrote, and what it took. */
function together(run, prompts, tokens) {
  const now = () => ({
    ...figures(run('cat /proc/kv')),
    cycles: figures(run('cat /proc/clock')).total,
    ms: performance.now(),
  });
  const hz = Number(/^\* \S+ (\d+)/m.exec(run('cat /proc/targets'))[1]);
  const jobs = prompts.map(
    (p, i) => `llminfer --timeout 600000 --max-tokens ${tokens} --seed ${i + 1} '${p}' > /tmp/out${i} &`,
  );
  const before = now();
  run(`${jobs.join(' ')} wait`);
  const after = now();
  const difference = name => after[name] - before[name];
  return {
    written: prompts.map((_, i) => run(`cat /tmp/out${i}`)).join('\0'),
    seconds: difference('cycles') / hz,
    hostSeconds: difference('ms') / 1000,
    found: difference('prefixTokens'),
    copies: difference('copies'),
    swapped: difference('swapOuts') + difference('swapIns'),
  };
}

/** Prompts of one beginning and ends of their own. */
function prompts(run, known, own) {
  const count = text => JSON.parse(run(`llmctl tokenize --json --bos '${text}'`)).tokens.length;
  const beginning = promptOf(known, 0, count);
  const names = ['Tim', 'Sue', 'Ben', 'Mia', 'Max', 'Amy', 'Sam', 'Joe'];
  return names.map((name, i) => `${beginning} ${name} ${promptOf(own, 3 * i, count)}`);
}

/** The same eight sessions with nothing known; and after somebody has read the beginning. */
function sharing(library) {
  const ctx = 256;
  const rows = [];
  for (const known of [false, true]) {
    const run = powerOn(library, ctx, (SESSIONS * ctx) / PAGE);
    const all = prompts(run, KNOWN, OWN);
    if (known) run(`llminfer --max-tokens 1 '${all[0]}'`);
    rows.push({ beginning: known ? 'known' : 'new', ...together(run, all, DRAWN) });
  }
  return rows;
}

/** Eight sessions of 4 pages each, in pools that hold all of them, or fewer. */
function scarcity(library) {
  const each = 4;
  return [8, 6, 4, 2, 1].map(fitting => {
    const run = powerOn(library, each * PAGE, fitting * each);
    const all = prompts(run, 8, OWN);
    return { pages: fitting * each, fitting, ...together(run, all, each * PAGE - 48) };
  });
}

export async function pages() {
  allowRelaxedSimd();
  const library = await import('../build/index.js');
  const run = { sharing: sharing(library), scarcity: scarcity(library) };
  for (const rows of Object.values(run))
    if (new Set(rows.map(r => r.written)).size > 1) throw new Error('sharing or swapping changes what is written');
  return run;
}

export function print({ sharing, scarcity }, { json }) {
  const time = r => [r.seconds.toFixed(2), r.hostSeconds.toFixed(2)];
  console.log(`${MODEL}, ${SESSIONS} sessions at once; seconds of the simulated processor, and of this host\n`);
  console.log(`${KNOWN} tokens that all begin with, about ${OWN} of their own, ${DRAWN} drawn:\n`);
  const shared = sharing.map(r => [r.beginning, ...time(r), `${r.found}`, `${r.copies}`]);
  console.log(table(['beginning', 'seconds', 'host', 'tokens found', 'pages copied'], shared));
  console.log('\ncontexts of 4 pages each, in smaller pools:\n');
  const scarce = scarcity.map(r => [`${r.pages}`, `${r.fitting}`, ...time(r), `${r.swapped}`]);
  console.log(table(['pages', 'sessions that fit', 'seconds', 'host', 'pages swapped'], scarce));
  if (json) writeFileSync(json, `${JSON.stringify({ sharing, scarcity }, null, 1)}\n`);
}
