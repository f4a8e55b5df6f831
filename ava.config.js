// AVA runs the bundled tests; the closing line `N passed, N failed, N skipped` is counted from its own events.
import process from 'node:process';

let last;
process.once('exit', code => {
  const s = last ?? { passedTests: 0, passedKnownFailingTests: 0, skippedTests: 0, todoTests: 0 };
  const broken =
    (s.failedTests ?? 0) +
    (s.failedHooks ?? 0) +
    (s.failedWorkers ?? 0) +
    (s.internalErrors ?? 0) +
    (s.sharedWorkerErrors ?? 0) +
    (s.timedOutTests ?? 0) +
    (s.uncaughtExceptions ?? 0) +
    (s.unhandledRejections ?? 0);
  const failed = code === 0 ? broken : Math.max(1, broken);
  const skipped = s.skippedTests + s.todoTests;
  process.stdout.write(
    `\n${s.passedTests + s.passedKnownFailingTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`,
  );
});

export default {
  files: ['build/tests/**/*.test.js'],
  nodeArguments: ['--enable-source-maps', '--experimental-wasm-relaxed-simd', '--expose-gc'],
  workerThreads: false, // V8 flags are per process
  timeout: '10m',
  concurrency: 2,
  nonSemVerExperiments: { observeRunsFromConfig: true },
  async observeRun(run) {
    for await (const event of run.events) if (event.type === 'stats') last = event.stats;
  },
};
