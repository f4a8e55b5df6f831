// llmctl: the model as a device that an operator controls — load it, see what it would take before it is taken, look at its tokens,
// measure it, write it down with other weights. One verb a command; every verb has a --json form whose keys the manual lists.

import {
  ENCODE,
  EVENT,
  KIND,
  KV_PAGE,
  LIMITS,
  PAGE_RECORD_BYTES,
  RESIDENCY,
  SESSION_KIND,
  SIG,
  SessionEvent,
  SessionOptions,
  utf8Decode,
} from '../../kernel/abi/index.ts';
import type { Sys } from '../../kernel/abi/index.ts';
import { toBase64 } from '../../trust/index.ts';
import { adapterOptions, adaptersJson, adaptersText, chooseAdapters, readAdapters } from '../lib/adapters.ts';
import { audit, auditTakes, auditUsage } from '../lib/audit.ts';
import { auditVerbOptions } from '../lib/audit-machine.ts';
import { exp } from '../lib/exp.ts';
import { join, listDirectory, readText, stat } from '../lib/files.ts';
import { humanSize, jsonLine, table, times } from '../lib/fmt.ts';
import type { Json } from '../lib/fmt.ts';
import {
  choiceOf,
  defaultChoice,
  failAbout,
  grouped,
  idBytes,
  idsOf,
  isTerminal,
  kvName,
  llmStats,
  loadChoice,
  loadModel,
  loadSizes,
  loadedFile,
  loadedModel,
  modelId,
  modelPath,
  openText,
  parseIds,
  planJson,
  planModel,
  planRegions,
  textSourceError,
  wrong,
} from '../lib/model.ts';
import type { LoadChoice, Model, Plan } from '../lib/model.ts';
import { diffModels } from '../lib/model-diff.ts';
import { define, lastError, signalStatus } from '../lib/program.ts';
import type { Context } from '../lib/program.ts';
import { optionsFor } from '../lib/getopt.ts';
import { attention, insideOptions, lens, probs } from '../lib/inside.ts';
import { checkMix, mixJson, mixText, parseMix } from '../lib/mix.ts';
import type { Group } from '../lib/mix.ts';
import { disk, diskOptions, diskTakes } from '../lib/disk-verb.ts';
import {
  attest,
  attestOptions,
  attestTakes,
  hash,
  packageOptions,
  sign,
  signTakes,
  verify,
  verifyTakes,
} from '../lib/packages.ts';
import { profile } from '../lib/profile.ts';
import { prelink } from '../lib/prelink.ts';
import { quantize, quantizeOptions } from '../lib/quantize.ts';
import {
  key,
  list,
  policy,
  query,
  register,
  registerTakes,
  registryOptions,
  rollback,
  swap,
  swapTakes,
  unregister,
} from '../lib/registry.ts';
import { requestOptions as sessionOptions } from '../lib/request.ts';
import {
  diskModels,
  pinnedOf,
  speedJson,
  speedOf,
  speedText,
  statusText,
  streamFigures,
  streamJson,
  streamingText,
} from '../lib/speed.ts';
import type { Speed } from '../lib/speed.ts';
import { cancel, poll, sessions, submit, summary } from '../lib/session-verbs.ts';
import { faultText, finishOf, lastReport, logitsText, nextEvent, reportOf } from '../lib/sessions.ts';
import type { Report } from '../lib/sessions.ts';
import { budget, budgetTakes, quota, quotaOptions, quotaTakes } from '../lib/quota.ts';
import { rights } from '../lib/rights.ts';
import {
  callSched,
  detJson,
  detLine,
  pace,
  paceTakes,
  sched,
  schedOptions,
  schedTakes,
  segmentText,
} from '../lib/sched.ts';
import { CHUNK_BYTES, concat, readAll } from '../lib/stdio.ts';
import { pinSize, streamingOptions } from '../lib/streaming.ts';
import { trace, traceOptions } from '../lib/trace.ts';
import { runVerb } from '../lib/verbs.ts';
import { targets } from '../lib/forecast.ts';
import { planCost, requestOptions, target, wcet, wcetOptions } from '../lib/wcet.ts';

const options = {
  ...optionsFor('submit', sessionOptions),
  ...optionsFor('submit, perplexity', adapterOptions),
  json: { help: 'print one JSON object on one line' },
  ctx: { value: 'N', help: "load, plan, wcet: context length in tokens (default: the model's, 512, or what fits)" },
  kv: {
    value: 'TYPE',
    help: 'load, plan, wcet: type of the key-value cache, f16 (default), f32, q8_0 or q4_0; quota: bytes of it at any time',
  },
  batch: {
    value: 'N',
    help: 'load, plan: rows of a pass over the weights, 1 to 32 (default: 8, or 32 where weights stream, or fewer); sched: sessions in one pass at most; 0: as many as it has rows',
  },
  sessions: {
    value: 'N',
    help: 'load, plan: sessions that run at once, 1 to 32 (default: 32, or fewer); quota: sessions at any time',
  },
  pages: {
    value: 'N',
    help: `load, plan: pages of ${KV_PAGE} positions for keys and values (default: a whole context, and three quarters of what is left, a quarter where weights stream)`,
  },
  mix: {
    value: 'MIX',
    help: 'plan: whether these sessions fit at once, each SESSIONSxPROMPT+GENERATED tokens, as "8x64+64 2x300+100"',
  },
  ...streamingOptions,
  ops: { help: "plan: the loaded model's plan, op by op" },
  ...traceOptions,
  vocab: { value: 'FILE', help: "tokenize: with FILE's vocabulary instead of the loaded model's" },
  bos: { help: 'tokenize: put the BOS token first' },
  special: { help: 'tokenize, submit: parse special tokens in the text; detokenize: print them' },
  pieces: { short: 'v', help: 'tokenize: a line per token, its id and its bytes' },
  file: { short: 'f', value: 'FILE', help: 'tokenize, submit, audit replay: the exact bytes of FILE' },
  ...quantizeOptions,
  ...wcetOptions,
  target: { ...wcetOptions.target, help: "wcet, plan: on that processor instead of the machine's" },
  disk: { value: 'D', help: "plan: with weights from that kind of storage instead of the file's own disk" },
  all: {
    help: 'plan: how fast it would go on each processor with each kind of storage; audit replay: every request of the log',
  },
  ...quotaOptions,
  ...schedOptions,
  ...diskOptions,
  ...packageOptions,
  ...registryOptions,
  ...attestOptions,
  ...auditVerbOptions,
  ...insideOptions,
  last: { value: 'N', help: `${insideOptions.last.help}; ${auditVerbOptions.last.help}` },
  key: {
    value: 'KEY',
    help: `${packageOptions.key.help}; ${auditVerbOptions.key.help}`,
  },
  period: {
    value: 'MS',
    help: 'budget: the period in milliseconds; submit: run in a server with a budget of cycles every MS milliseconds',
  },
} as const;

