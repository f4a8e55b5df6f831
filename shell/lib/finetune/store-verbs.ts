// The verbs of `llmfinetune` about what was trained: applying it, its versions, its files. What each does is in a module of its own.

import { GGML_TYPE, PlanReport } from '../../../kernel/abi/index.ts';
import type { OptionTable } from '../getopt.ts';
import { apply, detach } from './apply.ts';
import { exportFile, importFile } from './exchange.ts';
import { gc, rollback, tag, versions } from './history.ts';
import type { Verbs } from './verb.ts';
