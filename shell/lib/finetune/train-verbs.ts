// The verbs of `llmfinetune` that train: what it would take, starting, watching, stopping and going on, and the curve of the losses.

import { settingNames, settingOptions } from './options.ts';
import { plan } from './plan.ts';
import { plot, plotOptions } from './plot.ts';
import { resume, runOptions, start } from './train.ts';
import type { Verbs } from './verb.ts';
import { cancel, status, statusOptions } from './watch.ts';

export const trainOptions = { ...settingOptions, ...runOptions, ...statusOptions, ...plotOptions } as const;

export const trainVerbs: Verbs<typeof trainOptions> = {
  plan: {
    usage: 'DATA [SETTING]...',
    help: 'what a training would take, allocating nothing: bytes of the arena, cycles of a step, time; exit status 1 when it does not fit, with what would',
    takes: settingNames,
    operands: [1, 1],
    run: plan,
  },
  start: {
    usage: 'DATA NAME [SETTING]... [--restart] [--quiet] [--key KEY]',
    help: 'train the loaded model on DATA; what comes of it is the next version of NAME. SETTING: an option that says how; DATA: FILE.json, FILE.jsonl or plain text',
    takes: [...settingNames, 'restart', 'quiet', 'key'],
    operands: [2, 2],
    run: start,
  },
  status: {
    usage: '[NAME] [--follow]',
    help: 'the trainings of the store: how far they are, their losses, the time left',
    takes: ['follow'],
    operands: [0, 1],
    run: status,
  },
  cancel: {
    usage: 'NAME',
    help: 'stop a training at its next batch, as Ctrl-C does; its checkpoint stays',
    takes: [],
    operands: [1, 1],
    run: cancel,
  },
  resume: {
    usage: 'NAME [--quiet] [--key KEY]',
    help: 'go on with a training that was stopped, failed or cut off, to the same bytes as without',
    takes: ['quiet', 'key'],
    operands: [1, 1],
    run: resume,
  },
  plot: {
    usage: 'NAME [--ascii]',
    help: 'the curve of the losses, drawn in the terminal',
    takes: ['ascii'],
    operands: [1, 1],
    run: plot,
  },
};
