// The library's face of the model: prompts in, text and figures out, through the machine's own shell, so that a program of the host gets what
// a person at the prompt gets, quotas and refusals included. Every call ends when the machine's commands have; nothing here waits for the host.

import type { ExecResult } from './exec-device.ts';

/** How a prompt is to be continued; what is not given is as `llminfer` has it (man llminfer). Times are virtual. */
export interface InferOptions {
  readonly maxTokens?: number;
  readonly temp?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repeatPenalty?: number;
  readonly seed?: number;
  readonly rng?: 'xor128' | 'lcg';
  readonly stop?: readonly string[];
  /** Special tokens in the prompt's text are parsed. */
  readonly special?: boolean;
  /** The id of an ended session, kept, that the prompt follows. */
  readonly continue?: number;
  /** The whole request, after its submission: promised, or refused. */
  readonly deadlineMs?: number;
  /** A server: `budgetCycles` (one dearest step) every `periodMs`. */
  readonly periodMs?: number;
  readonly budgetCycles?: number;
  readonly soft?: boolean;
  readonly priority?: number;
  readonly timeoutMs?: number;
  /** The session stays when it has ended, for `continue`. */
  readonly keep?: boolean;
}

/** What came of a prompt. A refusal is one too: no id, no text, no report, and the kernel's sentence. */
export interface Inference {
  /** 0: refused. */
  readonly id: number;
  readonly text: string;
  /** Ids drawn. */
  readonly tokens: readonly number[];
  /** eos, length, stop, context, cancel, timeout, quota or fault; null when it was refused. */
  readonly finishReason: string | null;
  /** `EDQUOT 3003 TokenBudgetExceeded: …`, or null. */
  readonly error: string | null;
  /** The specification's code in `error`, or 0. */
  readonly code: number;
  /** llminfer's exit status. */
  readonly status: number;
  /** The object of `llminfer --json`, whose keys json(7) lists; null when it was refused. */
  readonly report: Readonly<Record<string, unknown>> | null;
}

/** A session that runs; or the refusal of one, which `wait` gives back. */
export interface Submission {
  /** 0: refused. */
  readonly id: number;
  readonly error: string | null;
  readonly code: number;
  readonly status: number;
  readonly keep: boolean;
}

/** The budget of the whole machine: tokens in a period, 0 for none. */
export interface BudgetOptions {
  readonly periodNs?: number;
  readonly maxTokens?: number;
  /** A request that takes longer is a miss; 0: than its own bound. */
  readonly wcetCycles?: number;
}

/** Runs a shell command line to its end. */
type Exec = (line: string) => ExecResult;

export function infer(exec: Exec, prompt: string, options: InferOptions): Inference {
  const keep = options.keep ? ' --keep' : '';
  return inference(exec(`printf %s ${quoted(prompt)} | llminfer --json${keep}${words(options)} -`));
}

export function submit(exec: Exec, prompt: string, options: InferOptions): Submission {
  const { status, stdout, stderr } = exec(`printf %s ${quoted(prompt)} | llmctl submit${words(options)} -`);
  return { id: status === 0 ? Number(stdout) : 0, status, keep: options.keep ?? false, ...refusal(status, stderr) };
}

export function wait(exec: Exec, { id, status, error, code, keep }: Submission): Inference {
  if (id === 0) return { id, text: '', tokens: [], finishReason: null, error, code, status, report: null };
  return inference(exec(`llminfer --json${keep ? ' --keep' : ''} --attach ${id}`));
}

/** Sets what is given; the rest stays. Throws when the machine refuses it. */
export function configureBudget(exec: Exec, options: BudgetOptions): void {
  const given = [
    ['period-ns', options.periodNs],
    ['max-tokens-per-period', options.maxTokens],
    ['wcet-cycles', options.wcetCycles],
  ] as const;
  const set = given.flatMap(([name, n]) => (n === undefined ? [] : [` --${name} ${n}`]));
  const { status, stderr } = exec(`llmctl budget${set.join('')}`);
  if (status !== 0) throw new Error(stderr.trim());
}

/** The object of `llmstats --json`, whose keys json(7) lists. */
export function stats(exec: Exec): Readonly<Record<string, unknown>> {
  const { status, stdout, stderr } = exec('llmstats --json');
  if (status !== 0) throw new Error(stderr.trim());
  return JSON.parse(stdout) as Record<string, unknown>;
}

function inference({ status, stdout, stderr }: ExecResult): Inference {
  const report = stdout === '' ? null : (JSON.parse(stdout) as Record<string, unknown>);
  return {
    id: Number(report?.['id'] ?? 0),
    text: String(report?.['text'] ?? ''),
    tokens: (report?.['tokens'] ?? []) as number[],
    finishReason: report === null ? null : String(report['finish_reason']),
    status,
    report,
    ...refusal(status, stderr),
  };
}

function refusal(status: number, stderr: string): Pick<Inference, 'error' | 'code'> {
  const error = stderr.trim().replace(/^llm\w+: /, '');
  const [, code = '0'] = /^E[A-Z0-9]+ ([0-9]{4}) /.exec(error) ?? [];
  return status === 0 || error === '' ? { error: null, code: 0 } : { error, code: Number(code) };
}

/** The command line's options by those of the library. */
const optionNames = {
  maxTokens: 'max-tokens',
  temp: 'temp',
  topK: 'top-k',
  topP: 'top-p',
  minP: 'min-p',
  repeatPenalty: 'repeat-penalty',
  seed: 'seed',
  rng: 'rng',
  continue: 'continue',
  deadlineMs: 'deadline',
  periodMs: 'period',
  priority: 'prio',
  timeoutMs: 'timeout',
} as const satisfies Partial<Record<keyof InferOptions, string>>;

function words(options: InferOptions): string {
  const list: string[] = [];
  for (const [key, name] of Object.entries(optionNames)) {
    const value = options[key as keyof typeof optionNames];
    if (value !== undefined) list.push(`--${name}=${value}`);
  }
  if (options.budgetCycles !== undefined) list.push(`--budget=${options.budgetCycles}`);
  if (options.soft) list.push('--soft');
  if (options.special) list.push('--special');
  for (const stop of options.stop ?? []) list.push(`--stop=${stop}`);
  return list.map(word => ` ${quoted(word)}`).join('');
}

/** One word of the shell, whatever is in it. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
