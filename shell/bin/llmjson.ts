// llmjson: llmctl audit --json.

import { alias } from '../lib/alias.ts';

export const llmjson = alias('llmjson', 'print the records of the audit log as JSON', '', ['audit', '--json']);
