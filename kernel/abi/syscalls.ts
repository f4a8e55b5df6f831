// The system-call table. One entry per call: number, arguments by kind, whether it may block, one sentence. The programs' stubs
// (shell/lib/sys.ts), the kernel's dispatch (kernel/syscall.ts), `strace` and docs/ABI.md all derive from it; nothing is listed twice.
//
// A call is integers in and one integer out: >= 0 a value, < 0 minus an errno. Text and records travel through the system-call window,
// a fixed piece of the arena: `path` and `in` become (address, length), `out` becomes (address, capacity).

import { layout, type SessionReport } from './records.ts';

/**
 * - `int`, `fd`, `pid`: one integer. `octal`, `open`, `whence`, `signal`: the same, printed by strace as what they mean.
 * - `entry`: a place in the caller's program: what Gate.address returned for it.
 * - `path`: UTF-8 text, two integers. `in`: bytes the kernel reads, two integers. `out`: bytes the kernel writes, two integers.
 */
export type ArgKind = 'entry' | 'int' | 'fd' | 'pid' | 'octal' | 'open' | 'whence' | 'signal' | 'path' | 'in' | 'out';
// prettier-ignore
export type RecordName =
  | 'Stat' | 'Utimes' | 'FsStat' | 'Times' | 'LastError'
  | 'LoadOptions' | 'PlanReport' | 'ModelInfo' | 'ConvertReport' | 'PrelinkReport' | 'WcetOptions' | 'WcetReport' | 'SpeedOptions' | 'SpeedReport'
  | 'SessionOptions' | 'SessionEvent' | 'SessionReport' | 'LlmStats' | 'SchedOptions' | 'SchedReport' | 'ProbeOptions' | 'DiskOptions' | 'BudgetRecord' | 'QuotaRecord'
  | 'PackageReport' | 'TrainOptions' | 'TrainReport' | 'TrainStep' | 'TrainState';
/**
 * What an argument holds, where its kind does not say: a record, the `argv` of a program, a child's `status`, u32 `ids`, two `fds`,
 * `entries` of a directory; of an integer, which constants it is made of. strace prints it so, docs/ABI.md names it; nothing else depends on it.
 */
// prettier-ignore
export type Meaning =
  | RecordName
  | 'argv' | 'status' | 'ids' | 'fds' | 'entries'
  | 'access' | 'ioctl' | 'action' | 'wait' | 'type' | 'encode' | 'convert';
export type ArgSpec = readonly (readonly [name: string, kind: ArgKind, meaning?: Meaning])[];

export interface CallSpec<A extends ArgSpec = ArgSpec> {
  readonly nr: number;
  readonly args: A;
  /** May answer BLOCKED; the stub yields and calls again. */
  readonly blocks: boolean;
  readonly doc: string;
}

function call<const A extends ArgSpec>(nr: number, args: A, doc: string, blocks = false): CallSpec<A> {
  return { nr, args, doc, blocks };
}

