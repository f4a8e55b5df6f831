// The outside programs that tests compare with, in one place. As root on a Debian machine missing ones are installed; elsewhere the tests
// that need them are skipped by name. When CI=true a missing oracle fails its test instead.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

export const ORACLES = [
  { package: 'cpio', file: '/usr/bin/cpio', why: 'lists and unpacks the boot image' },
  { package: 'dash', file: '/usr/bin/dash', why: 'the shell language on fresh scripts' },
  { package: 'babeltrace2', file: '/usr/bin/babeltrace2', why: 'reads the CTF trace' },
  { package: 'perl-base', file: '/usr/bin/perl', why: "asks libxcrypt's crypt(3) for passwords" },
  { package: 'python3', file: '/usr/bin/python3', why: 'takes prelinked images apart' },
  {
    package: 'python3-cryptography',
    file: '/usr/lib/python3/dist-packages/cryptography',
    why: 'checks exported audit logs without us',
  },
  {
    package: 'python3-torch',
    file: '/usr/lib/python3/dist-packages/torch',
    why: 'trains the same adapters without us',
  },
  { package: 'llvm', file: '/usr/bin/llvm-mca', why: 'the machine models that prices are compared with' },
  { package: 'golang-go', file: '/usr/bin/go', why: "runs Go's checks of notes, proofs and tiles" },
  {
    package: 'golang-golang-x-mod-dev',
    file: '/usr/share/gocode/src/golang.org/x/mod/sumdb/note/note.go',
    why: "Go's signed notes and transparency log",
  },
  { package: 'openssl', file: '/usr/bin/openssl', why: 'keys and signatures' },
  { package: 'age', file: '/usr/bin/age', why: 'encryption to a reader' },
  { package: 'chromium', file: '/usr/bin/chromium', why: 'the same bytes in Chromium' },
  { package: 'firefox-esr', file: '/usr/bin/firefox-esr', why: 'the same bytes in Firefox' },
  { package: 'libjavascriptcoregtk-4.0-bin', file: '/usr/bin/jsc', why: 'the same bytes in JavaScriptCore' },
];

const missing = ORACLES.filter(o => !existsSync(o.file));
if (missing.length > 0 && process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
  const names = missing.map(o => o.package);
  console.error(`setup: installing ${names.join(' ')}`);
  const apt = args =>
    spawnSync('apt-get', args, {
      stdio: ['ignore', 'ignore', 2],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
  apt(['update', '-qq']);
  apt(['install', '-y', '-qq', '--no-install-recommends', ...names]);
}
for (const o of ORACLES)
  if (!existsSync(o.file)) console.error(`setup: ${o.package} is not here (${o.why}); its tests will be skipped`);
