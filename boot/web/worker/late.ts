// What the machine's script loads when it is first asked for: see demand.ts.

import { manual, programs } from '../../../shell/index.ts';
import { templateDevice } from '../../template.ts';
import type { Late } from './demand.ts';

globalThis.arena8Late = { manual, programs, templates: templateDevice } satisfies Late;