type Ctx = Context<typeof options>;
type OptionName = keyof typeof options;
const ownOptions = Object.keys(options).filter(option => option !== 'json');
type Run = Generator<void, number, void>;

interface Verb {
  readonly usage: string;
  /** Options it takes, beside --json. */
  readonly takes: readonly OptionName[];
  /** How many operands it takes after its name. */
  readonly operands: readonly [least: number, most: number];
  run(ctx: Ctx, operands: readonly string[]): Run;
}

const loadUsage =
  '[--ctx N] [--kv TYPE] [--batch N] [--sessions N] [--pages N] [--stream[=WHEN]] [--tile SIZE] [--buffers N] [--pin SIZE] [--draws N]';
const loadTakes: readonly OptionName[] = ['ctx', 'kv', ...loadSizes];

const verbs: Readonly<Record<string, Verb>> = {
  load: { usage: `FILE ${loadUsage}`, takes: loadTakes, operands: [1, 1], run: load },
  unload: { usage: '', takes: [], operands: [0, 0], run: unload },
  pin: { usage: '[SIZE|auto]', takes: [], operands: [0, 1], run: pin },
  status: { usage: '', takes: [], operands: [0, 0], run: status },
  info: { usage: '', takes: [], operands: [0, 0], run: info },
  plan: {
    usage: `[FILE] ${loadUsage} [--mix MIX|--ops|--cost [--prompt N] [--gen N] [--target T] [SAMPLING]|[--target T] [--disk D] [--all]]`,
    takes: [...loadTakes, 'mix', 'ops', 'cost', 'disk', 'all', ...requestOptions],
    operands: [0, 1],
    run: plan,
  },
  wcet: {
    usage:
      '[--model M] [--ctx N] [--kv TYPE] [--prompt N] [--gen N] [--target T] [SAMPLING] [--html FILE|--check BUDGET]',
    takes: ['model', 'ctx', 'kv', 'html', 'check', ...requestOptions],
    operands: [0, 0],
    run: wcet,
  },
  target: { usage: '[NAME]', takes: [], operands: [0, 1], run: target },
  trace: { usage: 'FILE [--format FORMAT]', takes: ['format'], operands: [1, 1], run: trace },
  backend: { usage: '[transformer|stub|stub:word]', takes: [], operands: [0, 1], run: backend },
  tokenize: {
    usage: 'TEXT...|-|--file FILE [--vocab FILE] [--bos] [--special] [--pieces]',
    takes: ['vocab', 'bos', 'special', 'pieces', 'file'],
    operands: [0, Infinity],
    run: tokenize,
  },
  detokenize: { usage: 'ID...|- [--special]', takes: ['special'], operands: [1, Infinity], run: detokenize },
  perplexity: { usage: 'FILE|- [--adapter NAME[:X]]...', takes: ['adapter'], operands: [1, 1], run: perplexity },
  quantize: { usage: 'IN OUT TYPE [--requantize]', takes: ['requantize'], operands: [3, 3], run: quantize },
  prelink: { usage: 'FILE [OUT]', takes: [], operands: [1, 2], run: prelink },
  diff: { usage: 'FILE FILE', takes: [], operands: [2, 2], run: diffModels },
  submit: {
    usage: 'PROMPT...|-|--file FILE [DRAWING] [PROMISE]',
    takes: ['file', 'special', ...(Object.keys(sessionOptions) as (keyof typeof sessionOptions)[])],
    operands: [0, Infinity],
    run: submit,
  },
  poll: { usage: '[ID [MAX]]', takes: [], operands: [0, 2], run: poll },
  cancel: { usage: '[ID]', takes: [], operands: [0, 1], run: cancel },
  sessions: { usage: '', takes: [], operands: [0, 0], run: sessions },
  summary: { usage: '', takes: [], operands: [0, 0], run: summary },
  profile: { usage: '[ID]', takes: [], operands: [0, 1], run: profile },
  probs: { usage: '[ID] [--top N] [--at POS]', takes: ['top', 'at'], operands: [0, 1], run: probs },
  attention: {
    usage: '[ID] [--layer L] [--head H] [--at POS]',
    takes: ['layer', 'head', 'at'],
    operands: [0, 1],
    run: attention,
  },
  lens: { usage: '[ID] [--top N] [--at POS|--last N]', takes: ['top', 'at', 'last'], operands: [0, 1], run: lens },
  budget: {
    usage: '[--wcet-cycles N] [--period-ns N|--period MS] [--max-tokens-per-period N]',
    takes: budgetTakes,
    operands: [0, 0],
    run: budget,
  },
  quota: {
    usage: '[USER] [--tokens N] [--cycles N] [--kv BYTES] [--sessions N]',
    takes: quotaTakes,
    operands: [0, 1],
    run: quota,
  },
  rights: { usage: '[list|test USER RIGHT PATH]', takes: [], operands: [0, 4], run: rights },
  sched: {
    usage: '[--policy edf|fp|rr] [--bound PPM] [--segment-max CYCLES|TIMEms] [--batch N]',
    takes: schedTakes,
    operands: [0, 0],
    run: sched,
  },
  pace: { usage: '[--scale PCT] [auto on|off|status]', takes: paceTakes, operands: [0, 2], run: pace },
  disk: {
    usage: '[NAME] [--model M] [--retries N] [--fault FAULT]... [--heal]',
    takes: diskTakes,
    operands: [0, 1],
    run: disk,
  },
  audit: { usage: auditUsage, takes: auditTakes, operands: [0, Infinity], run: audit },
  models: { usage: '[DIRECTORY]', takes: [], operands: [0, 1], run: models },
  hash: { usage: '[FILE]', takes: [], operands: [0, 1], run: hash },
  sign: {
    usage: '[FILE] [--key FILE [--id N] [--rev N] | --key FILE --oms]',
    takes: signTakes,
    operands: [0, 1],
    run: sign,
  },
  verify: { usage: '[FILE] [--key FILE] [--oms]', takes: verifyTakes, operands: [0, 1], run: verify },
  key: { usage: '[add FILE [NAME]|remove NAME]', takes: [], operands: [0, 3], run: key },
  policy: { usage: '[off|warn|enforce]', takes: [], operands: [0, 1], run: policy },
  register: { usage: 'FILE [--grant WORDS] [--ctx N] [--id N]', takes: registerTakes, operands: [1, 1], run: register },
  unregister: { usage: 'ID', takes: [], operands: [1, 1], run: unregister },
  list: { usage: '', takes: [], operands: [0, 0], run: list },
  query: { usage: 'ID', takes: ['id'], operands: [0, 1], run: query },
  swap: { usage: '[--from ID] --to ID [--ctx N] [--kv TYPE]', takes: swapTakes, operands: [0, 1], run: swap },
  rollback: { usage: '[--to ID]', takes: ['to'], operands: [0, 0], run: rollback },
  attest: { usage: '[--nonce TEXT]', takes: attestTakes, operands: [0, 0], run: attest },
};

