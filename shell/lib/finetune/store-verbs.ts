// The verbs of `llmfinetune` about what was trained: applying it, its versions, its files. What each does is in a module of its own.

import type { OptionTable } from '../getopt.ts';
import { apply, applyOptions, detach } from './apply.ts';
import { diff } from './compare.ts';
import { drift, driftOptions } from './drift.ts';
import { evalOptions, evalTakes, evaluate } from './evaluate.ts';
import { exchangeOptions, exportFile, importFile } from './exchange.ts';
import { gc, historyOptions, rollback, tag, versions } from './history.ts';
import { init } from './init.ts';
import { merge, mergeOptions } from './merge.ts';
import type { Verbs } from './verb.ts';

export const storeVerbOptions = {
  ...applyOptions,
  ...historyOptions,
  ...exchangeOptions,
  ...mergeOptions,
  ...driftOptions,
  ...evalOptions,
} as const satisfies OptionTable;

export const storeVerbs: Verbs<typeof storeVerbOptions> = {
  apply: {
    usage: 'NAME[@VERSION]|FILE [--scale X]',
    help: 'put an adapter beside the loaded model; another version makes way for it',
    takes: ['scale'],
    operands: [1, 1],
    run: apply,
  },
  detach: {
    usage: '[NAME]',
    help: 'take an adapter away again, or all',
    takes: [],
    operands: [0, 1],
    run: detach,
  },
  merge: {
    usage: 'NAME[@VERSION] OUT.gguf [--scale X] [--type TYPE] [--base MODEL]',
    help: 'write the loaded model with an adapter worked into its weights',
    takes: ['scale', 'type', 'base'],
    operands: [2, 2],
    run: merge,
  },
  versions: {
    usage: '[NAME] [--verify [--key FILE]]',
    help: 'what there is in the store, or the versions of a name',
    takes: ['verify', 'key'],
    operands: [0, 1],
    run: versions,
  },
  rollback: {
    usage: 'NAME [VERSION]',
    help: 'make an earlier version current again (default: the one before)',
    takes: [],
    operands: [1, 2],
    run: rollback,
  },
  diff: {
    usage: 'NAME VERSION [VERSION]',
    help: 'what two versions do to each matrix, the largest difference first (default: to the current one)',
    takes: [],
    operands: [2, 3],
    run: diff,
  },
  tag: {
    usage: 'NAME TAG [VERSION]',
    help: 'give a version a name of its own (default: the current one)',
    takes: [],
    operands: [2, 3],
    run: tag,
  },
  gc: {
    usage: '[NAME] [--keep N] [--dry-run]',
    help: 'forget old versions, and remove files that are none',
    takes: ['keep', 'dry-run'],
    operands: [0, 1],
    run: gc,
  },
  export: {
    usage: 'NAME[@VERSION] [--format gguf|safetensors] [-o FILE]',
    help: 'write a version to a file for other runtimes',
    takes: ['format', 'output'],
    operands: [1, 1],
    run: exportFile,
  },
  import: {
    usage: 'FILE NAME [--key FILE]',
    help: 'make a GGUF or safetensors adapter a version of NAME',
    takes: ['key'],
    operands: [2, 2],
    run: importFile,
  },
  eval: {
    usage: '[NAME[@VERSION]] DATA [--ctx N] [--mask-prompt yes|no]',
    help: 'the loss on DATA without and with an adapter, as inference computes',
    takes: evalTakes,
    operands: [1, 2],
    run: evaluate,
  },
  drift: {
    usage: 'NAME [SCORES] [--baseline X] [--window N]',
    help: 'whether scores have fallen: those of a file, or those that eval wrote down',
    takes: ['baseline', 'window'],
    operands: [1, 2],
    run: drift,
  },
  init: {
    usage: 'CONFIG.json OUT.gguf',
    help: 'write a model with random first weights, to be trained with --method full',
    takes: [],
    operands: [2, 2],
    run: init,
  },
};
