// The block devices of this build: the models of storage, and the queue in front of each disk. What a disk is called, and which files lie on it,
// is the kernel's business (kernel/disks.ts).

import type { BlockDriver } from '../../kernel/abi/index.ts';
import { DISK_MODELS } from './models.ts';
import { Queue } from './queue.ts';

export const blockDriver: BlockDriver = { models: DISK_MODELS, queue: () => new Queue() };
