// llmkey: llmctl key.

import { alias } from '../lib/alias.ts';

export const llmkey = alias('llmkey', 'list the public keys that the machine trusts', '', ['key']);