// One call a line: a table, kept from the formatter.
// prettier-ignore
export const SYSCALLS = {
  // Processes
  exit: call(1, [['status', 'int']], 'End this process.'),
  getpid: call(2, [], 'This process.'),
  getargs: call(3, [['block', 'out', 'argv']], 'argv and environment: SpawnHeader, then argc + envc strings, each ended by a zero byte.'),
  spawn: call(4, [['program', 'path'], ['block', 'in', 'argv']], 'Start a program; the block is as getargs returns it. Returns its pid.'),
  wait: call(5, [['pid', 'pid'], ['status', 'out', 'status'], ['flags', 'int', 'wait']], 'Wait for a child (-1: any) to end; writes its exit status as u32. Returns its pid. Flags: see WAIT.', true),
  kill: call(6, [['pid', 'pid'], ['signal', 'signal']], 'Send a signal: see SIG. A negative pid: to every process of that group.'),
  signal: call(7, [['signal', 'signal'], ['catch', 'int', 'action']], 'catch 1: a blocked call returns -EINTR instead of ending the process; 2: ignore; 0: default. Returns what it was.'),
  sleep: call(8, [['milliseconds', 'int']], 'Sleep in virtual time.', true),
  sched_yield: call(9, [], 'Let others run.', true),
  last_error: call(10, [['record', 'out', 'LastError']], 'The LastError record of this process.'),
  times: call(11, [['record', 'out', 'Times']], 'Clock and this process: Times record.'),
  target: call(12, [['name', 'path'], ['record', 'out']], 'Switch the simulated processor; empty: ask. Writes the name of the one in force. Returns its length.', true),

  fork: call(13, [['entry', 'entry']], 'A second process with the descriptors, directory, signals and group of this one, begun at `entry`. Returns its pid.'),
  exec: call(14, [['program', 'path'], ['block', 'in', 'argv']], 'Become another program: as spawn, in this process. Ignored signals stay ignored. Returns only on failure.'),
  signals: call(15, [], 'The caught signals that came since the last time, as a bit set: 1 << signal.'),
  getppid: call(18, [], 'The process that started this one; 0: the machine.'),
  setpgid: call(16, [['pid', 'pid'], ['group', 'pid']], 'Put a process (0: this one) into a group (0: its own).'),
  tcsetpgrp: call(17, [['fd', 'fd'], ['group', 'pid']], 'Give the terminal to a process group, which then gets its Ctrl-C and Ctrl-Z; 0: to everybody. Returns who had it.'),

  poll: call(19, [['fd', 'fd'], ['milliseconds', 'int']], 'Wait until a terminal has input, at most so long in virtual time (-1: for ever). Returns 1, or 0 when the time is up.', true),

  // Files
  open: call(20, [['path', 'path'], ['flags', 'open'], ['mode', 'octal']], 'Open a file. Returns a descriptor.', true),
  close: call(21, [['fd', 'fd']], 'Close a descriptor.'),
  read: call(22, [['fd', 'fd'], ['buffer', 'out']], 'Read; 0 at the end.', true),
  write: call(23, [['fd', 'fd'], ['buffer', 'in']], 'Write; may write less than asked.', true),
  lseek: call(24, [['fd', 'fd'], ['offset', 'int'], ['whence', 'whence']], 'Move the position. Returns the new one.'),
  fstat: call(25, [['fd', 'fd'], ['stat', 'out', 'Stat']], 'Stat record of an open file.'),
  ftruncate: call(26, [['fd', 'fd'], ['size', 'int']], 'Set the size of an open file.'),
  dup: call(27, [['fd', 'fd']], 'A second descriptor for the same open file.'),
  pipe: call(28, [['fds', 'out', 'fds']], 'A pipe: writes two u32, read end and write end.'),
  memfd: call(29, [['name', 'path']], 'An anonymous file in memory storage. Returns a descriptor.'),
  ioctl: call(30, [['fd', 'fd'], ['command', 'int', 'ioctl'], ['argument', 'int']], 'Device control: see IOCTL.'),
  readdir: call(31, [['fd', 'fd'], ['entries', 'out', 'entries']], 'Next entries of a directory: {u8 kind, u8 name bytes, name}…; 0 at the end.'),
  readline: call(32, [['fd', 'fd'], ['prompt', 'path'], ['answer', 'out']], 'Edit a line on a terminal: a READLINE byte, then text.', true),
  fchmod: call(34, [['fd', 'fd'], ['mode', 'octal']], 'Set the permission bits of an open file.'),
  fchown: call(35, [['fd', 'fd'], ['uid', 'int'], ['gid', 'int']], 'Set owner and group of an open file; -1 leaves one as it is.'),
  complete: call(33, [['fd', 'fd'], ['back', 'int'], ['count', 'int'], ['candidates', 'in']], 'Answer a completion request: what replaces the last `back` UTF-16 units before the cursor, then names to list, each ended by a zero byte; `count` names in all.'),
  remember: call(36, [['fd', 'fd'], ['keep', 'int'], ['lines', 'in']], 'Append lines, each ended by a zero byte, to the history of a terminal; the last `keep` stay.'),

  disk: call(37, [['name', 'path'], ['options', 'in', 'DiskOptions']], 'Change a disk: its model, its retries, its faults. For the superuser; /proc/disks tells what they are.', true),

  // Names
  stat: call(40, [['path', 'path'], ['stat', 'out', 'Stat']], 'Stat record of a path.', true),
  mkdir: call(41, [['path', 'path'], ['mode', 'octal']], 'Make a directory.'),
  rmdir: call(42, [['path', 'path']], 'Remove an empty directory.'),
  unlink: call(43, [['path', 'path']], 'Remove a name.'),
  rename: call(44, [['from', 'path'], ['to', 'path']], 'Rename within one file system.'),
  chdir: call(45, [['path', 'path']], 'Change the working directory.'),
  getcwd: call(46, [['path', 'out']], 'The working directory as text. Returns its length.'),
  mount: call(47, [['type', 'path'], ['source', 'path'], ['target', 'path']], 'Mount a file system: types tmpfs, proc, dev, gguf.', true),
  umount: call(48, [['target', 'path']], 'Unmount.', true),
  statfs: call(49, [['path', 'path'], ['record', 'out', 'FsStat']], 'FsStat record of the file system a path is on.', true),
  lstat: call(50, [['path', 'path'], ['stat', 'out', 'Stat']], 'As stat, of a symbolic link itself.', true),
  link: call(51, [['existing', 'path'], ['path', 'path']], 'One more name for a file of the same file system.'),
  symlink: call(52, [['target', 'path'], ['path', 'path']], 'Make a symbolic link to `target`, which need not exist.'),
  readlink: call(53, [['path', 'path'], ['target', 'out']], 'What a symbolic link holds, cut to the room there is. Returns its bytes.', true),
  chmod: call(54, [['path', 'path'], ['mode', 'octal']], 'Set the permission bits.'),
  chown: call(55, [['path', 'path'], ['uid', 'int'], ['gid', 'int']], 'Set owner and group; -1 leaves one as it is.'),
  lchown: call(56, [['path', 'path'], ['uid', 'int'], ['gid', 'int']], 'As chown, of a symbolic link itself.'),
  access: call(57, [['path', 'path'], ['mask', 'int', 'access']], 'Whether the real user may read (4), write (2), execute (1); 0: whether it is there.', true),
  utimens: call(58, [['path', 'path'], ['times', 'in', 'Utimes']], 'Set the times of reading and of modification: Utimes record.'),
  truncate: call(59, [['path', 'path'], ['size', 'int']], 'Set the size of a file.'),

  // Models
  model_load: call(60, [['path', 'path'], ['options', 'in', 'LoadOptions']], 'Load a GGUF model: LoadOptions. On any failure the previous model stays.', true),
  model_unload: call(61, [], 'Release the model region.', true),
  model_plan: call(62, [['path', 'path'], ['options', 'in', 'LoadOptions'], ['report', 'out', 'PlanReport']], 'What loading would take, or with an empty path what the loaded model takes: PlanReport. Allocates nothing.', true),
  model_info: call(63, [['record', 'out', 'ModelInfo']], 'ModelInfo of the loaded model.'),
  model_ops: call(64, [['from', 'int'], ['text', 'out']], 'The plan as text lines, from a byte offset on. Returns bytes; 0 at the end.'),
  backend: call(65, [['name', 'path'], ['record', 'out']], 'Switch engines (transformer, stub, stub:word); empty: ask. Writes the name. Returns its length.', true),
  tokenize: call(66, [['vocabulary', 'path'], ['text', 'fd'], ['flags', 'int', 'encode']], 'A descriptor from which the token ids of `text` are read as u32; empty path: the loaded model.', true),
  model_wcet: call(68, [['path', 'path'], ['options', 'in', 'WcetOptions'], ['report', 'out', 'WcetReport']], 'Bounds of a request before it runs: WcetOptions, WcetReport. Empty path: the loaded model.', true),
  model_cost: call(69, [['path', 'path'], ['options', 'in', 'WcetOptions']], 'A descriptor from which the priced plan of a request is read, a line an op: see COST_COLUMNS. Empty path: the loaded model.', true),
  model_speed: call(87, [['path', 'path'], ['options', 'in', 'SpeedOptions'], ['report', 'out', 'SpeedReport']], 'How fast a load with these options would go, before anything runs: SpeedReport. Empty path: the loaded model.', true),
  detokenize: call(67, [['ids', 'in', 'ids'], ['text', 'out'], ['flags', 'int']], 'Bytes of u32 ids. Returns how many.'),

  // Sessions
  session_open: call(70, [['options', 'in', 'SessionOptions'], ['prompt', 'fd']], 'Submit a prompt: SessionOptions. Returns a handle: slot and generation, so that an old one finds nothing.', true),
  session_read: call(71, [['session', 'int'], ['event', 'out', 'SessionEvent']], 'The next SessionEvent; waits for it. Returns its bytes; 0 after the end.', true),
  session_cancel: call(72, [['session', 'int']], 'End a session at its next token.'),
  session_report: call(73, [['session', 'int'], ['report', 'out', 'SessionReport']], 'SessionReport.'),
  session_tokens: call(74, [['session', 'int'], ['from', 'int'], ['ids', 'out', 'ids']], 'Token ids of prompt and output as u32, from an index on. Returns bytes.'),
  session_close: call(75, [['session', 'int']], 'Forget a session that has ended.'),
  session_probe: call(84, [['session', 'int'], ['options', 'in', 'ProbeOptions']], 'A descriptor from which a look into a step is read, one line of JSON (man json); session 0: of those that this user sees, the one that took a step last.', true),
  session_find: call(78, [['id', 'int']], 'A handle of the session with that id: of one that this user submitted; the superuser finds any.'),
  sched: call(79, [['options', 'in', 'SchedOptions'], ['report', 'out', 'SchedReport']], 'Set and read the scheduler: SchedOptions (none: only read; setting is for the superuser), SchedReport.', true),
  budget: call(82, [['budget', 'in', 'BudgetRecord'], ['now', 'out', 'BudgetRecord']], 'Set (superuser) and read the period budget of the machine.', true),
  quota: call(83, [['quota', 'in', 'QuotaRecord'], ['now', 'out', 'QuotaRecord']], "Set (superuser) and read a user's quotas: QuotaRecord. Others read their own.", true),
  llm_stats: call(76, [['record', 'out', 'LlmStats']], 'LlmStats record.'),
  chat: call(77, [['template', 'path'], ['name', 'path'], ['conversation', 'fd']], "A descriptor from which a conversation is read as a chat template writes it: JSON, {messages: [{role, content}…], …}. Empty path: the loaded model's template; empty name: its default one.", true),

  // Model files
  model_convert: call(80, [['path', 'path'], ['type', 'int', 'type'], ['flags', 'int', 'convert'], ['report', 'out', 'ConvertReport']], 'A descriptor from which the model is read as a GGUF file with weights of a GGML_TYPE; flags: CONVERT. Writes a ConvertReport.', true),
  model_prelink: call(86, [['path', 'path'], ['report', 'out', 'PrelinkReport']], 'A descriptor from which the model is read as a prelinked GGUF file, data before header. Writes a PrelinkReport.', true),
  model_diff: call(81, [['left', 'path'], ['right', 'path']], 'A descriptor from which the differences of two models are read, a line a key or tensor: see DIFF_COLUMNS.', true),

  // Users
  getuid: call(90, [], 'The real user of this process: who started it.'),
  geteuid: call(91, [], 'The effective user: whose rights it has.'),
  getgid: call(92, [], 'The real group.'),
  getegid: call(93, [], 'The effective group.'),
  getgroups: call(94, [['groups', 'out', 'ids']], 'Supplementary groups as u32. Returns how many bytes.'),
  setuid: call(95, [['uid', 'int']], 'Become a user: the superuser anyone and for good, which is a login in the audit log; others only their real or saved user.', true),
  setgid: call(96, [['gid', 'int']], 'The same for the group.'),
  setgroups: call(97, [['groups', 'in', 'ids']], 'Set the supplementary groups, u32 each. The superuser only.'),
  umask: call(98, [['mask', 'octal']], 'Set the permission bits that new files do not get. Returns the old mask.'),
  auth_wait: call(99, [['name', 'path']], 'Wait until a password of that user may be tried again. The superuser only, as the next.', true),
  auth_failed: call(100, [['name', 'path']], 'A password of that user was wrong: to the audit log, and the next one has to wait longer. That somebody has become a user setuid tells the log.', true),
  rights: call(101, [['user', 'path'], ['right', 'path'], ['object', 'path']], 'Whether a user has a right (load, run, read, manage) to a model or to what is managed: the line of /etc/llm/rights that gives it, 0 for the superuser.'),

  // Trust
  model_hash: call(110, [['path', 'path'], ['digest', 'out']], 'SHA-256 of a regular file, 32 bytes.', true),
  model_verify: call(111, [['path', 'path'], ['package', 'fd'], ['key', 'fd'], ['report', 'out', 'PackageReport']], 'Whether a package or signing bundle holds for a model, under the key in a PEM file or, with -1, under a trusted one. Returns the result.', true),
  model_signed: call(112, [['path', 'path'], ['package', 'fd'], ['key', 'fd'], ['report', 'out', 'PackageReport']], 'The same of a signature that has just been made, which is written down when it holds; with -1 under the key that the package names.', true),
  trusted_key: call(113, [['name', 'path'], ['pem', 'in']], 'Trust a public key, or without one trust it no more. For the superuser; /proc/keys lists them.', true),
  policy: call(114, [['name', 'path'], ['now', 'out']], 'Set (superuser) what happens to models that nobody vouches for: off, warn or enforce; empty: ask. Writes the one in force. Returns its length.', true),
  model_register: call(115, [['path', 'path'], ['package', 'fd'], ['permissions', 'int'], ['ctx', 'int']], 'Register a model whose package holds, with these permissions and, if not 0, this longest context. For the superuser. Returns its id; /proc/packages lists them.', true),
  model_unregister: call(116, [['id', 'int']], 'Forget a registered model. For the superuser.', true),
  model_swap: call(117, [['id', 'int'], ['options', 'in', 'LoadOptions']], 'Load a registered model in place of the one loaded. On any failure that one stays.', true),
  model_rollback: call(118, [['id', 'int']], 'Load again, as it was, the model before the one loaded; with an id only if it is the registered one of that id.', true),
  attest: call(119, [['nonce', 'path'], ['statement', 'out']], "A signed statement of what this machine is and runs: a DSSE envelope under the log's key. Returns its bytes.", true),

  // Adapters and training
  adapter_apply: call(120, [['path', 'path'], ['name', 'path'], ['scale', 'int']], 'Put a GGUF adapter beside the loaded model under this name (empty: its file name without .gguf), with this scale (f32 bits) for sessions that say no other. One of that name makes way for it. The model region is laid out again; on any failure it stays.', true),
  adapter_detach: call(121, [['name', 'path']], 'Take an adapter away from the loaded model; empty: all. Returns how many. /proc/adapters lists them.', true),
  train_plan: call(122, [['options', 'in', 'TrainOptions'], ['report', 'out', 'TrainReport']], 'What training the loaded model so would take: TrainReport. Allocates nothing.', true),
  train_open: call(123, [['options', 'in', 'TrainOptions']], 'Begin to train the loaded model, which stays as it is: TrainOptions. Returns a handle; one training at a time.', true),
  train_batch: call(124, [['training', 'int'], ['sequences', 'fd'], ['step', 'in', 'TrainStep']], 'Give it a batch, read from the descriptor to its end (see TRAIN_SEQUENCE_WORDS), to be done between the passes of inference. Returns its targets.', true),
  train_wait: call(125, [['training', 'int'], ['state', 'out', 'TrainState'], ['milliseconds', 'int']], 'Wait until the batch is done, at most so long in virtual time (-1: for ever; 0: only ask). Returns 1 when it is, or 0.', true),
  train_read: call(126, [['training', 'int'], ['vector', 'int'], ['from', 'int'], ['buffer', 'out']], 'Read a vector of its state (TRAIN_VECTORS), from a byte on, between batches. Returns bytes; 0 at the end.', true),
  train_write: call(127, [['training', 'int'], ['vector', 'int'], ['from', 'int'], ['buffer', 'in']], 'Write a vector of its state, the same. Returns bytes.', true),
  train_steps: call(128, [['training', 'int'], ['steps', 'int'], ['frozen', 'int']], 'Say how many updates came before, and whether the parameters were frozen: a training that is resumed goes on with its state written and its updates counted.'),
  train_close: call(129, [['training', 'int']], 'End it: its memory is free again. What was not read is lost.', true),
} as const satisfies Record<string, CallSpec>;