export const llmctl = define({
  name: 'llmctl',
  summary: 'load, plan, inspect and measure models',
  usage: Object.entries(verbs).map(([name, verb]) => `${name} ${verb.usage}`.trimEnd()),
  description: [
    'A FILE is a path, or a name in /models: fable-f16 is /models/fable-f16.gguf.',
    '',
    '  load        put a model into the arena in place of the one there; a refusal changes nothing',
    '  unload      give the model region back',
    '  pin         what of a model whose weights stream stays in the arena; with SIZE load it again with so many bytes of it, with auto as many as fit',
    '  status      engine, model, sessions, arena; what servers have of the processor, and the longest segment that nothing can interrupt',
    '  info        all that is known of the loaded model',
    '  plan        what loading would take, region by region, allocating nothing; exit status 1 when it does not fit, with what would. With --mix whether sessions of these lengths have room in it at once, page by page',
    '  wcet        what a request takes at most and at least before it runs, in cycles, time and bytes, and whether goals are met',
    '  target      the simulated processors, or switch to another',
    '  trace       write what the kernel did last to FILE, for the Perfetto viewer or, with --format ctf, for babeltrace2; print how many events of which kind. Others than the superuser get those of their own sessions that are still there, and of none',
    '  backend     show the engine, or switch it',
    '  tokenize    token ids of TEXT (words joined by one space), standard input, or a file',
    '  detokenize  the bytes of the text that token ids stand for',
    '  perplexity  e to the mean loss per token over a text, cut into chunks of context - 1 tokens',
    '  quantize    write model IN to the file OUT with weights of TYPE: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, F16, BF16 or F32. What comes out is what llama.cpp writes with --pure. Norms and biases stay as they are, rows that are no multiple of 32 become F16. OUT appears when it is whole',
    '  prelink     write model FILE to OUT (FILE.prelinked.gguf) as the kernels read it: tensors in the order of execution, rows of Q4_0, Q4_1 and Q8_0 in groups of four, every scale looked at. It answers as FILE does, loads without being laid out, and streams faster. OUT appears when it is whole',
    '  diff        how metadata and tensors of two models differ, values compared as f32',
    '  submit      leave a prompt to run as a session of its own, and print its id',
    '  poll        what a session of yours has said since the last poll, MAX tokens at most (4); ID may be last, the newest of yours; never waits. With the last of one that faulted comes the reason',
    '  cancel      end a session at its next token; forget one that has ended',
    '  sessions    your sessions, or those of all for the superuser: how far they are, and what each is promised',
    "  summary     the same in the specification's words",
    '  profile     where the time of a session went: queue, prompt, tokens, sampler, swapping, waiting; what sharing passes has saved',
    '  probs       what the next token could have been: its chances in the model, and behind each stage of the sampler',
    '  attention   how a head of a layer weighed the positions of a step',
    '  lens        what each layer would have said had it been the last (the logit lens)',
    '  budget      tokens that the whole machine may draw in a period, whoever asks; a period begins with its first use. A request that is no stream is refused whole, a stream is cut short',
    "  quota       what a user may take: tokens and cycles in an hour of the machine's date, bytes of KV pages and sessions at any time. USER '*' stands for everybody without limits of their own; root has none unless they are set. Without USER: one's own, and everybody's for root",
    '  rights      who may load, run and read which models and manage the machine, a rule a line; with test whether USER has RIGHT (load, run, read, manage) to the model at PATH, and the line that decides; exit status 1 when not. Rights are explained in rights(7): man rights',
    '  sched       how sessions are served: the policy, the share of servers, the longest pass, sessions in one pass',
    '  pace        how long a paced session waits between two tokens: a percentage of what a token may take; auto: up 10 after a miss or with a queue, else down 5',
    '  disk        the disks, how long they take and what they have done; with the right to manage it: another kind of storage, other retries, faults. Kinds and faults are explained in disk(7): man disk',
    '  models      the models in /models and whether they fit',
    '  hash        SHA-256 of a model file; without FILE, here and for sign and verify, of the loaded one',
    '  sign        write the package FILE.sis of a model with an Ed25519 key, or with --oms the OpenSSF Model Signing bundle FILE.sig with a P-256 key; without --key print the signature that is there',
    '  verify      whether the package or bundle beside a model holds, under a trusted key or --key; exit status 1 when it does not',
    '  key         the public keys that the machine trusts; for the superuser: trust another, or one no more',
    '  policy      what happens to models that nobody vouches for: off (nothing is looked at), warn (it is said), enforce (they are refused)',
    '  register    for the superuser: register a model whose package holds, and grant it permissions: what it may be used for',
    '  unregister  forget a registered model',
    '  list        the registered models',
    '  query       all that is known of one of them',
    '  swap        load a registered model in place of the one loaded, which stays when anything fails',
    '  rollback    load again, as it was, the model before the one loaded',
    '  attest      a signed statement of what this machine is and runs: an in-toto Statement in a DSSE envelope under the key of the audit log',
    '  audit       the log of what the machine was asked and did: its records, proofs of them, copies that others check, witnesses. The verbs are explained in audit(7): man audit',
    '',
    'DRAWING, PROMISE: the options of llminfer; sessions are explained in sessions(7): man sessions. Looks into a step are explained in inside(7): man inside. Packages, keys and permissions are explained in trust(7): man trust. SAMPLING stands for --temp, --top-k, --top-p, --min-p and --repeat-penalty as in llminfer. Bounds are explained in wcet(7): man wcet.',
    '',
    'The keys of every --json form are in json(7): man json.',
    '',
    'Exit status: 0, 1 for an error, a model that does not fit or, of poll, a session that faulted, 2 for a wrong command line, 130 after Ctrl-C. Of wcet: 1 when a limit of --check is exceeded, 2 when there is no answer. Of diff, and of audit diff: 0 when nothing differs, 1 when something does, 2 for an error.',
  ].join('\n'),
  options,
  usageStatus: 2,
  examples: [
    ['llmctl plan fable-f32 --ctx 512 --kv f32', 'does it fit, and what would?'],
    ['llmctl wcet --prompt 100 --target sifive-u74', 'how long would 100 tokens and an answer take there?'],
    ['llmctl trace /tmp/t.pftrace', 'the last passes, steps and tokens, to be looked at in ui.perfetto.dev'],
    ['llmctl load fable-f16', 'load /models/fable-f16.gguf'],
    ['llmctl tokenize -v "Once upon a time"', 'how the text is cut'],
    ['llmctl quantize fable-f16 /tmp/fable.gguf Q5_1', 'the same model at 6 bits a weight'],
    ['llmctl prelink fable-q4_0 /tmp/fable.gguf', 'the same model, as the kernels read it'],
    ['llmctl diff fable-f16 fable-q4_0', 'what quantizing has done to each tensor'],
    ['llmctl verify fable-f16', 'is the file what its maker signed?'],
    ['llmctl attest --nonce "$RANDOM"', 'what this machine runs, to be checked elsewhere'],
    ['llmctl quota user --tokens 500', 'give user 500 tokens an hour'],
    ['llmctl budget --period 1000 --max-tokens-per-period 8', 'draw at most 8 tokens a second'],
    ['llmctl rights test user load /models/fable-f16.gguf', 'may user load it, and what says so?'],
    ['llmctl audit list --status refused --last 5', 'the last five requests that were refused'],
    ['llmctl perplexity /usr/share/labs/budget.md', 'how surprised the model is'],
  ],
  main: function* (ctx) {
    const [name, ...operands] = ctx.operands;
    if (name === undefined) return yield* ctx.usage('missing command');
    if (!Object.hasOwn(verbs, name)) return yield* ctx.usage(`unknown command '${name}'`);
    return yield* runVerb(ctx, name, verbs[name]!, ownOptions, operands);
  },
});

