// A finger on the terminal: moves what it remembers up and down, or, where a program has the whole screen, presses its arrow keys, as a wheel
// does. xterm.js knows wheels only.

import type { Terminal } from '@xterm/xterm';

export function scrollByFinger(xterm: Terminal, screen: HTMLElement): void {
  let lastY: number | null = null; // null: no finger, or more than one
  let rest = 0; // pixels that are no whole row yet
  screen.addEventListener('touchstart', ({ touches }) => {
    lastY = touches.length === 1 ? touches[0]!.clientY : null;
    rest = 0;
  });
  screen.addEventListener('touchend', () => (lastY = null));
  screen.addEventListener(
    'touchmove',
    event => {
      if (lastY === null || event.touches.length !== 1) return;
      event.preventDefault();
      const y = event.touches[0]!.clientY;
      const rowPx = screen.clientHeight / xterm.rows;
      const rows = Math.trunc((lastY - y + rest) / rowPx);
      rest = lastY - y + rest - rows * rowPx;
      lastY = y;
      scroll(xterm, rows);
    },
    { passive: false },
  );
}

function scroll(xterm: Terminal, rows: number): void {
  if (xterm.buffer.active.type === 'normal') return xterm.scrollLines(rows);
  const arrow = `\x1b${xterm.modes.applicationCursorKeysMode ? 'O' : '['}${rows < 0 ? 'A' : 'B'}`;
  if (rows !== 0) xterm.input(arrow.repeat(Math.abs(rows)));
}