export type CallName = keyof typeof SYSCALLS;

/**
 * /proc/stream: a line a figure, its name and value, since the model was loaded; empty where no weights stream. Cycles are those of the target in force.
 */
export const STREAM_FIGURES = [
  'reads', // of tiles
  'bytes',
  'gathers', // rows read singly
  'gatherBytes',
  'stalls', // times that the processor waited
  'stallCycles',
  'diskCycles', // while the disk was busy with these reads
  'errors', // reads that failed
  'dropped', // tiles that nobody wanted any more
  'waiting', // reads that are submitted and not used up
  'overlappedPpm', // of diskCycles, those in which nobody waited
] as const;

/**
 * What model_cost answers: a line an op, its columns separated by tabs. Segments: body (over `n` tokens from position `pos`; once as the
 * prompt's largest batch, `prefill`, and once as the last decode step, `decode`), head and sample. `layer` is -1 outside of layers;
 * `name` is the tensor, or what the op writes. Cycles are what the op is charged at most; `compute`, `memory` and `overhead` add up to `most`.
 */
export const COST_COLUMNS = [
  'step', // prefill or decode
  'segment', // body, head, sample
  'op',
  'layer',
  'name',
  'n',
  'pos',
  'most', // cycles
  'least',
  'compute', // thousandths of a cycle, as the next two
  'memory',
  'overhead',
  'instructions',
  'loaded', // bytes
  'stored',
] as const;