// ── The model region ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

function* load(ctx: Ctx, [name]: readonly string[]): Run {
  const choice = loadChoice(ctx.options);
  if (typeof choice === 'string') return yield* wrong(ctx, choice);
  return yield* loadFile(ctx, yield* modelPath(ctx.sys, name!), choice);
}

function* loadFile(ctx: Ctx, path: string, choice: LoadChoice): Run {
  const { sys, out } = ctx;
  const result = yield* loadModel(sys, path, choice);
  if (result < 0) return yield* failAbout(ctx, path, result);
  const planned = yield* planModel(sys, '', choice);
  if (typeof planned === 'number') return yield* failAbout(ctx, path, planned);
  const model = yield* loadedModel(sys);
  if (typeof model === 'number') return yield* failAbout(ctx, path, model);
  if (ctx.options.json)
    yield* out.print(jsonLine({ model: model.name, path: model.path, ...planJson(planned), digest: model.digest }));
  else {
    yield* out.print(`${headline(model)}\n`);
    const regions = regionsOf(planned).map(region => `${region} ${grouped(planned[region])}`);
    yield* out.print(streamingText(planned));
    yield* out.print(
      `context ${model.ctx} ${kvName(model.kvType)}, ${model.sessions} sessions, ${model.pages} pages; ${regions.join(' + ')} = ${grouped(planned.total)} of ${grouped(planned.capacity)} bytes\n`,
    );
  }
  return 0;
}

const headline = (model: Model): string =>
  `loaded ${model.name}: ${model.architecture}, ${grouped(model.parameters)} parameters, ${model.types}`;

