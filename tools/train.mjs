// `node tools/train.mjs CORPUS --config CONFIG.json --out MODEL.gguf [SETTING]...`: trains a model from nothing in the machine itself, by `llmfinetune
// init` and `start --method full`, with the corpus mounted. SETTINGs are those of `llmfinetune start`. What is under way lies in MODEL.gguf.work: the
// same line again goes on with what was stopped, and comes to the same bytes. CONFIG.json is described in the machine's `man adapters`; a
// tokenizer beside it is /config/FILE.gguf. images/README.md has an example with its figures.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../build/arena8.js', import.meta.url));
const POSITIONS = 32; // of a page of keys and values
const DEFAULT_CONTEXT = 256; // of llmfinetune init

/** What the machine does: $1 corpus, $2 configuration, $3 pages, $4 start or resume, $5 the model's file, $6 its name, then settings. */
const SCRIPT = `
set -e
corpus=$1 config=$2 pages=$3 verb=$4 file=$5 name=$6; shift 6
[ -e /begun/first.gguf ] || llmfinetune init "/config/$config" /begun/first.gguf
llmctl load /begun/first.gguf --sessions 1 --pages "$pages" > /dev/null
if [ "$verb" = start ]; then
  llmfinetune plan "/corpus/$corpus" --method full "$@"
  llmfinetune start "/corpus/$corpus" "$name" --store /begun/store --method full "$@"
else
  llmfinetune resume "$name" --store /begun/store
fi
llmfinetune export "$name" --store /begun/store -o "/out/$file"
llmfinetune versions "$name" --store /begun/store
`;

const usage = 'usage: node tools/train.mjs CORPUS --config CONFIG.json --out MODEL.gguf [SETTING]...';

function fail(message) {
  console.error(message);
  process.exit(2);
}

/** Takes `--NAME VALUE` out of the arguments. */
function take(args, name) {
  const at = args.indexOf(`--${name}`);
  if (at < 0 || at + 1 >= args.length) return fail(usage);
  return args.splice(at, 2)[1];
}

const args = process.argv.slice(2);
const config = take(args, 'config');
const out = path.resolve(take(args, 'out'));
const [corpus, ...settings] = args;
if (corpus === undefined || corpus.startsWith('--')) fail(usage);
for (const file of [corpus, config, PROGRAM]) if (!existsSync(file)) fail(`${file}: no such file`);

const work = `${out}.work`;
mkdirSync(work, { recursive: true });
const { name = 'model', context = DEFAULT_CONTEXT } = JSON.parse(readFileSync(config, 'utf8'));
const run = path.join(work, 'store', name, 'run.json');
const verb = existsSync(run) && JSON.parse(readFileSync(run, 'utf8')).state !== 'done' ? 'resume' : 'start';
const mounts = [
  `${path.dirname(path.resolve(corpus))}:/corpus:ro`,
  `${path.dirname(path.resolve(config))}:/config:ro`,
  `${work}:/begun`,
  `${path.dirname(out)}:/out`,
].flatMap(mount => ['--mount', mount]);
const operands = [
  path.basename(corpus),
  path.basename(config),
  Math.ceil(context / POSITIONS),
  verb,
  path.basename(out),
  name,
];
process.on('SIGINT', () => {}); // the machine ends by itself
const { status } = spawnSync(
  process.execPath,
  [PROGRAM, ...mounts, '-c', SCRIPT, '--', 'train', ...operands.map(String), ...settings],
  { stdio: 'inherit' },
);
process.exitCode = status ?? 1;