/**
 * /proc/plan: a line of these titles, then a line an op of the loaded plan, with tabs between. Columns are those of COST_COLUMNS; `index` is what
 * /proc/step calls so. Prices are those of the last pass: its body over its rows, the other segments over the last row, but the one that runs, or
 * ran last, over what it runs over; `n` says over how many. Before any pass: over one row, at position 0.
 */
export const PLAN_COLUMNS = [
  'index',
  'segment',
  'op',
  'layer',
  'name',
  'n',
  'most',
  'least',
  'compute',
  'memory',
  'overhead',
  'instructions',
  'loaded',
  'stored',
] as const;

/**
 * What model_diff answers: a line a metadata key or tensor of either model, its columns separated by tabs. `left` and `right` are the values, or a
 * tensor's type and shape; empty where a model has none. The columns from `count` on are empty where there is nothing to compare.
 */
export const DIFF_COLUMNS = [
  'what', // key or tensor
  'name',
  'left',
  'right',
  'count', // values of a tensor
  'differing', // of them; of a key 0 or 1
  'most', // greatest absolute difference
  'rms', // root mean square of the differences
  'cosine', // of the angle between the two tensors
] as const;

/**
 * The columns of /proc/sessions: a line of these names, then a line a session in order of ids, fields separated by tabs. They are fields of
 * SessionReport; `state` and `finish` are words of SESSION_STATE and FINISH (`-` while it runs).
 */