/** Loads the model again with so much of it pinned, or lists what is. */
function* pin(ctx: Ctx, [size]: readonly string[]): Run {
  const { sys, out } = ctx;
  const model = yield* loadedModel(sys);
  if (typeof model === 'number') return yield* failAbout(ctx, '', model);
  if (size !== undefined) {
    const pinBytes = pinSize(size);
    if (pinBytes === null) return yield* wrong(ctx, `'${size}' is not auto, nor a size up to ${LIMITS.arenaBytes}`);
    if (model.path === '') return yield* ctx.fail('the loaded engine has no file: it has no weights to pin');
    return yield* loadFile(ctx, model.path, { ...choiceOf(model), stream: RESIDENCY.streamed, pinBytes });
  }
  const rows = yield* opRows(sys);
  if (typeof rows === 'number') return yield* failAbout(ctx, '', rows);
  const pinned = model.tileBytes === 0 ? [] : pinnedOf(rows);
  if (ctx.options.json)
    yield* out.print(
      jsonLine({ streams: model.tileBytes > 0, pinned_bytes: model.pinned, streamed_bytes: model.streamed, pinned }),
    );
  else {
    yield* out.print(
      model.tileBytes === 0
        ? 'nothing streams: all weights are in the arena\n'
        : `${grouped(model.pinned)} bytes are pinned, ${grouped(model.streamed)} are streamed for a token\n`,
    );
    yield* out.print(
      table(
        pinned.map(m => [m.name, grouped(m.bytes)]),
        [false, true],
      ),
    );
  }
  return 0;
}

function* unload(ctx: Ctx): Run {
  const result = yield* ctx.sys.model_unload();
  if (result < 0) return yield* failAbout(ctx, '', result);
  if (ctx.options.json) yield* ctx.out.print(jsonLine({ unloaded: true }));
  return 0;
}

function* status(ctx: Ctx): Run {
  const { sys, out } = ctx;
  const engine = yield* engineName(sys);
  const loaded = yield* loadedModel(sys);
  const model = typeof loaded === 'number' ? null : loaded;
  const stats = yield* llmStats(sys);
  if (typeof stats === 'number') return yield* failAbout(ctx, '', stats);
  const arena = yield* arenaTotal(sys);
  const { hz } = yield* times(sys);
  const served = yield* callSched(sys, null);
  if (typeof served === 'number') return yield* failAbout(ctx, '', served);
  const streamed = yield* streamFigures(sys);
  const adapters = yield* readAdapters(sys);
  if (ctx.options.json) {
    yield* out.print(
      jsonLine({
        engine,
        model: model === null ? null : modelId(model),
        prelinked_from: model === null || model.source === '' ? null : model.source,
        ctx: model === null ? null : model.ctx,
        kv_type: model === null ? null : kvName(model.kvType),
        sessions_active: stats.sessionsActive,
        sessions_queued: stats.queueDepth,
        arena_used_bytes: arena.used,
        arena_peak_bytes: arena.peak,
        capacity_bytes: arena.capacity,
        ...detJson(served),
        stream: streamed === null ? null : streamJson(streamed),
        adapters: adaptersJson(adapters),
      }),
    );
    return 0;
  }
  yield* out.print(
    table([
      ['engine', engine],
      ['model', model === null ? 'none' : `${model.name} ${model.path}`.trimEnd()],
      ...(model === null || model.source === '' ? [] : [['prelinked', `from ${model.source}`]]),
      ...(model === null ? [] : [['context', `${model.ctx} tokens, ${kvName(model.kvType)}`]]),
      ...(adapters.length === 0 ? [] : [['adapters', adaptersText(adapters)]]),
      ...(streamed === null ? [] : [['streams', `${grouped(streamed.reads)} tiles, ${statusText(streamed, hz)}`]]),
      ['sessions', `${stats.sessionsActive} active, ${stats.queueDepth} queued`],
      ['arena', `${grouped(arena.used)} of ${grouped(arena.capacity)} bytes used, ${grouped(arena.peak)} at peak`],
      ['segment', segmentText(served, hz)],
    ]),
  );
  yield* out.print(detLine(served));
  return 0;
}

function* info(ctx: Ctx): Run {
  const model = yield* loadedModel(ctx.sys);
  if (typeof model === 'number') return yield* failAbout(ctx, '', model);
  const facts: Record<string, Json> = {
    model: model.name,
    path: model.path,
    engine: model.engine,
    architecture: model.architecture,
    parameters: model.parameters,
    types: model.types,
    layers: model.layers,
    embedding: model.embedding,
    heads: model.heads,
    heads_kv: model.headsKv,
    feed_forward: model.feedForward,
    context_trained: model.contextTrained,
    ctx: model.ctx,
    kv_type: kvName(model.kvType),
    batch: model.batch,
    sessions: model.sessions,
    pages: model.pages,
    draws: model.draws,
    tile_bytes: model.tileBytes,
    buffers: model.buffers,
    tiles: model.tiles,
    streamed_bytes: model.streamed,
    pinned_bytes: model.pinned,
    tokenizer: model.tokenizer,
    vocabulary: model.vocabulary,
    bos: model.bos < 0 ? null : model.bos,
    eos: model.eos < 0 ? null : model.eos,
    add_bos: model.addBos !== 0,
    tensors: model.tensors,
    file_bytes: model.fileBytes,
    digest: model.digest,
    prelinked_from: model.source === '' ? null : model.source,
  };
  if (ctx.options.json) yield* ctx.out.print(jsonLine(facts));
  else
    yield* ctx.out.print(table(Object.entries(facts).map(([key, value]) => [key.replaceAll('_', ' '), shown(value)])));
  return 0;
}

const shown = (value: Json): string =>
  value === null ? 'none' : typeof value === 'number' ? grouped(value) : String(value);

function* backend(ctx: Ctx, [name = '']: readonly string[]): Run {
  if (name !== '') {
    const result = yield* ctx.sys.backend(name, new Uint8Array(64));
    if (result < 0) return yield* failAbout(ctx, '', result);
  }
  const engine = yield* engineName(ctx.sys);
  const model = yield* loadedModel(ctx.sys);
  const id = typeof model === 'number' ? null : modelId(model);
  yield* ctx.out.print(
    ctx.options.json ? jsonLine({ engine, model: id }) : `${engine}${id === null ? '' : ` ${id}`}\n`,
  );
  return 0;
}

