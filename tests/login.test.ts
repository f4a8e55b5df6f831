// Who is who: passwords as libxcrypt has them, login, su and passwd, what the audit log says of them, and rights: which line decides, what it
// forbids, that a change is taken at once or not at all.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import process from 'node:process';
import test from 'ava';
import { boot, type BootOptions, type Machine } from '../boot/index.ts';
import { isRefusal } from '../kernel/abi/index.ts';
import { Names } from '../kernel/accounts.ts';
import { parseRights, Rights, type Rule } from '../kernel/rights.ts';
import { digitsOf, hashPassword, isPassword } from '../shell/lib/password.ts';
import { makeRandom } from './support/arena.ts';
import { json, ok, refused } from './support/commands.ts';
import { Seat } from './support/seat.ts';

const image = readFileSync('build/boot.cpio');
const power = (options: BootOptions = {}): Machine => boot({ strict: true, image, ...options });
const asUser = (line: string): string => `su user -c "${line}"`;

// ── Passwords ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const HORSE = hashPassword(
  'correct horse',
  Uint8Array.from({ length: 16 }, (_, i) => i * 7),
);

test('a password is kept as scrypt in the form $7$, and nothing else is one', t => {
  t.regex(HORSE, /^\$7\$B6\.\.\.\.\/\.\.\.\.[./0-9A-Za-z]{22}\$[./0-9A-Za-z]{43}$/);
  t.true(isPassword('correct horse', HORSE));
  for (const wrong of ['', 'correct hors', 'correct horse ', 'Correct horse', 'x'.repeat(512)])
    t.false(isPassword(wrong, HORSE), wrong.slice(0, 20));
  const changed = (at: number): string => HORSE.slice(0, at) + (HORSE[at] === '.' ? '/' : '.') + HORSE.slice(at + 1);
  for (const at of [15, 30, HORSE.length - 1]) t.false(isPassword('correct horse', changed(at)), `${at}`);
  for (const hash of ['', '*', '!', 'x', '$7$', HORSE.slice(0, -1), `${HORSE}.`, HORSE.replace('$7$', '$6$')])
    t.false(isPassword('correct horse', hash), hash);
  // What would take too much is refused before it is computed: 2³⁰ MiB, blocks without end, none.
  for (const cost of [
    'G6..../....',
    'z6..../....',
    'Bzzzzz/....',
    'B6....zzzzz',
    'B...../....',
    'B6.........',
    '.6..../....',
  ])
    t.false(isPassword('correct horse', HORSE.replace('B6..../....', cost)), cost);
  t.is(digitsOf(Uint8Array.of(0xff)), 'z1');
  t.is(digitsOf(Uint8Array.of(1, 0, 0, 0x3f)), '/...z.');
});

const perl = '/usr/bin/perl';
const withPerl = existsSync(perl) || process.env['CI'] === 'true' ? test : test.skip;
withPerl("libxcrypt's crypt(3), asked by perl, gives what we keep", t => {
  const random = makeRandom(7);
  for (const password of ['x', 'correct horse', 'zażółć gęślą jaźń 日本', 'p'.repeat(200)]) {
    const salt = Uint8Array.from({ length: 16 }, () => random(256));
    const ours = hashPassword(password, salt);
    const run = spawnSync(perl, [
      '-e',
      'print crypt($ARGV[0], $ARGV[1])',
      password,
      ours.slice(0, ours.lastIndexOf('$')),
    ]);
    t.is(run.stdout.toString(), ours, password.slice(0, 20));
  }
});

// ── Becoming somebody ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What the audit log says of logins, oldest first: who, from whom, and what was wrong. */
const logins = (machine: Machine): string[] =>
  machine.kernel
    .audit!.lines(0)
    .flatMap(
      line =>
        / what=login .* name=(\S+) value="(.*?)"(?: message="(.*)")?$/m.exec(line)?.slice(1).join(' ').trim() ?? [],
    )
    .reverse();

