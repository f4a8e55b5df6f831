// `llmctl audit replay`: requests of an audit log run again, and whether the tokens, the logits' checksum and the cycles are what was written
// down. The machine is deterministic, so a difference is a record that does not tell what happened, or a machine that is not the one it says.
// What cannot be run again is said with its reason and is no difference.

import { isRefusal, SIG, ENCODE, strerror, utf8Decode, utf8Encode } from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { decryptAge, isEnding, parseCanonical } from '../../trust/index.ts';
import type { AuditOp, Json, JsonObject } from '../../trust/index.ts';
import { AUDIT_DIRECTORY, LogReader } from './audit-log.ts';
import type { LogRecord } from './audit-log.ts';
import { readFile } from './files.ts';
import { jsonLine, table } from './fmt.ts';
import type { OptionTable } from './getopt.ts';
import { idsOf, loadedModel, openBytes, openText, parseIds, wrong } from './model.ts';
import { lastError, signalStatus } from './program.ts';
import type { Context } from './program.ts';
import { Progress } from './progress.ts';
import { Circumstances, Stage } from './replay-stage.ts';
import { idsCheck, INTERRUPTED, isScored, runAgain, stopsCheck } from './replay-run.ts';
import type { Check, Request } from './replay-run.ts';
import { readAll } from './stdio.ts';

export const replayOptions = {
  all: { help: 'audit replay: every request of the log whose prompt is known' },
  prompt: { value: 'TEXT', help: "audit replay: the record's prompt" },
  ids: { value: 'FILE', help: "audit replay: the prompt's token ids, decimal, with blanks between" },
  salt: { value: 'HEX', help: "audit replay: the record's salt, where the log's directory has it not" },
  identity: { value: 'FILE', help: 'audit replay: the secret key (age) that stored texts are opened with' },
  disclosed: {
    value: 'FILE',
    help: 'audit replay: what is known of records, an object of JSON a line: record, and salt, prompt, prompt_ids, stops',
  },
  log: { value: 'DIR', help: `audit replay: an exported log (default ${AUDIT_DIRECTORY})` },
} as const satisfies OptionTable;
