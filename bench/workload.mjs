// What every engine in the bench is asked to do, so that their rows compare: read a prompt of 224 tokens (prefill), and continue a prompt of
// 128 tokens by 256 more greedily (decode), the context being 256 positions long on average. Decoding costs the same per position of
// context, so the average is what counts. And what the rows say: medians with the extremes beside them.

export const PREFILL_TOKENS = 224;
export const PROMPT_TOKENS = 128;
export const DECODE_TOKENS = 256;
export const CONTEXT = PROMPT_TOKENS + DECODE_TOKENS / 2; // mean context length while decoding
export const CONTEXT_CAPACITY = 512;

const STORY =
  'One sunny morning a little girl named Lily went to the park with her mother. She saw a big red ball under a tree and wanted to play with ' +
  'it. A boy came and said that the ball was his. Lily was sad, but the boy smiled and asked her to play with him. They kicked the ball up ' +
  'the hill and ran after it until the sun was low. Then it began to rain, and they sat in the little house by the pond and told stories. ';

/** Text that the given tokenizer turns into exactly `count` ids: words of a story from the `skip`-th on, then single characters for the rest. */
export function promptOf(count, skip, countTokens) {
  const words = STORY.repeat(Math.ceil(count / 60))
    .split(' ')
    .slice(skip);
  let low = 0;
  let high = words.length;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (countTokens(words.slice(0, middle).join(' ')) <= count) low = middle;
    else high = middle - 1;
  }
  let text = words.slice(0, low).join(' ');
  let have = countTokens(text);
  for (let tries = 0; have < count && tries < 4 * count; tries++) {
    const longer = text + '!?.,'[tries % 4];
    const now = countTokens(longer);
    if (now <= count) [text, have] = [longer, now];
  }
  if (have !== count) throw new Error(`no text of ${count} tokens found (${have})`);
  return text;
}

/** Median and extremes of some measurements; with an even number the median is the mean of the middle two. */
export function spread(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, min: sorted[0], max: sorted.at(-1) };
}

const grouped = x => Math.round(x).toLocaleString('en-US');
const rate = s => (s === undefined ? '-' : `${grouped(s.median)} (${grouped(s.min)}–${grouped(s.max)})`);
export const percent = x => (x === undefined ? '-' : `${(x * 100).toFixed(0)} %`);

/** Left-aligned text columns. */
export function table(head, rows) {
  const width = head.map((h, i) => Math.max(h.length, ...rows.map(r => r[i].length)));
  const line = cells =>
    cells
      .map((c, i) => c.padEnd(width[i]))
      .join('  ')
      .trimEnd();
  return [line(head), line(width.map(w => '─'.repeat(w))), ...rows.map(line)].join('\n');
}

/**
 * One line per engine and model. Shares are of this machine's ceilings at the decode rate's median: multiply-adds, bytes, and the roofline,
 * which is the larger of the two. `against` names the engine whose decode rate is 1.00 in the last column.
 * @param {readonly { engine: string, model: string, prefill?: object, decode?: object, shares?: { multiplyAdd: number, bandwidth: number } }[]} results
 */
export function report(results, against) {
  const reference = new Map(results.filter(r => r.engine === against).map(r => [r.model, r.decode?.median]));
  const columns = [
    ['model', r => r.model],
    ['engine', r => r.engine],
    ['prefill tok/s', r => rate(r.prefill)],
    ['decode tok/s', r => rate(r.decode)],
    ['mul-add', r => percent(r.shares?.multiplyAdd)],
    ['bandwidth', r => percent(r.shares?.bandwidth)],
    [
      `decode / ${against}`,
      r => (r.decode && reference.get(r.model) ? (r.decode.median / reference.get(r.model)).toFixed(2) : '-'),
    ],
  ];
  return table(
    columns.map(([head]) => head),
    results.map(r => columns.map(([, cell]) => cell(r))),
  );
}