const nowSeconds = (machine: Machine): number => machine.nowNs() / 1e9;

test('passwd: root sets any password, users their own after the one they have', t => {
  const machine = power();
  const set = (password: string): string => ok(machine, `echo ${password} | passwd --stdin user`);
  t.is(set('first.password'), 'passwd: password of user changed\n');
  t.regex(ok(machine, 'grep user /etc/shadow'), /^user:\$7\$[^:]{77}:0::::::\n$/);
  t.is(ok(machine, 'stat -c %a:%U /etc/shadow'), '600:root\n');
  const one = ok(machine, 'grep user: /etc/shadow');
  set('first.password');
  t.not(ok(machine, 'grep user: /etc/shadow'), one, 'another salt');
  t.is(machine.exec(asUser("printf 'first.password\\nsecond.password\\n' | passwd --stdin")).status, 0);
  const wrong = machine.exec(asUser("printf 'first.password\\nthird.password\\n' | passwd --stdin"));
  t.like(wrong, { status: 1, stderr: 'passwd: Authentication failure\n' });
  const short = machine.exec(asUser("printf 'second.password\\nshort\\n' | passwd --stdin"));
  t.like(short, { status: 1, stderr: 'passwd: You must choose a longer password: 8 characters at least.\n' });
  for (const line of ['passwd root', 'passwd -d', 'passwd -l user', 'passwd --delete user'])
    t.regex(machine.exec(asUser(line)).stderr, /^passwd: You may not view or modify password information/, line);
  refused(t, machine, 'passwd eve', 1, "passwd: user 'eve' does not exist");
  refused(t, machine, 'passwd -d -l user', 1, /^passwd: -d, -l and --stdin exclude each other\n/);
  refused(t, machine, 'echo | passwd --stdin user', 1, 'passwd: No password was given: nothing is changed.');
  t.is(ok(machine, 'passwd -l user; grep user: /etc/shadow').split('\n')[1], 'user:!:0::::::');
  refused(t, machine, asUser('su user -c id'), 1, 'su: Authentication failure');
  t.is(ok(machine, 'passwd -d user; grep user: /etc/shadow').split('\n')[1], 'user::0::::::');
  t.is(ok(machine, asUser('su user -c id')).slice(0, 8), 'uid=1000');
});

test('su and login: right and wrong passwords, delays in virtual time, all of it in the log', t => {
  const machine = power();
  ok(machine, 'echo correct.horse | passwd --stdin user');
  ok(machine, 'echo open.sesame | passwd --stdin nobody');
  const su = (password: string): number => machine.exec(asUser(`echo ${password} | su user -c true`)).status;
  const begin = nowSeconds(machine);
  t.is(su('wrong'), 1);
  t.true(nowSeconds(machine) - begin < 1, 'the answer comes at once');
  t.is(su('correct.horse'), 0);
  t.true(nowSeconds(machine) - begin >= 2, 'the next try is what waits');
  let waited = nowSeconds(machine);
  const delays = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map(password => {
    su(password);
    const before = waited;
    waited = nowSeconds(machine);
    return Math.floor(waited - before);
  });
  t.deepEqual(delays, [0, 2, 4, 8, 16, 32, 32], 'twice as long after each, to a bound');
  const other = nowSeconds(machine);
  t.is(machine.exec(asUser("printf 'open.sesame\\n' | su -s /bin/true nobody")).status, 0);
  t.true(nowSeconds(machine) - other < 1, 'each name has its own');
  ok(machine, 'su user -c true');
  t.is(su('correct.horse'), 0, 'and who has come in begins anew');

  const login = (text: string): { stdout: string; stderr: string; status: number } =>
    machine.exec(`printf '${text}' | login`);
  t.is(
    login('user\\ncorrect.horse\\necho $USER $HOME $PATH $OLD; pwd\\n').stdout,
    'user /home/user /bin\n/home/user\n',
  );
  const none = login('root\\neve\\nsecret.typed.here\\nuser\\nwrong\\n');
  t.like(none, { stdout: '', stderr: 'Login incorrect\n'.repeat(3), status: 1 });
  t.is(login('').status, 1);
  const said = logins(machine);
  t.deepEqual(said.slice(-3), [
    'root from root wrong password',
    'UNKNOWN from root wrong password',
    'user from root wrong password',
  ]);
  t.is(said.filter(line => line === 'user from user wrong password').length, 8);
  t.is(said.filter(line => line === 'user from user').length, 0, 'who stays who they are has not logged in');
  t.true(said.includes('nobody from user'));
  t.true(said.includes('UNKNOWN from root wrong password'), 'a name that is none is not written down');
  t.false(ok(machine, 'cat /proc/audit').includes('secret'));
});

