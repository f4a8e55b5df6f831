// Audit: the log as it grows: its records, the Merkle tree that they are the leaves of, and the signed head that fixes them all. The page
// hashes the tree again from the log's tiles and compares the root with the head's. From docs/AUDIT.md; RFC 6962.

import { el } from '../dom.ts';
import { FigureTable, setHidden, setText, svg } from './dom.ts';
import { count, time } from './format.ts';
import {
  parseAudit,
  parseHead,
  rootOf,
  tilesOf,
  treeOf,
  type AuditHead,
  type AuditLine,
  type TreeNode,
} from './parse-audit.ts';
import type { Desk, Seen, View } from './view.ts';

/** Leaves at the end of the log that are drawn one by one. */
const OPEN = 16;
/** Records listed. */
const LISTED = 40;
const LEVEL = 26;
const HASH = 32;

export function auditView(desk: Desk): View {
  const sizeText = el('dd');
  const rootText = el('dd', { class: 'mono' });
  const signedText = el('dd');
  const checkText = el('dd', { 'aria-live': 'polite' });
  const headList = el(
    'dl',
    { class: 'head' },
    el('dt', {}, 'Records'),
    sizeText,
    el('dt', {}, 'Root'),
    rootText,
    el('dt', {}, 'Signed by'),
    signedText,
    el('dt', {}, 'Hashed again here'),
    checkText,
  );
  const tree = el('div', { class: 'tree' });
  const list = el('ol', { class: 'records' });
  const figure = el('div', { class: 'audit' }, headList, tree, el('h3', {}, 'Newest records'), list);
  const table = new FigureTable(
    'Records in the ring, newest first',
    ['record', 'time', 'what', 'done', 'fields'],
    new Set(['record', 'time']),
  );
  let drawnHead = '';
  let drawnLines = '';

  /** Reads the tiles that cover the tree and hashes them up; says what came of it. */
  async function check(head: AuditHead): Promise<void> {
    if (globalThis.crypto?.subtle === undefined)
      return setText(checkText, 'not here: this page was not loaded over https');
    const hashes: Uint8Array[] = [];
    const leaves: number[] = [];
    try {
      for (const { path, level } of tilesOf(head.size)) {
        const bytes = await desk.ask('read', path);
        for (let i = 0; i + HASH <= bytes.length; i += HASH) {
          hashes.push(bytes.subarray(i, i + HASH));
          leaves.push(256 ** level);
        }
      }
    } catch {
      return; // the log has grown meanwhile: the next head is checked
    }
    if (leaves.reduce((sum, n) => sum + n, 0) !== head.size) return;
    const root = await rootOf(
      hashes,
      leaves,
      async bytes => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as BufferSource)),
    );
    const text = btoa(String.fromCharCode(...root));
    setText(
      checkText,
      text === head.root ? `the same root from ${count(hashes.length)} hashes` : `ANOTHER ROOT: ${text}`,
    );
    checkText.classList.toggle('bad', text !== head.root);
    return undefined;
  }

  function drawHead(head: AuditHead): void {
    setText(sizeText, count(head.size));
    setText(rootText, head.root);
    setText(signedText, head.signers.join(', '));
    setText(checkText, '…');
    if (head.size > 0) {
      tree.replaceChildren(treeFigure(head.size));
      void check(head);
    }
  }

  function drawLines(lines: readonly AuditLine[]): void {
    const shown = lines.slice(0, LISTED);
    while (list.children.length > shown.length) list.lastElementChild!.remove();
    shown.forEach((line, i) => {
      let item = list.children[i];
      if (item === undefined) {
        item = el(
          'li',
          {},
          el('b'),
          el('span', { class: 'number' }),
          el('span', { class: 'what' }),
          el('span', { class: 'rest' }),
        );
        list.append(item);
      }
      const [number, at, what, rest] = item.children as unknown as [HTMLElement, HTMLElement, HTMLElement, HTMLElement];
      setText(number, String(line.record));
      setText(at, time(line.atNs));
      setText(what, line.isDone ? line.what : `${line.what}: refused`);
      setText(rest, restOf(line));
    });
    table.set(
      shown.map(line => [String(line.record), time(line.atNs), line.what, line.isDone ? 'yes' : 'no', restOf(line)]),
    );
  }

  return {
    name: 'audit',
    about: 'What was done, record by record, under a signed root.',
    command: () => 'llmctl audit list --last 20; llmctl audit head',
    paths: ['/proc/audit', '/audit/head'],
    trace: false,
    probe: () => null,
    everyMs: 250,
    figure,
    tables: [table.element],
    update(seen: Seen) {
      const [text, headText] = [seen.file('/proc/audit'), seen.file('/audit/head')];
      const head = parseHead(headText);
      if (text !== drawnLines) {
        drawnLines = text;
        drawLines(parseAudit(text));
      }
      setHidden(headList, head === null);
      setHidden(tree, head === null);
      if (head !== null && headText !== drawnHead) {
        drawnHead = headText;
        drawHead(head);
      }
      return text === '' && head === null
        ? 'This machine keeps no audit log: switch one on that does, and every request leaves a record.'
        : '';
    },
  };
}

