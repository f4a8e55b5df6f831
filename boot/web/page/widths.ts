// How wide characters are: the machine's own table (Unicode 17, which has all of Unicode 11's in it), so that terminal and line editor never
// disagree about where the cursor is. A mark joins the character before it.

import type { IUnicodeVersionProvider } from '@xterm/xterm';
import { codePointWidth } from '../../../kernel/abi/index.ts';

export const WIDTHS: IUnicodeVersionProvider = {
  version: 'arena8',
  wcwidth: codePointWidth,
  /** xterm.js: bit 0 joins, bits 1 and 2 are the width; `preceding` is what came of the character before. */
  charProperties(codePoint, preceding) {
    const width = codePointWidth(codePoint);
    const before = (preceding >> 1) & 3;
    const joins = width === 0 && before > 0;
    return ((joins ? before : width) << 1) | Number(joins);
  },
};
