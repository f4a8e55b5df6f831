// The ABI leaf: everything every room may import, and the only thing. It imports nothing.
export * from './device.ts';
export * from './errno.ts';
export * from './gguf.ts';
export * from './limits.ts';
export * from './probe.ts';
export * from './records.ts';
export * from './syscalls.ts';
export * from './training.ts';
export * from './utf8.ts';
export * from './width.ts';
