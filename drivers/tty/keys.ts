// Keys from bytes: what a VT-compatible terminal sends, named as Emacs names them. Decoding keeps no state: a sequence that is not yet
// whole stays in the caller's buffer until the rest arrives. There is no timer, so a lone Escape joins the key after it (Meta), which
// keeps the result a function of the bytes alone. Sequences: ECMA-48 and xterm's ctlseqs.

import { utf8Decode, utf8Step } from '../../kernel/abi/index.ts';

/** `text`: characters to insert. Otherwise a named key: `C-a`, `M-b`, `Left`, `Enter`, …; keys without meaning here are `Ignored`. */
export interface Key {
  readonly name: string;
  readonly text: string;
  /** Bytes of the input that were this key. */
  readonly bytes: number;
}

const ESC = 0x1b;
const DEL = 0x7f;
const CTRL_C = 3;
const sequenceBytesMax = 32; // longer than any key's; beyond it the Escape is dropped

const control: Record<number, string> = { 8: 'Backspace', 9: 'Tab', 10: 'Enter', 13: 'Enter', [DEL]: 'Backspace' };
const cursor: Record<string, string> = { A: 'Up', B: 'Down', C: 'Right', D: 'Left', H: 'Home', F: 'End' };
const editing: Record<string, string> = {
  1: 'Home',
  3: 'Delete',
  4: 'End',
  7: 'Home',
  8: 'End',
  200: 'PasteBegin',
  201: 'PasteEnd',
};
/** Cursor keys pressed together with Control or Alt move by words. */
const withModifier: Record<string, string> = { Right: 'M-f', Left: 'M-b', Delete: 'M-d' };

const named = (name: string, bytes: number): Key => ({ name, text: '', bytes });

/** The key at `at`, or null when the bytes up to `end` are the beginning of one. `pasting`: between PasteBegin and PasteEnd. */
export function decodeKey(bytes: Uint8Array, at: number, end: number, pasting: boolean): Key | null {
  if (at >= end) return null;
  const c = bytes[at]!;
  if (c === ESC) return pasting ? endOfPaste(bytes, at, end) : escape(bytes, at, end);
  if (pasting && c !== CTRL_C) return pasted(bytes, at, end);
  if (c < 0x20 || c === DEL) {
    const name = control[c] ?? (c >= 1 && c <= 26 ? `C-${String.fromCharCode(c + 0x60)}` : 'Ignored');
    return named(name, 1);
  }
  const stop = textEnd(bytes, at, end, false);
  return stop === at ? null : { name: 'text', text: utf8Decode(bytes, at, stop), bytes: stop - at };
}

/** Where the run of whole characters from `at` on ends. Controls end it, except in a paste those that pasted() deals with. */
function textEnd(bytes: Uint8Array, at: number, end: number, pasting: boolean): number {
  let i = at;
  while (i < end) {
    const c = bytes[i]!;
    if (pasting ? c === ESC || c === CTRL_C : c < 0x20 || c === DEL) break;
    const step = utf8Step(bytes, i, end);
    if (step === 0) break;
    i += Math.abs(step);
  }
  return i;
}

/** Pasted text: line ends become \n, tabs stay, other controls are left out. */
function pasted(bytes: Uint8Array, at: number, end: number): Key | null {
  let stop = textEnd(bytes, at, end, true);
  if (stop === end && bytes[stop - 1] === 13) stop--; // the \n of a \r\n may follow
  if (stop <= at) return null;
  const text = utf8Decode(bytes, at, stop).replace(/\r\n?/g, '\n');
  // oxlint-disable-next-line no-control-regex
  return { name: 'text', text: text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, ''), bytes: stop - at };
}

function endOfPaste(bytes: Uint8Array, at: number, end: number): Key | null {
  const mark = '\x1b[201~';
  for (let i = 0; i < mark.length; i++) {
    if (at + i >= end) return null;
    if (bytes[at + i] !== mark.charCodeAt(i)) return named('Ignored', 1);
  }
  return named('PasteEnd', mark.length);
}

function escape(bytes: Uint8Array, at: number, end: number): Key | null {
  if (at + 1 >= end) return null;
  const c = bytes[at + 1]!;
  if (c === 0x5b /* [ */) return controlSequence(bytes, at, end);
  if (c === 0x4f /* O */) {
    if (at + 2 >= end) return null;
    return named(cursor[String.fromCharCode(bytes[at + 2]!)] ?? 'Ignored', 3);
  }
  if (c === DEL || c === 8) return named('M-Backspace', 2);
  if (c > 0x20 && c < DEL) return named(`M-${String.fromCharCode(c).toLowerCase()}`, 2);
  return named('Ignored', 1);
}

/** CSI parameters final. */
function controlSequence(bytes: Uint8Array, at: number, end: number): Key | null {
  let i = at + 2;
  while (i < end && bytes[i]! >= 0x20 && bytes[i]! < 0x40) i++;
  if (i - at > sequenceBytesMax) return named('Ignored', 1);
  if (i >= end) return null;
  const final = bytes[i]!;
  if (final < 0x40 || final > 0x7e) return named('Ignored', i - at); // broken off: the byte after it is a key of its own
  const [first = '', modifier = ''] = utf8Decode(bytes, at + 2, i).split(';');
  const letter = String.fromCharCode(final);
  const name = (letter === '~' ? editing[first] : cursor[letter]) ?? 'Ignored';
  return named((modifier === '' ? undefined : withModifier[name]) ?? name, i + 1 - at);
}
