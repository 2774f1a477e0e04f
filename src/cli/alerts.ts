import { type Command, InvalidArgumentError, Option } from 'commander';
import type { AlertGroupsAnswer, AlertsAnswer } from '../api/alert-contract.ts';
import type { Alert, AlertState, Severity } from '../core/alert.ts';
import { AppError } from '../core/errors.ts';
import type { Client } from './client.ts';
import { asking, type Connection, connect } from './connection.ts';
import { createPaint, jsonLine, type Paint, printable, SHORT_ID_LENGTH } from './format.ts';
import type { Terminal } from './main.ts';

interface ListOptions extends Connection {
  readonly state?: string;
  readonly severity?: string;
  readonly rule?: string;
  readonly namespace?: string;
  readonly group?: string;
  readonly groups?: boolean;
  readonly record?: string;
  readonly from?: string;
  readonly to?: string;
  readonly limit: number;
}

/** Alerts that are looked through for one whose id begins as given. */
const PAGE_ALERTS = 1000;
/** Fewer digits of an id would fit by chance. */
const PREFIX_LENGTH_MIN = 6;

/** `spantrail alerts [list|show|ack|close|open]`. */
export function addAlertCommands(program: Command, terminal: Terminal): void {
  const paint = createPaint(terminal.colours);
  const alerts = program
    .command('alerts')
    .description('What rules found, and what was done about it')
    .addHelpText(
      'after',
      `
Examples:
  spantrail alerts                                          what is open or acknowledged, the last raised first
  spantrail alerts list --state all --severity high,critical --from -7d
  spantrail alerts list --groups                            how often which rule found whom
  spantrail alerts show 3f2a9c01d4e5                        reason, evidence and history
  spantrail alerts ack 3f2a9c01d4e5 --note 'looking at it'
  spantrail alerts close 3f2a9c01d4e5 --note 'her own typo, asked her'`,
    );
  addList(alerts, terminal, paint);

  asking(alerts.command('show'))
    .description('One alert: reason, evidence and history')
    .argument('<id>', 'its id, or the beginning of it')
    .option('--json', 'the JSON document')
    .action(async (id: string, options: Connection) => {
      const alert = await findAlert(connect(options, terminal), id);
      terminal.write(options.json ? jsonLine(alert) : alertText(alert, paint));
    });

  const changes: readonly (readonly [string, AlertState, string])[] = [
    ['ack', 'acknowledged', 'Say that somebody looks at it'],
    ['close', 'closed', 'Say that it is dealt with'],
    ['open', 'open', 'Open it again'],
  ];
  for (const [name, state, description] of changes) {
    asking(alerts.command(name))
      .description(description)
      .argument('<id>', 'its id, or the beginning of it')
      .option('--note <text>', 'why; kept in the history')
      .option('--json', 'the JSON document')
      .action(async (text: string, options: Connection & { note?: string }) => {
        const client = connect(options, terminal);
        const { id } = await findAlert(client, text);
        const parameters = { state, note: options.note };
        const alert = await client.send<Alert>('POST', `/api/v1/alerts/${encodeURIComponent(id)}/state`, parameters);
        if (options.json) terminal.write(jsonLine(alert));
        else terminal.write(`${alertLine(alert, paint)}\n`);
      });
  }
}

function addList(alerts: Command, terminal: Terminal, paint: Paint): void {
  asking(alerts.command('list', { isDefault: true }))
    .description('Alerts, the last raised first')
    .addOption(
      new Option('--state <states>', 'open, acknowledged, closed (several with commas), or all').default(
        'open,acknowledged',
      ),
    )
    .option('--severity <severities>', 'low, medium, high, critical; several with commas')
    .option('--rule <id>', 'only of this rule')
    .option('--namespace <name>', 'only of this namespace')
    .option('--record <id>', 'only those that rest on this record')
    .option('--group <key>', 'only of this group, as --groups --json shows it')
    .option('--from <time>', 'with accesses since: RFC 3339, or back from now like -2h, -7d')
    .option('--to <time>', 'with accesses before')
    .option('--groups', 'alerts of one rule and group together, with how often')
    .option('--limit <n>', 'at most this many', toCount, 50)
    .option('--json', 'one JSON document a line')
    .action(async (options: ListOptions) => {
      const client = connect(options, terminal);
      const { groups, json, state, severity, rule, namespace, group, record, from, to, limit } = options;
      const parameters = {
        ...{ severity, rule, namespace, group, record, from, to, limit },
        state: state === 'all' ? undefined : state,
      };
      if (groups) {
        const answer = await client.get<AlertGroupsAnswer>('/api/v1/alerts/groups', parameters);
        for (const one of answer.groups) terminal.write(json ? jsonLine(one) : `${groupLine(one, paint)}\n`);
        if (!json) terminal.warn(`${answer.groups.length} groups`);
        return;
      }
      const answer = await client.get<AlertsAnswer>('/api/v1/alerts', parameters);
      for (const alert of answer.alerts) terminal.write(json ? jsonLine(alert) : `${alertLine(alert, paint)}\n`);
      if (json) return;
      if (answer.alerts.length === 0) terminal.warn(`no alert fits${state === 'all' ? '' : ` (of state ${state})`}`);
      if (answer.next !== undefined) terminal.warn(`more than ${limit} fit; --limit shows more`);
    });
}

function toCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > PAGE_ALERTS) {
    throw new InvalidArgumentError(`must be 1 to ${PAGE_ALERTS}`);
  }
  return count;
}

/** The alert with this id, or among the newest the one whose id alone begins like this. */
async function findAlert(client: Client, text: string): Promise<Alert> {
  const id = text.trim();
  const exact = await client.get<Alert>(`/api/v1/alerts/${encodeURIComponent(id)}`).catch((error: unknown) => {
    if (error instanceof AppError && error.code === 'not_found') return undefined;
    throw error;
  });
  if (exact) return exact;
  if (id.length < PREFIX_LENGTH_MIN) {
    throw new AppError('usage', `"${id}" is too short; give at least ${PREFIX_LENGTH_MIN} letters of the alert's id`);
  }
  const { alerts } = await client.get<AlertsAnswer>('/api/v1/alerts', { limit: PAGE_ALERTS });
  const [found, other] = alerts.filter((alert) => alert.id.startsWith(id));
  if (!found) throw new AppError('not_found', `no alert with an id that starts with ${id} among the newest`);
  if (other) throw new AppError('usage', `several alerts have an id that starts with ${id}; give more of it`);
  return found;
}

function severityText(severity: Severity, paint: Paint): string {
  const text = severity.padEnd(8);
  if (severity === 'low') return paint.dim(text);
  return severity === 'medium' ? paint.yellow(text) : paint.red(text);
}

function alertLine(alert: Alert, paint: Paint): string {
  const when = alert.lastAt.slice(0, 19).replace('T', ' ');
  const state = alert.state === 'open' ? paint.bold('open        ') : paint.dim(alert.state.padEnd(12));
  const id = alert.id.slice(0, SHORT_ID_LENGTH);
  return `${paint.dim(when)}  ${severityText(alert.rule.severity, paint)}  ${state}  ${printable(alert.reason)}  ${paint.dim(printable(id))}`;
}

function groupLine({ alerts, open, count, newest }: AlertGroupsAnswer['groups'][number], paint: Paint): string {
  const often = `${alerts} ${alerts === 1 ? 'alert' : 'alerts'} (${open} open), ${count} ${count === 1 ? 'access' : 'accesses'}`;
  const last = newest.lastAt.slice(0, 19).replace('T', ' ');
  const of = groupText(newest);
  return `${severityText(newest.rule.severity, paint)}  ${printable(newest.rule.name)}${of === '' ? '' : `  ${printable(of)}`}  ${paint.bold(often)}  ${paint.dim(`last ${last}`)}`;
}

function groupText({ group }: Alert): string {
  return Object.entries(group)
    .map(([field, value]) => `${field}: ${value}`)
    .join(', ');
}

function alertText(alert: Alert, paint: Paint): string {
  const { rule } = alert;
  const crossed = alert.value === undefined ? undefined : `${alert.value} (threshold ${alert.threshold ?? 'none'})`;
  const rows: (readonly [string, string | undefined])[] = [
    ['rule', `${rule.name} (${rule.id}, ${rule.type})`],
    ['state', alert.state],
    ['of', groupText(alert)],
    ['namespace', alert.namespace],
    ['accesses', `${alert.count}${alert.atLeast ? ' or more' : ''}, ${alert.firstAt} to ${alert.lastAt}`],
    ['crossed', crossed],
    ['suppressed', alert.suppressed === undefined ? undefined : `${alert.suppressed} further times`],
    ['raised', alert.raisedAt],
    ['tags', rule.tags?.join(', ')],
    ['references', rule.references?.join(', ')],
    ['records', alert.records.join(' ')],
    ['traces', alert.traces.join(' ')],
    ['alert', alert.id],
    ...alert.history.map(
      ({ at, by, state, note }) =>
        ['history', `${at} ${state} by ${by}${note === undefined ? '' : `: ${note}`}`] as const,
    ),
  ];
  const lines = rows
    .filter((row): row is readonly [string, string] => row[1] !== undefined && row[1] !== '')
    .map(([name, text]) => `${paint.dim(name.padStart(12))}  ${printable(text)}`);
  return [alertLine(alert, paint), '', ...lines, ''].join('\n');
}