function* engineName(sys: Sys): Generator<void, string, void> {
  const text = new Uint8Array(64);
  const bytes = yield* sys.backend('', text);
  return utf8Decode(text, 0, Math.max(0, bytes));
}

/** The arena's totals as /proc/arena prints them: `total start end bytes used peak`. */
function* arenaTotal(sys: Sys): Generator<void, { capacity: number; used: number; peak: number }, void> {
  const text = yield* readText(sys, '/proc/arena');
  const line = typeof text === 'number' ? '' : (text.split('\n').find(l => l.startsWith('total ')) ?? '');
  const [, , , capacity = 0, used = 0, peak = 0] = line.split(' ').map(Number);
  return { capacity, used, peak };
}

// ── Planning ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function* plan(ctx: Ctx, [name]: readonly string[]): Run {
  const { sys, out } = ctx;
  const choice = loadChoice(ctx.options);
  if (typeof choice === 'string') return yield* wrong(ctx, choice);
  const groups = ctx.options.mix === undefined ? null : parseMix(ctx.options.mix);
  if (typeof groups === 'string') return yield* wrong(ctx, groups);
  if (groups !== null && (ctx.options.ops || ctx.options.cost))
    return yield* ctx.usage('plan: --mix excludes --ops and --cost');
  if (ctx.options.cost && ctx.options.ops) return yield* ctx.usage('plan: --ops and --cost exclude each other');
  if (ctx.options.cost) {
    const size = loadSizes.find(option => ctx.options[option] !== undefined);
    if (size !== undefined) return yield* ctx.usage(`plan takes --${size} only without --cost`);
    if (ctx.options.disk !== undefined || ctx.options.all)
      return yield* ctx.usage('plan takes --disk and --all only without --cost');
    return yield* planCost(ctx, name);
  }
  const stray = requestOptions.find(option => option !== 'target' && ctx.options[option] !== undefined);
  if (stray !== undefined) return yield* ctx.usage(`plan takes --${stray} only with --cost`);
  const asksSpeed = ctx.options.target !== undefined || ctx.options.disk !== undefined || ctx.options.all;
  if (asksSpeed && (groups !== null || ctx.options.ops))
    return yield* ctx.usage('plan: --target, --disk and --all exclude --mix and --ops');
  if (ctx.options.ops) {
    if (name !== undefined) return yield* ctx.usage('plan --ops shows the loaded model and takes no FILE');
    return yield* ops(ctx);
  }
  const file =
    name === undefined ? yield* loadedFile(sys, ctx.options, choice) : { path: yield* modelPath(sys, name), choice };
  if (typeof file === 'number') return yield* failAbout(ctx, '', file);
  if (file.path === '') return yield* ctx.fail('the loaded engine has no file to plan');
  const planned = yield* planModel(sys, file.path, file.choice);
  if (typeof planned === 'number') return yield* failAbout(ctx, file.path, planned);
  const fits = planned.fits !== 0;
  if (fits && groups !== null) return yield* planMix(ctx, file.path, planned, groups);
  const speeds = fits && (asksSpeed || planned.tileBytes > 0) ? yield* speedsOf(ctx, file.path, file.choice) : [];
  if (typeof speeds === 'number') return speeds;
  if (ctx.options.json) {
    const misfit = {
      over_bytes: planned.total - planned.capacity,
      would_fit: { ctx: planned.ctxThatFits || null, type: planned.typeThatFits || null },
      message: planned.message,
    };
    const told = speeds.length === 0 ? {} : { speeds: speeds.map(speedJson) };
    yield* out.print(jsonLine({ file: file.path, fits, ...planJson(planned), ...told, ...(fits ? {} : misfit) }));
  } else yield* out.print(planText(file.path, planned) + (speeds.length === 0 ? '' : `\n${speedText(speeds)}`));
  return fits ? 0 : 1;
}

/** How fast it would go: where --target and --disk say, everywhere with --all; or an exit status, after a message. */
function* speedsOf(ctx: Ctx, path: string, choice: LoadChoice): Generator<void, readonly Speed[] | number, void> {
  const { sys, options } = ctx;
  const targets = options.target === undefined && options.all ? yield* targetNames(sys) : [options.target ?? ''];
  const disks = options.disk === undefined && options.all ? yield* diskModels(sys) : [options.disk ?? ''];
  if (typeof disks === 'number') return yield* ctx.fail('/proc/diskmodels', -disks);
  const speeds: Speed[] = [];
  for (const target of targets)
    for (const disk of disks) {
      const speed = yield* speedOf(sys, path, choice, { target, disk });
      if (typeof speed === 'number') return yield* failAbout(ctx, path, speed);
      speeds.push(speed);
      if (speed.transfers === 0) break; // nothing streams: the disk does not matter
    }
  return speeds;
}

function* targetNames(sys: Sys): Generator<void, readonly string[], void> {
  const known = yield* targets(sys);
  return typeof known === 'number' ? [''] : known.map(t => t.name);
}

/** Whether sessions of these lengths fit at once: 1 when they do not. */
function* planMix({ sys, out, options }: Ctx, path: string, planned: Plan, groups: readonly Group[]): Run {
  const mix = yield* checkMix(sys, path, planned, groups);
  yield* out.print(
    options.json
      ? jsonLine({ file: path, fits: true, ...planJson(planned), ...mixJson(mix) })
      : mixText(path, planned, mix),
  );
  return mix.reasons.length === 0 ? 0 : 1;
}

const BAR_WIDTH = 64; // columns: 128 KiB each

