// llmverify: llmctl verify.

import { alias } from '../lib/alias.ts';

export const llmverify = alias('llmverify', 'whether the package beside a model holds', '[FILE]', ['verify']);