export const SESSION_COLUMNS = [
  'id',
  'uid',
  'state',
  'finish',
  'promptTokens',
  'outputTokens',
  'consumed',
  'pages',
  'swappedPages',
  'sharedTokens',
  'parent',
  'priority',
  'server',
  'periodNs',
  'budgetCycles',
  'deadlineNs',
  'responseNs',
  'slackNs',
  'misses',
  'preemptions',
  'swapIns',
  'cycles',
  'submittedNs',
  'beganNs',
  'endedNs',
] as const satisfies readonly (keyof typeof SessionReport.fields)[];

/**
 * The columns of /proc/disks: a line of these names, then a line a disk, fields separated by tabs. Latencies are of the target in force, in
 * nanoseconds; rates in bytes a second; counters since power-on.
 */
export const DISK_COLUMNS = [
  'name',
  'number', // major:minor
  'source', // what its bytes are
  'mounts', // directories, with blanks between; a blank in one is \\040
  'bytes', // 0: not known
  'readOnly',
  'fixed', // 1: memory of the machine, whose times cannot be changed
  'model',
  'title',
  'sectorBytes',
  'queueDepth',
  'retries', // attempts beyond the first
  'faults', // as `llmctl disk --fault` takes them, with blanks between
  'latencyLeast',
  'latencyTypical',
  'latencyMost',
  'rateLeast', // the slowest
  'rateTypical',
  'rateMost',
  'inFlight', // reads
  'reads', // done
  'bytesRead',
  'bytesMoved', // whole sectors
  'readNs', // from submission to the end, summed over reads
  'waits', // reads that waited for others
  'waitNs',
  'busyNs', // while one at least was in flight
  'retried', // attempts beyond the first
  'errors', // reads that failed
  'writes',
  'bytesWritten',
] as const;

