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
const byWord: Record<string, string> = { Right: 'M-f', Left: 'M-b', Delete: 'M-d' };
/** As rxvt says them: ESC O c with Control, ESC [ c with Shift. */
const rxvtControl: Record<string, string> = { a: 'Up', b: 'Down', c: 'M-f', d: 'M-b' };
const rxvtShift: Record<string, string> = { a: 'Up', b: 'Down', c: 'Right', d: 'Left' };

const named = (name: string, bytes: number): Key => ({ name, text: '', bytes });

/** The key at `at`, or null when the bytes up to `end` are the beginning of one. `pasting`: between PasteBegin and PasteEnd. */
export function decodeKey(bytes: Uint8Array, at: number, end: number, pasting: boolean): Key | null {
  if (at >= end) return null;
  const c = bytes[at]!;
  if (c === ESC) return pasting ? endOfPaste(bytes, at, end) : escape(bytes, at, end);
  if (pasting) return pasted(bytes, at, end);
  if (c < 0x20 || c === DEL) {
    // C-a … C-z, and C-@ C-\ C-] C-^ C-_
    return named(control[c] ?? `C-${String.fromCharCode(c ^ 0x40).toLowerCase()}`, 1);
  }
  const stop = textEnd(bytes, at, end, false);
  return stop === at ? null : { name: 'text', text: utf8Decode(bytes, at, stop), bytes: stop - at };
}

/** Where the run of whole characters from `at` on ends. Controls end it, except in a paste those that pasted() deals with. */
function textEnd(bytes: Uint8Array, at: number, end: number, pasting: boolean): number {
  let i = at;
  while (i < end) {
    const c = bytes[i]!;
    if (pasting ? c === ESC : c < 0x20 || c === DEL) break;
    const step = utf8Step(bytes, i, end);
    if (step === 0) break;
    i += Math.abs(step);
  }
  return i;
}

/** Pasted text, in which no control is a key: line ends become \n, the others stay what they are; a zero byte cannot be part of a line. */
function pasted(bytes: Uint8Array, at: number, end: number): Key | null {
  let stop = textEnd(bytes, at, end, true);
  if (stop === end && bytes[stop - 1] === 13) stop--; // the \n of a \r\n may follow
  if (stop <= at) return null;
  const text = utf8Decode(bytes, at, stop).replace(/\r\n?/g, '\n');
  return { name: 'text', text: text.replaceAll('\0', ''), bytes: stop - at };
}

/** The mark that ends a paste; any other Escape is part of what was pasted. */
function endOfPaste(bytes: Uint8Array, at: number, end: number): Key | null {
  const mark = '\x1b[201~';
  for (let i = 0; i < mark.length; i++) {
    if (at + i >= end) return null;
    if (bytes[at + i] !== mark.charCodeAt(i)) return { name: 'text', text: '\x1b', bytes: 1 };
  }
  return named('PasteEnd', mark.length);
}

/** One character as it is, a control included: what follows C-v. */
export function literalKey(bytes: Uint8Array, at: number, end: number): Key | null {
  const step = at < end ? Math.abs(utf8Step(bytes, at, end)) : 0;
  if (step === 0) return null;
  const text = utf8Decode(bytes, at, at + step);
  return { name: 'text', text: text === '\0' ? '' : text === '\r' ? '\n' : text, bytes: step };
}

function escape(bytes: Uint8Array, at: number, end: number): Key | null {
  if (at + 1 >= end) return null;
  const c = bytes[at + 1]!;
  if (c === ESC) return escapedSequence(bytes, at, end);
  if (c === 0x5b /* [ */) return controlSequence(bytes, at, end);
  if (c === 0x4f /* O */) {
    if (at + 2 >= end) return null;
    const letter = String.fromCharCode(bytes[at + 2]!);
    return named(cursor[letter] ?? rxvtControl[letter] ?? 'Ignored', 3);
  }
  if (c === DEL || c === 8) return named('M-Backspace', 2);
  if (c > 0x20 && c < DEL) return named(`M-${String.fromCharCode(c).toLowerCase()}`, 2);
  return named('Ignored', 1);
}

/** Escape before a sequence of its own: Alt and a cursor key, as some terminals say it. */
function escapedSequence(bytes: Uint8Array, at: number, end: number): Key | null {
  if (at + 2 >= end) return null;
  const c = bytes[at + 2]!;
  if (c !== 0x5b && c !== 0x4f) return named('Ignored', 1);
  const key = escape(bytes, at + 1, end);
  return key === null ? null : named(byWord[key.name] ?? key.name, key.bytes + 1);
}

/** CSI parameters final. */
function controlSequence(bytes: Uint8Array, at: number, end: number): Key | null {
  let i = at + 2;
  if (bytes[i] === 0x5b) i++; // the Linux console's function keys: ESC [ [ A
  while (i < end && bytes[i]! >= 0x20 && bytes[i]! < 0x40) i++;
  if (i - at > sequenceBytesMax) return named('Ignored', 1);
  if (i >= end) return null;
  const final = bytes[i]!;
  if (final < 0x40 || final > 0x7e) return named('Ignored', i - at); // broken off: the byte after it is a key of its own
  if (!/[0-9;@-~]/.test(String.fromCharCode(bytes[at + 2]!)) || bytes[at + 2] === 0x5b)
    return named('Ignored', i + 1 - at); // private
  const [first = '', modifier = '1'] = utf8Decode(bytes, at + 2, i).split(';');
  const letter = String.fromCharCode(final);
  const name = ('~^@'.includes(letter) ? editing[first] : (cursor[letter] ?? rxvtShift[letter])) ?? 'Ignored';
  // xterm: 1 + (1: Shift) + (2: Alt) + (4: Control); rxvt: another final character
  const words = ((Number(modifier) - 1) & 6) !== 0 || letter === '^' || letter === '@';
  return named((words ? byWord[name] : undefined) ?? name, i + 1 - at);
}
