// Random vocabularies for models made by tests: the `tokenizer.ggml.*` metadata of a SentencePiece BPE (`llama`) or a byte-level BPE (`gpt2`)
// whose pieces are likely in texts of randomText.

import type { MetaInput } from './gguf-writer.ts';

const LETTERS = 'etaoinshr';
const TYPE_NORMAL = 1;
const TYPE_UNKNOWN = 2;
const TYPE_CONTROL = 3;
const TYPE_BYTE = 6;

/** Words of few letters, with punctuation, line ends, digits and characters that no vocabulary here has as one token. */
export function randomText(words: number, next: () => number): string {
  const pick = (list: string): string => list[Math.floor(next() * list.length)]!;
  let text = '';
  for (let i = 0; i < words; i++) {
    const length = 1 + Math.floor(next() * 7);
    const word = Array.from({ length }, () => pick(LETTERS)).join('');
    const style = next();
    text += i === 0 ? '' : style < 0.9 ? ' ' : style < 0.95 ? '\n' : '  ';
    text += style < 0.05 ? word[0]!.toUpperCase() + word.slice(1) : style < 0.1 ? `${word}é€` : word;
    if (style > 0.8) text += pick(',.!7');
  }
  return text;
}

/** Pairs of earlier pieces joined, none twice, until there are `count`. */
function grown(
  pieces: string[],
  from: number,
  count: number,
  next: () => number,
  keep: (s: string) => boolean,
): [string, string][] {
  const pairs: [string, string][] = [];
  const known = new Set(pieces);
  while (pieces.length < count) {
    const draw = (): string => pieces[from + Math.floor(next() * (pieces.length - from))]!;
    const [left, right] = [draw(), draw()];
    if (known.has(left + right) || left.length + right.length > 9 || !keep(left + right)) continue;
    known.add(left + right);
    pieces.push(left + right);
    pairs.push([left, right]);
  }
  return pairs;
}

/** `count` ≥ 275: <unk> <s> </s>, the 256 bytes, letters, then joined pieces; later ones score less. */
export function spmVocabulary(count: number, next: () => number): Record<string, MetaInput> {
  const pieces = [
    '<unk>',
    '<s>',
    '</s>',
    ...Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`),
  ];
  const from = pieces.length;
  pieces.push('▁', ...LETTERS, ',', '.', '!', 'é');
  grown(pieces, from, count, next, s => s.lastIndexOf('▁') <= 0);
  return {
    'tokenizer.ggml.model': { string: 'llama' },
    'tokenizer.ggml.tokens': { strings: pieces },
    'tokenizer.ggml.scores': { f32s: pieces.map((_, id) => (id < from ? 0 : from - id)) },
    'tokenizer.ggml.token_type': {
      i32s: pieces.map((_, id) =>
        id === 0 ? TYPE_UNKNOWN : id < 3 ? TYPE_CONTROL : id < from ? TYPE_BYTE : TYPE_NORMAL,
      ),
    },
    'tokenizer.ggml.bos_token_id': { u32: 1 },
    'tokenizer.ggml.eos_token_id': { u32: 2 },
    'tokenizer.ggml.unknown_token_id': { u32: 0 },
  };
}

/** GPT-2's letter for each byte. */
function byteLetters(): string[] {
  let other = 256;
  return Array.from({ length: 256 }, (_, b) => {
    const printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    return String.fromCodePoint(printable ? b : other++);
  });
}

/** `count` ≥ 258: the 256 bytes, merges, and <|endoftext|> last. */
export function bpeVocabulary(count: number, next: () => number): Record<string, MetaInput> {
  const pieces = ['Ġ', ...LETTERS];
  const pairs = grown(pieces, 0, count - 257 + pieces.length, next, s => s.lastIndexOf('Ġ') <= 0);
  const tokens = [...byteLetters(), ...pairs.map(([left, right]) => left + right), '<|endoftext|>'];
  return {
    'tokenizer.ggml.model': { string: 'gpt2' },
    'tokenizer.ggml.pre': { string: 'gpt-2' },
    'tokenizer.ggml.tokens': { strings: tokens },
    'tokenizer.ggml.token_type': { i32s: tokens.map((_, id) => (id === count - 1 ? TYPE_CONTROL : TYPE_NORMAL)) },
    'tokenizer.ggml.merges': { strings: pairs.map(pair => pair.join(' ')) },
    'tokenizer.ggml.bos_token_id': { u32: count - 1 },
    'tokenizer.ggml.eos_token_id': { u32: count - 1 },
  };
}
