import type { Command } from 'commander';
import type { RulesAnswer } from '../api/rule-contract.ts';
import { loadSettings } from '../config/load.ts';
import type { Settings } from '../config/schema.ts';
import type { Alert } from '../core/alert.ts';
import { AppError } from '../core/errors.ts';
import type { AuditRecord } from '../core/record.ts';
import { asking, type Connection, connect } from './connection.ts';
import { createPaint, jsonLine, type Paint, printable } from './format.ts';
import type { Terminal } from './main.ts';

interface ConfigOptions {
  readonly config?: string;
  readonly json?: boolean;
}

interface TestOptions extends Connection, ConfigOptions {
  readonly from: string;
  readonly to?: string;
  readonly namespace?: string;
}

/** `spantrail rules`: what watches, whether the files are right, and what they would have found. */
export function addRuleCommands(program: Command, terminal: Terminal): void {
  const paint = createPaint(terminal.colours);
  const rules = program.command('rules').description('Rules that watch what is stored: list, check, test');
  asking(rules.command('list', { isDefault: true }))
    .description('rules at work in the running Spantrail, and what they remember')
    .option('--json', 'one JSON object for each rule')
    .action(async (options: Connection) => list(await connect(options, terminal).get('/api/v1/rules'), options));
  asking(rules.command('reload'))
    .description('read the rule files again now; when they have mistakes, the last good rules stay at work')
    .action(async (options: Connection) => {
      const { problems, rules: found } = await connect(options, terminal).send<RulesAnswer>(
        'POST',
        '/api/v1/rules/reload',
      );
      if (problems.length > 0) throw new AppError('bad_request', problems.join('\n'));
      terminal.write(`${found.length} rules are at work\n`);
    });
  rules
    .command('check')
    .description('say what is wrong with rule files, by file, line and field; without files: those of the settings')
    .argument('[files...]', 'rule files, or folders of them')
    .option('-c, --config <file>', 'settings file (YAML)')
    .action(async (files: string[], options: ConfigOptions) => {
      const { checkRules } = await import('../app/test-rules.ts');
      const { rules: found, problems } = await checkRules(files, settingsOf(options));
      if (problems.length > 0) throw new AppError('bad_request', problems.join('\n'));
      terminal.write(`${found.length} ${found.length === 1 ? 'rule is' : 'rules are'} right\n`);
    });
  asking(rules.command('test'))
    .description('run rules over what is stored and say when they would have fired')
    .argument('<rule>', 'a rule file, or the id of a rule of the settings')
    .option('-c, --config <file>', 'settings file (YAML), for definitions, limits and ids')
    .requiredOption('--from <time>', 'earliest: RFC 3339, or back from now like -2h, -7d')
    .option('--to <time>', 'before this time (now)')
    .option('--namespace <name>', 'only this namespace')
    .option('--json', 'one JSON object for each alert')
    .action(test);

  function settingsOf({ config }: ConfigOptions): Settings {
    const file = config ?? (terminal.environment['SPANTRAIL_CONFIG'] || undefined);
    return loadSettings({ file, environment: terminal.environment });
  }

  function list({ watching, rules: found, problems }: RulesAnswer, { json }: Connection): void {
    for (const rule of found) terminal.write(json ? jsonLine(rule) : ruleLine(rule, paint));
    if (!watching) terminal.warn('rules are switched off (detect.enabled)');
    for (const problem of problems) terminal.warn(problem);
  }

  async function test(rule: string, options: TestOptions): Promise<void> {
    const { recordsFor, rulesToTest, testRules } = await import('../app/test-rules.ts');
    const settings = settingsOf(options);
    const chosen = await rulesToTest(rule, settings);
    const { from, to, namespace, json } = options;
    const client = connect(options, terminal);
    const exported = await client.open('/api/v1/export', {
      ...recordsFor(chosen),
      from,
      to,
      namespace,
      format: 'ndjson',
    });
    const { records, matches, alerts } = await testRules(chosen, recordsIn(exported), settings.detect);
    for (const alert of alerts) terminal.write(json ? jsonLine(alert) : alertLines(alert, paint));
    if (!json)
      terminal.write(
        `${alerts.length} ${alerts.length === 1 ? 'alert' : 'alerts'} from ${matches} matches in ${records} records\n`,
      );
  }
}

function ruleLine(rule: RulesAnswer['rules'][number], paint: Paint): string {
  const { id, type, severity, state, matches, alerts, groups, entries, evicted, late, because } = rule;
  const mark = state === 'on' ? paint.green('on    ') : state === 'off' ? paint.dim('off   ') : paint.red('failed');
  const kept = groups + entries > 0 ? `, remembers ${entries} of ${groups} groups` : '';
  const lost = [evicted > 0 ? `${evicted} had to make room` : '', late > 0 ? `${late} came too late` : ''];
  const told = [`${matches} matches, ${alerts} alerts${kept}`, ...lost, because ?? ''].filter((part) => part !== '');
  return `${mark} ${severity.padEnd(8)} ${type.padEnd(9)} ${id}  ${paint.dim(printable(told.join('; ')))}\n`;
}

function alertLines({ raisedAt, firstAt, lastAt, rule, reason, count, records }: Alert, paint: Paint): string {
  const when = raisedAt.slice(0, 23).replace('T', ' ');
  const span = `${count} accesses from ${firstAt.slice(0, 19)}Z to ${lastAt.slice(0, 19)}Z, last ${records.at(-1) ?? ''}`;
  return `${paint.dim(when)}  ${rule.severity.padEnd(8)}  ${rule.id}: ${printable(reason)}\n  ${paint.dim(span)}\n`;
}

/** Lines of JSON, however the bytes are cut. */
async function* recordsIn(chunks: AsyncIterable<Uint8Array>): AsyncIterable<AuditRecord> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of chunks) {
    const lines = `${rest}${decoder.decode(chunk, { stream: true })}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line !== '') yield JSON.parse(line) as AuditRecord;
  }
  if (rest.trim() !== '') yield JSON.parse(rest) as AuditRecord;
}
