// `llmctl rights`: the rules of /etc/llm/rights that are in force, and what they say of somebody. The kernel decides, here as everywhere: a test
// asks it the question that a load or a request would.

import { E } from '../../kernel/abi/index.ts';
import { readText } from './files.ts';
import { jsonLine, table } from './fmt.ts';
import { failAbout, wrong } from './model.ts';
import { lastError } from './program.ts';
import type { Context } from './program.ts';

type Ctx = Context<{ readonly json: { readonly help: string } }>;
type Run = Generator<void, number, void>;

export function* rights(ctx: Ctx, [verb = 'list', ...operands]: readonly string[]): Run {
  if (verb === 'list' && operands.length === 0) return yield* list(ctx);
  if (verb === 'test' && operands.length === 3) return yield* test(ctx, operands as [string, string, string]);
  return yield* wrong(ctx, 'rights: list, or test USER RIGHT PATH');
}

function* list(ctx: Ctx): Run {
  const text = yield* readText(ctx.sys, '/proc/rights');
  if (typeof text === 'number') return yield* failAbout(ctx, '/proc/rights', text);
  const rules = text
    .split('\n')
    .filter(line => line !== '')
    .map(line => line.split(' ') as [string, string, string, string]);
  if (ctx.options.json)
    for (const [line, who, words, pattern] of rules) {
      const given = words === 'none' ? [] : words.split(',');
      yield* ctx.out.print(jsonLine({ line: Number(line), who, rights: given, pattern }));
    }
  else yield* ctx.out.print(table([['LINE', 'WHO', 'RIGHTS', 'OF'], ...rules], [true]));
  return 0;
}

function* test(ctx: Ctx, [user, right, path]: readonly [string, string, string]): Run {
  const line = yield* ctx.sys.rights(user, right, path);
  if (line < 0 && line !== -E.ACCES) return yield* failAbout(ctx, '', line);
  const why = line < 0 ? yield* lastError(ctx.sys, line) : null;
  if (ctx.options.json) {
    const decided = line > 0 ? line : null;
    yield* ctx.out.print(jsonLine({ user, right, path, allowed: line >= 0, line: decided, message: why }));
  } else if (why !== null) yield* ctx.out.print(`${why}\n`);
  else
    yield* ctx.out.print(
      `user ${user} may ${right} ${path}: ${line === 0 ? 'root may all' : `/etc/llm/rights:${line}`}\n`,
    );
  return line < 0 ? 1 : 0;
}