test('who is in /etc/passwd is known as soon as the line is', t => {
  const machine = power();
  ok(machine, "echo 'ada:x:1005:100:Ada:/tmp:/bin/sh' >> /etc/passwd; echo 'ada::0::::::' >> /etc/shadow");
  const { stderr } = machine.exec("su ada -c 'llmctl load fable-q4_0'");
  t.regex(stderr, /user ada may not load/);
  ok(machine, 'llmctl quota ada --tokens 3');
  refused(t, machine, "su ada -c 'llminfer -n 4 Once'", 1, /: user ada asked 4 tokens, 3 left until/);
  const said = machine.kernel.audit!.lines(0).join('');
  t.is(said.split(' path=/etc/passwd name=accounts').length, 2, 'the change is in the log, once');
  t.is(logins(machine).filter(line => line === 'ada from root').length, 2);
  ok(machine, 'grep -v ada /etc/passwd > /tmp/p; cp /tmp/p /etc/passwd');
  refused(t, machine, 'llmctl quota ada --tokens 3', 1, "llmctl: no user 'ada'");
});

test('rights that cannot be read just now are those that were read last', t => {
  const machine = power();
  const { kernel } = machine;
  ok(machine, "printf '* run *\\n' > /etc/llm/rights; llmctl rights test user run x");
  ok(machine, "printf '* read *\\n' > /tmp/new; cp /tmp/new /etc/llm/rights.new");
  const held: { close(): void }[] = [];
  const ask = (): string | undefined => kernel.monitor.refusal({ uid: 1000, groups: [] }, 'run', 'x')?.message;
  kernel.vfs.rename('/', '/etc/llm/rights.new', '/etc/llm/rights');
  for (let f; typeof (f = kernel.vfs.open('/', '/etc/motd', 0, 0)) !== 'number';) held.push(f);
  t.true(held.length > 100);
  t.is(ask(), undefined, 'the table of files is full: the rules before');
  for (const f of held) f.close();
  t.regex(ask()!, /rights:1 decides: \* read \*/, 'then those that are there');
});

test('a password file that was left half written is taken away, and one that cannot be read is not replaced', t => {
  const machine = power();
  ok(machine, 'touch /etc/shadow.new');
  refused(t, machine, 'passwd -l user', 1, /being changed by somebody else/);
  ok(machine, 'sleep 11; passwd -l user; passwd -d user');
  const lines = (): string => ok(machine, 'wc -l < /etc/shadow').trim();
  const before = lines();
  ok(machine, 'rm /etc/shadow; mkdir /etc/shadow');
  t.is(machine.exec('passwd -l user').status, 1);
  t.is(ok(machine, 'rmdir /etc/shadow; ls /etc | grep -c shadow.new || true'), '0\n');
  t.true(Number(before) >= 3);
});

