// Set-up for a fresh clone: installs the npm packages when they are missing or older than the lock file, and with --oracles also asks
// tools/oracles.mjs for the outside programs that the tests compare with. Quick when there is nothing to do.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';

const root = new URL('..', import.meta.url).pathname;
const mtime = file => {
  try {
    return statSync(root + file).mtimeMs;
  } catch {
    return -1;
  }
};
if (mtime('node_modules/.package-lock.json') < mtime('package-lock.json')) {
  const r = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel', 'error'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
  });
  if (r.status !== 0) process.exit(r.status ?? 1);
}
if (process.argv.includes('--oracles')) await import('./oracles.mjs');
