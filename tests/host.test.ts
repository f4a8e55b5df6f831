// The loop that turns a machine for a page, without a page: that Ctrl-C gets through whatever the machine and the page are doing, that a speed
// changes moments and nothing else, that keys are kept until they are wanted, and what is left of a machine that has halted.
import test from 'ava';
import { boot } from '../boot/index.ts';
import { UNSHOWN_MAX } from '../boot/web/worker/outflow.ts';
import { Sitter } from './support/ground.ts';

test('boots to a prompt, echoes, and is idle', t => {
  const sitter = new Sitter();
  t.is(sitter.host.kind, 'idle');
  t.regex(sitter.enter('echo hel""lo\r'), /hello\r\n/);
  t.is(sitter.host.kind, 'idle');
  t.is(sitter.ground.states.at(-1)!.run, 'idle');
});

test('Ctrl-C ends a flood that nobody has seen', t => {
  const sitter = new Sitter();
  sitter.type('while :; do echo a line that says nothing; done\r');
  sitter.until(() => sitter.ground.unshown > UNSHOWN_MAX);
  const { unshown } = sitter.ground;
  while (sitter.ground.tick());
  t.true(sitter.ground.unshown < unshown + 64 * 1024, 'the machine waits for somebody to read');
  const before = sitter.host.machine.nowNs();
  sitter.type('\x03');
  while (sitter.ground.tick());
  t.true(sitter.host.machine.nowNs() > before, 'it has turned for Ctrl-C');
  t.regex(sitter.ground.take(), /\^C[\s\S]*\$ [^\n]*$/);
  sitter.settle();
  t.regex(sitter.enter('echo still here\r'), /still here\r\n/);
});