/** The columns of /proc/packages: a line of these names, then a line a registered model in order of ids, fields separated by tabs. */
export const PACKAGE_COLUMNS = [
  'id',
  'version',
  'size', // bytes
  'ctx', // longest context; 0: any
  'permissions', // words with commas between, or -
  'key', // its name; - when it is trusted no more
  'digest', // SHA-256, hex
  'path',
] as const;

/** The columns of /proc/keys: a line of these names, then a line a trusted key, fields separated by tabs. */
export const KEY_COLUMNS = [
  'name',
  'kind', // ed25519, p256, p384
  'since', // boot, or added
  'key', // hex: of an Ed25519 key itself, else SHA-256 of its PEM
] as const;

/**
 * Header of a spawn block. `fd…`: the parent's descriptors that become 0, 1, 2, … 9 (−1: none). `trace`: a descriptor strace lines go to, or −1.
 */
// prettier-ignore
export const SpawnHeader = layout({
  argc: 'u32', envc: 'u32', trace: 'i32',
  fd0: 'i32', fd1: 'i32', fd2: 'i32', fd3: 'i32', fd4: 'i32', fd5: 'i32', fd6: 'i32', fd7: 'i32', fd8: 'i32', fd9: 'i32',
});
/** How many descriptors a spawn block can hand over. */
export const SPAWN_FDS = 10;
/** The descriptors of a spawn block; what `fds` does not name is closed. */
export function spawnFds(fds: readonly number[]): Record<`fd${0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9}`, number> {
  const [fd0 = -1, fd1 = -1, fd2 = -1, fd3 = -1, fd4 = -1, fd5 = -1, fd6 = -1, fd7 = -1, fd8 = -1, fd9 = -1] = fds;
  return { fd0, fd1, fd2, fd3, fd4, fd5, fd6, fd7, fd8, fd9 };
}

