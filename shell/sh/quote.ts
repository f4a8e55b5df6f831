// Quoting: text as a word that the shell reads back unchanged.

/** Always in single quotes: for listings that are read back. As dash does it, which ends with a quote's own quotes. */
export function quote(text: string): string {
  const quoted = `'${text.replace(/'+/g, `'"$&"'`)}'`;
  return text.endsWith("'") ? quoted.slice(0, -2) : quoted;
}

/** In quotes only when it must be: for people. */
export const quoteIfNeeded = (text: string): string => (/^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : quote(text));
