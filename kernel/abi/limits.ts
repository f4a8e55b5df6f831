// Every size limit of the machine, in one place. They live in the ABI because every room obeys them and the ABI is the only thing every
// room may import. Sums are shown; docs/MEMORY.md draws the arena they add up to. Changing one changes the machine, never its meaning.

const KiB = 1024;
const MiB = 1024 * KiB;

export const LIMITS = {
  // Arena
  arenaBytes: 8 * MiB, // 128 WebAssembly pages; initial = maximum
  arenaAlign: 32, // a block of 32 int8 values, two SIMD registers
  nullBytes: 64, // address 0 stays unused so that 0 can mean "no address"
  constantsBytes: 8 * KiB, // Unicode classes for the pre-tokenizers (7,496 B)
  meterBytes: 4 * KiB, // prices of the metered kernels' stretches, u32 each
  windowBytes: 16 * KiB, // the system-call window: arguments and results of one call; also ARG_MAX
  dmaBytes: 16 * KiB, // block-device transfers while loading; one gzip-sized piece
  pipeBytes: 2 * KiB, // capacity of one pipe
  pipesMax: 8, // 8 × 2 KiB = 16 KiB, taken from the window region when a pipe opens
  auditRecordBytes: 4288, // the longest audit record (4,259 B): what each live session keeps of the ring for its end
  auditContentBytes: 64 * KiB, // of a request's texts, before they are encrypted (storage)
  auditRingBytes: 180 * KiB, // 32 × 4,290 B for sessions, and 45 KiB for what is not stored yet

  // Processes
  processesMax: 64, // every session may be a process of its own, beside shells and their pipelines
  filesPerProcess: 32,
  filesMax: 256, // open file descriptions in the system
  pathBytes: 4096, // PATH_MAX, the zero byte that C puts behind it included
  nameBytes: 255,
  argBytes: 16 * KiB, // one program's argv + environment: they cross the window
  argsMax: 1024,
  lineBytes: 64 * KiB, // one shell line
  textBytes: 16 * MiB, // what sort, tail or diff hold of their input at once (bookkeeping, outside the arena)
  diffEdits: 4096, // edits that diff searches for the shortest script of; a search that passes them settles for a short one
  regexStates: 32768, // of one regular expression, repetitions written out
  regexSteps: 1 << 20, // for one line, where a back-reference rules out a bound by the pattern's size
  expansionBytes: 4 * MiB, // what the words of one command expand to (bookkeeping, outside the arena, as the next three)
  variablesBytes: 16 * MiB, // names and values of one shell's variables
  definitionsMax: 4096, // functions, and aliases, of one shell
  callDepthMax: 200, // functions, `.` and eval inside one another
  typeAheadBytes: 64 * KiB, // terminal input not yet read (bookkeeping, outside the arena)
  historyLines: 1000, // lines the editor remembers (bookkeeping, outside the arena)
  historyBytes: 256 * KiB, // and their bytes; of a longer history file the end is read
  completionsUnasked: 100, // candidates that Tab lists without asking
  symlinkDepth: 40, // links followed in one path, as on Linux
  groupsMax: 16, // supplementary groups of a process
  etcFileBytes: 64 * KiB, // of accounts and rights, each (bookkeeping, outside the arena)
  loginDelayMs: 2000, // after a wrong password, twice as long after each that follows
  loginDelayMaxMs: 32000,
  pagerBytes: 16 * MiB, // of a pipe that less keeps to go back in, in memory storage
  kernelLogBytes: 32 * KiB, // dmesg ring (bookkeeping, outside the arena)

  // Storage devices beside the arena (as a disk is)
  tmpfsBytes: 64 * MiB,
  tmpfsInodes: 16384,
  mountsMax: 32,
  auditFileRecords: 256, // in one file of /var/audit/entries

  // Models
  modelsDirectory: '/models',
  bootModelFile: '/etc/model', // names the model that boot loads
  ggufKeysMax: 1024, // files of people have some dozens; each costs some 100 B of bookkeeping
  ggufTensorsMax: 4096, // directory record 64 B: at most 256 KiB of arena
  ggufKeyBytes: 1024,
  ggufTensorNameBytes: 128,
  ggufStringBytes: 4 * MiB, // one metadata string as text (chat templates are long)
  tensorDimsMax: 4,
  tokenBytes: 1024,
  vocabularyMax: 1 << 20,
  layersMax: 512,
  contextDefault: 512,
  contextMax: 131072,
  promptTokensMax: 2048,
  generationTokensMax: 512,
  stopStringsMax: 8,
  stopBytes: 64,
  prefillBatch: 8, // prompt positions per pass over the weights; a plan may take 4, 2 or 1 when memory is short
  topLogitsMax: 64, // llminfer --logits K

  // Chat templates: text in and out, and what one rendering may do (the host's work, outside the arena)
  chatTemplateBytes: 128 * KiB,
  chatTextBytes: 64 * KiB, // a conversation as JSON, and as a prompt
  chatSteps: 1 << 20, // expressions evaluated, and work beyond them
  chatPrintedMax: 1 << 20, // characters written, those of inner blocks too
  chatValuesMax: 128 * KiB, // characters and elements of one value
  chatDepthMax: 32, // lists in lists
  chatCallsMax: 400, // expressions in expressions, through macros too
  chatNestingMax: 100, // blocks and brackets of the source
  chatTagTokensMax: 2000,
  chatBlanksMax: 1024,
  chatMessageMax: 200, // characters of what went wrong

  // Trust in models (bookkeeping, outside the arena)
  packagesMax: 16, // registered models; the specification's 4 suited its own
  trustedKeysMax: 16,
  packageBytes: 64 * KiB, // of a package or signing bundle
  keyBytes: 4 * KiB, // of a key in PEM
  nonceBytes: 128, // of an attestation

  // Adapters and training
  adaptersMax: 4, // applied at once
  adapterNameBytes: 32,
  scaleSetsMax: 64, // sets of scales under which sessions find what others have computed (bookkeeping, outside the arena)
  rankMax: 256, // of a low-rank pair
  trainBatchMax: 64, // sequences
  directionsMax: 64, // of one step of fmea or nes
  trainContextDefault: 128, // tokens of a sequence

  // Sessions
  sessionsMax: 32,
  sessionTimeoutMs: 30000, // virtual
  batchMax: 32, // rows per pass that a load may ask for
  tileBytesMax: 4 * MiB, // of a buffer that weights stream through
  buffersMax: 16, // of them
  utilisationPpm: 850000, // of the processor, for servers; the rest is the system's
  tokensPerHour: 10000, // of one user, by default
  quotaUsersMax: 16, // users with figures of their own
  auditStoreBytes: 64 * MiB, // of the audit log where no directory of the host holds it, and of its tree's hashes (storage, as a disk is)
  swapBytes: 32 * MiB, // the swap device: pages of sessions that wait (storage, as a disk is)
  traceRecords: 16384, // what the kernel did last, for llmctl trace (bookkeeping, outside the arena)
} as const;