export const Times = layout({ nowNs: 'u64', cycles: 'u64', hz: 'u64', processCycles: 'u64', bootEpochSeconds: 'u64' });

export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  ACCMODE: 3,
  CREAT: 0o100,
  EXCL: 0o200,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  DIRECTORY: 0o200000,
  NOFOLLOW: 0o400000,
} as const;
/** What access asks; R_OK, W_OK, X_OK. */
export const ACCESS = { read: 4, write: 2, exec: 1 } as const;
/** What utimens does with a time: sets it to the record's, to now, or leaves it. */
export const UTIME = { set: 0, now: 1, omit: 2 } as const;
export const SEEK = { set: 0, cur: 1, end: 2 } as const;
/** Linux's numbers. KILL and STOP cannot be caught; STOP, TSTP, TTIN and TTOU stop a process until CONT; CHLD, CONT and WINCH (the terminal has another size) are otherwise without effect. */
// prettier-ignore
export const SIG = {
  HUP: 1, INT: 2, QUIT: 3, ABRT: 6, KILL: 9, USR1: 10, USR2: 12, PIPE: 13, ALRM: 14, TERM: 15,
  CHLD: 17, CONT: 18, STOP: 19, TSTP: 20, TTIN: 21, TTOU: 22, WINCH: 28,
} as const;
/** nohang: return 0 when there is nothing to report. untraced: report also that a child has stopped, as STOPPED + the signal. */
export const WAIT = { nohang: 1, untraced: 2 } as const;
export const STOPPED = 0x10000;

