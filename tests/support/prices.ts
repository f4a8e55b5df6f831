// A target's figures as docs/WCET.md prints them: the document is compared with this text, so it cannot say anything else.
import { MILLI, type Target } from '../../kernel/wcet/targets.ts';
import { CLASSES } from '../../kernel/wcet/wasm.ts';

const cycles = (milli: number): string => `${Math.round(milli) / MILLI}`;

export function pricesOf(target: Target): string {
  const instructions = Object.entries(target.instructions).map(
    ([name, { latency, source, what }]) =>
      `| ${name} | ${latency} | ${source} | ${source === 'llvm' && name !== 'flush' ? `\`${what}\`` : what} |`,
  );
  const classes = CLASSES.map((cls, c) => {
    const lower = target.lower.flatMap(({ resource, prices }) =>
      prices[c] === 0 ? [] : [`${resource} ${cycles(prices[c]!)}`],
    );
    const pieces = cls.startsWith('bytes_') ? ', a sixteenth' : '';
    return `| ${cls} | ${cycles(target.upper[c]!)} | ${target.lowerings[cls].upper}${pieces} | ${lower.join(', ')} |`;
  });
  const levels = target.levels.map(({ name, reuseBytesMax, lineUpper, lineLower, source, why }, i) => {
    const regions = Object.entries(target.home).flatMap(([region, level]) => (level === i ? [region] : []));
    return `| ${name} | ${regions.join(', ')} | ${reuseBytesMax} | ${cycles(lineUpper)} | ${cycles(lineLower)} | ${source}: ${why} |`;
  });
  const { block, overhead } = target;
  const resources = Object.entries(target.resources).map(([resource, source]) => `${resource} (${source})`);
  return [
    `#### ${target.name}: ${target.title}`,
    '',
    ...target.assumptions.map(assumption => `- ${assumption}`),
    '',
    '| machine instruction | latency | source | which, or why |',
    '|---|---|---|---|',
    ...instructions,
    '',
    `Resources: ${resources.join(', ')}.`,
    '',
    '| class | upper | sequence | lower, by resource |',
    '|---|---|---|---|',
    ...classes,
    '',
    `| level, lines of ${target.lineBytes} bytes | home of | kept up to, bytes | upper | lower | source |`,
    '|---|---|---|---|---|---|',
    ...levels,
    '',
    `Block device: ${block.name}; ${block.setupCyclesLower} to ${block.setupCyclesUpper} cycles a transfer, ${cycles(block.byteLower)} to ${cycles(block.byteUpper)} a byte (${block.source}: ${block.why}).`,
    `Overhead: ${overhead.recordCycles} cycles a record of the plan, ${overhead.syscallCycles} a system call, ${overhead.switchCycles} a switch, ${overhead.auditRecordCycles} an audit record, ${overhead.auditCheckpointCycles} a signed head of the log (${overhead.source}: ${overhead.why}).`,
  ].join('\n');
}
