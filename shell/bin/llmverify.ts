// llmverify: llmctl verify.

import { alias } from '../lib/alias.ts';

export const llmverify = alias('llmverify', 'check the package beside a model', '[FILE]', ['verify']);
