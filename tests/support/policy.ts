// The policy for damaged model files as text: what docs/FILES.md says is what the loader's checks did when it was written. tools/files-doc.mjs
// writes the page, tests/damaged.test.ts compares it.

import { DAMAGED } from './bad-gguf.ts';
import { Examiner } from './examine.ts';

/** Where docs/FILES.md begins to be generated. */
export const MARK = '<!-- From here on written by tools/files-doc.mjs -->';

const cell = (s: string): string => s.replaceAll('|', '\\|');

/** The tables, one for each part of a file: what is wrong, what llama.cpp does, what arena8 does, its line. */
export function policy(): string {
  const examiner = new Examiner();
  const parts = Object.entries(DAMAGED).map(([part, rows]) => {
    const lines = rows.map(([name, theirs, file]) => {
      const { stage, refusal } = examiner.examine(file());
      const ours = refusal === null ? 'accepts' : `refuses, ${stage}`;
      return `| ${cell(name)} | ${theirs} | ${ours} | ${refusal === null ? '' : `\`${cell(refusal.message)}\``} |`;
    });
    return `## ${part}\n\n| what is wrong | llama.cpp | arena8 | its line, after the file's name |\n|---|---|---|---|\n${lines.join('\n')}\n`;
  });
  return `${MARK}\n\n${parts.join('\n')}`;
}
