// Quoting: text as a word that the shell reads back unchanged.

/** Always in single quotes: for listings that are read back. */
export const quote = (text: string): string => `'${text.replace(/'+/g, `'"$&"'`)}'`;

/** In quotes only when it must be: for people. */
export const quoteIfNeeded = (text: string): string => (/^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : quote(text));
