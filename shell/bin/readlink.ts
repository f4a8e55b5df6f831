// readlink: what a symbolic link holds, or where a path really leads.

import { canonical } from '../lib/canonical.ts';
import { readlink as readLink } from '../lib/files.ts';
import { define } from '../lib/program.ts';

const options = {
  canonicalize: { short: 'f', help: 'the absolute path without links; its last name may be missing' },
  'canonicalize-existing': { short: 'e', help: 'the same, all of it being there' },
  'canonicalize-missing': { short: 'm', help: 'the same, whatever is there' },
  'no-newline': { short: 'n', help: 'print no newline after a single FILE' },
} as const;

export const readlink = define({
  name: 'readlink',
  summary: 'print what a symbolic link holds',
  usage: ['[-f|-e|-m] [-n] FILE...'],
  options,
  description:
    'Prints what each FILE, a symbolic link, holds; with -f, -e or -m its absolute path with every link followed. Status 1, without a message, when there is none.',
  examples: [['readlink -f /tmp/model', 'the file that a link leads to']],
  *main(ctx) {
    const { options, operands, sys } = ctx;
    if (operands.length === 0) return yield* ctx.usage('missing operand');
    const presence = options['canonicalize-existing']
      ? 'all'
      : options['canonicalize-missing']
        ? 'none'
        : options.canonicalize
          ? 'parent'
          : null;
    const end = options['no-newline'] && operands.length === 1 ? '' : '\n';
    let status = 0;
    for (const path of operands) {
      const text = yield* presence === null ? readLink(sys, path) : canonical(sys, path, presence);
      if (typeof text === 'number') status = 1;
      else yield* ctx.out.print(text + end);
    }
    return status;
  },
});