/** Regions with bytes and share, a bar to scale, the verdict. */
function planText(path: string, planned: Plan): string {
  const share = (bytes: number): string => `${((bytes / planned.capacity) * 100).toFixed(1)} %`;
  const notes: Partial<Record<string, string>> = {
    fixed: 'the machine itself',
    weights: `${grouped(planned.parameters)} parameters`,
    kv: `${grouped(planned.pages)} pages × (${grouped(planned.pageBytes)} + ${PAGE_RECORD_BYTES}) B, ${kvName(planned.kvType)}`,
    stream: `${planned.buffers} buffers of up to ${grouped(planned.tileBytes)} B`,
    scratch: `${planned.batch} ${planned.batch === 1 ? 'row' : 'rows'} a pass`,
    session: `${planned.sessions} ${planned.sessions === 1 ? 'slot' : 'slots'} × ${grouped(planned.slotBytes)} B`,
  };
  const rows = regionsOf(planned).map(region => [
    region,
    grouped(planned[region]),
    share(planned[region]),
    notes[region] ?? '',
  ]);
  rows.push(['total', grouped(planned.total), share(planned.total), `of ${grouped(planned.capacity)}`]);
  const verdict =
    planned.fits !== 0
      ? `fits: ${grouped(planned.capacity - planned.total)} bytes to spare at context ${planned.ctx}\n${streamingText(planned)}${mixes(planned)}`
      : `does not fit: ${planned.message}`;
  return `${path}\n${table(rows, [false, true, true])}${bar(planned)}\n${verdict}\n`;
}

/** Adapters only where there are any, buffers of weights only where weights stream. */
const regionsOf = (planned: Plan): readonly (typeof planRegions)[number][] =>
  planRegions.filter(region => (region !== 'stream' && region !== 'adapters') || planned[region] > 0);

/** What may run at once: any sessions whose contexts, in whole pages, are no more pages than there are. */
function mixes({ ctx, sessions, pages }: Plan): string {
  const whole = Math.min(sessions, Math.floor(pages / Math.ceil(ctx / KV_PAGE)));
  const most = Math.min(sessions, pages);
  const each = Math.min(ctx, KV_PAGE * Math.floor(pages / most));
  const alike = most > whole ? `, or ${most} of ${grouped(each)}` : '';
  return `at once: ${whole} ${whole === 1 ? 'session' : 'sessions'} of ${grouped(ctx)} tokens${alike}; any whose pages of ${KV_PAGE} tokens are at most ${grouped(pages)}`;
}

/** The arena to scale, a letter per region; what does not fit stands after the closing bracket. */
function bar(planned: Plan): string {
  let text = '';
  let sum = 0;
  const letters: Record<(typeof planRegions)[number], string> = {
    fixed: '#',
    weights: 'W',
    adapters: 'A',
    stream: 'S',
    tensors: 't',
    vocabulary: 'V',
    kv: 'K',
    scratch: 's',
    plan: 'p',
    session: 'h',
  };
  for (const region of planRegions) {
    sum += planned[region];
    const columns = Math.ceil((sum / planned.capacity) * BAR_WIDTH);
    text += letters[region].repeat(Math.max(0, Math.min(columns, 2 * BAR_WIDTH) - text.length));
  }
  return `[${text.slice(0, BAR_WIDTH).padEnd(BAR_WIDTH, '.')}]${text.slice(BAR_WIDTH)}`;
}

function* ops(ctx: Ctx): Run {
  const { sys, out } = ctx;
  const rows = yield* opRows(sys);
  if (typeof rows === 'number') return yield* failAbout(ctx, '', rows);
  if (ctx.options.json)
    yield* out.print(jsonLine({ ops: rows.map(([segment = '', op = '', detail = '']) => ({ segment, op, detail })) }));
  else yield* out.print(table(rows));
  return 0;
}

/** The loaded model's plan: segment, op and detail of each op; or -errno. */
function* opRows(sys: Sys): Generator<void, string[][] | number, void> {
  const pieces: Uint8Array[] = [];
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (let at = 0, n; (n = yield* sys.model_ops(at, buffer)) !== 0; at += n) {
    if (n < 0) return n;
    pieces.push(buffer.slice(0, n));
  }
  const lines = utf8Decode(concat(pieces)).split('\n').slice(0, -1);
  return lines.map(line => line.split('\t'));
}

function* models(ctx: Ctx, [directory = LIMITS.modelsDirectory]: readonly string[]): Run {
  const { sys, out } = ctx;
  const entries = yield* listDirectory(sys, directory);
  if (typeof entries === 'number') return yield* ctx.fail(directory, -entries);
  const found: Json[] = [];
  const rows = [['NAME', 'ARCHITECTURE', 'SIZE', 'PARAMETERS', 'CONTEXT', 'MEMORY', 'FITS', '']];
  for (const entry of entries) {
    const path = join(directory, entry.name);
    const st = yield* stat(sys, path);
    if (!entry.name.endsWith('.gguf') || typeof st === 'number' || st.kind !== KIND.file) continue;
    const planned = yield* planModel(sys, path, defaultChoice);
    const name = entry.name.slice(0, -'.gguf'.length);
    const file = { name, path, file_bytes: st.size };
    if (typeof planned === 'number') {
      const error = yield* lastError(sys, planned);
      found.push({ ...file, fits: false, error });
      rows.push([name, '', humanSize(st.size), '', '', '', 'no', error.replace(`${path}: `, '')]);
    } else {
      const { architecture, parameters, ctx: context, total } = planned;
      const over = planned.fits !== 0 ? '' : `${grouped(total - planned.capacity)} over`;
      found.push({ ...file, architecture, fits: over === '', parameters, ctx: context, total_bytes: total });
      const figures = [humanSize(st.size), grouped(parameters), String(context), grouped(total)];
      const fits = over !== '' ? 'no' : planned.tileBytes > 0 ? 'streams' : 'yes';
      rows.push([name, architecture, ...figures, fits, over]);
    }
  }
  yield* out.print(
    ctx.options.json ? jsonLine({ models: found }) : table(rows, [false, false, true, true, true, true]),
  );
  return 0;
}

// ── Text and tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

