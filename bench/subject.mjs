// arena8 as one of the engines that bench/peers.mjs compares: a booted machine, a model, and one measurement. Runs in Node (bench/child.mjs) and
// in pages of browsers; time is the host's, around shell commands, and what a command takes beside the passes cancels out.

/** Positions of a page of keys and values: as many of a prompt's beginning are known when it comes again. */
const PAGE = 32;

/** Prompts are so long that all but their last token lie on whole pages. */
export const promptTokens = pages => pages * PAGE + 1;

export class Subject {
  /** `load`: the arguments of `llmctl load`. */
  constructor(machine, load) {
    this.machine = machine;
    this.load = load;
  }

  command(line) {
    const { status, stdout, stderr } = this.machine.exec(line);
    if (status !== 0) throw new Error(`${line.slice(0, 60)}: status ${status}: ${stderr.trim()}`);
    return stdout;
  }

  #infer(text, tokens) {
    const start = performance.now();
    const answer = this.command(`llminfer --json --temp 0 --timeout 86400000 --max-tokens ${tokens} '${text}'`);
    return { seconds: (performance.now() - start) / 1000, answer: JSON.parse(answer) };
  }

  idsOf(text) {
    return JSON.parse(this.command(`llmctl tokenize --json --bos '${text}'`)).tokens;
  }

  /** Loads anew: what prompts began with is forgotten. */
  forget() {
    this.command(`llmctl load ${this.load}`);
  }

  /**
   * The prompt read, read again when its beginning is known, and again with `drawn` tokens after the first: seconds that reading the known part
   * took, and seconds of the tokens.
   */
  measure(text, drawn) {
    this.forget();
    const whole = this.#infer(text, 1);
    const known = this.#infer(text, 1);
    const all = this.#infer(text, 1 + drawn);
    const { prompt_tokens: prompt, tokens, shared_tokens: spared } = all.answer;
    if (spared !== prompt.length - 1 || known.answer.shared_tokens !== spared)
      throw new Error(`${spared} of ${prompt.length} prompt tokens were known`);
    return {
      prefill: spared / (whole.seconds - known.seconds),
      decode: drawn / (all.seconds - known.seconds),
      ids: tokens,
    };
  }
}