test('the log knows of every change of user, whatever program makes it; a program of a user can claim none', t => {
  const machine = power();
  const before = logins(machine).length;
  const { stderr } = machine.exec(asUser('strace su user -c id'));
  t.regex(stderr, /auth_wait|setgroups/);
  t.is(logins(machine).length, before + 1, 'the one by root');
  ok(machine, 'su -s /bin/true nobody');
  t.is(logins(machine).at(-1), 'nobody from root');
  // A change of accounts that a login is the first to find: it is told all the same, and the rights are read again.
  ok(machine, "sh -c 'exec >> /etc/passwd; echo new:x:1009:100::/home:/bin/sh; su -s /bin/true new'");
  t.is(logins(machine).at(-1), 'new from root');
  t.regex(ok(machine, 'cat /proc/audit'), / what=config user=0 code=0 path=\/etc\/passwd name=accounts\n/);
});

test('the host begins as a user', t => {
  const machine = power({ user: 'user' });
  t.is(ok(machine, 'id -un; pwd; echo $HOME $USER'), 'user\n/home/user\n/home/user user\n');
  t.is(machine.exec('cat /etc/shadow').status, 1);
  t.regex(ok(machine, 'llminfer --temp 0 -n 4 Once'), /\w/);
  refused(t, machine, 'llmctl unload', 1, /may not load \/models\/fable-f16\.gguf: \/etc\/llm\/rights:\d+ decides/);
  t.throws(() => power({ user: 'eve' }), { message: "no user 'eve' in /etc/passwd" });
  t.deepEqual(logins(machine), ['user from the host']);
});

test('at a terminal the password is not shown, and Ctrl-C gives it up', async t => {
  const seat = new Seat();
  await seat.type('clear; passwd user\r', 'secret word\r', 'secret wird\r');
  t.deepEqual(seat.screen().slice(0, 3), [
    'New password:',
    'Retype new password:',
    'passwd: Sorry, passwords do not match.',
  ]);
  await seat.type('clear; passwd user\r', 'bad\x7f\x7f\x7fsecret\x15', 'secret word\r', 'secret word\r');
  t.true(seat.screen().includes('passwd: password of user changed'));
  await seat.type('clear; su user\r', 'su user -c whoami\r', 'secret word\r');
  t.deepEqual(seat.screen().slice(-3), ['Password:', 'user', 'sis> ▮']);
  await seat.type('su user -c whoami\r', 'sec\x03', 'echo st=$?\r');
  t.true(seat.screen().includes('st=130'));
  await seat.type('clear; exec login\r', 'nobody\r', 'user\r', 'no\r', 'user\r', 'secret word\r', 'whoami; pwd\r');
  const screen = seat.screen();
  t.deepEqual(screen.slice(-3), ['user', '/home/user', 'sis> ▮']);
  t.is(screen.filter(line => line === 'Login incorrect').length, 2);
  t.false(screen.join('\n').includes('secret'));
});

// ── Rights ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const names = new Names(
  'root:x:0:0::/:\nada:x:1001:1001::/:\nbob:x:1002:1002::/:\n',
  'ops:x:50:ada\nall:x:60:ada,bob\n',
);

test('rights: the first line that fits decides', t => {
  const rights = new Rights();
  const file = [
    '# comment',
    'ada   none            /models/secret*',
    '@ops  load,run,read   /models/*   # operators',
    '1002  run             /models/?.gguf',
    '@all  read            *',
    '*     run             stub',
  ].join('\n');
  t.is(rights.take(file, names), null);
  const ada = { uid: 1001, groups: [1001, 50, 60] };
  const bob = { uid: 1002, groups: [1002, 60] };
  const eve = { uid: 7, groups: [7] };
  const may = (who: typeof ada, right: 'load' | 'run' | 'read' | 'manage', path: string): string | null =>
    rights.refusal(who, 'x', right, path)?.message ?? null;
  t.is(may(ada, 'load', '/models/a.gguf'), null);
  t.is(
    may(ada, 'read', '/models/secret/a.gguf'),
    'user x may not read /models/secret/a.gguf: /etc/llm/rights:2 decides: ada none /models/secret*',
  );
  t.is(may(ada, 'manage', 'target'), 'user x may not manage target: /etc/llm/rights:5 decides: @all read *');
  t.is(may(bob, 'run', '/models/a.gguf'), null);
  t.regex(may(bob, 'read', '/models/a.gguf')!, /:4 decides: 1002 run /, 'no other is asked');
  t.is(may(bob, 'read', '/models/ab.gguf'), null);
  t.is(may(eve, 'run', 'stub'), null);
  t.is(may(eve, 'run', '/models/a.gguf'), 'user x may not run /models/a.gguf: no line of /etc/llm/rights is about it');
  t.is(may({ uid: 0, groups: [] }, 'manage', 'anything'), null);
  t.regex(may(eve, 'run', 'stub\n')!, /no line/, 'a pattern is the whole name');
});