function* tokenize(ctx: Ctx, words: readonly string[]): Run {
  const { sys, out } = ctx;
  const { vocab, bos, special, pieces, json } = ctx.options;
  const source = { file: ctx.options.file, words };
  const mistake =
    textSourceError(source, 'TEXT') ??
    (pieces && vocab !== undefined ? "--pieces shows the loaded model's vocabulary; --vocab names another" : null) ??
    (pieces && json ? '--pieces and --json exclude each other' : null);
  if (mistake !== null) return yield* ctx.usage(`tokenize: ${mistake}`);

  const text = yield* openText(ctx, source);
  if (text < 0) return -text;
  const path = vocab === undefined ? '' : yield* modelPath(sys, vocab);
  const flags = (bos ? ENCODE.bos : 0) | (special ? ENCODE.special : 0);
  const fd = yield* sys.tokenize(path, text, flags);
  if (fd < 0) return yield* failAbout(ctx, path, fd);
  const bytes = yield* readAll(sys, fd, Infinity);
  if (typeof bytes === 'number') return yield* ctx.fail('token ids', -bytes);
  const ids = idsOf(bytes);
  if (json) yield* out.print(jsonLine({ tokens: ids }));
  else if (pieces)
    for (const id of ids) yield* out.print(`${String(id).padStart(7)}  ${quoted(yield* bytesOf(sys, [id], true))}\n`);
  else yield* out.print(`${ids.join(' ')}\n`);
  return 0;
}

function* detokenize(ctx: Ctx, operands: readonly string[]): Run {
  const { sys, out } = ctx;
  let text = operands.join(' ');
  if (text === '-') {
    const read = yield* readAll(sys, 0, Infinity);
    if (typeof read === 'number') return yield* ctx.fail('standard input', -read);
    text = utf8Decode(read);
  }
  const ids = parseIds(text);
  if (typeof ids === 'string') return yield* wrong(ctx, ids);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < ids.length; at += idsPerCall) {
    const bytes = yield* bytesOf(sys, ids.slice(at, at + idsPerCall), ctx.options.special);
    if (typeof bytes === 'number') return yield* failAbout(ctx, '', bytes);
    pieces.push(bytes);
  }
  const model = yield* loadedModel(sys);
  const all = concat(pieces);
  const bytes = typeof model !== 'number' && model.spacePrefix !== 0 && all[0] === 0x20 ? all.subarray(1) : all;
  if (ctx.options.json) yield* out.print(jsonLine({ text: utf8Decode(bytes), text_b64: toBase64(bytes) }));
  else yield* out.write(bytes);
  return 0;
}

/** Ids and their bytes share the window: 15 × (4 + 1,024) B < 16 KiB. */
const idsPerCall = Math.floor(LIMITS.windowBytes / (4 + LIMITS.tokenBytes));

/** The bytes that a few ids stand for, or -errno. */
function* bytesOf(sys: Sys, ids: readonly number[], special: boolean): Generator<void, Uint8Array | number, void> {
  const text = new Uint8Array(ids.length * LIMITS.tokenBytes);
  const n = yield* sys.detokenize(idBytes(ids), text, special ? 1 : 0);
  return n < 0 ? n : text.subarray(0, n);
}

/** A token's bytes so that each can be seen: `" time"`, `"\xe2\x96"`. */
function quoted(bytes: Uint8Array | number): string {
  if (typeof bytes === 'number') return '?';
  let text = '';
  for (const byte of bytes) {
    if (byte === 0x0a) text += '\\n';
    else if (byte === 0x22 || byte === 0x5c) text += `\\${String.fromCharCode(byte)}`;
    else text += byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return `"${text}"`;
}

// ── Measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

function* perplexity(ctx: Ctx, [name]: readonly string[]): Run {
  const { sys, out } = ctx;
  const model = yield* loadedModel(sys);
  if (typeof model === 'number') return yield* failAbout(ctx, '', model);
  const text = yield* openText(ctx, name === '-' ? { file: undefined, words: ['-'] } : { file: name, words: [] });
  if (text < 0) return -text;
  const record = new Uint8Array(SessionOptions.bytes);
  // A score session draws nothing: the sampler's values only have to be valid.
  SessionOptions.write(record, 0, { kind: SESSION_KIND.score, temp: 0, topP: 1, repeatPenalty: 1 });
  const unchosen = yield* chooseAdapters(sys, record, ctx.options.adapter);
  if (unchosen !== null) return yield* wrong(ctx, unchosen);
  yield* sys.signal(SIG.INT, 1);
  const session = yield* sys.session_open(record, text);
  if (session < 0) return yield* failAbout(ctx, name!, session);
  const report = yield* scoreReport(ctx, session);
  if (typeof report === 'number') return report;
  yield* sys.session_close(session);
  const finish = finishOf(report);
  if (finish === 'cancel') return signalStatus(SIG.INT);
  if (finish === 'fault') return yield* ctx.fail(faultText(report, `${name}: `));
  const { scored, nll } = report;
  if (scored === 0) return yield* ctx.fail(`${name}: a single token: nothing to score`);
  if (ctx.options.json)
    yield* out.print(jsonLine({ tokens: scored, nll, perplexity: exp(nll), logits_sum: logitsText(report) }));
  else
    yield* out.print(
      `perplexity ${exp(nll).toFixed(4)} over ${grouped(scored)} tokens (${nll.toFixed(4)} nats a token)\n`,
    );
  return 0;
}

/** Reads a score session to its end; a person sees how far it is after each chunk. Its report, or an exit status. */
function* scoreReport(ctx: Ctx, session: number): Generator<void, Report | number, void> {
  const { sys, err } = ctx;
  const buffer = new Uint8Array(SessionEvent.bytes);
  const watched = yield* isTerminal(sys, 2);
  for (let event; (event = yield* nextEvent(sys, session, buffer)) !== null;) {
    const report = watched && event.kind === EVENT.progress ? yield* reportOf(sys, session) : 0;
    if (typeof report !== 'number')
      yield* err.print(`\r ${grouped(report.scored)} tokens, perplexity ${exp(report.nll).toFixed(2)} `);
  }
  if (watched) yield* err.print('\n');
  return yield* lastReport(ctx, session);
}
