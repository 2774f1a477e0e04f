import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { type MappedSample, testMapping } from '../app/test-mapping.ts';
import { loadSettings } from '../config/load.ts';
import { systemClock } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import { printable } from './format.ts';
import type { Terminal } from './main.ts';

/** Characters of a sample that are shown where it stands for itself. */
const SAMPLE_CHARS_MAX = 100;

/** `spantrail config test-mapping FILE`: which mapping takes each line of sample input, and what it makes of it. */
export function addTestMapping(config: Command, terminal: Terminal): void {
  config
    .command('test-mapping')
    .description(
      'show for sample input which mapping or preset takes each line, what fields it makes, and what nothing takes',
    )
    .argument('<file>', "lines of other systems' logs, or one JSON document; - reads standard input")
    .option('-c, --config <file>', 'settings file (YAML)')
    .option('-p, --preset <name>', 'read every line by this preset or mapping, as POST /v1/events/<name> does')
    .option('--json', 'one JSON object for each sample')
    .action((file: string, options: { config?: string; preset?: string; json?: boolean }) => {
      const settings = loadSettings({ file: options.config, environment: terminal.environment });
      const nowNs = BigInt(systemClock.nowMs()) * 1_000_000n;
      const preset = options.preset === undefined ? {} : { preset: options.preset };
      const { samples, idle } = testMapping(read(file), settings, { ...preset, nowNs });
      if (samples.length === 0) throw new AppError('bad_request', `${file}: there is nothing in it`);
      for (const sample of samples) terminal.write(options.json ? `${JSON.stringify(sample)}\n` : describe(sample));
      if (!options.json) terminal.write(summary(samples));
      if (idle.length > 0) {
        const lines = idle.map(({ mapping, because }) => `mapping ${mapping} took nothing: ${because}`);
        throw new AppError('not_found', printable(lines.join('\n')));
      }
    });
}

function describe({ at, text, mapping, verdict, fields, sentence }: MappedSample): string {
  const names = Object.keys(fields);
  const width = Math.max(...names.map((name) => name.length), 0);
  const lines = names.map((name) => `  ${name.padEnd(width)}  ${printable(render(fields[name]))}`);
  const title = mapping === undefined ? `nothing (${verdict})` : mapping;
  const shown = mapping === undefined ? [`  ${printable(text.slice(0, SAMPLE_CHARS_MAX))}`] : [];
  return `${[`${at}: ${title}: ${printable(sentence)}`, ...shown, ...lines].join('\n')}\n\n`;
}

function render(value: unknown): string {
  return typeof value === 'string'
    ? value
    : JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? String(item) : item));
}

function summary(samples: readonly MappedSample[]): string {
  const byMapping = new Map<string, number>();
  for (const { mapping } of samples) {
    if (mapping !== undefined) byMapping.set(mapping, (byMapping.get(mapping) ?? 0) + 1);
  }
  const taken = [...byMapping].map(([mapping, count]) => `${mapping} ${count}`);
  const total = [...byMapping.values()].reduce((sum, count) => sum + count, 0);
  return `${total} of ${samples.length} taken${taken.length > 0 ? `: ${taken.join(', ')}` : ''}\n`;
}

function read(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (cause) {
    throw new AppError('not_found', `${file}: cannot be read: ${describeError(cause)}`, { cause });
  }
}
