// llmstats: what the machine has inferred since boot, as the specification's one line and as a table.

import { LlmStats } from '../../kernel/abi/index.ts';
import { jsonLine, table } from '../lib/fmt.ts';
import { grouped } from '../lib/model.ts';
import { define, lastError } from '../lib/program.ts';

const microseconds = (ns: number): number => Math.round(ns / 1000);

export const llmstats = define({
  name: 'llmstats',
  summary: 'show inference statistics since boot',
  usage: ['[--json]'],
  description: [
    'Prints one line of key=value pairs, then a table. Times are virtual.',
    '',
    'With --json, counts since boot unless said otherwise:',
    '  sessions_total         requests accepted',
    '  sessions_active        requests not ended yet, queued ones included (now)',
    '  queue_depth            requests waiting for their turn (now)',
    '  queue_depth_max        the most that ever waited',
    '  prompt_tokens          prompt tokens of ended sessions',
    '  output_tokens          tokens drawn in ended sessions',
    '  cancelled, faulted     sessions that ended so',
    '  deadline_misses        sessions that ran out of time',
    '  rejects                requests refused at admission',
    '  last_latency_ns        the last session, from submission to its end',
    '  last_first_token_ns    the last session, from submission to its first token',
    '  cycles_total           cycles spent in plans, a decimal string',
  ].join('\n'),
  options: { json: { help: 'print one JSON object on one line' } },
  usageStatus: 2,
  main: function* ({ sys, out, options, operands, usage, fail }) {
    if (operands.length > 0) return yield* usage(`extra operand '${operands[0]}'`);
    const record = new Uint8Array(LlmStats.bytes);
    const result = yield* sys.llm_stats(record);
    if (result < 0) return yield* fail(yield* lastError(sys, result));
    const s = LlmStats.read(record, 0);
    if (options.json) {
      yield* out.print(
        jsonLine({
          sessions_total: s.sessionsTotal,
          sessions_active: s.sessionsActive,
          queue_depth: s.queueDepth,
          queue_depth_max: s.queueDepthMax,
          prompt_tokens: s.promptTokens,
          output_tokens: s.outputTokens,
          cancelled: s.cancelled,
          faulted: s.faulted,
          deadline_misses: s.deadlineMisses,
          rejects: s.rejects,
          last_latency_ns: s.lastLatencyNs,
          last_first_token_ns: s.lastFirstTokenNs,
          cycles_total: String(s.cyclesTotal),
        }),
      );
      return 0;
    }
    yield* out.print(
      `[LLM] queue_depth_max=${s.queueDepthMax} total_tokens=${s.outputTokens} deadline_misses=${s.deadlineMisses} ` +
        `last_latency_us=${microseconds(s.lastLatencyNs)}\n`,
    );
    const rows: readonly (readonly [string, number, string])[] = [
      ['sessions', s.sessionsTotal, `${s.sessionsActive} active, ${s.queueDepth} queued`],
      ['prompt tokens', s.promptTokens, ''],
      ['output tokens', s.outputTokens, ''],
      ['cancelled', s.cancelled, ''],
      ['faulted', s.faulted, ''],
      ['out of time', s.deadlineMisses, ''],
      ['refused', s.rejects, ''],
      ['last latency', microseconds(s.lastLatencyNs), 'µs from submission to the end'],
      ['last first token', microseconds(s.lastFirstTokenNs), 'µs from submission'],
      ['cycles', s.cyclesTotal, ''],
    ];
    yield* out.print(
      table(
        rows.map(([name, n, note]) => [name, grouped(n), note]),
        [false, true],
      ),
    );
    return 0;
  },
});