test('rights: a file with a mistake is refused whole, with the line', t => {
  const mistakes: readonly (readonly [string, string])[] = [
    ['* run', '2 fields, not 3: who rights pattern'],
    ['* run,walk *', 'no right walk: load, run, read, manage, or none'],
    ['* run, read *', '4 fields, not 3: who rights pattern'],
    ['eve run *', 'no user eve'],
    ['@eve run *', 'no group eve'],
    ['@ run *', 'no group '],
    ['* , *', 'no right '],
  ];
  for (const [line, why] of mistakes) {
    const r = parseRights(`* run *\n\n${line}\n`, names);
    t.true(isRefusal(r) && r.message.startsWith(`/etc/llm/rights:3: ${why}`), isRefusal(r) ? r.message : line);
  }
  t.deepEqual(parseRights('', names), []);
  // A pattern is no regular expression.
  const [rule] = parseRights('* run /a.b(c)[d]+\\*', names) as readonly Rule[];
  t.true(rule!.fits({ uid: 1, groups: [] }, '/a.b(c)[d]+\\xyz'));
  t.false(rule!.fits({ uid: 1, groups: [] }, '/aXb(c)[d]+\\xyz'));
});

test('rights are asked wherever a model is loaded, run or read, and the machine managed', t => {
  const machine = power();
  const q4 = '/models/fable-q4_0.gguf';
  ok(machine, 'mkdir /mnt/x; mount -t gguf /models/fable-q4_0.gguf /mnt/x');
  const denies = (line: string, right: string, what: string): void =>
    refused(
      t,
      machine,
      asUser(line),
      1,
      new RegExp(`user user may not ${right} ${what}: /etc/llm/rights:\\d+ decides: `),
    );
  denies('llmctl load fable-q4_0', 'load', q4);
  denies('llmctl unload', 'load', '/models/fable-f16.gguf');
  denies('llmctl backend stub', 'load', 'stub');
  ok(machine, 'llmctl register fable-q4_0');
  denies('llmctl swap --to 2', 'load', q4);
  ok(machine, 'llmctl load fable-q4_0; llmctl load fable-f16 > /dev/null');
  denies('llmctl rollback', 'load', q4);
  denies('llmctl target sifive-u74', 'manage', 'target');
  denies('llmctl disk vda --heal', 'manage', 'disk/vda');
  denies('llmctl quota user --tokens 5', 'manage', 'quota');
  denies('llmctl quota root', 'manage', 'quota');
  for (const line of [
    'llminfer -n 2 --temp 0 Once',
    'llmctl plan fable-q4_0',
    'llmctl target',
    'head -c 4 /mnt/x/tensors/output_norm.weight/type',
  ])
    t.is(machine.exec(asUser(line)).status, 0, line);

  const rules = 'user none /models/fable-q4*\n@operator load,run,manage *\n* read *\n';
  ok(machine, `printf '${rules}' > /etc/llm/rights`);
  t.is(ok(machine, 'cat /proc/rights'), '1 user none /models/fable-q4*\n2 @operator load,run,manage *\n3 * read *\n');
  denies('llminfer -n 2 Once', 'run', '/models/fable-f16.gguf');
  for (const line of [
    'llmctl plan fable-q4_0',
    'llmctl wcet --model fable-q4_0',
    'llmctl tokenize --vocab /models/fable-q4_0.gguf Once',
    'llmctl diff fable-f16 fable-q4_0',
    'llmctl quantize --requantize fable-q4_0 /tmp/q Q8_0',
    'llmctl prelink /models/fable-q4_0.gguf /tmp/p',
  ])
    t.regex(
      machine.exec(asUser(line)).stderr,
      /user user may not read \/models\/fable-q4_0\.gguf: \/etc\/llm\/rights:1 decides/,
      line,
    );
  t.is(machine.exec(asUser('cat /models/fable-q4_0.gguf')).status, 1, 'nor is it read as a file');
  t.is(machine.exec(asUser('cat /mnt/x/tensors/output_norm.weight/type')).status, 1, 'or through its mount');
  t.is(machine.exec(asUser('head -c 4 /models/fable-f16.gguf')).status, 0);
  ok(machine, "printf 'root:x:0:\\nusers:x:100:user\\noperator:x:37:user\\n' > /etc/group");
  t.is(machine.exec(asUser('llmctl load fable-f16 --ctx 128')).status, 0, 'an operator loads');
  t.is(machine.exec(asUser('llmctl target sifive-u74')).status, 0, 'and manages');
  t.is(machine.exec(asUser('llmctl load fable-q4_0')).status, 1);
  const audit = ok(machine, 'cat /proc/audit');
  t.regex(audit, / what=config user=0 code=0 path=\/etc\/llm\/rights name=rights\n/);
  t.regex(audit, / what=config user=0 code=0 path=\/etc\/group name=accounts\n/);
});

