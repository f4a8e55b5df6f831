// Reference tokenizers for tests: llama.cpp's behaviour written the slow and plain way, with strings, maps and regular expressions, from
// descriptions and not from the kernels. Texts are strings (well-formed); white space is Unicode's, not JavaScript's \s.

export interface PlainVocabulary {
  readonly model: string;
  readonly pre: string;
  readonly tokens: readonly string[]; // as the file spells them
  readonly types: readonly number[];
  readonly scores: readonly number[];
  readonly merges: readonly string[];
  readonly spacePrefix: boolean;
}

const S = '\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const GPT2 = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${S}\\p{L}\\p{N}]+|[${S}]+(?![^${S}])|[${S}]+`,
  'gu',
);
const llama3 = (numbers: string): RegExp =>
  new RegExp(
    `'[sStTmMdD]|'[rRvV][eE]|'[lL][lL]|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^${S}\\p{L}\\p{N}]+[\\r\\n]*|[${S}]*[\\r\\n]+|[${S}]+(?![^${S}])|[${S}]+`,
    'gu',
  );

/** The expressions of each pre-tokenizer, applied one after the other to the pieces that the one before left. */
const EXPRESSIONS: Record<string, readonly RegExp[]> = {
  'gpt-2': [GPT2],
  'llama-bpe': [llama3('\\p{N}{1,3}')],
  qwen2: [llama3('\\p{N}')],
  smollm: [/\p{N}/gu, GPT2],
  default: [/[\p{P}$+<=>^~|]+/gu, GPT2, /\p{N}+/gu, /[0-9][0-9][0-9]/gu],
};

/** Matches and what lies between them. */
function pieces(text: string, expression: RegExp): string[] {
  const out: string[] = [];
  let at = 0;
  for (const m of text.matchAll(expression)) {
    if (m.index > at) out.push(text.slice(at, m.index));
    out.push(m[0]);
    at = m.index + m[0].length;
  }
  if (at < text.length) out.push(text.slice(at));
  return out;
}

export function words(text: string, pre: string): string[] {
  return EXPRESSIONS[pre]!.reduce((parts, e) => parts.flatMap(p => pieces(p, e)), [text]);
}

/** GPT-2's spelling of each byte. */
const LETTERS = ((): string[] => {
  const out: string[] = [];
  let n = 0;
  for (let b = 0; b < 256; b++) {
    const printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    out.push(String.fromCharCode(printable ? b : 0x100 + n++));
  }
  return out;
})();
export const byteLetters = (bytes: Uint8Array): string => Array.from(bytes, b => LETTERS[b]!).join('');

/** Merges the most urgent neighbouring pair, leftmost among equals, until there is none. `urgency`: lower first, undefined = no pair. */
function mergeAll(symbols: string[], urgency: (left: string, right: string) => number | undefined): string[] {
  for (;;) {
    let best = Infinity;
    let at = -1;
    for (let i = 0; i + 1 < symbols.length; i++) {
      const u = urgency(symbols[i]!, symbols[i + 1]!);
      if (u !== undefined && u < best) {
        best = u;
        at = i;
      }
    }
    if (at < 0) return symbols;
    symbols.splice(at, 2, symbols[at]! + symbols[at + 1]!);
  }
}

export class ReferenceTokenizer {
  private readonly ids = new Map<string, number>();
  private readonly ranks = new Map<string, number>();
  private readonly specials: number[];

  constructor(private readonly v: PlainVocabulary) {
    v.tokens.forEach((t, i) => this.ids.set(t, i));
    v.merges.forEach((m, i) => {
      if (!this.ranks.has(m)) this.ranks.set(m, i);
    });
    this.specials = v.tokens.map((_, i) => i).filter(i => v.tokens[i] !== '' && [2, 3, 4].includes(v.types[i]!));
    this.specials.sort((a, b) => Buffer.byteLength(v.tokens[b]!) - Buffer.byteLength(v.tokens[a]!) || a - b);
  }

  encode(text: string, special: boolean): number[] {
    // Fragments: text, or the id of a special token. Every special token in turn, the longest first, takes its occurrences.
    let fragments: (string | number)[] = text === '' ? [] : [text];
    for (const id of this.specials) {
      if (!special && this.v.types[id] !== 4) continue;
      const t = this.v.tokens[id]!;
      fragments = fragments.flatMap(f =>
        typeof f === 'number'
          ? [f]
          : f.split(t).flatMap((part, i) => [...(i > 0 ? [id] : []), ...(part === '' ? [] : [part])]),
      );
    }
    let fresh = true;
    return fragments.flatMap(f => {
      const first = fresh;
      fresh = typeof f === 'number';
      if (typeof f === 'number') return [f];
      return this.v.model === 'llama'
        ? this.sentencePiece((first && this.v.spacePrefix ? ' ' : '') + f)
        : words(f, this.v.pre).flatMap(w => this.byteLevel(w));
    });
  }

  private sentencePiece(text: string): number[] {
    const mergeable = (s: string): number | undefined => {
      const id = this.ids.get(s);
      return id === undefined || [2, 3, 6].includes(this.v.types[id]!) ? undefined : id;
    };
    const symbols = mergeAll([...text.replaceAll(' ', '▁')], (a, b) => {
      const id = mergeable(a + b);
      return id === undefined ? undefined : -this.v.scores[id]!;
    });
    return symbols.flatMap(s => {
      const id = mergeable(s);
      return id === undefined
        ? Array.from(Buffer.from(s.replaceAll('▁', ' ')), b =>
            this.ids.get(`<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`)!,
          )
        : [id];
    });
  }

  private byteLevel(word: string): number[] {
    const letters = byteLetters(Buffer.from(word));
    const whole = this.ids.get(letters);
    if (this.v.pre === 'llama-bpe' && whole !== undefined) return [whole];
    return mergeAll([...letters], (a, b) => this.ranks.get(`${a} ${b}`)).map(s => this.ids.get(s)!);
  }
}
