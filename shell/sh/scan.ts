// Where the cursor is in a command line that is still being typed: which simple command, which word of it, in which quotes. The shell's
// parser wants whole commands; this reads the beginning of one, as far as completion needs it, and follows the same rules of quoting.

export type Quote = '' | "'" | '"';

/** A word, or what there is of it. */
export interface PartialWord {
  /** Where it begins in the line, UTF-16 units. */
  readonly start: number;
  /** Its text without quoting, variables replaced. */
  value: string;
  /** It begins with a `~` that is not quoted. */
  tilde: boolean;
  /** The quotes that are open at its end. */
  quote: Quote;
  /** It holds a command substitution, whose text nobody knows yet. */
  opaque: boolean;
  /** Behind the last `/`; behind the first `=` or, after that, the last `:`. */
  slash: Break;
  assignment: Break;
}

/** A place inside a word. */
export interface Break {
  /** In the line. */
  readonly at: number;
  /** In `value`. */
  readonly valueAt: number;
  /** The quotes that are open there. */
  readonly quote: Quote;
}

export interface Place {
  /** The words of the simple command before this one; assignments, redirections and reserved words are not among them. */
  readonly words: readonly string[];
  readonly word: PartialWord;
  /** The operator that this word is the target of: `<`, `>`, `<<`, … */
  readonly redirection: string;
  /** The word ends in a variable's name, or in its beginning: where that is, and whether after `${`. */
  readonly variable: { readonly name: string; readonly at: number; readonly brace: boolean } | null;
}

const reserved = /^(?:if|then|else|elif|while|until|do|!|\{|time)$/;
const isName = /^[A-Za-z_][A-Za-z0-9_]*/;

/** One level of commands: the line itself, or the inside of `$( … )` or of backquotes. */
class Level {
  words: string[] = [];
  redirection = '';
  word: PartialWord | null = null;

  constructor(readonly closer: '' | ')' | '`') {}

  begin(at: number): PartialWord {
    const here: Break = { at, valueAt: 0, quote: '' };
    return { start: at, value: '', tilde: false, quote: '', opaque: false, slash: here, assignment: here };
  }

  endWord(): void {
    const { word } = this;
    this.word = null;
    if (word === null) return;
    const target = this.redirection !== '';
    this.redirection = '';
    if (target) return;
    const leads = this.words.length === 0;
    if (leads && (reserved.test(word.value) || word.assignment.valueAt > 0)) return;
    this.words.push(word.value);
  }

  endCommand(): void {
    this.endWord();
    this.words = [];
    this.redirection = '';
  }
}

/** The place at the end of `line`; null where there is nothing to complete, as in a comment. */
export function scan(line: string, get: (name: string) => string | undefined): Place | null {
  const levels = [new Level('')];
  let i = 0;
  while (i < line.length) {
    const level = levels.at(-1)!;
    const c = line[i]!;
    const quote = level.word?.quote ?? '';
    if (quote === "'") {
      if (c === "'") level.word!.quote = '';
      else add(level.word!, c, i);
      i++;
      continue;
    }
    if (quote === '' && isSeparator(c)) {
      const closed = separate(levels, c, line, i);
      if (closed === null) return null;
      i += closed;
      continue;
    }
    if (quote === '' && c === '#' && level.word === null) {
      const end = line.indexOf('\n', i);
      if (end < 0) return null;
      i = end;
      continue;
    }
    if (c === '`' && level.closer === '`' && quote === '') {
      levels.pop();
      levels.at(-1)!.word!.opaque = true;
      i++;
      continue;
    }
    const word = (level.word ??= level.begin(i));
    if (c === '\\') {
      if (i + 1 === line.length) return null;
      const next = line[i + 1]!;
      if (next !== '\n') add(word, quote === '"' && !'"\\$`'.includes(next) ? c + next : next, i + 1);
      i += 2;
    } else if (c === '"' || c === "'") {
      if (c === "'" && quote === '"') add(word, c, i);
      else word.quote = quote === c ? '' : c;
      i++;
    } else if (c === '`' || line.startsWith('$(', i)) {
      if (line.startsWith('$((', i)) return null;
      levels.push(new Level(c === '`' ? '`' : ')'));
      i += c === '`' ? 1 : 2;
    } else if (c === '$') {
      const next = parameter(line, i, word, get);
      if (typeof next !== 'number') return next === null ? null : place(level, next);
      i = next;
    } else {
      if (c === '~' && i === word.start) word.tilde = true;
      add(word, c, i);
      i++;
    }
  }
  const level = levels.at(-1)!;
  level.word ??= level.begin(line.length);
  return place(level, null);
}

const place = ({ words, word, redirection }: Level, variable: Place['variable']): Place => ({
  words,
  word: word!,
  redirection,
  variable,
});

/** Appends what the character at `at` means to the word. */
function add(word: PartialWord, text: string, at: number): void {
  word.value += text;
  const here: Break = { at: at + 1, valueAt: word.value.length, quote: word.quote };
  if (text === '/') word.slash = here;
  else if (word.quote === '' && text === '=' && word.assignment.valueAt === 0) word.assignment = here;
  else if (word.quote === '' && text === ':' && word.assignment.valueAt > 0) word.assignment = here;
}

const isSeparator = (c: string): boolean => ' \t\n;&|()<>'.includes(c);

/** A blank or an operator at `i`. Returns how many characters it takes, null where nothing can be completed. */
function separate(levels: Level[], c: string, line: string, i: number): number | null {
  const level = levels.at(-1)!;
  if (c === '<' || c === '>') {
    const [operator] = /^(?:<<-?|<&|<>|<|>>|>&|>\||>)/.exec(line.slice(i))!;
    if (level.word !== null && /^[0-9]+$/.test(level.word.value)) level.word = null; // the descriptor
    level.endWord();
    level.redirection = operator;
    return operator.length;
  }
  if (c === ' ' || c === '\t') {
    level.endWord();
    return 1;
  }
  level.endCommand();
  if (c === ')' && level.closer === ')') {
    levels.pop();
    const outer = levels.at(-1)!;
    outer.word!.opaque = true;
  }
  return 1;
}

/** A parameter at `i`: where it ends, the variable whose name the line ends in, or null inside of `${ … `. */
function parameter(
  line: string,
  i: number,
  word: PartialWord,
  get: (name: string) => string | undefined,
): number | Place['variable'] {
  const brace = line[i + 1] === '{';
  const at = i + (brace ? 2 : 1);
  const [name = ''] = isName.exec(line.slice(at)) ?? [];
  if (at + name.length === line.length) return { name, at, brace };
  if (brace) {
    const end = line.indexOf('}', at);
    if (end < 0) return null;
    if (end === at + name.length) word.value += get(name) ?? '';
    else word.opaque = true;
    return end + 1;
  }
  if (name !== '') word.value += get(name) ?? '';
  else {
    word.opaque = true; // $1, $?, …: or a dollar that means nothing
    return at + (/[0-9@*#?$!-]/.test(line[at]!) ? 1 : 0);
  }
  return at + name.length;
}