test('llmctl rights: list and test; a mistake leaves the rules before in force, at power-on none', t => {
  const machine = power();
  const f16 = '/models/fable-f16.gguf';
  t.regex(
    ok(machine, 'llmctl rights'),
    /^LINE {2}WHO +RIGHTS +OF\n +\d+ {2}@operator {2}load,run,read,manage {2}\*\n +\d+ {2}\* +run,read +\*\n$/,
  );
  t.deepEqual(json(machine, 'llmctl rights test user run /x --json'), {
    user: 'user',
    right: 'run',
    path: '/x',
    allowed: true,
    line: 7,
    message: null,
  });
  t.is(ok(machine, `llmctl rights test root manage target`), 'user root may manage target: root may all\n');
  const no = machine.exec(`llmctl rights test user load ${f16}`);
  t.like(no, {
    status: 1,
    stderr: '',
    stdout: `user user may not load ${f16}: /etc/llm/rights:7 decides: * run,read *\n`,
  });
  refused(t, machine, 'llmctl rights test eve run x', 1, /no user eve/);
  refused(t, machine, 'llmctl rights test user fly x', 1, /no right fly: load, run, read, manage/);
  refused(t, machine, 'llmctl rights test user', 2, /^llmctl: rights: list, or test USER RIGHT PATH\n/);
  const before = ok(machine, 'cat /proc/rights');
  ok(machine, "echo '* all *' >> /etc/llm/rights");
  t.is(ok(machine, 'cat /proc/rights'), before);
  t.regex(
    ok(machine, 'dmesg | tail -n 1'),
    /rights: \/etc\/llm\/rights:8: no right all: .*: the rules before stay in force\n$/,
  );
  ok(machine, 'rm /etc/llm/rights');
  t.is(ok(machine, 'cat /proc/rights'), '', 'no file, no rules');
  refused(t, machine, asUser('llminfer -n 2 Once'), 1, /no line of \/etc\/llm\/rights is about it/);
  ok(machine, 'llminfer -n 2 Once');
});
