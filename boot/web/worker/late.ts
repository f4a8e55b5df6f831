// What the machine's script loads when it is first asked for: see demand.ts.

import { chacha20poly1305 as cipher } from '@noble/ciphers/chacha.js';
import { manual, programs } from '../../../shell/index.ts';
import * as ecdsa from '../../../trust/ecdsa.ts';
import { templateDevice } from '../../template.ts';
import type { Late } from './late-script.ts';

globalThis.arena8Late = { manual, programs, templates: templateDevice, ecdsa, cipher } satisfies Late;
