import { type Command, InvalidArgumentError, Option } from 'commander';
import { INSIGHTS, type Insight } from '../core/insight.ts';
import { asking, type Connection, connect } from './connection.ts';
import { createPaint, jsonLine, printable } from './format.ts';
import type { Terminal } from './main.ts';
import { tableText } from './tables.ts';

interface InsightOptions extends Connection {
  readonly from?: string;
  readonly to?: string;
  readonly namespace?: string;
  readonly inner?: boolean;
  readonly limit?: number;
  readonly by?: string;
  readonly min?: number;
  readonly knownFrom?: string;
  readonly sensitive?: string;
}

/** `spantrail insights`. */
export function addInsightsCommand(program: Command, terminal: Terminal): void {
  const paint = createPaint(terminal.colours);
  const names = Object.entries(INSIGHTS);
  const width = Math.max(...names.map(([name]) => name.length));
  asking(program.command('insights'))
    .description('Questions that are always the same: roles, sensitive targets, checks, slow statements, pressure')
    .argument('[name]', 'one of those below; without it they are listed')
    .argument('[query...]', 'KQL: only these accesses')
    .option('--from <time>', 'earliest: RFC 3339, or back from now like -15m, -2h, -7d (-7d)')
    .option('--to <time>', 'before this time (now)')
    .option('--namespace <name>', 'only this namespace')
    .option('--inner', 'inner accesses too (statements, calls), where the insight does not decide that itself')
    .option('--limit <n>', 'rows of a table at most (20)', toCount)
    .addOption(new Option('--by <measure>', 'slowest, statements: what makes slow').choices(['mean', 'sum', 'max']))
    .option('--min <n>', 'slowest, statements: only those of so many accesses (5)', toCount)
    .option('--known-from <time>', 'permissions, targets: what was used from then on is known (90 days before --from)')
    .option('--sensitive <query>', 'which accesses are sensitive; without it the rules’ definition `sensitive`')
    .option('--json', 'the JSON document')
    .addHelpText(
      'after',
      `
Insights:
${names.map(([name, title]) => `  ${name.padEnd(width)}  ${title}`).join('\n')}

Examples:
  spantrail insights permissions --from -30d             what roles may be relieved of
  spantrail insights sensitive --sensitive 'audit.target.name: *patients*'
  spantrail insights slowest --by sum 'service.name: gateway'
  spantrail insights checks --from -1h --limit 60        the last hour, minute by minute

docs/insights.md says what each number means.`,
    )
    .action(async (name: string | undefined, words: string[], options: InsightOptions) => {
      if (name === undefined) {
        if (options.json) return terminal.write(jsonLine(names.map(([one, title]) => ({ name: one, title }))));
        for (const [one, title] of names) terminal.write(`${one.padEnd(width)}  ${paint.dim(title)}\n`);
        return;
      }
      const { from, to, namespace, inner, limit, by, min, knownFrom, sensitive } = options;
      const insight = await connect(options, terminal).get<Insight>(`/api/v1/insights/${encodeURIComponent(name)}`, {
        ...{ q: words.join(' '), from, to, namespace, limit, by, min, sensitive, known_from: knownFrom },
        inner: inner ? 'true' : undefined,
      });
      if (options.json) return terminal.write(jsonLine(insight));
      terminal.write(`${paint.bold(insight.title)}\n${paint.dim(`${insight.from} to ${insight.to}`)}\n\n`);
      for (const finding of insight.findings) terminal.write(`- ${printable(finding)}\n`);
      for (const table of insight.tables) terminal.write(`\n${tableText(table, paint)}`);
    });
}

function toCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError('must be a whole number above 0');
  return count;
}
