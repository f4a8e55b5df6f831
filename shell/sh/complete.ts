// Completion: what Tab offers for the word before the cursor. The first word of a command is a command name, any other a path. Each
// candidate replaces the whole word and is quoted so that the shell reads it back.

import { KIND, type Sys } from '../../kernel/abi/index.ts';
import { byteOrder, isDirectory, join, listDirectory } from '../lib/files.ts';
import { builtins } from './builtins.ts';

/** Candidates for the end of `line`, in byte order. */
export function* completions(sys: Sys, line: string, path: string, home: string): Generator<void, string[], void> {
  const [, before = '', raw = ''] = /^(.*?)((?:\\.|[^\s|&;<>()\\])*)$/s.exec(line) ?? [];
  const word = raw.replace(/\\(.)/gs, '$1').replace(/^['"]/, '');
  const isCommand = /(?:^|[|&;(])\s*$/.test(before) && !word.includes('/');
  const found = isCommand ? yield* commandNames(sys, word, path) : yield* paths(sys, word, home);
  return [...new Set(found)].sort(byteOrder).map(text => text.replace(/[\s'"\\|&;<>()$`*?[\]#]/g, '\\$&'));
}

function* commandNames(sys: Sys, prefix: string, path: string): Generator<void, string[], void> {
  const names = [...builtins.keys()];
  for (const directory of path.split(':')) {
    const entries = yield* listDirectory(sys, directory || '.');
    if (typeof entries !== 'number') names.push(...entries.map(e => e.name));
  }
  return names.filter(name => name.startsWith(prefix));
}

function* paths(sys: Sys, word: string, home: string): Generator<void, string[], void> {
  const slash = word.lastIndexOf('/') + 1;
  const shown = word.slice(0, slash);
  const directory = shown.startsWith('~/') ? home + shown.slice(1) : shown;
  const prefix = word.slice(slash);
  const entries = yield* listDirectory(sys, directory || '.');
  if (typeof entries === 'number') return [];
  const found: string[] = [];
  for (const { name, kind } of entries) {
    if (!name.startsWith(prefix) || (name.startsWith('.') && !prefix.startsWith('.'))) continue;
    const leads = kind === KIND.dir || (kind === KIND.link && (yield* isDirectory(sys, join(directory || '.', name))));
    found.push(shown + name + (leads ? '/' : ''));
  }
  return found;
}
