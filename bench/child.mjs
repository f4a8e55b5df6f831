// A machine in a process of its own, under whatever Node runs this: `node child.mjs BUILD FOLDER LOAD`. Each line of standard input, `[text, drawn]`,
// is answered by one of bench/subject.mjs's measurements.
import process from 'node:process';
import { createInterface } from 'node:readline';
import { boot } from '../build/index.js';
import { Subject } from './subject.mjs';

const [build, folder, load] = process.argv.slice(2);
const machine = boot({ build, mounts: { '/mnt/bench': { path: folder, readOnly: true } } });
const subject = new Subject(machine, load);
subject.forget();
console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin }))
  console.log(JSON.stringify(subject.measure(...JSON.parse(line))));