const KNOWN = new Set(['op', 'status', 'ts_ns', 'record', 'what', 'code']);

/** What else a line says, without what is 0 everywhere. */
function restOf(line: AuditLine): string {
  return [...line.fields]
    .filter(([name, value]) => !KNOWN.has(name) && value !== '' && value !== '0')
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}

interface Placed {
  readonly x: number;
  readonly depth: number;
}

/** The tree as lines and boxes: closed subtrees carry their number of leaves, leaves their records' numbers. */
function treeFigure(size: number): SVGElement {
  const root = treeOf(size, Math.max(0, size - OPEN));
  const boxes: SVGElement[] = [];
  const lines: SVGElement[] = [];
  const depthMost = depthOf(root);
  let column = 0;
  const box = (x: number, depth: number, text: string, look: string): void => {
    boxes.push(
      svg('rect', { x: x - 15, y: depth * LEVEL + 2, width: 30, height: 18, rx: 3, class: look }),
      svg('text', { x, y: depth * LEVEL + 15, 'text-anchor': 'middle' }, text),
    );
  };
  const place = (node: TreeNode, depth: number): Placed => {
    if (node.children === null) {
      const at = { x: 20 + 36 * column++, depth: node.leaves === 1 ? depthMost : depth };
      box(
        at.x,
        at.depth,
        node.leaves === 1 ? String(node.from) : `${node.leaves} ✓`,
        node.leaves === 1 ? 'leaf' : 'whole',
      );
      return at;
    }
    const [left, right] = [place(node.children[0], depth + 1), place(node.children[1], depth + 1)];
    const x = (left.x + right.x) / 2;
    for (const child of [left, right])
      lines.push(
        svg('path', { d: `M${x} ${depth * LEVEL + 11}V${depth * LEVEL + 24}H${child.x}V${child.depth * LEVEL + 2}` }),
      );
    if (depth === 0) box(x, 0, 'root', 'root');
    else boxes.push(svg('circle', { cx: x, cy: depth * LEVEL + 11, r: 4 }));
    return { x, depth };
  };
  place(root, 0);
  const width = 40 + 36 * (column - 1);
  const height = (depthMost + 1) * LEVEL;
  const closed =
    size > OPEN ? '; a box with a tick is a whole subtree of so many records, which never changes again' : '';
  return svg(
    'svg',
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: 'img',
      'aria-label': `Merkle tree of ${size} records, the newest at the right${closed}`,
    },
    ...lines,
    ...boxes,
  );
}

function depthOf(node: TreeNode): number {
  return node.children === null ? 0 : 1 + Math.max(depthOf(node.children[0]), depthOf(node.children[1]));
}
