import type { Command } from 'commander';
import { checkRules } from '../app/check-rules.ts';
import { settingsExample, settingsJsonSchema, settingsMarkdown } from '../config/describe.ts';
import { loadSettings } from '../config/load.ts';
import { printableSettings } from '../config/secrets.ts';
import { systemClock } from '../core/clock.ts';
import type { Terminal } from './main.ts';
import { addRedactTest } from './redact-test.ts';
import { addTestMapping } from './test-mapping.ts';

/** `spantrail config docs|example|schema|check`: all from the one settings schema. */
export function addConfigCommands(program: Command, terminal: Terminal): void {
  const config = program.command('config').description('Settings: their docs, an example file, a check');
  config
    .command('docs')
    .description('every setting as a Markdown table')
    .action(() => terminal.write(settingsMarkdown()));
  config
    .command('example')
    .description('a settings file with every default, commented')
    .action(() => terminal.write(settingsExample()));
  config
    .command('schema')
    .description('JSON Schema of the settings file, for editors')
    .action(() => terminal.write(`${JSON.stringify(settingsJsonSchema(), null, 2)}\n`));
  addRedactTest(config, terminal);
  addTestMapping(config, terminal);
  config
    .command('check')
    .description('check a settings file together with the environment')
    .argument('<file>', 'YAML file')
    .option('--print', 'print the complete settings that result, passwords and keys left out')
    .action(async (file: string, options: { print?: boolean }) => {
      const settings = loadSettings({ file, environment: terminal.environment });
      checkRules(settings);
      const { openNotifiers } = await import('../app/notices.ts');
      await openNotifiers(settings.notify, { clock: systemClock, version: terminal.version });
      terminal.write(options.print ? `${printableSettings(settings)}\n` : `${file}: ok\n`);
    });
}
