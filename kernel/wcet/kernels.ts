// What is certified of a compute module: every exported kernel in its arguments, and the plan executor piece by piece. `run` is certified as
// the cost of its own loop in the number of records it passes, without what the records do; what a record does is certified once for
// each op code, in the arguments of the function that executes it and in the words of record and step block. So a plan's cost is a sum.
// What a certificate can only bound is metered beside: it counts its own blocks while it runs.

import { opCertificate } from './certificate.ts';
import { certify } from './certify.ts';
import type { Certificate, Uncertified } from './certify.ts';
import { METER } from './meter.ts';
import type { MeterRoot } from './meter.ts';
import { param } from './poly.ts';
import { OP } from './wasm.ts';
import type { Module } from './wasm.ts';

const EXECUTOR = 'run'; // run(step, record); it calls one function: execute(step, record, tokens, position, row)
const RECORD = param(1); // whose first word is the op code
const SAMPLER = 'sample'; // metered when it runs: the op that calls it is certified without it

/** Kernels that count themselves: all that are called beside the plan, and the sampler within. A vocabulary is looked up here and there. */
export const METERED: readonly MeterRoot[] = [
  { name: 'sample', access: 'stream', inPlan: true },
  ...['top_k', 'dequantize', 'repack', 'rope_frequencies'].map(
    name => ({ name, access: 'stream', inPlan: false }) as const,
  ),
  ...['tokenize', 'vocab_tokens', 'vocab_index', 'vocab_merges', 'vocab_merge_groups'].map(
    name => ({ name, access: 'random', inPlan: false }) as const,
  ),
];

/** All certificates of a module; `ops`: names and codes of the executor's ops. */
export function certifyKernels(
  module: Module,
  ops: readonly (readonly [name: string, code: number])[],
): (Certificate | Uncertified)[] {
  const accounting: readonly string[] = METER.functions;
  const kernels = module.exports.filter(e => e.kind === 0 && !accounting.includes(e.name));
  return kernels.flatMap(({ name, index }): (Certificate | Uncertified)[] => {
    if (name !== EXECUTOR) return [certify(module, index, name)];
    const code = module.bodies[index - module.functionsImported]?.code ?? [];
    const callees = new Set(code.filter(i => i.opcode.code === OP.call).map(i => i.value));
    const [execute] = callees;
    if (execute === undefined || callees.size > 1)
      return [{ name, index, reason: `it calls ${callees.size} functions instead of one that executes a record` }];
    const draws = new Set(kernels.filter(k => k.name === SAMPLER).map(k => k.index));
    return [
      certify(module, index, name, { apart: callees, passes: true }),
      ...ops.map(([op, value]) =>
        certify(module, execute, opCertificate(op), { given: [{ address: RECORD, value }], apart: draws }),
      ),
    ];
  });
}
