// What is certified of a compute module: every exported kernel in its arguments, and the plan executor piece by piece. `run` is certified as
// the cost of its own loop in the number of records it passes, `run_op` as that of its loop in the rows of a record, without what the records
// do; what a record does is certified once for each op code, in the arguments of the function that executes it and in the words of record
// and step block. So a plan's cost is a sum.
// What a certificate can only bound is metered beside: it counts its own blocks while it runs.

import { opCertificate } from './certificate.ts';
import { certify } from './certify.ts';
import type { Certificate, Uncertified } from './certify.ts';
import { METER, callees } from './meter.ts';
import type { MeterRoot } from './meter.ts';
import { param } from './poly.ts';
import type { Export, Module } from './wasm.ts';

/** Loops of the executor, the outer one first: run(step, record), run_op(step, record). The last calls execute(step, record, tokens, position, row, to). */
const EXECUTOR = ['run', 'run_op'];
const RECORD = param(1); // whose first word is the op code
const SAMPLER = 'sample'; // metered when it runs: the op that calls it is certified without it

/** Kernels that look vocabularies up, here and there. */
const LOOKS_UP = /^(tokenize|vocab)(_|$)/;

const exportedKernels = (module: Module): Export[] => {
  const accounting: readonly string[] = METER.functions;
  return module.exports.filter(e => e.kind === 0 && !accounting.includes(e.name));
};

/** Kernels that count themselves: the sampler, and all that no op of a plan calls. */
export function meteredKernels(module: Module): MeterRoot[] {
  const kernels = exportedKernels(module);
  const sampler = kernels.find(k => k.name === SAMPLER)?.index;
  const inPlan = new Set<number>();
  const visit = (index: number): void => {
    if (index === sampler || inPlan.has(index)) return;
    inPlan.add(index);
    for (const callee of callees(module, index)) visit(callee);
  };
  for (const k of kernels) if (k.name === EXECUTOR[0]) visit(k.index);
  return kernels
    .filter(k => !inPlan.has(k.index))
    .map(({ name }) => ({ name, access: LOOKS_UP.test(name) ? 'random' : 'stream', inPlan: name === SAMPLER }));
}

/** All certificates of a module; `ops`: names and codes of the executor's ops. */
export function certifyKernels(
  module: Module,
  ops: readonly (readonly [name: string, code: number])[],
): (Certificate | Uncertified)[] {
  const kernels = exportedKernels(module);
  return kernels.flatMap(({ name, index }): (Certificate | Uncertified)[] => {
    if (!EXECUTOR.includes(name)) return [certify(module, index, name)];
    const called = new Set(callees(module, index));
    const [next] = called;
    if (next === undefined || called.size > 1)
      return [{ name, index, reason: `it calls ${called.size} functions instead of one that goes on` }];
    const loop = certify(module, index, name, { apart: called, passes: true });
    if (name !== EXECUTOR.at(-1)) return [loop];
    const draws = new Set(kernels.filter(k => k.name === SAMPLER).map(k => k.index));
    return [
      loop,
      ...ops.map(([op, value]) =>
        certify(module, next, opCertificate(op), { given: [{ address: RECORD, value }], apart: draws }),
      ),
    ];
  });
}
