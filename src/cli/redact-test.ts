import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { testRedaction } from '../app/redact-test.ts';
import { loadSettings } from '../config/load.ts';
import { AppError, describeError } from '../core/errors.ts';
import { printable } from './format.ts';
import type { Terminal } from './main.ts';

/** `spantrail config redact-test FILE`: what masking and redaction leave of sample input. */
export function addRedactTest(config: Command, terminal: Terminal): void {
  config
    .command('redact-test')
    .description('show what is left of sample input: what is masked before it is stored, and what records leave out')
    .argument('<file>', 'a JSON object of attributes or a text on each line; - reads standard input')
    .option('-c, --config <file>', 'settings file (YAML)')
    .option('--json', 'one JSON object for each value')
    .action((file: string, options: { config?: string; json?: boolean }) => {
      const settings = loadSettings({ file: options.config, environment: terminal.environment });
      const lines = testRedaction(read(file), settings);
      if (lines.length === 0)
        terminal.warn('there is nothing in it: give a JSON object of attributes or a text on each line');
      for (const [at, values] of lines.entries()) {
        if (!options.json && at > 0) terminal.write('\n');
        for (const value of values) {
          if (options.json) terminal.write(`${JSON.stringify(value)}\n`);
          else terminal.write(`${describe(value)}\n`);
        }
      }
    });
}

function describe({ name, sent, kept, shown, rules }: ReturnType<typeof testRedaction>[number][number]): string {
  const title = name === '' ? 'text' : name;
  if (kept === sent && shown === sent) return `${printable(title)}: ${printable(sent)}  (as it is)`;
  const lines = [`${printable(title)}: ${printable(sent)}`];
  if (kept !== sent) lines.push(`  stored as  ${printable(kept)}`);
  if (shown !== kept) lines.push(`  shown as   ${printable(shown)}  (${rules.join(', ')})`);
  return lines.join('\n');
}

function read(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (cause) {
    throw new AppError('not_found', `${file}: cannot be read: ${describeError(cause)}`, { cause });
  }
}
