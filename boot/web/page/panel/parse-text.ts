// The three forms in which /proc tells figures: `key value` lines, columns under titles between blanks, and columns under titles between
// tabs. Pure functions of the text; a line that is none of its form is left out, so that a view never fails on a file it does not know.

/** `key value` lines. A value is the rest of its line. */
export function keyed(text: string): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const blank = line.indexOf(' ');
    if (blank > 0) values.set(line.slice(0, blank), line.slice(blank + 1).trim());
  }
  return values;
}

/** A figure of `keyed`; NaN where there is none. */
export function figure(values: ReadonlyMap<string, string>, key: string): number {
  return Number(values.get(key) ?? 'none');
}

export type Row = Readonly<Record<string, string>>;

/** Rows under a line of titles; cells stand between `separator`. Rows that have fewer cells than there are titles are left out. */
export function rows(text: string, separator: RegExp | string): Row[] {
  const [head = '', ...lines] = text.split('\n').filter(line => line !== '');
  const titles = head.trim().split(separator);
  const found: Row[] = [];
  for (const line of lines) {
    const cells = line.trim().split(separator);
    if (cells.length >= titles.length) found.push(Object.fromEntries(titles.map((title, i) => [title, cells[i]!])));
  }
  return found;
}

/** Cells between runs of blanks. */
export const spaced = (text: string): Row[] => rows(text, / +/);
/** Cells between tabs. */
export const tabbed = (text: string): Row[] => rows(text, '\t');