// ── Types derived from the table ─────────────────────────────────────────────────────────────────────────────────────────────────

type Integers<K extends ArgKind> = K extends 'path' | 'in' | 'out' ? [at: number, length: number] : [value: number];
type Flat<A extends ArgSpec> = A extends readonly [
  readonly [string, infer K extends ArgKind, ...unknown[]],
  ...infer R extends ArgSpec,
]
  ? [...Integers<K>, ...Flat<R>]
  : [];
/** What the kernel implements: the call's integers, addresses already checked to lie inside the window. */
export type Handler<N extends CallName> = (...integers: Flat<(typeof SYSCALLS)[N]['args']>) => number;

type Value<K extends ArgKind> = K extends 'path'
  ? string
  : K extends 'in' | 'out'
    ? Uint8Array
    : K extends 'entry'
      ? Entry
      : number;
type Values<A extends ArgSpec> = A extends readonly [
  readonly [string, infer K extends ArgKind, ...unknown[]],
  ...infer R extends ArgSpec,
]
  ? [value: Value<K>, ...Values<R>]
  : [];
/** What a program calls: `const n = yield* sys.read(fd, buffer)`. A blocking call yields until it can finish. */
export type Sys = {
  readonly [N in CallName]: (...values: Values<(typeof SYSCALLS)[N]['args']>) => Generator<void, number, void>;
} & Pick<Gate, 'signalled'>;

/** The processor's trap instruction, as a program sees it: the window and one way in. */
export interface Gate {
  /** The process's own memory, windowBytes long. What a call's arguments name in it is copied into the kernel's window, answers are copied out of it. */
  readonly memory: Uint8Array;
  /** What calls name its first byte. */
  readonly windowAt: number;
  readonly windowBytes: number;
  trap(nr: number, a: number, b: number, c: number, d: number, e: number, f: number): number;
  /** True when the quantum of calls is used up and the stub must yield. */
  mustYield(): boolean;
  /** True when the call `signals` would return some: looking costs nothing. */
  signalled(): boolean;
  /** Makes a place in the program known to the kernel, for the next fork. */
  address(entry: Entry): number;
}

/** A program image: started by spawn, resumed by the scheduler each time it yields, its return value the exit status. */
export type Entry = (gate: Gate) => Generator<void, number, void>;
/** The programs linked into this build, by name: `/bin/NAME` in the boot image is a file `#!arena8 NAME`. */
export type ProgramTable = ReadonlyMap<string, Entry>;
