// The block devices of this build: the models of storage and the queue in front of each disk.

import type { BlockDriver } from '../../kernel/abi/index.ts';
import { DISK_MODELS } from './models.ts';
import { Queue } from './queue.ts';

export const blockDriver: BlockDriver = { models: DISK_MODELS, queue: () => new Queue() };
